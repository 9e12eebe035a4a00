"""What Kasoku and its engines write in the home is the user's alone, whatever the umask; exports follow the umask."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from methods.base.home import write_atomically
from methods.base.interpreter import Interpreter
from methods.base.named_output import write_named
from methods.environments import environments
from methods.models import models
from tests.sessions.processes import until
from tests.sessions.workplace import Workplace, make_model, records_of
from tests.tui.journals import write_session

WRITER = Path(__file__).with_name("writing_engine.py")


@contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


def open_to_others(folder: Path) -> list[str]:
    """What below a folder, itself included, others may read, write or enter; links have no mode of their own."""
    found = []
    for path in [folder, *folder.rglob("*")]:
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode) and stat.S_IMODE(mode) & 0o077:
            found.append(f"{stat.S_IMODE(mode):o} {path.relative_to(folder)}")
    return found


def writing(work: Workplace) -> str:
    """A method whose engine writes caches and logs as engines do, with the modes that the umask gives."""
    folder = work.config / "methods"
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "writing.toml").write_text(
        f'[methods.writing]\nsummary = "writes"\nengine = {json.dumps(str(WRITER))}\n'
        'environments = { cpu = "plain" }\nmust_show = { cache = "dynamic" }\n'
    )
    return "writing"


def test_a_whole_session_is_the_users_alone_in_a_home_that_was_there_and_keeps_its_mode(work: Workplace) -> None:
    """What runs well, breaks and is stopped; and what a look at it writes; under the umask that leaves most open."""
    name = writing(work)
    work.home.chmod(0o755)
    with umask(0o000):
        broken = work.method("breaks", fault="exception")
        assert work.command(*work.options(name, broken)).code == 1
        assert work.command("show", "last").code == 0
        slow = work.launch(work.method("slow", rate=20.0), max_new_tokens=1_000)
        until(lambda: len(records_of(slow)) > 12, "it measures")
        slow.ask("stop")
        work.finished(slow)
    ran = work.sessions()[0]
    written = {path.name for path in work.home.rglob("*")}
    assert {"journal.ndjson", "runs.parquet", "comparison.csv", "writing-0.log", "conductor.log", "lock"} <= written
    assert {"inductor-cache.so", "plain-folder", "from-a-child"} <= written, "the engine's own are looked at too"
    assert "engine said so" in (ran.path / "logs" / "writing-0.log").read_text()
    assert stat.S_IMODE(work.home.stat().st_mode) == 0o755, "the user's own folder is left as it is"
    assert open_to_others(work.home) == ["755 ."]


def test_the_doctor_says_that_a_home_can_be_read_by_others(work: Workplace) -> None:
    work.home.chmod(0o755)
    said = work.command("doctor").out
    assert f"{work.home} can be read by others." in said
    assert f"chmod 700 {work.home}" in said


@pytest.mark.parametrize("mask", [0o022, 0o000])
def test_a_prepared_model_is_the_users_alone(work: Workplace, tmp_path: Path, mask: int) -> None:
    make_model(tmp_path / "given", ["hello"], rope_theta=10_000.0)
    with umask(mask):
        models.prepare(str(tmp_path / "given"), work.home, environments.Unavailable("none", "none"))
    assert (work.home / "models").is_dir()
    assert open_to_others(work.home) == []


@pytest.mark.parametrize("mask", [0o022, 0o000])
def test_what_kasoku_writes_into_an_environment_is_the_users_alone(work: Workplace, mask: int) -> None:
    """Its folder, its manifest, uv's own configuration, and a package made on the spot."""
    package = work.home.with_name("package")
    (package / "tiny").mkdir(parents=True)
    (package / "tiny" / "__init__.py").write_text("")
    (package / "pyproject.toml").write_text('[project]\nname = "tiny"\nversion = "1"\n')
    described = '[tiny]\npurpose = "a test"\nimports = []\nrequirements = []\npython = ">=3.9"\n'
    (work.config / "environments").mkdir(mode=0o700, exist_ok=True)
    (work.config / "environments" / "tiny.toml").write_text(described)
    wheel = make_wheel(package)
    (work.config / "environments" / "tiny.toml").write_text(
        described.replace("requirements = []", f"requirements = [{json.dumps(f'tiny @ file://{wheel}')}]")
    )
    with umask(mask):
        made = environments.create("tiny", work.home, work.config, environ={**os.environ, "UV_OFFLINE": "1"})
    assert isinstance(made, Interpreter)
    folder = made.python.parent.parent
    ours = [folder, folder / "kasoku-environment.json", folder / "pyvenv.cfg", folder / "bin"]
    assert [f"{stat.S_IMODE(path.stat().st_mode) & 0o077:o}" for path in ours] == ["0"] * len(ours)
    assert stat.S_IMODE((work.home / "environments").stat().st_mode) == 0o700


def make_wheel(package: Path) -> Path:
    """A wheel of an empty package, written by hand: no builder is needed."""
    import zipfile

    wheel = package / "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny/__init__.py", "")
        archive.writestr("tiny-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1\n")
        archive.writestr(
            "tiny-1.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(
            "tiny-1.dist-info/RECORD", "tiny/__init__.py,,\ntiny-1.dist-info/METADATA,,\ntiny-1.dist-info/WHEEL,,\n"
        )
    return wheel


@pytest.mark.parametrize(("mask", "folder_mode", "file_mode"), [(0o027, 0o750, 0o640)])
def test_what_the_user_asked_for_elsewhere_follows_the_umask(
    work: Workplace, tmp_path: Path, mask: int, folder_mode: int, file_mode: int
) -> None:
    folder = write_session(work.home)
    out = tmp_path / "csv"
    with umask(mask):
        for command in (
            ("export", folder.id, "--out", str(out)),
            ("compare", folder.id, "--csv", str(tmp_path / "table.csv")),
            ("report", folder.id, "--out", str(tmp_path / "page.html")),
        ):
            said = work.command(*command)
            assert said.code == 0, said.err
    assert stat.S_IMODE(out.stat().st_mode) == folder_mode
    files = [*out.iterdir(), tmp_path / "table.csv", tmp_path / "page.html"]
    assert len(files) == 7
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {file_mode}


def test_a_file_is_never_open_to_others_not_even_while_it_is_written(tmp_path: Path) -> None:
    """The temporary file has its final mode from the moment it is made."""
    seen: set[int] = set()
    real = os.fsync

    def look(descriptor: int) -> None:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISREG(mode):
            seen.add(stat.S_IMODE(mode))
        real(descriptor)

    with umask(0o000), pytest.MonkeyPatch.context() as patch:
        patch.setattr("methods.base.home.os.fsync", look)
        write_atomically(tmp_path / "private", b"x")
        assert seen == {0o600}
        write_named(tmp_path / "public", b"x")
        assert seen == {0o600, 0o666}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["private", "public"]


def test_the_command_line_does_not_change_the_umask_of_what_it_is_called_from(work: Workplace) -> None:
    target = work.home.with_name("made-after")
    with umask(0o022):
        assert work.command("sessions").code == 0
        target.mkdir(0o777)
    assert stat.S_IMODE(target.stat().st_mode) == 0o755
