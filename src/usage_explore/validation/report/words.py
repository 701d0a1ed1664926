"""Values as the report writes them: exact, thousands separated, inert on a terminal and in a page."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pandas as pd
from pandas.api.types import is_scalar

from usage_explore.charts.words import exact
from usage_explore.decimals import Number, exact_sum, rfc3339
from usage_explore.query import validators
from usage_explore.validation.wording import duration

if TYPE_CHECKING:
    from usage_explore.validation import Result, Validation

MISSING = "—"
"""What stands where there is no value."""

LONGEST = 200
"""How many characters of a value from the data are written; JSON has all of them."""

LONG = 2_000
"""How many characters of a sentence are written."""

_SECOND = timedelta(seconds=1)
_LEAST_SHARE = Decimal("0.0001")


def text(value: object, longest: int = LONGEST) -> str:
    """Text from the data without what moves a cursor or turns the writing round, at most `longest` characters."""
    words = validators.printable(str(value)).replace("\n", "\\n")
    return words if len(words) <= longest else words[: longest - 1] + "…"


def share(part: Decimal) -> str:
    """A part of a whole: "3.20 %", "< 0.01 %" for what would round to nothing."""
    if part and abs(part) < _LEAST_SHARE:
        return "< 0.01 %"
    percent = part * 100
    return f"{percent:,.0f} %" if percent >= 100 or not percent else f"{percent:.2f} %"


def number(value: Number) -> str:
    """A number to the last digit, thousands separated; NaN and infinities, which some columns hold, by their names."""
    return exact(value) if isinstance(value, int) or value.is_finite() else str(value)


def total(values: Iterable[Decimal]) -> Decimal:
    """The exact sum; NaN of infinities that are against each other, as of NaN."""
    try:
        return Decimal(exact_sum(values, Decimal(0)))
    except InvalidOperation:
        return Decimal("NaN")


def seconds(span: timedelta) -> str:
    """How long something took: "3 ms", "1.24 s", "2 min 5 s"."""
    took = span.total_seconds()
    if took < 1:
        return f"{took * 1000:.0f} ms"
    return f"{took:.2f} s" if took < 60 else f"{int(took // 60)} min {int(took % 60)} s"


def moment(instant: datetime, zone: ZoneInfo) -> str:
    """A time on the zone's clock, with the offset in force: "2026-10-01 00:05:00 +02:00"."""
    local = instant.astimezone(zone)
    offset = f"{local:%z}"
    return f"{local.replace(tzinfo=None).isoformat(sep=' ')} {offset[:3]}:{offset[3:5]}"


def days(since: datetime, until: datetime, zone: ZoneInfo) -> str:
    """A half-open span, from and to."""
    return f"{moment(since, zone)} to {moment(until, zone)}"


def amounts(found: Iterable[tuple[str | None, Decimal]]) -> str:
    """Amounts by currency: "12.5 EUR, 3 USD"."""
    return ", ".join(
        f"{number(amount)} {text(currency) if currency else '(no currency)'}" for currency, amount in found
    )


def is_missing(value: Any) -> bool:
    """Whether a cell of a frame holds nothing: None, NaN or NaT."""
    return value is None or (not isinstance(value, Decimal | str) and is_scalar(value) and bool(pd.isna(value)))


def cell(value: object, zone: ZoneInfo) -> str:
    """A cell of a table that a check made."""
    if is_missing(value):
        return MISSING
    match value:
        case bool():
            return "yes" if value else "no"
        case int() | Decimal():
            return number(value)
        case float():
            return f"{value:,.6g}"
        case datetime():
            return moment(value, zone)
        case timedelta():
            return str(value)
        case date():
            return value.isoformat()
        case str():
            return text(value) if value else "(empty)"
        case _:
            return _scalar(value, zone)


def _scalar(value: Any, zone: ZoneInfo) -> str:
    """What numpy's and pandas's scalars hold, which is Python's own."""
    inside = value.item() if hasattr(value, "item") else str(value)
    return text(inside) if type(inside) is type(value) else cell(inside, zone)


def counted(number: int, thing: str) -> str:
    """So many of a thing: "1 finding", "2,000 findings"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def verdict(validation: Validation) -> str:
    """What was found, in a line: "12 findings: 3 high, 5 medium, 4 low; 1 check did not run to its end"."""
    if validation.findings:
        by_severity = ", ".join(f"{each:,} {severity}" for severity, each in validation.counts().items() if each)
        found = f"{counted(len(validation.findings), 'finding')}: {by_severity}"
    elif validation.totals.events:
        found = f"Nothing found by {counted(sum(result.is_clean for result in validation.results), 'check')}"
    else:
        found = "Nothing was examined: no event of the period is known"
    failed = len(validation.failed)
    return (
        f"{found}; {counted(failed, 'check')} did not run to {'its' if failed == 1 else 'their'} end"
        if failed
        else found
    )


def outcome(result: Result) -> str:
    """What came of a check: "clean", "3 findings", "skipped: invoices was not given", "FAILED: …"."""
    if result.outcome is None:
        return f"FAILED: {text(result.failed, LONG)}" if result.failed else f"skipped: {text(result.skipped, LONG)}"
    if result.outcome.findings:
        return counted(len(result.outcome.findings), "finding")
    return "clean" if result.outcome.looked_at else "nothing to examine"


def unexamined(validation: Validation, option: str = "as_of=") -> str:
    """That events of the period arrived too late to be examined, and from when on they will be; "" without any.

    `option` is how the reader writes the parameter, such as `--as-of `.
    """
    left = validation.unexamined
    as_of, zone = validation.period.as_of, validation.period.zone
    if left is None or as_of is None:
        return ""
    events = f"{counted(left.events, 'event')} of the period"
    are = "is" if left.events == 1 else "are"
    if left.settled_at is None:
        return f"{events} arrived after {moment(as_of, zone)} and {are} not examined."
    if left.latest > validation.now:
        return (
            f"{events} arrived after {moment(as_of, zone)} or {are} dated to arrive later, until"
            f" {moment(left.latest, zone)}, and {are} not examined; correct ingested_at where it lies in the future."
        )
    return (
        f"{events} arrived in the last {duration(left.settled_at - left.latest)} and {are} not examined; wait until"
        f" {moment(left.settled_at.replace(microsecond=0) + _SECOND, zone)} or pass {option}{rfc3339(left.latest)}."
    )


def agreement(agrees: bool | None) -> str:
    """Whether two counts of the same are the same, in a word or three."""
    return {True: "agrees", False: "DOES NOT AGREE", None: "not compared"}[agrees]


def shares_of_time(results: Iterable[Result]) -> dict[str, str]:
    """What part of the time each check took, by its name, in whole per cent."""
    spent = {result.check.name: result.took.total_seconds() for result in results}
    whole = sum(spent.values()) or 1
    return {name: f"{took / whole * 100:.0f} %" for name, took in spent.items()}


def costs(validation: Validation) -> str:
    """The period's cost by currency, "" without any."""
    return amounts(sorted(validation.totals.costs.items(), key=lambda item: item[0] or ""))
