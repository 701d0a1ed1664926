"""Lines of usage that arrived late, or was changed or removed under the sign-off, compared with what they bill.

What changed since is in the sign-off's corrections, and what arrived late a finding of its own. A line of exactly what
was signed is explained by that. One with a further error is compared with what was known when it was made: compared
with the usage now, its difference would have the change, too, which would then be billed or credited twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import pairwise, product
from typing import NamedTuple
from uuid import UUID

from usage_explore.decimals import difference, total
from usage_explore.errors import QueryError
from usage_explore.pricing.fields import prices_hash
from usage_explore.pricing.resolution import Resolution, Subject
from usage_explore.pricing.table import PRICES_TABLE
from usage_explore.pricing.usage import Line
from usage_explore.records.signoffs import SignOff, corrections_command
from usage_explore.validation.check import (
    CHANGED_AFTER_SIGN_OFF,
    EARLIER_SIGN_OFF,
    Examination,
    added_amounts,
    signed_words,
)
from usage_explore.validation.reconciliation.causes import Cause, set_cause
from usage_explore.validation.reconciliation.compare import (
    LATE,
    QUANTITY_STATUSES,
    Key,
    Row,
    Status,
    Usage,
    compared_row,
)
from usage_explore.validation.reconciliation.expected import Expected, accept_other_quantity
from usage_explore.validation.reconciliation.invoices import InvoiceLine

SignedKey = tuple[UUID, str | None, str | None]
"""Customer, metric, and wallet where lines name it."""

WRONG: tuple[Status, ...] = (*QUANTITY_STATUSES, "wrong amount")
"""Statuses of rows whose quantity or amount differs."""

_NEARER = 10
"""Factor by which lines are nearer to one of two quantities that they are of."""


class _Known(NamedTuple):
    """A row, and the usage of its key before that changed; `expected` is empty without a price book."""

    row: Row
    events: int
    quantity: Decimal
    expected: Expected


@dataclass(frozen=True)
class Signed:
    """What a sign-off has by customer and metric, and wallet where lines name it."""

    signoff: SignOff
    by_key: Mapping[SignedKey, list[tuple[int, Decimal]]]
    amounts: Mapping[SignedKey, list[tuple[str, Decimal]]]
    metric: int
    wallet: int
    is_same_book: bool
    is_comparable: bool
    """Whether the corrections have the difference of the amounts now, by these prices and wallets, from the signed."""
    leaves_amounts_out: bool
    """Whether the corrections have no amounts: they were signed by a price book that the stored one is not."""
    is_whole: bool
    """Whether the lines have no columns but metric and wallet, by which usage is signed: then both are rated alike."""

    @classmethod
    def of(cls, examination: Examination, columns: tuple[str, ...]) -> list[Signed]:
        """What each sign-off that has usage has, newest first."""
        return [cls._of(examination, signed, columns) for signed in examination.kept_signoffs if signed.usage]

    @classmethod
    def _of(cls, examination: Examination, signed: SignOff, columns: tuple[str, ...]) -> Signed:
        preferences = examination.inputs.preferences
        by_wallet = "wallet_currency" in columns

        def signed_key(customer: str, metric: str, named: str | None) -> SignedKey:
            id_ = UUID(customer)
            known = named if preferences is None else preferences.destination(id_, named)
            return id_, metric, known if by_wallet else None

        usage: dict[SignedKey, list[tuple[int, Decimal]]] = {}
        for line in signed.usage:
            usage.setdefault(signed_key(*line.key[:3]), []).append((line.events, line.quantity))
        amounts: dict[SignedKey, list[tuple[str, Decimal]]] = {}
        for priced in signed.amounts:
            amounts.setdefault(signed_key(*priced.key[:3]), []).append((priced.key[3] or "", priced.amount))
        metric, wallet = (
            columns.index(name) + 1 if name in columns else 0 for name in ("metric_key", "wallet_currency")
        )
        basis, book = signed.basis, examination.inputs.prices
        is_same_book = basis is not None and book is not None and basis.prices_hash == prices_hash(book.prices)
        wallets = {} if preferences is None else preferences.currencies
        is_comparable = is_same_book
        if basis is not None and book is not None and not is_same_book:  # as `signed_amounts.with_amounts`
            is_comparable = basis.prices == book.source or book.source.rpartition(".")[2] != PRICES_TABLE
        leaves_out = book is not None and basis is not None and bool(signed.amounts)
        leaves_out = leaves_out and not is_same_book and not is_comparable
        is_comparable = is_comparable and basis is not None and {**basis.wallets} == {**wallets}
        is_whole = {*columns} <= {"metric_key", "wallet_currency"}
        return cls(signed, usage, amounts, metric, wallet, is_same_book, is_comparable, leaves_out, is_whole)

    @property
    def has_other_prices(self) -> bool:
        """Whether the price book was changed since, with an effect that the corrections have."""
        return self.is_comparable and not self.is_same_book

    def groups(self, rows: Iterable[Row]) -> dict[SignedKey, list[Row]]:
        """The rows by customer, metric, and wallet where lines name it.

        Where they do not name the metric, it is that of the usage with a price; without one the row is left out.
        """
        groups: dict[SignedKey, list[Row]] = {}
        for row in rows:
            priced = row.expected.lines if row.expected is not None else ()
            metrics = [row.key[self.metric]] if self.metric else [*{line.metric_key for line in priced}]
            if len(metrics) == 1:
                key = (row.key[0], metrics[0], row.key[self.wallet] if self.wallet else None)
                groups.setdefault(key, []).append(row)
        return groups

    def usage(self, key: SignedKey, *, is_count: bool) -> tuple[int, Decimal]:
        """The signed number of events, and the quantity."""
        was = self.by_key.get(key, [])
        events = sum(events for events, _ in was)
        return events, Decimal(events) if is_count else total(number for _, number in was)

    def was_billed(self, key: SignedKey) -> bool:
        """Whether an amount of a key was signed, or, where no amounts were, a quantity."""
        if self.signoff.amounts:
            return bool(_sums(self.amounts.get(key, ())))
        return bool(self.usage(key, is_count=False)[1])

    def has_lines(
        self,
        key: SignedKey,
        rows: Sequence[Row],
        lines: Sequence[InvoiceLine],
        tolerance: Decimal,
    ) -> bool:
        """Whether the lines of a key's rows have what was signed; of a maximum and the like the amount alone was."""
        if key not in self.by_key and any(line.amount for line in lines):
            return False  # a charge without any usage
        kinds = {row.expected.counts_events for row in rows if row.expected is not None}
        _, quantity = self.usage(key, is_count=True in kinds)
        off = Decimal(difference(total(line.quantity for line in lines), quantity))
        fits = off.is_finite() and abs(off) <= tolerance
        if None in kinds:
            is_new = key not in self.by_key and not lines
            return is_new or (self.charges(key, lines) and bool(self.changed_amounts(key, rows)))
        signed = {code for code, _ in self.amounts.get(key, ())}
        known = all(line.currency is not None and line.amount is not None for line in lines)
        others = signed.isdisjoint(line.currency for line in lines)  # a finding of its own
        return fits and (not signed or not known or others or self.charges(key, lines))

    def charges(self, key: SignedKey, lines: Sequence[InvoiceLine]) -> bool:
        """Whether lines have the signed amounts, in each currency."""
        billed = [(line.currency, line.amount) for line in lines]
        known = [(currency, amount) for currency, amount in billed if currency is not None and amount is not None]
        signed = self.amounts.get(key, [])
        return bool(signed) and len(known) == len(billed) and _sums(known) == _sums(signed)

    def changed_amounts(self, key: SignedKey, rows: Iterable[Row]) -> dict[str, Decimal]:
        """What is expected of a key's rows minus what was signed, by currency, without differences of 0."""
        expected = [pair for row in rows if row.expected is not None for pair in row.expected.amounts.items()]
        return _sums([*expected, *((code, amount.copy_negate()) for code, amount in self.amounts.get(key, []))])

    def has_other_sums(self, key: SignedKey, rows: Sequence[Row]) -> bool:
        """Whether a key's rows have another number of events, or sum of quantities, than was signed."""
        used = [row.usage for row in rows if row.usage is not None]
        events, was = self.usage(key, is_count=False)
        is_sum = all(row.expected is None or row.expected.counts_events is False for row in rows)
        return sum(each.events for each in used) != events or (is_sum and total(each.quantity for each in used) != was)

    def has_other_usage(self, key: SignedKey, rows: Iterable[Row], tolerance: Decimal) -> bool:
        """Whether a key's rows have other usage, late events included, than was signed; of maxima other amounts.

        So have those of the same quantity of which a part went to another wallet.
        """
        rows = list(rows)
        kinds = {row.expected.counts_events for row in rows if row.expected is not None}
        if None in kinds:
            return bool(self.amounts.get(key)) and bool(self.changed_amounts(key, rows))
        _, was = self.usage(key, is_count=True in kinds)
        off = Decimal(difference(total(row.usage.quantity for row in rows if row.usage is not None), was))
        unpriced = None if self.signoff.basis is None else self.signoff.basis.unpriced
        is_known = self.has_other_prices or (unpriced is not None and (str(key[0]), key[1]) not in unpriced)
        is_rated = self.is_comparable and self.is_whole and is_known
        return not off.is_finite() or abs(off) > tolerance or (is_rated and bool(self.changed_amounts(key, rows)))

    def changed_customers(self, rows: Sequence[Row]) -> set[UUID]:
        """The customers that have other usage than was signed, without what arrived late.

        Billable quantities that are no sums, such as maxima, are compared by the number of events and the amounts. By
        the prices that were signed, other amounts of the same quantity are those of usage that moved between wallets.
        """
        signed: dict[UUID, list[tuple[int, Decimal]]] = defaultdict(list)
        known: dict[UUID, list[tuple[int, Decimal]]] = defaultdict(list)
        amounts: dict[UUID, list[tuple[str, Decimal]]] = defaultdict(list)
        for (customer, *_), was in self.by_key.items():
            signed[customer] += was
        for (customer, *_), priced in self.amounts.items():
            amounts[customer] += priced
        expected: dict[UUID, list[tuple[str, Decimal]]] = defaultdict(list)
        without_sum: set[UUID] = set()
        late: set[UUID] = set()
        for row in rows:
            if row.usage is not None:
                quantity = total((row.usage.quantity, row.usage.late.copy_negate()))
                known[row.key[0]].append((row.usage.events - row.usage.late_events, quantity))
                if row.usage.late_events:
                    late.add(row.key[0])
            if row.expected is not None:
                expected[row.key[0]] += row.expected.amounts.items()
                if row.expected.counts_events is not False:
                    without_sum.add(row.key[0])

        def has_changed(customer: UUID) -> bool:
            was, now = signed[customer], known[customer]
            if sum(events for events, _ in was) != sum(events for events, _ in now):
                return True
            has_other_amounts = _sums(amounts[customer]) != _sums(expected[customer])
            if customer in without_sum:
                return bool(amounts[customer]) and has_other_amounts
            has_moved = self.is_same_book and customer not in late and has_other_amounts
            return has_moved or total(number for _, number in was) != total(number for _, number in now)

        return {customer for customer in signed.keys() | known.keys() if has_changed(customer)}


