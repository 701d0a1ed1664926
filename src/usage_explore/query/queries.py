"""The public queries: raw events (`EventQuery`), usage over time (`AggregateQuery`), the largest values of every
dimension (`LeaderboardQuery`), a billing period (`Period`).

A cursor is the position of the last row of a page of events, as URL-safe base64 of a version byte, the row's
`timestamp` in microseconds, its `id`, a fingerprint of organization and every filter (`as_of` included, `limit` not),
and a checksum. The checksum is not a secret: the organization always comes from the query and is checked, never from a
cursor.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Literal, Self, get_args
from uuid import UUID

from pydantic import BeforeValidator, Field

from usage_explore.errors import Fault, QueryError
from usage_explore.query import buckets, validators
from usage_explore.query.base import EventFilters, Windowed, optional_instant
from usage_explore.query.buckets import BUCKETS, Bucket
from usage_explore.query.filters import GROUPS, group
from usage_explore.query.limits import MAX_LEADERS, MAX_TOP
from usage_explore.query.url_params import InPython

SumMetric = Literal["count", "sum_quantity", "sum_cost"]
Metric = Literal[SumMetric, "unit_cost"]

METRICS: dict[str, str] = {
    "count": "events",
    "sum_quantity": "quantity",
    "sum_cost": "cost",
    "unit_cost": "unit cost",
}
"""The measures, and their names in `describe`."""

SUMS: dict[str, tuple[str, ...]] = {
    "count": (),
    "sum_quantity": ("quantity",),
    "sum_cost": ("cost",),
    "unit_cost": ("cost", "costed_quantity"),
}
"""The exact sums of which each measure is made, beside the number of events; by the first one series are ranked.

