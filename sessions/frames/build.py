"""Builds the frames from the journal.

Done by the conductor at the end, or by whoever opens an interrupted session next; doing it again gives the same frames.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import polars as pl

from methods.base.home import fsync_folder
from sessions.disk.frame_schema import SCHEMA_KEY, SCHEMAS
from sessions.disk.plan import Plan
from sessions.disk.records import SCHEMA_VERSION, AnyRecord, Prepared
from sessions.frames.derived import Context, complete
from sessions.frames.journal_frames import JournalFrames


def write_frames(folder: Path, session: str, plan: Plan, records: Iterable[AnyRecord]) -> dict[str, pl.DataFrame]:
    """Build the frames of a journal and write each atomically; returns the frames as written."""
    frames = JournalFrames(session, plan)
    for record in records:
        frames.feed(record)
    tokens, telemetry = frames.tokens(), frames.telemetry()
    built = {
        "tokens": tokens,
        "telemetry": telemetry,
        "requests": frames.requests(tokens, _decoder(frames.prepared)),
        "runs": frames.runs(telemetry),
        "fidelity": frames.fidelity(),
    }
    built = complete(built, Context(plan, frames.prepared_of, frames.machine))
    for name in SCHEMAS:
        _write_parquet(built[name], folder / f"{name}.parquet")
    return built


def _decoder(prepared: Prepared | None) -> Callable[[Sequence[int]], str] | None:
    from methods.text.tokeniser import Tokeniser, TokeniserError

    if prepared is None:
        return None
    try:
        decode: Callable[[Sequence[int]], str] = Tokeniser(prepared.model.folder).decode
    except TokeniserError:
        return None
    return decode


def _write_parquet(frame: pl.DataFrame, path: Path) -> None:
    temporary = path.with_suffix(".parquet.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            frame.write_parquet(file, metadata={SCHEMA_KEY: str(SCHEMA_VERSION)})
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:  # on a full disk its blocks are what session.json needs
        temporary.unlink(missing_ok=True)
    fsync_folder(path.parent)
