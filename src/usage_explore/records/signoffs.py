"""Sign-offs: who signed which period, as of when, on which report, and the usage that was signed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from sqlalchemy import Row, insert, select

from usage_explore.decimals import plain, rfc3339, total
from usage_explore.errors import Fault, QueryError, RecordError
from usage_explore.formatting import span_in
from usage_explore.query.describe import describe
from usage_explore.query.queries import Period
from usage_explore.records import texts
from usage_explore.records.identities import RecordedFinding, findings_json, findings_of
from usage_explore.records.places import PlaceName, Places, records

MAX_SIGNED_LINES = 200_000
"""Customers × metrics × wallets × currencies of a period that can be signed."""

MAX_SIGNOFFS = 10_000
"""Sign-offs of an organization, in each place."""

_AS_JSON = ("usage", "days", "slots", "hash_probe", "open", "amounts", "basis", "versions")
"""The arguments of `sign` that are kept as JSON."""

SLOT = timedelta(minutes=15)
"""The edges of all days of all time zones today are edges of slots."""

_SLOT_SECONDS = SLOT // timedelta(seconds=1)
_ONE_MICROSECOND = timedelta(microseconds=1)

Key = tuple[str, str, str | None, str | None]
"""Customer, metric, wallet currency, and currency of the cost."""


@dataclass(frozen=True, slots=True)
class UsageLine:
    """The usage of a key: events, the exact sums of their quantity and cost, and the sum of the events' hashes.

    `digest` is None in sign-offs of versions that kept none.
    """

    key: Key
    events: int
    quantity: Decimal
    cost: Decimal
    digest: int | None = None


@dataclass(frozen=True, slots=True)
class DayLine:
    """The events of a day of the period's time zone, and the sum of their hashes."""

    day: date
    events: int
    digest: int


@dataclass(frozen=True, slots=True)
class SlotLine:
    """The events of a quarter of an hour, which begins at `start`, and the sum of their hashes."""

    start: datetime
    events: int
    digest: int


