"""Folders of the home are removed also where they cannot be renamed first."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from methods.base import whole_folder


def test_a_folder_that_cannot_be_renamed_is_removed_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def across(_: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(target))

    (tmp_path / "model" / "below").mkdir(parents=True)
    monkeypatch.setattr(Path, "rename", across)
    whole_folder.delete(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
