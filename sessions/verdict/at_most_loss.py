"""The fastest method that keeps within a loss: `kasoku compare --at-most-loss`."""

from __future__ import annotations

from collections.abc import Sequence

from sessions.verdict.comparison_row import ComparisonRow
from sessions.verdict.fidelity_words import nats


def within(rows: Sequence[ComparisonRow], most: float) -> list[ComparisonRow]:
    """The rows whose interval's upper end is at most so many nats a token on both paths, the fastest first.

    What is not known never is within it, and neither does a method count that was not in effect.
    """
    kept = [
        (row.tok_s_mean, row)
        for row in rows
        if row.tok_s_mean is not None
        and row.in_effect is not False
        and row.loss_at_most is not None
        and row.loss_at_most <= most
    ]
    return [row for _, row in sorted(kept, key=lambda pair: -pair[0])]


def sentence(rows: Sequence[ComparisonRow], most: float) -> str:
    """The fastest of them, or that there is none, and what of the others is not known."""
    bound = f"{nats(most)} nats a token"
    if not any(row.fidelity or row.fidelity_decode for row in rows):
        return f"No method is known to lose at most {bound}: fidelity was not measured here."
    kept = within(rows, most)
    if kept and (end := kept[0].loss_at_most) is not None:
        best = kept[0]
        several = len({row.session for row in rows}) > 1
        name = f"{best.method} of {best.session}" if several else best.method
        speed = f"{best.tok_s_mean:.1f} tokens/s"
        speed += f", {best.ratio:.2f}× {best.reference}" if best.ratio is not None else ""
        return f"Fastest with a loss of at most {bound}: {name} ({speed}), which loses at most {nats(end)}."
    unknown = list(dict.fromkeys(row.method for row in rows if row.loss_at_most is None))
    beside = f"; not known in prefill and in decoding: {', '.join(unknown)}" if unknown else ""
    return f"No method is known to lose at most {bound}{beside}."
