"""A load for a runner, and what its lines say of the requests in flight."""

from __future__ import annotations

from tests.methods.runner_process import Outcome, unpacked


def four_at_once() -> dict[str, object]:
    """The keys of a job with a closed loop of four: a warm-up and two timed requests in each slot."""
    requests = [
        {"request": number, "warmup": number < 0, "prompt_index": 0, "place": 0, "seed": number + 4}
        for number in range(-4, 8)
    ]
    return {"requests": requests, "points": [{"place": 0, "name": "c4", "concurrency": 4}]}


def ids_by_request(outcome: Outcome) -> dict[int, list[int | None]]:
    """The ids of each, whatever lines they came in."""
    found: dict[int, list[int | None]] = {}
    for line in outcome.of("many"):
        for request, index, _, ids in unpacked(line):
            own = found.setdefault(request, [])
            assert index == len(own)
            own += ids
    return found


def most_in_flight(outcome: Outcome) -> int:
    """How many requests had begun and not ended at once."""
    now = most = 0
    for line in outcome.messages:
        now += {"request": 1, "request_end": -1}.get(str(line["k"]), 0)
        most = max(most, now)
    return most
