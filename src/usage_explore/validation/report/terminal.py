"""A validation as lines on a terminal: findings by impact, the result of each check, totals and their recount."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from usage_explore import formatting
from usage_explore.console import Justify, table
from usage_explore.decimals import decimal_context
from usage_explore.query.describe import describe
from usage_explore.validation.check import Severity
from usage_explore.validation.report import wording
from usage_explore.validation.report.wording import Statement

if TYPE_CHECKING:
    from usage_explore.names import Names
    from usage_explore.validation import Finding, Result, Validation
    from usage_explore.validation.review import Review, Reviewed

MAX_FINDINGS = 40
"""Findings that are listed; more if they are of high severity."""

MAX_GONE = 10
"""Findings of earlier runs that are gone, as listed."""

_COLORS: dict[Severity, str] = {"high": "red", "medium": "yellow", "low": "cyan"}
_MIN_WIDTH, _MAX_WIDTH = 60, 160
_MAX_METRIC_CHARACTERS = 32


@decimal_context()
def lines(
    validation: Validation, reconciled: Sequence[Statement], width: int, review: Review | None = None
) -> list[str]:
    """The report, styled for a terminal, in lines of at most `width` characters; `width` is clamped to 60 to 160.

    With a `review`, each finding has its state and its id.
    """
    return list(_lines(validation, reconciled, min(max(width, _MIN_WIDTH), _MAX_WIDTH), review))


def _lines(validation: Validation, reconciled: Sequence[Statement], width: int, review: Review | None) -> Iterator[str]:
    words = validation.names.in_text(describe(validation.period.replace(as_of=None)), ids=True)
    title = wording.text(words, wording.MAX_SENTENCE_CHARACTERS)
    yield from textwrap.wrap(title, width)
    yield from textwrap.wrap(_stamp(validation), width)
    if files := wording.given_files(validation):
        yield from textwrap.wrap(f"Files: {files}", width)
    yield from _bold(wording.unexamined(validation, "--as-of "), width)
    yield ""
    yield from _bold(wording.verdict(validation, review), width)
    if review is not None:
        yield from _bold(review.unseen_sentence(validation.period.zone), width)
    yield from textwrap.wrap(wording.changed_bounds(validation), width)
    if review is not None and (review.items or review.gone):
        yield from textwrap.wrap(review.sentence(validation.period.zone), width)
        yield from textwrap.wrap(review.files_sentence(validation.period.zone), width)
    yield from _findings(validation, width, review)
    if review is not None and review.gone:
        yield ""
        yield from _gone(review, validation.names, width)
    yield ""
    yield from _checks(validation.results, width)
    yield ""
    yield from _totals(validation, width)
    yield ""
    recounts = [(wording.agreement(statement.agrees), statement.sentence) for statement in reconciled]
    yield from table([("", "left"), ("", "left")], recounts, width=width) if recounts else ()


def _bold(text: str, width: int) -> Iterator[str]:
    return (click.style(line, bold=True) for line in textwrap.wrap(text, width))


def _stamp(validation: Validation) -> str:
    period = validation.period
    finalized = f", finalized at {formatting.zoned(period.finalized_at, period.zone)}" if period.finalized_at else ""
    as_of = formatting.zoned(period.as_of or validation.now, period.zone)
    organization = wording.text(validation.names.full("organization", str(period.organization_id)))
    return f"Organization {organization}, data as of {as_of}{finalized}"


def _findings(validation: Validation, width: int, review: Review | None) -> Iterator[str]:
    findings = [item.finding for item in review.items] if review else validation.findings
    if not findings:
        return
    grave = (review.open_counts() if review else validation.counts())["high"]
    listed = findings[: max(MAX_FINDINGS, grave)]
    yield ""
    yield from _dim_heading(
        [
            ("severity", "left"),
            *_state_column(review),
            ("share", "right"),
            ("events", "right"),
            ("finding", "left"),
        ],
        [
            (
                finding.severity,
                *([_state(review.of(finding))] if review else []),
                formatting.percent(finding.share),
                f"{finding.events:,}",
                f"{finding.check}: {_sentence(finding, validation.names)}{_lapsed(finding, review)}"
                + (f" [{review.of(finding).id}]" if review else ""),
            )
            for finding in listed
        ],
        width,
        [_COLORS[finding.severity] for finding in listed],
    )
    if more := len(findings) - len(listed):
        of_high = any(finding.severity == "high" for finding in findings[len(listed) :])
        none = "none of high severity is open" if of_high else "none of high severity"
        yield f"and {more:,} more, {none}; --report and --json have them all"


def _state_column(review: Review | None) -> list[tuple[str, Justify]]:
    return [("state", "left")] if review else []


def _state(item: Reviewed) -> str:
    """The state in a word: `new`, `known`, `muted`; `known, assigned`."""
    shown = [state for state in item.states if state != "open"]
    if not item.is_open and not item.is_new:
        shown.remove("known")
    return ", ".join(shown)


def _lapsed(finding: Finding, review: Review | None) -> str:
    """Why a decision on a finding no longer counts, as a further sentence."""
    lapsed = review.of(finding).lapsed if review else ""
    return f" Open again: {lapsed}." if lapsed else ""


def _gone(review: Review, names: Names, width: int) -> Iterator[str]:
    """The findings of earlier runs that are gone."""
    yield from _dim_heading(
        [("gone", "left"), ("events", "right"), ("finding", "left")],
        [
            (
                finding.severity,
                f"{finding.events:,}",
                f"{finding.identity.check}: "
                f"{wording.text(names.in_text(finding.sentence, ids=True), wording.MAX_SENTENCE_CHARACTERS)}",
            )
            for finding in review.gone[:MAX_GONE]
        ],
        width,
    )
    if more := len(review.gone) - MAX_GONE:
        yield from [f"and {more:,} more; --json has them all"] if more > 0 else []


def _sentence(finding: Finding, names: Names) -> str:
    """The finding's sentence with names and, as nothing else on the terminal says them, whole ids."""
    return wording.text(names.in_text(finding.sentence, ids=True), wording.MAX_SENTENCE_CHARACTERS)


