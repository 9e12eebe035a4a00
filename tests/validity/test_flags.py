from __future__ import annotations

import itertools

import pytest

from sessions.disk.plan import Plan
from sessions.disk.sampling import Sampling
from sessions.frames.flags import block_flags, lengths_beside, merged, outliers, several
from sessions.frames.judged_block import Block
from tests.validity.made_frames import PLAN, TOKENS, block, evidence, requests, run, telemetry, tenths

SAMPLED = Plan(
    sampling=Sampling(max_new_tokens=TOKENS, temperature=0.8, top_p=0.95, top_k=50, repetition_penalty=1.1),
    dtype="bfloat16",
)


def flags(made: Block) -> list[str]:
    return [str(flag) for flag in block_flags(made)]


def test_a_block_without_a_flaw_has_no_flag() -> None:
    assert flags(block()) == []


@pytest.mark.parametrize(
    ("made", "flag"),
    [
        (
            block(run(in_effect=False, in_effect_reason="0 frames were compiled.")),
            "method not in effect: 0 frames were compiled.",
        ),
        (block(run(dtype="float32")), "other dtype: the weights were loaded as float32, not bfloat16"),
        (
            block(run(resolved=evidence(quantisation={"method": "fp8", "dequantised": True}))),
            "dequantised: the weights are stored quantised (FP8) but were measured as bfloat16",
        ),
        (
            block(run(resolved=evidence(unused_weights={"tensors": 2, "such_as": "score.weight"}))),
            "part of the weights not used: 2 tensors in the model's files, such as score.weight",
        ),
        (
            block(run(resolved=evidence(unread_weights={"tensors": 1, "such_as": "lm_head.weight"}))),
            "weights not in the files: 1 tensor of the model that the engine read nothing for, such as lm_head.weight",
        ),
        (
            block(rows=requests([64.0] * 6, output_tokens=[64, 60, 64, 17, 64, 64])),
            "output lengths differ: 2 of 6 timed responses have 17 to 60 tokens, not 64",
        ),
        (
            block(rows=requests([64.0] * 6, cached_prompt_tokens=[0, 40, 40, 40, 40, 32])),
            "prompt from a prefix cache: up to 40 of 48 prompt tokens in 5 of 6 timed requests",
        ),
        (
            block(run(evidence=evidence(cached_prompt_tokens=16))),
            "prompt from a prefix cache: the engine reused 16 prompt tokens of earlier requests",
        ),
        (
            block(run(evidence=evidence(recompiles_timed=2))),
            "recompilation in the timed part: 2 frames recompiled",
        ),
        (
            block(run(evidence=evidence(sampling={"choice": "sampled"}))),
            "sampling parameters not as requested: the profiled step chose its token by sampling",
        ),
        (
            block(
                run(resolved=evidence(sampling={"do_sample": True, "temperature": 0.8, "top_p": 1.0, "top_k": 50})),
                plan=SAMPLED,
            ),
            "sampling parameters not as requested: top_p is 1, not 0.95",
        ),
        (
            block(rows=requests([40.0, *[64.0] * 11])),
            "warm-up not settled: the first timed request ran 38 % slower than the others",
        ),
        (
            block(rows=requests([64.0, 64.4, 63.8, 64.1, 62, 62, 60.1, 60.2, 59.8, 60.0])),
            "drift: the last third of the requests ran 6.3 % slower than the first",
        ),
        (
            block(readings=telemetry(tenths(8, 40), host__cpu_percent=95, runner__cpu_percent=100)),
            "CPU contention: other processes used 0.9 of 2 cores during the timed part",
        ),
        (
            block(readings=telemetry([*tenths(8, 25), *tenths(28.5, 40)], host__cpu_percent=50)),
            "telemetry gaps: nothing was sampled for 3.5 s of the timed part",
        ),
        (
            block(run(energy_j=1000.0, power_integral_j=1080.0)),
            "energy readings disagree: the counter says 1000 J, the integral of the power 1080 J",
        ),
        (
            block(readings=telemetry(tenths(8, 40), gpu0__throttle_reasons=[0x20] * 200 + [0] * 121), sources=["gpu0"]),
            "clocks throttled: thermal slowdown by software in 61 % of the samples of gpu0",
        ),
        (
            block(
                readings=telemetry(tenths(8, 40), gpu0__processes=[1] * 30 + [2] * 291, host__cpu_percent=5),
                sources=["gpu0"],
            ),
            "another process on the GPU: 1 compute process on gpu0 before the block's own",
        ),
        (
            block(
                readings=telemetry(
                    tenths(8, 40), gpu0__processes=[0] * 30 + [1] * 150 + [2] * 141, host__cpu_percent=5
                ),
                sources=["gpu0"],
            ),
            "another process on the GPU: 1 compute process more on gpu0 than at the start of the timed part",
        ),
        (
            block(
                readings=telemetry(
                    tenths(8, 40),
                    gpu0__processes=[0] * 30 + [1] * 20 + [3] * 271,
                    gpu0__foreign_processes=[0] * 50 + [2] * 271,
                    host__cpu_percent=5,
                ),
                sources=["gpu0"],
            ),
            "another process on the GPU: 2 compute processes of other programs on gpu0 during the timed part",
        ),
        (
            block(run(evidence=evidence(incomparable=["float16 instead of bfloat16", "at most 16 new tokens"]))),
            "incomparable: float16 instead of bfloat16, at most 16 new tokens",
        ),
    ],
    ids=itertools.count(),
)
def test_each_planted_flaw_is_flagged_with_its_cause(made: Block, flag: str) -> None:
    assert flags(made) == [flag]


