"""Lines compared with what arrived or changed after the last sign-off, whose corrections have it, too.

Right ones are a finding. A wrong one that was made since is compared with the usage now: corrected by its finding, it
has what the corrections bill or credit as well, which the finding says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal

from usage_explore.decimals import difference, plain, total
from usage_explore.formatting import counted, span_in
from usage_explore.pricing.currencies import signed_sums
from usage_explore.validation.check import (
    AFTER_SIGN_OFF,
    BILLED_SINCE_SIGN_OFF,
    CHANGED_AFTER_SIGN_OFF,
    EARLIER_SIGN_OFF,
    LATE_EVENTS_FACT,
    SIGN_OFF_FACT,
    Examination,
    Finding,
    signed_words,
)
from usage_explore.validation.periods import part
from usage_explore.validation.reconciliation.compare import LATE, Row
from usage_explore.validation.reconciliation.differences import NAME
from usage_explore.validation.reconciliation.signed_causes import WRONG, Signed, SignedKey, command_of
from usage_explore.validation.usage_sums import customers_words, joined

_SIGNED = {LATE, AFTER_SIGN_OFF, CHANGED_AFTER_SIGN_OFF, EARLIER_SIGN_OFF}
"""Explanations of rows by usage that was known or signed before."""


def rows_billed_since(
    examination: Examination, signed: Sequence[Signed], rows: Sequence[Row], tolerance: Decimal
) -> list[Row]:
    """The rows compared with other usage than the last sign-off has; wrong ones say what its corrections have."""
    billed: list[Row] = []
    for last in signed[:1]:
        words = signed_words(last.signoff, examination.period.zone)
        for key, group in last.groups(rows).items():
            is_compared = all(map(_is_of_now, group)) or _has_other_prices(last, key, group)
            if not is_compared or not last.has_other_usage(key, group, tolerance):
                continue
            wrong = [row for row in group if row.status in WRONG]
            if wrong and len(group) > 1:
                continue  # which of them was changed is not known
            if wrong or any(row.lines for row in group):
                billed += group
            for row in wrong:
                change = _changed(last, key, group)
                row.beside_sign_off = f"compared with the usage now: the corrections of {words} have {change}, too"
        billed += _removed(last, rows)
    return billed


def _removed(signed: Signed, rows: Sequence[Row]) -> Iterator[Row]:
    """A row for each signed total without usage and line, which the corrections credit, of metrics that are invoiced.

    None where lines have further columns, or name no metric: whether another line has it is not known.
    """
    positions = [position for position in (signed.metric, signed.wallet) if position]
    if not signed.metric or any(len(row.key) > 1 + len(positions) for row in rows):
        return
    metrics = {row.key[signed.metric] for row in rows if row.lines}
    known = {row.key for row in rows}
    for customer, metric, wallet in signed.by_key:
        values = {signed.metric: metric, signed.wallet: wallet}
        key = (customer, *(values[position] for position in sorted(positions)))
        if key not in known and metric in metrics and signed.was_billed((customer, metric, wallet)):
            yield Row(key, [], None, "matched", Decimal(0))


def _is_of_now(row: Row) -> bool:
    """Whether a row is compared with the usage now, and not with what was known or signed before."""
    is_now = row.now is None and not _SIGNED.intersection(row.explained_by.split(" and "))
    return is_now and row.status in (*WRONG, "matched")


def _has_other_prices(signed: Signed, key: SignedKey, rows: Sequence[Row]) -> bool:
    """Whether rows lack late usage alone, but charge other prices than the signed ones, which the corrections have."""
    is_late = all(row.explained_by in (LATE, AFTER_SIGN_OFF) or _is_of_now(row) for row in rows)
    return signed.has_other_prices and is_late and not signed.charges(key, [one for row in rows for one in row.lines])


def _changed(signed: Signed, key: SignedKey, rows: Sequence[Row]) -> str:
    """What of the rows' usage is in the corrections: `+100 and +60.00 USD`."""
    expected = [row.expected for row in rows if row.expected is not None]
    counts = {each.counts_events for each in expected}
    changes = []
    if None not in counts:
        _, was = signed.usage(key, is_count=True in counts)
        change = Decimal(difference(total(row.recomputed or Decimal(0) for row in rows), was))
        if change or not signed.is_comparable:
            changes.append(f"{'+' if change > 0 else ''}{plain(change)}")
    if (signed.is_same_book or signed.is_comparable) and all(row.expected or row.usage is None for row in rows):
        changes += signed_sums(signed.changed_amounts(key, rows).items())
    return joined(changes) or "what changed since"


def billed_since(
    examination: Examination, signed: Sequence[Signed], rows: Sequence[Row], billed: Sequence[Row]
) -> list[Finding]:
    """The finding of rows compared with what arrived or changed after the last sign-off."""
    if not billed:
        return []
    last, (since, until), zone = signed[0].signoff, examination.period.span, examination.period.zone
    customers = {row.key[0] for row in billed}
    wrong = sum(row.status in WRONG for row in billed)
    totals = f"{counted(len(billed), 'total')} of {customers_words(customers)}, {span_in(since, until, zone)},"
    late = sum(row.usage.late_events for row in billed if row.usage and row.lines and row.status == "matched")
    gone = sum(not row.lines and row.usage is None for row in billed)
    without = f" ({gone:,} without a line, as all usage of it left)" if gone else ""
    compared = "compared" if wrong == len(billed) else "invoiced or compared" if wrong else "invoiced"
    finding = Finding(
        check=NAME,
        kind=BILLED_SINCE_SIGN_OFF,
        severity="low",
        sentence=f"{totals} {'is' if len(billed) == 1 else 'are'} {compared} with what arrived or was changed after"
        f" {signed_words(last, zone)}{without}: the corrections of `{command_of(examination, last)}` have it, too."
        " Sign off again, so that it is billed or credited once.",
        since=since,
        until=until,
        events=sum(row.events for row in billed),
        question=examination.aggregate_question(metric="sum_quantity", group_by="customer_id"),
        customer_id=customers.pop() if len(customers) == 1 else None,
        share=part(len(billed), sum(bool(row.lines) for row in rows)),
        share_of="invoiced totals",
        facts=((SIGN_OFF_FACT, str(last.id)), (LATE_EVENTS_FACT, str(late))),
    )
    return [finding]