`cost` is that of `external_cost_amount`, 0 without an amount, `costed_quantity` that of the quantity of events with an
amount; `unit_cost` is the ratio of the two.
"""

RATIOS = ("unit_cost",)
"""Measures that are ratios of sums: those of several series do not add up."""

COST_METRICS = ("sum_cost", "unit_cost")
"""Measures in the currency of `external_cost_currency`, of which an answer has one."""

_CURSOR_VERSION = 1
_CURSOR_LAYOUT = struct.Struct(">Bq16s8s")
_CHECKSUM_BYTES = 4
_FINGERPRINT_BYTES = 8
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class EventQuery(EventFilters):
    """Raw events, newest first: ordered by `timestamp` and `id`, both descending.

    `EventQuery(metric_key="tokens_in", dimensions={"model": "large"}, limit=100)`. Raises `QueryError` with all
    faults together.
    """

    VIEW = ("timezone", "event")

    limit: Annotated[int, BeforeValidator(partial(validators.integer, low=1, high=100))] = Field(
        25, ge=1, le=100, description="Events on a page."
    )
    cursor: Annotated[
        str | None,
        BeforeValidator(validators.text),
        InPython("Start of the page: the `cursor` of the previous page."),
    ] = Field(None, description="Start of the page: the `pagination.cursor` of the previous answer.")
    occurred_after: Annotated[
        optional_instant,
        InPython(
            'Only events with `timestamp` at or after this: an aware datetime, or text such as "2026-09-01T00:00:00Z". '
            "These queries have no time zone, so a date alone is refused."
        ),
    ] = Field(
        None,
        description="Only events with `timestamp` at or after this RFC 3339 time.",
        examples=["2026-09-01T00:00:00Z"],
    )
    occurred_before: Annotated[optional_instant, InPython("Only events with `timestamp` before this: the same.")] = (
        Field(
            None,
            description="Only events with `timestamp` before this RFC 3339 time.",
            examples=["2026-10-01T00:00:00Z"],
        )
    )

    def _contradictions(self, given: set[str]) -> list[Fault]:
        faults = super()._contradictions(given)
        if self.occurred_after and self.occurred_before and self.occurred_after >= self.occurred_before:
            faults += [
                Fault(
                    "occurred_after",
                    "is not before occurred_before, so no event can match; swap or widen them",
                ),
                Fault(
                    "occurred_before",
                    "is not after occurred_after, so no event can match; swap or widen them",
                ),
            ]
        return faults


class AggregateQuery(Windowed, EventFilters):
    """Usage over time: a metric per bucket of `[since, until)` and group; the largest series, and the rest as Other.

    `AggregateQuery(bucket="day", metric="sum_quantity", group_by="dim:model", since="-30d")`. The window may be
    relative; `resolve(now)` makes it absolute. Raises `QueryError` with all faults together.
    """

    VIEW = ("chart", "series", "span", "rank", "tab")

    bucket: Annotated[Bucket, BeforeValidator(partial(validators.choice, allowed=BUCKETS))] = Field(
        "day", description="Bucket size; weeks are ISO weeks, starting on Monday, months those of the calendar."
    )
    metric: Annotated[Metric, BeforeValidator(partial(validators.choice, allowed=METRICS))] = Field(
        "count",
        description="The measure: the number of events; the exact sum of their quantity; that of their "
        "`external_cost_amount`, in one currency; or unit_cost, that sum divided by the quantity of the events that "
        "have a cost, rounded half-even to 12 significant digits, null where that quantity is 0.",
    )
    group_by: Annotated[str, BeforeValidator(partial(group, none=True))] = Field(
        "none",
        description=f"One series per value of this: none, {', '.join(GROUPS)} or dim:<key>.",
        examples=["dim:model"],
    )
    top: Annotated[int, BeforeValidator(partial(validators.integer, low=0, high=MAX_TOP))] = Field(
        8, ge=0, le=MAX_TOP, description="Largest series to keep; the rest folds into Other. 0 keeps all."
    )
    cumulative: Annotated[bool, BeforeValidator(validators.boolean)] = Field(
        False, description="Whether each point is the running total since the window's start; totals are the same."
    )
    compare: Annotated[
        str | None,
        BeforeValidator(validators.compared_period),
        InPython(
            'Another period to compare with: "previous", "year" (52 weeks earlier; for whole calendar months the same '
            "months of the year before), or a pair (since, until) of times or dates."
        ),
    ] = Field(
        None,
        description="Another period to compare with: `previous`, `year` (52 weeks earlier; for whole calendar months "
        "the same months of the year before), or `<since>/<until>` in RFC 3339.",
        examples=["previous", "year", "2026-08-01T00:00:00Z/2026-09-01T00:00:00Z"],
    )
    complete_until: optional_instant = Field(
        None,
        description="With `as_of`: the time, at or after it, until which buckets are complete and periods compared; by "
        "default `as_of`. A pinned link has it where the last event arrived before the window's end.",
        examples=["2026-10-01T00:10:00Z"],
    )

    def replace(self, **changes: object) -> Self:
        """As `Query.replace`; another `as_of` also resets `complete_until`."""
        if "as_of" in changes:
            changes = {"complete_until": None, **changes}
        return super().replace(**changes)

    def pin(self, now: datetime, settle: timedelta, known: datetime | None = None) -> Self:
        """As `Query.pin`, with `complete_until` where more of the window was over than `as_of` says.

        That is so where the last event had arrived before the window's end or, of a window that is not over, more than
        twice the settle time before `now`.
        """
        pinned = super().pin(now, settle, known)
        if self.as_of is not None:
            return pinned.replace(complete_until=self.complete_until) if pinned.as_of == self.as_of else pinned
        settled, until = now - settle, pinned.span[1]
        last = until if until <= settled else settled - settle
        is_earlier = pinned.as_of is not None and pinned.as_of < last
        return pinned.replace(complete_until=min(until, now)) if is_earlier else pinned

    def is_open(self, now: datetime) -> bool:
        """As `Query.is_open`: until `complete_until`, more and more is complete and compared."""
        return super().is_open(now) or (self.complete_until is not None and self.complete_until > now)

    def closed_until(self, now: datetime) -> datetime:
        """The time until which buckets can be complete: the database's `now`, or as `complete_until` says."""
        return min(now, self.complete_until or self.as_of or now)

    def _contradictions(self, given: set[str]) -> list[Fault]:
        faults = super()._contradictions(given)
        if self.complete_until and (self.as_of is None or self.complete_until < self.as_of):
            words = "needs as_of" if self.as_of is None else "is before as_of"
            faults.append(Fault("complete_until", f"{words}; give both, as a pinned link does, or leave it out"))
        return faults

    def edges(self) -> tuple[datetime, ...]:
        """The bucket edges of a resolved query, at most 2,401, counted back from `until`."""
        return buckets.edges(*self.span, self.bucket, self.zone)

    def _grouping(self) -> tuple[str, int]:
        return self.group_by, 0 if self.group_by == "none" else max(self.top, 1)