def test_what_is_normal_is_not_flagged() -> None:
    noisy = requests([64.0, 63.2, 64.9, 65.1, 63.5, 64.2, 64.8, 63.1, 64.0])
    assert flags(block(rows=noisy)) == []
    beside = telemetry(tenths(8, 40), host__cpu_percent=52, runner__cpu_percent=100, gpu0__throttle_reasons=1)
    assert flags(block(readings=beside, sources=["gpu0"])) == []
    asked = {"do_sample": True, "temperature": 0.8, "top_p": 0.95, "top_k": 50, "repetition_penalty": 1.1}
    assert flags(block(run(resolved=evidence(sampling=asked)), plan=SAMPLED)) == []
    own = telemetry(tenths(8, 40), gpu0__processes=[0] * 30 + [1] * 291)
    assert flags(block(readings=own, sources=["gpu0"])) == []
    workers = telemetry(tenths(8, 40), gpu0__processes=[0] * 30 + [1] * 80 + [4] * 211)  # before the timed part
    assert flags(block(readings=workers, sources=["gpu0"])) == []
    late = telemetry(tenths(8, 40), gpu0__processes=[1] * 150 + [2] * 171, gpu0__foreign_processes=0)
    assert flags(block(readings=late, sources=["gpu0"], before_ns=11_000_000_000)) == []
    assert flags(block(run(evidence=evidence(incomparable=[])))) == []


def test_a_process_of_the_block_before_is_no_stranger() -> None:
    readings = telemetry(tenths(8, 40), gpu0__processes=[1] * 10 + [0] * 311)
    assert flags(block(readings=readings, sources=["gpu0"], before_ns=9_000_000_000)) == []


def test_evidence_that_is_no_evidence_raises_nothing() -> None:
    for text in (
        None,
        "",
        "{",
        "[1]",
        '{"recompiles_timed": "many", "sampling": 3, "cached_prompt_tokens": NaN}',
        '{"incomparable": 3}',
        '{"incomparable": [1, null, ""]}',
    ):
        assert flags(block(run(evidence=text, resolved=text))) == []


def test_nothing_timed_is_no_error() -> None:
    assert flags(block(rows=requests([]), plan=PLAN)) == []


def test_free_lengths_are_held_against_the_references() -> None:
    assert [str(flag) for flag in lengths_beside([100, 110], [120, 130], "baseline")] == [
        "output lengths differ: 105.0 tokens per response on average, 125.0 for baseline"
    ]
    assert not list(lengths_beside([100, 100], [100, 100], "baseline"))


def test_an_outlier_names_what_was_different() -> None:
    rates = [64.0, 64.2, 40.0, 63.9, 64.1, 64.0, 63.8]
    held = telemetry(tenths(8, 40), gpu0__throttle_reasons=[4 if 22.2 < s < 23.6 else 0 for s in tenths(8, 40)])
    found = outliers(block(rows=requests(rates), readings=held, sources=["gpu0"]))
    assert {number: str(flag) for number, flag in found.items()} == {
        2: "outlier: 38 % slower than the median; power cap on gpu0"
    }
    assert str(several(found, 7)) == (
        "outliers: 1 of 7 timed requests, such as request 2: 38 % slower than the median; power cap on gpu0"
    )
    alone = outliers(block(rows=requests(rates)))
    assert str(alone[2]).endswith("no cause visible in the telemetry")


def test_the_flags_of_many_blocks_are_a_line_each() -> None:
    assert merged([(0, "drift: 4 %"), (1, "drift: 6 %"), (2, "outlier")]) == ("drift: 4 % (in 2 blocks)", "outlier")
