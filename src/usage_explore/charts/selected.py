"""The buckets and series selected in the chart of an aggregate, as Streamlit and JupyterChart report them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from usage_explore.charts.style import millis

if TYPE_CHECKING:
    from usage_explore.results.types import AggregateData, Series


def brushed(answer: AggregateData, selection: Any) -> tuple[datetime, datetime] | None:
    """The brushed buckets as `[start, end)`, None without a brush.

    A bucket is selected if its middle is; a brush between two middles selects the bucket it is in. `selection` is
    Streamlit's (`event.selection`, or the event) or a JupyterChart's (`chart.selections`).
    """
    spans = _selection(selection, "brush")
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
    marks = _selection(selection, "pick")
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


def _selection(selection: Any, name: str) -> Any:
    if isinstance(selection, Mapping):
        part = selection.get("selection", selection).get(name)
    else:
        part = getattr(getattr(selection, "selection", selection), name, None)
    return getattr(part, "value", part) if not isinstance(part, Mapping) else part
