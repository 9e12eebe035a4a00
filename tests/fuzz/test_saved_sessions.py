"""A session's folder whose files were damaged: opened, listed, compared, exported, replayed, or refused in a sentence.

Each example damages one or two files of a copy of a real session and runs a command or two on it, within this process.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessions.close.session_end import close_session
from sessions.disk.session_folder import FRAMES, SessionFolder
from tests.fuzz.anything import damaged
from tests.fuzz.profile import fuzzed
from tests.sessions.conftest import opened
from tests.sessions.workplace import Workplace

FILES = ("session.json", "plan.json", "journal.ndjson", *(f"{name}.parquet" for name in FRAMES))
COMMANDS = (
    ("sessions", "--json"),
    ("show", "SESSION"),
    ("show", "SESSION", "--json"),
    ("show", "SESSION", "--as", "vllm"),
    ("compare", "SESSION", "WHOLE", "--anyway"),
    ("export", "SESSION", "--out", "OUT"),
    ("report", "SESSION", "--out", "PAGE"),
    ("replay", "SESSION", "--speed", "100000"),
)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    yield from opened(tmp_path_factory.mktemp("fuzz"))


@pytest.fixture(scope="module")
def whole(work: Workplace) -> SessionFolder:
    """A session that ended well; its telemetry is cut short, so that the damage is where it matters."""
    work.method("one", rate=800.0)
    work.method("two", reference="one", rate=900.0)
    folder = work.run("one", "two", requests=2, blocks=2, max_new_tokens=6)
    lines = folder.journal.read_bytes().splitlines(keepends=True)
    few = [line for number, line in enumerate(lines) if not line.startswith(b'{"k":"telemetry"') or number % 8 == 0]
    folder.journal.write_bytes(b"".join(few))
    close_session(folder, "finished")
    assert folder.read().status == "finished"
    return folder


@given(st.data())
@fuzzed(0.15)
def test_commands_on_a_damaged_session_show_it_or_say_what_is_wrong(
    work: Workplace, whole: SessionFolder, data: st.DataObject
) -> None:
    folder = SessionFolder(whole.path.parent / f"{whole.id[:-6]}0f0f0f")
    shutil.rmtree(folder.path, ignore_errors=True)
    shutil.copytree(whole.path, folder.path)
    if data.draw(st.booleans()):
        folder.write(msgspec.structs.replace(folder.read(), status="running"))
        for name in data.draw(st.sets(st.sampled_from(FRAMES))):
            folder.frame(name).unlink()
    for name in sorted(data.draw(st.sets(st.sampled_from(FILES), min_size=1, max_size=2))):
        path = folder.path / name
        if not path.exists():
            continue
        other = data.draw(st.sampled_from((None, None, None, *FILES)))
        path.write_bytes(data.draw(damaged(path.read_bytes())) if other is None else (whole.path / other).read_bytes())
    out = folder.path.parent.parent / "out"
    shutil.rmtree(out, ignore_errors=True)
    for chosen in data.draw(st.lists(st.sampled_from(COMMANDS), min_size=1, max_size=2, unique=True)):
        words = {"SESSION": folder.id, "WHOLE": whole.id, "OUT": str(out), "PAGE": str(out.with_name("page.md"))}
        command = tuple(words.get(word, word) for word in chosen)
        said = work.command(*command)
        assert said.code in (0, 1, 2), f"{command}: {said.err}"
        assert "Kasoku itself failed" not in said.err, f"{command}: {said.err}"
        assert said.code == 0 or said.err.strip().count("\n") <= 1, f"{command}: {said.err}"
