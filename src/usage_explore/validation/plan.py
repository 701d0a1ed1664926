"""What is examined with what: the checks that were chosen and the files that came with them, then one snapshot."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Table

from usage_explore.query.queries import Period
from usage_explore.validation import run
from usage_explore.validation.check import Check, Examination
from usage_explore.validation.reconciliation.invoices import Invoices, InvoiceSource, read_invoices
from usage_explore.validation.result import Validation
from usage_explore.validation.totals import totals, unexamined
from usage_explore.validation.wallet_preferences import Preferences, PreferenceSource, read_preferences


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Checks, and what they need beside the events; read and found sound before the database is asked."""

    checks: tuple[Check, ...]
    invoices: Invoices | None
    preferences: Preferences | None

    def validation(
        self,
        connection: Connection,
        table: Table,
        period: Period,
        now: datetime,
        rollup: bool,
        app_url: str,
        progress: run.Progress | None,
        settle: timedelta | None,
    ) -> Validation:
        """The period, resolved and with its `as_of`, examined on the connection's snapshot.

        `settle` is the settle time that `as_of` follows from, None where it was given.
        """
        examination = Examination(
            connection=connection,
            table=table,
            period=period,
            now=now,
            totals=totals(connection, table, period),
            rollup=rollup,
            invoices=self.invoices,
            preferences=self.preferences,
        )
        results = run.run(examination, self.checks, progress)
        return Validation(
            period=period,
            now=now,
            totals=examination.totals,
            unexamined=unexamined(connection, table, period, settle),
            results=results,
            app_url=app_url,
        )


def plan(names: Iterable[str] | None, invoices: InvoiceSource | None, wallets: PreferenceSource | None) -> Plan:
    """The plan that the arguments of `Store.validate` make. Raises `QueryError`."""
    return Plan(
        checks=run.chosen(names),
        invoices=None if invoices is None else read_invoices(invoices),
        preferences=None if wallets is None else read_preferences(wallets),
    )
