"""What the thread that watches a session tells the live view beside the journal."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

from probes.gpu.facts import GpuFacts
from tests.tui.journals import MACHINE, write_session
from tui.read.session_watch import SessionWatch, View


def test_a_gpu_is_named_by_the_source_of_its_telemetry(bare: Path) -> None:
    machine = replace(MACHINE, gpus=(GpuFacts(source="gpu1", name="NVIDIA L4"),))
    folder = write_session(bare, machine=machine)
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
    assert last.live.gpus == ("gpu0", "gpu1")
    assert last.gpu_names == {"gpu1": "NVIDIA L4"}
