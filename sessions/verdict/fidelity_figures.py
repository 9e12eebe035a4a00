"""What the scored windows of a method say of its fidelity: loss, agreement, tail and divergence, with intervals.

A window is the unit of replication, because tokens in one text are correlated. All logarithms are natural, so that a
loss is in nats a token. docs/statistics.md explains each figure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from sessions.verdict.statistics import CONFIDENCE, LEAST_BLOCKS, Interval, t_quantile

Path = Literal["prefill", "decode"]
PATHS: Final[tuple[Path, ...]] = ("prefill", "decode")
STRATA: Final = ("text", "greedy")
RESAMPLES: Final = 2000
SEED: Final = 20261128
NORMAL: Final = 1.959963984540054  # the two-sided 95 % quantile


@dataclass(frozen=True, slots=True)
class Window:
    """One window as a method scored it. `nll` and `nll_reference` are sums over its `tokens`, in nats, as are `kl` and
    `kl_bound`, which are None where they are not known; `clear` counts the tokens at which the reference's two
    likeliest are 0.1 nats apart or more, `equal` and `equal_clear` those at which the likeliest token is the
    reference's. `differences` has NLL − reference's NLL of each token."""

    number: int
    stratum: str
    tokens: int
    nll: float
    nll_reference: float
    equal: int
    equal_clear: int
    clear: int
    kl: float | None = None
    kl_bound: float | None = None
    worst: float | None = None
    non_finite: int = 0
    differences: Sequence[float] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean per token over windows, or a ratio of sums, with its standard error, which is None under three windows."""

    estimate: float
    error: float | None
    windows: int

    def interval(self, confidence: float = CONFIDENCE) -> Interval | None:
        """Student's t with one degree of freedom less than there are windows; None under three of them."""
        if self.error is None:
            return None
        half = t_quantile(confidence, self.windows - 1) * self.error
        return Interval(self.estimate, self.estimate - half, self.estimate + half)


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures over some windows, of which there is at least one."""

    windows: tuple[Window, ...]

    @property
    def tokens(self) -> int:
        return sum(window.tokens for window in self.windows)

    @property
    def non_finite(self) -> int:
        """How many scores were not finite numbers; a loss is then not known."""
        return sum(window.non_finite for window in self.windows)

    @property
    def loss(self) -> Mean | None:
        """ΔNLL, NLL − reference's NLL in nats a token, paired by window as in llama.cpp's ln(PPL(Q)/PPL(base))."""
        if self.non_finite:
            return None
        return per_token(self.windows, lambda window: window.nll - window.nll_reference)

    @property
    def perplexity_ratio(self) -> float | None:
        """exp(ΔNLL): the method's perplexity ÷ the reference's; None where no float holds it."""
        loss = self.loss
        return math.exp(loss.estimate) if loss and loss.estimate < 700 else None

    @property
    def divergence(self) -> Mean | None:
        """KL(reference‖method) in nats a token, Σ p (ln p − ln q) over the vocabulary; None without full logits."""
        return _known(self.windows, lambda window: window.kl)

    @property
    def divergence_bound(self) -> Mean | None:
        """A lower bound of it: KL of the reference's likeliest tokens and one bin of the rest (data processing)."""
        return _known(self.windows, lambda window: window.kl_bound)

    @property
    def identical(self) -> bool:
        """Whether every score and every likeliest token is the reference's."""
        same = all(window.nll == window.nll_reference and window.equal == window.tokens for window in self.windows)
        return same and self.worst == 0 and not self.non_finite

    @property
    def worst(self) -> float | None:
        """The largest |NLL − reference's NLL| of a token, in nats."""
        told = [window.worst for window in self.windows if window.worst is not None]
        return max(told) if told and not self.non_finite else None

    @property
    def p99(self) -> float | None:
        """The 99th percentile of |NLL − reference's NLL| over tokens, in nats, interpolated linearly."""
        each = np.abs(np.concatenate([np.asarray(window.differences, dtype=np.float64) for window in self.windows]))
        return float(np.quantile(each, 0.99)) if each.size and np.isfinite(each).all() else None

    @property
    def agreement(self) -> Interval | None:
        """The share of tokens at which the likeliest token is the reference's."""
        return share(self._counts(lambda window: window.equal, lambda window: window.tokens))

    @property
    def clear_agreement(self) -> Interval | None:
        """The same outside the reference's near ties, where a flip is evidence of a loss; None without such a token."""
        return share(self._counts(lambda window: window.equal_clear, lambda window: window.clear))

    @property
    def near_agreement(self) -> Interval | None:
        """The same within its near ties, where a flip is noise; None without one."""
        return share(
            self._counts(lambda window: window.equal - window.equal_clear, lambda window: window.tokens - window.clear)
        )

    def of_stratum(self, stratum: str) -> Figures | None:
        own = tuple(window for window in self.windows if window.stratum == stratum)
        return Figures(own) if own else None

    def half(self, which: Literal["even", "odd"]) -> Figures | None:
        """Every other window of each stratum, by number: two halves that share none."""
        rest = 0 if which == "even" else 1
        own = tuple(
            window
            for stratum in dict.fromkeys(window.stratum for window in self.windows)
            for place, window in enumerate(
                sorted((w for w in self.windows if w.stratum == stratum), key=lambda window: window.number)
            )
            if place % 2 == rest
        )
        return Figures(own) if own else None

    def _counts(self, hits: Callable[[Window], int], of: Callable[[Window], int]) -> list[tuple[int, int]]:
        return [(hits(window), of(window)) for window in self.windows]


