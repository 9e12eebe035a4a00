"""How often the 95 % interval of a ratio holds the truth, and how often "faster" or "slower" is said of equals.

    python benchmarks/coverage.py [SIMULATIONS] [SEED]

Sessions are simulated with a known ratio and judged by the code that judges real ones. A request's log rate is the sum
of the method's own, its process's (sd 1 %, the reason why the block is the unit of replication), its round's (sd 1 %),
a drift over the session and noise within the block (sd 2 %); blocks run in rounds, in a drawn order.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sessions.verdict.statistics import LogRatio, paired_ratio
from sessions.verdict.verdicts import judge

METHODS = 6  # the reference and five others: the family that Holm's procedure is for
REQUESTS = 100  # per method, spread over its blocks
TRUTH = 1.15


@dataclass(frozen=True)
class World:
    """What disturbs a simulated session; all are shares of the rate."""

    name: str
    process: float = 0.01
    noise: float = 0.02
    drift: float = 0.0  # from the session's begin to its end
    slow_requests: float = 0.0  # the share of requests that take 1.1 to 2 times as long
    slow_blocks: float = 0.0  # the share of blocks beside which something else ran: 2 to 10 % slower


PLAIN = World("nothing else")
WORLDS = (
    PLAIN,
    replace(PLAIN, name="drift of −5 %", drift=-0.05),
    replace(PLAIN, name="3 % slow requests", slow_requests=0.03),
    replace(PLAIN, name="5 % slow blocks", slow_blocks=0.05),
    World("all of these", drift=-0.05, slow_requests=0.03, slow_blocks=0.05),
)


@dataclass(frozen=True)
class Rates:
    """Shares of the simulated sessions. `covered`: the 95 % interval of one ratio holds the truth; `false_positives`:
    one method that equals the reference is called faster or slower; `family`: any of five equals is; `power`: a method
    that is 15 % faster is called so."""

    covered: float
    false_positives: float
    family: float
    power: float


def block_means(
    world: World,
    sessions: int,
    blocks: int,
    ratios: NDArray[np.float64],
    random: np.random.Generator,
    size: int | None = None,
) -> NDArray[np.float64]:
    """Mean tokens/s of every block, of shape (sessions, methods, blocks); `ratios` are the methods' true ones.

    `size` is the number of requests in a block; where None, the session's are spread over its blocks.
    """
    methods = len(ratios)
    shape = (sessions, methods, blocks)
    size = size or REQUESTS // blocks
    order = np.argsort(random.random((sessions, blocks, methods)), axis=2).transpose(0, 2, 1)
    position = (np.arange(blocks) * methods + order) / (blocks * methods)
    block = np.log(ratios)[None, :, None] + random.normal(0, world.process, shape)
    block = block + random.normal(0, 0.01, (sessions, 1, blocks)) + world.drift * position
    beside = random.random(shape) < world.slow_blocks
    block = block + np.where(beside, np.log(1 - random.uniform(0.02, 0.10, shape)), 0)
    rates = np.exp(block[..., None] + random.normal(0, world.noise, (*shape, size)))
    slow = random.random(rates.shape) < world.slow_requests
    means: NDArray[np.float64] = np.where(slow, rates / random.uniform(1.1, 2, rates.shape), rates).mean(axis=3)
    return means


def families(means: NDArray[np.float64]) -> Iterator[list[LogRatio]]:
    """For each session the ratios of all methods to the first."""
    for session in means.tolist():
        ratios = [paired_ratio(values, session[0]) for values in session[1:]]
        yield [ratio for ratio in ratios if ratio is not None]


def simulate(world: World, sessions: int, blocks: int, seed: int) -> Rates:
    """Judge that many simulated sessions."""
    random = np.random.default_rng(seed)
    equal = np.ones(METHODS)
    called = any_called = covered = found = 0
    for family in families(block_means(world, sessions, blocks, equal, random)):
        called += judge(family[:1])[0].kind in ("faster", "slower")
        any_called += any(verdict.kind in ("faster", "slower") for verdict in judge(family))
    for (ratio,) in families(block_means(world, sessions, blocks, np.array([1.0, TRUTH]), random)):
        interval = ratio.interval()
        covered += interval is not None and interval.low <= TRUTH <= interval.high
        found += judge([ratio])[0].kind == "faster"
    return Rates(covered / sessions, called / sessions, any_called / sessions, found / sessions)


def main() -> None:
    sessions = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    print(f"{sessions} simulated sessions a row, seed {seed}\n")
    print("| disturbed by | blocks | coverage | false positives | of five equals | finds 15 % |")
    print("|---|---|---|---|---|---|")
    for world in WORLDS:
        for blocks in (3, 5, 10):
            rates = simulate(world, sessions, blocks, seed)
            shares = (rates.covered, rates.false_positives, rates.family, rates.power)
            print(f"| {world.name} | {blocks} | {' | '.join(f'{share * 100:.1f} %' for share in shares)} |")


if __name__ == "__main__":
    main()
