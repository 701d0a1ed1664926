"""A check: its row of the registry, the period that it examines, and its result in a validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import Connection, Select, Table, select

from usage_explore.decimals import plain, rfc3339
from usage_explore.query.base import Query
from usage_explore.query.describe import describe
from usage_explore.query.queries import AggregateQuery, EventQuery, Period
from usage_explore.query.url_params import link
from usage_explore.rollup.routing import Paths
from usage_explore.sql.filters import conditions
from usage_explore.validation.finding import SEVERITIES, SUBJECTS, Finding, Severity, by_impact
from usage_explore.validation.periods import Totals, Unexamined, organization_period, part

if TYPE_CHECKING:
    import pandas as pd

    from usage_explore.validation.reconciliation.invoices import Invoices
    from usage_explore.validation.wallet_preferences import Preferences


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The findings of a check, and the number of items that it examined (`looked_at`, in `Check.unit`).

    `sheet` is a table for those who sign off, such as the wallets' preview: its columns are the check's to document,
    decimals are `Decimal`. `note` says what was left aside, when anything was; `is_partial` is true if that is usage
    which could not be judged, such as series of too few events. `skipped` says why nothing could be judged at all: such
    a check is not clean.
    """

    findings: tuple[Finding, ...] = ()
    looked_at: int = 0
    sheet: pd.DataFrame | None = None
    note: str = ""
    is_partial: bool = False
    skipped: str = ""