def expect_nothing_of_removed(signed: Signed, resolution: Resolution, rows: Sequence[Row]) -> None:
    """Expect 0, by its prices, of usage that all left its total since the sign-off, or that of one price of several.

    So their lines are compared with what was signed, as those of which some usage is left.
    """
    others = {price.currency for price in resolution.book.prices if signed.has_other_prices}
    for key, group in signed.groups(rows).items():
        codes = {currency for currency, _ in signed.amounts.get(key, ())}
        billed = {line.currency for row in group for line in row.lines if line.currency is not None}
        if key in signed.by_key and all(row.usage is None for row in group) and billed <= codes:
            for row in group:
                if lines := _unused(key, row, sorted(codes | others), resolution):
                    amounts = dict.fromkeys(sorted(codes), Decimal(0))  # not the price's minimum
                    row.expected = Expected(amounts=amounts, exact=dict(amounts), lines=lines)
        elif key in signed.by_key and len(group) == 1 and signed.is_comparable:
            _expect_no_part(signed, key, group[0], codes & billed, resolution)


def _expect_no_part(signed: Signed, key: SignedKey, row: Row, billed: set[str], resolution: Resolution) -> None:
    """Expect 0 in signed currencies of a row's lines without usage, and of another aggregation of the usage that left.

    With a sum and a count in the month, the quantity is neither, as it was when it was signed.
    """
    expected = row.expected
    if expected is None or not expected.is_priced:
        return
    for code in sorted(billed - expected.amounts.keys()):
        expected.amounts[code] = expected.exact[code] = Decimal(0)
    if len(expected.amounts) == 1 and signed.has_other_sums(key, [row]):
        kinds = {line.part.price.aggregation for line in expected.lines}
        more = _unused(key, row, expected.amounts, resolution)
        expected.lines += [line for line in more if line.part.price.aggregation not in kinds]