class LeaderboardQuery(Windowed, EventFilters):
    """The largest values of every column and dimension in `[since, until)`: `LeaderboardQuery(window="last_month")`.

    The window may be relative; it has no buckets, so it is never shortened. Raises `QueryError` with all faults
    together.
    """

    metric: Annotated[SumMetric, BeforeValidator(partial(validators.choice, allowed=get_args(SumMetric)))] = Field(
        "count",
        description="The measure: the number of events, or the exact sum of their quantity, or of their "
        "`external_cost_amount`, in one currency.",
    )
    top: Annotated[int, BeforeValidator(partial(validators.integer, low=1, high=MAX_LEADERS))] = Field(
        5, ge=1, le=MAX_LEADERS, description="Largest values to keep of each column and dimension; the rest is Other."
    )


class Period(Windowed):
    """A billing period to validate: its window, the time when its invoice was finalized, and filters.

    `Period(window="last_month", timezone="Europe/Berlin", finalized_at="2026-10-02T09:00:00Z")`. Raises `QueryError`
    with all faults together.
    """

    VIEW = ("severity", "check", "about_customer", "about_metric", "state", "finding")

    finalized_at: optional_instant = Field(
        None,
        description="When the invoice was finalized: events that arrived later are not on it.",
        examples=["2026-10-02T09:00:00Z"],
    )

    def pin(self, now: datetime, settle: timedelta, known: datetime | None = None) -> Self:
        """As `Query.pin`, but `known` counts only if it is at or after the period's end.

        Before, the period may not be over, and only the clock (`now` minus `settle`) tells. An `as_of` that has settled
        is kept.
        """
        resolved = self.resolve(now)
        over = self.as_of is None and known is not None and known >= resolved.span[1]
        return super(Period, resolved).pin(now, settle, known if over else None)

    def _contradictions(self, given: set[str]) -> list[Fault]:
        faults = super()._contradictions(given)
        if self.finalized_at and isinstance(self.since, datetime) and self.finalized_at <= self.since:
            faults.append(Fault("finalized_at", "is not after since: nothing of the period had been used by then"))
        return faults


@dataclass(frozen=True, slots=True)
class Position:
    """A row's position in the order of pages, by `timestamp` and `id`."""

    timestamp: datetime
    id: UUID


def encode_cursor(position: Position, query: EventQuery) -> str:
    """The cursor for the rows after `position` under `query`, which must name its organization."""
    micros = (position.timestamp - _EPOCH) // _MICROSECOND
    body = _CURSOR_LAYOUT.pack(_CURSOR_VERSION, micros, position.id.bytes, _fingerprint(query))
    return base64.urlsafe_b64encode(body + _digest(body, _CHECKSUM_BYTES)).rstrip(b"=").decode()


def decode_cursor(cursor: str, query: EventQuery) -> Position:
    """The position in a cursor.

    Raises `QueryError` if it is damaged, or belongs to another organization or other filters.
    """
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        body, checksum = raw[:-_CHECKSUM_BYTES], raw[-_CHECKSUM_BYTES:]
        version, micros, row, fingerprint = _CURSOR_LAYOUT.unpack(body)
        position = Position(_EPOCH + micros * _MICROSECOND, UUID(bytes=row))
        canonical = base64.urlsafe_b64encode(raw).rstrip(b"=").decode() == cursor
    except (binascii.Error, struct.error, ValueError, OverflowError):
        raise _cursor_fault("is damaged; start again without it") from None
    if checksum != _digest(body, _CHECKSUM_BYTES) or version != _CURSOR_VERSION or not canonical:
        raise _cursor_fault("is damaged; start again without it")
    if fingerprint != _fingerprint(query):
        raise _cursor_fault("belongs to other filters; repeat the filters it was made with, or start again without it")
    return position


def _fingerprint(query: EventQuery) -> bytes:
    filters = query.replace(limit=None, cursor=None)
    return _digest(repr(filters.to_params()).encode(), _FINGERPRINT_BYTES)


def _digest(data: bytes, size: int) -> bytes:
    return hashlib.blake2b(data, digest_size=size).digest()


def _cursor_fault(message: str) -> QueryError:
    return QueryError([Fault("cursor", message)])
