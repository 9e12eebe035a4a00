"""What load a run is measured under, as options: lists, of which each combination is a point (annotations: see
option_table)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sessions.disk.option_table import Option, OptionError, Value, check, option
from sessions.disk.sampling import MOST_TOKENS
from sessions.disk.slo import Slo

MOST_IN_FLIGHT: Final = 4096
MOST_RATE: Final = 100_000.0


def _burstiness(shown: str, run: Mapping[str, Value]) -> str:
    return f"burstiness {shown}" if run.get("rate") is not None else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loads:
    """The axes of a load, each a list as it is typed; None where it is not asked for."""

    batch: str | None = field(
        default=None,
        metadata=option(
            Option(
                metavar="B,…",
                help="measure so many sequences begun together, at each of these numbers",
                listed=int,
                least=1,
                most=MOST_IN_FLIGHT,
                label="batch",
                heading="load",
                say=lambda shown, _: f"batch {shown}",
            )
        ),
    )
    concurrency: str | None = field(
        default=None,
        metadata=option(
            Option(
                metavar="C,…",
                help="measure with so many requests always in flight, at each of these numbers",
                listed=int,
                least=1,
                most=MOST_IN_FLIGHT,
                label="in flight",
                heading="load",
                say=lambda shown, _: f"concurrency {shown}",
            )
        ),
    )
    rate: str | None = field(
        default=None,
        metadata=option(
            Option(
                metavar="R,…",
                help="measure with so many requests a second, whether earlier ones have ended or not",
                listed=float,
                least=0.001,
                most=MOST_RATE,
                label="requests/s",
                heading="load",
                say=lambda shown, _: f"rate {shown} requests/s",
            )
        ),
    )
    burstiness: str | None = field(
        default=None,
        metadata=option(
            Option(
                metavar="S,…",
                help="with --rate: shape of the gaps' gamma distribution (1: Poisson; less: bursts)",
                listed=float,
                least=0.01,
                most=1000,
                label="burstiness",
                heading="load",
                say=_burstiness,
            )
        ),
    )
    isl: str | None = field(
        default=None,
        metadata=option(
            Option(
                metavar="N,…",
                help="--prompt-tokens as a list; pairs up with --osl",
                listed=int,
                least=1,
                most=MOST_TOKENS,
                label="prompt lengths",
                heading="load",
                say=lambda shown, _: f"prompts of {shown} tokens",
            )
        ),
    )
    osl: str | None = field(
        default=None,
        metadata=option(
            Option(
                metavar="N,…",
                help="--max-new-tokens as a list; pairs up with --isl",
                listed=int,
                least=1,
                most=MOST_TOKENS,
                label="output lengths",
                heading="load",
                say=lambda shown, _: f"{shown} new tokens",
            )
        ),
    )
    depth: str | None = field(
        default=None,
        metadata=option(
            Option(
                metavar="N,…",
                help="measure with so many tokens in the cache before the prompt",
                listed=int,
                least=0,
                most=MOST_TOKENS,
                label="depth",
                heading="load",
                say=lambda shown, _: f"depth {shown}",
            )
        ),
    )

    slo: str | None = field(
        default=None,
        metadata=option(
            Option(
                metavar="BOUNDS",
                help="latencies that a request must keep to count for goodput: ttft:200ms,tpot:50ms,e2e:5s",
                label="goodput within",
                heading="load",
                say=lambda shown, _: f"goodput within {shown}",
            )
        ),
    )

    until_saturated: bool = field(
        default=False,
        metadata=option(
            Option(
                negative="--no-until-saturated",
                help="after three rounds, leave out points beyond two steps that gain no throughput (preset load)",
                negative_help="measure every point in every round",
                label="saturation",
                words=("measure every point", "stop beyond it"),
                heading="load",
                say=lambda shown, _: "until it is saturated" if shown == "stop beyond it" else "",
            )
        ),
    )

    def __post_init__(self) -> None:
        check(self)
        if self.slo is not None:
            try:
                Slo.of(self.slo)
            except ValueError as error:
                raise OptionError(f"--slo: {error}") from None
