"""A home with sessions, a team's store in a shared folder or in a bucket of a real server, and another's empty home."""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from methods.base.home import private_folder
from sessions.disk.store import Store
from sessions.published.objects import Objects
from sessions.published.published import Published
from tests.published.s3_server import CHAIN, KEYS, serving
from tests.sessions.workplace import Said, Workplace
from tests.tui.journals import make_tokeniser, write_session

FIRST, SECOND = "20260225-060000-aaaaaa", "20260225-070000-bbbbbb"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two finished sessions, of which tests take copies."""
    folder = private_folder(tmp_path_factory.mktemp("written") / "home")
    model = folder / "models" / "small"
    ids = make_tokeniser(model)
    for session, name in ((FIRST, "first look"), (SECOND, "")):
        write_session(folder, session=session, name=name, model_folder=str(model), ids=ids)
    return folder


@pytest.fixture
def mine(written: Path, tmp_path: Path) -> Path:
    """A home with the two sessions."""
    shutil.copytree(written, tmp_path / "mine")
    return tmp_path / "mine"


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """The home of somebody else in the team, who has no sessions."""
    return private_folder(tmp_path / "theirs")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that takes every key."""
    with serving(tmp_path_factory.mktemp("s3") / "moto.log") as url:
        yield url


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Points AWS' tools at a server and at nothing else of this machine."""

    def point_at(url: str) -> None:
        for name in CHAIN:
            monkeypatch.delenv(name, raising=False)
        for name, value in KEYS.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))

    return point_at


@pytest.fixture
def bucket(server: str, aws: Callable[[str], None]) -> str:
    """The URL of a store in a bucket of the test's own, which is there."""
    aws(server)
    name = f"team-{uuid4().hex[:12]}"
    make_bucket(server, name)
    return f"s3://{name}/kasoku"


@pytest.fixture
def shared(tmp_path: Path) -> str:
    """A store in a folder that is there."""
    (tmp_path / "share").mkdir()
    return str(tmp_path / "share")


@pytest.fixture(params=["shared", "bucket"])
def place(request: pytest.FixtureRequest) -> str:
    """A store of each kind in turn."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, str)
    return found


@pytest.fixture
def kasoku(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Said]:
    """`kasoku …` in this process, in a home."""

    def command(home: Path, *arguments: str) -> Said:
        monkeypatch.setenv("KASOKU_HOME", str(home))
        monkeypatch.setenv("KASOKU_CONFIG", str(tmp_path / "config"))
        return Workplace.command(*arguments)

    return command


def make_bucket(server: str, name: str) -> None:
    request = urllib.request.Request(f"{server}/{name}", method="PUT")  # noqa: S310 - the test's own server
    with urllib.request.urlopen(request, timeout=60):  # noqa: S310
        pass


def objects_of(place: str, home: Path) -> Objects:
    """The store's objects, as a Kasoku sees them."""
    return Published(place, home).objects


def store_of(place: str, home: Path) -> Store:
    return Store(home / "sessions", Published(place, home))


def names_in(objects: Objects, prefix: str) -> list[str]:
    """All names below a prefix that have one more part, and theirs in turn."""
    found = []
    for part in objects.below(prefix):
        found += [f"{prefix}/{part}", *names_in(objects, f"{prefix}/{part}")]
    return sorted(found)


def listed_in(said: Said) -> dict[str, str]:
    """The sessions of `kasoku sessions --json`, and the store that each is in."""
    return {row["id"]: row["store"] for row in json.loads(said.out)}
