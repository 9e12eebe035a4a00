"""What the thread that watches a session tells the live view beside the journal."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from probes.capture import capture
from probes.gpu.facts import GpuFacts
from probes.gpu.nvml import Nvml
from sessions.disk.session_folder import SessionFolder
from tests.probes.fake_nvml import FakeNvml
from tests.tui.journals import MACHINE, write_session
from tui.read.session_watch import SessionWatch, View


def test_a_gpu_is_named_by_the_source_of_its_telemetry(bare: Path) -> None:
    machine = replace(MACHINE, gpus=(GpuFacts(source="gpu1", name="NVIDIA L4"),))
    last = last_view(write_session(bare, machine=machine))
    assert last.live.gpus == ("gpu0", "gpu1")
    assert last.gpu_names == {"gpu1": "NVIDIA L4"}


@pytest.mark.parametrize("first_answers", [True, False])
def test_the_second_gpu_of_a_captured_machine_has_its_own_name(bare: Path, first_answers: bool) -> None:
    library = FakeNvml(2)
    if not first_answers:
        library.fail["nvmlDeviceGetHandleByIndex", 0] = 15
    machine = capture(Nvml(library))
    assert [gpu.source for gpu in machine.gpus] == ["gpu0", "gpu1"][0 if first_answers else 1 :]
    *others, second = machine.gpus
    machine = replace(machine, gpus=(*others, replace(second, name="NVIDIA L4")))
    assert last_view(write_session(bare, machine=machine)).gpu_names["gpu1"] == "NVIDIA L4"


def last_view(folder: SessionFolder) -> View:
    """The last that a watch of the session delivers."""
    seen: list[View | str] = []
    over = threading.Event()

    def deliver(watch: SessionWatch, what: View | str) -> None:
        seen.append(what)
        watch.want()
        if isinstance(what, str) or what.over:
            over.set()

    watch = SessionWatch(folder, deliver, replay=False)
    watch.start()
    assert over.wait(30)
    watch.close()
    last = seen[-1]
    assert isinstance(last, View), last
    return last
