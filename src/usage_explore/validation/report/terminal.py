"""A validation on a terminal: findings by impact, then what was looked at, what it came to, and as of when."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from usage_explore import formatting
from usage_explore.console import Justify, table
from usage_explore.decimals import decimal_context
from usage_explore.query.describe import describe
from usage_explore.validation.finding import Severity
from usage_explore.validation.report import words
from usage_explore.validation.report.reconciled import Statement

if TYPE_CHECKING:
    from usage_explore.validation import Result, Validation

LISTED = 40
"""How many findings are listed; those of high severity always are."""

_COLORS: dict[Severity, str] = {"high": "red", "medium": "yellow", "low": "cyan"}
_NARROWEST, _WIDEST = 60, 160
_NAME = 32  # characters of a metric's name beside its numbers


@decimal_context()
def lines(validation: Validation, reconciled: Sequence[Statement], width: int) -> list[str]:
    """The report line by line, none wider than `width`, which counts from 60 to 160; styled for a terminal."""
    return list(_lines(validation, reconciled, min(max(width, _NARROWEST), _WIDEST)))


def _lines(validation: Validation, reconciled: Sequence[Statement], width: int) -> Iterator[str]:
    yield from textwrap.wrap(
        words.text(describe(validation.period.replace(as_of=None)), words.MAX_SENTENCE_CHARACTERS), width
    )
    yield from textwrap.wrap(_stamp(validation), width)
    yield from (click.style(line, bold=True) for line in textwrap.wrap(words.unexamined(validation, "--as-of "), width))
    yield ""
    yield from (click.style(line, bold=True) for line in textwrap.wrap(words.verdict(validation), width))
    yield from _findings(validation, width)
    yield ""
    yield from _checks(validation.results, width)
    yield ""
    yield from _totals(validation, width)
    yield ""
    agreements = [(words.agreement(each.agrees), each.sentence) for each in reconciled]
    yield from table([("", "left"), ("", "left")], agreements, width=width) if agreements else ()


def _stamp(validation: Validation) -> str:
    period = validation.period
    finalized = f", finalized at {formatting.zoned(period.finalized_at, period.zone)}" if period.finalized_at else ""
    as_of = formatting.zoned(period.as_of or validation.now, period.zone)
    return f"Organization {period.organization_id}, data as of {as_of}{finalized}"


def _findings(validation: Validation, width: int) -> Iterator[str]:
    found = validation.findings
    if not found:
        return
    listed = found[: max(LISTED, validation.counts()["high"])]
    yield ""
    yield from _dim_heading(
        [("severity", "left"), ("share", "right"), ("events", "right"), ("what", "left")],
        [
            (
                each.severity,
                formatting.percent(each.share),
                f"{each.events:,}",
                f"{each.check}: {words.text(each.sentence, words.MAX_SENTENCE_CHARACTERS)}",
            )
            for each in listed
        ],
        width,
        [_COLORS[each.severity] for each in listed],
    )
    if more := len(found) - len(listed):
        yield f"and {more:,} more, none of high severity; --report and --json have them all"


def _checks(results: Iterable[Result], width: int) -> Iterator[str]:
    found = tuple(results)
    shares = words.shares_of_time(found)
    yield from _dim_heading(
        [("check", "left"), ("time", "right"), ("share", "right"), ("result", "left")],
        [(each.check.name, *_spent(each, shares), _outcome(each)) for each in found],
        width,
    )


def _spent(result: Result, shares: dict[str, str]) -> tuple[str, str]:
    return ("", "") if result.skipped else (formatting.elapsed(result.took), shares[result.check.name])


def _outcome(result: Result) -> str:
    said = words.outcome(result)
    if result.outcome is None:
        return said
    note = f"; {words.text(result.outcome.note, words.MAX_SENTENCE_CHARACTERS)}" if result.outcome.note else ""
    return f"{said} among {result.outcome.looked_at:,} {result.check.unit}{note}"


def _totals(validation: Validation, width: int) -> Iterator[str]:
    metrics = sorted(validation.totals.metrics.items())
    rows = [
        (words.text(name, _NAME), f"{events:,}", formatting.exact(quantity)) for name, (events, quantity) in metrics
    ]
    rows.append(("all", f"{validation.totals.events:,}", ""))
    yield from _dim_heading([("metric", "left"), ("events", "right"), ("quantity", "right")], rows, width)
    if costs := words.costs(validation):
        yield from textwrap.wrap(f"Cost: {costs}", width)


def _dim_heading(
    columns: Sequence[tuple[str, Justify]], rows: Sequence[Sequence[str]], width: int, colors: Sequence[str] = ()
) -> Iterator[str]:
    heading, *lines = table(columns, rows, width=width, colors=colors)
    yield click.style(heading, dim=True)
    yield from lines
