"""Runs all checks on a read-only connection; a failed check becomes a finding and the others go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import psycopg

from usage_explore.db import timeouts
from usage_explore.db.catalog import Relation, misfits, relation
from usage_explore.db.ddl import Connection
from usage_explore.doctor import performance, rollup, server, table
from usage_explore.doctor.finding import Finding

_SETTINGS = {"default_transaction_read_only": "on"}


@dataclass(frozen=True, slots=True)
class _Check:
    """A check of the table; with `fitting`, it runs only if every column fits and may be read."""

    name: str
    run: Callable[[Connection, Relation], list[Finding]]
    fitting: bool = False


_CHECKS = (
    _Check("permission", table.permission),
    _Check("columns", table.columns),
    _Check("storage", performance.storage),
    _Check("index", performance.indexes),
    _Check("statistics", performance.statistics),
    _Check("settings", performance.settings),
    _Check("organizations", table.organizations, fitting=True),
    _Check("contents", table.quality, fitting=True),
)


def examine(url: str, table_name: str, statement_timeout: timedelta, zones: Sequence[str] = ()) -> list[Finding]:
    """All findings about the database at `url` and its table or view, in the order of the checks.

    `zones` are IANA names of time zones whose days the rollup should serve. Nothing is written. Each statement is
    bounded by `statement_timeout`; a check that exceeds it says so.
    Raises `ConfigurationError` for an invalid table name.
    """
    try:
        connection, theirs = _connected(url, statement_timeout)
    except psycopg.Error as error:
        return [server.unreachable(error)]
    with connection:
        findings = [*server.version(connection), *server.timeouts(theirs, statement_timeout)]
        examined = relation(connection, table_name)
        if examined is None:
            return [*findings, table.missing(connection, table_name)]
        findings.append(table.present(examined))
        fits = not misfits(examined) and examined.readable
        served = _Check("rollup", partial(rollup.rollup, zones=zones), fitting=True)
        for check in (*_CHECKS, served):
            if fits or not check.fitting:
                findings += _run(check, connection, examined)
    return findings


def _connected(url: str, statement_timeout: timedelta) -> tuple[timeouts.Connection, dict[str, int | None]]:
    """A connection under our timeout, and the timeouts of the server or role that it replaces."""
    ours = {"statement_timeout": max(int(statement_timeout.total_seconds() * 1000), 1), "transaction_timeout": 0}
    theirs: dict[str, int | None] = {}
    connection = _connect(url, {}, statement_timeout)
    for name, value in ours.items():
        theirs[name] = server.own_timeout(connection, name)
        if theirs[name] == 0 and not connection.closed:
            connection.execute("SELECT set_config(%s, %s, false) WHERE %s > 0", [name, f"{value}ms", value])
            continue
        connection.close()
        given = ours if name == "transaction_timeout" else {name: value}  # no server before 17 knows the other
        connection = _connect(url, given, statement_timeout)
    return connection, theirs


def _connect(url: str, settings: Mapping[str, object], statement_timeout: timedelta) -> timeouts.Connection:
    parameters = timeouts.parameters(url, {**_SETTINGS, **settings})
    connection = timeouts.Connection.connect(
        **parameters | {"autocommit": True, "application_name": "usage-explore doctor"}
    )
    connection.allow(statement_timeout)
    return connection


def _run(check: _Check, connection: Connection, examined: Relation) -> list[Finding]:
    try:
        return check.run(connection, examined)
    except psycopg.errors.QueryCanceled:
        return [
            Finding(
                check.name,
                "warning",
                "not known: looking took longer than the statement timeout",
                "Give it more time: USAGE_EXPLORE_STATEMENT_TIMEOUT=600 usage-explore doctor",
            )
        ]
    except psycopg.Error as error:
        return [Finding(check.name, "fault", " ".join((error.diag.message_primary or str(error)).split()))]
