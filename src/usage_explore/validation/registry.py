"""The registry of checks, in the order in which they run and are reported, and their run on a snapshot of a period."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Table
from sqlalchemy.exc import DBAPIError

from usage_explore.db.engine import translated
from usage_explore.errors import DatabaseUnavailable, Fault, NotExact, QueryError, StatementTimeout
from usage_explore.extract.engine import Extracts
from usage_explore.formatting import counted
from usage_explore.names import Names
from usage_explore.query import validators
from usage_explore.query.queries import Period
from usage_explore.records.signoffs import SignOff
from usage_explore.sql.later_arrivals import Unexamined, unexamined
from usage_explore.validation import folding
from usage_explore.validation.anomalies import check as shifts
from usage_explore.validation.bounds import NO_BOUNDS, Bound, Bounds, in_force
from usage_explore.validation.check import Check, Examination
from usage_explore.validation.checks import (
    after_finalization,
    currencies,
    duplicates,
    impossible_times,
    late_arrivals,
    look_alikes,
    new_usage,
    quantities,
    silence,
    unit_costs,
    unit_errors,
    unpriced,
    unrated,
    wallets,
)
from usage_explore.validation.control import check as control_totals
from usage_explore.validation.folding import folded
from usage_explore.validation.inputs import Inputs, Preferences
from usage_explore.validation.periods import Totals, organization_period, totals, totals_statement
from usage_explore.validation.plug_ins import PlugInError, plug_ins
from usage_explore.validation.reconciliation import check as reconciliation
from usage_explore.validation.result import Result, Validation

_ALL: tuple[Check, ...] = (
    duplicates.CHECK,
    look_alikes.CHECK,
    late_arrivals.CHECK,
    after_finalization.CHECK,
    impossible_times.CHECK,
    quantities.CHECK,
    unit_errors.CHECK,
    shifts.CHECK,
    silence.CHECK,
    new_usage.CHECK,
    unrated.CHECK,
    unpriced.CHECK,
    currencies.CHECK,
    unit_costs.CHECK,
    wallets.CHECK,
    reconciliation.CHECK,
    control_totals.CHECK,
)

CHECKS = {check.name: check for check in (*_ALL, *plug_ins(_ALL))}
"""The checks by name, those of installed packages last."""

_log = logging.getLogger(__name__)

_EXTRACT_DIFFERS = (
    "The extract of organization %s differs from the events of the validated period, which were edited or deleted after"
    " they were copied: the events are read instead. Correct it with: usage-explore extract --verify --repair"
)
"""Logged before a validation that cannot use the extract, which follows such changes of the last 7 days only."""

_TOO_LONG = (
    "a statement took longer than it may; shorten the period, add a filter, or raise the bound"
    " (USAGE_EXPLORE_LONG_STATEMENT_TIMEOUT, in seconds)"
)

Progress = Callable[[str, float], object]
"""Called with a check's name and how much of it is done, from 0 to 1."""


def chosen(names: Iterable[str] | None) -> tuple[Check, ...]:
    """The checks of these names in the registry's order, all without names.

    Raises `QueryError` naming each unknown one, and when none is left.
    """
    if names is None:
        return tuple(CHECKS.values())
    wanted = [names] if isinstance(names, str) or not isinstance(names, Iterable) else list(names)
    faults = [
        Fault("checks", f"{validators.shorten(name)} is not a check{_hint(name)}")
        for name in wanted
        if not isinstance(name, str) or name not in CHECKS
    ]
    if not wanted:
        faults.append(Fault("checks", "names no check; leave it out to run them all"))
    if faults:
        raise QueryError(faults)
    return tuple(check for name, check in CHECKS.items() if name in wanted)


def _hint(name: object) -> str:
    if isinstance(name, str):
        begun = [check for check in CHECKS if name and check.startswith(name)]
        if near := f", did you mean {begun[0]}?" if len(begun) == 1 else validators.did_you_mean(name, CHECKS):
            return near
    return f"; the names are {', '.join(CHECKS)}"


