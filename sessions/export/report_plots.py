"""The plots of a report as SVG: Altair describes, vl-convert draws them, without script or network, some 10 kB each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from sessions.frames.block_phases import SEGMENTS, TIMED, Segment
from sessions.verdict.comparison_row import ComparisonRow
from sessions.verdict.speed_and_loss import TICKS, USUAL_FLOOR, TradeOffs
from sessions.verdict.verdicts import THRESHOLD

if TYPE_CHECKING:
    import altair as alt

WIDTH: Final = 560
ROW_HEIGHT: Final = 26
SEGMENT_COLOURS: Final = {
    "interpreter": "#bbbbbb", "imports": "#999999", "loading": "#6b9ac4", "compiling": "#c44e52",
    "warm-up": "#e0a458", TIMED: "#3a7d44", "evidence": "#8172b2", "greedy pass": "#b5a8d5", "fidelity": "#4f9da6",
    "close": "#666666",
}  # fmt: skip
MOST_POINTS: Final = 1500  # of a curve, so that a long session's page stays small


def ratio_plot(rows: Sequence[ComparisonRow], label: dict[tuple[str, str], str]) -> str | None:
    """Ratios with their 95 % intervals, and the band of 1 ± 1 % that they must exclude; None without a ratio."""
    import altair as alt

    values = [
        {
            "method": label[(row.session, row.method)],
            "ratio": row.ratio,
            "low": row.ratio_low,
            "high": row.ratio_high,
            "against": row.reference,
        }
        for row in rows
        if row.ratio is not None
    ]
    if not values:
        return None
    order = [label[(row.session, row.method)] for row in rows if row.ratio is not None]
    band = chart_of([{"from": 1 - THRESHOLD, "to": 1 + THRESHOLD}]).mark_rect(color="#999", opacity=0.25)
    axis = alt.Scale(zero=False, padding=12)
    along = alt.Y("method:N", sort=order, title=None)
    points = chart_of(values)
    chart = alt.layer(
        band.encode(x=alt.X("from:Q", scale=axis, title="× reference, 95 % interval"), x2="to:Q"),
        points.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", scale=axis), x2="high:Q", y=along),
        points.mark_point(filled=True, size=70, opacity=1).encode(x=alt.X("ratio:Q", scale=axis), y=along),
    ).properties(width=WIDTH, height=ROW_HEIGHT * len(values))
    return svg_of(chart)


def loss_plot(found: TradeOffs, label: Mapping[tuple[str, str], str]) -> str:
    """The ratio of each method against its loss, both with their 95 % intervals, and the floor as a band.

    The scale of the loss is linear about 0 and logarithmic beyond the floor.
    """
    import altair as alt

    names = [label[(one.row.session, one.row.method)] for one in found.drawn]
    values = [
        {
            "method": name,
            "ratio": one.speed.estimate,
            "low": one.speed.low,
            "high": one.speed.high,
            "loss": one.loss.estimate,
            "least": one.loss.low,
            "most": one.loss.high,
        }
        for name, one in zip(names, found.drawn, strict=True)
    ]
    constant = found.floor or USUAL_FLOOR
    low, high = min(found.losses), max(found.losses)
    domain = [low - 0.3 * max(-low, constant), high + 0.3 * max(high, constant)]
    scale = alt.Scale(type="symlog", constant=constant, domain=domain, nice=False)
    ticks = alt.Axis(values=[0, *TICKS], format="~g", labelOverlap="greedy")
    across = alt.X("loss:Q", scale=scale, axis=ticks, title=f"ΔNLL in {found.where}, nats a token")
    up = alt.Y("ratio:Q", scale=alt.Scale(zero=False, padding=12), title="× reference")
    colour = alt.Color("method:N", sort=names, title=None)
    points = chart_of(values)
    layers: list[alt.Chart] = [
        points.mark_rule(strokeWidth=2).encode(
            x=alt.X("least:Q", scale=scale, axis=ticks), x2="most:Q", y=up, color=colour
        ),
        points.mark_rule(strokeWidth=2).encode(x=across, y=alt.Y("low:Q"), y2="high:Q", color=colour),
        points.mark_point(filled=True, size=70, opacity=1).encode(x=across, y=up, color=colour),
    ]
    if found.floor is not None:
        band = chart_of([{"from": -found.floor, "to": found.floor}]).mark_rect(color="#999", opacity=0.25)
        layers.insert(0, band.encode(x=alt.X("from:Q", scale=scale, axis=ticks), x2="to:Q"))
    return svg_of(alt.layer(*layers).properties(width=WIDTH, height=240))


def rates_plot(rates: dict[str, list[tuple[int, int, float]]]) -> str | None:
    """tokens/s of every timed request, (block, request, tokens/s) by method: one point each, a tick at the median."""
    import altair as alt

    values = [
        {"method": method, "block": str(block), "rate": rate}
        for method, points in rates.items()
        for block, _, rate in _thinned(points)
    ]
    if not values:
        return None
    along = alt.Y("method:N", sort=list(rates), title=None)
    data = chart_of(values)
    chart = alt.layer(
        data.mark_tick(opacity=0.55, thickness=1.5).encode(
            x=alt.X("rate:Q", title="tokens/s of each request, coloured by block", scale=alt.Scale(zero=False)),
            y=along,
            color=alt.Color("block:N", legend=None),
        ),
        data.mark_point(shape="diamond", filled=True, size=60, color="black", opacity=1).encode(
            x=alt.X("median(rate):Q"), y=along
        ),
    ).properties(width=WIDTH, height=ROW_HEIGHT * len(rates))
    return svg_of(chart)


def order_plot(rates: dict[str, list[tuple[int, int, float]]]) -> str | None:
    """tokens/s request by request, to show drift and warm-up."""
    import altair as alt

    values = [
        {"method": method, "request": request, "rate": rate}
        for method, points in rates.items()
        for _, request, rate in _thinned(points)
    ]
    if not values:
        return None
    chart = (
        chart_of(values)
        .mark_line(point=alt.OverlayMarkDef(size=14), strokeWidth=1)
        .encode(
            x=alt.X("request:Q", title="timed request", axis=alt.Axis(tickMinStep=1)),
            y=alt.Y("rate:Q", title="tokens/s", scale=alt.Scale(zero=False)),
            color=alt.Color("method:N", sort=list(rates), title=None),
        )
        .properties(width=WIDTH, height=220)
    )
    return svg_of(chart)


def curve_plot(title: str, seconds: Sequence[float], values: Sequence[float]) -> str | None:
    """One metric over the session, seconds since its first block began; None with less than two points."""
    import altair as alt

    if len(seconds) < 2:
        return None
    points = [{"t": t, "value": value} for t, value in _thinned(list(zip(seconds, values, strict=True)))]
    chart = (
        chart_of(points)
        .mark_line(strokeWidth=1)
        .encode(x=alt.X("t:Q", title="s since the first block"), y=alt.Y("value:Q", title=title))
        .properties(width=WIDTH, height=140)
    )
    return svg_of(chart)


def time_plot(bars: Mapping[str, Sequence[tuple[Segment, float]]]) -> str | None:
    """The seconds of a block by method, a bar each with a segment a phase; None without a method."""
    import altair as alt

    values = [
        {"method": method, "phase": segment.name, "place": place, "seconds": seconds}
        for method, segments in bars.items()
        for place, (segment, seconds) in enumerate(segments)
    ]
    if not values:
        return None
    present = {value["phase"] for value in values}
    names = [segment.name for segment in SEGMENTS if segment.name in present]
    colours = alt.Scale(domain=names, range=[SEGMENT_COLOURS[name] for name in names])
    chart = (
        chart_of(values)
        .mark_bar()
        .encode(
            x=alt.X("seconds:Q", title="s of a block, mean of the blocks"),
            y=alt.Y("method:N", sort=list(bars), title=None),
            color=alt.Color("phase:N", scale=colours, title=None),
            order=alt.Order("place:Q"),
        )
        .properties(width=WIDTH, height=ROW_HEIGHT * len(bars))
    )
    return svg_of(chart)


def _thinned(points: list[Any]) -> list[Any]:
    return points[:: max(1, -(-len(points) // MOST_POINTS))]


def chart_of(values: Sequence[Mapping[str, object]]) -> alt.Chart:
    """A chart of these rows."""
    import altair as alt

    return alt.Chart(alt.Data(values=values))  # type: ignore[no-untyped-call]


def svg_of(chart: alt.TopLevelMixin) -> str:
    """The chart drawn, a whole document."""
    import vl_convert

    config = {"font": "system-ui, sans-serif", "axis": {"labelLimit": 260}, "background": "white"}
    drawn: str = vl_convert.vegalite_to_svg(chart.to_dict(), config=config, allowed_base_urls=[])
    return drawn
