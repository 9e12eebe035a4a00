"""How often the interval at the stop holds the truth, in sessions that measure until they are decided or are extended.

    python benchmarks/coverage_until.py [SIMULATIONS] [SEED]

Sessions are simulated as in benchmarks/coverage.py, a round at a time, and stopped and judged by the code that does so
with real ones. Their spreads are those of committed sessions: between two blocks' log ratios 3 to 17 % on two CPU cores
(docs/results/article-cpu.csv), 3 to 22 % on an H200 (docs/results/h200.csv, article-own-stack-h200.csv).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.coverage import METHODS, PLAIN, World, block_means
from sessions.verdict.statistics import LEAST_BLOCKS, LogRatio, paired_ratio, t_quantile
from sessions.verdict.stopping import done, looked_at
from sessions.verdict.verdicts import judge

UNTIL = 0.05
MOST = 40  # rounds
REQUESTS = 6  # a block

WORLDS = (
    PLAIN,
    World("as on two CPU cores", process=0.04, noise=0.05, drift=-0.05, slow_requests=0.03, slow_blocks=0.05),
    World("as on an H200", process=0.06, noise=0.08, slow_requests=0.03),
    World("as on two shared CPU cores", process=0.07, noise=0.06, slow_requests=0.03, slow_blocks=0.2),
)
TRUTHS = (1.0, 1.02, 1.05, 1.15, 2.0)


@dataclass(frozen=True)
class Stopped:
    """A simulated session at its stop: each method's ratio, as it is judged, by name."""

    ratios: dict[str, LogRatio]

    def says_different(self) -> bool:
        """Whether any method is called faster or slower."""
        return any(verdict.kind in ("faster", "slower") for verdict in judge(list(self.ratios.values())))

    def undecided(self) -> bool:
        verdicts = judge(list(self.ratios.values()))
        return any(verdict.kind in ("undecided", "not apart") for verdict in verdicts)


Means = dict[str, list[float]]  # by method, a block each; "0" is the reference
Stop = Callable[[Means], Stopped]


def ratios_of(means: Means, rounds: dict[str, int]) -> dict[str, LogRatio]:
    """Of each method to the reference over its first rounds."""
    found = {}
    for name, taken in rounds.items():
        ratio = paired_ratio(means[name][:taken], means["0"][:taken])
        assert ratio is not None
        found[name] = ratio
    return found


def until_decided(means: Means, until: float = UNTIL, most: int = MOST, began: dict[str, int] | None = None) -> Stopped:
    """Rounds are added while any method needs them, as sessions/run/rounds.py does."""
    rounds = dict(began) if began else dict.fromkeys([name for name in means if name != "0"], LEAST_BLOCKS)
    settled: set[str] = set()
    while True:
        ratios = ratios_of(means, rounds)
        settled |= done(ratios, until)
        taking = [name for name in rounds if name not in settled and rounds[name] < most]
        if not taking:
            return Stopped({name: looked_at(ratio) for name, ratio in ratios.items()})
        for name in taking:
            rounds[name] += 1


def extended_twice(means: Means, blocks: int = 5) -> Stopped:
    """A fixed number of rounds, and twice as many where the verdicts are not decided, and once more."""
    names = [name for name in means if name != "0"]
    stopped = Stopped(ratios_of(means, dict.fromkeys(names, blocks)))
    for more in (2 * blocks, 4 * blocks):
        if not stopped.undecided():
            break
        ratios = ratios_of(means, dict.fromkeys(names, more))
        stopped = Stopped({name: looked_at(ratio) for name, ratio in ratios.items()})
    return stopped


def asked_for_more(means: Means) -> Stopped:
    """±10 % first; where that leaves a verdict undecided ±5 %, and then ±3 %."""
    stopped = until_decided(means, 0.10)
    for until in (0.05, 0.03):
        if not stopped.undecided():
            break
        stopped = until_decided(means, until, MOST, {name: ratio.blocks for name, ratio in stopped.ratios.items()})
    return stopped


RULES: dict[str, Stop] = {
    "until ±5 %": until_decided,
    "5 blocks, extended twice": extended_twice,
    "until ±10 %, 5 %, 3 %": asked_for_more,
}


def sessions_of(world: World, truth: float, methods: int, count: int, random: np.random.Generator) -> Iterator[Means]:
    """Simulated sessions long enough for every rule."""
    ratios = np.full(methods, truth)
    ratios[0] = 1.0
    means: NDArray[np.float64] = block_means(world, count, MOST, ratios, random, REQUESTS)
    for session in means.tolist():
        yield {str(place): values for place, values in enumerate(session)}


def price(stopped: list[Stopped]) -> tuple[float, float]:
    """Mean rounds to the stop, and how many a fixed number would take for an interval as wide on average."""
    ratios = [ratio for each in stopped for ratio in each.ratios.values()]
    rounds = float(np.mean([ratio.blocks for ratio in ratios]))
    widths, spreads = [], []
    for ratio in ratios:
        interval = ratio.interval()
        if interval is not None and ratio.error is not None:
            widths.append(np.log(interval.high / interval.low) / 2)
            spreads.append((ratio.error**2 * ratio.blocks, ratio.blocks - 1))
    spread = float(np.sqrt(sum(v * d for v, d in spreads) / sum(d for _, d in spreads)))
    wanted = float(np.mean(widths))
    fixed = LEAST_BLOCKS
    while t_quantile(0.95, fixed - 1) * spread / np.sqrt(fixed) > wanted and fixed < 10 * MOST:
        fixed += 1
    return rounds, float(fixed)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    print(f"{count} simulated sessions a figure, seed {seed}\n")
    truths = " · ".join(f"{truth:g}" for truth in TRUTHS)
    print(f"| rule | spread | coverage at the stop, true ratio {truths} | of five equals | rounds, fixed |")
    print("|---|---|---|---|---|")
    for name, stop in RULES.items():
        for world in WORLDS:
            random = np.random.default_rng(seed)
            covered, paid = [], []
            for truth in TRUTHS:
                held = 0
                ends = [stop(means) for means in sessions_of(world, truth, 2, count, random)]
                for end in ends:
                    interval = end.ratios["1"].interval()
                    held += interval is not None and interval.low <= truth <= interval.high
                covered.append(held / count)
                paid.append(price(ends))
            equals = sessions_of(world, 1.0, METHODS, count, random)
            family = sum(stop(means).says_different() for means in equals) / count
            shares = " · ".join(f"{share * 100:.1f}" for share in covered)
            print(f"| {name} | {world.name} | {shares} % | {family * 100:.1f} % | {paid[0][0]:.1f}, {paid[0][1]:.0f} |")


if __name__ == "__main__":
    main()
