from __future__ import annotations

import csv
import io
import random
from pathlib import Path

import polars as pl
import pytest

from probes.machine import Machine
from sessions.device.device_key import device_key
from sessions.disk.frame_schema import SCHEMA_KEY
from sessions.disk.plan import Plan, PlannedMethod
from sessions.disk.records import SCHEMA_VERSION, Prepared, encode
from sessions.disk.sampling import Sampling
from sessions.disk.session_folder import FRAMES, SessionFolder
from sessions.disk.store import Store
from sessions.export.csv_export import comparison_csv, comparison_rows
from sessions.planning.twice import AGAIN, twice
from sessions.verdict.comparison import Comparison, ComparisonError, compare
from sessions.verdict.comparison_row import ComparisonRow
from sessions.verdict.noise_floor import NoiseFloor, floor_of, keep
from tests.made_model import made_model
from tests.verdicts.made_store import Rates, make_session

BASE = [100.0, 101.0, 99.0]
CONTRACT = (
    "session, method, reference, requests, blocks, tok_s_mean, tok_s_median, tok_s_sd, tok_s_low, tok_s_high, ratio,"
    " ratio_low, ratio_high, verdict, ttft_s_median, itl_s_p50, itl_s_p99, peak_vram_bytes, energy_j_per_token, mbu,"
    " first_difference, in_effect, flags, decode_tok_s_median, load_s_median, warmup_s_median, peak_rss_bytes,"
    " dram_active_percent, idle_w, equal_tokens_share, difference, noise_floor, status, in_effect_reason, problem,"
    " missing, timed_share"
)


@pytest.fixture
def sessions(tmp_path: Path) -> Path:
    return tmp_path / "sessions"


def rows(sessions: Path, *picks: SessionFolder, baseline: str | None = None, anyway: bool = False) -> Comparison:
    return compare(Store(sessions), [(pick.id, None) for pick in picks], baseline, anyway)


def by_method(comparison: Comparison) -> dict[str, ComparisonRow]:
    return {row.method: row for row in comparison.rows}


def test_a_row_has_the_figures_of_its_blocks(sessions: Path) -> None:
    made = make_session(sessions, {"base": BASE, "fast": [230.0, 233.0, 228.0]})
    table = by_method(rows(sessions, made))
    assert table["base"].verdict == "the reference"
    assert (table["base"].requests, table["base"].blocks) == (6, 3)
    assert table["base"].tok_s_mean == pytest.approx(100.0)
    assert table["base"].itl_s_p50 == pytest.approx(0.01, rel=0.02)
    assert table["fast"].reference == "base"
    assert table["fast"].ratio == pytest.approx((2.3 * 233 / 101 * 228 / 99) ** (1 / 3))
    assert table["fast"].verdict.startswith("2.30× faster, 2.2")
    assert table["fast"].status == "ok"


def test_the_contracts_columns_come_first_in_json_and_csv(sessions: Path) -> None:
    comparison = rows(sessions, make_session(sessions, {"base": BASE, "fast": [230.0, 233.0, 228.0]}))
    columns = CONTRACT.split(", ")
    assert list(comparison_rows(comparison)[0])[: len(columns)] == columns
    header, *lines = csv.reader(io.StringIO(comparison_csv(comparison)))
    assert header[: len(columns)] == columns
    assert len(lines) == 2


def test_only_blocks_that_both_have_are_paired(sessions: Path) -> None:
    made = make_session(sessions, {"base": [100.0, 200.0, 100.0, 100.0], "fast": [200.0, 400.0, 200.0]})
    row = by_method(rows(sessions, made))["fast"]
    assert row.ratio == pytest.approx(2.0)
    assert row.verdict == "2.00× faster, 2.00–2.00"


@pytest.mark.parametrize(
    ("other", "name"),
    [
        ({"plan": {"dtype": "float16"}}, "dtype"),
        ({"weights": "bb"}, "weights"),
        ({"prompt": (1, 2, 4)}, "prompt"),
        ({"plan": {"sampling": Sampling(max_new_tokens=32)}}, "sampling"),
    ],
)
def test_what_does_not_compare_is_refused_and_else_labelled(
    sessions: Path, other: dict[str, object], name: str
) -> None:
    one = make_session(sessions, {"base": BASE})
    two = make_session(sessions, {"base": BASE}, **other)  # type: ignore[arg-type]
    with pytest.raises(ComparisonError, match=f"differ in {name}.*--anyway"):
        rows(sessions, one, two)
    comparison = rows(sessions, one, two, anyway=True)
    assert comparison.refused == (name,)
    assert [label for label, _ in comparison.differences] == [name]


