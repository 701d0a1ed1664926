"""The rows a chart draws: one per visible point, one per bucket, and the unfinished ends of lines and areas.

Floats are for drawing only; what is read is text made from the exact numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from usage_explore.charts import words
from usage_explore.charts.ticks import millis
from usage_explore.decimals import Number, exact_sum
from usage_explore.formatting import exact

if TYPE_CHECKING:
    from usage_explore.results.types import AggregateData

Row = dict[str, Any]

MAX_DRAWN = 40
"""How many series are drawn one by one; the rest is drawn as one."""
MAX_TOLD = 20
"""How many series a tooltip tells one by one."""


@dataclass(frozen=True, slots=True)
class Line:
    """A series as it is drawn: its values per bucket and its place in the answer (-1: several series in one)."""

    name: str
    kind: str
    position: int
    values: tuple[Number, ...]


def lines(answer: AggregateData, called: Sequence[str]) -> tuple[Line, ...]:
    """The series under their names in drawing order; beyond `MAX_DRAWN` the smallest ones as one line, before Other."""
    found = [
        Line(name, series.kind, position, tuple(point.value for point in series.points))
        for position, (name, series) in enumerate(zip(called, answer.series, strict=True))
    ]
    if len(found) <= MAX_DRAWN:
        return tuple(found)
    other = [line for line in found if line.kind == "other"]
    kept = found[: MAX_DRAWN - 1 - len(other)]
    rest = found[len(kept) : len(found) - len(other)]
    return (*kept, Line(f"{len(rest):,} more series", "rest", -1, _sums(rest)), *other)


def stacked(answer: AggregateData, drawn: tuple[Line, ...], *, stack: bool, zeros: bool) -> list[Row]:
    """One row per point: `low` and `high` on the value axis; stacked, negatives go down from zero.

    Points of buckets that have not begun and hold nothing are left out, zeros too unless `zeros`.
    """
    found = []
    for index, point in enumerate(answer.series[0].points):
        up = down = 0.0
        for line in drawn:
            value = line.values[index]
            if words.unborn(answer, point, value):
                continue
            size = float(value)
            base = 0.0
            if stack:
                base = down if size < 0 else up
                if size < 0:
                    down += size
                else:
                    up += size
            if value or zeros:
                found.append(
                    {
                        "start": millis(point.start),
                        "middle": (millis(point.start) + millis(point.end)) // 2,
                        "end": millis(point.end),
                        "index": index,
                        "series": line.name,
                        "position": line.position,
                        "low": base,
                        "high": base + size,
                        "complete": point.complete,
                    }
                )
    return found


def lean(points: list[Row], *, clickable: bool) -> list[Row]:
    """The points with what their layers read alone; a chart of many points is not clicked point by point."""
    dropped = {"index"} if clickable else {"index", "start", "end", "position"}
    return [{name: value for name, value in row.items() if name not in dropped} for row in points]


def ends(points: list[Row]) -> list[Row]:
    """The unfinished ends of lines and areas: each incomplete point joined to its neighbours, run by run.

    `run` tells the runs of a series apart.
    """
    found: list[Row] = []
    for rows in _by_series(points):
        joined = [
            row
            for place, row in enumerate(rows)
            if not row["complete"] or any(not near["complete"] for near in _neighbours(rows, place))
        ]
        # an end on either side of the complete stretch is its own run
        for run, members in groupby(enumerate(joined), key=lambda pair: pair[1]["index"] - pair[0]):
            found += [{**row, "run": run} for _, row in members]
    return found


def lonely(points: list[Row]) -> list[Row]:
    """The points without a neighbour in their series, which no line reaches."""
    return [row for rows in _by_series(points) for place, row in enumerate(rows) if not _neighbours(rows, place)]


def buckets(answer: AggregateData, drawn: tuple[Line, ...]) -> list[Row]:
    """One row per bucket that has anything to tell: its label, state, total, and `v0`, `v1`, … of the series told."""
    told, hidden = split_told(drawn)
    found = []
    for index, (point, total) in enumerate(zip(answer.series[0].points, words.bucket_totals(answer), strict=True)):
        if words.unborn(answer, point, total) and not any(line.values[index] for line in drawn):
            continue
        row: Row = {
            "start": millis(point.start),
            "end": millis(point.end),
            "position": -1,
            "when": words.bucket_label(answer, point),
            "state": words.state(answer, point),
            "total": exact(total),
            **{f"v{place}": exact(line.values[index]) for place, line in enumerate(told)},
        }
        if hidden:
            row["hidden"] = exact(exact_sum((line.values[index] for line in hidden), total * 0))
        found.append(row)
    return found


def split_told(drawn: tuple[Line, ...]) -> tuple[tuple[Line, ...], tuple[Line, ...]]:
    """The series a tooltip tells, and those it sums up."""
    if len(drawn) <= MAX_TOLD:
        return drawn, ()
    other = tuple(line for line in drawn if line.kind == "other")
    kept = drawn[: MAX_TOLD - len(other)]
    return kept + other, drawn[len(kept) : len(drawn) - len(other)]


def _by_series(points: list[Row]) -> list[list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in points:
        found.setdefault(row["series"], []).append(row)
    return list(found.values())


def _neighbours(rows: list[Row], place: int) -> list[Row]:
    return [
        rows[near]
        for near in (place - 1, place + 1)
        if 0 <= near < len(rows) and abs(rows[near]["index"] - rows[place]["index"]) == 1
    ]


def _sums(several: list[Line]) -> tuple[Number, ...]:
    zero = several[0].values[0] * 0
    return tuple(exact_sum(column, zero) for column in zip(*(line.values for line in several), strict=True))
