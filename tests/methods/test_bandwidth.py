from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from methods.base.home import CACHE
from methods.base.interpreter import Interpreter
from methods.jobs.bandwidth import FILE, bandwidth


def test_a_cpus_bandwidth_is_measured_and_remembered(tmp_path: Path, torch_interpreter: Interpreter) -> None:
    found = bandwidth(tmp_path, "a CPU 1 threads", torch_interpreter, threads=1)
    for name in ("read_bytes_s", "copy_bytes_s"):
        rate = getattr(found, name)
        assert isinstance(rate, float), found
        assert 2e8 < rate < 5e12  # slower than a disk or faster than HBM is no RAM
    assert isinstance(found.buffer_bytes, int)
    assert found.buffer_bytes >= 1 << 26
    again = bandwidth(tmp_path, "a CPU 1 threads", None)
    assert again == found
    assert bandwidth(tmp_path, "another CPU", None).reason


def test_what_cannot_be_measured_has_a_reason(tmp_path: Path, torch_interpreter: Interpreter) -> None:
    gone = replace(torch_interpreter, python=tmp_path / "no-python")
    assert "cannot be run" in bandwidth(tmp_path, "key", gone).reason
    no_gpu = bandwidth(tmp_path, "key", torch_interpreter, gpu_uuids=["GPU-0"], gpu_visible=["GPU-0"])
    assert "sees none" in no_gpu.reason
    assert not (tmp_path / CACHE / FILE).exists()


@pytest.mark.parametrize("content", ["", "[]", '{"key": 3}', '{"key": {"read_bytes_s": "fast", "copy_bytes_s": 1}}'])
def test_a_damaged_cache_is_no_bandwidth(tmp_path: Path, content: str) -> None:
    (tmp_path / CACHE).mkdir()
    (tmp_path / CACHE / FILE).write_text(content)
    assert bandwidth(tmp_path, "key", None).reason
    (tmp_path / CACHE / FILE).write_text(json.dumps({"key": {"read_bytes_s": 2e9, "copy_bytes_s": 1e9}}))
    assert bandwidth(tmp_path, "key", None).read_bytes_s == 2e9