def _unused(key: SignedKey, row: Row, currencies: Iterable[str], resolution: Resolution) -> list[Line]:
    """A line without usage for each price in such a currency that applies to a row in a part of the period."""
    customer, metric, wallet = key
    price_keys = {line.price_key for line in row.lines}
    price_key = price_keys.pop() if len(price_keys) == 1 else None
    lines = {}
    for currency, segment in product(currencies, range(len(resolution.cuts) - 1)):
        try:
            priced = resolution.part(Subject(customer, None, metric or "", price_key, wallet or currency), segment)
        except QueryError:  # two prices
            continue
        if not isinstance(priced, str) and priced.price.currency == currency:
            of_price = priced.price.place, priced.first
            lines[of_price] = Line(customer_id=customer, metric_key=metric or "", part=priced, wallet=wallet)
    return [*lines.values()]


def changed_after_sign_off_causes(
    examination: Examination, signed: Sequence[Signed], rows: Sequence[Row], tolerance: Decimal
) -> None:
    """Set the cause of rows whose lines have the quantity, and the amounts if known, that a sign-off has.

    Of the same customer and metric, and wallet where lines name it: with further columns, all of these rows together.
    Lines of the usage now that charge the amounts of the last sign-off are explained by it, too. No line is explained
    by a sign-off whose corrections have no amounts: by other prices the line's difference is none of theirs.
    """
    if not signed:
        return
    last, zone = signed[0], examination.period.zone
    words = signed_words(last.signoff, zone)

    def since(key: SignedKey, group: Sequence[Row]) -> str:
        what = "the usage and the price book were" if last.has_other_sums(key, group) else "the price book was"
        what, by = (what, " by the prices now") if last.has_other_prices else ("the usage was", "")
        return f"{what} changed since, and `{command_of(examination, last.signoff)}` has exactly this difference{by}"

    customers = last.changed_customers(rows)
    for key, group, lines in _groups_left(last, rows, QUANTITY_STATUSES):
        if last.has_lines(key, group, lines, tolerance) and not last.leaves_amounts_out:
            _set_causes(group, CHANGED_AFTER_SIGN_OFF, f"what {words} has; {since(key, group)}")
    for following, earlier in pairwise(signed):
        if earlier.signoff.amounts and examination.inputs.prices and not _has_amounts_until(earlier, following):
            continue
        for key, group, lines in _groups_left(earlier, rows, QUANTITY_STATUSES):
            if earlier.has_lines(key, group, lines, tolerance):
                was = f"what {signed_words(earlier.signoff, zone)} has, which was signed again;"
                command = command_of(examination, earlier.signoff)
                more = f" the usage was changed, and `{command}` has what changed between the two"
                if key[0] in customers:
                    more += f", `{command_of(examination, last.signoff)}` what changed after that"
                _set_causes(group, EARLIER_SIGN_OFF, was + more)
    for key, group, lines in _groups_left(last, rows, ("wrong amount",)):
        is_changed = last.has_other_prices or (key[0] in customers and not last.leaves_amounts_out)
        if is_changed and last.charges(key, lines):
            _set_causes(group, CHANGED_AFTER_SIGN_OFF, f"the amount that {words} has; {since(key, group)}")
    changed = "usage or prices of this customer were" if last.has_other_prices else "usage of this customer was"
    for row in rows:
        if row.is_open and row.key[0] in customers:
            row.beside_changes = f"{changed} changed since {words}, whose corrections may have a part of it"


