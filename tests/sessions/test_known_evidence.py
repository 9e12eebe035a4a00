"""What takes a profile is shown once a method, and stands for the blocks that show the same without one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sessions.disk.records import (
    BlockEnded,
    BlockPhase,
    EvidenceTaken,
    Header,
    ReferenceScored,
    Scores,
    Unscored,
    Window,
)
from sessions.disk.session_folder import SessionFolder
from sessions.run.known_evidence import KnownEvidence
from tests.sessions.workplace import Workplace, records_of, runs_of

OPS = {"attention_ops": ["aten::bmm"]}


def taken(block: int, evidence: dict[str, object], profiled: list[str], in_effect: bool | None = True) -> EvidenceTaken:
    return EvidenceTaken(t=0, method="one", block=block, evidence=evidence, profiled=profiled, in_effect=in_effect)


def ended(block: int, status: str = "ok") -> BlockEnded:
    return BlockEnded(t=0, method="one", block=block, status=status)


def fed(*records: Any) -> KnownEvidence:
    known = KnownEvidence()
    for record in records:
        known.feed(record)
    return known


FIRST = taken(
    0,
    {
        "cache": "static", "recompiles_timed": 0, "compile_s": {"warmup": 9.0}, "greedy": {"ids": [1]}, **OPS,
        "vllm_compilation": {"num_inductor_compiles": 23},
        "missing": {"cuda_graphs": "none here", "cached_prompt_tokens": "not said"}, "cuda_graphs": None,
    },
    ["attention_ops", "cuda_graphs"],
)  # fmt: skip


def test_a_later_block_is_told_what_it_must_show_to_need_no_profile() -> None:
    assert fed().of("one").of_job() == {"profiled": None, "greedy": True}
    job = fed(FIRST, ended(0)).of("one").of_job()
    assert job == {"profiled": {"cache": "static", "recompiles_timed": 0}, "greedy": False}
    assert fed(FIRST, ended(0)).of("another").of_job() == {"profiled": None, "greedy": True}


@pytest.mark.parametrize(
    "records",
    [
        (FIRST,),
        (FIRST, ended(0, "failed")),
        (taken(0, FIRST.evidence, FIRST.profiled, in_effect=None), ended(0)),
        (taken(0, {"cache": "static", "missing": {"profile": "it failed"}}, []), ended(0)),
        (FIRST, ended(0), Header(t=1, schema_version=2, session="s", realtime_ns=0, resumed=True)),
        (FIRST, ended(0), taken(1, {**FIRST.evidence, "recompiles_timed": 3}, ["attention_ops"], None), ended(1)),
    ],
)
def test_a_profile_that_was_not_sound_stands_for_no_other_block(records: tuple[Any, ...]) -> None:
    assert fed(*records).of("one").of_job()["profiled"] is None


def test_a_greedy_pass_is_made_until_a_block_that_counts_has_one() -> None:
    again = Header(t=1, schema_version=2, session="s", realtime_ns=0, resumed=True)
    assert fed(FIRST, ended(0), again).of("one").greedy is True
    assert fed(FIRST, ended(0, "stopped")).of("one").greedy is False
    assert fed(taken(0, {"missing": {"greedy": "it failed"}}, []), ended(0)).of("one").greedy is False


REFERENCE = ReferenceScored(t=0, windows=[Window(ids=[1, 2], scored=1, stratum="text")] * 2)
SCORING = BlockPhase(t=0, method="one", block=0, phase="fidelity")


def scores(path: str, window: int) -> Scores:
    return Scores(t=0, method="one", block=0, path=path, window=window, nll=[1.0], top1=[1])


NOT_IN_DECODING = Unscored(t=0, method="one", block=0, path="decode", reason="It cannot.")


@pytest.mark.parametrize(
    ("said", "is_scored"),
    [
        ([SCORING, scores("prefill", 0), scores("prefill", 1), scores("decode", 0), scores("decode", 1)], True),
        ([SCORING, scores("prefill", 0), scores("prefill", 1), NOT_IN_DECODING], True),
        ([SCORING, scores("prefill", 0), scores("prefill", 1), scores("decode", 0)], False),
        ([SCORING], False),
        ([], False),
    ],
)
def test_fidelity_is_scored_until_a_block_that_counts_has_all_of_it(said: list[Any], is_scored: bool) -> None:
    known = fed(REFERENCE, FIRST, *said, ended(0)).of("one")
    assert known.scored == ({"cache": "static", "recompiles_timed": 0} if is_scored else None)
    assert fed(REFERENCE, FIRST, *said, ended(0, "stopped")).of("one").scored is None


def test_fidelity_that_broke_off_twice_is_not_tried_again() -> None:
    once = (FIRST, SCORING, scores("prefill", 0), ended(0))
    assert fed(REFERENCE, *once).of("one").scored is None
    assert fed(REFERENCE, *once, *once).of("one").scored is not None


def test_the_earlier_profile_is_lent_with_its_reasons_and_its_block() -> None:
    known = fed(FIRST, ended(0)).of("one")

    whole = known.complete(taken(2, {"cache": "static", "missing": {"cached_prompt_tokens": "not said"}}, []))

    assert whole.evidence == {
        "cache": "static", **OPS, "cuda_graphs": None,
        "missing": {"cuda_graphs": "none here", "cached_prompt_tokens": "not said"},
    }  # fmt: skip
    assert whole.profiled_block == 0


def test_a_block_that_was_profiled_or_whose_profile_failed_keeps_to_its_own() -> None:
    known = fed(FIRST, ended(0)).of("one")
    own = taken(1, {"cache": "dynamic", "attention_ops": []}, ["attention_ops"])
    failed = taken(1, {"cache": "dynamic", "missing": {"profile": "it failed"}}, [])
    odd = taken(1, {"missing": "all of it"}, [])

    assert known.complete(own) is own
    assert known.complete(failed) is failed
    assert known.complete(odd).evidence["attention_ops"] == ["aten::bmm"]


FAILS = ("evidence", "profile", "greedy")


def told(folder: SessionFolder, method: str) -> list[tuple[int | None, Any, bool]]:
    """Of a method's blocks: the one whose profile stands, the process that made that, and if it has a greedy pass."""
    rows = sorted((row for row in runs_of(folder) if row["method"] == method), key=lambda row: row["block"])
    facts = [json.loads(row["evidence"]) for row in rows]
    return [
        (row["profiled_block"], each.get("profiled_by"), "greedy" in each)
        for row, each in zip(rows, facts, strict=True)
    ]


