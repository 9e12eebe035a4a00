"""Jobs of a load: the same prompts alone, and then many at once."""

from __future__ import annotations

from tests.methods.runner_process import Outcome, measure_job

PROMPTS = ([504, 3575, 282, 4649, 314], [504, 3575], [1, 504, 3575, 282], [3575, 282, 4649])
GREEDY = {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0}


def load_job(
    engine: str, at_once: dict[str, object], *, tokens: int = 6, rounds: int = 1, **changes: object
) -> dict[str, object]:
    """One warm-up and each of PROMPTS alone, then all of them `rounds` times at the point `at_once`."""
    count = len(PROMPTS)
    alone = [{"request": -1, "warmup": True, "prompt_index": 0, "place": 0, "seed": 1}]
    alone += [{"request": n, "warmup": False, "prompt_index": n, "place": 0, "seed": 1} for n in range(count)]
    many = [
        {"request": n, "warmup": False, "prompt_index": n % count, "place": 1, "seed": 1}
        for n in range(count, count + rounds * count)
    ]
    points = [{"place": 0, "name": "alone"}, {"place": 1, "name": "many", **at_once}]
    sampling = {"max_new_tokens": tokens, "stop_token_ids": [], **GREEDY}
    shape = {"prompts": list(PROMPTS), "requests": [*alone, *many], "points": points, "sampling": sampling}
    return measure_job(engine, **{**shape, **changes})


def alone_and_at_once(outcome: Outcome, rounds: int = 1) -> list[tuple[list[int], list[list[int]]]]:
    """For each prompt the ids that came alone, and those of each round at once."""
    count = len(PROMPTS)
    return [
        (outcome.tokens(n)[1], [outcome.tokens(count + r * count + n)[1] for r in range(rounds)]) for n in range(count)
    ]


def ends_of(outcome: Outcome) -> list[tuple[object, object, object]]:
    """How each point ended, and why."""
    return [(line["place"], line["status"], line.get("error", "")) for line in outcome.of("point_end")]
