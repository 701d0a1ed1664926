"""A check: its row of the registry, the period that it examines, and its findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Select, Table, select

from usage_explore.decimals import plain, rfc3339, total
from usage_explore.extract.engine import Extracts, ExtractUnusable
from usage_explore.extract.routing import Paths
from usage_explore.extract.translated import Translated
from usage_explore.formatting import counted, data_value, minute
from usage_explore.names import NO_NAMES, Names, kind_of
from usage_explore.query import buckets
from usage_explore.query.base import Query
from usage_explore.query.buckets import Bucket
from usage_explore.query.describe import describe
from usage_explore.query.filters import ID_COLUMNS
from usage_explore.query.queries import AggregateQuery, EventQuery, Period
from usage_explore.query.url_params import link
from usage_explore.query.validators import EARLIEST, LATEST
from usage_explore.records.signoffs import SignOff
from usage_explore.sql.filters import conditions
from usage_explore.validation.bounds import Bound
from usage_explore.validation.inputs import Inputs
from usage_explore.validation.periods import Totals, organization_period, part

if TYPE_CHECKING:
    import pandas as pd


Severity = Literal["high", "medium", "low"]

SEVERITIES: dict[Severity, str] = {
    "high": "the invoice is wrong, or very probably so: do not finalize before this is explained",
    "medium": "probably harmless for the total, but somebody should look",
    "low": "good to know",
}
"""The effect of each severity on the sign-off, the gravest first."""

SUBJECTS = ("customer_id", "product_id", "subscription_id", "metric_key", "price_key", "wallet_currency")
"""The fields of a finding that name its customer, product and the like."""

_RANK = {severity: rank for rank, severity in enumerate(SEVERITIES)}

MAX_FINDINGS_PER_CHECK = 100
"""Findings of one check, or of one kind of it; its note counts the others."""

AFTER_SIGN_OFF = "after sign-off"
"""The kind of findings on all that arrived after the period was signed."""

CHANGED_AFTER_SIGN_OFF = "changed after sign-off"
"""The kind of findings on lines that have what was signed, of usage that was changed or removed since."""

SINCE_SIGN_OFF = (AFTER_SIGN_OFF, CHANGED_AFTER_SIGN_OFF)

BILLED_SINCE_SIGN_OFF, LATE_EVENTS_FACT = "billed since sign-off", "late events on right lines"
"""The kind of findings on lines that have what came since, and their fact that counts the events that arrived."""

EARLIER_SIGN_OFF = "earlier sign-off"
"""The cause of lines and control totals that lack what arrived between two sign-offs, which the last one includes."""

SIGN_OFF_FACT, SIGNED_AS_OF = "sign-off", "signed as of"
"""The facts on such a finding that have the id of the sign-off, and the time after which its events arrived."""

EXPLAINED_BY, FINALIZED = "explained by", "after finalization"
"""The fact on a finding on control totals that has the cause of all of the difference, and that of what came later."""

DAYS_FACT = "days with such quantities"
"""The fact on a finding on some quantities of several days that has the number of these days."""

MAX_TIMES = 20_000
"""Times of events that a statement is narrowed down to; it reads more of them by its own plan."""

_ROWS_AT_ONCE = 5_000
"""Rows that are made Python's together: one by one takes twice as long."""

_Item = TypeVar("_Item")

