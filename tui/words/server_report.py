"""What a server that runs already can do, in plain words and on one screen."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from tui.words.figures import duration, rate

if TYPE_CHECKING:
    from sessions.disk.plan import Plan
    from sessions.verdict.server_figures import ServerFigures

READING: Final = 238 / 60  # words a second: silent reading of English, Brysbaert (2019)

Line = tuple[str, str]
"""A label and its text."""


def title(said: ServerFigures) -> str:
    """Which model is served, by what, and where."""
    form = ", ".join(filter(None, (said.parameters, said.form)))
    server = " ".join(filter(None, (said.server, said.version))) or "a server that does not say what it is"
    return f"{said.model}{f' ({form})' if form else ''}, served by {server} at {said.url}"


def figures(said: ServerFigures) -> Iterator[Line]:
    """How fast it is, for the one who asks and for the one who reads."""
    if said.tok_s is None:
        yield "Speed", f"not known: {_none_whole(said)}"
        return
    mean, least, most = said.tok_s
    count = f"{said.answers} answers" if said.answers != 1 else "the one answer that was complete"
    between = f", from {rate(least)} to {rate(most)} in {count}" if said.answers > 1 else f", in {count}"
    yield "Speed", f"{rate(mean)} tokens/s{between} of up to {said.tokens} tokens"
    if said.answers == 1:
        yield "", "how much that varies is not known from one answer"
    if said.ttft_s is not None:
        middle, soonest, latest = said.ttft_s
        spread = f", from {duration(soonest)} to {duration(latest)}" if said.answers > 1 else ""
        yield "First words", f"after {duration(middle)}{spread}"
    if said.words_s is not None:
        yield (
            "For a reader",
            f"{said.words_s:.{0 if said.words_s >= 10 else 1}f} words a second: {_reading(said.words_s)}",
        )
    else:
        yield "For a reader", "not known: its text has no words with spaces between them"
    if said.cut:
        yield "Cut", f"one more answer when the {_allowed(said)} were over; it does not count"


def unknown(said: ServerFigures) -> Iterator[Line]:
    """What cannot be known, and why."""
    if said.form is None:
        yield "the precision of its weights", "the server does not say it"
    if said.server is not None and said.version is None:
        yield "its version", "the server does not say it"
    if said.kept_tokens is None:
        yield "how fast it reads a new prompt", "it was sent the same each time, and may have kept what it had read"
    elif said.kept_tokens:
        yield (
            "how fast it reads a new prompt",
            f"it had kept {said.kept_tokens} tokens of this one from the answer before",
        )
    if said.unknown_times:
        yield "the time between two tokens", said.unknown_times
    yield "its memory, and whether a GPU does the work", "Kasoku did not start it"
    yield "how it does when it is started again", "all answers are of the one process that runs"


def next_steps(said: ServerFigures, plan: Plan) -> Iterator[Line]:
    """Commands, and what for."""
    command = ["kasoku", "run", "--server", said.url, "--server-model", said.model]
    if plan.server_key is not None:
        command += ["--server-key", plan.server_key]
    if said.tok_s is None:
        yield _line(command, "--max-new-tokens", str(max(1, said.tokens // 8))), "shorter answers"
        yield _line(command, "--at-most", "10m"), "more time"
        return
    yield _line(command, "--concurrency", "1,2,4,8"), "when several people ask at once"
    yield _line(command, "--prompt", "@FILE"), "with a prompt of yours"
    yield _line(command, "--requests", "60"), "the same for longer: a narrower spread"


def _line(command: Sequence[str], *more: str) -> str:
    return shlex.join([*command, *more])


def _none_whole(said: ServerFigures) -> str:
    none = f"no answer of {said.tokens} tokens was complete in {_allowed(said)}"
    if not said.cut:
        return none
    after = f" after {duration(said.cut_s)}" if said.cut_s is not None else ""
    return f"{none}; the one under way had come to {said.cut_words} word{'s' * (said.cut_words != 1)}{after}"


def _allowed(said: ServerFigures) -> str:
    return f"{said.at_most_s:g} s" if said.at_most_s is not None else "time"


def _reading(words_s: float) -> str:
    times = words_s / READING
    people = f"most people read {READING:.0f}"
    if times >= 1.5:
        return (
            f"{people}, so it is {times:.0f} times as fast" if times >= 2.5 else f"{people}, so it is faster than that"
        )
    return f"{people}, so it keeps pace" if times >= 1 else f"{people}, so one waits for it"
