"""The requests of a block, for its runner's job and for what is expected of it."""

from __future__ import annotations

from typing import Any

from sessions.disk.plan import Plan, PlannedBlock
from sessions.planning.prompt_ids import prompt_index
from sessions.run.requests_in_flight import PlannedPart


def requests_of_job(plan: Plan, block: PlannedBlock) -> dict[str, Any]:
    """The keys `requests` and, where there is a load, `points` of a job: in the order in which they are carried out."""
    parts = plan.parts(block)
    if not plan.has_load:
        return {
            "requests": [
                {"request": number, "warmup": number < 0, "prompt_index": 0, "seed": plan.request_seed(number)}
                for part in parts
                for number in [*part.warmups, *part.timed]
            ]
        }
    requests, points = [], []
    for part in parts:
        point = plan.points[part.place]
        requests += [
            {
                "request": number,
                "warmup": number < 0,
                "place": part.place,
                "prompt_index": prompt_index(plan, part.place, position),
                "max_new_tokens": plan.new_tokens(part.place),
                "depth": point.depth,
                "seed": plan.request_seed(number),
            }
            for position, number in enumerate([*part.warmups, *part.timed], -len(part.warmups))
        ]
        points.append(
            {
                "place": part.place,
                "name": point.name,
                "batch": point.batch,
                "concurrency": point.concurrency,
                "rate": point.rate,
                "burstiness": point.burstiness,
                "seed": f"{plan.seed} {block.block} {part.place}",  # of the gaps: the same for every method
            }
        )
    return {"requests": requests, "points": points}


def planned_parts(plan: Plan, block: PlannedBlock) -> list[PlannedPart]:
    """What the block's runner may do, and in which order."""
    return [
        PlannedPart(
            place=part.place,
            warmups=part.warmups,
            timed=part.timed,
            max_new_tokens=plan.new_tokens(part.place),
            in_flight=plan.points[part.place].in_flight,
        )
        for part in plan.parts(block)
    ]
