"""Check: usage that the price book has no price for.

The book says which price covers usage, see `usage_explore.pricing.resolution`. Usage has none if no price covers it at
its time, or if it has prices in several currencies of which none is its wallet's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

from sqlalchemy import Select, Table

from usage_explore.decimals import plain, total
from usage_explore.formatting import counted, data_value, in_sentence, percent, span_in
from usage_explore.pricing.book import PriceBook
from usage_explore.pricing.usage import Unpriced, pinned, rated_usage
from usage_explore.pricing.usage import statement as usage_statement
from usage_explore.query.queries import Period
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import (
    MAX_FINDINGS_PER_CHECK,
    Check,
    Examination,
    Finding,
    Outcome,
    Severity,
    limited_findings,
)
from usage_explore.validation.periods import part
from usage_explore.validation.reconciliation.invoices import InvoiceLine
from usage_explore.validation.usage_sums import customers_words

NAME = "unpriced"

BOUNDS = CheckBounds(NAME)

# fmt: off
HIGH_SHARE = BOUNDS.add("high_share", Decimal("0.1"), "share", 0, 1,
    "Share of the period's events without a price from which a finding, or the largest of several, is high: a tenth.")
# fmt: on

MAX_SINGLE_METRICS = 5
"""Metrics without a price for one reason that are findings of their own; more of them are one finding."""

_MAX_LISTED = 20
"""Metrics in the facts of a finding."""


@dataclass(slots=True)
class _Group:
    """Usage that has no price for one reason."""

    customers: set[UUID] = field(default_factory=set)
    metrics: dict[str, list[Decimal]] = field(default_factory=dict)
    events: int = 0
    subjects: list[Unpriced] = field(default_factory=list)

    def add(self, item: Unpriced) -> None:
        self.customers.add(item.customer_id)
        self.metrics.setdefault(item.metric_key, []).append(item.quantity)
        self.events += item.events
        self.subjects.append(item)

    @property
    def prices(self) -> set[str | None]:
        """The price keys of the usage."""
        return {item.price_key for item in self.subjects}

    def is_billed(self, lines: Mapping[UUID, Sequence[InvoiceLine]]) -> bool:
        """Whether an invoice line with an amount may be of some of it; `lines` are such by customer."""
        return any(_may_bill(line, item) for item in self.subjects for line in lines.get(item.customer_id, ()))


def _may_bill(line: InvoiceLine, item: Unpriced) -> bool:
    currency = line.wallet_currency or line.currency
    if None not in (currency, item.wallet) and currency != item.wallet:
        return False
    is_of_price = line.price_key is None or line.price_key == item.price_key
    return is_of_price and (line.metric_key == item.metric_key or (line.metric_key is None and bool(line.price_key)))


def statement(table: Table, period: Period) -> Select[Any]:
    """The usage that prices are looked up for, see `usage_explore.pricing.usage.statement`."""
    return usage_statement(table, period, period.span)


def examine(examination: Examination) -> Outcome:
    """A finding for each metric and reason of usage without a price; one for a reason that concerns many metrics."""
    preferences = examination.inputs.preferences
    rated = rated_usage(
        examination.connection,
        examination.table,
        examination.period,
        cast("PriceBook", examination.inputs.prices),
        wallet=pinned if preferences is None else preferences.destination,
    )
    findings, more = limited_findings(_findings(examination, rated.unpriced), "findings of usage without a price")
    return Outcome(
        findings=tuple(findings),
        looked_at=len(rated.lines) + len(rated.unpriced),
        note=f"{more}." if more else "",
    )


def _findings(examination: Examination, unpriced: list[Unpriced]) -> Iterator[Finding]:
    reasons: dict[str, set[str]] = {}
    for item in unpriced:
        reasons.setdefault(item.reason, set()).add(item.metric_key)
    groups: dict[tuple[str, str | None], _Group] = {}
    for item in unpriced:
        is_single = len(reasons[item.reason]) <= MAX_SINGLE_METRICS
        groups.setdefault((item.reason, item.metric_key if is_single else None), _Group()).add(item)
    ordered = sorted(groups.items(), key=lambda entry: (-entry[1].events, str(entry[0])))
    in_all = sum(group.events for group in groups.values())
    invoices = examination.inputs.invoices
    lines: defaultdict[UUID, list[InvoiceLine]] = defaultdict(list)
    for line in invoices.lines if invoices else ():
        if line.amount:
            lines[line.customer_id].append(line)
    for number, ((reason, metric), group) in enumerate(ordered):
        events = group.events if number else in_all  # the largest finding stands for all that has no price
        is_billed = group.is_billed(lines)
        severity: Severity = "medium"
        if is_billed or events >= HIGH_SHARE() * examination.totals.events:
            severity = "high"
        yield _finding(examination, reason, metric, group, severity, is_billed=is_billed)


def _finding(
    examination: Examination, reason: str, metric: str | None, group: _Group, severity: Severity, *, is_billed: bool
) -> Finding:
    since, until = examination.period.span
    customer = next(iter(group.customers)) if len(group.customers) == 1 else None
    of = customers_words(group.customers)
    what = counted(len(group.metrics), "metric") if metric is None else data_value(metric)
    quantities = {name: total(values) for name, values in group.metrics.items()}
    quantity = None if metric is None else quantities[metric]
    return Finding(
        check=NAME,
        kind=reason,
        severity=severity,
        sentence=f"{counted(group.events, 'event')} of {what} of {of},"
        f" {span_in(since, until, examination.period.zone)}, {'has' if group.events == 1 else 'have'} no price in the"
        f" price book{'' if quantity is None else f', quantity {in_sentence(quantity)}'}"
        f"{', though invoice lines have amounts for it' if is_billed else ''}: {reason}.",
        since=since,
        until=until,
        events=group.events,
        question=examination.aggregate_question(metric="sum_quantity", **_filters(examination, metric, group)),
        quantity=quantity if quantity is not None and quantity.is_finite() else None,
        share=part(group.events, examination.totals.events),
        share_of="all events",
        customer_id=customer,
        metric_key=metric,
        price_key=next(iter(group.prices)) if len(group.prices) == 1 else None,
        facts=tuple(
            (f"without a price: {data_value(name)}", plain(value))
            for name, value in sorted(quantities.items())[:_MAX_LISTED]
        ),
    )


def _filters(examination: Examination, metric: str | None, group: _Group) -> dict[str, Any]:
    """The query's parameters: it shows the usage, and other usage where no filter tells them apart."""
    filters: dict[str, Any] = {"group_by": "metric_key"} if metric is None else {"metric_key": metric}
    if len(group.customers) == 1:
        filters["customer_id"] = next(iter(group.customers))
    if group.prices == {None}:
        filters["missing"] = examination.missing("price_key")
    elif None not in group.prices and len(group.prices) <= MAX_SINGLE_METRICS:
        filters["price_key"] = sorted(filter(None, group.prices))
    return filters


CHECK = Check(
    name=NAME,
    title="Usage without a price",
    means="The price book has no price for this usage: it is on no invoice, or at a price that the book does not know.",
    parameters=lambda: {
        "price": "the customer's own, else the one that names the most of product, metric and price key, valid at the"
        " time of the event; of several currencies that of the wallet",
        "high": f"{percent(HIGH_SHARE())} of the period's events have no price: the largest finding and each that has"
        " as many itself, and each that invoice lines have amounts for; others are medium",
        "many metrics": f"more than {MAX_SINGLE_METRICS} metrics without a price for one reason are one finding",
        "most": f"the {MAX_FINDINGS_PER_CHECK} gravest",
    },
    unit="lines of usage",
    one="line of usage",
    bounds=tuple(BOUNDS),
    statement=statement,
    examine=examine,
    needs="prices",
)
"""Usage that the price book has no price for."""
