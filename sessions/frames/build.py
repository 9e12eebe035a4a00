"""Builds the frames from the journal.

Done by the conductor at the end, or by whoever opens an interrupted session next; doing it again gives the same frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import polars as pl

from sessions.disk.frame_schema import SCHEMAS
from sessions.disk.plan import Plan
from sessions.disk.records import AnyRecord, Prepared
from sessions.frames.derived import Context, complete
from sessions.frames.journal_frames import JournalFrames
from sessions.frames.long_frame import LongFrame


def write_frames(folder: Path, session: str, plan: Plan, records: Iterable[AnyRecord]) -> dict[str, pl.DataFrame]:
    """Build the frames of a journal and write each atomically; returns those that are in memory, as written."""
    files = {name: LongFrame(name, folder) for name in SCHEMAS}
    try:
        frames = JournalFrames(session, plan, files["tokens"], files["telemetry"])
        for record in records:
            frames.feed(record)
        tokens, telemetry = frames.tokens(), frames.telemetry()
        built = {
            "requests": frames.requests(tokens, _decoder(frames.prepared)),
            "runs": frames.runs(telemetry),
            "fidelity": frames.fidelity(),
        }
        built = complete(built, Context(plan, frames.prepared_of, frames.machine), (tokens, telemetry))
        for name, frame in built.items():
            files[name].end(frame)
        for file in files.values():
            file.keep()
    finally:
        for file in files.values():
            file.drop()
    return {name: file.whole for name, file in files.items() if file.whole is not None}


def _decoder(prepared: Prepared | None) -> Callable[[Sequence[int]], str] | None:
    from methods.text.tokeniser import Tokeniser, TokeniserError

    if prepared is None:
        return None
    try:
        decode: Callable[[Sequence[int]], str] = Tokeniser(prepared.model.folder).decode
    except TokeniserError:
        return None
    return decode
