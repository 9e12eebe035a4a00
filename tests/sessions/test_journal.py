"""The journal: what is written whole, what is read back of a damaged one, and in how much memory."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.base.interpreter import Unavailable
from methods.base.memory_bandwidth import MemoryBandwidth
from sessions.disk.journal import JournalError, JournalFullError, JournalTail, JournalWriter, read_journal
from sessions.disk.records import SCHEMA_VERSION, AnyRecord, BlockStarted, Header, Note, Phase, Prepared, Tokens
from tests.made_model import made_interpreter, made_model

HEADER = Header(t=1, schema_version=SCHEMA_VERSION, session="s", realtime_ns=5)
RECORDS: list[AnyRecord] = [
    HEADER,
    Phase(t=2, name="prompt", state="started"),
    BlockStarted(t=3, method="one", block=0, position=1, of=1),
    Tokens(t=4, method="one", block=0, request=0, index=0, times=[3, 4], ids=[7, 8]),
    Note(t=5, text="line\nbreaks, “quotes” and \x1b[31mcolours"),
]


def written(folder: Path, records: list[AnyRecord]) -> Path:
    writer = JournalWriter(folder)
    for record in records:
        writer.append(record)
    writer.close()
    return folder / "journal.ndjson"


def append_raw(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_what_was_appended_is_read_back_as_it_was(tmp_path: Path) -> None:
    path = written(tmp_path, RECORDS)
    assert list(read_journal(path)) == RECORDS
    assert path.read_bytes().count(b"\n") == len(RECORDS)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_torn_last_line_is_no_record_and_hides_none(tmp_path: Path) -> None:
    path = written(tmp_path, RECORDS)
    whole = path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for cut in range(last, len(whole)):
        path.write_bytes(whole[:cut])
        assert list(read_journal(path)) == RECORDS[:-1], cut


def test_a_journal_cut_anywhere_gives_its_whole_lines(tmp_path: Path) -> None:
    path = written(tmp_path, RECORDS)
    whole = path.read_bytes()
    for cut in range(0, len(whole) + 1, 3):
        path.write_bytes(whole[:cut])
        assert list(read_journal(path)) == RECORDS[: whole[:cut].count(b"\n")], cut


def test_a_writer_that_comes_later_cuts_the_torn_line_off(tmp_path: Path) -> None:
    path = written(tmp_path, RECORDS)
    append_raw(path, b'{"k":"note","t":6,"text":"never fin')
    written(tmp_path, [Note(t=9, text="after")])
    assert list(read_journal(path)) == [*RECORDS, Note(t=9, text="after")]
    assert path.read_bytes().endswith(b"\n")


def test_a_torn_line_longer_than_a_read_is_cut_off_too(tmp_path: Path) -> None:
    path = written(tmp_path, RECORDS)
    append_raw(path, b"x" * 3_000_000)
    written(tmp_path, [Note(t=9, text="after")])
    assert list(read_journal(path)) == [*RECORDS, Note(t=9, text="after")]


def test_rubbish_between_the_lines_is_counted_and_passed_over(tmp_path: Path) -> None:
    path = written(tmp_path, RECORDS[:2])
    rubbish = [b"\xff\xfe\x00", b"{", b"[]", b"null", b'{"k":"weather","t":1}', b'{"k":"note"}', b"[" * 10_000]
    append_raw(path, b"\n".join(rubbish) + b"\n")
    written(tmp_path, RECORDS[2:])
    tail = JournalTail(path)
    assert tail.read() == RECORDS
    assert tail.rejected == len(rubbish)


@pytest.mark.parametrize(
    "line",
    [
        b'{"k":"tokens","t":4,"method":"m","block":0,"request":0,"index":0,"times":[9223372036854775808],"ids":[1]}',
        b'{"k":"tokens","t":4,"method":"m","block":0,"request":0,"index":0,"times":[1],"ids":[-99999999999999999999]}',
        b'{"k":"tokens","t":4,"method":"m","block":0,"request":0,"index":0,"times":[1,2],"ids":[1]}',
        b'{"k":"request","t":99999999999999999999999,"method":"m","block":0,"request":0}',
        b'{"k":"block","t":4,"method":"m","block":18446744073709551616,"position":1,"of":1}',
        b'{"k":"memory","t":4,"method":"m","block":0,"peak_rss_bytes":99999999999999999999}',
        b'{"k":"telemetry","t":4,"rows":[["host","cpu","%",1.0,99999999999999999999,1.0,"ok"]]}',
        b'{"k":"note","t":4,"text":"\\ud800"}',
    ],
)
def test_a_line_with_what_no_frame_can_hold_is_no_record(tmp_path: Path, line: bytes) -> None:
    path = written(tmp_path, [HEADER])
    append_raw(path, line + b"\n")
    tail = JournalTail(path)
    assert tail.read() == [HEADER]
    assert tail.rejected == 1


def test_a_journal_of_a_later_schema_is_refused_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "journal.ndjson"
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(HEADER, schema_version=SCHEMA_VERSION + 1)) + b"\n")
    with pytest.raises(JournalError, match=rf"newer Kasoku \(journal schema {SCHEMA_VERSION + 1}.*update Kasoku"):
        list(read_journal(path))


def test_a_journal_that_is_not_there_or_is_none_has_no_records(tmp_path: Path) -> None:
    assert list(read_journal(tmp_path / "journal.ndjson")) == []
    (tmp_path / "journal.ndjson").mkdir()
    with pytest.raises(JournalError, match="cannot be read"):
        list(read_journal(tmp_path / "journal.ndjson"))


MEASURE_READING = """
import resource, sys
from pathlib import Path
from sessions.disk.journal import read_journal
list(read_journal(Path(sys.argv[1])))  # every import and every first allocation is behind us
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = sum(1 for _ in read_journal(Path(sys.argv[2])))
print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_line_of_100_mb_costs_no_such_memory_and_hides_no_other(tmp_path: Path) -> None:
    small = written(tmp_path, RECORDS)
    folder = tmp_path / "large"
    folder.mkdir()
    large = written(folder, RECORDS)
    with large.open("ab") as file:
        for _ in range(100):
            file.write(b"x" * (1 << 20))
        file.write(b"\n")
    written(folder, RECORDS)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE_READING, str(small), str(large)], capture_output=True, text=True, check=True
    )
    count, grown_kb = map(int, done.stdout.split())
    assert count == 2 * len(RECORDS)
    assert grown_kb < 40_000


