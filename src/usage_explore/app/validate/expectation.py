"""What was to be expected of the buckets of a finding's chart: the detector's band, as the check saw it."""

from __future__ import annotations

import math
from datetime import datetime
from typing import NamedTuple

import numpy as np

from usage_explore.answers import Aggregate
from usage_explore.app.cache import Source
from usage_explore.charts import undrawable
from usage_explore.charts.expected import Expected
from usage_explore.detector import detect
from usage_explore.query.queries import AggregateQuery
from usage_explore.query.validators import EARLIEST, instant
from usage_explore.validation import Finding, Validation
from usage_explore.validation.anomalies.series import HISTORY, grid_of_edges

_STATED = ("bucket", "expected", "low", "high")
"""The facts of a finding that tell a band: the bucket it is of, and the numbers."""

_SAME = 0.01
"""So near the detector's numbers are to the stated ones where both speak of the same band."""


class Band(NamedTuple):
    """An expectation and the band around it."""

    expected: float
    low: float
    high: float

    def is_near(self, other: Band) -> bool:
        """Whether the two differ by no more than writing them shortly does."""
        return math.isclose(self.expected, other.expected, rel_tol=_SAME, abs_tol=1e-9)


def expectation(source: Source, validation: Validation, finding: Finding, answer: Aggregate) -> Expected | None:
    """What was expected of each bucket of the finding's chart, None where its check states no band.

    The detector judges the series again, over the same time as the check. Where the finding states another band (a new
    level is told against the old one), the stated one holds for the finding's buckets: what is drawn is what was said.
    """
    stated = _stated(finding)
    if stated is None or not isinstance(finding.question, AggregateQuery) or finding.question.group_by != "none":
        return None
    bucket, told = stated
    usual = _judged(source, validation, finding.question)
    agree = bucket in usual and usual[bucket].is_near(told)
    bands = [
        told if finding.since <= start < finding.until and not agree else usual.get(start)
        for start in answer.edges[:-1]
    ]
    return Expected(*(tuple(None if band is None else band[place] for band in bands) for place in range(3)))


def _stated(finding: Finding) -> tuple[datetime, Band] | None:
    facts = dict(finding.facts)
    if not facts.keys() >= set(_STATED):
        return None
    bucket, *numbers = (facts[name] for name in _STATED)
    try:
        return instant(bucket), Band(*map(float, numbers))
    except ValueError:
        return None


def _judged(source: Source, validation: Validation, question: AggregateQuery) -> dict[datetime, Band]:
    """The detector's band by the start of each bucket that it judges, learnt from as long as the check learnt from."""
    period, extent = validation.period, source.extent()
    until = min(period.span[1], period.as_of or validation.now, validation.now)
    since = max(period.span[0] - HISTORY, EARLIEST, *(extent or ())[:1])
    if since >= until or question.bucket == "week":
        return {}
    answer = source.aggregate(question.replace(since=since, until=until))
    if undrawable(answer):
        return {}
    whole = [point for point in answer.series[0].points if point.complete]
    if not whole:
        return {}
    edges = (*(point.start for point in whole), whole[-1].end)
    grid = grid_of_edges(question.bucket, edges, question.zone)
    values = grid.lay_out(range(1, len(edges)), [float(point.value) for point in whole])
    found = detect(values[np.newaxis, :], grid.season)
    judged = zip(grid.starts, found.expected[0].tolist(), found.low[0].tolist(), found.high[0].tolist(), strict=True)
    return {
        start: Band(expected, low, high)
        for start, expected, low, high in judged
        if start is not None and not math.isnan(expected)
    }