def _has_amounts_until(earlier: Signed, following: Signed) -> bool:
    """Whether what changed between two sign-offs has amounts: those of the same prices, or of the stored ones."""
    one, other = earlier.signoff.basis, following.signoff.basis
    if one is None or other is None or not following.signoff.amounts:
        return False
    is_of_table = {basis.prices.rpartition(".")[2] for basis in (one, other)} == {PRICES_TABLE}
    return is_of_table or one.prices_hash == other.prices_hash


def _sums(amounts: Iterable[tuple[str, Decimal]]) -> dict[str, Decimal]:
    """The amounts by currency, without those that are 0."""
    return {currency: amount for currency, amount in added_amounts([amounts]).items() if amount}


def command_of(examination: Examination, signoff: SignOff) -> str:
    """What writes the corrections of a sign-off."""
    return corrections_command(signoff, is_one_of_several=examination.is_one_of_several)


def _groups_left(
    signed: Signed, rows: Sequence[Row], statuses: Container[str]
) -> Iterator[tuple[SignedKey, list[Row], list[InvoiceLine]]]:
    """The keys with rows of such a status that nothing explains, all rows of each, and their lines."""
    for key, group in signed.groups(rows).items():
        left = any(row.status in statuses and not row.explained_by for row in group)
        if left and all(row.wallets is None for row in group):
            yield key, group, [line for row in group for line in row.lines]