def per_token(windows: Sequence[Window], total: Callable[[Window], float]) -> Mean:
    """Σ of the windows' totals ÷ Σ of their tokens, with a standard error from the windows.

    With windows of one length this is the mean of the window means d_w, and the error s(d)/√W.
    """
    return ratio_of_sums([total(window) for window in windows], [window.tokens for window in windows])


def ratio_of_sums(totals: Sequence[float], sizes: Sequence[float]) -> Mean:
    """Σ totals ÷ Σ sizes of as many windows; the sizes are not negative, and their sum is over 0.

    Its error is √(W/(W−1) Σ(D_w − R n_w)²) ÷ Σ n_w with totals D and sizes n (W. G. Cochran, Sampling Techniques, 3rd
    edition, 1977, section 6.3).
    """
    count, whole = len(totals), math.fsum(sizes)
    ratio = math.fsum(totals) / whole
    if count < LEAST_BLOCKS:
        return Mean(ratio, None, count)
    squares = math.fsum((each - ratio * own) ** 2 for each, own in zip(totals, sizes, strict=True))
    return Mean(ratio, math.sqrt(count / (count - 1) * squares) / whole, count)


def share(counts: Sequence[tuple[int, int]]) -> Interval | None:
    """Σ hits ÷ Σ of, from each window's (hits, of), with a 95 % interval; None where there is nothing to count.

    The bootstrap over windows (B. Efron, Annals of Statistics 7, 1979, 1–26), its percentiles expanded as few windows
    need it (T. Hesterberg, The American Statistician 69, 2015, 371–386), and never narrower than Wilson's interval for
    as many independent tokens, which remains where no window shows a miss.
    """
    hits, of = sum(hit for hit, _ in counts), sum(each for _, each in counts)
    if not of:
        return None
    low, high = wilson(hits, of)
    if len(counts) >= LEAST_BLOCKS and 0 < hits < of:
        lowest, highest = _bootstrap(np.array(counts, dtype=np.float64))
        low, high = min(low, lowest), max(high, highest)
    return Interval(hits / of, low, high)


def wilson(hits: int, of: int) -> tuple[float, float]:
    """The 95 % score interval of a share (E. B. Wilson, JASA 22, 1927, 209–212); `of` is over 0."""
    observed, square = hits / of, NORMAL**2
    centre = (observed + square / (2 * of)) / (1 + square / of)
    half = NORMAL / (1 + square / of) * math.sqrt(observed * (1 - observed) / of + square / (4 * of * of))
    return (0.0 if hits == 0 else centre - half), (1.0 if hits == of else centre + half)


def _bootstrap(counts: NDArray[np.float64]) -> tuple[float, float]:
    """The expanded percentiles, Φ(∓√(n/(n−1)) t), of the share in samples of the n windows with replacement, from a
    fixed seed."""
    from scipy.special import ndtr

    n = len(counts)
    tail = float(ndtr(-math.sqrt(n / (n - 1)) * t_quantile(CONFIDENCE, n - 1)))
    drawn = np.random.default_rng(SEED).integers(0, n, (RESAMPLES, n))
    sums = counts[drawn].sum(axis=1)
    told = sums[:, 1] > 0
    low, high = np.quantile(sums[told, 0] / sums[told, 1], [tail, 1 - tail])
    return float(low), float(high)


def _known(windows: Sequence[Window], value: Callable[[Window], float | None]) -> Mean | None:
    told = [value(window) for window in windows]
    if any(each is None or not math.isfinite(each) for each in told):
        return None
    return per_token(windows, lambda window: value(window) or 0.0)
