"""What a server that runs already gives whoever asks it: the figures of a session that measured it alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from methods.models.served import is_served
from sessions.disk.frame_schema import FrameError, read_frame
from sessions.disk.session_folder import SessionError
from sessions.frames.counting import counted_requests, last_attempts, with_attempt

if TYPE_CHECKING:
    import polars as pl

    from sessions.disk.plan import Plan
    from sessions.disk.session_folder import SessionFolder

TOKENS_A_WORD: Final = 8  # where it takes more, no spaces stand between the words


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFigures:
    """`server`, `version`, `form` of the weights and `parameters` are what it says of itself, None where it does not.

    Rates and times are over `answers`, those that count, each of `tokens` at most: mean of tokens/s and median of
    time to first token, with the least and the most of each; `words_s` words a second, None where its text is none of
    words. `cut` answers, of which the last had `cut_words` after `cut_s`, do not count. `kept_tokens` of the prompt it
    had from the answer before, None where it does not say; `unknown_times` is why it is not known when each token came,
    "" where it is.
    """

    url: str
    model: str
    server: str | None
    version: str | None
    form: str | None
    parameters: str | None
    tokens: int
    answers: int
    tok_s: tuple[float, float, float] | None
    ttft_s: tuple[float, float, float] | None
    words_s: float | None
    cut: int
    cut_words: int
    cut_s: float | None
    at_most_s: float | None
    kept_tokens: int | None
    unknown_times: str


def is_of_a_server(plan: Plan) -> bool:
    """Whether one server that runs already is all that is measured, one response after another."""
    return is_served(plan.model) and len(plan.methods) == 1 and not plan.has_load


def server_figures(folder: SessionFolder) -> ServerFigures | None:
    """None where the session is another or cannot be read, or the server has failed."""
    try:
        plan = folder.plan()
        if not is_of_a_server(plan):
            return None
        runs = read_frame(folder.frame("runs"), "runs")
        requests = read_frame(folder.frame("requests"), "requests")
    except (SessionError, FrameError):
        return None
    last = last_attempts(runs)
    loaded = [row for row in last.iter_rows(named=True) if row["resolved"]]
    if not loaded:
        return None
    options = plan.methods[0].options
    said = _mapping(json.loads(loaded[-1]["resolved"]), "server")
    missing = json.loads(loaded[-1]["missing"] or "{}")
    counted = counted_requests(runs, requests)
    cut = _cut(last, requests)
    if counted.is_empty() and not cut:
        return None
    return ServerFigures(
        url=str(options.get("url")),
        model=str(options.get("model")),
        server=_text(said.get("name")) or _text(said.get("owned_by")),
        version=_text(said.get("version")),
        form=_text(said.get("form")),
        parameters=_text(said.get("parameters")),
        tokens=plan.sampling.max_new_tokens,
        answers=len(counted),
        tok_s=_spread(counted["e2e_tok_s"], middle="mean"),
        ttft_s=_spread(counted["ttft_s"], middle="median"),
        words_s=_words_s(counted),
        cut=len(cut),
        cut_words=len((cut[-1]["text"] or "").split()) if cut else 0,
        cut_s=_seconds(cut[-1]) if cut else None,
        at_most_s=plan.at_most if plan.goal.is_cut else None,
        kept_tokens=_kept(counted),
        unknown_times=str(missing.get("itl_s_p50") or "") if counted["itl_s_p50"].null_count() == len(counted) else "",
    )


def _spread(values: pl.Series, middle: str) -> tuple[float, float, float] | None:
    """Mean or median, least and most of what is known."""
    known = sorted(values.drop_nulls().to_list())
    if not known:
        return None
    half = len(known) // 2
    median = known[half] if len(known) % 2 else (known[half - 1] + known[half]) / 2
    return (sum(known) / len(known) if middle == "mean" else median), known[0], known[-1]


def _words_s(counted: pl.DataFrame) -> float | None:
    """Words between spaces, of all answers whose text is known, by the time that these took."""
    rows = [row for row in counted.iter_rows(named=True) if row["text"] and row["e2e_s"]]
    words = sum(len(row["text"].split()) for row in rows)
    if not words or sum(row["output_tokens"] for row in rows) > TOKENS_A_WORD * words:
        return None
    return words / math.fsum(row["e2e_s"] for row in rows)


def _cut(last: pl.DataFrame, requests: pl.DataFrame) -> list[dict[str, Any]]:
    """The answers that the time cut, of the last attempts, in their order; warm-ups are answers too."""
    attempts = set(last.select("block", "attempt").iter_rows())
    return [
        row
        for row in with_attempt(requests).sort("start_ns").iter_rows(named=True)
        if row["finish_reason"] == "stopped" and (row["block"], row["attempt"]) in attempts
    ]


def _seconds(row: Mapping[str, Any]) -> float | None:
    return None if row["returned_ns"] is None else float(row["returned_ns"] - row["start_ns"]) * 1e-9


def _kept(counted: pl.DataFrame) -> int | None:
    kept = counted["cached_prompt_tokens"]
    return None if not len(kept) or kept.has_nulls() else max(kept.to_list())


def _mapping(told: object, name: str) -> Mapping[str, Any]:
    found = told.get(name) if isinstance(told, dict) else None
    return found if isinstance(found, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