def _checks(results: Iterable[Result], width: int) -> Iterator[str]:
    results = tuple(results)
    shares = wording.shares_of_time(results)
    yield from _dim_heading(
        [("check", "left"), ("time", "right"), ("share", "right"), ("result", "left")],
        [(result.check.name, *_time(result, shares), _outcome(result)) for result in results],
        width,
    )


def _time(result: Result, shares: dict[str, str]) -> tuple[str, str]:
    return ("", "") if result.skipped else (formatting.elapsed(result.took), shares[result.check.name])


def _outcome(result: Result) -> str:
    text = wording.outcome(result)
    if result.outcome is None:
        return text
    note = f"; {wording.text(result.outcome.note, wording.MAX_SENTENCE_CHARACTERS)}" if result.outcome.note else ""
    return f"{text} among {result.check.counted(result.outcome.looked_at)}{note}"


def _totals(validation: Validation, width: int) -> Iterator[str]:
    rows = [
        (wording.text(name, _MAX_METRIC_CHARACTERS), f"{events:,}", formatting.exact(quantity))
        for name, (events, quantity) in sorted(validation.totals.metrics.items())
    ]
    rows.append(("all", f"{validation.totals.events:,}", ""))
    yield from _dim_heading([("metric", "left"), ("events", "right"), ("quantity", "right")], rows, width)
    if costs := wording.costs(validation):
        yield from textwrap.wrap(f"Cost: {costs}", width)


def _dim_heading(
    columns: Sequence[tuple[str, Justify]], rows: Sequence[Sequence[str]], width: int, colors: Sequence[str] = ()
) -> Iterator[str]:
    heading, *lines = table(columns, rows, width=width, colors=colors)
    yield click.style(heading, dim=True)
    yield from lines
