"""The selection of the Explore page: a bar or a span of its chart, as the query for its numbers, and its counterpart.

Headline, ranking, leaderboards and rows are those of the selection; without one, those of the whole window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from usage_explore import formatting
from usage_explore.answers import Aggregate
from usage_explore.charts import labels
from usage_explore.comparison import lengths
from usage_explore.errors import QueryError
from usage_explore.explain import spans
from usage_explore.explain.spans import Baseline
from usage_explore.names import NO_NAMES, Names
from usage_explore.query.base import Query
from usage_explore.query.describe import group_name
from usage_explore.query.filters import DIMENSION, ID_COLUMNS, dimension_key
from usage_explore.query.queries import AggregateQuery
from usage_explore.results.types import Comparison, Series, SeriesKind

Span = tuple[datetime, datetime]
SeriesKey = tuple[SeriesKind, str | None]
"""The kind and key of a series."""

_MAX_WEEKLY = timedelta(days=7, hours=1)
"""Longest selection that is compared with the same hours one week before; it may have an hour more than seven days."""


@dataclass(frozen=True)
class Selection:
    """What the numbers are about: the resolved `query` of the selection, else of the whole window.

    `series` and `span` are what is selected; both are None without a selection. `span` lies within the window.
    """

    query: AggregateQuery
    series: Series | None = None
    span: Span | None = None

    def __bool__(self) -> bool:
        return self.series is not None or self.span is not None

    @property
    def counted(self) -> Span | None:
        """The time that the selection's numbers are of, from the window's start on in a running total."""
        return self.query.span if self.span is not None and self.query.cumulative else self.span

    def words(self, answer: Aggregate) -> str:
        """The selection in words: "3 Sep 2026, model large", of a running total "1–3 Sep 2026"."""
        zone = answer.query.zone
        time = "" if self.counted is None else formatting.span(*(edge.astimezone(zone) for edge in self.counted))
        return ", ".join(filter(None, (time, self.series_words(answer))))

    def series_words(self, answer: Aggregate) -> str:
        """The selected series with its group, "model large"; blank without one."""
        return "" if self.series is None else f"{group_name(answer.query.group_by)} {self.series_label(answer)}"

    def series_label(self, answer: Aggregate) -> str:
        """The name of the selected series as the chart has it; blank without one."""
        if self.series is None:
            return ""
        if self.series in answer.series:
            return labels.names(answer)[answer.series.index(self.series)]
        return self.series.name or formatting.data_value(self.series.label)


def selected(
    answer: Aggregate,
    series_key: SeriesKey | None,
    selected_span: Span | None,
    names_of: Callable[[Iterable[tuple[str, str]]], Names] = lambda _: NO_NAMES,
) -> Selection | None:
    """The selection of a series and a time, None for all of either; None if the time lies outside the window.

    `names_of` looks up the name of a selected id that the answer folds into Other.

    A series that is not drawn, because it is folded into Other or has no events, is selected nevertheless. The series
    Other exists only in an answer that has one: without it, Other selects nothing. Nor does a value that the query's
    own filter on the group leaves out: its events are not in the answer.
    """
    query, series, span = answer.query, None, None
    if selected_span is not None:
        since, until = query.span
        if not (selected_span[0] < until and since < selected_span[1]):
            return None
        span = max(since, selected_span[0]), min(until, selected_span[1])
        # a running total counts from the window's start on
        query = query.replace(since=since if query.cumulative else span[0], until=span[1])
    if series_key is not None and series_key[0] != "all" and query.group_by != "none":
        series = next((item for item in answer.series if (item.kind, item.key) == series_key), None)
        if series is None and series_key[0] in ("value", "missing") and _may_hold(query, series_key[1]):
            series = Series(*series_key, 0, 1, ())
            if series.key and query.group_by in ID_COLUMNS:
                ids = ((query.group_by, series.key),)
                series = replace(series, name=names_of(ids).known(*ids[0]))
        if series is not None:
            query = narrowed(answer, query, series)
    return Selection(query, series, span)


def whole_of(selection: Selection) -> AggregateQuery:
    """The query for the selection's total."""
    return selection.query.replace(bucket="week", compare=None, cumulative=None)


def _may_hold(query: AggregateQuery, key: str | None) -> bool:
    """Whether the query's filter on its group, if it has one, includes the value; None is the missing one."""
    group = query.group_by
    values: Any = getattr(query, group, None)
    if group.startswith(DIMENSION):
        values = dict(query.dimensions).get(dimension_key(group))
    if not values:
        return True
    return key in (map(str, values) if isinstance(values, tuple) else (str(values),))


def narrowed(answer: Aggregate, query: AggregateQuery, series: Series) -> AggregateQuery:
    """The query filtered to the events of one series, which may be Other; its window stays relative if it is."""
    behind = answer.events_at(series)
    names = [name for name in Query.model_fields if name != "organization_id"]
    changes: dict[str, Any] = {name: getattr(behind, name) for name in names}
    fields = Query.model_fields
    return query.replace(**{name: None if value == fields[name].default else value for name, value in changes.items()})


@dataclass(frozen=True)
class Windows:
    """The half-open window of the selection and the earlier one, with a name for the comparison.

    The name says how long both are where that differs, as of October and September.
    """

    now: spans.Span
    before: spans.Span
    label: str


def windows(
    selection: Selection, comparison: Comparison | str, answer: Aggregate, first: datetime | None
) -> Windows | str:
    """The windows to compare, else the reason why there are none.

    Those of the page's `comparison` without a selected span. A span of up to a week is compared with the same hours one
    week before, because usage follows the week; a longer one with the period before. `first` is the time of the
    organization's first event.
    """
    if selection.counted is None:
        if isinstance(comparison, str):
            return comparison
        if not comparison.has_begun:
            return "nothing to compare: the window has not begun"
        now = spans.Span(answer.query.span[0], comparison.now_until)
        before = spans.Span(comparison.since, comparison.until)
        more = lengths(answer.query, (now.since, now.until), (before.since, before.until))
        return Windows(now, before, ", ".join(filter(None, (comparison.label, more))))
    since, until = selection.counted
    weekly = until - since <= _MAX_WEEKLY
    baseline: Baseline = "week" if weekly else "before"
    try:
        both = spans.spans(selection.query, answer.now, None, baseline)
    except QueryError:
        return "nothing to compare"
    zone = answer.query.zone
    name = formatting.span(*(edge.astimezone(zone) for edge in (both.before.since, both.before.until)))
    if first is None or both.before.since < first:
        begin = formatting.date_and_time(first.astimezone(zone)) if first else ""
        return f"not compared with {name}: " + (f"events begin on {begin}" if first else "no events")
    length = both.after.until - both.after.since
    so_far = " so far" if both.after.until < until else ""
    weekday = f"{both.before.since.astimezone(zone):%a} " if weekly and length <= timedelta(days=1, hours=1) else ""
    return Windows(both.after, both.before, f"vs {weekday}{name}{so_far}")
