"""What watching costs stands beside the comparisons of the device on which it was measured."""

from __future__ import annotations

from pathlib import Path

from probes.machine import Machine
from sessions.device.device_key import device_key
from sessions.disk.store import Store
from sessions.verdict.comparison import compare
from sessions.verdict.observer_effect import APP, BARE, JOURNAL, Calibration, Effect, keep
from tests.verdicts.made_load_store import make_load_session
from tests.verdicts.made_store import make_session

RATES = {"base": [100.0, 101.0, 99.0], "fast": [200.0, 202.0, 198.0]}


def calibration(method: str, cost: float, concurrency: int | None = None) -> Calibration:
    """One in which a viewer costs `cost`, ± 0.1 %."""
    effects = [
        Effect(condition=name, tok_s_median=100.0, rounds=9, cost=each, cost_low=each - 0.001, cost_high=each + 0.001)
        for name, each in ((BARE, 0.0), (JOURNAL, cost), (APP, 2 * cost))
    ]
    return Calibration(
        method=method,
        model="smollm2-135m",
        device="cpu",
        t_realtime_ns=0,
        tokens_per_request=64,
        processes=3,
        app_cpu_percent=5.0,
        machine=Machine(),
        software={},
        effects=effects,
        concurrency=concurrency,
    )


def test_a_calibrated_method_is_quoted_and_another_devices_is_not(tmp_path: Path) -> None:
    sessions = tmp_path / "sessions"
    here = make_session(sessions, RATES, machine=Machine(cpu_model="a CPU"))
    there = make_session(sessions, RATES, machine=Machine(cpu_model="another"))
    key = device_key(here.read().plan, Machine(cpu_model="a CPU"))
    store = Store(sessions)
    assert compare(store, [(here.id, None)]).observer_effects == ()
    keep(tmp_path, key, calibration("elsewhere", 0.004))
    (another,) = compare(store, [(here.id, None)]).observer_effects
    assert another == "measuring costs 0.4 % of tokens/s (0.3 to 0.5 %; elsewhere on this device)"
    keep(tmp_path, key, calibration("fast", 0.002))
    said = compare(store, [(here.id, None)]).observer_effects
    assert said == ("measuring costs 0.2 % of tokens/s (0.1 to 0.3 %; fast on this device)",)
    assert compare(store, [(there.id, None)]).observer_effects == ()


def test_a_bare_loop_that_was_slower_is_no_cost(tmp_path: Path) -> None:
    """It was once quoted as "measuring costs -23.1 %"."""
    here = make_session(tmp_path / "sessions", RATES, machine=Machine(cpu_model="a CPU"))
    keep(tmp_path, device_key(here.read().plan, Machine(cpu_model="a CPU")), calibration("fast", -0.231))
    (said,) = compare(Store(tmp_path / "sessions"), [(here.id, None)]).observer_effects
    assert said == (
        "what measuring costs is not known: fast was 23.1 % faster with it than a bare loop (23.0 to 23.2 %) on this"
        " device"
    )


def test_a_session_under_load_is_told_what_its_load_costs(tmp_path: Path) -> None:
    loaded = make_load_session(tmp_path / "sessions", {"fast": {"c1": [100.0], "c2": [180.0], "c4": [300.0]}})
    key = device_key(loaded.read().plan, loaded.read().machine)
    store = Store(tmp_path / "sessions")
    keep(tmp_path, key, calibration("fast", 0.002))
    keep(tmp_path, key, calibration("fast", 0.009, concurrency=8))
    (alone,) = compare(store, [(loaded.id, None)]).observer_effects
    assert alone.endswith("fast on this device)")
    keep(tmp_path, key, calibration("fast", 0.004, concurrency=4))
    assert compare(store, [(loaded.id, None)]).observer_effects == (
        "measuring costs 0.4 % of tokens/s (0.3 to 0.5 %; fast with 4 in flight on this device)",
    )
