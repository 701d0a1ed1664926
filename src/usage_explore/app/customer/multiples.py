"""Small multiples in HTML: the buckets of many series, all on one time axis, each with a scale of its own from zero.

A chart is a row of cells, one for each bucket, without a canvas: a dozen metrics with three charts each are drawn at
once, and wrap with the page. Sums are bars, ratios are dots. A cell under the pointer shows its time and exact value;
a screen reader hears the chart's summary. A line is at zero, below which negative sums hang. Unfinished buckets are
striped, those that have not begun are hatched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from html import escape
from typing import Literal

from usage_explore import formatting
from usage_explore.answers import Aggregate
from usage_explore.charts import labels
from usage_explore.charts.style import Palette
from usage_explore.decimals import Number, difference, ratio
from usage_explore.results.types import Change, Point, Series

Mark = Literal["bar", "dot"]

_STYLE = """<style>
.multiples {{ display: grid; grid-template-columns: repeat({columns}, minmax(0, 1fr)); column-gap: 1.5rem; }}
.multiples > div {{ display: flex; flex-direction: column; justify-content: flex-end; min-width: 0; }}
.multiples .figure {{ font-variant-numeric: tabular-nums; white-space: nowrap; overflow: hidden;
  text-overflow: ellipsis; }}
.multiples small {{ color: {soft}; font-size: 0.8rem; }}
.multiples .plot {{ display: flex; height: 3.25rem; margin-top: 0.15rem;
  background: linear-gradient({soft} 0 0) 0 calc(100% - var(--zero)) / 100% 1px no-repeat; }}
.multiples i {{ flex: 1 1 0; min-width: 0; position: relative; --ink: {ink};
  box-shadow: inset {gap} 0 0 {background}; }}
.multiples i.bar {{ background: linear-gradient(to top, transparent var(--from), var(--ink) var(--from),
  var(--ink) max(var(--to), calc(var(--from) + 1.5px)), transparent 0); }}
.multiples i.bar.unfinished {{ background: repeating-linear-gradient(135deg, transparent 0 2px, {background} 2px 4px),
  linear-gradient(to top, transparent var(--from), var(--ink) var(--from),
  var(--ink) max(var(--to), calc(var(--from) + 1.5px)), transparent 0); }}
.multiples i.dot {{ background: radial-gradient(circle at 50% calc(100% - 3px - var(--to) * 0.88), var(--ink) 2px,
  transparent 2.6px); box-shadow: none; }}
.multiples i.dot.unfinished {{ background: radial-gradient(circle at 50% calc(100% - 3px - var(--to) * 0.88),
  transparent 1.2px, var(--ink) 1.4px 2.2px, transparent 2.8px); }}
