"""Differences between invoices and usage as findings: one for each customer, status and explanation.

Several keys of a customer become one finding where one question shows exactly their events, else one finding each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any, NamedTuple
from uuid import UUID

from usage_explore.decimals import plain
from usage_explore.formatting import counted, data_value, listed, span_in
from usage_explore.validation.check import Examination
from usage_explore.validation.finding import SEVERITIES, Finding, Severity
from usage_explore.validation.reconciliation import uninvoiced
from usage_explore.validation.reconciliation.compare import BOTH, LATE, REPEATED, Row, Status, total
from usage_explore.validation.totals import part
from usage_explore.validation.usage_sums import MAX_FILTER_CHARACTERS

NAME = "reconciliation"

_TOGETHER = 300
"""Values of one parameter that a question of several keys may name."""

_FACTS = 20

_SINGLE: dict[Status, str] = {
    "missing": "Customer {who} has no invoice line for {what}, {when}, of which {recomputed} was used in {events}",
    "extra": "Customer {who} is invoiced {invoiced} of {what}, {when}, of which nothing was used",
    "over-billed": "Customer {who} is invoiced {invoiced} of {what}, {when}, but used {recomputed}:"
    " {difference} too much",
    "under-billed": "Customer {who} is invoiced {invoiced} of {what}, {when}, but used {recomputed}:"
    " {difference} too little",
    "not comparable": "Customer {who} is invoiced {invoiced} of {what}, {when}, whose usage holds NaN or infinite"
    " quantities and so has no exact sum",
}
_NO_LINE = (
    "Customer {who} has no invoice line for {what}, {when}, whose usage in {events} holds NaN or infinite quantities"
    " and so has no exact sum"
)
_SEVERAL: dict[Status, str] = {
    "missing": "have no invoice line",
    "extra": "are invoiced, but nothing was used",
    "over-billed": "are invoiced with more than was used",
    "under-billed": "are invoiced with less than was used",
    "not comparable": "cannot be compared: their usage holds NaN or infinite quantities",
}


class Shown(NamedTuple):
    """A question's parameters for some keys, and whether it shows their events and no others."""

    parameters: Mapping[str, Any]
    exactly: bool