def test_a_session_profiles_a_method_once_and_says_whose_profile_stands(work: Workplace) -> None:
    folder = work.run(work.method("one", profile=True), blocks=3, requests=3)

    (first, by, passed), *later = told(folder, "one")
    assert (first, passed) == (None, True)
    assert later == [(0, by, False), (0, by, False)]
    rows = sorted(runs_of(folder), key=lambda row: row["block"])
    assert [row["in_effect"] for row in rows] == [True] * 3
    assert [row["in_effect_reason"].endswith("(profiled in an earlier block).") for row in rows] == [False, True, True]
    assert [row["greedy_s"] is not None for row in rows] == [True, False, False]
    reasons = [json.loads(row["missing"])["first_difference"] for row in rows]
    assert reasons[1:] == ["the method's greedy pass was made in another block"] * 2
    jobs = [json.loads(folder.log("one", number).with_suffix(".json").read_text()) for number in range(3)]
    assert [job["profiled"] for job in jobs] == [
        None,
        *[{"device": "cpu", "cache": "dynamic", "attention_ops": None}] * 2,
    ]
    seen = [record for record in records_of(folder) if isinstance(record, EvidenceTaken)]
    assert [record.profiled for record in seen] == [["profiled_by"], [], []]


@pytest.fixture(scope="module")
def failed_first(shared_work: Workplace) -> SessionFolder:
    """A session of three methods; in the first block of each something failed, which its name says."""
    work = shared_work
    names = [
        work.method(at, profile=True, fault="exception", at=at, once=str(work.home / f"failed-{at}")) for at in FAILS
    ]
    return work.run(*names, blocks=3, requests=3)


@pytest.mark.parametrize("at", FAILS)
def test_what_failed_in_the_first_block_is_shown_in_the_next(failed_first: SessionFolder, at: str) -> None:
    (first, by, passed), (second, by_second, passed_second), (third, by_third, _) = told(failed_first, at)

    assert passed_second is (at == "greedy")
    assert passed is (at != "greedy")
    assert first is second is None or at == "greedy"
    assert third == (0 if at == "greedy" else 1)
    assert by_third == (by if at == "greedy" else by_second)
