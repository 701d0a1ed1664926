"""Combined charts of aggregates: `+` adds marks and layers, `|` puts charts beside each other, `&` below.

In Vega-Lite, only the top level has a look, and data and selections are identified by name. So combined charts pass
their look to the top, have data under unique names, and lose their selections; tooltips stay.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import altair as alt

from usage_explore.charts.axes import millis
from usage_explore.charts.palette import DARK, theme
from usage_explore.charts.picture import Drawn
from usage_explore.decimals import rfc3339
from usage_explore.errors import Fault, QueryError
from usage_explore.query import validators
from usage_explore.query.base import parsed_instant

_SELECTIONS = frozenset({"pick", "brush", "legend"})
_LOOK = ("config", "background", "padding")
_INDEPENDENT: dict[str, Any] = {
    part: dict.fromkeys(("color", "stroke", "shape", "strokeDash", "fillOpacity"), "independent")
    for part in ("scale", "legend")
}
"""Charts have separate colours and legends, as they may have different series."""

_PART_WIDTH = 480
"""Pixels of a chart that would fill its container, as a part of several."""


class Mark(alt.LayerChart):
    """A line at an instant with its text, made by `mark`."""


class AnswerChart(Drawn):
    """The chart of an aggregate. `+` adds a `mark` or another layer; `|` and `&` put charts beside and below it."""

    def __iadd__(self, other: Any) -> Any:  # type: ignore[misc] # `+` copies, then adds by this
        if isinstance(other, Mark):
            other = self._placed(other)
        else:
            _check_layer(other)
        return super().__iadd__(other)

    def __or__(self, other: Any) -> Any:
        row: Any = Beside(hconcat=[], resolve=_INDEPENDENT, **{name: self[name] for name in _LOOK})
        return row | self | other

    def __and__(self, other: Any) -> Any:
        column: Any = Below(vconcat=[], resolve=_INDEPENDENT, **{name: self[name] for name in _LOOK})
        return column & self & other

    def _placed(self, mark: Mark) -> Any:
        """The mark on this chart's time axis. Raises `QueryError` if it is outside."""
        own: list[Any] = self.layer
        x = next(layer.encoding.x for layer in own if layer.encoding.x is not alt.Undefined)
        first, last = x["scale"].domain
        look = theme(self.background == DARK.background)
        placed: Any = mark.copy(deep=True)
        instant = placed.data["values"][0]["at"]
        if not first <= instant <= last:
            since, until = (rfc3339(datetime.fromtimestamp(edge / 1000, UTC)) for edge in (first, last))
            fault = Fault("time", f"lies outside the chart, which is from {since} to {until}; widen the window")
            raise QueryError([fault])
        for layer in placed.layer:
            layer.encoding.x["scale"], layer.encoding.x["axis"] = x["scale"], x["axis"]
            layer.mark["color"] = look.text
            if layer.mark["type"] == "text" and 2 * instant > first + last:  # room is to its left
                layer.mark["align"] = "right"
        return placed


class Beside(alt.HConcatChart):
    """Charts beside each other; `|` puts another one to their right."""

    def __ior__(self, other: Any) -> Any:  # type: ignore[misc] # likewise
        return super().__ior__(_part(other))


class Below(alt.VConcatChart):
    """Charts below each other; `&` puts another one below them."""

    def __iand__(self, other: Any) -> Any:  # type: ignore[misc] # likewise
        return super().__iand__(_part(other))


def mark(time: datetime | str, text: str) -> Mark:
    """A line at `time` with `text` above it, to add to the chart of an aggregate.

    >>> answer.chart() + charts.mark("2026-09-04T09:30:00Z", "release 4.2")  # doctest: +SKIP

    Raises `QueryError` for a time without an offset, if `text` is no string, and if added to a chart without that time.
    """
    instant = parsed_instant("time", time)
    if not isinstance(text, str):
        raise QueryError([Fault("text", f"{validators.shorten(text)} is not a text; write what happened then")])
    base = alt.Chart(alt.InlineData(values=[{"at": millis(instant), "text": text, "when": rfc3339(instant)}]))
    shown = base.encode(x=alt.X("at:Q"), tooltip=[alt.Tooltip("text:N", title="mark"), alt.Tooltip("when:N")])
    return Mark(
        layer=[
            shown.mark_rule(strokeWidth=1.5),
            shown.mark_text(align="left", baseline="bottom", y=-2, fontSize=11).encode(text="text:N"),
        ]
    )


def _check_layer(chart: Any) -> None:
    """Raise `QueryError` for a layer with times on x: Vega-Lite would put them at other places than the buckets."""
    spec = chart.to_dict() if isinstance(chart, alt.SchemaBase) else {}
    pending = [spec]
    while pending:
        layer = pending.pop()
        pending += layer.get("layer", [])
        x = [layer.get("encoding", {}).get(name, {}) for name in ("x", "x2")]
        if any(channel.get("type", "quantitative") != "quantitative" or "timeUnit" in channel for channel in x):
            raise QueryError(
                [
                    Fault(
                        "x",
                        "is not in milliseconds, as the time axis of an answer's chart is; add "
                        "charts.mark(time, text), or draw everything from answer.plot_frame",
                    )
                ]
            )


def _part(chart: Any) -> Any:
    """A chart as a part of several: without look and selections, with unique names of data."""
    if not isinstance(chart, AnswerChart):
        return chart
    spec: dict[str, Any] = {
        name: value for name, value in chart.to_dict().items() if name not in (*_LOOK, "autosize", "$schema")
    }
    datasets = spec.pop("datasets", {})
    if spec.get("width") == "container":
        spec["width"] = _PART_WIDTH
    own = hashlib.blake2b(json.dumps(spec).encode(), digest_size=6).hexdigest()
    return alt.LayerChart.from_dict(_alone(spec, own, datasets))


def _alone(value: Any, own: str, datasets: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_alone(item, own, datasets) for item in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for name, item in value.items():
        if name == "params":
            item = [param for param in item if param["name"] not in _SELECTIONS]
        elif name == "data" and isinstance(item, dict) and "name" in item:
            rows = datasets.get(item["name"])
            item = {"values": rows} if rows is not None else {**item, "name": f"{item['name']} {own}"}
        elif isinstance(item, dict) and _selected(item):
            continue
        if name != "data":
            item = _alone(item, own, datasets)
        if item != [] or name != "params":
            found[name] = item
    return found


def _selected(channel: dict[str, Any]) -> bool:
    """Whether an encoding depends on a removed selection."""
    condition = channel.get("condition")
    return isinstance(condition, dict) and condition.get("param") in _SELECTIONS