_MIN_HOURLY_MARGIN, _MIN_MARGIN, _MAX_MARGIN = timedelta(days=1), timedelta(days=7), timedelta(days=400)
"""Time that a chart shows before and after the finding: at least, with hours and with days; at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is, or may be, wrong with a period.

    `since` and `until` bound the events concerned, half-open; `events` counts them, `quantity` is how much of what is
    metered is affected (None where units differ or nothing was metered, as in a silence), `amounts` what that costs by
    currency where a cost is known. `share` is the affected part of what `share_of` names ("quantity of calls", "all
    events", "cost in EUR", "expected amount in USD", "lines of price p1") came to in the period: 0.02 is two per cent;
    it may pass 1. `too_high` is the part of `amounts` by which lines of an invoice are too high, the rest is too low;
    None of amounts without a direction, such as external costs. `question` shows it; `facts` are further things to
    know, by name.
    `is_general` is true of what concerns the data as a whole, such as its end: it ranks first within its severity.
    `also_seen_by` names the checks whose findings on the same events were folded into this one, `folded` has them.
    `kind` is a word for which of the check's kinds of finding this is, such as "copy" or "moved": a part of its
    identity, see `identity`. It never has a number in it, nor anything else that a late event changes.
    """

    check: str
    severity: Severity
    sentence: str
    since: datetime
    until: datetime
    events: int
    question: EventQuery | AggregateQuery
    quantity: Decimal | None = None
    amounts: tuple[tuple[str, Decimal], ...] = ()
    too_high: tuple[tuple[str, Decimal], ...] | None = None
    share: Decimal = Decimal(0)
    share_of: str = ""
    customer_id: UUID | None = None
    product_id: UUID | None = None
    subscription_id: UUID | None = None
    metric_key: str | None = None
    price_key: str | None = None
    wallet_currency: str | None = None
    facts: tuple[tuple[str, str], ...] = ()
    is_general: bool = False
    also_seen_by: tuple[str, ...] = ()
    folded: tuple[Finding, ...] = ()
    kind: str = ""

    @property
    def too_low(self) -> tuple[tuple[str, Decimal], ...] | None:
        """The part of `amounts` by which lines of an invoice are too low; None of amounts without a direction."""
        if self.too_high is None:
            return None
        high = dict(self.too_high)
        rest = ((currency, total((amount, -high.get(currency, Decimal(0))))) for currency, amount in self.amounts)
        return tuple((currency, amount) for currency, amount in rest if amount)

    def url(self, app_url: str) -> str:
        """The link that opens what it shows in the app."""
        return link(app_url, "events" if isinstance(self.question, EventQuery) else "", self.question)

    def chart_query(self, period: Period, now: datetime) -> AggregateQuery:
        """The query of its chart in the app and the report: its own, else the count or quantity of its events.

        Around a finding of up to four days the chart has hours, and as long again on either side, at least one day;
        else days, and half as long again on either side, at least 7 and at most 400 days. `period` is the resolved
        period of the validation, `now` its clock.
        """
        if isinstance(self.question, AggregateQuery):
            return self.question
        length = self.until - self.since
        bucket: Bucket = "hour" if buckets.fitting(length) == "hour" else "day"
        margin = max(length, _MIN_HOURLY_MARGIN) if bucket == "hour" else min(max(length / 2, _MIN_MARGIN), _MAX_MARGIN)
        since = buckets.floor(max(self.since - margin, EARLIEST), bucket, period.zone)
        end = min(self.until + margin, max(self.until, period.as_of or now), LATEST)
        whole = buckets.floor(end, bucket, period.zone)
        return AggregateQuery(
            **self.question.shared_with(Query),
            since=since,
            until=whole if whole >= self.until else end,
            timezone=period.timezone,
            bucket=bucket,
            metric="count" if self.quantity is None else "sum_quantity",
        )

    def to_dict(self, app_url: str, names: Names = NO_NAMES) -> dict[str, Any]:
        """The finding as JSON carries it: ids, times and decimals as text, nulls kept; beside each id its name."""
        return {
            "check": self.check,
            "kind": self.kind or None,
            "also_seen_by": list(self.also_seen_by),
            "severity": self.severity,
            "sentence": self.sentence,
            "since": rfc3339(self.since),
            "until": rfc3339(self.until),
            "events": self.events,
            "quantity": None if self.quantity is None else plain(self.quantity),
            "amounts": _amounts(self.amounts),
            "too_high": None if self.too_high is None else _amounts(self.too_high),
            "too_low": None if self.too_low is None else _amounts(self.too_low),
            "share": plain(self.share),
            "share_of": self.share_of or None,
            **{name: _text(getattr(self, name)) for name in SUBJECTS},
            **{f"{kind_of(name)}_name": names.name(name, getattr(self, name)) for name in ID_COLUMNS},
            "facts": dict(self.facts),
            "query": describe(self.question),
            "url": self.url(app_url),
        }


def signed_words(signed: SignOff, zone: ZoneInfo) -> str:
    """`the sign-off of 5 Nov 2026 14:30 by ana`."""
    return f"the sign-off of {minute(signed.signed_at.astimezone(zone))} by {data_value(signed.author)}"