@dataclass(frozen=True, slots=True)
class AmountLine:
    """The expected amount of a key, whose currency is that of the amount."""

    key: Key
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class AmountBasis:
    """What signed amounts were computed by.

    `prices` names the price book and `prices_hash` is the hash of its prices. `wallets` are the preferred currencies by
    customer, of None the organization's default. `unpriced_events` had no price, and so no amount; they were of the
    customers' metrics in `unpriced`, None in sign-offs of versions that did not keep them.
    """

    prices: str
    prices_hash: str
    wallets: Mapping[UUID | None, str]
    unpriced_events: int
    unpriced: frozenset[tuple[str, str]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignOff:
    """A signature under a period.

    `params` is the period's query string with its `as_of`, without the organization. `usage` is what was signed, by
    customer, metric, wallet and currency of costs; `amounts` are the expected amounts by customer, metric, wallet and
    currency, empty without a price book; `basis` is what they were computed by, None for a sign-off without amounts or
    by a version that did not keep it. `days` are the events and hashes of each day, `slots`
    those of each quarter of an hour, empty in sign-offs of versions that kept none; `hash_probe` is the database's
    hash of a constant, by which a server that hashes otherwise is recognized, None in sign-offs without hashes.
    `open` are the findings of high severity that were neither acknowledged nor muted, also those of the last run with
    files that the signed one lacks. `report_hash` and `run_id` name the report and its run.
    """

    id: UUID
    organization_id: UUID
    signed_at: datetime
    author: str
    note: str
    run_id: UUID
    since: datetime
    until: datetime
    timezone: str
    params: str
    as_of: datetime
    events: int
    report_hash: str
    versions: Mapping[str, str]
    open: tuple[RecordedFinding, ...]
    usage: tuple[UsageLine, ...] = field(repr=False)
    amounts: tuple[AmountLine, ...] = field(default=(), repr=False)
    days: tuple[DayLine, ...] = field(default=(), repr=False)
    slots: tuple[SlotLine, ...] = field(default=(), repr=False)
    hash_probe: int | None = None
    basis: AmountBasis | None = field(default=None, repr=False)
    place: PlaceName = "file"

    @property
    def amount_totals(self) -> dict[str, Decimal]:
        """The expected amounts by currency."""
        by_currency: dict[str, list[Decimal]] = {}
        for line in self.amounts:
            by_currency.setdefault(line.key[3] or "", []).append(line.amount)
        return {currency: total(by_currency[currency]) for currency in sorted(by_currency)}

    @property
    def unpriced_events(self) -> int | None:
        """The events without a price, which have no expected amount; None where it is not known of how many."""
        return None if self.basis is None else self.basis.unpriced_events

    def to_dict(self) -> dict[str, Any]:
        """The sign-off as JSON carries it, without its usage."""
        return {
            "id": str(self.id),
            "signed_at": rfc3339(self.signed_at),
            "by": self.author,
            "note": self.note or None,
            "since": rfc3339(self.since),
            "until": rfc3339(self.until),
            "timezone": self.timezone,
            "as_of": rfc3339(self.as_of),
            "events": self.events,
            "expected_amounts": {currency: plain(amount) for currency, amount in self.amount_totals.items()},
            "unpriced_events": self.unpriced_events,
            "report_hash": self.report_hash,
            "run_id": str(self.run_id),
            "versions": dict(self.versions),
            "open_high_findings": [finding.to_dict() for finding in self.open],
        }


def sign(
    places: Places,
    organization_id: UUID,
    now: datetime,
    *,
    author: str,
    note: str,
    check: Callable[[Sequence[SignOff]], None],
    **signed: Any,
) -> SignOff:
    """Keep a sign-off. Raises `QueryError` for a note that is too long and a usage of too many lines, `RecordError`.

    `check` is called with the sign-offs so far, newest first, without usage and amounts, while no other can be added.
    """
    usage: Sequence[UsageLine] = signed["usage"]
    if len(usage) > MAX_SIGNED_LINES:
        message = f"has {len(usage):,} lines of usage, more than the {MAX_SIGNED_LINES:,} that can be signed at once"
        raise QueryError([Fault("validation", f"{message}; sign off by product, or by metric")])
    try:
        text = texts.note(note)
    except ValueError as error:
        raise QueryError([Fault("note", str(error))]) from None
    amounts: Sequence[AmountLine] = signed["amounts"]
    own = {
        **{name: value for name, value in signed.items() if name not in _AS_JSON},
        "organization_id": organization_id,
        "id": uuid4(),
        "author": texts.author(author),
        "note": text,
    }
    with places.saving.writing() as writer:
        if writer.count(organization_id) >= MAX_SIGNOFFS:
            raise RecordError(f"There are {MAX_SIGNOFFS:,} sign-offs already, the most there may be.")
        check(signoffs(places, organization_id, whole=False))
        latest = writer.latest(organization_id, "signed_at")
        own["signed_at"] = now if latest is None else max(now, latest + _ONE_MICROSECOND)
        kept = {
            "versions": json.dumps(dict(signed["versions"])),
            "open": findings_json(signed["open"]),
            "usage": _usage_json(usage, signed["days"], signed["slots"], signed["hash_probe"]),
            "amounts": _amounts_json(amounts, signed["basis"]),
        }
        writer.change(insert(writer.table).values(**own, **kept))
    return SignOff(**own, **{name: signed[name] for name in _AS_JSON}, place=places.saving.name)


def signoffs(places: Places, organization_id: UUID, *, whole: bool = True, only: UUID | None = None) -> list[SignOff]:
    """The organization's sign-offs, newest first; without usage and amounts unless `whole`. `only` is the id of one.

    Raises `RecordError`.
    """
    signed = []
    for place in places.all:
        table = place.table
        left_out = {} if whole else {"usage": "[]", "amounts": "[]"}
        columns = [column for column in table.c if column.name not in left_out]
        statement = select(*columns).where(table.c.organization_id == organization_id)
        statement = statement if only is None else statement.where(table.c.id == only)
        signed += records(place, statement, partial(_signoff, left_out=left_out, place=place.name))
    return sorted(signed, key=lambda item: (item.signed_at, str(item.id)), reverse=True)


def signed_period(signoff: SignOff) -> Period:
    """The period of a sign-off, with its `as_of`. Raises `QueryError` for one of another version, `RecordError`."""
    period = Period.from_params(signoff.params).replace(organization_id=signoff.organization_id)
    if period.window or period.is_relative:
        raise RecordError(
            f"The sign-off {signoff.id} has no period of fixed times in `params`; restore it from a backup"
        )
    return period


def corrections_command(signoff: SignOff, options: str = "", *, is_one_of_several: bool) -> str:
    """The command that writes the corrections of a sign-off; it must name the organization if the table has several."""
    own = f" --organization-id {signoff.organization_id}" if is_one_of_several else ""
    return f"usage-explore signoffs {str(signoff.id)[:8]}{own}{options} --csv FILE.csv"


def period_words(signoff: SignOff) -> str:
    """The signed period in words; of one of another version its days alone."""
    try:
        return describe(signed_period(signoff).replace(as_of=None))
    except QueryError:
        days = span_in(signoff.since, signoff.until, ZoneInfo(signoff.timezone))
        return f"Usage, {days}, {signoff.timezone}, of another version, which this one cannot read"


def _signoff(row: Row[Any], left_out: Mapping[str, str], place: PlaceName) -> SignOff:
    values = {**row._mapping, **left_out}
    usage = _usage_of(values.pop("usage"))
    amounts, basis = _amounts(json.loads(values.pop("amounts")))
    more = {
        "versions": dict(json.loads(values.pop("versions"))),
        "open": findings_of(values.pop("open")),
        "amounts": amounts,
        "basis": basis,
        **usage,
    }
    return SignOff(**values, **more, place=place)


def _usage_json(
    lines: Sequence[UsageLine], days: Sequence[DayLine], slots: Sequence[SlotLine], hash_probe: int | None
) -> str:
    """The usage with its hashes, which are text: JSON readers may round integers of 64 bits and more."""
    return json.dumps(
        {
            "lines": [
                [*line.key, line.events, _text(line.quantity), _text(line.cost), _digest(line.digest)] for line in lines
            ],
            "days": [[line.day.isoformat(), line.events, _digest(line.digest)] for line in days],
            "slots": [
                [int(line.start.timestamp()) // _SLOT_SECONDS, line.events, _digest(line.digest)] for line in slots
            ],
            "hash_probe": _digest(hash_probe),
        }
    )


def _usage_of(text: str) -> dict[str, Any]:
    """The usage of a sign-off; a list of lines without hashes is that of an older version."""
    read = json.loads(text)
    content: dict[str, Any] = {"lines": [[*line, None] for line in read]} if isinstance(read, list) else read
    lines = [
        UsageLine(
            _key(customer, metric, wallet, currency),
            int(events),
            texts.number(quantity),
            texts.number(cost),
            _number(digest),
        )
        for customer, metric, wallet, currency, events, quantity, cost, digest in content["lines"]
    ]
    days = [
        DayLine(date.fromisoformat(day), int(events), int(digest)) for day, events, digest in content.get("days", ())
    ]
    slots = [
        SlotLine(datetime.fromtimestamp(number * _SLOT_SECONDS, UTC), int(events), int(digest))
        for number, events, digest in content.get("slots", ())
    ]
    return {
        "usage": tuple(lines),
        "days": tuple(days),
        "slots": tuple(slots),
        "hash_probe": _number(content.get("hash_probe")),
    }


def _key(customer: str, metric: str, *currencies: str | None) -> Key:
    """The key of a line. Raises `ValueError`."""
    UUID(customer)
    if not isinstance(metric, str) or any(not isinstance(each, str | None) for each in currencies):
        raise ValueError("a metric or a currency is no text")
    wallet, currency = currencies
    return customer, metric, wallet, currency


def _digest(value: int | None) -> str | None:
    return None if value is None else str(value)


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)


def _amounts_json(amounts: Sequence[AmountLine], basis: AmountBasis | None) -> str:
    """The amounts as a list of lines; with a basis as an object that has it, too."""
    lines = [[*line.key, _text(line.amount)] for line in amounts]
    if basis is None:
        return json.dumps(lines)
    wallets = [[customer and str(customer), currency] for customer, currency in basis.wallets.items()]
    fields = {"prices": basis.prices, "prices_hash": basis.prices_hash, "unpriced_events": basis.unpriced_events}
    if basis.unpriced is not None:
        fields["unpriced"] = sorted(basis.unpriced)
    return json.dumps({"lines": lines, **fields, "wallets": wallets})


def _amounts(content: Any) -> tuple[tuple[AmountLine, ...], AmountBasis | None]:
    """The amounts and their basis, as `_amounts_json` wrote them."""
    lines = content["lines"] if isinstance(content, dict) else content
    amounts = tuple(
        AmountLine(_key(customer, metric, wallet, currency), texts.number(amount))
        for customer, metric, wallet, currency, amount in lines
    )
    if not isinstance(content, dict):
        return amounts, None
    basis = AmountBasis(
        prices=content["prices"],
        prices_hash=content["prices_hash"],
        wallets={customer and UUID(customer): currency for customer, currency in content["wallets"]},
        unpriced_events=int(content["unpriced_events"]),
        unpriced=None if (keys := content.get("unpriced")) is None else frozenset((one, other) for one, other in keys),
    )
    return amounts, basis


def _text(value: Decimal) -> str:
    return plain(value) if value.is_finite() else str(value)