def all_bounds() -> tuple[Bound[Any], ...]:
    """The bounds of every check, in the order of the checks; those that several share first."""
    declared = dict.fromkeys(bound for check in CHECKS.values() for bound in (*folding.BOUNDS, *check.bounds))
    return tuple(sorted(declared, key=lambda bound: -1 if bound.check == "common" else [*CHECKS].index(bound.check)))


def run(examination: Examination, checks: Iterable[Check], progress: Progress | None = None) -> tuple[Result, ...]:
    """Each check's result on the examination's snapshot, with findings on one incident folded, see `folding`.

    What a single check cannot do, such as add up quantities that are no numbers or end in time, is its result; so is
    an unexpected error, which is logged. Where the database does not answer at all, nothing is.
    """
    show = progress or _quietly
    results = []
    for check in checks:
        show(check.name, 0.0)
        results.append(_run(examination, check, show))
        show(check.name, 1.0)
    return folded(results)


def _run(examination: Examination, check: Check, show: Progress) -> Result:
    if check.needs and not examination.has(check.needs):
        why = _lacking(examination, check.needs)
        return Result(check=check, outcome=None, took=timedelta(0), skipped=why, is_not_given=True)
    began = time.perf_counter()
    outcome, failed = None, ""
    of_listener: list[Exception] = []

    def progress(done: float) -> None:
        try:
            show(check.name, done)
        except Exception as error:  # such as of a user who left
            of_listener.append(error)
            raise

    try:
        with examination.connection.begin_nested():  # what the database refuses ends this check only
            outcome = check.examine(replace(examination, progress=progress))
    except Exception as error:
        if error in of_listener or examination.connection.invalidated:
            raise
        show(check.name, 1.0)  # raises where a user left, which ends statements with various errors
        failed = _failure(check, error)
    took = timedelta(seconds=time.perf_counter() - began)
    if outcome is not None and outcome.skipped:
        return Result(check=check, outcome=None, took=took, skipped=outcome.skipped)
    return Result(check=check, outcome=outcome, took=took, failed=failed)


def _failure(check: Check, error: Exception) -> str:
    """Why a check failed, in words without the server's internals; raises the error of a database without an answer."""
    reason: Exception = error
    if isinstance(error, DBAPIError):
        reason = translated(error.orig, broken=error.connection_invalidated)
    match reason:
        case DatabaseUnavailable():
            raise error
        case StatementTimeout():
            return _TOO_LONG
        case NotExact() | QueryError() | PlugInError():
            return str(reason)
    _log.error("The check %s failed unexpectedly", check.name, exc_info=error)
    cause = error.orig if isinstance(error, DBAPIError) else error
    return f"an unexpected error, {type(cause).__name__}; its traceback is in the log"


MAX_UNSETTLED_SHARE = Decimal("0.001")
"""Events of the period that have not settled, per examined one, up to which it is compared with files."""


def waits(check: Check, later: Unexamined | None, events: int) -> Result | None:
    """The result of a check that would take the period's events for missing while too many have not settled.

    `later` are those that are not among the examined `events`. None where the check need not wait.
    """
    unsettled = later.events if later and later.settled_at else 0
    if later and not events:  # right after a load every invoice line would be too much
        # and the data would end before the period
        is_waiting = bool(check.needs) or (bool(unsettled) and check.name == silence.CHECK.name)
    else:  # lines of what was loaded last would be too much
        is_whole = check.name in (reconciliation.CHECK.name, control_totals.CHECK.name)
        is_waiting = is_whole and unsettled > MAX_UNSETTLED_SHARE * events
    if not is_waiting:
        return None
    arrived = f"{counted(unsettled, 'event')} of the period arrived within the settle time"
    why = arrived if events else "no event of the period is examined yet"
    return Result(check=check, outcome=None, took=timedelta(0), skipped=why)