def limited(
    items: Sequence[_Item],
    plural: str,
    size: Callable[[Sequence[_Item]], str],
    most: int = MAX_FINDINGS_PER_CHECK,
) -> tuple[Sequence[_Item], str]:
    """The first `most` items, and a note with the number and size of the others: `12 more findings, 840 events`."""
    rest = items[most:]
    return items[:most], f"{len(rest):,} more {plural}, {size(rest)}" if rest else ""


def limited_findings(findings: Iterable[Finding], plural: str) -> tuple[Sequence[Finding], str]:
    """The gravest findings of one kind, see `limited`; the others are one finding, unless it would be low."""
    ranked = sorted(findings, key=lambda finding: (_RANK[finding.severity], -finding.events))
    shown, note = limited(ranked, plural, _events)
    rest = ranked[len(shown) :]
    further = [_further(rest, note)] if rest and rest[0].severity != "low" else []
    return [*shown, *further], note


def _events(findings: Sequence[Finding]) -> str:
    return counted(sum(finding.events for finding in findings), "event")


def _further(findings: Sequence[Finding], words: str) -> Finding:
    """One finding for several of one kind, as grave as the first; `words` count them."""
    first = findings[0]
    differing = [name for name in SUBJECTS if len({getattr(finding, name) for finding in findings}) > 1]
    without: dict[str, Any] = {name: None for name in differing if getattr(first, name) is not None}
    return replace(
        first,
        kind="further",
        sentence=f"There are {words}, like those that are findings of their own.",
        since=min(finding.since for finding in findings),
        until=max(finding.until for finding in findings),
        events=sum(finding.events for finding in findings),
        question=first.question.replace(**without),
        quantity=None,
        amounts=_by_currency(finding.amounts for finding in findings),
        too_high=None if first.too_high is None else _by_currency(finding.too_high or () for finding in findings),
        facts=(),
        also_seen_by=(),
        folded=(),
        **without,
    )


def _by_currency(amounts: Iterable[Iterable[tuple[str, Decimal]]]) -> tuple[tuple[str, Decimal], ...]:
    return tuple(sorted(added_amounts(amounts).items()))


def added_amounts(amounts: Iterable[Iterable[tuple[str, Decimal]]]) -> dict[str, Decimal]:
    """The sums by currency of the amounts of several findings."""
    sums: dict[str, list[Decimal]] = {}
    for currency, amount in (pair for of_finding in amounts for pair in of_finding):
        sums.setdefault(currency, []).append(amount)
    return {currency: total(values) for currency, values in sums.items()}


