"""Values, results and a second count of the totals as text in the report and on the terminal: exact and printable."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pandas as pd
from pandas.api.types import is_scalar

from usage_explore.decimals import Number, total
from usage_explore.errors import UsageExploreError
from usage_explore.formatting import counted, date_and_time, exact, minute, percent, shortened, zoned
from usage_explore.pricing.currencies import exact_amount
from usage_explore.query.base import Query
from usage_explore.query.limits import MAX_AGGREGATE_BUCKETS
from usage_explore.query.queries import METRICS, AggregateQuery
from usage_explore.validation.folding import ALSO_SEEN_BY
from usage_explore.validation.registry import CHECKS
from usage_explore.validation.review import SETTLED
from usage_explore.validation.usage_sums import joined

if TYPE_CHECKING:
    from usage_explore.answers import AggregateSource
    from usage_explore.records.decisions import Decision
    from usage_explore.records.signoffs import SignOff
    from usage_explore.validation import Result, Validation
    from usage_explore.validation.review import Review


MISSING = "—"
"""Text of an empty cell."""

MAX_VALUE_CHARACTERS = 200
"""Characters of a value from the data; JSON has all of them."""

MAX_SENTENCE_CHARACTERS = 2_000
"""Characters of a sentence or an error."""


_ESTIMATED = {
    "expected": "expected, about",
    "low": "usual from about",
    "high": "usual to about",
    "excess": "more than expected, about",
    "bucket": "farthest out",
    "step": "counted by",
}
"""Titles of facts of unusual usage; the estimates have four digits."""


def fact_title(name: str, text: str) -> str:
    """The name of a fact: `line` with the number of one line of a file, which would read as a count of `lines`; that of
    a folded finding has the title of its check. Estimates say that they are.
    """
    check, space, number = name.removeprefix(f"{ALSO_SEEN_BY} ").partition(" ")
    if name.startswith(f"{ALSO_SEEN_BY} ") and check in CHECKS:
        return f"{ALSO_SEEN_BY} {CHECKS[check].title}{space}{number}"
    return "line" if name == "lines" and text.replace(",", "").isdecimal() else _ESTIMATED.get(name, name)


SPLITTING_CHECKS = ("wallets",)
"""Checks whose sheet has each event of the period in one row, with `metric_key`, `events` and `quantity`."""

RECOUNTED = ("count", "sum_quantity")
"""Measures whose totals are counted a second time; costs of several currencies have no total."""

_MAX_DAILY = 1_000
"""Days of a period that are counted by day; longer ones by week, within the aggregate's 2,400 buckets."""


_MIN_UNSIGNED = Decimal("0.01")
"""Share of a period's events that arrived after its `as_of`, from which its sign-off says so in a warning."""


def amounts(
    by_currency: Iterable[tuple[str | None, Decimal]], number: Callable[[Decimal, str | None], str] = exact_amount
) -> str:
    """`12.50 EUR, 3.00 USD`, with the amounts as `number` writes them."""
    return ", ".join(
        f"{number(amount, currency)} {text(currency) if currency else '(no currency)'}"
        for currency, amount in by_currency
    )


_FILES = {
    "invoices": "invoice lines",
    "control": "control totals",
    "prices": "price book",
    "wallets": "preferred currencies",
}
"""What a given file has, by argument of `Store.validate`."""


def given_files(validation: Validation) -> str:
    """The files that the validation was given: `invoice lines (oct.csv, 120 rows), price book (book.toml, 1 row)`."""
    named = []
    for argument, what in _FILES.items():
        if file := validation.files.get(argument):
            rows = validation.rows.get(argument)
            size = "" if rows is None else f", {counted(rows, 'row')}"
            named.append(f"{what} ({text(file['name'])}{size})")
    return ", ".join(named)


def expected_words(
    by_currency: Mapping[str, Decimal],
    unpriced_events: int | None,
    number: Callable[[Decimal, str | None], str] = exact_amount,
) -> str:
    """Expected amounts by currency, and how many events have none: `12.50 EUR, 3 events without a price`."""
    unpriced = f", {counted(unpriced_events, 'event')} without a price" if unpriced_events else ""
    return f"{amounts(by_currency.items(), number) or 'nothing'}{unpriced}"


