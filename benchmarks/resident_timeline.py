"""A picture of a resident step's time line, of a CSV that `benchmarks/resident_gpu.py --timeline` wrote.

    python benchmarks/resident_timeline.py CSV SVG [--layer 10] [--layers 2] [--mhz 1980]

Kernel by kernel: light from where a kernel begins, beside the one before it, and dark from where that one ends. Of the
one kernel for all layers: light while a phase waits for its vector, dark while its rows are multiplied; its times are
cycles, which --mhz turns into microseconds.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import altair as alt

from sessions.export.report_plots import ROW_HEIGHT, WIDTH, chart_of, svg_of

KERNELS_OF_A_LAYER = 5
PHASES = {"qkv": "queries, keys, values", "out": "attention, projection", "mlp": "MLP, in", "down": "MLP, out"}


def of_kernels(rows: list[dict[str, str]], first: int, layers: int) -> list[dict[str, Any]]:
    """Bars of the layers' kernels: {row, light, dark, end}, in microseconds."""
    bars = []
    for place in range(first * KERNELS_OF_A_LAYER, (first + layers) * KERNELS_OF_A_LAYER):
        row, before = rows[place], rows[place - 1] if place else rows[place]
        name = row["kernel"]
        if name == "resident_add":
            name += ", down projection" if before["kernel"] == "resident_mlp" else ", projection"
        begin, end = float(row["begin_us"]), float(row["end_us"])
        bars.append({"row": name, "light": begin, "dark": max(begin, float(before["end_us"])), "end": end})
    return bars


def of_phases(rows: list[dict[str, str]], first: int, layers: int, mhz: float) -> list[dict[str, Any]]:
    """The same of the phases of the one kernel."""
    chosen = [row for row in rows if row["layer"] and first <= int(row["layer"]) < first + layers]
    times = ("begin", "vector", "told")
    return [
        {"row": PHASES[row["phase"]]}
        | {bar: float(row[time]) / mhz for bar, time in zip(("light", "dark", "end"), times, strict=True)}
        for row in chosen
    ]


def drawn(bars: list[dict[str, Any]]) -> str:
    """An SVG with a row for each kernel or phase of a layer."""
    began = bars[0]["light"]
    values = [{**bar, **{key: bar[key] - began for key in ("light", "dark", "end")}} for bar in bars]
    order = list(dict.fromkeys(bar["row"] for bar in bars))
    room = 7 * max(map(len, order))  # a reader's font may be wider than the one that was measured here
    row = alt.Y("row:N", sort=order, title=None, axis=alt.Axis(minExtent=room))
    chart = chart_of(values)
    across = alt.X("light:Q", title="µs", scale=alt.Scale(nice=False))
    light = chart.mark_bar(height=12, opacity=0.35).encode(x=across, x2="dark:Q", y=row)
    dark = chart.mark_bar(height=12, opacity=1).encode(x=alt.X("dark:Q"), x2="end:Q", y=row)
    return svg_of(alt.layer(light, dark).properties(width=WIDTH, height=ROW_HEIGHT * len(order)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("csv", type=Path)
    parser.add_argument("svg", type=Path)
    parser.add_argument("--layer", type=int, default=10, help="the first that is shown (default 10)")
    parser.add_argument("--layers", type=int, default=2, help="how many are (default 2)")
    parser.add_argument("--mhz", type=float, default=1980.0, help="the multiprocessors' clock (default 1980)")
    arguments = parser.parse_args()
    with arguments.csv.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    of_one_kernel = bool(rows) and "phase" in rows[0]
    names = [row["phase"] if of_one_kernel else row["kernel"] for row in rows]
    there = names.count("qkv" if of_one_kernel else "resident_qkv")
    if not 0 <= arguments.layer < arguments.layer + arguments.layers <= there:
        parser.error(f"{arguments.csv} has {there} layers, from 0 on.")
    if of_one_kernel:
        bars = of_phases(rows, arguments.layer, arguments.layers, arguments.mhz)
    else:
        bars = of_kernels(rows, arguments.layer, arguments.layers)
    arguments.svg.write_text(drawn(bars), encoding="utf-8")


if __name__ == "__main__":
    main()
