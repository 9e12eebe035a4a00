"""Sessions of several hosts: whose figures they are is said, and no ratio leads from one host to another unasked."""

from __future__ import annotations

from pathlib import Path

import msgspec

from probes.machine import Machine
from sessions.disk.session_folder import SessionFolder
from sessions.disk.store import Store
from sessions.export.report import make_report
from sessions.verdict.comparison import compare
from tests.verdicts.made_store import make_session
from tui.print.report_page import page


def on_host(folder: SessionFolder, name: str) -> SessionFolder:
    """The session as one of a host."""
    machine = Machine(hostname=f"{name}.local", cpu_model="A CPU")
    folder.write(msgspec.structs.replace(folder.read(), host=name, machine=machine, software={"kasoku": "0.1.0"}))
    return folder


def test_ratios_stay_within_a_host_and_absolute_figures_say_whose_they_are(tmp_path: Path) -> None:
    store = Store(tmp_path / "sessions")
    whole = on_host(make_session(store.path, {"base": [100.0, 101.0, 99.0], "fast": [200.0, 203.0, 197.0]}), "big")
    alone = on_host(make_session(store.path, {"fast": [50.0, 51.0, 49.0]}), "small")
    found = compare(store, [(whole.id, None), (alone.id, None)], anyway=True)
    ratios = {(row.session, row.method): row.ratio for row in found.rows}
    assert ratios[whole.id, "fast"] is not None
    assert ratios[alone.id, "fast"] is None
    assert len(found.hosts) == 2
    assert found.hosts[0].startswith(f"{whole.id} is of big: big.local, A CPU, ")
    assert found.hosts[0].endswith("kasoku 0.1.0.")
    assert found.remarks[:2] == found.hosts


def test_a_ratio_across_hosts_is_made_where_its_session_is_named_and_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path / "sessions")
    one = on_host(make_session(store.path, {"base": [100.0, 101.0, 99.0]}), "big")
    two = on_host(make_session(store.path, {"new": [230.0, 233.0, 228.0]}), "small")
    found = compare(store, [(one.id, None), (two.id, None)], f"{one.id}:base", anyway=True)
    row = next(row for row in found.rows if row.method == "new")
    assert row.verdict.endswith("(of another host: blocks not paired)")


def test_sessions_of_this_machine_alone_say_nothing_of_hosts(tmp_path: Path) -> None:
    store = Store(tmp_path / "sessions")
    made = make_session(store.path, {"base": [100.0, 101.0, 99.0]})
    assert compare(store, [(made.id, None)]).hosts == ()


def test_a_report_has_a_section_for_each_host_and_tells_their_methods_apart(tmp_path: Path) -> None:
    store = Store(tmp_path / "sessions")
    folders = [on_host(make_session(store.path, {"fast": [50.0, 51.0, 49.0]}), name) for name in ("big", "small")]
    report = make_report(store, [folder.id for folder in folders])
    assert list(report.label.values()) == ["fast (big)", "fast (small)"]
    shown = page(report, "html")
    for folder, name in zip(folders, ("big", "small"), strict=True):
        assert f"<h2>Session {folder.id}, {name}</h2>" in shown
        assert f"{name}.local" in shown
