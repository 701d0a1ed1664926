"""A finding handed over: as a text for a ticket, and duplicates in pairs, the event that counts beside its copy."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pandas as pd

from usage_explore.decimals import plain
from usage_explore.formatting import exact, percent, span_in, zoned
from usage_explore.names import Names
from usage_explore.pricing.currencies import exact_money
from usage_explore.query.describe import describe
from usage_explore.query.filters import ID_COLUMNS
from usage_explore.results import frames
from usage_explore.ticket import lines
from usage_explore.validation.check import SEVERITIES, SUBJECTS, Finding
from usage_explore.validation.reconciliation.differences import NAME as RECONCILIATION
from usage_explore.validation.registry import CHECKS
from usage_explore.validation.result import Validation

MAX_PAIRS = 100_000
"""Pairs of duplicates that one file has."""

_TIMES, _DECIMALS = ("timestamp", "ingested_at"), ("quantity", "external_cost_amount")


def ticket(validation: Validation, finding: Finding, link: str) -> str:
    """The finding as a text for a ticket, with exact numbers and whole ids; `link` opens it with the same numbers."""
    period, names = validation.period, validation.names
    check = CHECKS[finding.check]
    size = [f"Events: {exact(finding.events)}"]
    if finding.quantity is not None:
        size.append(f"Quantity: {exact(finding.quantity)}")
    size += [
        f"{label.capitalize()}: {', '.join(exact_money(amount, currency) for currency, amount in amounts)}"
        for label, amounts in sizes(finding)
    ]
    whole = f" of {finding.share_of}" if finding.share_of else ""
    size.append(f"Affected: {percent(finding.share)}{whole}")
    return lines(
        [
            f"{check.title}, {finding.severity}: {SEVERITIES[finding.severity]}",
            names.in_text(finding.sentence, ids=True),
        ],
        [
            f"Organization: {names.full('organization', str(period.organization_id))}",
            f"Period: {names.in_text(describe(period.replace(as_of=None)), ids=True)}",
            f"As of: {zoned(period.as_of or validation.now, period.zone)}",
            f"When: {span_in(finding.since, finding.until, period.zone)}, {period.timezone}",
            *_subjects(finding, names),
        ],
        size,
        [f"Meaning for the invoice: {check.means}"],
        [link],
    )


def sizes(finding: Finding) -> list[tuple[str, tuple[tuple[str, Decimal], ...]]]:
    """The amounts of a finding with what they are: the affected cost, or of invoice lines the affected amount, where
    known by how much they are too high and too low.
    """
    if finding.too_high is None or finding.too_low is None:
        named = [("amount affected" if finding.check == RECONCILIATION else "cost affected", finding.amounts)]
    else:
        named = [("invoiced too much", finding.too_high), ("invoiced too little", finding.too_low)]
    return [(label, amounts) for label, amounts in named if amounts]


def _subjects(finding: Finding, names: Names) -> list[str]:
    values = ((name, getattr(finding, name)) for name in SUBJECTS)
    return [
        f"{name.removesuffix('_id').removesuffix('_key').replace('_', ' ').capitalize()}: "
        f"{names.full(name, value) if name in ID_COLUMNS else value}"
        for name, value in values
        if value is not None
    ]


def pair_frame(rows: Sequence[Any], columns: Sequence[str]) -> pd.DataFrame:
    """The rows of `duplicates.pairs` as a frame; see `Store.duplicate_pairs`."""
    headings = ["idempotency_key", *(f"{side}_{name}" for side in ("kept", "copy") for name in columns)]
    made: dict[str, Any] = {}
    for index, heading in enumerate(headings):
        values = [row[index] for row in rows]
        name = heading.removeprefix("kept_").removeprefix("copy_")
        if name in _TIMES:
            made[heading] = pd.Series(values, dtype="datetime64[us, UTC]")
        elif name in _DECIMALS:
            made[heading] = pd.Series(values, dtype="object")
        else:
            made[heading] = pd.Series([None if value is None else str(value) for value in values], dtype="str")
    return pd.DataFrame(made)


def pairs_csv(pairs: pd.DataFrame) -> bytes:
    """The pairs as CSV: decimals plain, times RFC 3339 in UTC, text quoted, NULL empty and unquoted, no formulas."""
    columns: dict[str, Any] = {}
    for heading in pairs.columns:
        values = pairs[heading]
        name = heading.removeprefix("kept_").removeprefix("copy_")
        if name in _TIMES:
            columns[heading] = [f"{moment.isoformat(timespec='microseconds')[:-6]}Z" for moment in values]
        elif name in _DECIMALS:
            columns[heading] = pd.Series(
                [None if value is None else plain(value) if value.is_finite() else str(value) for value in values],
                dtype="str",
            )
        else:
            columns[heading] = values
    return frames.csv_bytes(columns, escape_formulas=True)
