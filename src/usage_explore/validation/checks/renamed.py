"""Metrics that stopped under one name and go on under another: usage that is silent, though nothing stayed away."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from difflib import SequenceMatcher
from typing import Any
from uuid import UUID

from sqlalchemy import Select, Table, func, literal, select

from usage_explore.decimals import total
from usage_explore.formatting import counted, data_value, in_sentence, span_in
from usage_explore.query.queries import Period
from usage_explore.sql.filters import conditions
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import Examination, Finding, Severity
from usage_explore.validation.checks.data_end import DAY, HISTORY_DAYS, NAME
from usage_explore.validation.checks.quiet import Silence
from usage_explore.validation.periods import INSTANT, closed, earlier
from usage_explore.validation.usage_sums import customers_words, events_share, metric_filter, valid_filters

BOUNDS = CheckBounds(NAME)

# fmt: off
MIN_RENAMED_SHARE = BOUNDS.add("min_renamed_share", Decimal("0.75"), "share", 0.01, 1,
    "Share of the events which stayed away under one metric that came under a new one, at least, for it to be renamed; "
    "at most as many times more. Of each customer, half and double.")
# fmt: on

_OWN_FACTOR = 2
_COMPARED_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class Renamed:
    """The customers' metrics that go on under another name, and their usage of that; each as long as the other."""

    silences: Sequence[Silence]
    usage: Sequence[Any]

    @property
    def names(self) -> tuple[str, str]:
        """The former and the new metric."""
        return str(self.silences[0].metric_key), self.usage[0].metric_key

    @property
    def events(self) -> int:
        """The events of the period under the new name."""
        return sum(row.events for row in self.usage)

    @property
    def missing(self) -> Decimal:
        """The events of the period that would have come under the former name."""
        return total(one.missing for one in self.silences)


def statement(table: Table, period: Period, since: datetime) -> Select[Any]:
    """Usage by `customer_id` and `metric_key` from a time before the period on.

    Further columns: `first` and `last` timestamptz, `events` bigint and `quantity` numeric in the period.
    """
    c = table.c
    in_period = c.timestamp >= literal(period.span[0], c.timestamp.type)
    return (
        select(
            c.customer_id,
            c.metric_key,
            func.min(c.timestamp).label("first"),
            func.max(c.timestamp).label("last"),
            func.count().filter(in_period).label("events"),
            func.sum(c.quantity).filter(in_period).label("quantity"),
        )
        .where(*conditions(table, period.replace(since=since, until=closed(period))))
        .group_by(c.customer_id, c.metric_key)
    )


def renamed(examination: Examination, silences: Iterable[Silence]) -> list[Renamed]:
    """The metrics that were renamed, those of most customers first.

    A customer's metric goes on under a name that it did not use in the `HISTORY_DAYS` before, from a day before its
    last event on, at most its longest pause or a day later. Each is of one renaming: of several that are possible, that
    of most customers, then that of the names most alike.
    """
    stopped = [one for one in silences if one.metric_key is not None and one.back is None]
    if not stopped:
        return []
    since = earlier(min(one.last for one in stopped), HISTORY_DAYS() * DAY)
    usage: defaultdict[UUID, list[Any]] = defaultdict(list)
    for row in examination.extracted_rows(statement(examination.table, examination.period, since)):
        usage[row.customer_id].append(row)
    pairs: defaultdict[tuple[str, str], list[tuple[Silence, Any]]] = defaultdict(list)
    for one in stopped:
        for row in usage[one.customer_id]:
            if row.events and _goes_on(one, row):
                pairs[str(one.metric_key), row.metric_key].append((one, row))
    return list(_chosen(pairs))


def _goes_on(one: Silence, row: Any) -> bool:
    first: datetime = row.first
    is_next = one.last - DAY < first <= one.last + max(one.longest, DAY)
    return is_next and one.missing / _OWN_FACTOR <= int(row.events) <= one.missing * _OWN_FACTOR


def _chosen(pairs: Mapping[tuple[str, str], Sequence[tuple[Silence, Any]]]) -> Iterator[Renamed]:
    taken: set[tuple[UUID, str]] = set()
    for names in sorted(pairs, key=lambda names: (-len(pairs[names]), -_likeness(*names), names)):
        left = [
            (one, row)
            for one, row in pairs[names]
            if taken.isdisjoint({(one.customer_id, names[0]), (row.customer_id, row.metric_key)})
        ]
        if not left:
            continue
        found = Renamed([one for one, _ in left], [row for _, row in left])
        if MIN_RENAMED_SHARE() * found.missing <= found.events <= found.missing / MIN_RENAMED_SHARE():
            taken.update((one.customer_id, name) for one, _ in left for name in names)
            yield found


def _likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, one[:_COMPARED_CHARACTERS], other[:_COMPARED_CHARACTERS], autojunk=False).ratio()


def finding(examination: Examination, one: Renamed, severity: Severity) -> Finding:
    """The finding on a renamed metric, with what came in under the new name."""
    zone = examination.period.zone
    former, name = one.names
    customers = [each.customer_id for each in one.silences]
    customer = customers[0] if len(customers) == 1 else None
    first, last = min(row.first for row in one.usage), max(row.last for row in one.usage) + INSTANT
    quantity = total(row.quantity for row in one.usage)
    lasts = [each.last for each in one.silences]
    whose = customers_words(customers)
    missing = f"about {one.missing:,.0f} of {data_value(former)} would have come"
    return Finding(
        check=NAME,
        kind="renamed",
        severity=severity,
        sentence=f"{data_value(former)} of {whose} stopped, {span_in(min(lasts), max(lasts) + INSTANT, zone)}, and"
        f" {data_value(name)} began at the same time: {counted(one.events, 'event')} came in the period under that"
        f" name, quantity {in_sentence(quantity)}, where {missing}. The metric seems to be renamed: are its prices"
        " and its lines by the new name?",
        since=first,
        until=last,
        events=one.events,
        quantity=quantity if quantity.is_finite() else None,
        metric_key=name,
        customer_id=customer,
        question=examination.aggregate_question(
            since=earlier(min(lasts), HISTORY_DAYS() * DAY),
            until=max(closed(examination.period), last),
            group_by="metric_key",
            **valid_filters(customer_id=customer),
            **metric_filter(one.names),
        ),
        facts=(("former metric", data_value(former)), ("events missing under it, about", f"{one.missing:.0f}")),
        **events_share(examination, one.events, name),
    )
