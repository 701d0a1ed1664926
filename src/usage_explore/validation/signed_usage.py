"""The usage under a sign-off: what was signed, and what changed since.

Signed are the events, quantity and cost of each customer, metric, wallet and currency of costs, as of the sign-off,
and the sum of the 64-bit hashes of its events, which does not depend on their order. Later the same period is added up
again: events that were ingested after the signed `as_of` arrived late; what else differs from the signed numbers was
changed, removed, or written with an earlier `ingested_at`. Equal sums with another hash are of events that were edited
or exchanged. Hashes by day tell what a retention policy removed from other changes, and name the days of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Connection, Select, Table, and_, case, func, select

from usage_explore import formatting
from usage_explore.decimals import decimal_context, difference, rfc3339, total
from usage_explore.formatting import data_value, exact
from usage_explore.names import NO_NAMES, Names
from usage_explore.query.queries import Period
from usage_explore.records.signoffs import Key, SignOff, UsageLine, signed_period
from usage_explore.results import frames
from usage_explore.sql.filters import conditions
from usage_explore.validation.corrections import Correction, TakenOver, corrections, decimal_text, money_words
from usage_explore.validation.event_hashes import changed_times, days, event_hash, hash_probe, slots
from usage_explore.validation.periods import currency_codes
from usage_explore.validation.signed_removals import IN_DOUBT, REMOVED, WORDS, Lines, Removals, by_cause, removals
from usage_explore.validation.usage_sums import joined

if TYPE_CHECKING:
    import pandas as pd

    from usage_explore.validation.result import Validation


Reason = Literal[
    "arrived late",
    "arrived before a later sign-off",
    "changed or removed",
    "edited",
    "removed by retention",
    "removed by retention or deleted",
    "removed by retention or otherwise",
    "removed by retention or in a later sign-off",
    "until signed again",
    "expected amount",
]

REASONS: tuple[Reason, ...] = get_args(Reason)
"""Why the usage differs from the signed one: events ingested after the signed `as_of`; such that a later sign-off of
another period had signed already; other events, or other numbers; other events with the same sums; older events removed
by a retention policy, or by that or a deletion; such or newer ones, of which a later sign-off may have some; all that a
next sign-off includes; last, what the price book makes of it.
"""

SIGNED_TWICE: Reason = "arrived before a later sign-off"
LATE: set[Reason] = {"arrived late", SIGNED_TWICE}
"""Reasons of events that arrived after the signed `as_of`."""

_NOTHING = UsageLine(("", "", None, None), 0, Decimal(0), Decimal(0))

_MAX_LISTED_METRICS = 3
"""Metrics whose changed quantity the sentence names; of more it says the number."""

_WORDS: dict[Reason, str] = {
    "arrived late": "{}, arrived late",
    SIGNED_TWICE: "{}, arrived late, and in what was signed with a later sign-off: bill it once",
    "changed or removed": "{}, changed or removed after the sign-off",
    "edited": "events edited or exchanged with the same sums in {}",
    **WORDS,
    "until signed again": "{}, included when it was signed again",
    "expected amount": "expected amounts {}",
}


@dataclass(frozen=True, slots=True)
class Change:
    """What changed for one reason in the usage of a key: the numbers now minus those that were signed.

    An "expected amount" has only an `amount`, in the key's currency; the other reasons have none. "edited" changes no
    number. `digest` is by how much the sum of the hashes of events known when it was signed changed, `note` why usage
    has no amount.
    """

    key: Key
    reason: Reason
    events: int = 0
    quantity: Decimal = Decimal(0)
    cost: Decimal = Decimal(0)
    amount: Decimal | None = None
    digest: int = 0
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What changed in a signed period, by customer, metric, wallet and currency; `now` is the time of this count.

    It is true if anything but a retention policy changed the usage. `days` are the days of the period on which events
    were changed, edited or removed, where hashes by day were signed. Of a period that begins before `removed_before`,
    older events are gone: by a policy, and then amounts are not compared, or perhaps by a deletion; `removals` are the
    numbers of events that are gone before and after it, None if the sign-off has none by time.
    Expected amounts are compared if they were signed; `amounts_note` says why they were not, `content_note` why equal
    sums may hide other events. What the period has in common with later sign-offs of other periods is counted there:
    `taken_over` has these corrections, `overlap_note` names the sign-offs, and `uncompared` is the number of changes
    that may be theirs. None of these are among the rows. `unpriced_events` are the events without a price, now minus
    when signed: their amount is unknown. `slots` are the quarters of an hour with events that were changed, edited or
    removed, with the change of their digest, None if unknown; `shared` are the late events that later sign-offs count,
    each with the position of the sign-off. `has_other_prices`: the amounts were compared by other prices than were
    signed. `wallets` are the preferred currencies by customer, of None the organization's, `rated` the keys of amounts
    all of whose usage has a price. `rows` have each reason apart, and amounts of their own; `lines` are what billing
    needs.
    """

    signoff: SignOff
    now: datetime
    rows: tuple[Change, ...]
    days: tuple[date, ...] = ()
    slots: Mapping[datetime, int] | None = None
    shared: tuple[tuple[int, Change], ...] = ()
    has_other_prices: bool = False
    removed_before: datetime | None = None
    removals: Removals | None = None
    amounts_note: str = ""
    content_note: str = ""
    unpriced_events: int = 0
    overlap_note: str = ""
    taken_over: tuple[TakenOver, ...] = ()
    uncompared: int = 0
    wallets: Mapping[UUID | None, str] = field(default_factory=dict, repr=False)
    rated: frozenset[Key] = field(default=frozenset(), repr=False)
    names: Names = field(default=NO_NAMES, compare=False, repr=False)

    def __bool__(self) -> bool:
        is_counted = any(row.reason not in REMOVED for row in self.rows)
        return is_counted or bool(self.days or self.uncompared)

    @cached_property
    def lines(self) -> tuple[Correction, ...]:
        """The rows for billing: usage and expected amount of a customer's metric in one."""
        return corrections(self.rows, self.wallets, self.rated)

    @property
    def corrections(self) -> tuple[Correction, ...]:
        """The lines that billing adds or takes off."""
        return tuple(line for line in self.lines if line.correction in ("supplement", "credit"))

    @property
    def to_check(self) -> tuple[Correction, ...]:
        """The lines of which may be some to bill, and billing has to find out how much."""
        return tuple(line for line in self.lines if line.correction == "check")

    @property
    def is_late(self) -> bool:
        """Whether all usage that changed are events that arrived after the signed `as_of`."""
        reasons = {row.reason for row in self.rows} - {"expected amount"}
        return bool(reasons) and reasons <= LATE

    def events(self, reason: Reason) -> int:
        """The events more, or with a minus fewer, for a reason."""
        return sum(row.events for row in self.rows if row.reason == reason)

    def money(self, reason: Reason) -> dict[str | None, Decimal]:
        """The net cost or expected amount, with a minus less, for a reason, exact, by currency; without zeros."""
        sums: dict[str | None, list[Decimal]] = {}
        for row in self.rows:
            if row.reason == reason:
                sums.setdefault(row.key[3], []).append(row.cost if row.amount is None else row.amount)
        added = {currency: total(sums[currency]) for currency in sorted(sums, key=lambda code: code or "")}
        return {currency: cost for currency, cost in added.items() if cost}

    @cached_property
    def sentence(self) -> str:
        """`own_parts`, then the corrections in later sign-offs; `nothing changed since` without any change."""
        taken = [one.sentence for one in self.taken_over]
        own = "; ".join(self.own_parts) or ("nothing to bill here" if taken else "nothing changed since")
        return "; ".join([own, *taken])

    @cached_property
    def own_parts(self) -> tuple[str, ...]:
        """`+3 events, external cost +0.42 USD, arrived late`; what was changed, edited or removed is said apart.

        The changed days follow. None without any change. What is added and what is taken off are said apart.
        """
        parts: list[str] = []
        removed: list[str] = []
        is_mixed = (
            self.removals and self.removals.is_changed_after and not self.events("removed by retention or deleted")
        )
        for reason in REASONS:
            rows = [row for row in self.rows if row.reason == reason]
            if not rows:
                continue
            if self.removals and is_mixed and reason in IN_DOUBT:
                if not removed:
                    removed.append(self.removals.words(reason, self._boundary(), len(rows)))
                continue
            numbers = money_words((row.key[3], row.cost if row.amount is None else row.amount) for row in rows)
            if reason != "expected amount":
                numbers[:1] = [f"external cost {first}" for first in numbers[:1]]
                numbers = [*self._usage_words(reason), *numbers]
            text = ", ".join(numbers) or ("events" if reason in WORDS else "moved between customers or metrics")
            if reason == "edited":
                text = f"{formatting.counted(len(rows), 'total')} by customer and metric"
            parts.append(_WORDS[reason].format(text, self._boundary()))
        parts += removed
        if self.removals and any(row.reason in IN_DOUBT | WORDS.keys() for row in self.rows):
            parts += filter(None, [self.removals.boundary_words()])
        if self.unpriced_events:
            parts.append(f"{formatting.signed_events(self.unpriced_events)} without a price, with an unknown amount")
        if self.uncompared:
            parts.append(f"{formatting.counted(self.uncompared, 'other change')} that may be a later sign-off's")
        if self.days:
            days = [formatting.date(datetime.combine(day, datetime.min.time())) for day in self.days]
            parts.append(f"changed on {joined(days)}")
        return tuple(parts)

    def _boundary(self) -> str:
        if self.removed_before is None:
            return ""
        return formatting.zoned(self.removed_before, ZoneInfo(self.signoff.timezone))

    def _usage_words(self, reason: Reason) -> list[str]:
        """The events, and the quantity of each metric that changed although the number of its events did not."""
        number = self.events(reason)
        by_metric: dict[str, list[Decimal]] = {}
        for row in self.rows:
            if row.reason == reason and not row.events:
                by_metric.setdefault(row.key[1], []).append(row.quantity)
        sums = {metric: total(by_metric[metric]) for metric in sorted(by_metric)}
        words = [
            f"quantity of {formatting.data_value(metric)} {_quantity(quantity)}"
            for metric, quantity in sums.items()
            if quantity
        ]
        if len(words) > _MAX_LISTED_METRICS:
            words = [f"quantities of {formatting.counted(len(words), 'metric')}"]
        return [formatting.signed_events(number), *words] if number else words

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row per customer, metric, wallet and currency: what billing adds or takes off, see `corrections`.

        Usage and the expected amount that changed with it are one row; without one, each reason has a row. Where only
        the amount changed, the reason is "expected amount", and there is no quantity and no cost.

        Columns: `correction` ("supplement", "credit"; "check" where it is unknown how much is to be billed, "none"
        where nothing is), `reason` (several with "and" between them), `customer_id`, `customer_name` (missing if it
        has none), `metric_key`, `wallet_currency` (str), `events` (int64), `quantity`, `cost` (`Decimal` or None),
        `cost_currency` (str), `amount` (`Decimal` or None), `amount_currency` (str), `period_since`, `period_until`,
        `signed_as_of` (datetime64[us, zone]), `sign_off` (str, its id).
        """
        import pandas as pd

        def texts(values: Iterable[str | None]) -> pd.Series[Any]:
            return pd.Series(list(values), dtype="str")

        def times(instant: datetime) -> pd.Series[Any]:
            values = pd.Series([instant] * len(self.lines), dtype="datetime64[us, UTC]")
            return values.dt.tz_convert(ZoneInfo(self.signoff.timezone))

        lines = self.lines
        columns: dict[str, Any] = {
            "correction": texts(line.correction for line in lines),
            "reason": texts(line.reason for line in lines),
            "customer_id": texts(line.customer_id for line in lines),
            "customer_name": texts(self.names.name("customer", line.customer_id) for line in lines),
            "metric_key": texts(line.metric_key for line in lines),
            "wallet_currency": texts(line.wallet_currency for line in lines),
            "events": pd.Series([line.events for line in lines], dtype="int64"),
            "quantity": pd.Series([line.quantity for line in lines], dtype="object"),
            "cost": pd.Series([line.cost for line in lines], dtype="object"),
            "cost_currency": texts(line.cost_currency for line in lines),
            "amount": pd.Series([line.amount for line in lines], dtype="object"),
            "amount_currency": texts(line.amount_currency for line in lines),
            "period_since": times(self.signoff.since),
            "period_until": times(self.signoff.until),
            "signed_as_of": times(self.signoff.as_of),
            "sign_off": texts(str(self.signoff.id) for _ in lines),
        }
        return pd.DataFrame(columns)

    def to_csv(self, *, escape_formulas: bool = False) -> bytes:
        """`frame` as CSV, to hand to billing: decimals plain, times RFC 3339 in UTC, text quoted."""
        return changes_csv(self.frame, escape_formulas=escape_formulas)

    def to_dict(self) -> dict[str, Any]:
        """The changes as JSON carries them: decimals and times as text."""
        return {
            "sign_off": self.signoff.to_dict(),
            "counted_at": rfc3339(self.now),
            "changes": self.sentence,
            "changed_days": [day.isoformat() for day in self.days],
            "removed_before": None if self.removed_before is None else rfc3339(self.removed_before),
            "amounts_not_compared": self.amounts_note or None,
            "content_not_compared": self.content_note or None,
            "unpriced_events": self.unpriced_events,
            "overlap": self.overlap_note or None,
            "in_later_sign_offs": [one.to_dict(self.names) for one in self.taken_over],
            "rows": [line.to_dict(self.names) for line in self.lines],
        }


def changes_csv(frame: pd.DataFrame, *, escape_formulas: bool = False) -> bytes:
    """`Changes.frame`, or several of them, as CSV."""
    import pandas as pd

    columns: dict[str, Any] = {}
    for name in frame.columns:
        values = frame[name]
        if name in ("quantity", "cost", "amount"):
            columns[name] = pd.Series([decimal_text(value) for value in values], dtype="str")
        elif name in ("period_since", "period_until", "signed_as_of"):
            columns[name] = [rfc3339(moment.to_pydatetime()) for moment in values]
        else:
            columns[name] = values
    return frames.csv_bytes(columns, escape_formulas)


_KNOWN, _LATE, _SIGNED_LATER = -1, -2, -3
"""Places of events that no later sign-off counts: known as of the sign-off, later, and signed with a later one."""


def statement(table: Table, period: Period, as_of: datetime, later: Sequence[Period] = ()) -> Select[Any]:
    """The usage of a resolved period without `as_of`, by key and by when it was ingested.

    Columns: `customer_id`, `metric_key`, `wallet_currency`, `currency`, `place`, `events`, `quantity`, `cost`, and
    `digest`, the sum of the hashes of the events. Events ingested after the time have as `place` the first period of
    `later` that has them and after whose `as_of` they were ingested, by its index.
    """
    c = table.c
    keys = (c.customer_id, c.metric_key, c.wallet_currency, currency_codes(c.external_cost_currency).label("currency"))
    inside = [and_(*conditions(table, other.replace(as_of=None))) for other in later]
    whens: list[tuple[ColumnElement[bool], int]] = [(c.ingested_at <= as_of, _KNOWN)]
    whens += [
        (and_(has, c.ingested_at > other.as_of), index)
        for index, (has, other) in enumerate(zip(inside, later, strict=True))
    ]
    place = case(*whens, *((has, _SIGNED_LATER) for has in inside), else_=_LATE).label("place")
    return (
        select(
            *keys,
            place,
            func.count().label("events"),
            func.coalesce(func.sum(c.quantity), 0).label("quantity"),
            func.coalesce(func.sum(c.external_cost_amount), 0).label("cost"),
            func.sum(event_hash(table)).label("digest"),
        )
        .where(*conditions(table, period.replace(as_of=None)))
        .group_by(*keys, place)
    )


def usage(connection: Connection, table: Table, period: Period, as_of: datetime) -> tuple[UsageLine, ...]:
    """The usage of a resolved period as of a time, by key."""
    lines = [_line(row) for row in connection.execute(statement(table, period, as_of)) if row.place == _KNOWN]
    return tuple(sorted(lines, key=_order))


def first_late(connection: Connection, table: Table, period: Period, as_of: datetime) -> datetime | None:
    """When the first event of a resolved period arrived that was not known at a time; None without one."""
    late = [*conditions(table, period.replace(as_of=None)), table.c.ingested_at > as_of]
    return connection.execute(select(func.min(table.c.ingested_at)).where(*late)).scalar()


@decimal_context()
def changes(
    connection: Connection,
    table: Table,
    signoff: SignOff,
    now: datetime,
    exists_since: datetime | None = None,
    later: Sequence[Period] = (),
    policy: datetime | None = None,
) -> Changes:
    """What changed in a signed period since; `exists_since` is the time before which events were removed.

    `policy` is the time before which a retention policy did so, None without one. Late events that are in a later
    signed period and were ingested after its `as_of` are counted there, and `shared` here.
    """
    period = signed_period(signoff)
    signed = {line.key: line for line in signoff.usage}
    has_hashes = signoff.hash_probe is not None and signoff.hash_probe == hash_probe(connection)
    known = {key: replace(_NOTHING, key=key) for key in signed}
    rows: list[Change] = []
    shared: list[tuple[int, Change]] = []
    for row in connection.execute(statement(table, period, signoff.as_of, later)):
        if row.place == _KNOWN:
            known[_key(row)] = _line(row)
            continue
        change = Change(_key(row), "arrived late", row.events, row.quantity, row.cost)
        if row.place >= 0:
            shared.append((row.place, change))
        else:
            rows.append(replace(change, reason=SIGNED_TWICE) if row.place == _SIGNED_LATER else change)
    for key, line in known.items():
        rows += changed(signed.get(key, _NOTHING), line, has_hashes)
    changed_days: tuple[date, ...] = ()
    changed_slots: dict[datetime, int] | None = None
    found_removals: Removals | None = None
    has_times = bool(signoff.days or signoff.slots)
    if (has_hashes or (exists_since and has_times)) and any(row.reason not in LATE for row in rows):
        now_by_slot = slots(connection, table, period, signoff.as_of)
        if has_hashes:
            changed_days, changed_slots = changed_times(signoff, now_by_slot, period, exists_since, policy)
        if exists_since is not None:
            by_time: tuple[Lines, Lines] = (
                (signoff.slots, now_by_slot) if signoff.slots else (signoff.days, days(now_by_slot, period.zone))
            )
            found_removals = removals(*by_time, exists_since, period, has_hashes, policy)
    if exists_since is not None:
        rows = by_cause(rows, found_removals, policy)
    content_note = ""
    if not has_hashes:
        content_note = (
            "the sign-off has no hashes of its events"
            if signoff.hash_probe is None
            else "the database hashes otherwise than when the period was signed"
        )
        if exists_since is not None and exists_since < period.span[1] and not has_times:
            content_note += (
                f", so events removed after {formatting.zoned(exists_since, period.zone)} cannot be distinguished"
                " from those that retention removed"
            )
    amounts_note = ""
    if exists_since is not None and policy is not None and signoff.amounts:
        amounts_note = f"events before {formatting.zoned(exists_since, period.zone)} were removed"
    return Changes(
        signoff=signoff,
        now=now,
        rows=tuple(sorted(rows, key=lambda row: (_order(row), row.reason))),
        days=changed_days,
        slots=changed_slots,
        shared=tuple(sorted(shared, key=lambda item: (item[0], _order(item[1])))),
        removed_before=exists_since,
        removals=found_removals,
        amounts_note=amounts_note,
        content_note=content_note,
    )


def changed(before: UsageLine, after: UsageLine, has_hashes: bool) -> Sequence[Change]:
    """The change where the usage as of the sign-off is no longer the one that was signed."""
    same: Callable[[Decimal, Decimal], bool] = lambda one, other: (  # noqa: E731
        one == other if one.is_finite() and other.is_finite() else str(one) == str(other)
    )
    digest = (after.digest or 0) - (before.digest or 0)
    if before.events == after.events and same(before.quantity, after.quantity) and same(before.cost, after.cost):
        is_edited = has_hashes and digest != 0
        return (Change(after.key, "edited", digest=digest),) if is_edited else ()
    quantity = Decimal(difference(after.quantity, before.quantity))
    cost = Decimal(difference(after.cost, before.cost))
    return (Change(after.key, "changed or removed", after.events - before.events, quantity, cost, digest=digest),)


def _line(row: Any) -> UsageLine:
    return UsageLine(_key(row), row.events, row.quantity, row.cost, int(row.digest))


def _key(row: Any) -> Key:
    return str(row.customer_id), row.metric_key, row.wallet_currency, row.currency


def _order(line: UsageLine | Change) -> tuple[str, ...]:
    return key_order(line.key)


def key_order(key: Key) -> tuple[str, ...]:
    """The order of rows: by customer, metric, wallet and currency."""
    return tuple(part or "" for part in key)


def _quantity(number: Decimal) -> str:
    return formatting.signed(number) if number.is_finite() else str(number)


def differing(usage: Iterable[UsageLine], validation: Validation) -> str:
    """What the table counts now, as of the same time, and the validation did not; blank if both are equal."""
    now: dict[str, tuple[int, Decimal]] = {}
    for line in usage:
        metric = line.key[1]
        events, quantity = now.get(metric, (0, Decimal(0)))
        now[metric] = events + line.events, total((quantity, line.quantity))
    then, none = validation.totals.metrics, (0, Decimal(0))
    for metric in sorted({*now, *then}):
        (before, old), (events, quantity) = then.get(metric, none), now.get(metric, none)
        is_same = old == quantity or (old.is_nan() and quantity.is_nan())
        if before != events or not is_same:
            ours, theirs = (
                f"{exact(before)} events, quantity {exact(old)}",
                f"{exact(events)} and {exact(quantity)}",
            )
            return f"of {data_value(metric)} it has {ours}, the table now {theirs} as of the same time"
    return ""
