"""Which sign-offs are of a period, and which of other periods may have events of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

from usage_explore import formatting
from usage_explore.errors import QueryError
from usage_explore.names import Names
from usage_explore.query.filters import ID_COLUMNS
from usage_explore.query.queries import Period
from usage_explore.records.signoffs import SLOT, Key, SignOff, period_words, signed_period
from usage_explore.validation.review import period_key
from usage_explore.validation.usage_sums import joined

_EXACT_COLUMNS = (*ID_COLUMNS, "metric_key", "price_key")
"""Columns whose filters have no event in common if their values have none."""


_MAX_NAMED = 3
"""Sign-offs of other periods that are named, of those that have most of a period."""

_NOT_FILTERS = {"since", "until", "window", "timezone", "as_of", "finalized_at", "organization_id"}


def latest_of_periods(signed: Iterable[SignOff]) -> list[SignOff]:
    """The last sign-off of each period, of sign-offs that are in order, newest first."""
    latest: dict[str, SignOff] = {}
    for one in signed:
        try:
            key = period_key(signed_period(one))
        except QueryError:
            key = one.params
        latest.setdefault(key, one)
    return list(latest.values())


def last_signoff(signed: Iterable[SignOff], period: Period) -> SignOff | None:
    """The last sign-off of a resolved period with its filters, of sign-offs that are in order, newest first."""
    return next(signoffs_of(signed, period), None)


def signoffs_of(signed: Iterable[SignOff], period: Period) -> Iterator[SignOff]:
    """The sign-offs of a resolved period with its filters, in order."""
    key = period_key(period)

    def is_of_it(one: SignOff) -> bool:
        try:
            return period_key(signed_period(one)) == key
        except QueryError:
            return False

    return filter(is_of_it, signed)


def overlapping(signoff: SignOff, signed: Iterable[SignOff]) -> tuple[SignOff, ...]:
    """The later sign-offs of other periods that may have events of this one, as far as this version can read them."""
    later = (other for other in signed if other.signed_at > signoff.signed_at)
    return _of_other_periods(signed_period(signoff), later)


def newer_overlap(period: Period, arrived: datetime, signed: Iterable[SignOff]) -> SignOff | None:
    """The latest sign-off of another period that may have events of a resolved one which arrived at a time.

    Signed without them, the period would have as late events what that sign-off has billed. None without one, and for a
    sign-off as of a time that was to come.
    """
    others = [one for one in _of_other_periods(period, signed) if arrived <= one.as_of <= one.signed_at]
    return max(others, key=lambda one: one.as_of, default=None)


def overlap_warning(period: Period, signed: Iterable[SignOff]) -> str:
    """What signing a resolved period does to the last sign-offs of other periods that may have events of it; or "".

    `signed` is in order, newest first.
    """
    standing = _of_other_periods(period, latest_of_periods(signed))
    if not standing:
        return ""
    names = [
        f"{str(one.id)[:8]} ({period_words(one)}, signed by {formatting.data_value(one.author)})" for one in standing
    ]
    one = len(names) == 1
    return (
        f"this period has events in common with {'sign-off' if one else 'the sign-offs'}"
        f" {joined(names)}: both include them, so invoice them once. Once this period is signed, what changes in them"
        f" then is among its corrections, what changed before among those of the earlier {'one' if one else 'ones'}."
    )


def signed_otherwise(period: Period, signed: Iterable[SignOff], named: Callable[[Period], Names]) -> str:
    """The newest sign-offs of other periods that have most of a resolved one, or the reverse; "" without any.

    Such as the month by another zone's days, of the whole organization for one customer, or of one customer for it.
    """

    def is_most(one: SignOff) -> bool:
        common = min(one.until, period.span[1]) - max(one.since, period.span[0])
        return 2 * common > min(one.until - one.since, period.span[1] - period.span[0])

    others = [one for one in _of_other_periods(period, latest_of_periods(signed)) if is_most(one)]
    words = []
    for one in others[:_MAX_NAMED]:
        what = named(signed_period(one)).in_text(period_words(one).removeprefix("Usage, "))
        signed_at = formatting.minute(one.signed_at.astimezone(period.zone))
        words.append(f"{what}, was signed off by {formatting.data_value(one.author)}, {signed_at}")
    if more := len(others) - len(words):
        words.append(f"and {more:,} more")
    return f"Not signed itself, but it has events of signed periods: {'; '.join(words)}." if words else ""


def common_note(period: Period, signed: Iterable[SignOff]) -> str:
    """A warning on the corrections until a resolved period was signed again, if other signed periods have events of it.

    "" if none has. These corrections are differences between the sums of two sign-offs, which do not separate the
    common events from the others.
    """
    names = [f"{str(one.id)[:8]} ({period_words(one)})" for one in _of_other_periods(period, latest_of_periods(signed))]
    if not names:
        return ""
    return (
        f"it has events in common with {joined(names)}: what changed in them may be among the corrections of both,"
        " so bill each event once"
    )


def _of_other_periods(period: Period, signed: Iterable[SignOff]) -> tuple[SignOff, ...]:
    """The sign-offs of other periods that may have events of a resolved one, as far as this version can read them."""
    result = []
    for other in signed:
        try:
            its = signed_period(other)
        except QueryError:
            continue
        is_other = period_key(its) != period_key(period)
        if is_other and its.span[0] < period.span[1] and period.span[0] < its.span[1]:
            both = ((filter_values(period, name), filter_values(its, name)) for name in _EXACT_COLUMNS)
            if not any(one and two and not one & two for one, two in both):
                result.append(other)
    return tuple(result)


def filter_values(period: Period, name: str) -> set[Any]:
    """The values to which a period is filtered by a column; none without a filter."""
    value = getattr(period, name)
    return set(value) if isinstance(value, tuple) else set() if value is None else {value}


def overlaps(period: Period, start: datetime) -> bool:
    """Whether a quarter of an hour has a part in a period."""
    return period.span[0] < start + SLOT and start < period.span[1]


def contains(period: Period, start: datetime) -> bool:
    """Whether a quarter of an hour is wholly in a period."""
    return period.span[0] <= start and start + SLOT <= period.span[1]


def covers(later: Period, period: Period) -> bool:
    """Whether a later period has all events of a period of its customer and metrics, which are columns of rows."""
    is_within = later.span[0] <= period.span[0] and period.span[1] <= later.span[1]
    return is_within and has_filters_of(later, period)


def has_filters_of(later: Period, period: Period) -> bool:
    """Whether a later period has no other filters than a period, but by customer and metric."""
    given = period.given()
    others = {
        name: value
        for name, value in later.given().items()
        if name not in _NOT_FILTERS and name not in ("customer_id", "metric_key")
    }
    return all(given.get(name) == value for name, value in others.items())


def has_key(later: Period, key: Key) -> bool:
    """Whether a customer and metric are of a period."""
    customers, metrics = filter_values(later, "customer_id"), later.metric_key
    return (not customers or UUID(key[0]) in customers) and (not metrics or key[1] in metrics)
