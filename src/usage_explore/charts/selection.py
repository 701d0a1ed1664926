"""The selections of a chart, and the buckets and series that they select.

Streamlit and JupyterChart report selections by name: `pick` (a click), `brush` (an interval of time), `legend`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import altair as alt

from usage_explore.charts.axes import millis

if TYPE_CHECKING:
    from usage_explore.results.types import AggregateData, Series


def highlight() -> alt.Parameter:
    """The selection `legend`: the series whose legend entries are clicked."""
    return alt.selection_point(name="legend", fields=["series"], bind="legend")


def selections() -> tuple[alt.Parameter, ...]:
    """The selections `pick` and `brush`, for one layer of a chart."""
    return (
        alt.selection_point(name="pick", fields=["start", "position"], toggle=False),
        alt.selection_interval(name="brush", encodings=["x"]),
    )


def brushed(answer: AggregateData, selection: Any) -> tuple[datetime, datetime] | None:
    """The brushed buckets as `[start, end)`, None without a brush.

    A bucket is selected if its middle is; a brush between two middles selects the bucket it is in. `selection` is
    Streamlit's (`event.selection`, or the event) or a JupyterChart's (`chart.selections`).
    """
    spans = _part(selection, "brush")
    if not isinstance(spans, Mapping) or not spans:
        return None
    low, high = sorted(float(end) for end in next(iter(spans.values())))
    edges = [millis(edge) for edge in answer.edges]
    inside = [index for index in range(len(edges) - 1) if low <= (edges[index] + edges[index + 1]) / 2 <= high]
    if not inside:
        middle = (low + high) / 2
        inside = [index for index in range(len(edges) - 1) if edges[index] <= middle < edges[index + 1]]
    return (answer.edges[inside[0]], answer.edges[inside[-1] + 1]) if inside else None


def picked(answer: AggregateData, selection: Any) -> tuple[Series | None, datetime] | None:
    """The clicked mark as (series, bucket start), None without a click.

    The series is None if the click was on the whole bucket. A click on a bucket or series that this aggregate does not
    have, because it was made on another one, is None.
    """
    marks = _part(selection, "pick")
    if isinstance(marks, Mapping):
        marks = [marks]
    if not isinstance(marks, Iterable):
        return None
    for mark in marks:
        start = {millis(edge): edge for edge in answer.edges[:-1]}.get(round(float(mark.get("start") or 0)))
        position = mark.get("position")
        if start is None or (position is not None and int(position) >= len(answer.series)):
            continue
        return (answer.series[int(position)] if position is not None and int(position) >= 0 else None), start
    return None


def _part(selection: Any, name: str) -> Any:
    if isinstance(selection, Mapping):
        part = selection.get("selection", selection).get(name)
    else:
        part = getattr(getattr(selection, "selection", selection), name, None)
    return getattr(part, "value", part) if not isinstance(part, Mapping) else part
