"""The benchmark drawn: milliseconds by question and engine, and how they grow with the number of events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd

from benchmarks.bench import CHDB, DUCKDB, EVENTS, OURS, PANEL, TUNED
from usage_explore.charts.picture import image
from usage_explore.charts.style import LIGHT

_COLORS = {
    OURS: LIGHT.hues[0],
    EVENTS: LIGHT.shades[0],
    PANEL: LIGHT.hues[7],
    DUCKDB: LIGHT.hues[6],
    TUNED: LIGHT.shades[6],
    CHDB: LIGHT.hues[2],
}
_STEPS = [1, 3, 10, 30, 100, 300, 1000, 3000, 10000, 30000]
_GROWING = {"Q1": "Q1, events by metric", "Q3": "Q3, quantity by model", "Q8": "Q8, a region by model"}
_WIDTH = 620


def draw(run: dict[str, Any], grown: list[dict[str, Any]], folder: Path) -> None:
    """Write bench.svg and bench.png."""
    chart = _questions(run)
    if len(grown) > 1:
        chart = alt.vconcat(chart, _growth(grown), spacing=36)
    styled = chart.configure(background=LIGHT.background, font="DejaVu Sans, sans-serif", padding=16)
    styled = styled.configure_axis(
        gridColor=LIGHT.grid,
        domain=False,
        ticks=False,
        labelColor=LIGHT.soft,
        labelPadding=8,
        titleColor=LIGHT.soft,
        titleFontWeight="normal",
        titlePadding=10,
    )
    styled = styled.configure_view(stroke=None)
    styled = styled.configure_title(anchor="start", color=LIGHT.text, fontSize=15, subtitleColor=LIGHT.soft, offset=14)
    styled = styled.configure_legend(labelColor=LIGHT.text, title=None, labelFontSize=12, symbolSize=110, orient="top")
    for form in ("svg", "png"):
        (folder / f"bench.{form}").write_bytes(image(styled, form))


def _questions(run: dict[str, Any]) -> Any:
    entries = run["questions"]
    frame = pd.DataFrame(
        {"question": _name(entry), "engine": engine, "ms": took}
        for entry in entries
        for engine, took in entry["warm"].items()
    )
    spans = frame.groupby("question")["ms"].agg(["min", "max"]).reset_index()
    ratios = pd.DataFrame(
        {"question": _name(entry), "words": _times_faster(entry["warm"][PANEL] / entry["warm"][OURS])}
        for entry in entries
        if {PANEL, OURS} <= set(entry["warm"])
    )
    order = [_name(entry) for entry in entries]
    y = alt.Y(
        "question:N",
        sort=order,
        title=None,
        axis=alt.Axis(grid=False, labelLimit=420, labelColor=LIGHT.text, labelFontSize=12),
    )
    x = alt.X("ms:Q", title="milliseconds", scale=alt.Scale(type="log"), axis=alt.Axis(values=_STEPS, format=","))
    lines = (
        alt.Chart(spans)
        .mark_rule(color=LIGHT.grid, strokeWidth=3)
        .encode(y=y, x=alt.X("min:Q", title="milliseconds", scale=alt.Scale(type="log")), x2="max:Q")
    )
    dots = (
        alt.Chart(frame)
        .mark_circle(size=110, opacity=1)
        .encode(y=y, x=x, color=_color(frame), order=alt.Order("rank:Q"))
        .transform_calculate(rank=f"datum.engine === '{OURS}' ? 1 : 0")
    )
    words = (
        alt.Chart(ratios)
        .mark_text(align="left", fontSize=12, fontWeight="bold", color=LIGHT.hues[0])
        .encode(y=y, x=alt.value(_WIDTH + 16), text="words:N")
    )
    return alt.layer(lines, dots, words).properties(
        width=_WIDTH,
        height=alt.Step(27),
        title=alt.Title(
            f"Milliseconds from question to answer, {run['rows']:,} events",
            subtitle="Fastest warm run in Python; at the right how many times faster than the panel statement",
        ),
    )


def _growth(grown: list[dict[str, Any]]) -> Any:
    frame = pd.DataFrame(
        {"question": _GROWING[entry["name"]], "rows": run["rows"] / 1e6, "engine": engine, "ms": took}
        for run in grown
        for entry in run["questions"]
        if entry["name"] in _GROWING
        for engine, took in entry["warm"].items()
    )
    sizes = sorted(frame["rows"].unique())
    return (
        alt.Chart(frame)
        .mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=50, filled=True))
        .encode(
            x=alt.X(
                "rows:Q",
                title="million events",
                scale=alt.Scale(type="log", nice=False),
                axis=alt.Axis(values=sizes, format="g", grid=False),
            ),
            y=alt.Y(
                "ms:Q", title="milliseconds", scale=alt.Scale(type="log"), axis=alt.Axis(values=_STEPS, format=",")
            ),
            color=_color(frame),
        )
        .properties(width=250, height=190)
        .facet(
            column=alt.Column("question:N", title=None, header=alt.Header(labelColor=LIGHT.text, labelFontSize=12)),
            title="How they grow with the number of events",
        )
    )


def _color(frame: pd.DataFrame) -> alt.Color:
    shown = [name for name in _COLORS if name in set(frame["engine"])]
    return alt.Color("engine:N", scale=alt.Scale(domain=shown, range=[_COLORS[name] for name in shown]))


def _name(entry: dict[str, Any]) -> str:
    return f"{entry['name']}  {entry['words']}"


def _times_faster(ratio: float) -> str:
    return f"{ratio:,.0f}×" if ratio >= 9.5 else f"{ratio:.1f}×"
