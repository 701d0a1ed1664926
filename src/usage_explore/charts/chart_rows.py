"""What a chart draws of an aggregate: its series as lines, and rows for the marks and tooltips.

Floats are for drawing only; texts are made from the exact numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any

from usage_explore.charts import labels
from usage_explore.charts.style import millis
from usage_explore.decimals import Number
from usage_explore.formatting import exact, typographic
from usage_explore.results.types import Point, merged

if TYPE_CHECKING:
    from usage_explore.results.types import AggregateData

Row = dict[str, Any]

MAX_DRAWN_SERIES = 40
"""Series of a chart; the smaller ones beyond are drawn as one."""

MAX_TOOLTIP_SERIES = 20
"""Series of a tooltip; it has the sum of those beyond."""


@dataclass(frozen=True)
class Line:
    """A series as drawn: its value in each bucket, and its index in the aggregate, -1 for several series as one."""

    name: str
    kind: str
    position: int
    points: tuple[Point, ...]

    @cached_property
    def values(self) -> tuple[Number | None, ...]:
        """The value in each bucket; None is a gap."""
        return tuple(point.value for point in self.points)


def lines(answer: AggregateData, names: Sequence[str]) -> tuple[Line, ...]:
    """The series in drawing order; beyond `MAX_DRAWN_SERIES` the smallest ones as one line, before Other."""
    result = [
        Line(name, series.kind, position, series.points)
        for position, (name, series) in enumerate(zip(names, answer.series, strict=True))
    ]
    if len(result) <= MAX_DRAWN_SERIES:
        return tuple(result)
    other = [line for line in result if line.kind == "other"]
    kept = result[: MAX_DRAWN_SERIES - 1 - len(other)]
    rest = result[len(kept) : len(result) - len(other)]
    return (*kept, Line(f"{len(rest):,} more series", "rest", -1, _as_one(answer, rest)), *other)


def stacked(answer: AggregateData, drawn: tuple[Line, ...], *, stack: bool, zeros: bool) -> list[Row]:
    """One row per point: `low` and `high` on the value axis; stacked, negatives go down from zero.

    Points of buckets that have not begun and hold nothing are left out, zeros too unless `zeros`. A point without a
    value, of a unit cost, has the `high` None if it is not stacked, which is a gap in a line; else it is left out.
    """
    result: list[Row] = []
    for index, point in enumerate(answer.series[0].points):
        up = down = 0.0
        for line in drawn:
            value = line.values[index]
            if labels.has_not_begun(answer, index, value):
                continue
            if value is None and stack:
                continue
            size = float(value or 0)
            base = 0.0
            if stack:
                base = down if size < 0 else up
                if size < 0:
                    down += size
                else:
                    up += size
            if value or value is None or zeros:
                result.append(
                    {
                        "start": millis(point.start),
                        "middle": (millis(point.start) + millis(point.end)) // 2,
                        "end": millis(point.end),
                        "index": index,
                        "series": line.name,
                        "position": line.position,
                        "low": base,
                        "high": None if value is None else base + size,
                        "complete": point.complete,
                    }
                )
    return result


def slim(points: list[Row], *, clickable: bool) -> list[Row]:
    """The points with the fields that their layers read; without `clickable`, also without those that clicks read."""
    dropped = {"index"} if clickable else {"index", "start", "end", "position"}
    return [{name: value for name, value in row.items() if name not in dropped} for row in points]


def ends(points: list[Row]) -> list[Row]:
    """The unfinished parts of lines and areas: incomplete points with their neighbours, in runs without a gap.

    `run` is the same for all points of a run, and differs between the runs of a series.
    """
    result: list[Row] = []
    for rows in _by_series(points):
        joined = [
            row
            for place, row in enumerate(rows)
            if not row["complete"] or any(not near["complete"] for near in _neighbours(rows, place))
        ]
        # before and after the complete points are separate runs
        for run, members in groupby(enumerate(joined), key=lambda pair: pair[1]["index"] - pair[0]):
            result += [{**row, "run": run} for _, row in members]
    return result


def lonely(points: list[Row]) -> list[Row]:
    """The points without a neighbour in their series, which are in no line."""
    points = [row for row in points if row["high"] is not None]
    return [row for rows in _by_series(points) for place, row in enumerate(rows) if not _neighbours(rows, place)]


def buckets(answer: AggregateData, drawn: tuple[Line, ...]) -> list[Row]:
    """One row per bucket that has begun or has a value: its texts, and `v0`, `v1`, … of the tooltip's series."""
    shown, hidden = split_tooltip(drawn)
    result = []
    for index, (point, total) in enumerate(zip(answer.series[0].points, labels.bucket_totals(answer), strict=True)):
        if labels.has_not_begun(answer, index, total) and (
            answer.query.cumulative or not any(line.values[index] for line in drawn)
        ):
            continue
        row: Row = {
            "start": millis(point.start),
            "end": millis(point.end),
            "position": -1,
            "when": labels.bucket_label(answer, point),
            "state": labels.state(answer, point),
            "total": typographic(exact(total)),
            **{f"v{place}": typographic(exact(line.values[index])) for place, line in enumerate(shown)},
        }
        if hidden:
            row["hidden"] = typographic(exact(answer.add(line.points[index] for line in hidden)))
        result.append(row)
    return result


def split_tooltip(drawn: tuple[Line, ...]) -> tuple[tuple[Line, ...], tuple[Line, ...]]:
    """The series in a tooltip, and those of which it has the sum."""
    if len(drawn) <= MAX_TOOLTIP_SERIES:
        return drawn, ()
    other = tuple(line for line in drawn if line.kind == "other")
    kept = drawn[: MAX_TOOLTIP_SERIES - len(other)]
    return kept + other, drawn[len(kept) : len(drawn) - len(other)]


def _by_series(points: list[Row]) -> list[list[Row]]:
    result: dict[str, list[Row]] = {}
    for row in points:
        result.setdefault(row["series"], []).append(row)
    return list(result.values())


def _neighbours(rows: list[Row], place: int) -> list[Row]:
    return [
        rows[near]
        for near in (place - 1, place + 1)
        if 0 <= near < len(rows) and abs(rows[near]["index"] - rows[place]["index"]) == 1
    ]


def _as_one(answer: AggregateData, several: list[Line]) -> tuple[Point, ...]:
    columns = zip(*(line.points for line in several), strict=True)
    return tuple(merged(column, answer.add(column)) for column in columns)