@dataclass(frozen=True)
class Telling:
    """Rows that were compared by the lines' columns, to be told."""

    examination: Examination
    columns: tuple[str, ...]
    rows: list[Row]
    tolerance: Decimal

    def findings(self, most: int) -> tuple[list[Finding], list[list[Row]]]:
        """One for each customer, status and explanation, or for each key of those: the `most` gravest, and the rows of
        the others, which are not made findings, since there may be as many as there are lines.
        """
        groups: dict[tuple[Any, ...], list[Row]] = {}
        absent = uninvoiced.uninvoiced(self.rows)
        together = {row.key for row in absent}
        for row in self.rows:
            if row.key not in together and row.status != "matched":
                groups.setdefault((row.key[0], row.status, row.explained_by), []).append(row)
        parts = [each for group in groups.values() for each in self._split(group)]
        parts.sort(key=self._rank)
        told = [self._uninvoiced(absent)] if absent else []
        return told + [self._finding(each) for each in parts[:most]], parts[most:]

    def _rank(self, group: list[Row]) -> tuple[Any, ...]:
        """As findings are ranked: the gravest first, then the largest share, then the most events."""
        first = group[0]
        subjects = tuple("" if value is None else str(value) for value in first.key)
        severity = list(SEVERITIES).index(self._severity(first))
        return severity, -self._share(group), -sum(row.events for row in group), subjects

    def _split(self, group: list[Row]) -> Iterator[list[Row]]:
        if len(group) == 1 or self._shown(group).exactly:
            yield group
            return
        for place in range(1, len(self.columns) + 1):
            parts: dict[Any, list[Row]] = {}
            for row in group:
                parts.setdefault(row.key[place], []).append(row)
            if len(parts) > 1:
                for each in parts.values():
                    yield from self._split(each)
                return

    def _shown(self, group: list[Row]) -> Shown:
        parameters: dict[str, Any] = {"customer_id": group[0].key[0]}
        missing = set(self.examination.period.missing)
        exactly = True
        values = [{row.key[place] for row in group} for place in range(1, len(self.columns) + 1)]
        for name, kept in zip(self.columns, values, strict=True):
            wanted = set[Any]().union(*(row.used.wallets if row.used else () for row in group))
            wanted = wanted or kept if name == "wallet_currency" else kept
            if wanted == {None}:
                missing.add(name)
            elif _can_be_asked(name, wanted):
                parameters[name] = next(iter(wanted)) if name == "subscription_id" else sorted(wanted)
            else:
                exactly = False
        if missing:
            parameters["missing"] = sorted(missing)
        if exactly and len(group) > 1:
            within = (
                row
                for row in self._by_customer[group[0].key[0]]
                if all(value in kept for value, kept in zip(row.key[1:], values, strict=True))
            )
            exactly = sum(1 for _ in within) == len(group)
        return Shown(parameters, exactly)

    @cached_property
    def _by_customer(self) -> dict[UUID, list[Row]]:
        found: dict[UUID, list[Row]] = {}
        for row in self.rows:
            found.setdefault(row.key[0], []).append(row)
        return found

    @cached_property
    def _wholes(self) -> dict[str | None, Decimal]:
        """What each price or metric came to in the period."""
        found: dict[str | None, Decimal] = {}
        for row in self.rows:
            if row.recomputed is not None:
                name = item(self.columns, row.key)
                found[name] = total(found.get(name, Decimal(0)), row.recomputed)
        return found

    def _share(self, group: list[Row]) -> Decimal:
        """The largest part that they are of what a price or metric came to; 1 of nothing, and where there is no sum."""
        differing: dict[str | None, Decimal] = {}
        for row in group:
            name = item(self.columns, row.key)
            differing[name] = total(differing.get(name, Decimal(0)), row.difference.copy_abs())
        wholes = self._wholes
        return max(part(each, wholes.get(name) or Decimal("NaN")) for name, each in differing.items())

    def _uninvoiced(self, group: list[Row]) -> Finding:
        items = {item(self.columns, row.key) for row in group}
        metrics = {dict(zip(self.columns, row.key[1:], strict=True)).get("metric_key") for row in group}
        numbers = {
            "quantity": total(*(row.difference.copy_abs() for row in group)) if len(items) == 1 else None,
            "amounts": worth(group),
            "share": self._share(group),
            "metric_key": next(iter(metrics)) if len(metrics) == 1 else None,
        }
        return uninvoiced.finding(self.examination, NAME, self.rows, group, self._severity(group[0]), numbers)

    def _finding(self, group: list[Row]) -> Finding:
        examination, first = self.examination, group[0]
        since, until = examination.period.span
        shared = {
            name: first.key[place]
            for place, name in enumerate(self.columns, 1)
            if len({row.key[place] for row in group}) == 1
        }
        differences = [row.difference.copy_abs() for row in group if row.difference.is_finite()]
        one_metric = "metric_key" in shared or len(group) == 1
        return Finding(
            check=NAME,
            severity=self._severity(first),
            sentence=self._sentence(group),
            since=since,
            until=until,
            events=sum(row.events for row in group),
            question=self.question(group),
            quantity=total(*differences) if differences and one_metric else None,
            amounts=worth(group),
            share=self._share(group),
            customer_id=first.key[0],
            facts=self._facts(group),
            **shared,
        )

    def _severity(self, row: Row) -> Severity:
        """Of a period that is not over nothing is high: its usage goes on."""
        over = self.examination.closed_until >= self.examination.period.span[1]
        return "high" if not row.explained_by and over else "medium"

    def question(self, group: list[Row]) -> Any:
        """The question for the usage of a customer's rows; where none shows it exactly, for more of the customer's."""
        parameters = self._shown(group).parameters
        if group[0].status == "not comparable":
            return self.examination.events_question(**parameters)
        return self.examination.aggregate_question(metric="sum_quantity", **parameters)

    def _sentence(self, group: list[Row]) -> str:
        since, until = self.examination.period.span
        row, zone = group[0], self.examination.period.zone
        span = span_in(since, until, zone)
        if len(group) > 1:
            what = listed([self._what(each) for each in group])
            words = f"{counted(len(group), 'total')} of customer {row.key[0]}, {span}, {_SEVERAL[row.status]}: {what}"
        else:
            without = row.status == "not comparable" and not row.lines
            words = (_NO_LINE if without else _SINGLE[row.status]).format(
                who=row.key[0],
                what=self._what(row),
                when=span,
                invoiced=plain(row.invoiced or Decimal(0)),
                recomputed=plain(row.recomputed or Decimal(0)),
                difference=plain(row.difference.copy_abs()),
                events=counted(row.events, "event"),
            )
        return f"{words}{self._why(group)}{self._rounding(row)}."

    def _rounding(self, row: Row) -> str:
        """That all quantities of the file may merely be rounded, for a difference between lines and usage."""
        bound = self._rounding_bound
        if bound is None or row.explained_by or row.status not in ("over-billed", "under-billed"):
            return ""
        return (
            f"; no total of lines differs from its usage by {plain(bound)}, one unit of the invoices' last decimal per"
            f" line, or more: if their quantities are rounded, validate with tolerance {plain(bound)}"
        )

    @cached_property
    def _rounding_bound(self) -> Decimal | None:
        """One unit of the last decimal of all lines' quantities, times the lines of the total with most of them.

        None if any total of lines with usage differs by one unit per line or more.
        """
        rows = [row for row in self.rows if row.lines and row.used is not None and row.difference.is_finite()]
        exponents = (line.quantity.as_tuple().exponent for row in rows for line in row.lines)
        step = Decimal(1).scaleb(min((each for each in exponents if isinstance(each, int) and each < 0), default=0))
        if any(row.difference.copy_abs() >= step * len(row.lines) for row in rows):
            return None
        return max((step * len(row.lines) for row in rows), default=None)

    def _why(self, group: list[Row]) -> str:
        row = group[0]
        if row.status == "not comparable" or row.used is None:
            return ""
        if not row.explained_by:
            if self.examination.period.finalized_at is None:
                return "; duplicates do not account for it, and whether late events do needs finalized_at"
            return "; neither late events nor duplicates account for it"
        causes = []
        if LATE in row.explained_by:
            late = sum(each.used.late_events for each in group if each.used)
            causes.append(f"{counted(late, 'event')} that arrived after finalization")
        if row.explained_by == BOTH:  # what was late and repeated a key is told once
            repeated = sum(each.early_repeated_events for each in group)
            causes.append(f"{counted(repeated, 'event')} before that repeated an idempotency key")
        elif REPEATED in row.explained_by:
            repeated = sum(each.repeated_events for each in group)
            causes.append(f"{counted(repeated, 'event')} that repeated an idempotency key")
        exactly = "within the tolerance" if self.tolerance else "exactly"
        return f"; the difference is {exactly} the quantity of {' and '.join(causes)}"

    def _facts(self, group: list[Row]) -> tuple[tuple[str, str], ...]:
        if len(group) > 1:
            told = [(self._what(row), _compared(row)) for row in group[:_FACTS]]
            return (*told, ("more", f"{len(group) - _FACTS:,} more")) if len(group) > _FACTS else tuple(told)
        (row,) = group
        found = [("compared", _compared(row)), ("tolerance", plain(self.tolerance))]
        if row.lines:
            numbers = ", ".join(f"{line.line:,}" for line in row.lines[:_FACTS])
            found.append(("lines", numbers if len(row.lines) <= _FACTS else f"{numbers} and others"))
        if row.used and row.used.late_events:
            late = f"{counted(row.used.late_events, 'event')}, quantity {plain(row.used.late)}"
            found.append(("arrived after finalization", late))
        if row.repeated_events:
            found.append(("duplicates", counted(row.repeated_events, "event")))
        return tuple(found)

    def _what(self, row: Row) -> str:
        values = dict(zip(self.columns, row.key[1:], strict=True))
        words = [] if values.get("metric_key") is None else [data_value(values["metric_key"])]
        for name, noun in (("price_key", "price"), ("subscription_id", "subscription"), ("wallet_currency", "wallet")):
            if name in values:
                words.append(f"no {noun}" if values[name] is None else f"{noun} {data_value(str(values[name]))}")
        return ", ".join(words)


def item(columns: tuple[str, ...], key: tuple[Any, ...]) -> str | None:
    """What of a key is counted in one unit and has one price: its price, else its metric."""
    values = dict(zip(columns, key[1:], strict=True))
    price: str | None = values.get("price_key")
    return values.get("metric_key") if price is None else price


def _can_be_asked(name: str, values: set[Any]) -> bool:
    """Whether one question can have all the values, and no others, in a filter."""
    if name == "subscription_id":
        return len(values) == 1
    texts = [value for value in values if isinstance(value, str) and len(value) <= MAX_FILTER_CHARACTERS]
    return len(texts) == len(values) <= _TOGETHER


def worth(rows: Iterable[Row]) -> tuple[tuple[str, Decimal], ...]:
    """What the rows' differences are worth together, unsigned, by currency."""
    found: dict[str, Decimal] = {}
    for row in rows:
        if row.worth is not None and row.currency is not None:
            found[row.currency] = total(found.get(row.currency, Decimal(0)), row.worth.copy_abs())
    return tuple(sorted(found.items()))


def _compared(row: Row) -> str:
    invoiced, recomputed = ("nothing" if number is None else plain(number) for number in (row.invoiced, row.recomputed))
    return f"invoiced {invoiced}, used {recomputed}"