class Examine(Protocol):
    """What a check does."""

    def __call__(self, examination: Examination, /) -> Outcome:
        """What it finds in the period."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One row of the registry.

    `name` is the word for links and options, `title` what people read, `means` what a finding means for the invoice,
    `parameters` each bound it applies and why (name to words with the number in them), `unit` what it looks at,
    `statement` its SQL (pure, so that a report can show it), `examine` runs it. `needs` names what must be given for it
    to run: `invoices`, `preferences` or `finalized_at`.
    """

    name: str
    title: str
    means: str
    parameters: Mapping[str, str]
    unit: str
    statement: Callable[[Table, Period], Select[Any]]
    examine: Examine
    needs: str | None = None


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
    rollup: bool = True
    invoices: Invoices | None = None
    preferences: Preferences | None = None
    progress: Callable[[float], object] = field(default=lambda done: None)
    """Called by a check that takes long with the part that is done, 0 to 1."""

    @property
    def closed_until(self) -> datetime:
        """Until when usage can be complete: what lies after is not judged."""
        return min(self.period.span[1], self.period.as_of or self.now, self.now)

    @cached_property
    def paths(self) -> Paths:
        """The ways to an aggregate: the rollup where it serves exactly, else the events."""
        return Paths(self.connection, self.table, self.now, self.rollup)

    def has(self, need: str) -> bool:
        """Whether what a check needs was given."""
        given = {
            "invoices": self.invoices,
            "preferences": self.preferences,
            "finalized_at": self.period.finalized_at,
        }
        return given[need] is not None

    def has_column(self, name: str, period: Period | None = None) -> bool:
        """Whether any event of the period has the column; by default any event of the organization at any time."""
        where = conditions(self.table, period or organization_period(self.period))
        statement = select(self.table.c[name]).where(*where, self.table.c[name].is_not(None)).limit(1)
        return self.connection.execute(statement).first() is not None

    def rows(self, statement: Select[Any]) -> Iterator[Any]:
        """The statement's rows, which must be few beside the events: they are held here, made Python's one by one.

        Not through a cursor in the database: what it reads is planned for the first rows, and without parallel workers,
        so that sums over ten million events take minutes.
        """
        yield from self.connection.execute(statement)

    def cost_share(self, currency: str | None, amount: Decimal) -> Decimal:
        """What part of the period's cost in the currency that is, unsigned; of nothing, and of NaN, it is 1."""
        return part(amount, self.totals.costs.get(currency, Decimal(0)))

    def aggregate_question(self, **parameters: object) -> AggregateQuery:
        """A question about the period with its filters and `as_of`; the parameters are added or displace them."""
        since, until = self.period.span
        return AggregateQuery(
            **{**self._shared, "since": since, "until": until, "timezone": self.period.timezone, **parameters}
        )

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One check of a validation. `outcome` is None where it judged nothing: `skipped` says what was not given or what
    the events lack, `failed` what went wrong.
    """

    check: Check
    outcome: Outcome | None
    took: timedelta
    skipped: str = ""
    failed: str = ""

    @property
    def is_clean(self) -> bool:
        """Whether it ran, had something to examine, and has no finding."""
        return self.outcome is not None and not self.outcome.findings and self.outcome.looked_at > 0

    @property
    def is_partial(self) -> bool:
        """Whether it left usage unjudged, such as series of too few events; the note says how much and why."""
        return self.outcome is not None and self.outcome.is_partial


@dataclass(frozen=True, kw_only=True)
class Validation:
    """The answer to `store.validate`: every check's result on one snapshot of one period.

    `period` is the question as it took effect: absolute, scoped, with the `as_of` up to which the data was looked at.
    `unexamined` counts the period's events that arrived after it, None where there are none.
    """

    period: Period
    now: datetime
    totals: Totals
    results: tuple[Result, ...]
    app_url: str
    unexamined: Unexamined | None = None

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """The findings of all checks, by impact."""
        return by_impact(
            finding for result in self.results if result.outcome is not None for finding in result.outcome.findings
        )

    @property
    def failed(self) -> tuple[Result, ...]:
        """The checks that could not be run to their end: what they look for was not looked for."""
        return tuple(result for result in self.results if result.failed)

    def counts(self) -> Mapping[Severity, int]:
        """How many findings there are of each severity, the gravest first."""
        return {severity: sum(finding.severity == severity for finding in self.findings) for severity in SEVERITIES}

    def sheet(self, check: str) -> pd.DataFrame | None:
        """The table a check made, None where it makes none, did not run, or is not in this validation."""
        for result in self.results:
            if result.check.name == check and result.outcome is not None:
                return result.outcome.sheet
        return None

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row per finding, by impact.

        Columns: `check`, `severity`, `sentence` (str), `since`, `until` (datetime64[us, zone]), `events` (int64),
        `quantity` (`Decimal` or None), `amounts` (dict of currency to `Decimal`), `share` (`Decimal`), `share_of` (str:
        what the share is of), the subjects `customer_id`, `product_id`, `subscription_id`, `metric_key`, `price_key`,
        `wallet_currency` (str), `url` (str).
        """
        import pandas as pd

        def column(name: str, dtype: str) -> pd.Series[Any]:
            return pd.Series([getattr(finding, name) for finding in self.findings], dtype=dtype)

        instant, zone = "datetime64[us, UTC]", self.period.zone
        columns: dict[str, Any] = {
            "check": column("check", "str"),
            "severity": column("severity", "str"),
            "sentence": column("sentence", "str"),
            "since": column("since", instant).dt.tz_convert(zone),
            "until": column("until", instant).dt.tz_convert(zone),
            "events": column("events", "int64"),
            "quantity": column("quantity", "object"),
            "amounts": column("amounts", "object").map(dict),
            "share": column("share", "object"),
            "share_of": column("share_of", "str"),
        }
        for name in SUBJECTS:
            subjects = (getattr(finding, name) for finding in self.findings)
            columns[name] = pd.Series([None if subject is None else str(subject) for subject in subjects], dtype="str")
        columns["url"] = pd.Series([finding.url(self.app_url) for finding in self.findings], dtype="str")
        return pd.DataFrame(columns)

    def url(self) -> str:
        """The link that opens this very period in the app."""
        return link(self.app_url, "validate", self.period)

    def to_dict(self) -> dict[str, Any]:
        """The validation as JSON carries it: decimals and times as text."""
        since, until = self.period.span
        as_of, finalized = self.period.as_of, self.period.finalized_at
        return {
            "organization_id": str(self.period.organization_id),
            "period": describe(self.period),
            "since": rfc3339(since),
            "until": rfc3339(until),
            "timezone": self.period.timezone,
            "as_of": rfc3339(as_of) if as_of else None,
            "finalized_at": rfc3339(finalized) if finalized else None,
            "url": self.url(),
            "totals": {
                "events": self.totals.events,
                "quantities": {
                    metric: {"events": events, "quantity": plain(quantity)}
                    for metric, (events, quantity) in sorted(self.totals.metrics.items())
                },
                "costs": [
                    {"currency": currency, "amount": plain(amount)}
                    for currency, amount in sorted(self.totals.costs.items(), key=lambda item: item[0] or "")
                ],
            },
            "unexamined": {
                "events": self.unexamined.events,
                "latest_ingested_at": rfc3339(self.unexamined.latest),
                "settled_at": rfc3339(self.unexamined.settled_at) if self.unexamined.settled_at else None,
            }
            if self.unexamined
            else None,
            "findings_by_severity": dict(self.counts()),
            "checks": [
                {
                    "check": result.check.name,
                    "title": result.check.title,
                    "skipped": result.skipped or None,
                    "failed": result.failed or None,
                    "looked_at": result.outcome.looked_at if result.outcome else None,
                    "unit": result.check.unit,
                    "note": result.outcome.note if result.outcome else "",
                    "partial": result.is_partial,
                    "findings": len(result.outcome.findings) if result.outcome else None,
                    "milliseconds": round(result.took.total_seconds() * 1000, 1),
                }
                for result in self.results
            ],
            "findings": [finding.to_dict(self.app_url) for finding in self.findings],
        }

    def __repr__(self) -> str:
        counted = ", ".join(f"{number:,} {severity}" for severity, number in self.counts().items())
        among = f"{self.totals.events:,} events"
        if self.unexamined:
            among += f", {self.unexamined.events:,} more not examined"
        return f"<Validation: {counted} findings of {len(self.results)} checks among {among}; {describe(self.period)}>"

    def _repr_html_(self) -> str:
        from html import escape

        return f"<p>{escape(repr(self)[1:-1])}</p>{self.frame.to_html(max_rows=30)}"
