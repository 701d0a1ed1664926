"""Why a finding's usage differs: against what was expected or the time before, by the values that account for it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any
from uuid import UUID

import streamlit as st

from usage_explore.app import cache, markdown
from usage_explore.app.cache import Source
from usage_explore.query import buckets
from usage_explore.query.queries import AggregateQuery
from usage_explore.query.validators import instant
from usage_explore.store import Store
from usage_explore.validation import Finding, Validation

if TYPE_CHECKING:
    from usage_explore.explain import Explanation

_WEEK, _INSTANT = timedelta(weeks=1), timedelta(microseconds=1)
_TEN_MINUTES = 600


@dataclass(frozen=True)
class Change:
    """What is to be explained: the question, and how `Store.explain` is asked about it."""

    query: AggregateQuery
    options: tuple[tuple[str, Any], ...]


def explained(source: Source, validation: Validation, finding: Finding) -> None:
    """Draw the sentence and the ranked bars; nothing where a finding's usage is not compared with any other."""
    asked = change(validation, finding)
    if asked is None:
        return
    with st.spinner("Looking for what accounts for it"):
        found = _explanation(source.store, source.store.organization_id, asked)
    st.markdown(f"**What accounts for it**  \n{markdown.plain(found.sentence)}")
    if found.cells:
        spec = found.chart(dark=st.context.theme.type == "dark").to_dict(validate=False)
        spec.pop("title")  # the page says it, where it wraps and is read out
        st.vega_lite_chart(spec=spec, theme=None, key="finding_explanation")
    if found.notes:
        st.caption(markdown.plain(" ".join(f"{note}." for note in found.notes)))


def change(validation: Validation, finding: Finding) -> Change | None:
    """A stated bucket against what was expected there, else the finding's time against that time a week before.

    What lasts longer than a week is compared with as long before. None where the finding is no usage at one time of one
    customer or metric: then there is nothing that changed.
    """
    if not finding.events or (finding.customer_id is None and finding.metric_key is None):
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
    since, until = _span(query, validation, finding)
    baseline = "week" if until - since <= _WEEK else "before"
    return Change(query, (("since", since), ("until", until), ("baseline", baseline)))


def _span(query: AggregateQuery, validation: Validation, finding: Finding) -> tuple[datetime, datetime]:
    """The chart's buckets that hold the finding, as far as they were known."""
    bucket, zone = query.bucket, query.zone
    since = buckets.floor(finding.since, bucket, zone)
    last = buckets.floor(max(finding.until - _INSTANT, finding.since), bucket, zone)
    known = validation.period.as_of or validation.now
    return since, min(buckets.following(last, bucket, zone), max(known, since + _INSTANT))


@st.cache_resource(ttl=_TEN_MINUTES, max_entries=100, show_spinner=False, hash_funcs={Change: repr})
def _explanation(_store: Store, organization_id: UUID | None, asked: Change) -> Explanation:
    with cache.asking("explain", organization_id, asked.query):
        return _store.explain(asked.query, **dict(asked.options))