def _set_causes(rows: Iterable[Row], name: str, words: str) -> None:
    """Set the cause of the rows that differ and that nothing explains."""
    for row in rows:
        if row.status in WRONG and not row.explained_by:
            set_cause(row, Cause(name, "medium", words))


def compare_as_known(
    signed: Signed | None,
    rows: Sequence[Row],
    early: Mapping[Key, Expected] | None,
    tolerance: Decimal,
    matches: Callable[[Row, Expected], bool],
) -> list[Row]:
    """Compare priced rows that no cause explains with what was used when their lines were made.

    `early` is what is expected without late events. Nothing is done where more lines of changed usage have that of now:
    they were made since. Returns the rows that were compared.
    """
    known: dict[int, _Known] = {}
    for row in rows:
        if row.usage is not None and row.usage.late_events and row.wallets is None and early is not None:
            was = early.get(row.key, Expected())
            known[id(row)] = _Known(row, row.usage.events - row.usage.late_events, was.quantity, was)
    if signed is not None:
        known |= {id(each.row): each for each in _signed_before(signed, rows, tolerance)}
    left = _made_before(
        known.values(),
        is_now=lambda each: matches(each.row, each.row.expected or Expected()),
        is_then=lambda each: matches(each.row, each.expected),
    )
    compared = [each for each in left if each.expected.is_priced]
    for each in compared:
        _compare(each, tolerance)
        each.row.expected = each.expected
        accept_other_quantity(each.row, tolerance)
    return [each.row for each in compared]


def compare_quantities_as_known(signed: Signed | None, rows: Sequence[Row], tolerance: Decimal) -> None:
    """As `compare_as_known`, of rows without prices whose causes are known as far as lines have what was or is used."""
    known: dict[int, _Known] = {}
    for row in rows:
        if row.usage is not None and row.usage.late_events:
            was = total((row.usage.quantity, row.usage.late.copy_negate()))
            known[id(row)] = _Known(row, row.usage.events - row.usage.late_events, was, Expected())
    if signed is not None:
        for key, row in _signed_rows(signed, rows):
            known[id(row)] = _Known(row, *signed.usage(key, is_count=False), Expected())
    left = _made_before(
        (each for each in known.values() if each.row.usage is None or each.row.usage.quantity != each.quantity),
        is_now=lambda each: each.row.status == "matched",
        is_then=lambda each: each.row.explained_by in (LATE, CHANGED_AFTER_SIGN_OFF),
    )
    for each in left:
        off = Decimal(difference(each.row.invoiced or Decimal(0), each.quantity))
        is_amount_wrong = each.row.usage is None and abs(off) <= tolerance  # only the usage that is gone says so
        if each.events and not is_amount_wrong:
            _compare(each, tolerance)


