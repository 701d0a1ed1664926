"""The context of a finding: the expected values in its chart, and what explains its change.

Its facts are texts: times on the zone's clock, numbers with thousands separated, checks by title.
"""

from __future__ import annotations

import math
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import streamlit as st

from usage_explore import formatting
from usage_explore.answers import Aggregate
from usage_explore.app import cache, markdown, why
from usage_explore.app.cache import Source
from usage_explore.charts import undrawable
from usage_explore.charts.expected import Expected
from usage_explore.decimals import Number
from usage_explore.detector import detect
from usage_explore.query import buckets
from usage_explore.query.queries import AggregateQuery
from usage_explore.query.validators import EARLIEST, instant
from usage_explore.store import Store
from usage_explore.validation import Finding, Validation
from usage_explore.validation.anomalies.series import HISTORY, grid_of_edges
from usage_explore.validation.checks import duplicates, unit_costs
from usage_explore.validation.reconciliation.differences import NAME as RECONCILIATION

if TYPE_CHECKING:
    from usage_explore.explain import Explanation

_WEEK, _INSTANT = timedelta(weeks=1), timedelta(microseconds=1)
_TEN_MINUTES = 600

_BAND_FACTS = ("bucket", "expected", "low", "high")
"""The facts of a finding that state the expected value of a bucket and its bounds."""

_MAX_BAND_DEVIATION = 0.01
"""Relative deviation up to which two bands are the same: stated numbers are rounded."""


@dataclass(frozen=True)
class Change:
    """A change to explain: the query and the options of `Store.explain`."""

    query: AggregateQuery
    options: tuple[tuple[str, Any], ...]


def explained(source: Source, validation: Validation, finding: Finding) -> None:
    """Draw the explanation's sentence and its parts; nothing if the finding is no change of usage."""
    compared = change(validation, finding)
    if compared is None:
        return
    with st.spinner("Looking for what accounts for it"):
        explanation = _explanation(source.store, source.store.organization_id, validation.now, compared)
    sentences = " ".join(filter(None, (_copies(finding, explanation), explanation.sentence)))
    st.markdown(f"**What accounts for it**  \n{markdown.plain(formatting.typographic(sentences))}")
    if explanation.cells:
        why.draw_parts(explanation, "finding_explanation")
    if explanation.notes:
        st.caption(markdown.plain(" ".join(f"{note}." for note in explanation.notes)))


def _copies(finding: Finding, explanation: Explanation) -> str:
    """For a finding of duplicates, a sentence that its events are copies; blank for others.

    The values that account for the change do not show it.
    """
    if finding.check != duplicates.NAME:
        return ""
    which = formatting.counted(finding.events, "event")
    if explanation.query.metric == "sum_quantity" and finding.quantity is not None:
        which += f", {formatting.exact(finding.quantity)} of the quantity,"
    are, they = ("is a copy", "it was") if finding.events == 1 else ("are copies", "they were")
    if dict(finding.facts).get(duplicates.KIND_FACT) == duplicates.REUSE:
        return f"{which} came with the idempotency key of an earlier event that has other content."
    return f"{which} {are}: {they} sent again, and a correct invoice counts each key once."


def change(validation: Validation, finding: Finding) -> Change | None:
    """The finding's bucket against its expected value, else the finding's time against the same time a week before.

    A finding longer than a week is compared with the time before, of the same length; one on unit costs by the cost in
    the currency of its share. None if the finding has no events, is about no single customer or metric, or about lines
    of an invoice, which no usage accounts for.
    """
    is_of_lines = finding.check == RECONCILIATION
    if is_of_lines or not finding.events or (finding.customer_id is None and finding.metric_key is None):
        return None
    if isinstance(finding.question, AggregateQuery):
        query = finding.question.replace(group_by=None, top=None)
        facts = dict(finding.facts)
        with suppress(KeyError, ValueError, InvalidOperation):
            return Change(query, (("bucket", instant(facts["bucket"])), ("expected", Decimal(facts["expected"]))))
    elif finding.until - finding.since > _WEEK:
        return None
    else:
        query = finding.chart_query(validation.period, validation.now)
    if finding.check == unit_costs.NAME:
        query = query.replace(metric="sum_cost", external_cost_currency=_currency(finding))
    since, until = _span(query, validation, finding)
    baseline = "week" if until - since <= _WEEK else "before"
    return Change(query, (("since", since), ("until", until), ("baseline", baseline)))


def _currency(finding: Finding) -> str:
    """The currency of the cost of which a finding is a share."""
    return next(name for name, _ in finding.amounts if finding.share_of == f"cost in {formatting.data_value(name)}")


