"""`--server`: a server that runs already, as a method of the plan; it is asked for its models first."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from methods.base.server_address import AddressError, is_plain, server_address
from methods.catalogue.method import KEY_FROM, SERVER
from methods.catalogue.toml_keys import nearest
from methods.jobs.runner_job import JobError
from methods.jobs.servers import OWN, USUAL, Served, ask, usual_servers
from methods.models.served import SERVED
from sessions.disk.option_table import Value, changed
from sessions.disk.options import AUTO, RunOptions
from sessions.disk.plan import PlannedMethod
from sessions.planning.degrees import WAYS
from sessions.planning.points import is_asked
from sessions.planning.wanted import PlanError

VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SHOWN_MODELS: Final = 8
ALONE: Final[Mapping[str, int]] = {"requests": 6, "blocks": 3, "warmup": 1}
AMOUNT: Final = frozenset(("requests", "blocks"))
WITHIN_S: Final = 40.0  # of measuring, where no amount is said: with the session's beginning and end, a minute
# What needs the IDs or the weights of a model that Kasoku has.
OF_A_MODEL: Final = ("fidelity", "fidelity_text", "reference_model", "prompt_tokens", "isl", "depth")
OF_FRESH: Final = ("until", "aa")


@dataclass(frozen=True, slots=True)
class ServerPlan:
    """The options with the server's address and model in them, its method, and what there is to say of it."""

    options: RunOptions
    method: PlannedMethod
    remarks: tuple[str, ...]


def planned_server(
    options: RunOptions, said: Mapping[str, Value], others: Sequence[str], taken: Collection[str], home: Path
) -> ServerPlan | None:
    """The server of a run, None where it has none. `others` are the methods named beside it, `taken` all names of
    methods. Raises PlanError.
    """
    _check(options, said, taken)
    if options.server is None:
        return None
    alone = is_alone(options, said, others)
    if alone:
        _check_alone(options, said)
    found = _found(options, home)
    model = _model(options, found)
    remarks = []
    if is_plain(found.url):
        what = "prompt, text and key" if options.server_key else "prompt and text"
        remarks.append(f"{found.url} is plain http: {what} can be read on their way to it.")
    options = dataclasses.replace(options, server=found.url, server_model=model)
    if alone:
        amount = {name: value for name, value in ALONE.items() if name not in said}
        if "requests" in said and "blocks" not in said:
            amount["blocks"] = min(ALONE["blocks"], options.requests)
        options = changed(options, {"model": SERVED + model, "fidelity": False, **amount})
        limited = AMOUNT.isdisjoint(said) and not is_asked(options.loads)
        at_most = options.at_most if "at_most" in said else WITHIN_S if limited else None
        options = dataclasses.replace(options, until=None, at_most=at_most)
    return ServerPlan(options, _method(options, found.models[model]), tuple(remarks))


def is_alone(options: RunOptions, said: Mapping[str, Value], others: Sequence[str]) -> bool:
    """Whether a server that runs already is measured with its own model and beside nothing."""
    return options.server is not None and not others and "model" not in said


def _method(options: RunOptions, owner: str) -> PlannedMethod:
    own: dict[str, object] = {"url": options.server, "model": options.server_model}
    if options.server_key is not None:
        own[KEY_FROM] = options.server_key
    return PlannedMethod(
        name=SERVER,
        summary=f"A server that runs already, {owner or 'of unknown kind'}, at {options.server}.",
        engine=SERVER,
        options=own,
        environment=OWN,
        group="servers",
    )


def _check(options: RunOptions, said: Mapping[str, Value], taken: Collection[str]) -> None:
    """Raises PlanError for what cannot be together, or is none, before anybody is asked."""
    if options.server is None:
        for name in ("server_model", "server_key"):
            if name in said:
                raise PlanError(f"--{name.replace('_', '-')} goes with --server: say where the server is.")
        return
    if SERVER in taken:
        raise PlanError("--server makes a method named 'server', and you have one of that name: rename yours.")
    key = options.server_key
    if key is not None and not VARIABLE.fullmatch(key):
        raise PlanError("--server-key takes the name of the environment variable that holds the key, not the key.")
    if key is not None and not os.environ.get(key):
        raise PlanError(f"--server-key {key}: there is no such environment variable, or it is empty.")
    if key is not None and options.server == AUTO:
        raise PlanError("--server auto asks without a key: give the server's address with --server-key.")
    if options.aa:
        raise PlanError("--aa and --server exclude each other: a server that runs already has no second process.")


def _check_alone(options: RunOptions, said: Mapping[str, Value]) -> None:
    if "at_most" in said and is_asked(options.loads):
        raise PlanError("--at-most would end a load before it is steady: say how many with --requests instead.")
    for name in WAYS:
        if name in said:
            flag = f"--{name.replace('_', '-')}"
            raise PlanError(f"{flag} splits what Kasoku starts, and a server that runs already is as it is.")
    for name in OF_A_MODEL:
        if name in said and said[name] is not False:
            raise PlanError(
                f"--{name.replace('_', '-')} needs the model itself: name it with --model, or leave the option out."
            )
    for name in OF_FRESH:
        if name in said and said[name] is not False:
            raise PlanError(
                f"--{name.replace('_', '-')} goes by intervals, and a server that runs already has none: one process"
                " says nothing of another. Use --requests, or --at-most."
            )


def _found(options: RunOptions, home: Path) -> Served:
    """The server, with the models that it lists."""
    try:
        if options.server == AUTO:
            return _only(usual_servers(home))
        url = server_address(str(options.server))
        (found,) = ask([url], home, options.server_key)
    except (AddressError, JobError) as error:
        raise PlanError(f"--server: {error}" if isinstance(error, AddressError) else str(error)) from None
    if found.wants_key and options.server_key is None:
        raise PlanError(
            f"The server at {url} wants an API key: put it into an environment variable, and name that with"
            " --server-key."
        )
    if found.error:
        raise PlanError(found.error)
    if not found.models:
        raise PlanError(f"The server at {url} lists no models: have it load one.")
    return found


def _only(found: Sequence[Served]) -> Served:
    usable = [each for each in found if each.models]
    if not usable:
        locked = (
            f" The one at {found[0].url} wants an API key: use --server {found[0].url} --server-key." if found else ""
        )
        ports = ", ".join(map(str, USUAL))
        raise PlanError(f"No server was found on this machine's usual ports ({ports}): give its address.{locked}")
    if len(usable) > 1:
        raise PlanError(f"Several servers run here ({', '.join(each.url for each in usable)}): name one of them.")
    return usable[0]


def _model(options: RunOptions, found: Served) -> str:
    wanted, names = options.server_model, list(found.models)
    if wanted is None and len(names) == 1:
        return names[0]
    shown = ", ".join(names[:SHOWN_MODELS]) + (f" and {len(names) - SHOWN_MODELS} more" * (len(names) > SHOWN_MODELS))
    if wanted is None:
        raise PlanError(f"The server at {found.url} has several models: choose with --server-model from {shown}.")
    if wanted not in found.models:
        close = nearest(wanted, names)
        hint = f"did you mean {close[0]}?" if close else f"it has {shown}."
        raise PlanError(f"The server at {found.url} has no model {wanted!r}: {hint}")
    return wanted
