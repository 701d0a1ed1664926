"""What a check is: a row of the registry, and what it is given to work with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import Connection, Select, Table

from usage_explore.query.base import Query
from usage_explore.query.queries import AggregateQuery, EventQuery, Period
from usage_explore.rollup.routing import Paths
from usage_explore.validation.finding import Finding
from usage_explore.validation.totals import Totals, part

if TYPE_CHECKING:
    import pandas as pd

    from usage_explore.validation.reconciliation.invoices import Invoices
    from usage_explore.validation.wallet_preferences import Preferences


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a check found, among how many things it looked at (`looked_at`, of what `Check.unit` says).

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
