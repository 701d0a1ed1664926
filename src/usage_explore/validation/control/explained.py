"""Control totals whose whole difference single events make up: what arrived later, or repeats an idempotency key.

A total is explained if the usage without these events, or with them, is the total in each number that it gives. What
differs beside that is said without them, too, if the totals have been counted so: more of them are explained by the
events than have them already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple, cast

from usage_explore.decimals import total
from usage_explore.validation.check import EARLIER_SIGN_OFF, FINALIZED
from usage_explore.validation.control.compare import (
    Row,
    Status,
    Usage,
    duplicates_statement,
    finalized_statement,
    late_statement,
)
from usage_explore.validation.control.placed import Amounts
from usage_explore.validation.control.zones import ByDays

LATE, DUPLICATES = "late events", "duplicates"
SINCE_EARLIER = "since an earlier sign-off"

EXPLANATIONS: Mapping[str, str] = {
    FINALIZED: "; as many arrived after the period was finalized",
    EARLIER_SIGN_OFF: "; as many arrived after an earlier sign-off, and the last one includes them",
    SINCE_EARLIER: "; as many arrived after an earlier sign-off, a part of them after the last one, which lacks it",
    LATE: "; as many arrived later than this validation examines",
    DUPLICATES: "; as many repeat an idempotency key",
}
"""The words of a cause that makes up all of a difference."""

_BESIDE: Mapping[str, str] = {
    FINALIZED: "without what arrived after the period was finalized",
    EARLIER_SIGN_OFF: "without what arrived between an earlier sign-off and the last one",
    SINCE_EARLIER: "without what arrived after an earlier sign-off",
    LATE: "with what arrived later than this validation examines",
    DUPLICATES: "without what repeats an idempotency key",
}

_DIFFERING = ("missing", "surplus", "no control total")


class Explained(NamedTuple):
    """The rows that are explained, by their cause and with those that match, and all rows with what is left of these.

    `beside` has the words for the rows, by `id`, that differ further without the events of a cause.
    """

    by_cause: Mapping[str, list[Row]]
    left: list[Row]
    beside: Mapping[int, str]


def explained(rows: Iterable[Row], by_days: ByDays) -> Explained:
    """Which rows differ by exactly the events that arrived later or are copies; of several causes the last counts."""
    given = list(rows)
    found: dict[int, tuple[str, Row]] = {}
    usual, most, others_of_usual = "", 0, dict[int, Row]()
    for cause, usage, sign in _causes(by_days, {row.status for row in given}):
        others = {id(row): other for row in given if (other := _with(row, usage, sign)) is not None}
        exact = {key for key, other in others.items() if _is_matched(other)}
        already = {id(row) for row in given if id(row) in others and row.status == "matched"}
        found |= {key: (cause, others[key]) for key in exact - already}
        if (number := len(exact - already) - len(already - exact)) > most:
            usual, most, others_of_usual = cause, number, others
    left: list[Row] = []
    beside: dict[int, str] = {}
    for row in given:
        other = row
        if id(row) in found:
            _, other = found[id(row)]
        elif row.status != "matched" and id(row) in others_of_usual:
            other = others_of_usual[id(row)]
            beside[id(other)] = _BESIDE[usual]
        if other.control is not None or other.used.events:
            left.append(other)
    causes = dict.fromkeys(cause for cause, _ in found.values())
    by_cause = {
        cause: [row for row in given if row.status == "matched" or found.get(id(row), ("", row))[0] == cause]
        for cause in causes
    }
    return Explained(by_cause, left, beside)


def _causes(by_days: ByDays, statuses: Iterable[Status]) -> Iterator[tuple[str, Usage, int]]:
    """The causes with the usage of their events, and whether it is added to that of the rows (1) or taken away (-1)."""
    examination = by_days.examination
    if not {*statuses} & {*_DIFFERING}:
        return
    if examination.period.as_of is not None:
        yield LATE, by_days.summed(late_statement), 1
    for signoff in examination.earlier_signoffs:
        for until, cause in ((None, SINCE_EARLIER), (cast("Any", examination.signed_span)[1], EARLIER_SIGN_OFF)):
            yield cause, by_days.summed(partial(finalized_statement, after=signoff.as_of, until=until)), -1
    if examination.period.finalized_at is not None:
        yield FINALIZED, by_days.summed(finalized_statement), -1
    if "surplus" in statuses:
        yield DUPLICATES, by_days.summed(duplicates_statement), -1


def _with(row: Row, usage: Usage, sign: int) -> Row | None:
    """The row with events added to its usage, or taken away; None if it has none of them, or no finite ones."""
    events = usage.get((row.day, row.subject))
    if events is None or not (events.cost if row.measure == "cost" else events.events):
        return None
    quantity, cost = (
        None if more is None else total((of_row or Decimal(0), more if sign > 0 else more.copy_negate()))
        for of_row, more in ((row.used.quantity, events.quantity), (row.used.cost, events.cost))
    )
    used = Amounts(
        (row.used.events or 0) + sign * (events.events or 0), quantity, row.used.cost if cost is None else cost
    )
    other = replace(row, used=used)
    return None if other.status == "not comparable" else other


def _is_matched(row: Row) -> bool:
    """Whether nothing differs; of a day without a control total, whether there is no usage."""
    return row.status == "matched" or (row.control is None and not (row.used.events or row.used.quantity))