def test_prompts_that_differ_by_a_templates_date_say_so(sessions: Path) -> None:
    one, two = (make_session(sessions, {"base": BASE}, prompt=ids) for ids in ((1, 2), (1, 3)))
    two.journal.write_bytes(
        encode(
            Prepared(
                t=0, model=made_model(), prompts=[[1, 3]], prompt_text="Hi", prompt_template=True, prompt_dated=True,
                stop_token_ids=[], interpreters={}, unavailable={},
            )
        )
        + b"\n"
    )  # fmt: skip
    with pytest.raises(
        ComparisonError, match=r"differ in prompt \(its chat template writes the date or the time into it"
    ):
        rows(sessions, one, two)
    ((_, shown),) = rows(sessions, one, two, anyway=True).differences
    assert [str(shown[made.id]).endswith("into it)") for made in (one, two)] == [False, True]


def test_another_device_is_said_and_not_refused(sessions: Path) -> None:
    one, two = (make_session(sessions, {"base": BASE}, plan={"threads": count}) for count in (1, 2))
    comparison = rows(sessions, one, two)
    assert comparison.differences == (("threads", {one.id: 1, two.id: 2}),)
    assert comparison.refused == ()


def test_the_same_weights_under_two_names_compare(sessions: Path) -> None:
    one, two = (make_session(sessions, {"base": BASE}, plan={"model": name}) for name in ("/a/m", "org/m"))
    assert [name for name, _ in rows(sessions, one, two).differences] == ["model"]


def test_a_baseline_of_another_session_is_not_paired_and_says_so(sessions: Path) -> None:
    one = make_session(sessions, {"base": BASE})
    two = make_session(sessions, {"new": [230.0, 233.0, 228.0]})
    for baseline in ("base", f"{one.id}:base"):
        row = by_method(rows(sessions, one, two, baseline=baseline))["new"]
        assert row.ratio == pytest.approx(2.303, rel=1e-3)
        assert row.verdict.endswith("(of another session: blocks not paired)")
    with pytest.raises(ComparisonError, match="None of these sessions has the method typo"):
        rows(sessions, one, two, baseline="typo")


def test_flags_of_blocks_become_a_line_each(sessions: Path) -> None:
    flagged = {"base": {"in_effect": False, "in_effect_reason": "no kernel ran"}}
    row = by_method(rows(sessions, make_session(sessions, {"base": BASE}, run=flagged)))["base"]
    assert row.in_effect is False
    assert row.flags == ("method not in effect: no kernel ran (in 3 blocks)",)


def test_joules_per_token_are_those_of_the_timed_parts(sessions: Path) -> None:
    run = {"fast": {"timed_energy_j": 48.0, "energy_j": 900.0}}
    table = by_method(rows(sessions, make_session(sessions, {"base": BASE, "fast": BASE}, run=run)))
    assert table["fast"].energy_j_per_token == pytest.approx(48.0 / (2 * 16))
    assert table["base"].energy_j_per_token is None


def test_the_noise_floor_stands_beside_every_verdict_of_the_device(sessions: Path) -> None:
    machine = Machine(cpu_model="a CPU")
    pair = twice([PlannedMethod(name="fast", engine="e", environment="t", reference="base"),
                  PlannedMethod(name="base", engine="e", environment="t")])  # fmt: skip
    assert [(method.name, method.reference) for method in pair] == [("base", None), ("base" + AGAIN, "base")]
    same: Rates = {"base": BASE, "base" + AGAIN: [100.5, 103.0, 98.0]}
    aa = make_session(sessions, same, plan={"aa": True, "methods": pair}, machine=machine)
    runs, requests = (pl.read_parquet(aa.frame(name)) for name in ("runs", "requests"))
    floor = floor_of(aa.plan(), aa.id, runs, requests)
    assert floor is not None
    row = by_method(rows(sessions, aa))["base" + AGAIN]
    assert row.ratio_high is not None
    assert row.ratio_low is not None
    assert floor.difference == pytest.approx(max(row.ratio_high - 1, 1 - row.ratio_low))
    extended = floor_of(aa.plan(), aa.id, runs, requests, was_looked_at=True)
    assert extended is not None
    assert extended.difference > floor.difference
    keep(sessions.parent, device_key(aa.read().plan, machine), floor)

    small = make_session(sessions, {"base": BASE, "fast": [102.5, 103.6, 101.4]}, machine=machine)
    comparison = rows(sessions, small)
    fast = by_method(comparison)["fast"]
    assert fast.noise_floor == floor.difference
    assert comparison.noise_floors == (floor.sentence(),)
    assert fast.verdict.endswith("faster, 1.023–1.027")
    assert fast.flags[0].startswith("within the noise floor: the reference differs by up to 4")
    elsewhere = make_session(sessions, {"base": BASE}, machine=Machine(cpu_model="another"))
    assert by_method(rows(sessions, elsewhere))["base"].noise_floor is None