def _lacking(examination: Examination, needed: str) -> str:
    """Why what a check needs is not there."""
    return (needed == "prices" and examination.inputs.no_prices) or f"{needed} was not given"


def _quietly(name: str, done: float) -> None:
    """Progress without a listener."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The checks to run, what they are given, and their bounds that differ from the defaults."""

    checks: tuple[Check, ...]
    inputs: Inputs
    bounds: Bounds = NO_BOUNDS

    @property
    def lacks_preferences(self) -> bool:
        """Whether a check could use preferred currencies, and none were given."""
        return self.inputs.preferences is None and any(
            check.name in ("currencies", "wallets", "unpriced", "reconciliation") for check in self.checks
        )

    @property
    def lacks_prices(self) -> bool:
        """Whether a check could use a price book, and none was given."""
        names = {check.name for check in self.checks}
        return self.inputs.prices is None and bool(names & {"unpriced", "reconciliation"})

    def preferring(self, currencies: Mapping[UUID | None, str]) -> Plan:
        """The plan with the preferred currencies of the directory of names; None is the organization. As is without."""
        if not currencies:
            return self
        return replace(self, inputs=replace(self.inputs, preferences=Preferences.of_directory(currencies)))

    def validation(
        self,
        connection: Connection,
        table: Table,
        period: Period,
        now: datetime,
        extracts: Extracts | None,
        app_url: str,
        progress: Progress | None,
        settle: timedelta | None,
        names_of: Callable[[Iterable[tuple[str, UUID]]], Names],
        signoffs: Sequence[SignOff] = (),
        is_one_of_several: bool = False,
    ) -> Validation:
        """The period, resolved and with its `as_of`, examined on the connection's snapshot.

        `settle` is the settle time that `as_of` follows from, None where it was given; `names_of` reads the directory.
        What arrived after the last of the period's `signoffs`, newest first, is what arrived after finalization, unless
        that was given, or the sign-off was made before the period was over. `is_one_of_several` says whether commands
        that findings advise must name the organization.
        """
        if any(check.needs == "invoices" for check in self.checks):  # with the files that they are read with
            self.inputs.check_currencies()
        examined, signed = period, signoffs[0] if signoffs else None
        end = period.as_of or now
        known = tuple(one for one in signoffs if period.span[1] <= one.as_of <= end)
        if signed and period.finalized_at is None and period.span[1] <= signed.as_of < (period.as_of or now):
            examined = period.replace(finalized_at=signed.as_of)
        examination = Examination(
            connection=connection,
            table=table,
            period=examined,
            signed=None if examined == period else signed,
            kept_signoffs=known,
            now=now,
            totals=Totals(events=0, metrics={}, costs={}),
            extracts=extracts,
            inputs=self.inputs,
            names_of=names_of,
            is_one_of_several=is_one_of_several,
        )
        statement = totals_statement(table, period)
        rows = list(examination.rows(statement))
        every = organization_period(period, *period.span)
        examination = replace(examination, exists_since=examination.paths.exists_since(every))
        if not examination.is_extracted(statement, rows):
            _log.warning(_EXTRACT_DIFFERS, period.organization_id)
            examination = replace(examination, extracts=None, shared={})
        examination = replace(examination, totals=totals(rows))
        later = unexamined(connection, table, period, settle)
        events = examination.totals.events
        given = [check for check in self.checks if not check.needs or examination.has(check.needs)]
        waiting = {check.name: result for check in given if (result := waits(check, later, events))}
        with in_force(self.bounds):
            judged = run(examination, (check for check in self.checks if check.name not in waiting), progress)
        by_name = {result.check.name: result for result in judged}
        results = [by_name.get(check.name) or waiting[check.name] for check in self.checks]
        return Validation(
            period=period,
            now=now,
            totals=examination.totals,
            unexamined=later,
            results=tuple(replace(result, bounds=self.bounds) for result in results),
            app_url=app_url,
            bounds=self.bounds,
            rows=self.inputs.rows,
        )
