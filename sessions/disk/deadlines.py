"""How long a runner may say nothing: options of a run (annotations: see option_table)."""

from dataclasses import dataclass, field
from typing import Final

from sessions.disk.option_table import Option, check, option

LONGEST_DEADLINE_S: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """Seconds without a message from the runner after which a block is ended as `stalled`."""

    load_s: float = field(
        default=900.0,
        metadata=option(
            Option(
                name="load_deadline_s",
                flag="--load-deadline",
                metavar="S",
                help="seconds without a message while loading or warming up",
                least=0.1,
                most=LONGEST_DEADLINE_S,
                unit="s",
                label="load deadline",
                say=lambda shown, _: f"{shown} without a message while loading or warming up",
            )
        ),
    )
    token_s: float = field(
        default=120.0,
        metadata=option(
            Option(
                name="token_deadline_s",
                flag="--token-deadline",
                metavar="S",
                help="seconds without a token in a timed request",
                least=0.1,
                most=LONGEST_DEADLINE_S,
                unit="s",
                label="token deadline",
                say=lambda shown, _: f"{shown} without a token in a timed request",
            )
        ),
    )

    def __post_init__(self) -> None:
        check(self)
