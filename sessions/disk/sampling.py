"""How the next token is chosen: a run's options, and part of the runner's job (annotations: see option_table)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sessions.disk.option_table import Option, Value, check, option

MOST_TOKENS: Final = 10_000_000


def _new_tokens(shown: str, run: Mapping[str, Value]) -> str:
    return f"{shown} per request, {'at most, stopping at EOS' if run.get('stop_at_eos') else 'always: EOS is ignored'}"


def _temperature(shown: str, run: Mapping[str, Value]) -> str:
    return f"temperature {shown}" if run.get("temperature") else "greedy"


def _top_p(shown: str, run: Mapping[str, Value]) -> str:
    return f"top-p {shown}" if run.get("temperature") != 0 else ""


def _top_k(shown: str, run: Mapping[str, Value]) -> str:
    return f"top-k {shown}" if run.get("top_k") and run.get("temperature") != 0 else ""


def _penalty(shown: str, run: Mapping[str, Value]) -> str:
    return f"repetition penalty {shown}" if run.get("repetition_penalty") != 1 else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the next token is chosen; temperature 0 is greedy. `stop_at_eos` false means a fixed length."""

    max_new_tokens: int = field(
        default=64,
        metadata=option(
            Option(
                metavar="N",
                help="length of a response",
                least=1,
                most=MOST_TOKENS,
                label="max new tokens",
                heading="new tokens",
                say=_new_tokens,
            )
        ),
    )
    stop_at_eos: bool = field(
        default=False,
        metadata=option(
            Option(
                negative="--no-stop-at-eos",
                help="stop at EOS instead of a fixed length",
                label="length",
                words=("fixed", "stop at EOS"),
                heading="",  # said with the new tokens
            )
        ),
    )
    temperature: float = field(
        default=0.0,
        metadata=option(
            Option(
                metavar="T",
                help="0 is greedy",
                least=0,
                most=100,
                label="temperature",
                zero="0 (greedy)",
                heading="sampling",
                say=_temperature,
            )
        ),
    )
    top_p: float = field(
        default=1.0,
        metadata=option(
            Option(
                metavar="P",
                help="sample from the likeliest tokens that hold this probability (1: all)",
                least=1e-6,
                most=1,
                label="top-p",
                heading="sampling",
                say=_top_p,
            )
        ),
    )
    top_k: int = field(
        default=0,
        metadata=option(
            Option(
                metavar="K",
                help="sample from the K likeliest tokens (0: all)",
                least=0,
                most=1_000_000,
                label="top-k",
                zero="off",
                heading="sampling",
                say=_top_k,
            )
        ),
    )
    repetition_penalty: float = field(
        default=1.0,
        metadata=option(
            Option(
                metavar="R",
                help="divide the logits of tokens that were there already by this (1: off)",
                least=0.01,
                most=100,
                label="repetition pen.",
                heading="sampling",
                say=_penalty,
            )
        ),
    )

    def __post_init__(self) -> None:
        check(self)
