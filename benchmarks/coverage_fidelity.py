"""How often the intervals of a method's fidelity hold the truth, and what the verdict says of a known loss.

    python benchmarks/coverage_fidelity.py [SIMULATIONS] [SEED]

Windows of 128 tokens are simulated with a known loss and judged by the code that judges real ones. The difference of a
token's NLL to the reference's is the loss, a part that the window has for itself, a part that follows from the token
before (AR(1), ρ = 0.5), and noise: normal, or Student's t with three degrees of freedom; where the tail is skewed, one
token in fifty loses 0.25 nats more on average, exponentially. Rounding alone has the sd of bf16 on a CPU. Flips cluster
in windows (beta-binomial). A verdict is that of a session in which two methods without a loss make the floor.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sessions.verdict.fidelity_figures import STRATA, Figures, Window
from sessions.verdict.fidelity_floor import floor_of
from sessions.verdict.fidelity_verdict import judge

TOKENS = 128
ROUNDING = 0.02  # sd of a token's difference between two ways of the same arithmetic
LOSS = 0.02
FLIPS = 0.03
CORRELATION = 0.5
LOSSES = (0.0, 0.003, 0.005, 0.01, 0.02)


@dataclass(frozen=True)
class World:
    """What is in the differences besides the loss; in nats."""

    name: str
    window: float = 0.01  # sd of what a window has for itself
    noise: float = 0.1
    heavy: bool = False
    skewed: bool = False
    halves: float = 0.0  # by how much the two strata differ


PLAIN = World("correlated tokens")
WORLDS = (
    PLAIN,
    replace(PLAIN, name="heavy tails", heavy=True),
    replace(PLAIN, name="heavy, skewed tails", heavy=True, skewed=True),
    replace(PLAIN, name="halves 0.01 apart", halves=0.01),
    World("all of these", heavy=True, skewed=True, halves=0.01),
)


def differences(
    world: World, loss: float, sessions: int, windows: int, random: np.random.Generator
) -> NDArray[np.float64]:
    """Of shape (sessions, windows, TOKENS), with the mean `loss`; even windows are of the first stratum."""
    shape = (sessions, windows, TOKENS)
    innovations = random.standard_t(3, shape) / np.sqrt(3) if world.heavy else random.normal(0, 1, shape)
    noise = np.empty(shape)
    noise[..., 0] = innovations[..., 0]
    for place in range(1, TOKENS):
        noise[..., place] = CORRELATION * noise[..., place - 1] + np.sqrt(1 - CORRELATION**2) * innovations[..., place]
    values = loss + world.noise * noise + random.normal(0, world.window, (sessions, windows, 1))
    if world.skewed:
        values += np.where(random.random(shape) < 0.02, random.exponential(0.25, shape), 0) - 0.02 * 0.25
    side = np.where(np.arange(windows) % 2 == 0, 0.5, -0.5)
    result: NDArray[np.float64] = values + world.halves * side[None, :, None]
    return result


def scored(values: NDArray[np.float64], random: np.random.Generator) -> Iterator[Figures]:
    """The sessions' figures; their flips have the mean FLIPS, and differ between windows."""
    chances = random.beta(2, 2 / FLIPS - 2, values.shape[:2])
    flips = random.binomial(TOKENS, chances)
    for session, flipped in zip(values, flips.tolist(), strict=True):
        yield Figures(
            tuple(
                Window(
                    number=number,
                    stratum=STRATA[number % 2],
                    tokens=TOKENS,
                    nll=total,
                    nll_reference=0.0,
                    equal=TOKENS - misses,
                    equal_clear=TOKENS - misses,
                    clear=TOKENS,
                    worst=1.0,
                )
                for number, (total, misses) in enumerate(zip(session.sum(axis=1).tolist(), flipped, strict=True))
            )
        )


def coverage(world: World, sessions: int, windows: int, seed: int) -> tuple[float, float]:
    """How often the 95 % intervals hold the loss and the agreement, as shares."""
    random = np.random.default_rng(seed)
    losses = agreements = 0
    for figures in scored(differences(world, LOSS, sessions, windows, random), random):
        interval = figures.loss.interval() if figures.loss else None
        losses += interval is not None and interval.low <= LOSS <= interval.high
        agreed = figures.agreement
        agreements += agreed is not None and agreed.low <= 1 - FLIPS <= agreed.high
    return losses / sessions, agreements / sessions


def verdicts(loss: float, sessions: int, windows: int, seed: int) -> Counter[str]:
    """How often the verdict on a method of that loss is of which kind."""
    random = np.random.default_rng(seed)
    rounding = World("rounding", window=0.0, noise=ROUNDING)
    kinds: Counter[str] = Counter()
    one, other, own = (
        scored(differences(rounding, each, sessions, windows, random), random) for each in (0.0, 0.0, loss)
    )
    for first, second, method in zip(one, other, own, strict=True):
        even = {name: half for name, each in (("a", first), ("b", second)) if (half := each.half("even"))}
        judged = method.half("odd")
        assert judged is not None
        kinds[judge(method, judged, floor_of(even, "", len(judged.windows))).kind] += 1
    return kinds


def main() -> None:
    sessions = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    print(f"{sessions} simulated sessions a row, seed {seed}\n")
    print("| differences | windows | ΔNLL | top-1 agreement |")
    print("|---|---|---|---|")
    for world in WORLDS:
        for windows in (16, 32):
            losses, agreements = coverage(world, sessions, windows, seed)
            print(f"| {world.name} | {windows} | {losses * 100:.1f} % | {agreements * 100:.1f} % |")
    print("\n| loss, nats a token | no loss found | differs | not decided |")
    print("|---|---|---|---|")
    for loss in LOSSES:
        kinds = verdicts(loss, sessions, 16, seed)
        shares = [kinds[kind] / sessions for kind in ("no loss found", "differs", "open")]
        print(f"| {loss:g} | {' | '.join(f'{share * 100:.1f} %' for share in shares)} |")


if __name__ == "__main__":
    main()