.multiples i.future {{ background: repeating-linear-gradient(135deg, transparent 0 4px, {grid} 4px 5px); }}
.multiples i:hover {{ outline: 1px solid {soft}; }}
.multiples i:hover::after {{ content: attr(data-tip); position: absolute; bottom: calc(100% + 4px); left: 0; z-index: 9;
  white-space: pre; font: 0.8rem/1.4 sans-serif; color: {text}; background: {background}; border: 1px solid {grid};
  border-radius: 4px; padding: 0.3rem 0.5rem; box-shadow: 0 2px 8px #0003; pointer-events: none; }}
.multiples i.late:hover::after {{ left: auto; right: 0; }}
.multiples .axis {{ display: flex; justify-content: space-between; }}
@media (max-width: 640px) {{ .multiples {{ column-gap: 0.6rem; }}
  .multiples .figure small {{ display: block; }}
  .multiples > div:not(:first-child) .axis > :first-child, .multiples > div:not(:last-child) .axis > :last-child {{
    visibility: hidden; width: 0; white-space: nowrap; }} }}
</style>"""


@dataclass(frozen=True)
class Chart:
    """One chart: its series in an answer's buckets, the value of a point, its unit in words, and its large figures.

    `total` and `change` are exact; `change` is None where nothing is compared. `nothing` says why a point has no value.
    """

    series: Series
    value: Callable[[Point], Number | None]
    unit: str
    total: Number | None
    change: Change | None
    mark: Mark = "bar"
    nothing: str = ""


def style(columns: int, buckets: int, look: Palette) -> str:
    """The style of the charts on a page: their columns, and colours on its background."""
    gap = "1px" if buckets <= 45 else "0"
    return _STYLE.format(
        columns=columns,
        gap=gap,
        ink=look.hues[0],
        soft=look.soft,
        grid=look.grid,
        text=look.text,
        background=look.background,
    )


def row(answer: Aggregate, charts: Sequence[Chart | str]) -> str:
    """The charts of one row, as HTML; a text stands in the place of a chart that has nothing to draw."""
    cells = (f"<div>{_small(item)}</div>" if isinstance(item, str) else _chart(answer, item) for item in charts)
    return f'<div class="multiples">{"".join(cells)}</div>'


def axis(answer: Aggregate, headings: Sequence[str]) -> str:
    """The headings of the columns, and the shared time axis under each, as HTML."""
    zone = answer.query.zone
    first, last = (edge.astimezone(zone) for edge in (answer.edges[0], answer.edges[-2]))
    ends = [_tick(first, answer.query.bucket), _tick(last, answer.query.bucket)]
    if first.year == last.year and answer.query.bucket != "hour":
        ends[0] = ends[0].removesuffix(f" {first.year}")
    ticks = "".join(map(_small, ends[: len(answer.edges) - 1]))
    cells = (
        f'<div><strong class="figure">{escape(heading)}</strong><div class="axis">{ticks}</div></div>'
        for heading in headings
    )
    return f'<div class="multiples">{"".join(cells)}</div>'


def changed(change: Change | None) -> str:
    """A change in words: "+3.2 %", "new", "no change"; blank without one."""
    if change is None or change.now is None or change.before is None:
        return ""
    if change.now == change.before:
        return "no change"
    return formatting.typographic(formatting.change(change.ratio))


def _small(text: str) -> str:
    return f"<small>{escape(text)}</small>"


def _tick(moment: datetime, bucket: str) -> str:
    if bucket == "hour":
        return formatting.date_and_time(moment)
    return f"{moment:%b %Y}" if bucket == "month" else formatting.date(moment)


def _chart(answer: Aggregate, chart: Chart) -> str:
    values = [chart.value(point) for point in chart.series.points]
    known = [Decimal(0), *(Decimal(value) for value in values if value is not None)]
    scale = min(known), max(known)
    cells = "".join(_cell(answer, chart, index, value, scale) for index, value in enumerate(values))
    exact = escape(f"{formatting.exact(chart.total)} {chart.unit}")
    figure = escape(formatting.typographic(formatting.short(chart.total)))
    return (
        f'<div><div class="figure" title="{exact}"><strong>{figure}</strong> {_small(changed(chart.change))}</div>'
        f'<div class="plot" style="--zero:{_percent(Decimal(0), scale)}" role="img"'
        f' aria-label="{escape(_spoken(answer, chart, values))}">{cells}</div></div>'
    )


def _cell(answer: Aggregate, chart: Chart, index: int, value: Number | None, scale: tuple[Decimal, Decimal]) -> str:
    """One bucket. The tooltips of the later half reach to the left."""
    point = chart.series.points[index]
    if labels.has_not_begun(answer, index, value):
        kinds, place, text = ["future"], "", "not begun yet"
    elif value is None:
        kinds, place, text = [], "", chart.nothing
    else:
        kinds = [chart.mark, *([] if point.complete else ["unfinished"])]
        ends = (min(Decimal(value), Decimal(0)), max(Decimal(value), Decimal(0)))
        if not value:
            kinds = kinds[1:] if chart.mark == "bar" else kinds
        low, high = (_percent(end, scale) for end in ends)
        place = f' style="--from:{low};--to:{high}"'
        text = f"{formatting.typographic(formatting.exact(value))} {chart.unit}"
    if not point.complete and "future" not in kinds:
        text += f"\n{labels.state(answer, point)}"
    is_late = 2 * index >= len(chart.series.points)
    classes = " ".join([*kinds, *(["late"] if is_late else [])])
    tip = escape(f"{labels.bucket_label(answer, point)}\n{text}")
    return f'<i class="{classes}"{place} data-tip="{tip}"></i>'


def _percent(value: Decimal, scale: tuple[Decimal, Decimal]) -> str:
    least, most = scale
    whole = difference(most, least)
    return f"{float(ratio(difference(value, least), whole) * 100) if whole else 0:.4g}%"


def _spoken(answer: Aggregate, chart: Chart, values: Sequence[Number | None]) -> str:
    """What a screen reader says of a chart: its unit, total, change, peak and unfinished buckets."""
    parts = [f"{chart.unit}: {formatting.exact(chart.total)}"]
    if change := changed(chart.change):
        parts.append(f"change {change}")
    known = [(value, -index) for index, value in enumerate(values) if value is not None]
    if known:
        value, place = max(known)
        parts.append(f"peak {formatting.exact(value)} in {labels.bucket_label(answer, chart.series.points[-place])}")
    unfinished = [
        labels.bucket_label(answer, point)
        for index, (point, value) in enumerate(zip(chart.series.points, values, strict=True))
        if not point.complete and not labels.has_not_begun(answer, index, value)
    ]
    if unfinished:
        parts.append(f"unfinished: {'; '.join(unfinished)}")
    return ". ".join(parts)
