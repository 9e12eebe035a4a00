"""Builders of the two long frames' columns, tokens and telemetry: arrays of numbers that records are appended to.

Ten million tokens take 160 MB this way, and a reading 32 bytes; as Python objects they would not fit in memory. A frame
that is taken shares these arrays, and what is appended after it goes into others.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from sessions.disk.frame_schema import TELEMETRY, TOKENS
from sessions.disk.records import ManyTokens, RequestTokens, Telemetry, Tokens
from sessions.frames.metrics import REQUEST_KEY

Numbers = np.ndarray[tuple[int], np.dtype[np.int64]]


class TokensBuilder:
    """Takes in tokens in the journal's order: what a record says of all its tokens is kept once."""

    def __init__(self) -> None:
        self._methods: dict[str, int] = {}
        self._begin()

    def _begin(self) -> None:
        self._spans = {name: array("q") for name in (*REQUEST_KEY, "first", "count")}
        self._times, self._ids = array("q"), array("q")
        self._unknown: list[int] = []  # places of ids that are not known

    @property
    def rows(self) -> int:
        """How many tokens were taken in since a frame was taken."""
        return len(self._times)

    def add(self, record: Tokens | ManyTokens, attempt: int) -> None:
        """Take in the tokens of one record, which belong to that attempt at their block."""
        place = (self._methods.setdefault(record.method, len(self._methods)), record.block, attempt)
        if isinstance(record, Tokens):
            self._add(place, record, record.sequence)
            return
        for each in record.tokens:
            self._add(place, each, 0)

    def _add(self, place: tuple[int, int, int], said: Tokens | RequestTokens, sequence: int) -> None:
        cells = (*place, said.request, sequence, said.index, len(said.ids))
        for numbers, cell in zip(self._spans.values(), cells, strict=True):
            numbers.append(cell)
        self._times.extend(said.times)
        try:
            self._ids.extend(said.ids)  # type: ignore[arg-type]
        except TypeError:
            del self._ids[len(self._times) - len(said.ids) :]
            begin = len(self._ids)
            self._unknown += [begin + place for place, each in enumerate(said.ids) if each is None]
            self._ids.extend(0 if each is None else each for each in said.ids)

    def take(self, session: str) -> pl.DataFrame:
        """These tokens' part of the frame, in the journal's order."""
        spans = {name: _numbers(span) for name, span in self._spans.items()}
        counts = spans["count"]
        before = np.cumsum(counts) - counts - spans["first"]
        total = len(self._times)
        columns: dict[str, Any] = {
            "session": pl.repeat(session, total, dtype=pl.String, eager=True),
            "method": _words(list(self._methods), np.repeat(spans["method"], counts)),
            "index": np.arange(total) - np.repeat(before, counts),
            "t_ns": _numbers(self._times),
            "token_id": pl.Series(_numbers(self._ids)).scatter(self._unknown, None)
            if self._unknown
            else _numbers(self._ids),
        }
        columns |= {name: np.repeat(spans[name], counts) for name in REQUEST_KEY if name != "method"}
        self._begin()
        return pl.DataFrame({name: columns.pop(name) for name in TOKENS}, schema=TOKENS)


class TelemetryBuilder:
    """Takes in ticks of the sampler in the journal's order."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str, str], int] = {}  # source, metric, unit
        self._statuses: dict[str, int] = {}
        self._begin()

    def _begin(self) -> None:
        self._series_of, self._status_of = array("i"), array("i")
        self._times, self._values, self._costs = array("q"), array("d"), array("d")
        self._stretches: dict[int, int] = {}  # how many readings each has

    @property
    def rows(self) -> int:
        """How many readings were taken in since a frame was taken."""
        return len(self._times)

    def add(self, record: Telemetry, stretch: int) -> None:
        """Take in the readings of one tick; stretches come one after another."""
        series, statuses = self._series, self._statuses
        self._stretches[stretch] = self._stretches.get(stretch, 0) + len(record.rows)
        for source, metric, unit, value, t_ns, call_us, status in record.rows:
            self._series_of.append(series.setdefault((source, metric, unit), len(series)))
            self._status_of.append(statuses.setdefault(status, len(statuses)))
            self._times.append(t_ns)
            self._values.append(np.nan if value is None else value)
            self._costs.append(call_us)

    def take(self, session: str) -> pl.DataFrame:
        """These readings' part of the frame, in the order in which they were sampled."""
        series = np.frombuffer(self._series_of, dtype=np.int32) if self._series_of else np.zeros(0, np.int32)
        status = np.frombuffer(self._status_of, dtype=np.int32) if self._status_of else np.zeros(0, np.int32)
        words = zip(*self._series, strict=True) if self._series else ((), (), ())
        source, metric, unit = (_words(list(each), series) for each in words)
        columns = {
            "session": pl.repeat(session, len(series), dtype=pl.String, eager=True),
            "t_ns": _numbers(self._times),
            "source": source,
            "metric": metric,
            "unit": unit,
            "value": pl.Series(_floats(self._values), dtype=pl.Float64).fill_nan(None),
            "call_us": _floats(self._costs),
            "status": _words(list(self._statuses), status),
            "stretch": np.repeat(list(self._stretches), list(self._stretches.values())).astype(np.int64),
        }
        self._begin()
        return pl.DataFrame(columns, schema=TELEMETRY)


def _numbers(values: array[int]) -> Numbers:
    return np.frombuffer(values, dtype=np.int64) if values else np.zeros(0, np.int64)


def _floats(values: array[float]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.frombuffer(values, dtype=np.float64) if values else np.zeros(0, np.float64)


def _words(words: Sequence[str], places: np.ndarray[tuple[int], Any]) -> pl.Series:
    """A column of the words at those places."""
    return pl.Series(words, dtype=pl.String).gather(places)
