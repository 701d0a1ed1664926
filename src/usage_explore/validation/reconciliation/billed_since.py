"""Right lines of what arrived or changed after the last sign-off, whose corrections have it, too."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from usage_explore.formatting import counted, span_in
from usage_explore.validation.check import SIGN_OFF_FACT, Examination, Finding, signed_words
from usage_explore.validation.periods import part
from usage_explore.validation.reconciliation.compare import Row
from usage_explore.validation.reconciliation.differences import NAME
from usage_explore.validation.reconciliation.signed_causes import Signed, command_of
from usage_explore.validation.usage_sums import customers_words


def billed_since(
    examination: Examination, signed: Sequence[Signed], rows: Sequence[Row], tolerance: Decimal
) -> list[Finding]:
    """A finding of right lines of what arrived or changed after the last sign-off, whose corrections have it, too."""
    billed = [
        row
        for key, group in (signed[0].groups(rows).items() if signed else ())
        if any(row.lines for row in group)
        and all(row.status == "matched" and not row.explained_by for row in group)
        and signed[0].has_other_usage(key, group, tolerance)
        for row in group
    ]
    if not billed:
        return []
    last, (since, until), zone = signed[0].signoff, examination.period.span, examination.period.zone
    customers = {row.key[0] for row in billed}
    totals = f"{counted(len(billed), 'total')} of {customers_words(customers)}, {span_in(since, until, zone)},"
    finding = Finding(
        check=NAME,
        kind="billed since sign-off",
        severity="low",
        sentence=f"{totals} {'is' if len(billed) == 1 else 'are'} invoiced with what arrived or was changed after"
        f" {signed_words(last, zone)}: the corrections of `{command_of(examination, last)}` have it, too. Sign off"
        " again, so that it is billed or credited once.",
        since=since,
        until=until,
        events=sum(row.events for row in billed),
        question=examination.aggregate_question(metric="sum_quantity", group_by="customer_id"),
        customer_id=customers.pop() if len(customers) == 1 else None,
        share=part(len(billed), sum(bool(row.lines) for row in rows)),
        share_of="invoiced totals",
        facts=((SIGN_OFF_FACT, str(last.id)),),
    )
    return [finding]
