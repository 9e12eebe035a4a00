"""One attempt at a block with all that it is judged by: its row, its requests, and the telemetry around it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from sessions.disk.frame_schema import FrameRow
from sessions.disk.plan import Plan
from sessions.disk.sampling import Sampling
from sessions.disk.seen_container import SeenContainer, seen_container
from sessions.frames.counting import is_steady, timed_and_ended_well


@dataclass(frozen=True, slots=True)
class Block:
    """One attempt at a block: its row of the runs frame, its requests, and its session's telemetry around it.

    `sources` are the GPUs it used; `cores` how many the machine has, None if unknown.
    """

    run: FrameRow
    requests: pl.DataFrame
    telemetry: pl.DataFrame
    plan: Plan
    sources: Sequence[str] = ()
    cores: int | None = None
    before_ns: int | None = None  # when the block before it ended

    def timed(self) -> pl.DataFrame:
        """The successful timed requests, in the order in which they ran."""
        return self.requests.filter(timed_and_ended_well()).sort("start_ns")

    def steady(self) -> pl.DataFrame:
        """Those of them within the steady part of the point: what ran beside as many others, and so can be compared."""
        return self.timed().filter(is_steady())

    def window(self) -> pl.DataFrame:
        """The telemetry of the timed part; empty if nothing was timed."""
        timed = self.timed()
        begin, end = timed["start_ns"].min(), timed["end_ns"].max()
        return (
            self.telemetry.filter(pl.col("t_ns").is_between(begin, end))
            if begin is not None
            else self.telemetry.clear()
        )

    @property
    def sampling(self) -> Sampling:
        """The plan's, with the length of a response at the point."""
        return replace(self.plan.sampling, max_new_tokens=self.run.get("osl") or self.plan.sampling.max_new_tokens)

    def is_fresh(self) -> bool:
        """Whether it is a process of its own."""
        return all(method.fresh or method.name != self.run.get("method") for method in self.plan.methods)

    def is_told_apart(self) -> bool:
        """Whether its processes are known, and so what they take of CPU and GPU: they descend from its runner, or from
        the first one of a container that was seen."""
        if all(method.below_runner or method.name != self.run.get("method") for method in self.plan.methods):
            return True
        container = self.container()
        return container is not None and container.pid is not None

    def container(self) -> SeenContainer | None:
        """What its server ran in, where that is known."""
        return seen_container(self.resolved())

    def evidence(self) -> Mapping[str, object]:
        """The engine's evidence; empty if it left none."""
        return _object(self.run.get("evidence"))

    def resolved(self) -> Mapping[str, object]:
        """What the engine resolved of what was asked for; empty if it did not say."""
        return _object(self.run.get("resolved"))


def _object(text: object) -> Mapping[str, object]:
    try:
        value = json.loads(text) if isinstance(text, str) else text
    except ValueError:
        return {}
    return value if isinstance(value, Mapping) else {}
