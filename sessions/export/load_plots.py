"""The pictures of a load as SVG: throughput and latencies against it, and the trade between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sessions.export.report_plots import WIDTH, chart_of, svg_of
from sessions.verdict.load_curves import PICTURES, LoadCurve, LoadCurves, LoadPicture

if TYPE_CHECKING:
    import altair as alt

HEIGHT: Final = 220
AXES: Final = {"batch": "sequences in a batch", "concurrency": "requests in flight", "requests/s": "requests/s"}
UNITS: Final = {"rate": ("tokens/s", 1.0), "duration": ("ms", 1000.0)}


def load_plots(curves: LoadCurves, name: Callable[[LoadCurve], str]) -> list[tuple[str, str]]:
    """(title, SVG) of each picture that has a point."""
    found = [(picture.title, _drawn(picture, curves, name)) for picture in PICTURES]
    return [(f"{title[:1].upper()}{title[1:]}", svg) for title, svg in found if svg]


def _drawn(picture: LoadPicture, curves: LoadCurves, name: Callable[[LoadCurve], str]) -> str | None:
    import altair as alt

    unit, scale = UNITS[picture.unit]
    values = []
    for curve in curves.curves:
        for point, up in curve.values(picture.up):
            across = picture.across(point.row) if picture.across is not None else None
            if picture.across is not None and across is None:
                continue
            values.append(
                {"method": name(curve), "load": point.load, "point": point.row.point}
                | {"value": up.estimate * scale, "low": up.low * scale, "high": up.high * scale}
                | ({"across": across.estimate, "least": across.low, "most": across.high} if across else {})
            )
    if not values:
        return None
    points = chart_of(values)
    colour = alt.Color("method:N", sort=[name(curve) for curve in curves.curves], title=None)
    up_axis = alt.Y("value:Q", title=unit, scale=alt.Scale(zero=True))
    if picture.across is None:
        ticks = alt.Axis(values=list(curves.loads), format="~g", labelOverlap="greedy")
        across_axis = alt.X("load:Q", scale=alt.Scale(type="log", base=2), axis=ticks, title=AXES[curves.axis])
    else:
        across_axis = alt.X("across:Q", scale=alt.Scale(zero=False, padding=12), title="tokens/s of one user")
    order = alt.Order("load:Q")
    layers: list[alt.Chart] = [
        points.mark_line(strokeWidth=1.5).encode(x=across_axis, y=up_axis, color=colour, order=order),
        points.mark_rule(strokeWidth=2).encode(x=across_axis, y=alt.Y("low:Q"), y2="high:Q", color=colour),
        points.mark_point(filled=True, size=50, opacity=1).encode(x=across_axis, y=up_axis, color=colour),
    ]
    if picture.across is not None:
        layers.append(points.mark_rule(strokeWidth=2).encode(x=alt.X("least:Q"), x2="most:Q", y=up_axis, color=colour))
        layers.append(
            points.mark_text(dx=8, dy=-8, fontSize=10, align="left").encode(
                x=across_axis, y=up_axis, text="load:Q", color=colour
            )
        )
    return svg_of(alt.layer(*layers).properties(width=WIDTH, height=HEIGHT))