def signed_amounts(signoff: SignOff, number: Callable[[Decimal, str | None], str] = exact_amount) -> str:
    """The expected amounts that were signed, as `expected_words`; empty for a sign-off without a price book."""
    if not signoff.amounts and signoff.basis is None:
        return ""
    return expected_words(signoff.amount_totals, signoff.unpriced_events, number)


def text(value: object, max_characters: int = MAX_VALUE_CHARACTERS) -> str:
    """A value from the data on one printable line, shortened."""
    return shortened(str(value), max_characters)


def is_missing(value: Any) -> bool:
    """Whether a cell of a frame is None, NaN or NaT; a decimal NaN is a value."""
    return value is None or (not isinstance(value, Decimal | str) and is_scalar(value) and bool(pd.isna(value)))


def cell(value: object, zone: ZoneInfo) -> str:
    """A cell of a check's sheet; times on the zone's clock, with the offset."""
    if is_missing(value):
        return MISSING
    match value:
        case bool():
            return "yes" if value else "no"
        case int() | Decimal():
            return exact(value)
        case float():
            return f"{value:,.6g}"
        case datetime():
            return zoned(value, zone)
        case timedelta():
            return str(value)
        case date():
            return value.isoformat()
        case str():
            return text(value) if value else "(empty)"
        case _:
            return _scalar(value, zone)


def _scalar(value: Any, zone: ZoneInfo) -> str:
    """A numpy or pandas scalar as its Python value, anything else as its `str`."""
    inside = value.item() if hasattr(value, "item") else str(value)
    return text(inside) if type(inside) is type(value) else cell(inside, zone)


def verdict(validation: Validation, review: Review | None = None) -> str:
    """The result in a line: `12 findings: 3 high, 5 medium, 4 low; 1 check failed`.

    Where a `review` has decisions, severities are those of open findings: `6 findings: 2 high open, 4 acknowledged`.
    """
    if validation.findings:
        summary = f"{counted(len(validation.findings), 'finding')}: {_by_severity(validation, review)}"
    elif validation.examined_nothing and validation.totals.events:
        summary = "Nothing was examined: no check had anything to judge"
    elif validation.totals.events:
        summary = f"Nothing found by {counted(sum(result.is_clean for result in validation.results), 'check')}"
    else:
        summary = "Nothing was examined: no event of the period is known"
    if validation.totals.events:
        partial = [result.check.name for result in validation.results if result.is_partial]
        summary += f"; some usage could not be judged by {', '.join(partial)}" if partial else ""
    summary = "; ".join((summary, *validation.unchecked))
    failed = len(validation.failed)
    return f"{summary}; {counted(failed, 'check')} failed" if failed else summary


def _by_severity(validation: Validation, review: Review | None) -> str:
    states = review.counts() if review else {}
    settled = [f"{states[state]:,} {state}" for state in SETTLED if states.get(state)]
    numbers = review.open_counts() if review and settled else validation.counts()
    words = [f"{number:,} {severity}" for severity, number in numbers.items() if number]
    return ", ".join([f"{joined(words) or 'none'} open", *settled] if settled else words)


def changed_bounds(validation: Validation) -> str:
    """`Bounds other than the defaults: silence.min_silence 5 days, by default 3.`; "" if there are none."""
    changed = "; ".join(f"{key} {words}" for key, words in validation.bounds.texts.items())
    return f"Bounds other than the defaults: {changed}." if changed else ""


def outcome(result: Result) -> str:
    """The result of a check: `clean`, `3 findings`, `reported by unit_slips`, `skipped: …`, `FAILED: …`."""
    if result.outcome is None:
        return (
            f"FAILED: {text(result.failed, MAX_SENTENCE_CHARACTERS)}"
            if result.failed
            else f"skipped: {text(result.skipped, MAX_SENTENCE_CHARACTERS)}"
        )
    if result.outcome.findings:
        return counted(len(result.outcome.findings), "finding")
    if result.outcome.reported_by:
        return f"reported by {', '.join(result.outcome.reported_by)}"
    return "clean" if result.outcome.looked_at else "nothing to examine"


