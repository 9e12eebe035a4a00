"""How the code looks at files, over its syntax trees: in few ways, which cannot surprise."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("methods", "sessions", "tui", "probes")
# A call: the modules that may make it, and what is to be called instead.
ONLY_IN: dict[str, tuple[tuple[str, ...], str]] = {
    ".exists": ((), "os.path.exists, or user_path.kind for what a user named"),
    ".is_file": ((), "os.path.isfile, or user_path.kind for what a user named"),
    ".is_dir": ((), "os.path.isdir, or user_path.kind for what a user named"),
    ".is_symlink": ((), "os.path.islink"),
    ".is_fifo": ((), "user_path.kind"),
    ".absolute": (("methods/base/user_path.py",), "user_path.absolute"),
    "Path.cwd": ((), "a relative path, which user_path.absolute judges"),
    "os.getcwd": ((), "user_path.absolute"),
    "os.path.abspath": ((), "user_path.absolute"),
    ".resolve": ((), "os.path.realpath, which no circle of links stops"),
    "fcntl.flock": (
        ("methods/base/file_lock.py", "sessions/hosts/at_host.py"),  # the second is alone where it runs
        "file_lock.try_take",
    ),
    "os.path.expanduser": (("methods/base/user_path.py",), "user_path.named_path"),
    "Path.home": ((), "user_path.user_folder"),
    ".read_bytes": ((), "bounded_read.read_regular"),
    ".read_text": (
        ("probes/", "methods/runner/", "methods/base/warden.py", "sessions/device/affinity.py"),  # of /proc and /sys
        "bounded_read.read_regular",
    ),
    ".write_bytes": ((), "home.write_atomically, or named_output.write_named for what a user named"),
    ".write_text": (
        # of /proc, and of folders of their own
        ("methods/base/warden.py", "methods/runner/kasoku_compile.py", "methods/runner/kasoku_sglang_scheduler.py"),
        "home.write_atomically, or named_output.write_named for what a user named",
    ),
    "os.fsync": (
        (
            "methods/base/home.py",
            "methods/base/named_output.py",
            "methods/models/manifest.py",
            "sessions/disk/journal.py",
            "sessions/frames/build.py",
            "sessions/frames/long_frame.py",
            "sessions/published/shared_folder.py",
        ),
        "home.fsync_folder or home.write_atomically",
    ),
}
OWN_FILES = ("SHAPES.", "TEMPLATES.", "Path(__file__)")  # of the installation
OTHERS = ("environments.", "app.", "event.", "distribution.")  # objects that are no paths


def calls(tree: ast.AST) -> Iterator[tuple[str, str, int]]:
    """Each call of an attribute: the key above that it matches at most, its source, its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            written = ast.unparse(node.func)
            key = written if written in ONLY_IN else f".{node.func.attr}"
            if key in ONLY_IN and not written.startswith((*OWN_FILES, *OTHERS)) and not written.startswith("os.path."):
                yield key, written, node.lineno
            elif written in ONLY_IN:
                yield written, written, node.lineno


def offences(file: Path) -> list[str]:
    place = file.relative_to(ROOT).as_posix()
    return [
        f"{place}:{line}: {written}() instead of {ONLY_IN[key][1]}"
        for key, written, line in calls(ast.parse(file.read_text(encoding="utf-8")))
        if not place.startswith(ONLY_IN[key][0] or ("nowhere",))
    ]


@pytest.mark.parametrize("room", [*ROOMS, "kasoku.py"])
def test_paths_are_looked_at_read_and_written_by_the_modules_for_that(room: str) -> None:
    place = ROOT / room
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
    found = [offence for file in files for offence in offences(file)]
    assert not found, "\n".join(found)


def test_the_check_finds_what_it_is_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "room").mkdir()
    file = tmp_path / "room" / "module.py"
    file.write_text("(a / b).exists()\nfcntl.flock(1, 2)\nos.path.abspath(x)\nPath.cwd()\nenvironments.resolve(n)\n")
    assert [line.split(":")[1] for line in offences(file)] == ["1", "2", "3", "4"]
    (tmp_path / "methods" / "base").mkdir(parents=True)
    allowed = tmp_path / "methods" / "base" / "file_lock.py"
    allowed.write_text("fcntl.flock(1, 2)\n")
    assert offences(allowed) == []
