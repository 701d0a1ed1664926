"""A finding as a small chart: its question's numbers around its window, as SVG that is inert in a page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import altair as alt

from usage_explore import charts
from usage_explore.charts.axes import millis
from usage_explore.errors import DrawingError, UsageExploreError
from usage_explore.query import buckets
from usage_explore.query.base import Question
from usage_explore.query.buckets import Bucket
from usage_explore.query.describe import describe
from usage_explore.query.queries import AggregateQuery
from usage_explore.query.validators import EARLIEST, LATEST
from usage_explore.validation.report import words

if TYPE_CHECKING:
    from usage_explore.answers import Aggregate, AggregateSource
    from usage_explore.validation import Finding, Validation

WIDTH, HEIGHT = 640, 190

_SVG = "http://www.w3.org/2000/svg"
_KEPT = {"svg", "g", "path", "rect", "line", "text", "tspan"}
"""The elements that a chart's picture has; any other is refused."""

_NEEDLESS = re.compile(r"aria-.*|role|class|pointer-events|cursor")
_HOURLY = timedelta(days=4)
_LONGEST = timedelta(days=400)
_MOST = 0.8  # of the chart: what covers more marks nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A chart as `svg`, what it shows as `caption`; without `svg`, `caption` says why it was not drawn."""

    svg: str
    caption: str


def picture(store: AggregateSource, validation: Validation, finding: Finding) -> Picture:
    """The finding's chart, its window marked. Costs one aggregate and one picture."""
    try:
        answer = store.aggregate(question(validation, finding))
        chart = charts.chart(answer, width=WIDTH, height=HEIGHT, interactive=False)
        said = [f"{describe(answer.query.replace(as_of=None))}.", *(chart.title.to_dict().get("subtitle", []))]
        chart.title = alt.Undefined
        if marked := _marked(answer, finding):
            chart.layer.insert(0, _band(chart, marked))
            said.append(f"Shaded: the {answer.query.bucket}s with what was found.")
        svg = inert(charts.image(chart, "svg"), charts.summary(answer))
    except UsageExploreError as error:
        return Picture(svg="", caption=f"No chart: {words.text(error, words.MAX_SENTENCE_CHARACTERS)}")
    return Picture(svg=svg, caption=words.text(" ".join(said), words.MAX_SENTENCE_CHARACTERS))


def question(validation: Validation, finding: Finding) -> AggregateQuery:
    """What the chart asks: the finding's own question, else its events' count or quantity around its window."""
    asked = finding.question
    if isinstance(asked, AggregateQuery):
        return asked
    shared = {name: value for name, value in asked.given().items() if name in Question.model_fields}
    length = finding.until - finding.since
    known = max(finding.until, validation.period.as_of or validation.now)
    bucket: Bucket = "hour" if length <= _HOURLY else "day"
    around = max(length, timedelta(days=1)) if bucket == "hour" else min(max(length / 2, timedelta(days=7)), _LONGEST)
    end = min(finding.until + around, known, LATEST)
    whole = buckets.floor(end, bucket, validation.period.zone)
    return AggregateQuery(
        **shared,
        since=buckets.floor(max(finding.since - around, EARLIEST), bucket, validation.period.zone),
        until=whole if whole >= finding.until else end,
        timezone=validation.period.timezone,
        bucket=bucket,
        metric="count" if finding.quantity is None else "sum_quantity",
    )


def inert(svg: bytes, told: str) -> str:
    """The picture with nothing in it but shapes and letters, its colours as a page's style can displace them.

    `told` is what those hear who do not see it. Raises `DrawingError` for anything else in it.
    """
    ElementTree.register_namespace("", _SVG)
    try:
        root = ElementTree.fromstring(svg)  # noqa: S314 - our own drawing, without a document type
    except ElementTree.ParseError as error:
        raise DrawingError(f"The chart was not drawn: its picture cannot be read ({error})") from None
    for element in root.iter():
        name = element.tag.removeprefix(f"{{{_SVG}}}")
        if name not in _KEPT:
            raise DrawingError(f"The chart was not drawn: its picture holds the element {name!r}")
        for attribute in [each for each in element.attrib if _NEEDLESS.fullmatch(each)]:
            del element.attrib[attribute]
    root.attrib |= {"role": "img", "aria-label": words.text(told, words.MAX_SENTENCE_CHARACTERS)}
    return ElementTree.tostring(root, encoding="unicode")


def _marked(answer: Aggregate, finding: Finding) -> tuple[datetime, datetime] | None:
    """The buckets that hold some of the finding's window, None where that is none of them, or nearly all."""
    held = [(start, end) for start, end in pairwise(answer.edges) if start < finding.until and end > finding.since]
    if not held or len(held) > _MOST * (len(answer.edges) - 1):
        return None
    return held[0][0], held[-1][1]


def _band(chart: alt.LayerChart, marked: tuple[datetime, datetime]) -> alt.Chart:
    """A band over the window, on the time axis that the chart has."""
    row = {"start": millis(marked[0]), "end": millis(marked[1])}
    axes = (layer.encoding["x"] for layer in chart.layer)
    place = next(axis for axis in axes if axis is not alt.Undefined)  # the legend's layer has none
    band: alt.Chart = (
        alt.Chart(alt.InlineData(values=[row]))
        .mark_rect(color=charts.LIGHT.text, opacity=0.1)
        .encode(x=place, x2="end:Q")
    )
    return band
