"""Lines that a validation is given, such as invoice lines and control totals, beside the period's filters."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from usage_explore.extract.scans import named_groups
from usage_explore.formatting import listed, span_in
from usage_explore.query.describe import group_name
from usage_explore.query.filters import ID_COLUMNS, TEXT_COLUMNS
from usage_explore.query.queries import Period
from usage_explore.validation.check import Examination, Finding, Outcome


def filters_without_column(period: Period, columns: Iterable[str]) -> str:
    """The period's filters on other columns than these, in words; "" without any."""
    return listed([group_name(name) for name in named_groups(period, "none") - {*columns}])


def passes_filters(line: object, period: Period) -> bool:
    """Whether a line passes the period's filters, all of which must be on columns that lines have."""
    for name in ID_COLUMNS:
        if (wanted := getattr(period, name)) is not None and getattr(line, name) != wanted:
            return False
    for name in TEXT_COLUMNS:
        if (texts := getattr(period, name)) and getattr(line, name) not in texts:
            return False
    if any(getattr(line, group) is not None for group in period.missing):
        return False
    for name, values in period.exclude:
        if name == "missing":
            if any(getattr(line, group) is None for group in values):
                return False
        elif getattr(line, name) is not None and str(getattr(line, name)) in values:
            return False
    return True


def nothing_compared(examination: Examination, check: str, lines: str, reason: str, kind: str = "") -> Outcome:
    """One finding that none of the `lines` was compared, so that the check is not clean."""
    since, until = examination.period.span
    span = span_in(since, until, examination.period.zone)
    finding = Finding(
        check=check,
        kind=kind,
        severity="high",
        sentence=f"No {lines} was compared with the usage, {span}: {reason[:1].lower()}{reason[1:]}.",
        since=since,
        until=until,
        events=examination.totals.events,
        question=examination.aggregate_question(),
        share=Decimal(1),
        share_of="all events",
    )
    return Outcome(findings=(finding,), note=f"Nothing was compared: {reason}.")