def by_impact(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The gravest first, within a severity what concerns all data, the largest affected share, the most events."""

    def rank(finding: Finding) -> tuple[Any, ...]:
        subjects = tuple(_text(getattr(finding, name)) or "" for name in SUBJECTS)
        size = not finding.is_general, finding.share.copy_negate(), -finding.events
        return _RANK[finding.severity], *size, finding.check, finding.since, subjects

    return tuple(sorted(findings, key=rank))


def _amounts(by_currency: Iterable[tuple[str, Decimal]]) -> dict[str, str]:
    return {currency: plain(amount) for currency, amount in by_currency}


def _by_columns(rows: Iterable[Any]) -> list[Any]:
    """Rows in the order of their columns as text, the missing values last."""
    return sorted(rows, key=lambda row: [(value is None, str(value)) for value in row])


def _text(value: UUID | str | None) -> str | None:
    return None if value is None else str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The findings of a check, and the number of items that it examined (`looked_at`, in `Check.unit`).

    `sheet` is a table for those who sign off, such as the wallets' preview: its columns are the check's to
    document, decimals are `Decimal`. It is left out of `==`. `note` says what was left aside, when anything was;
    `is_partial` is true if that is usage which could not be judged, such as series of too few events. `unchecked`
    says what the check compares and could not, such as amounts without a price book; the headline repeats it.
    `skipped` says why nothing could be judged at all: such a check is not clean. `reported_by` names the checks
    whose findings include some of this one, see `folding`.
    """

    findings: tuple[Finding, ...] = ()
    looked_at: int = 0
    sheet: pd.DataFrame | None = field(default=None, compare=False)
    note: str = ""
    is_partial: bool = False
    unchecked: str = ""
    skipped: str = ""
    reported_by: tuple[str, ...] = ()


class Examine(Protocol):
    """What a check does."""

    def __call__(self, examination: Examination, /) -> Outcome:
        """What it finds in the period."""


def _registered(name: str) -> Check:
    from usage_explore.validation.registry import CHECKS

    return CHECKS[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One row of the registry.

    `name` is the word for links and options, `title` what people read, `means` what a finding means for the invoice,
    `parameters` each rule it applies and why (name to words, or a function that gives them, called with the bounds in
    force), `bounds` the numbers in them that can be overridden (see `bounds`), `unit` what it looks at (`one` of it),
    `statement` its SQL (pure, so that a report can show it), `examine` runs it. `needs` names what must be given for it
    to run: a field of `Inputs`, or `finalized_at`.
    """

    name: str
    title: str
    means: str
    parameters: Mapping[str, str] | Callable[[], Mapping[str, str]]
    unit: str
    statement: Callable[[Table, Period], Select[Any]]
    examine: Examine
    needs: str | None = None
    bounds: tuple[Bound[Any], ...] = ()
    one: str = ""

    @property
    def words(self) -> Mapping[str, str]:
        """The parameters, with the bounds in force."""
        return self.parameters() if callable(self.parameters) else self.parameters

    def counted(self, number: int) -> str:
        """A number of what it looks at: `1,234 events with a cost`, `1 event with a cost`, `1 customer's metric`."""
        return counted(number, self.one or self.unit, self.unit)

    def __reduce__(self) -> tuple[Callable[[str], Check], tuple[str]]:
        """It is pickled by its name in the registry, as its functions cannot be."""
        return _registered, (self.name,)


@dataclass(frozen=True, kw_only=True)
class Examination:
    """One period of one organization, in one snapshot.

    `period` is resolved and has its `as_of`: what was ingested later is not looked at. `now` is the database's clock,
    `totals` what the period came to: what shares are shares of.
    """

    connection: Connection
    table: Table
    period: Period
    now: datetime
    totals: Totals
    extracts: Extracts | None = None
    inputs: Inputs = field(default_factory=Inputs)
    names_of: Callable[[Iterable[tuple[str, UUID]]], Names] = field(default=lambda ids: NO_NAMES)
    """The names that the directory has of ids, given as (column, id)."""
    progress: Callable[[float], object] = field(default=lambda done: None)
    """Called by a check that takes long with the part that is done, 0 to 1."""
    shared: dict[str, Any] = field(default_factory=dict)
    """What one check computes and another one needs as well, by the name of the first."""
    signed: SignOff | None = None
    """The sign-off of the period whose `as_of` is taken as the time of finalization, as none was given; else None."""
    kept_signoffs: tuple[SignOff, ...] = ()
    """The sign-offs of the period since it was over, newest first, without those after `as_of`: what they froze."""
    exists_since: datetime | None = None
    """The time of the organization's first event, if older ones were removed and the period begins before it."""
    is_one_of_several: bool = False
    """Whether the table has other organizations, too: commands must name this one."""

    @property
    def closed_until(self) -> datetime:
        """Until when usage can be complete: what lies after is not judged."""
        return min(self.period.span[1], self.period.as_of or self.now, self.now)

    @cached_property
    def paths(self) -> Paths:
        """The ways to an aggregate: the extract where there is one, else the events."""
        return Paths(self.connection, self.table, self.now, self.extracts)

    @property
    def begins(self) -> datetime:
        """Since when usage can be complete: the period's begin, or the first event after removed ones."""
        return self.exists_since or self.period.span[0]

    @property
    def signoffs(self) -> tuple[SignOff, ...]:
        """The `kept_signoffs` by whose times arrivals are judged: none where a time of finalization was given."""
        return () if self.signed is None and self.period.finalized_at is not None else self.kept_signoffs

    @property
    def earlier_signoffs(self) -> tuple[SignOff, ...]:
        """The sign-offs before the last one, newest first."""
        span = self.signed_span
        return tuple(signoff for signoff in self.signoffs if span and signoff.as_of < span[1])

    @property
    def signed_span(self) -> tuple[datetime, datetime] | None:
        """The `as_of` of the first and of the last sign-off: what arrived between them is signed, and so settled."""
        times = [signoff.as_of for signoff in self.signoffs]
        return (min(times), max(times)) if times else None

    def has(self, need: str) -> bool:
        """Whether what a check needs was given."""
        return getattr(self.period if need == "finalized_at" else self.inputs, need) is not None

    def has_column(self, name: str, period: Period | None = None) -> bool:
        """Whether any event of the period has the column; by default any event of the organization at any time."""
        where = conditions(self.table, period or organization_period(self.period))
        statement = select(self.table.c[name]).where(*where, self.table.c[name].is_not(None)).limit(1)
        return self.connection.execute(statement).first() is not None

    def rows(self, statement: Select[Any]) -> Iterator[Any]:
        """The statement's rows, which must be few beside the events: they are held here, made Python's part by part.

        Not through a cursor in the database: what it reads is planned for the first rows, and without parallel workers,
        so that sums over ten million events take minutes.
        """
        for rows in self.connection.execute(statement).partitions(_ROWS_AT_ONCE):
            yield from rows

    def extracted_rows(self, statement: Select[Any]) -> Iterator[Any]:
        """The statement's rows, read from the extract where there is one that can answer, else as `rows`.

        For statements over the events as known at the period's `as_of` or earlier, which read most of them. Rows of a
        statement without an order are in that of their columns, on both paths alike.
        """
        try:
            rows: Iterable[Any] = self._translated.rows(statement)
        except ExtractUnusable:
            rows = self.rows(statement)
        yield from rows if statement._order_by_clauses else _by_columns(rows)

    def is_extracted(self, statement: Select[Any], rows: Iterable[Any]) -> bool:
        """Whether the extract gives these rows of a statement without an order, or cannot answer it."""
        try:
            found = self._translated.rows(statement)
        except ExtractUnusable:
            return True
        return [tuple(row) for row in _by_columns(found)] == [tuple(row) for row in _by_columns(rows)]

    def times(self, statement: Select[Any]) -> list[datetime] | None:
        """The times that a statement selects, from the extract; None without one, and for more than `MAX_TIMES`.

        They narrow a statement down to the few events of the database that it is about.
        """
        try:
            rows = self._translated.rows(statement.limit(MAX_TIMES + 1))
        except ExtractUnusable:
            return None
        return sorted(time for (time,) in rows) if len(rows) <= MAX_TIMES else None

    @property
    def _translated(self) -> Translated:
        """The extract for statements, one for all checks."""
        found: Translated | None = self.shared.get("translated")
        if found is None:
            assert self.period.organization_id is not None  # noqa: S101 - the store resolves the organization first
            found = Translated(self.paths, self.period.organization_id, self.period.as_of)
            self.shared["translated"] = found
        return found

    def cost_share(self, currency: str | None, amount: Decimal) -> Decimal:
        """What part of the period's cost in the currency that is, unsigned; of nothing, and of NaN, it is 1."""
        return part(amount, self.totals.costs.get(currency, Decimal(0)))

    def aggregate_question(self, **parameters: object) -> AggregateQuery:
        """A question about the period with its filters and `as_of`; the parameters are added or displace them.

        A period of up to four days is shown by hour, up to a year by day, unless `bucket` is given.
        """
        since, until = self.period.span
        given: dict[str, Any] = {"since": since, "until": until, "timezone": self.period.timezone, **parameters}
        return AggregateQuery(**{**self._shared, "bucket": buckets.fitting(given["until"] - given["since"]), **given})

    def events_question(self, **parameters: object) -> EventQuery:
        """The events of the period, with its filters and `as_of`; the parameters are added or displace them."""
        since, until = self.period.span
        return EventQuery(**{**self._shared, "occurred_after": since, "occurred_before": until, **parameters})

    def missing(self, *groups: str) -> tuple[str, ...]:
        """The period's own `missing` with these: a question for what lacks them keeps to the period's filter."""
        return tuple(dict.fromkeys((*self.period.missing, *groups)))

    @property
    def _shared(self) -> dict[str, Any]:
        return self.period.shared_with(Query)
