"""The other period of a compared aggregate in its chart: a thin line, and its texts in the tooltips."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import altair as alt

from usage_explore.charts import labels
from usage_explore.charts.chart_rows import Line, Row, split_tooltip
from usage_explore.charts.layers import Canvas, inline
from usage_explore.charts.style import millis
from usage_explore.decimals import Number, exact_sum
from usage_explore.formatting import NO_VALUE, exact, typographic
from usage_explore.results.types import Change

if TYPE_CHECKING:
    from usage_explore.results.types import AggregateData, Comparison


def with_texts(answer: AggregateData, bands: list[Row], drawn: tuple[Line, ...]) -> list[Row]:
    """The rows of `chart_rows.buckets` with the texts of their counterparts, if the aggregate is compared."""
    if answer.comparison is None:
        return bands
    indexes = {millis(edge): index for index, edge in enumerate(answer.edges)}
    shown, _ = split_tooltip(drawn)
    return [row | _texts(answer, answer.comparison, indexes[row["start"]], shown) for row in bands]


def _texts(answer: AggregateData, compared: Comparison, index: int, shown: tuple[Line, ...]) -> Row:
    """The texts of a bucket's counterpart: when it is, and the change of all series and of each that is shown."""
    counterparts = [series.points[index] for series in compared.series]
    points = [point for point in counterparts if point is not None]
    if not points:
        return {"before_when": "no counterpart", "change": NO_VALUE}
    whole: Change = points[0]
    if len(points) > 1:
        whole = Change(_added(answer, [point.now for point in points]), _added(answer, [p.before for p in points]))
    return {
        "before_when": labels.bucket_label(answer, points[0]),
        "change": typographic(labels.change_words(whole)),
        **{
            f"v{place}": typographic(f"{exact(line.values[index])} ({labels.change_words(point)})")
            for place, line in enumerate(shown)
            if len(shown) > 1 and line.position >= 0 and (point := counterparts[line.position]) is not None
        },
    }


def _added(answer: AggregateData, values: list[Number | None]) -> Number | None:
    """The sum of the series' values; None of what does not add up."""
    return exact_sum((value for value in values if value is not None), 0) if answer.adds_up else None


def earlier(answer: AggregateData, compared: Comparison, drawn: tuple[Line, ...], kind: str) -> list[Row]:
    """The other period's line: of all series together, or of each one if they are drawn as `lines`.

    Steps along the edges of the answer's buckets for bars and running totals, else points in their middles. `run`
    differs between parts without a gap.
    """
    if kind == "lines":
        lines_of = [(line.name, [compared.series[line.position]]) for line in drawn if line.position >= 0]
    else:
        lines_of = [("", list(compared.series))]
    steps = kind == "bars" or answer.query.cumulative
    result: list[Row] = []
    for name, several in lines_of:
        run = 0
        for index, (start, end) in enumerate(pairwise(answer.edges)):
            points = [point for series in several if (point := series.points[index]) is not None]
            values = [point.before for point in points if point.before is not None]
            if not values:
                run += 1
                continue
            value = float(exact_sum(values, 0))
            middle = (millis(start) + millis(end)) // 2
            at = (millis(start), millis(end)) if steps else (middle,)
            result += [{"middle": moment, "high": value, "series": name, "run": run} for moment in at]
    return [{**row, "order": order} for order, row in enumerate(result)]


def outline(canvas: Canvas, rows: list[Row], kind: str) -> list[alt.Chart]:
    """The other period as a thin line, aligned by bucket; in the colours of the series if they are `lines`.

    Over filled marks it has a halo of the background, which shows it on every colour.
    """
    base = alt.Chart(inline(rows, "earlier")).encode(
        x=canvas.place("middle"),
        y=canvas.value(),
        order=alt.Order("order:Q"),
        detail=[alt.Detail("run:N"), alt.Detail("series:N")],
    )
    if kind == "lines":
        return [base.mark_line(strokeWidth=1, strokeOpacity=0.6, aria=False).encode(color=canvas.color())]
    inks = (3.5, canvas.palette.background), (1.5, canvas.palette.text)
    return [base.mark_line(strokeWidth=width, stroke=ink, aria=False) for width, ink in inks]
