"""Lines come whole and in bounded memory, however the bytes of a pipe are cut."""

from __future__ import annotations

import contextlib
import os
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.base.line_reader import READ_BYTES, PipeReader
from tests.fuzz.profile import fuzzed

LIMIT_BYTES = 4 << 20


def piped(data: bytes, sizes: list[int]) -> tuple[list[bytes], PipeReader]:
    """What a reader makes of bytes that come through a pipe in pieces."""
    reading, writing = os.pipe()
    reader = PipeReader(reading, LIMIT_BYTES)
    lines: list[bytes] = []
    place = turn = 0
    while place < len(data):
        size = sizes[turn % len(sizes)]
        os.write(writing, data[place : place + size])
        lines += reader.read()
        place, turn = place + size, turn + 1
    os.close(writing)
    while not reader.ended:
        lines += reader.read()
    os.close(reading)
    return lines, reader


@given(st.lists(st.binary(max_size=30), max_size=20), st.lists(st.integers(1, 50), min_size=1, max_size=10))
@settings(max_examples=100, deadline=None)
def test_lines_come_whole_however_they_are_cut(parts: list[bytes], sizes: list[int]) -> None:
    data = b"\n".join(parts)
    lines, reader = piped(data, sizes)
    assert lines == data.split(b"\n")[:-1]
    assert reader.oversized == 0


def test_a_line_without_end_is_thrown_away_and_the_next_one_is_read() -> None:
    long = b"x" * (3 * LIMIT_BYTES)
    lines, reader = piped(b"before\n" + long + b"\nafter\n", [60_000])
    assert lines == [b"before", b"after"]
    assert reader.oversized == 1


@pytest.mark.parametrize("piece", [7, 1_000, 100_000])
def test_whether_a_line_is_too_long_does_not_depend_on_how_it_comes(piece: int) -> None:
    reading, writing = os.pipe()
    reader = PipeReader(reading, limit_bytes=1_000)
    data = b"x" * 1_000 + b"\n" + b"y" * 1_001 + b"\nafter\n"
    lines = []
    for place in range(0, len(data), piece):
        os.write(writing, data[place : place + piece])
        lines += reader.read()
    os.close(writing)
    os.close(reading)
    assert lines == [b"x" * 1_000, b"after"]
    assert reader.oversized == 1


def test_an_empty_pipe_gives_no_lines_and_is_not_at_its_end() -> None:
    reading, writing = os.pipe()
    reader = PipeReader(reading, LIMIT_BYTES)
    assert (reader.read(), reader.ended) == ([], False)
    os.write(writing, b"half a li")
    assert reader.read() == []
    os.write(writing, b"ne\n")
    assert reader.read() == [b"half a line"]
    os.close(writing)
    assert (reader.read(), reader.ended) == ([], True)
    os.close(reading)


@given(st.lists(st.integers(1, 3 * READ_BYTES), min_size=1, max_size=12), st.integers(10, 2_000))
@fuzzed(0.2)
def test_a_line_without_end_takes_no_more_memory_than_the_longest_allowed(sizes: list[int], limit: int) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    reader = PipeReader(reading, limit_bytes=limit)
    try:
        tracemalloc.start()
        for size in sizes:
            left = size
            while left > 0:
                with contextlib.suppress(BlockingIOError):
                    left -= os.write(writing, b"x" * min(left, 65_536))
                assert reader.read() == []
            assert tracemalloc.get_traced_memory()[0] < limit + 200_000
        assert tracemalloc.get_traced_memory()[1] < limit + 4 * READ_BYTES
    finally:
        tracemalloc.stop()
        os.close(reading)
        os.close(writing)
