"""What the catalogue says of a method and this machine of its needs, as facts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.words import figures
from tui.words.fact import Fact

if TYPE_CHECKING:
    from methods.catalogue.availability import Choice


def method_facts(choice: Choice) -> list[Fact]:
    """The rows of its page, the name as its heading."""
    method, needs = choice.method, choice.method.needs
    facts = [Fact("", method.name), Fact("what", method.summary)]
    if choice.unavailable is not None:
        facts.append(Fact("unavailable", choice.unavailable.reason, "warning"))
        if choice.unavailable.remedy:
            facts.append(Fact("fix", choice.unavailable.remedy, "accent"))
    if method.reference:
        facts += [Fact("reference", method.reference), Fact("difference", method.differs)]
    if method.good_for:
        facts.append(Fact("good for", method.good_for))
    asks = [
        f"a device: {' or '.join(needs.devices)}",
        f"NVIDIA driver {needs.min_driver}" if needs.min_driver else "",
        f"compute capability {needs.min_compute_capability}" if needs.min_compute_capability else "",
        "a compiler (C++ on a CPU, C on a GPU) and Python's headers" if needs.compiler else "",
        f"{figures.size(needs.free_bytes)} free memory" if needs.free_bytes else "",
    ]
    facts.append(Fact("needs", ", ".join(ask for ask in asks if ask)))
    facts.append(Fact("environments", ", ".join(f"{kind}: {name}" for kind, name in method.environments.items())))
    facts.append(
        Fact("must show", "; ".join(f"{name} {_told(value)}" for name, value in method.must_show.items()) or "nothing")
    )
    facts += [Fact("engine", method.engine), Fact("group", method.group)]
    if method.presets:
        facts.append(Fact("presets", ", ".join(method.presets)))
    if method.origin:
        facts.append(Fact("origin", method.origin))
    return facts


def _told(value: object) -> str:
    """A condition's value; alternatives are joined by "or"."""
    return " or ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