def unexamined(validation: Validation, option: str = "as_of=") -> str:
    """How many events of the period arrived after `as_of`, and how to have them examined; "" without any.

    `option` is the parameter as the reader writes it, such as `--as-of `; "" where none can be given.
    """
    left = validation.unexamined
    return left.sentence(validation.period, validation.now, option=option) if left else ""


def days_signed(since: datetime, until: datetime, as_of: datetime, zone: ZoneInfo) -> str:
    """How much of a period was over when it was signed, `14 of 31 days`; "" if all of it was."""
    if as_of >= until:
        return ""
    first, last, signed = (moment.astimezone(zone).date() for moment in (since, until - timedelta.resolution, as_of))
    days = (last - first).days + 1
    return f"{max(0, min((signed - first).days, days)):,} of {counted(days, 'day')}"


def left_unsigned(validation: Validation) -> str:
    """What a sign-off lacks: `only 14 of 31 days are signed: …`, and later arrivals from 1 % on; "" for nothing."""
    period, left = validation.period, validation.unexamined
    as_of = period.as_of or validation.now
    days = days_signed(*period.span, as_of, period.zone)
    words = (
        [f"only {days} are signed: the period was not over at {minute(as_of.astimezone(period.zone))}"] if days else []
    )
    events = left.events if left else 0
    if events >= _MIN_UNSIGNED * (events + validation.totals.events) and events:
        share = percent(events, events + validation.totals.events)
        words.append(f"{counted(events, 'event')} of the period, {share} of all, arrived later and are not part of it")
    return "; ".join(words)


_ACTIONS = {"acknowledge": "acknowledged", "note": "noted", "reopen": "reopened"}


def decision(made: Decision, zone: ZoneInfo) -> str:
    """A decision in words, such as `5 Nov 2026 14:30, ana: muted until 1 Dec 2026 00:00. Ticket 4711`."""
    when = date_and_time(made.made_at.astimezone(zone).replace(second=0, microsecond=0))
    if made.action == "mute" and made.until is not None:
        done = f"muted until {date_and_time(made.until.astimezone(zone))}"
    elif made.action == "assign":
        done = f"assigned to {text(made.assignee)}" if made.assignee else "assigned to nobody"
    else:
        done = _ACTIONS[made.action]
    note = f" {text(made.note, MAX_SENTENCE_CHARACTERS)}" if made.note else ""
    return f"{when}, {text(made.author)}: {done}.{note}"


def agreement(agrees: bool | None) -> str:
    """`agrees`, `DOES NOT AGREE` or, for None, `not compared`."""
    return {True: "agrees", False: "DOES NOT AGREE", None: "not compared"}[agrees]


def shares_of_time(results: Iterable[Result]) -> dict[str, str]:
    """The share of the total time that each check took, by its name, in whole per cent."""
    spent = {result.check.name: result.took.total_seconds() for result in results}
    whole = sum(spent.values()) or 1
    return {name: f"{took / whole * 100:.0f} %" for name, took in spent.items()}


def costs(validation: Validation) -> str:
    """The period's external cost by currency, "" without any."""
    return amounts(sorted(validation.totals.costs.items(), key=lambda cost: cost[0] or ""))


@dataclass(frozen=True, slots=True)
class Statement:
    """One comparison of two counts. `agrees` is None if they could not be compared; `sentence` says why."""

    agrees: bool | None
    sentence: str


def statements(store: AggregateSource, validation: Validation) -> tuple[Statement, ...]:
    """The comparisons of the validation's totals with a second count, to the last digit.

    The aggregate runs other statements, on the extract where there is one. Costs one aggregate per metric.
    """
    return (*(_aggregate(store, validation, metric) for metric in RECOUNTED), *_sheets(validation))


