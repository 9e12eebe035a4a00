"""A comparison's answer in a few sentences: the fastest, by how much, how sure, at what loss, and what to doubt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sessions.verdict.load_row import LoadRow
from sessions.verdict.verdicts import percent, says_faster
from tui.words import figures
from tui.words.terminal_text import one_line

if TYPE_CHECKING:
    from sessions.verdict.comparison import Comparison
    from sessions.verdict.comparison_row import ComparisonRow

MOST_NAMES, MOST_AHEAD = 6, 2
REMEDY = ": b compares with another"
Said = tuple[str, str]  # a sentence and the name of its style


def headline(comparison: Comparison) -> str:
    """The first sentence: which method is fastest, and by how much; empty where nothing was measured to its end."""
    rows = _judged(comparison)
    return _headline(rows)[0].replace(REMEDY, "") if _best(rows) is not None else ""  # a key of Compare alone


def answer(comparison: Comparison) -> list[Said]:
    """The sentences in order; the first is the headline."""
    rows = _judged(comparison)
    said = [_headline(rows)]
    best = _best(rows)
    if best is not None:
        said += _rivals(rows, best)
    said += _sureness(comparison, rows)
    if best is not None:
        said += _loss(comparison, best)
    return said + _doubts(comparison, rows, best)


def _judged(comparison: Comparison) -> list[ComparisonRow]:
    """Of a load only the point that is judged, which is the first."""
    points = [getattr(row, "point", "") for row in comparison.rows]
    return [row for row, point in zip(comparison.rows, points, strict=True) if point == points[0]]


def _mean(row: ComparisonRow) -> float | None:
    """Tokens/s; under load those of all requests in flight together."""
    return row.tok_s_total if isinstance(row, LoadRow) else row.tok_s_mean


def _ends(row: ComparisonRow) -> tuple[float | None, float | None]:
    """The 95 % interval of the mean."""
    return (row.tok_s_total_low, row.tok_s_total_high) if isinstance(row, LoadRow) else (row.tok_s_low, row.tok_s_high)


def _counts(row: ComparisonRow) -> bool:
    return _mean(row) is not None and row.in_effect is not False and not row.problem


def _rate(row: ComparisonRow) -> float:
    return _mean(row) or 0.0


def _best(rows: Sequence[ComparisonRow]) -> ComparisonRow | None:
    """The fastest that was in effect: of those whose verdict says so, or where there are none of all."""
    able = [row for row in rows if _counts(row)]
    shown = [row for row in able if says_faster(row.verdict)]
    return max(shown or able, key=_rate, default=None)


def _headline(rows: Sequence[ComparisonRow]) -> Said:
    best = _best(rows)
    if best is None:
        return "Nothing was measured to its end: the rows below say why.", "bad"
    name, at = one_line(best.method, 60), getattr(best, "point", "")
    at = f" at {one_line(at, 40)}" if at else ""
    rate = f"{figures.rate(_mean(best))} tokens/s"
    if says_faster(best.verdict):
        low, high = best.ratio_interval or (None, None)
        span = f" ({figures.ratio(low)}–{figures.ratio(high)})" if low is not None else ""
        certain = " that is certain" if _ahead(rows, best) else ""
        times = f"{figures.ratio(best.ratio)}× {_reference(best)}{span}"
        return f"{name} is the fastest{certain}{at}: {times}, {rate}.", "good"
    if len([row for row in rows if _counts(row)]) == 1:
        return f"{name} reached {rate}{at}.", ""
    if best.compared_with is None:
        return f"Nothing was faster than {name}{at}, which reached {rate}.", ""
    if best.ratio is None and best.compared_with not in {row.method for row in rows if row.blocks}:
        missing = f"{_reference(best)}, which it is compared with, was not measured here{REMEDY}"
        return f"{name} has the highest mean{at}, {rate}, but {missing}.", "warning"
    closest = f"{name} came closest: {best.verdict}"
    return f"Nothing was shown to be faster than {_reference(best)}{at}; {closest}.", "warning"


def _ahead(rows: Sequence[ComparisonRow], best: ComparisonRow) -> list[ComparisonRow]:
    """Those with a higher mean whose verdict does not say that they are faster."""
    return [row for row in rows if _counts(row) and row is not best and _rate(row) > _rate(best)]


def _rivals(rows: Sequence[ComparisonRow], best: ComparisonRow) -> list[Said]:
    """Who may be as fast as the fastest: ratios to other references do not say that."""
    if not says_faster(best.verdict):
        return []
    ahead = _ahead(rows, best)
    said = [
        f"{one_line(row.method, 60)} came out at {figures.rate(_mean(row))} tokens/s, but against"
        f" {_reference(row)} that is open: {row.verdict}."
        for row in sorted(ahead, key=_rate, reverse=True)[:MOST_AHEAD]
    ]
    least = _ends(best)[0]
    others = [row for row in rows if _counts(row) and row is not best and row not in ahead]
    close = [
        one_line(row.method, 60)
        for row in others
        if least is not None and (most := _ends(row)[1]) is not None and most > least
    ]
    if close:
        whose = "its interval overlaps" if len(close) == 1 else "their intervals overlap"
        said.append(f"{_some(close)} may be as fast: {whose}.")
    return [(sentence, "warning") for sentence in said]


def _some(names: Sequence[str]) -> str:
    """The names, or the first of them and how many more there are."""
    more = len(names) - MOST_NAMES
    return ", ".join(names) if more <= 0 else f"{', '.join(names[:MOST_NAMES])} and {more} more"


def _reference(row: ComparisonRow) -> str:
    return one_line(row.compared_with or "its reference", 60)


def _sureness(comparison: Comparison, rows: Sequence[ComparisonRow]) -> list[Said]:
    blocks = [row.blocks for row in rows if row.blocks]
    if not blocks:
        return []
    least, most = min(blocks), max(blocks)
    count = f"{least}" if least == most else f"{least} to {most}"
    ratios = sum(row.ratio is not None for row in rows)
    parts = [f"{count} block{'s' if most != 1 else ''} of fresh processes a method"]
    if ratios > 1:
        parts.append(f"intervals at 95 %, verdicts corrected for {ratios} comparisons")
    floors = [row.noise_floor for row in rows if row.noise_floor is not None]
    if floors:
        parts.append(f"this machine's noise floor is {percent(max(floors))}")
    more = sum(comparison.offers.values())
    if more:
        parts.append(f"about {more} more rounds would probably settle what is open")
    return [(f"How sure: {'; '.join(parts)}.", "")]


def _loss(comparison: Comparison, best: ComparisonRow) -> list[Said]:
    told = best.fidelity_decode or best.fidelity
    if told:
        return [(f"At what loss: {one_line(told, 200)}.", "")]
    if best.difference:
        return [(f"At what loss: {one_line(best.difference, 200)}; nothing more was measured.", "")]
    if best.equal_tokens_share == 1:
        return [("At what loss: its greedy text is the reference's; nothing more was measured.", "")]
    if best.session in comparison.unscored and best.compared_with is not None:
        return [("At what loss: that was not measured.", "")]
    return []


def _doubts(comparison: Comparison, rows: Sequence[ComparisonRow], best: ComparisonRow | None) -> list[Said]:
    doubts: list[Said] = []
    if comparison.refused:
        doubts.append((f"the sessions differ in {', '.join(comparison.refused)}", "bad"))
    off = [one_line(row.method, 40) for row in rows if row.in_effect is False]
    if off:
        doubts.append((f"{_some(off)} {'was' if len(off) == 1 else 'were'} NOT in effect", "bad"))
    failed = [one_line(row.method, 40) for row in rows if row.trouble or row.problem]
    if failed:
        doubts.append((f"{_some(failed)} did not run to the end", "bad"))
    flagged = [flag for flag in (best.flags if best is not None else ()) if not flag.startswith("method not in effect")]
    doubts += [(one_line(flag, 160), "warning") for flag in flagged[:2]]
    if not doubts:
        return []
    style = "bad" if any(style == "bad" for _, style in doubts) else "warning"
    return [(f"What to doubt: {'; '.join(text for text, _ in doubts)}.", style)]