def _made_before(
    changed: Iterable[_Known], *, is_now: Callable[[_Known], bool], is_then: Callable[[_Known], bool]
) -> list[_Known]:
    """The rows with other lines than both usages give; none where more lines have, or nearly have, the usage now."""
    left, since, before = [], 0, 0
    for each in changed:
        now = each.row.recomputed or Decimal(0)
        has_now = is_now(each) or _is_near(each.row, now, each.quantity)
        has_then = is_then(each)
        since += has_now and not has_then
        before += not has_now and (has_then or _is_near(each.row, each.quantity, now))
        is_left = not each.row.explained_by and each.row.status in WRONG
        if is_left and not has_now and not has_then:
            left.append(each)
    return left if since <= before else []


def _is_near(row: Row, quantity: Decimal, other: Decimal) -> bool:
    """Whether lines are much nearer to a quantity than it is to the other one, such as rounded."""
    if row.invoiced is None:
        return False
    off, apart = Decimal(difference(row.invoiced, quantity)), Decimal(difference(quantity, other))
    return off.is_finite() and apart.is_finite() and abs(off) * _NEARER < abs(apart)


def _compare(known: _Known, tolerance: Decimal) -> None:
    """Compare the row with its usage before that changed."""
    row, now = known.row, known.row.usage or Usage()
    usage = Usage(known.events, known.quantity, wallets=now.wallets)
    compared = compared_row(row.key, row.lines, usage, tolerance)
    row.usage, row.status, row.difference, row.now = usage, compared.status, compared.difference, now
    row.beside_sign_off = "what arrived later or was changed since is left out here"


def _signed_rows(signed: Signed, rows: Sequence[Row]) -> Iterator[tuple[SignedKey, Row]]:
    """The rows whose usage the last sign-off has by itself: all of a customer's metric, and wallet if any."""
    for key, (row, *others) in signed.groups(rows).items():
        if not others and row.wallets is None and key in signed.by_key:
            yield key, row


def _signed_before(signed: Signed, rows: Sequence[Row], tolerance: Decimal) -> Iterator[_Known]:
    """Rows whose usage, or price, was changed since the last sign-off, with what it has of them, and what is expected.

    Of a key with one price, by whose model the signed quantity is rated, that is the signed amounts, if any are known;
    of one with several, as in two currencies, or with other prices since, these alone are known. The quantity of a
    maximum and the like is that of its lines, if they have the signed amounts, or nearly have.
    """
    for key, row in _signed_rows(signed, rows):
        now, amounts = row.expected, _sums(signed.amounts.get(key, []))
        if now is None or not now.is_priced:
            continue
        is_count = now.counts_events
        events, quantity = signed.usage(key, is_count=is_count is True)
        if is_count is None:
            if not amounts or row.invoiced is None:
                continue
            quantity = row.invoiced
        if abs(Decimal(difference(now.quantity, quantity))) <= tolerance:
            is_as_now = not amounts or amounts == _sums(now.amounts.items())
            is_of_now = len(now.lines) == 1 and not signed.is_comparable
            if is_as_now or is_of_now or (is_count is None and signed.is_same_book):
                continue
        was = Expected()
        if len(now.lines) == 1:
            was.add(replace(now.lines[0], events=events, billable=quantity))
        if amounts and amounts != _sums(was.amounts.items()):
            is_known = not was.lines or is_count is not None if signed.is_same_book else signed.is_comparable
            if not is_known or (is_count is None and not _is_nearer(row, amounts, now.amounts)):
                continue
            others = {line.currency for line in row.lines} & (now.amounts.keys() - amounts.keys())
            amounts |= {code: Decimal(0) for code in others if code is not None}
            was = Expected(quantity, quantity, None, amounts, dict(amounts), now.lines)
        elif not was.lines:
            continue
        yield _Known(row, events, was.quantity, was)


def _is_nearer(row: Row, amounts: Mapping[str, Decimal], others: Mapping[str, Decimal]) -> bool:
    """Whether the amounts of a row's lines are nearer to some than to others."""
    billed = [(line.currency, line.amount) for line in row.lines]
    known = [(code, amount) for code, amount in billed if code is not None and amount is not None]

    def off(expected: Mapping[str, Decimal]) -> Decimal:
        negated = ((code, amount.copy_negate()) for code, amount in expected.items())
        return total(amount.copy_abs() for amount in _sums([*known, *negated]).values())

    return off(amounts) < off(others)
