"""The period's totals counted a second time, by the aggregate and by the sheets that split the period's usage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from usage_explore import formatting
from usage_explore.decimals import Number, total
from usage_explore.errors import UsageExploreError
from usage_explore.query.base import Query
from usage_explore.query.limits import MAX_AGGREGATE_BUCKETS
from usage_explore.query.queries import METRICS, AggregateQuery
from usage_explore.validation.report import wording

if TYPE_CHECKING:
    import pandas as pd

    from usage_explore.answers import AggregateSource
    from usage_explore.validation import Validation

SPLITTING_CHECKS = ("wallets",)
"""Checks whose sheet has each event of the period in one row, with `metric_key`, `events` and `quantity`."""

_MAX_DAILY = 1_000
"""Days of a period that are counted by day; longer ones by week, within the aggregate's 2,400 buckets."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One comparison of two counts. `agrees` is None if they could not be compared; `sentence` says why."""

    agrees: bool | None
    sentence: str


def statements(store: AggregateSource, validation: Validation) -> tuple[Statement, ...]:
    """The comparisons of the validation's totals with a second count, to the last digit.

    The aggregate runs other statements, on the rollup where there is one. Costs one aggregate per metric.
    """
    return (*(_aggregate(store, validation, metric) for metric in METRICS), *_sheets(validation))


def sheet_totals(sheet: pd.DataFrame) -> dict[str, tuple[int, Decimal]]:
    """(events, quantity) by metric, exact, of a sheet with `metric_key`, `events` and `quantity`."""
    rows: dict[str, list[tuple[int, Decimal]]] = {}
    for metric, events, quantity in zip(sheet["metric_key"], sheet["events"], sheet["quantity"], strict=True):
        rows.setdefault(metric, []).append((int(events), quantity))
    return {
        metric: (sum(events for events, _ in counts), total(quantity for _, quantity in counts))
        for metric, counts in rows.items()
    }


def _aggregate(store: AggregateSource, validation: Validation, measure: str) -> Statement:
    totals = validation.totals.metrics
    ours: dict[str, Number] = {
        metric: events if measure == "count" else quantity for metric, (events, quantity) in totals.items()
    }
    counted = f"{METRICS[measure].capitalize()} by metric"
    try:
        answer = store.aggregate(_query(validation, measure))
    except UsageExploreError as error:
        return Statement(None, f"{counted} could not be counted a second time: {wording.text(error)}.")
    if answer.capped:
        return Statement(
            None, f"{counted}: the period has more than {MAX_AGGREGATE_BUCKETS:,} weeks, not counted twice."
        )
    theirs = {series.key or "": series.total for series in answer.series}
    differing = sorted(name for name in {**ours, **theirs} if ours.get(name, 0) != theirs.get(name, 0))
    if not differing:
        events = f", {validation.totals.events:,} in all" if measure == "count" else ""
        return Statement(
            True, f"{counted}: {formatting.counted(len(ours), 'metric')}{events}, equal to the aggregate's answer."
        )
    name = differing[0]
    here, there = (formatting.exact(counts.get(name, 0)) for counts in (ours, theirs))
    return Statement(
        False,
        f"{counted}: {formatting.counted(len(differing), 'metric')} of {len(ours):,} differ from the aggregate's"
        f" answer, first {wording.text(name)}: {here} here, {there} there.",
    )


def _query(validation: Validation, measure: str) -> AggregateQuery:
    period = validation.period
    since, until = period.span
    return AggregateQuery(
        **period.shared_with(Query),
        since=since,
        until=until,
        timezone=period.timezone,
        bucket="day" if (until - since).days < _MAX_DAILY else "week",
        metric=measure,
        group_by="metric_key",
        top=0,
    )


def _sheets(validation: Validation) -> Iterator[Statement]:
    titles = {result.check.name: result.check.title for result in validation.results}
    for name in SPLITTING_CHECKS:
        sheet = validation.sheet(name)
        if sheet is not None and {"metric_key", "events", "quantity"} <= set(sheet.columns):
            yield _sheet(validation, titles[name], sheet)


def _sheet(validation: Validation, title: str, sheet: pd.DataFrame) -> Statement:
    ours, theirs = validation.totals.metrics, sheet_totals(sheet)
    if not_finite := sorted(name for name, (_, quantity) in {**ours, **theirs}.items() if not quantity.is_finite()):
        return Statement(
            None,
            f"The rows of “{title}” cannot be added up: quantities of {wording.text(not_finite[0])} are no finite"
            " numbers.",
        )
    differing = sorted(name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name))
    if not differing:
        return Statement(
            True,
            f"The {len(sheet):,} rows of “{title}” add up to the period's events and quantity, for each of"
            f" {formatting.counted(len(theirs), 'metric')}.",
        )
    name = differing[0]
    here, there = (_events_and_quantity(counts.get(name, (0, Decimal(0)))) for counts in (ours, theirs))
    return Statement(
        False,
        f"The rows of “{title}” do not add up: {formatting.counted(len(differing), 'metric')} of {len(ours):,} differ"
        f", first {wording.text(name)}: {there} in the rows, {here} in the period.",
    )


def _events_and_quantity(counts: tuple[int, Decimal]) -> str:
    return f"{formatting.counted(counts[0], 'event')} with {formatting.exact(counts[1])}"
