"""Do the totals reconcile? They are counted again another way, and tables that split the period are added up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from usage_explore import formatting
from usage_explore.decimals import Number, total
from usage_explore.errors import UsageExploreError
from usage_explore.query.base import Question
from usage_explore.query.limits import MAX_AGGREGATE_BUCKETS
from usage_explore.query.queries import METRICS, AggregateQuery
from usage_explore.validation.report import words

if TYPE_CHECKING:
    import pandas as pd

    from usage_explore.answers import AggregateSource
    from usage_explore.validation import Validation

SPLIT = ("wallets",)
"""The checks whose tables split the period's usage: each event is in one row, counted by `metric_key`."""

_DAYS = 1_000
"""Longer periods are counted by the week, within the buckets that an answer may have."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One thing that was counted twice: `agrees` is None where it could not be, `sentence` then says why."""

    agrees: bool | None
    sentence: str


def statements(store: AggregateSource, validation: Validation) -> tuple[Statement, ...]:
    """What was compared with the validation's totals, and whether it agrees to the last digit.

    The aggregate asks another statement, and another table where a rollup is kept.
    """
    return (
        *(_aggregate(store, validation, measure) for measure in METRICS),
        *_sheets(validation),
    )


def _aggregate(store: AggregateSource, validation: Validation, measure: str) -> Statement:
    totals = validation.totals.metrics
    ours: dict[str, Number] = {
        metric: events if measure == "count" else quantity for metric, (events, quantity) in totals.items()
    }
    asked = f"{METRICS[measure].capitalize()} by metric"
    try:
        answer = store.aggregate(_question(validation, measure))
    except UsageExploreError as error:
        return Statement(None, f"{asked} could not be counted a second time: {words.text(error)}.")
    if answer.capped:
        return Statement(None, f"{asked}: the period has more than {MAX_AGGREGATE_BUCKETS:,} weeks, not counted twice.")
    theirs = {series.key or "": series.total for series in answer.series}
    differing = sorted(name for name in {**ours, **theirs} if ours.get(name, 0) != theirs.get(name, 0))
    if not differing:
        whole = f", {validation.totals.events:,} in all" if measure == "count" else ""
        return Statement(
            True, f"{asked}: {formatting.counted(len(ours), 'metric')}{whole}, equal to what the aggregate answers."
        )
    name = differing[0]
    here, there = (formatting.exact(counts.get(name, 0)) for counts in (ours, theirs))
    return Statement(
        False,
        f"{asked}: {formatting.counted(len(differing), 'metric')} of {len(ours):,} differ from what the aggregate"
        f" answers, first {words.text(name)}: {here} here, {there} there.",
    )


def _question(validation: Validation, measure: str) -> AggregateQuery:
    period = validation.period
    since, until = period.span
    shared = {name: value for name, value in period.given().items() if name in Question.model_fields}
    return AggregateQuery(
        **shared,
        since=since,
        until=until,
        timezone=period.timezone,
        bucket="day" if (until - since).days < _DAYS else "week",
        metric=measure,
        group_by="metric_key",
        top=0,
    )


def _sheets(validation: Validation) -> Iterator[Statement]:
    titles = {result.check.name: result.check.title for result in validation.results}
    for name in SPLIT:
        frame = validation.sheet(name)
        if frame is not None and {"metric_key", "events", "quantity"} <= set(frame.columns):
            yield _sheet(validation, titles[name], frame)


def _sheet(validation: Validation, title: str, frame: pd.DataFrame) -> Statement:
    found: dict[str, tuple[int, Decimal]] = {}
    for metric, events, quantity in zip(frame["metric_key"], frame["events"], frame["quantity"], strict=True):
        counted, summed = found.get(metric, (0, Decimal(0)))
        found[metric] = counted + int(events), total((summed, quantity))
    totals = validation.totals.metrics
    if endless := sorted(name for name, (_, quantity) in {**totals, **found}.items() if not quantity.is_finite()):
        return Statement(
            None,
            f"The rows of “{title}” cannot be added up: quantities of {words.text(endless[0])} are no finite numbers.",
        )
    differing = sorted(name for name in {**totals, **found} if totals.get(name) != found.get(name))
    if not differing:
        return Statement(
            True,
            f"The {len(frame):,} rows of “{title}” add up to the period's events and quantity, for each of"
            f" {formatting.counted(len(found), 'metric')}.",
        )
    name = differing[0]
    sums, whole = (_said(counts.get(name, (0, Decimal(0)))) for counts in (found, totals))
    return Statement(
        False,
        f"The rows of “{title}” do not add up: {formatting.counted(len(differing), 'metric')} of {len(totals):,} differ"
        f", first {words.text(name)}: {sums} there, {whole} in the period.",
    )


def _said(counts: tuple[int, Decimal]) -> str:
    return f"{formatting.counted(counts[0], 'event')} with {formatting.exact(counts[1])}"
