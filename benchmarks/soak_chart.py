"""The soak drawn: latency and memory over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd

from soak_log import Asked
from soak_watch import Look
from usage_explore.charts.picture import image
from usage_explore.charts.style import LIGHT

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
    """A panel for each group: the median's line, and a band up to the 95th percentile."""
    rows = [
        {"group": group, "minute": (one.sent // _SLICE + 0.5) * _SLICE / 60, "ms": one.seconds * 1000}
        for one in asked
        for group, kinds in _GROUPS.items()
        if one.kind.startswith(kinds) and one.sent < max(end * 60 // _SLICE, 1) * _SLICE
    ]
    grouped = pd.DataFrame(rows).groupby(["group", "minute"])["ms"]
    frame = pd.DataFrame({"median": grouped.quantile(0.5), "p95": grouped.quantile(0.95)}).reset_index()
    axis = alt.Axis(values=_STEPS, format=",")
    panels = []
    for place, group in enumerate(_GROUPS):
        first = place == 0
        base = alt.Chart(frame[frame["group"] == group]).encode(x=_minutes(end, title=None))
        y = alt.Y(
            "p95:Q",
            title="milliseconds" if first else None,
            scale=alt.Scale(type="log", domain=[min(frame["median"].min(), 100), frame["p95"].max()], nice=False),
            axis=axis if first else alt.Axis(values=_STEPS, labels=False),
        )
        color = LIGHT.hues[place]
        band = base.mark_area(opacity=0.22, color=color, clip=True).encode(y=y, y2="median:Q")
        lines = [
            base.mark_line(color=color, strokeWidth=width).encode(y=_at(y, name))
            for name, width in (("p95", 1.5), ("median", 2.5))
        ]
        title = alt.TitleParams(group, fontSize=12, fontWeight="normal", color=LIGHT.soft, frame="group")
        panels.append(alt.layer(band, *lines, title=title).properties(width=(_WIDTH - 4 * 14) // 5, height=230))
    title = f"Latency: the median (thick) and the 95th percentile of each {_SLICE} seconds"
    return alt.hconcat(*panels, spacing=14, title=title)


def _at(y: Any, name: str) -> Any:
    moved = y.copy(deep=True)
    moved.shorthand = f"{name}:Q"
    return moved


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
