"""A validation on a terminal: findings by impact, then what was looked at, what it came to, and as of when."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from usage_explore import formatting
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
_GAP = "  "
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
    yield from _table([], [(words.agreement(each.agrees), each.sentence) for each in reconciled], "<<", width)


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
    yield from _table(
        ["severity", "share", "events", "what"],
        [
            (
                each.severity,
                formatting.percent(each.share),
                f"{each.events:,}",
                f"{each.check}: {words.text(each.sentence, words.MAX_SENTENCE_CHARACTERS)}",
            )
            for each in listed
        ],
        "<>><",
        width,
        [_COLORS[each.severity] for each in listed],
    )
    if more := len(found) - len(listed):
        yield f"and {more:,} more, none of high severity; --report and --json have them all"


def _checks(results: Iterable[Result], width: int) -> Iterator[str]:
    found = tuple(results)
    shares = words.shares_of_time(found)
    yield from _table(
        ["check", "time", "share", "result"],
        [(each.check.name, *_spent(each, shares), _outcome(each)) for each in found],
        "<>><",
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
    yield from _table(
        ["metric", "events", "quantity"], [*rows, ("all", f"{validation.totals.events:,}", "")], "<>>", width
    )
    if costs := words.costs(validation):
        yield from textwrap.wrap(f"Cost: {costs}", width)


def _table(
    heading: Sequence[str],
    rows: Sequence[Sequence[str]],
    sides: str,
    width: int,
    colors: Sequence[str] | None = None,
) -> Iterator[str]:
    """Columns at their widest cell, each to its side; the last one takes the rest of the width, in several lines."""
    every = [heading, *rows] if heading else list(rows)
    if not rows:
        return
    *widths, last = (max(map(len, column)) for column in zip(*every, strict=True))
    before = sum(widths) + len(_GAP) * len(widths)
    last = max(min(last, width - before), 1)
    for number, row in enumerate(every, -1 if heading else 0):
        cells = [f"{cell:{side}{size}}" for cell, side, size in zip(row[:-1], sides, widths, strict=False)]
        first, *rest = textwrap.wrap(row[-1], last) or [""]
        if number >= 0 and colors:
            cells[0] = click.style(cells[0], fg=colors[number])
        line = _GAP.join([*cells, f"{first:{sides[-1]}{last}}"]).rstrip()
        yield click.style(line, dim=True) if number < 0 else line
        yield from (" " * before + f"{more:{sides[-1]}{last}}".rstrip() for more in rest)
