"""Which prompt each request of a load takes."""

from __future__ import annotations

from sessions.disk.plan import Plan, PlannedMethod
from sessions.disk.point import Point
from sessions.run.block_requests import requests_of_job


def test_every_point_has_the_same_prompts_in_every_block_and_warm_ups_have_others() -> None:
    points = [Point(name=f"c{slots}", concurrency=slots, requests=16 * slots, warmup=2) for slots in (1, 2, 4, 8)]
    method = PlannedMethod(name="a", engine="e", environment="t")
    plan = Plan(methods=[method], points=points, blocks=2, requests=2, prompt_tokens=32)
    for block in plan.order():
        requests = requests_of_job(plan, block)["requests"]
        assert len({request["request"] for request in requests}) == len(requests)
        for place, point in enumerate(points):
            own = [request for request in requests if request["place"] == place]
            timed = [request["prompt_index"] for request in own if not request["warmup"]]
            assert timed == [position % 64 for position in range(point.requests)]
            assert {request["prompt_index"] for request in own if request["warmup"]} == {62, 63}
