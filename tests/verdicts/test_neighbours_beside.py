"""What rounds side by side cost each other stands beside the comparisons of sessions that spread, and flags them."""

from __future__ import annotations

from pathlib import Path

from probes.machine import Machine
from sessions.device.device_key import device_key
from sessions.disk.session_folder import SessionFolder
from sessions.disk.store import Store
from sessions.verdict.comparison import Comparison, compare
from sessions.verdict.neighbours import AGAIN, ALONE, BESIDE, Neighbours, keep
from sessions.verdict.observer_effect import Effect
from tests.verdicts.made_store import make_session

RATES = {"base": [100.0, 101.0, 99.0], "fast": [200.0, 202.0, 198.0]}
KEY = "neighbours: "


def made(method: str, cost: float, lanes: int = 2, known: bool = True) -> Neighbours:
    """Neighbours that cost so much ± 0.5 %."""
    effects = [
        Effect(
            condition=name,
            tok_s_median=100.0,
            rounds=9,
            cost=each,
            cost_low=each - 0.005 if known else None,
            cost_high=each + 0.005 if known else None,
        )
        for name, each in ((ALONE, 0.0), (AGAIN, 0.0), (BESIDE, cost))
    ]
    return Neighbours(
        method=method,
        model="smollm2-135m",
        device="cpu",
        lanes=lanes,
        t_realtime_ns=0,
        tokens_per_request=64,
        processes=3,
        machine=Machine(),
        software={},
        effects=effects,
        slots=[],
    )


def spread(sessions: Path, lanes: int) -> SessionFolder:
    """A session whose rounds were so many at once."""
    return make_session(sessions, RATES, machine=Machine(cpu_model="a CPU"), plan={"spread": lanes})


def flags(comparison: Comparison) -> dict[str, list[str]]:
    return {row.method: [flag for flag in row.flags if flag.startswith(KEY)] for row in comparison.rows}


def test_sessions_that_spread_are_told_what_their_neighbours_cost_and_flagged_above_the_bound(tmp_path: Path) -> None:
    sessions = tmp_path / "sessions"
    two, three, plain = spread(sessions, 2), spread(sessions, 3), spread(sessions, 1)
    store = Store(sessions)
    key = device_key(two.read().plan, two.read().machine)
    unknown = "what 2 rounds at once cost each other is not known here: `kasoku calibrate base --neighbours 2`"
    assert compare(store, [(two.id, None)]).neighbours == (unknown,)
    keep(tmp_path, key, made("other", 0.004))
    said = compare(store, [(two.id, None)])
    within = "2 rounds at once cost each other 0.4 % (-0.1 to 0.9 %) of tokens/s (other here)"
    assert said.neighbours == (within,)
    assert within in said.remarks
    assert flags(said) == {"base": [], "fast": []}
    keep(tmp_path, key, made("fast", 0.03))
    said = compare(store, [(two.id, None)])
    assert said.neighbours == ("2 rounds at once cost each other 3.0 % (2.5 to 3.5 %) of tokens/s (fast here)",)
    above = "neighbours: 2 rounds at once cost fast 3.0 % (2.5 to 3.5 %) of its tokens/s"
    assert flags(said) == {"base": [above], "fast": [above]}
    keep(tmp_path, key, made("base", 0.002))
    assert flags(compare(store, [(two.id, None)])) == {"base": [], "fast": [above]}
    assert compare(store, [(three.id, None)]).neighbours[0].startswith("what 3 rounds at once")
    assert compare(store, [(plain.id, None)]).neighbours == ()
    assert flags(compare(store, [(plain.id, None)])) == {"base": [], "fast": []}


def test_one_without_an_interval_is_as_good_as_none(tmp_path: Path) -> None:
    folder = spread(tmp_path / "sessions", 2)
    keep(tmp_path, device_key(folder.read().plan, folder.read().machine), made("fast", 0.5, known=False))
    said = compare(Store(tmp_path / "sessions"), [(folder.id, None)])
    assert said.neighbours[0].startswith("what 2 rounds at once cost each other is not known here")
    assert flags(said) == {"base": [], "fast": []}