def _span(query: AggregateQuery, validation: Validation, finding: Finding) -> tuple[datetime, datetime]:
    """The chart's buckets that contain the finding, up to the validation's `as_of`."""
    bucket, zone = query.bucket, query.zone
    since = buckets.floor(finding.since, bucket, zone)
    last = buckets.floor(max(finding.until - _INSTANT, finding.since), bucket, zone)
    known = validation.period.as_of or validation.now
    return since, min(buckets.following(last, bucket, zone), max(known, since + _INSTANT))


@st.cache_resource(ttl=_TEN_MINUTES, max_entries=100, show_spinner=False, hash_funcs={Change: repr})
def _explanation(_store: Store, organization_id: UUID | None, run_at: datetime, compared: Change) -> Explanation:
    with cache.logged_work("explain", organization_id, compared.query):
        return _store.explain(compared.query, **dict(compared.options))


class Band(NamedTuple):
    """An expected value with its lower and upper bound."""

    expected: float
    low: float
    high: float

    def is_near(self, other: Band) -> bool:
        """Whether the expected values differ by less than rounding."""
        return math.isclose(self.expected, other.expected, rel_tol=_MAX_BAND_DEVIATION, abs_tol=1e-9)


def expectation(source: Source, validation: Validation, finding: Finding, answer: Aggregate) -> Expected | None:
    """The expected value of each bucket of the finding's chart; None if the finding states no expected value.

    The detector runs again over the same time as in the check. If the finding states another band (a new level is
    compared with the old one), the stated band is drawn for the finding's buckets.
    """
    stated = _stated(finding)
    if stated is None or not isinstance(finding.question, AggregateQuery) or finding.question.group_by != "none":
        return None
    bucket, band = stated
    usual = _judged(source, validation, finding.question)
    agree = bucket in usual and usual[bucket].is_near(band)
    bands = [
        band if finding.since <= start < finding.until and not agree else usual.get(start)
        for start in answer.edges[:-1]
    ]
    return Expected(*(tuple(None if band is None else band[index] for band in bands) for index in range(3)))


def _stated(finding: Finding) -> tuple[datetime, Band] | None:
    facts = dict(finding.facts)
    if not facts.keys() >= set(_BAND_FACTS):
        return None
    bucket, *numbers = (facts[name] for name in _BAND_FACTS)
    try:
        return instant(bucket), Band(*map(float, numbers))
    except ValueError:
        return None


def _judged(source: Source, validation: Validation, question: AggregateQuery) -> dict[datetime, Band]:
    """The detector's band by the start of each bucket that it judges, learnt from as long as the check learnt from."""
    period, extent = validation.period, source.extent()
    until = min(period.span[1], period.as_of or validation.now, validation.now)
    since = max(period.span[0] - HISTORY(), EARLIEST, *(extent or ())[:1])
    if since >= until or question.bucket not in ("hour", "day"):
        return {}
    answer = source.aggregate(question.replace(since=since, until=until))
    if undrawable(answer):
        return {}
    whole = [point for point in answer.series[0].points if point.complete]
    if not whole:
        return {}
    edges = (*(point.start for point in whole), whole[-1].end)
    grid = grid_of_edges(question.bucket, edges, question.zone)
    values = grid.lay_out(range(1, len(edges)), [float(point.number) for point in whole])
    detected = detect(values[np.newaxis, :], grid.season)
    judged = zip(
        grid.starts, detected.expected[0].tolist(), detected.low[0].tolist(), detected.high[0].tolist(), strict=True
    )
    return {
        start: Band(expected, low, high)
        for start, expected, low, high in judged
        if start is not None and not math.isnan(expected)
    }


_TIME = re.compile(r"[12]\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)
_NUMBER = re.compile(r"-?\d+(\.\d+)?", re.ASCII)
_QUANTITY = re.compile(r"(?<=, quantity )-?\d+(\.\d+)?$", re.ASCII)
_NUMERIC = re.compile(
    r"actual|expected|low|high|excess|customers|tolerance|usual median|times .+|(usual )?cost (in|without) .+"
    r"|.*\bevents\b.*"
)
"""Names of facts that are numbers; others may be values of the data, which are shown as they are."""

_WITH_QUANTITY = re.compile(r"affected .+|arrived after finalization")
"""Names of facts such as `205 events, quantity 33518.84`."""


def fact_text(name: str, text: str, zone: ZoneInfo) -> str:
    """A fact as text; values of the data as they are."""
    if _TIME.fullmatch(text):
        return formatting.timestamp(instant(text), zone)
    if _WITH_QUANTITY.fullmatch(name):
        return _QUANTITY.sub(lambda number: exact_text(Decimal(number[0])), text)
    return exact_text(Decimal(text)) if _NUMERIC.fullmatch(name) and _NUMBER.fullmatch(text) else text


def exact_text(value: Number) -> str:
    """Every digit, with thousands separated and the sign − of a negative number."""
    return formatting.typographic(formatting.exact(value))