@given(st.lists(st.integers(1, 400), min_size=1, max_size=60), st.data())
@settings(max_examples=60, deadline=None)
def test_reading_in_pieces_of_any_size_gives_the_same_records(sizes: list[int], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder), RECORDS * 3)
        append_raw(path, data.draw(st.sampled_from([b"", b"rubbish\n", b"\n\n", b"\xff" * 50 + b"\n"])))
        append_raw(path, path.read_bytes())
        whole = JournalTail(path)
        expected = whole.read(1 << 30)
        tail, found = JournalTail(path), []
        turn = 0
        while tail.offset < path.stat().st_size:
            found += tail.read(sizes[turn % len(sizes)])
            turn += 1
        assert found == expected
        assert tail.rejected == whole.rejected


@given(st.binary(max_size=2_000))
@settings(max_examples=200, deadline=None)
def test_no_bytes_make_the_reader_raise_anything_but_its_own_error(noise: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder), RECORDS)
        append_raw(path, noise + b"\n")
        written(Path(folder), [Note(t=9, text="after")])
        found = list(read_journal(path))
        assert found[: len(RECORDS)] == RECORDS
        assert found[-1] == Note(t=9, text="after")


def append_until_full(writer: JournalWriter, taken: list[int]) -> None:
    for number in range(10_000):
        writer.append(Note(t=number, text="x" * 5_000))
        taken.append(number)


def fill(writer: JournalWriter) -> int:
    """Append until the disk is full; how many records it took."""
    taken: list[int] = []
    with pytest.raises(JournalFullError, match="is full: what was measured until now is saved"):
        append_until_full(writer, taken)
    return len(taken)


def limited(folder: Path) -> None:
    """In a child: files of this process end at 1 MB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    writer = JournalWriter(folder)
    print(fill(writer))


def test_a_file_that_may_not_grow_ends_with_a_whole_line(tmp_path: Path) -> None:
    code = (
        f"from pathlib import Path; from tests.sessions.test_journal import limited; limited(Path({str(tmp_path)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    count = int(done.stdout)
    assert count > 100
    assert [record.t for record in read_journal(tmp_path / "journal.ndjson")] == list(range(count))
    assert (tmp_path / "journal.ndjson").read_bytes().endswith(b"\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a disk to fill")
def test_a_full_disk_keeps_whole_lines_and_the_ballast_makes_room_for_the_last(small_disk: Path) -> None:
    writer = JournalWriter(small_disk)
    count = fill(writer)
    with pytest.raises(JournalFullError):
        writer.append(Note(t=count, text="x" * 5_000))
    assert [record.t for record in read_journal(small_disk / "journal.ndjson")] == list(range(count))
    writer.release_ballast()
    writer.append(Note(t=count, text="the last word"))
    writer.close()
    assert list(read_journal(small_disk / "journal.ndjson"))[-1] == Note(t=count, text="the last word")
    assert not (small_disk / ".ballast").exists()


def test_what_was_prepared_is_read_as_it_was_found_and_of_another_kind_is_no_record(tmp_path: Path) -> None:
    found = Prepared(
        t=1,
        model=made_model(folder=tmp_path, layers=2, eos_token_ids=(2, 3)),
        prompts=[[1, 2]],
        prompt_text=None,
        prompt_template=False,
        stop_token_ids=[],
        interpreters={"one": made_interpreter(tmp_path / "python")},
        unavailable={"two": Unavailable("There is none.", "kasoku env create two")},
        bandwidth=MemoryBandwidth(read_bytes_s=2e9, copy_bytes_s=1e9),
    )
    journal = JournalWriter(tmp_path)
    journal.append(found)
    journal.close()
    line = json.loads((tmp_path / "journal.ndjson").read_bytes())
    assert line["model"]["folder"] == str(tmp_path)
    another = line | {"model": line["model"] | {"folder": 3}}
    newer = line | {"model": line["model"] | {"licence": "MIT"}}
    (tmp_path / "journal.ndjson").write_text("".join(json.dumps(row) + "\n" for row in (line, another, newer)))
    tail = JournalTail(tmp_path / "journal.ndjson")
    assert tail.read() == [found, found]
    assert tail.rejected == 1