def disagreement(found: Iterable[Statement]) -> str:
    """Why a period cannot be signed whose totals do not agree with a second count; "" if all do."""
    wrong = [statement.sentence.rstrip(".") for statement in found if statement.agrees is False]
    if not wrong:
        return ""
    return f"its totals do not agree with a second count, so one of the two is wrong: {'; '.join(wrong)}"


def sheet_totals(sheet: pd.DataFrame) -> dict[str, tuple[int, Decimal]]:
    """(events, quantity) by metric, exact, of a sheet with `metric_key`, `events` and `quantity`."""
    rows: dict[str, list[tuple[int, Decimal]]] = {}
    for metric, events, quantity in zip(sheet["metric_key"], sheet["events"], sheet["quantity"], strict=True):
        rows.setdefault(metric, []).append((int(events), quantity))
    return {
        metric: (sum(events for events, _ in counts), total(quantity for _, quantity in counts))
        for metric, counts in rows.items()
    }


def _aggregate(store: AggregateSource, validation: Validation, measure: str) -> Statement:
    totals = validation.totals.metrics
    ours: dict[str, Number] = {
        metric: events if measure == "count" else quantity for metric, (events, quantity) in totals.items()
    }
    measured = f"{METRICS[measure].capitalize()} by metric"
    try:
        answer = store.aggregate(_query(validation, measure))
    except UsageExploreError as error:
        return Statement(None, f"{measured} could not be counted a second time: {text(error)}.")
    if answer.capped:
        return Statement(
            None, f"{measured}: the period has more than {MAX_AGGREGATE_BUCKETS:,} weeks, not counted twice."
        )
    theirs = {series.key or "": series.number for series in answer.series}
    differing = sorted(name for name in {**ours, **theirs} if ours.get(name, 0) != theirs.get(name, 0))
    if not differing:
        events = f", {validation.totals.events:,} in all" if measure == "count" else ""
        return Statement(True, f"{measured}: {counted(len(ours), 'metric')}{events}, equal to the aggregate's answer.")
    name = differing[0]
    here, there = (exact(counts.get(name, 0)) for counts in (ours, theirs))
    return Statement(
        False,
        f"{measured}: {counted(len(differing), 'metric')} of {len(ours):,} differ from the aggregate's"
        f" answer, first {text(name)}: {here} here, {there} there.",
    )


def _query(validation: Validation, measure: str) -> AggregateQuery:
    period = validation.period
    since, until = period.span
    return AggregateQuery(
        **period.shared_with(Query),
        since=since,
        until=until,
        timezone=period.timezone,
        bucket="day" if (until - since).days < _MAX_DAILY else "week",
        metric=measure,
        group_by="metric_key",
        top=0,
    )


def _sheets(validation: Validation) -> Iterator[Statement]:
    titles = {result.check.name: result.check.title for result in validation.results}
    for name in SPLITTING_CHECKS:
        sheet = validation.sheet(name)
        if sheet is not None and {"metric_key", "events", "quantity"} <= set(sheet.columns):
            yield _sheet(validation, titles[name], sheet)


def _sheet(validation: Validation, title: str, sheet: pd.DataFrame) -> Statement:
    ours, theirs = validation.totals.metrics, sheet_totals(sheet)
    if not_finite := sorted(name for name, (_, quantity) in {**ours, **theirs}.items() if not quantity.is_finite()):
        return Statement(
            None,
            f"The rows of “{title}” cannot be added up: quantities of {text(not_finite[0])} are no finite numbers.",
        )
    differing = sorted(name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name))
    if not differing:
        return Statement(
            True,
            f"The {len(sheet):,} rows of “{title}” add up to the period's events and quantity, for each of"
            f" {counted(len(theirs), 'metric')}.",
        )
    name = differing[0]
    here, there = (_events_and_quantity(counts.get(name, (0, Decimal(0)))) for counts in (ours, theirs))
    return Statement(
        False,
        f"The rows of “{title}” do not add up: {counted(len(differing), 'metric')} of {len(ours):,} differ"
        f", first {text(name)}: {there} in the rows, {here} in the period.",
    )


def _events_and_quantity(counts: tuple[int, Decimal]) -> str:
    return f"{counted(counts[0], 'event')} with {exact(counts[1])}"
