"""Findings of differences between invoices and usage: one for each customer, status and explanation.

Several totals of a customer are one finding if one query shows exactly their events, else one finding each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any, NamedTuple
from uuid import UUID

from usage_explore.decimals import difference, plain, total
from usage_explore.formatting import counted, data_value, in_sentence, listed, span_in
from usage_explore.pricing.amounts import rate
from usage_explore.pricing.currencies import exact_money, exact_sums
from usage_explore.pricing.rating import tier_text
from usage_explore.pricing.usage import Line
from usage_explore.query.queries import AggregateQuery, EventQuery
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import (
    EARLIER_SIGN_OFF,
    SEVERITIES,
    SINCE_SIGN_OFF,
    Examination,
    Finding,
    Severity,
    added_amounts,
    limited,
)
from usage_explore.validation.periods import part
from usage_explore.validation.reconciliation.causes import BEYOND_AGGREGATION, EVENT_ROUNDING, PERIOD
from usage_explore.validation.reconciliation.compare import (
    BOTH,
    DUPLICATES,
    LATE,
    Row,
    Status,
    amounts_by_currency,
    price_or_metric,
    too_much_and_too_little,
)
from usage_explore.validation.reconciliation.expected import expected_words, known_amounts
from usage_explore.validation.unknown_customers import unknown_words
from usage_explore.validation.usage_sums import MAX_FILTER_CHARACTERS, joined

NAME = "reconciliation"

BOUNDS = CheckBounds(NAME)

# fmt: off
MAX_SINGLE_CUSTOMERS = BOUNDS.add("max_single_customers", 10, "customers", 0, 10000,
    "Customers without any line that are findings of their own; more of them may be one finding.")

HIGH_ROUNDED_SHARE = BOUNDS.add("high_rounded_share", Decimal("0.001"), "share", 0, 1,
    "Share of the expected amounts by which amounts that were rounded for each event are too high or too low, all "
    "together, from which they are of high severity.")
# fmt: on

MAX_LISTED_LINES = 20
"""Line numbers, or totals, in the facts of a finding."""

_MAX_FILTER_VALUES = 300
"""Values of one filter in a query for several totals."""

_ONE_TOTAL: dict[Status, str] = {
    "missing": "Customer {customer} has no invoice line for {total}, {period}: {recomputed} was used in {events}",
    "extra": "Customer {customer} is invoiced {invoiced} of {total}, {period}, but has no usage of it",
    "over-billed": "Customer {customer} is invoiced {invoiced} of {total}, {period}, but used {recomputed}:"
    " {difference} too much",
    "under-billed": "Customer {customer} is invoiced {invoiced} of {total}, {period}, but used {recomputed}:"
    " {difference} too little",
    "wrong amount": "Customer {customer} is charged {charged} for {total}, {period}, but {expected} is expected for"
    " {recomputed}",
    "not comparable": "Customer {customer} is invoiced {invoiced} of {total}, {period}, but its usage has NaN or"
    " infinite quantities and so no exact sum",
}
_NOT_COMPARABLE_WITHOUT_LINE = (
    "Customer {customer} has no invoice line for {total}, {period}, and its usage in {events} has NaN or infinite"
    " quantities and so no exact sum"
)
_BEYOND_AGGREGATION = (
    "Customer {customer} is invoiced {invoiced} of {total}, {period}, and used {recomputed} in {events}"
)
_SEVERAL_TOTALS: dict[Status, str] = {
    "missing": "have no invoice line",
    "extra": "are invoiced without any usage",
    "over-billed": "are invoiced with more than was used",
    "under-billed": "are invoiced with less than was used",
    "wrong amount": "are charged other amounts than expected",
    "not comparable": "cannot be compared: their usage has NaN or infinite quantities",
}


def _is_beyond(row: Row) -> bool:
    """Whether a row is compared with what other lines have, not with the sum: it says nothing of too much or little."""
    return row.cause is not None and row.cause.name == BEYOND_AGGREGATION


_QUANTITY_CAUSES = (PERIOD, *SINCE_SIGN_OFF, EARLIER_SIGN_OFF)
"""Causes whose words do not say that they are of a quantity."""


class _Filters(NamedTuple):
    """The parameters of a query for some totals, and whether it shows their events and no others."""

    parameters: Mapping[str, Any]
    exact: bool


@dataclass(frozen=True)
class Differences:
    """Rows compared by the `columns` of the invoices; those in `reported`, by `id()`, are findings elsewhere.

    `beyond` are rows of their own for what some of them charge beyond another period, see `beyond_periods`.
    `unjudged` are the lines whose amount nothing judges where their price is not known, see `without_usual_price`.
    `unknown` are the customers of whom nothing is known, with the customer whose id is near, if there is one.
    """

    examination: Examination
    columns: tuple[str, ...]
    rows: list[Row]
    tolerance: Decimal
    reported: frozenset[int] = frozenset()
    beyond: Sequence[Row] = ()
    unknown: Mapping[UUID, UUID | None] = field(default_factory=dict)
    unjudged: frozenset[int] = frozenset()

    def findings(self) -> tuple[list[Finding], list[list[Row]], str]:
        """The gravest; the rows of the others, and a note, see `limited`.

        Of the others there may be as many as there are lines.
        """
        groups: dict[tuple[Any, ...], list[Row]] = {}
        for row in (*self.rows, *self.beyond):
            if id(row) not in self.reported and row.status not in ("matched", "no price"):
                explanation = row.explained_by, row.cause, row.amount_fits, row.of_period, row.beside_sign_off
                kind = row.key[0], row.status, *explanation, row.wallets
                groups.setdefault(kind, []).append(row)
        ranked = sorted((rows for group in groups.values() for rows in self._split(group)), key=self._rank)
        shown, note = limited(ranked, "differences, see the sheet", worth)
        return [self._finding(rows) for rows in shown], ranked[len(shown) :], note

    def query(self, rows: list[Row]) -> AggregateQuery | EventQuery:
        """The usage of a customer's rows; if no query shows exactly that, more of the customer's."""
        parameters = self._filters(rows).parameters
        if rows[0].status == "not comparable":
            return self.examination.events_question(**parameters)
        return self.examination.aggregate_question(metric="sum_quantity", **parameters)

    def is_shown_exactly(self, rows: list[Row]) -> bool:
        """Whether a query can show exactly the rows; those of several customers are shown by customer."""
        return len({row.key[0] for row in rows}) > 1 or self._filters(rows).exact

    def _rank(self, rows: list[Row]) -> tuple[Any, ...]:
        """As findings are ranked: severity, share, events."""
        first = rows[0]
        subjects = tuple("" if value is None else str(value) for value in first.key)
        severity = list(SEVERITIES).index(self.severity(first))
        return severity, -self.share_of(rows)[0], -sum(row.events for row in rows), subjects

    def _split(self, rows: list[Row]) -> Iterator[list[Row]]:
        """The rows in groups that a query can show exactly."""
        if len(rows) == 1 or self._filters(rows).exact:
            yield rows
            return
        for index in range(1, len(self.columns) + 1):
            groups: dict[Any, list[Row]] = {}
            for row in rows:
                groups.setdefault(row.key[index], []).append(row)
            if len(groups) > 1:
                for group in groups.values():
                    yield from self._split(group)
                return
        yield from ([row] for row in rows)  # parts of one key

    def _filters(self, rows: list[Row]) -> _Filters:
        parameters: dict[str, Any] = {"customer_id": rows[0].key[0]}
        missing = set(self.examination.period.missing)
        exact = True
        key_values = [{row.key[index] for row in rows} for index in range(1, len(self.columns) + 1)]
        for name, values in zip(self.columns, key_values, strict=True):
            wanted = values
            if name == "wallet_currency":  # events are filtered by the wallet they name, not by where they go
                wanted = set[Any]().union(*(row.usage.wallets for row in rows if row.usage)) or values
            if wanted == {None}:
                missing.add(name)
            elif _can_filter(name, wanted):
                parameters[name] = next(iter(wanted)) if name == "subscription_id" else sorted(wanted)
            else:
                exact = False
        if (wallets := rows[0].wallets) == frozenset({None}):
            missing.add("wallet_currency")
        elif wallets is not None and _can_filter("wallet_currency", {*wallets}):
            parameters["wallet_currency"] = sorted(wallet for wallet in wallets if wallet)
        if missing:
            parameters["missing"] = sorted(missing)
        if exact and len(rows) > 1:
            shown = sum(
                all(value in values for value, values in zip(row.key[1:], key_values, strict=True))
                and (wallets is None or row.wallets in (None, wallets))
                for row in self._rows_by_customer[rows[0].key[0]]
            )
            exact = shown == len(rows)
        return _Filters(parameters, exact)

    @cached_property
    def _rows_by_customer(self) -> dict[UUID, list[Row]]:
        by_customer: dict[UUID, list[Row]] = {}
        for row in self.rows:
            by_customer.setdefault(row.key[0], []).append(row)
        return by_customer

    @cached_property
    def _used_by_price_or_metric(self) -> dict[str | None, Decimal]:
        used: dict[str | None, list[Decimal]] = {}
        for row in self.rows:
            if row.recomputed is not None:
                used.setdefault(price_or_metric(self.columns, row.key), []).append(row.recomputed)
        return {name: total(quantities) for name, quantities in used.items()}

    def share_of(self, rows: list[Row]) -> tuple[Decimal, str]:
        """The largest share of a price's or metric's usage that the differences are, and of which: `quantity of calls`.

        1 without usage or a sum. Of wrong amounts, whose quantity is right, see `amount_share`; of a wrong quantity too
        where a price book makes that the larger one.
        """
        if all(row.status == "wrong amount" for row in rows):
            return self.amount_share(rows)
        differences: dict[str | None, list[Decimal]] = {}
        for row in rows:
            differences.setdefault(price_or_metric(self.columns, row.key), []).append(row.difference.copy_abs())
        used = self._used_by_price_or_metric
        shares = {name: part(total(amounts), used.get(name) or Decimal("NaN")) for name, amounts in differences.items()}
        largest = max(shares, key=lambda name: (shares[name], name or ""))
        if any(row.amount_differences and row.status in ("over-billed", "under-billed") for row in rows):
            of_amount = self.amount_share(rows)
            if of_amount[0] > shares[largest]:
                return of_amount
        return shares[largest], "all usage" if largest is None else f"quantity of {data_value(largest)}"

    def amount_share(self, rows: list[Row]) -> tuple[Decimal, str]:
        """The largest share of the expected amounts of a currency that the rows' differences are, and of which:
        `expected amount in USD`.
        """
        shares = {
            currency: part(amount, self._expected_amounts.get(currency, Decimal(0)))
            for currency, amount in amounts_by_currency(rows)
        }
        largest = max(sorted(shares), key=shares.__getitem__, default=None)
        return (Decimal(0), "") if largest is None else (shares[largest], f"expected amount in {data_value(largest)}")

    @cached_property
    def _expected_amounts(self) -> dict[str, Decimal]:
        """What the price book expects of all rows, by currency."""
        priced = (row.expected for row in self.rows if row.expected is not None and row.expected.is_priced)
        return added_amounts(expected.amounts.items() for expected in priced)

    def severity(self, row: Row) -> Severity:
        """High without late events or duplicates, and as grave as its cause, that of amounts rounded for each event as
        their sum is; never high in a period that is not over, since usage may still arrive.
        """
        is_over = self.examination.closed_until >= self.examination.period.span[1]
        if row.cause is not None and row.cause.name == EVENT_ROUNDING and not self._is_event_rounding_high:
            return "medium"
        if row.cause is not None and row.cause.severity != "high":
            return row.cause.severity
        return "high" if (row.cause is not None or not row.explained_by) and is_over else "medium"

    @cached_property
    def _is_event_rounding_high(self) -> bool:
        rows = [row for row in self.rows if row.cause is not None and row.cause.name == EVENT_ROUNDING]
        return self.amount_share(rows)[0] >= HIGH_ROUNDED_SHARE()

    @cached_property
    def customers_with_usage(self) -> set[UUID]:
        """The customers that used anything in the period."""
        return {row.key[0] for row in self.rows if row.usage is not None}

    def _finding(self, rows: list[Row]) -> Finding:
        first = rows[0]
        since, until = self.examination.period.span
        keys = {name: {row.key[index] for row in rows} for index, name in enumerate(self.columns, 1)}
        shared = {name: next(iter(values)) for name, values in keys.items() if len(values) == 1}
        differences = [row.difference.copy_abs() for row in rows if row.difference.is_finite()]
        share, share_of = self.share_of(rows)
        return Finding(
            check=NAME,
            kind=", ".join(filter(None, (None if _is_beyond(first) else first.status, first.explained_by))),
            severity=self.severity(first),
            sentence=self._sentence(rows),
            since=since,
            until=until,
            events=sum(row.events for row in rows),
            question=self.query(rows),
            quantity=total(differences) if differences and ("metric_key" in shared or len(rows) == 1) else None,
            amounts=amounts_by_currency(rows),
            too_high=amounts_by_currency(rows, too_high=True),
            share=share,
            share_of=share_of,
            customer_id=first.key[0],
            facts=self._facts(rows),
            **shared,
        )

    def _sentence(self, rows: list[Row]) -> str:
        since, until = self.examination.period.span
        row = rows[0]
        span = span_in(since, until, self.examination.period.zone)
        if len(rows) > 1:
            totals = f"{counted(len(rows), 'total')} of customer {row.key[0]}, {span}"
            named = listed([self._total(other) for other in rows])
            sentence = f"{', '.join((totals, _SEVERAL_TOTALS[row.status], *money(rows)))}: {named}"
        else:
            template = _BEYOND_AGGREGATION if _is_beyond(row) else _ONE_TOTAL[row.status]
            if row.status == "not comparable" and not row.lines:
                template = _NOT_COMPARABLE_WITHOUT_LINE
            sentence = template.format(
                customer=row.key[0],
                total=self._total(row),
                period=span,
                invoiced=in_sentence(row.invoiced or Decimal(0)),
                recomputed=self._recomputed(row),
                difference=in_sentence(row.difference.copy_abs()),
                events=counted(row.usage.events if row.usage else 0, "event"),
                charged="" if row.expected is None else exact_sums(known_amounts(row, row.expected)),
                expected="" if row.expected is None else exact_sums(row.expected.amounts),
            )
            is_billed = row.status in ("over-billed", "under-billed")
            if row.amount_difference and row.expected is not None and is_billed:
                off = Decimal(difference(row.amount_difference, row.beyond.get(row.currency or "", Decimal(0))))
                much = "much" if off > 0 else "little"
                about = "about " if row.is_estimate else ""
                joint = "and" if (off > 0) == (row.difference > 0) else "but"
                sentence += f", {joint} {about}{exact_money(off.copy_abs(), row.currency)} too {much}"
            elif is_billed and row.amount_difference == 0 and row.amount_differences:
                sentence += ", at the amount that is expected"
            elif row.status in ("missing", "extra"):
                sentence = ", ".join((sentence, *money(rows)))
                if row.amount and row.currency is None:
                    sentence += f", charged {plain(row.amount)} without a currency"
        fits = "each amount is that of the used one, at the unit price of other lines"
        alone = f"; the quantity alone is wrong: {fits}" if row.amount_fits == "used" else ""
        beside = f"; {row.beside_sign_off}" if row.beside_sign_off else ""
        ends = self._explanation(rows), beside, alone, self._rounding(row), unknown_words(row.key[0], self.unknown)
        text = "".join((sentence, *ends))
        return text if text.endswith("?") else f"{text}."

    def _recomputed(self, row: Row) -> str:
        """The used quantity, or that of another period with which the amount is compared."""
        if row.of_period is None or row.expected is None:
            return in_sentence(row.recomputed or Decimal(0))
        span = span_in(*row.of_period, self.examination.period.zone)
        return f"{in_sentence(row.expected.quantity)}, the usage of {span}"

    def _explanation(self, rows: list[Row]) -> str:
        row = rows[0]
        if row.cause is not None:
            return f": {self.explained(rows, row.cause.words)}"
        if row.status == "not comparable" or row.usage is None:
            return ""
        if not row.explained_by:
            if row.status == "wrong amount":
                return "; no other price or tier of the price book, nor a factor of the whole, gives that"
            if row.beside_changes or row.beside_sign_off:
                return "" if row.beside_sign_off else f"; {row.beside_changes}"
            if self.examination.period.finalized_at is None:
                return "; duplicates do not account for it; late events are not known without the time of finalization"
            return "; neither late events nor duplicates account for it"
        causes = []
        if LATE in row.explained_by:
            late = sum(other.usage.late_events for other in rows if other.usage)
            causes.append(f"{counted(late, 'event')} that arrived after finalization")
        if row.explained_by == BOTH:  # late duplicates are among the late events
            duplicates = sum(other.early_duplicate_events for other in rows)
            causes.append(f"{counted(duplicates, 'event')} before that repeated an idempotency key")
        elif DUPLICATES in row.explained_by:
            duplicates = sum(other.duplicate_events for other in rows)
            causes.append(f"{counted(duplicates, 'event')} that repeated an idempotency key")
        exactly = "within the tolerance" if self.tolerance else "exactly"
        return f"; the difference is {exactly} the quantity of {' and '.join(causes)}"

    def explained(self, rows: list[Row], words: str) -> str:
        """What a cause says of rows: `each is the usage of …`.

        Another period, or time of arrival, explains quantities alone where prices are not known; whose amounts nothing
        judges then is said.
        """
        cause = rows[0].cause
        unpriced = [row for row in rows if row.expected is None or not row.expected.is_priced]
        charged = [line for row in unpriced for line in row.lines if line.amount is not None]
        is_of_quantity = cause is not None and cause.name in _QUANTITY_CAUSES and bool(charged)
        each = f"{'each' if len(rows) > 1 else 'that'}{' quantity' if is_of_quantity else ''}"
        left = sorted(line.line for line in charged if line.line in self.unjudged) if is_of_quantity else []
        if not left:
            return f"{each} is {words}"
        every = sum(len(row.lines) for row in rows)
        lines = "these lines" if len(left) == every > 1 else "this line" if every == 1 else _line_numbers(left)
        amounts = "amount" if len(left) == 1 else "amounts"
        without = "a price book" if self.examination.inputs.prices is None else "a price for it"
        return f"{each} is {words}; the {amounts} of {lines} cannot be checked without {without}"

    def _rounding(self, row: Row) -> str:
        """For an unexplained difference: that rounded quantities would explain it and all others."""
        bound = self._rounding_bound
        if bound is None or row.explained_by or row.status not in ("over-billed", "under-billed"):
            return ""
        return (
            f"; no total of lines differs from its usage by {in_sentence(bound)}, one unit of the invoices' last"
            f" decimal per line, or more: if their quantities are rounded, a tolerance of {plain(bound)} accepts them"
        )

    @cached_property
    def _rounding_bound(self) -> Decimal | None:
        """One unit of the last decimal of all lines' quantities, times the lines of the total with most of them.

        None if any total of lines with usage differs by one unit per line or more.
        """
        rows = [row for row in self.rows if row.lines and row.usage is not None and row.difference.is_finite()]
        exponents = (line.quantity.as_tuple().exponent for row in rows for line in row.lines)
        unit = Decimal(1).scaleb(
            min((exponent for exponent in exponents if isinstance(exponent, int) and exponent < 0), default=0)
        )
        if any(row.difference.copy_abs() >= unit * len(row.lines) for row in rows):
            return None
        return max((unit * len(row.lines) for row in rows), default=None)

    def _facts(self, rows: list[Row]) -> tuple[tuple[str, str], ...]:
        if len(rows) > 1:
            facts = [(self._total(row), _quantities(row)) for row in rows[:MAX_LISTED_LINES]]
            more = len(rows) - len(facts)
            return (*facts, ("more", f"{more:,} more")) if more else tuple(facts)
        (row,) = rows
        facts = [("compared", _quantities(row)), ("tolerance", plain(self.tolerance))]
        if row.expected is not None and row.expected.is_priced:
            facts.append(("expected amount", exact_sums(row.expected.amounts)))
            priced = map(_priced, row.expected.lines[:MAX_LISTED_LINES])
            facts += [
                (f"expected by ({number})" if number > 1 else "expected by", text)
                for number, text in enumerate(priced, 1)
            ]
        if row.lines:
            numbers = ", ".join(f"{line.line:,}" for line in row.lines[:MAX_LISTED_LINES])
            facts.append(("lines", numbers if len(row.lines) <= MAX_LISTED_LINES else f"{numbers} and others"))
        if (now := row.now or row.usage) and now.late_events:
            late = counted(now.late_events, "event")
            facts.append(("arrived after finalization", f"{late}, quantity {plain(now.late)}"))
        if row.duplicate_events:
            facts.append(("duplicates", counted(row.duplicate_events, "event")))
        return tuple(facts)

    def _total(self, row: Row) -> str:
        """The key in words: `tokens, price p1, no subscription`."""
        values = dict(zip(self.columns, row.key[1:], strict=True))
        if row.wallets is not None:
            values["wallet_currency"] = " and ".join(sorted(filter(None, row.wallets))) or None
        words = [] if values.get("metric_key") is None else [data_value(values["metric_key"])]
        for name, noun in (("price_key", "price"), ("subscription_id", "subscription"), ("wallet_currency", "wallet")):
            if name in values:
                words.append(f"no {noun}" if values[name] is None else f"{noun} {data_value(str(values[name]))}")
        return ", ".join(words)


def money(rows: list[Row]) -> list[str]:
    """What rows without a line should be billed; by how much others are too high and too low."""
    words = expected_words(rows) if rows[0].status == "missing" else ""
    return [words] if words else [joined(sides)] if (sides := too_much_and_too_little(rows)) else []


def worth(groups: Iterable[list[Row]]) -> str:
    """The events of differences, and their amounts by currency: `840 events, 12.50 EUR too much`."""
    rows = [row for group in groups for row in group]
    return ", ".join((counted(sum(row.events for row in rows), "event"), *too_much_and_too_little(rows)))


def _line_numbers(numbers: list[int]) -> str:
    return f"line{'' if len(numbers) == 1 else 's'} {listed([f'{number:,}' for number in numbers], most=5)}"


def _can_filter(name: str, values: set[Any]) -> bool:
    """Whether one query can filter by all the values."""
    if name == "subscription_id":
        return len(values) == 1
    texts = [value for value in values if isinstance(value, str) and len(value) <= MAX_FILTER_CHARACTERS]
    return len(texts) == len(values) <= _MAX_FILTER_VALUES


def _priced(line: Line) -> str:
    """How a line's amount is made: `p.toml line 3: 1000 x 0.1 = 100; 4000 x 0.08 = 320`."""
    price = line.part.price
    tiers = rate(price, line.billable).tiers
    return f"{price.place}: {'; '.join(map(tier_text, tiers)) or 'no tier'}"


def _quantities(row: Row) -> str:
    invoiced, recomputed = ("nothing" if number is None else plain(number) for number in (row.invoiced, row.recomputed))
    within = "" if row.now is None or row.usage is None else f" in {counted(row.usage.events, 'event')} before"
    return f"invoiced {invoiced}, used {recomputed}{within}"