def test_a_plan_that_is_no_pair_has_no_floor() -> None:
    assert floor_of(Plan(aa=True), "s", pl.DataFrame(), pl.DataFrame()) is None
    assert isinstance(NoiseFloor(difference=0.0, ratio=1.0, blocks=3, method="m", session="s").sentence(), str)


def damaged(kind: str, folder: SessionFolder) -> None:
    """Do to a session's files what disks, other programs and older versions do."""
    runs, requests = folder.frame("runs"), folder.frame("requests")
    whole = pl.read_parquet(runs)
    match kind:
        case "no frames":
            for name in FRAMES:
                folder.frame(name).unlink()
        case "no requests":
            requests.unlink()
        case "empty file":
            runs.write_bytes(b"")
        case "torn file":
            requests.write_bytes(requests.read_bytes()[:-100])
        case "no parquet":
            runs.write_bytes(b"PAR1 nothing of the kind PAR1")
        case "foreign columns":
            pl.DataFrame({"a": [1], "b": ["x"]}).write_parquet(runs)
        case "other types":
            pl.read_parquet(requests).with_columns(pl.col("e2e_tok_s").cast(pl.String)).write_parquet(requests)
        case "all null":
            whole.with_columns(pl.lit(None, dtype=pl.String).alias("method")).write_parquet(runs)
        case "no rows":
            whole.clear().write_parquet(runs)
        case "a folder":
            runs.unlink()
            runs.mkdir()
        case "no session.json":
            (folder.path / "session.json").unlink()
        case "a newer schema":
            text = (
                (folder.path / "session.json")
                .read_text()
                .replace(f'"schema_version": {SCHEMA_VERSION}', '"schema_version": 99')
            )
            (folder.path / "session.json").write_text(text)
        case "a newer frame":
            whole.write_parquet(runs, metadata={SCHEMA_KEY: "99"})
        case "odd values":
            odd = {"status": None, "evidence": "{", "missing": "[", "flags": None, "in_effect_reason": None}
            whole.with_columns(pl.lit(value).alias(name) for name, value in odd.items()).cast(
                whole.schema
            ).write_parquet(runs)


@pytest.mark.parametrize(
    "kind",
    [
        "no frames", "no requests", "empty file", "torn file", "no parquet", "foreign columns", "other types",
        "all null", "no rows", "a folder", "no session.json", "a newer schema", "a newer frame", "odd values",
    ],
)  # fmt: skip
def test_a_damaged_session_is_a_row_that_says_so_and_the_others_stand(sessions: Path, kind: str) -> None:
    bad, good = (make_session(sessions, {"base": BASE, "fast": [230.0, 233.0, 228.0]}) for _ in range(2))
    damaged(kind, bad)
    comparison = rows(sessions, good, bad)
    table = [row for row in comparison.rows if row.session == good.id]
    assert table[1].verdict.startswith("2.30× faster")
    broken = [row for row in comparison.rows if row.session == bad.id]
    assert broken
    assert all(row.problem or row.status == "not reported" for row in broken)
    assert all(row.ratio is None for row in broken)
    comparison_csv(comparison)


def test_an_older_session_lacks_only_what_it_lacks(sessions: Path) -> None:
    made = make_session(sessions, {"base": BASE, "fast": [230.0, 233.0, 228.0]})
    new = ("method_itl_s_p50", "method_itl_s_p99", "attempt", "bytes_per_token", "weights_digest", "difference")
    before = by_method(rows(sessions, made))["fast"]
    for name in FRAMES:
        frame = pl.read_parquet(made.frame(name))
        frame.drop(new, strict=False).write_parquet(made.frame(name))
    row = by_method(rows(sessions, made))["fast"]
    assert row.problem == ""
    assert (row.ratio, row.itl_s_p99, row.verdict) == (before.ratio, before.itl_s_p99, before.verdict)
    assert row.mbu is None


def test_bytes_turned_over_at_random_raise_nothing(sessions: Path) -> None:
    drawn = random.Random(5)  # noqa: S311 - damage, not a secret
    made = make_session(sessions, {"base": BASE})
    whole = {name: made.frame(name).read_bytes() for name in ("runs", "requests", "tokens")}
    for _ in range(40):
        for name, content in whole.items():
            torn = bytearray(content)
            for _ in range(drawn.choice([1, 5, 50])):
                torn[drawn.randrange(len(torn))] = drawn.randrange(256)
            made.frame(name).write_bytes(torn)
        comparison_csv(rows(sessions, made))


def test_an_older_session_that_comes_first_takes_no_column_from_a_newer_one(sessions: Path) -> None:
    older, newer = (make_session(sessions, {"base": BASE}) for _ in range(2))
    pl.read_parquet(older.frame("runs")).drop("weights_digest").write_parquet(older.frame("runs"))
    scanned = Store(sessions).scan("runs", [older.id, newer.id])
    assert scanned is not None
    assert set(scanned.collect()["weights_digest"].to_list()) == {None, "aa"}
