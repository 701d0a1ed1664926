"""The soak drawn: latency and memory over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd

from soak_log import Asked
from soak_watch import Look
from usage_explore.charts.palette import LIGHT
from usage_explore.charts.picture import image

_GROUPS = {
    "aggregates": ("aggregate", "pinned"),
    "pages": ("page",),
    "pictures": ("picture",),
    "exports": ("export",),
    "app": ("app",),
}
_WIDTH, _SLICE = 860, 30
_STEPS = [10, 30, 100, 300, 1000, 3000, 10000, 30000]


def draw(asked: list[Asked], looks: list[Look], folder: Path) -> None:
    """Write soak.svg and soak.png."""
    end = max(look.at for look in looks) / 60
    chart = alt.vconcat(_latency(asked, end), _memory(looks, end), spacing=28).resolve_scale(color="independent")
    styled = chart.configure(background=LIGHT.background, font="DejaVu Sans, sans-serif")
    styled = styled.configure_axis(
        gridColor=LIGHT.grid,
        domain=False,
        ticks=False,
        labelColor=LIGHT.soft,
        labelPadding=6,
        titleColor=LIGHT.soft,
        titleFontWeight="normal",
        titlePadding=10,
    )
    styled = styled.configure_view(stroke=None).configure_title(anchor="start", color=LIGHT.text, fontSize=14)
    styled = styled.configure_legend(labelColor=LIGHT.text, title=None, symbolStrokeWidth=3, labelFontSize=12)
    for form in ("svg", "png"):
        (folder / f"soak.{form}").write_bytes(image(styled, form))


def _latency(asked: list[Asked], end: float) -> Any:
    rows = [
        {"group": group, "minute": (one.sent // _SLICE + 0.5) * _SLICE / 60, "ms": one.seconds * 1000}
        for one in asked
        for group, kinds in _GROUPS.items()
        if one.kind.startswith(kinds) and one.sent < end * 60 // _SLICE * _SLICE
    ]
    slices = (
        pd.DataFrame(rows)
        .groupby(["group", "minute"])["ms"]
        .quantile(pd.Series([0.5, 0.95]))
        .rename_axis(["group", "minute", "share"])
    )
    frame = slices.reset_index()
    frame["share"] = frame["share"].map({0.5: "median", 0.95: "p95"})
    return (
        alt.Chart(frame, title=f"Latency, median and 95th percentile of each {_SLICE} seconds")
        .mark_line(interpolate="monotone", strokeWidth=2)
        .encode(
            x=_minutes(end, title=None),
            y=alt.Y(
                "ms:Q", title="milliseconds", scale=alt.Scale(type="log"), axis=alt.Axis(values=_STEPS, format=",")
            ),
            color=alt.Color("group:N", sort=list(_GROUPS), scale=_colors(list(_GROUPS))),
            strokeDash=alt.StrokeDash("share:N", scale=alt.Scale(domain=["p95", "median"], range=[[1, 0], [2, 3]])),
        )
        .properties(width=_WIDTH, height=280)
    )


def _memory(looks: list[Look], end: float) -> Any:
    names = {"app_uss": "app and API", "postgres_private": "PostgreSQL, private"}
    frame = pd.DataFrame(
        {"process": words, "minute": look.at / 60, "mib": getattr(look, name)}
        for look in looks
        for name, words in names.items()
    )
    return (
        alt.Chart(frame, title="Memory")
        .mark_line(strokeWidth=2)
        .encode(
            x=_minutes(end, title="minutes"),
            y=alt.Y("mib:Q", title="MiB", scale=alt.Scale(zero=True)),
            color=alt.Color("process:N", sort=list(names.values()), scale=_colors(list(names.values()))),
        )
        .properties(width=_WIDTH, height=180)
    )


def _minutes(end: float, title: str | None) -> Any:
    return alt.X(
        "minute:Q",
        title=title,
        axis=alt.Axis(grid=False, tickMinStep=1, format="d"),
        scale=alt.Scale(nice=False, domain=[0, end]),
    )


def _colors(domain: list[str]) -> Any:
    return alt.Scale(domain=domain, range=list(LIGHT.hues[: len(domain)]))
