"""The folder for an engine's sockets: short whatever TMPDIR is, private, and gone afterwards."""

from __future__ import annotations

import socket
import stat
import tempfile
import uuid
from pathlib import Path

import pytest

from sessions.disk.plan import Plan
from sessions.run.runner_variables import runner_variables
from sessions.run.short_folder import short_folder
from tests.made_model import made_interpreter


@pytest.mark.parametrize("deep", [False, True])
def test_a_socket_fits_into_it_and_nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deep: bool) -> None:
    if deep:
        long = tmp_path / ("x" * 120)
        long.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(long))
    with short_folder({}) as folder, socket.socket(socket.AF_UNIX) as listening:
        assert folder is not None
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        listening.bind(str(folder / str(uuid.uuid4())))
        assert [stat.S_ISSOCK(path.stat().st_mode) for path in folder.iterdir()] == [True]
    assert not folder.exists()


def test_a_user_who_names_a_place_keeps_it(tmp_path: Path) -> None:
    plan, interpreter, folder = Plan(), made_interpreter(), Path("/short")
    given = runner_variables({}, plan, interpreter, tmp_path, folder)
    assert given["VLLM_RPC_BASE_PATH"] == given["KASOKU_SOCKETS"] == "/short"
    mine = runner_variables({"VLLM_RPC_BASE_PATH": "/mine"}, plan, interpreter, tmp_path, folder)
    assert mine["VLLM_RPC_BASE_PATH"] == "/mine"
