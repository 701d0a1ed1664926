"""The examination: connect read-only, run each check in a transaction of its own, go on after a failed one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import psycopg

from usage_explore.db import timeouts
from usage_explore.db.catalog import Relation, misfits, relation
from usage_explore.doctor import contents, rollup, server, speed, storage, structure
from usage_explore.doctor.finding import Connection, Finding

_SETTINGS = {"default_transaction_read_only": "on"}


@dataclass(frozen=True, slots=True)
class _Check:
    """A check of the table; `fitting` ones are run only when every column fits and may be read."""

    name: str
    run: Callable[[Connection, Relation], list[Finding]]
    fitting: bool = False


_CHECKS = (
    _Check("permission", structure.permission),
    _Check("columns", structure.columns),
    _Check("storage", storage.storage),
    _Check("index", speed.indexes),
    _Check("statistics", speed.statistics),
    _Check("settings", speed.settings),
    _Check("organizations", contents.organizations, fitting=True),
    _Check("contents", contents.quality, fitting=True),
)


def examine(url: str, table_name: str, statement_timeout: timedelta, zones: Sequence[str] = ()) -> list[Finding]:
    """Everything there is to say about the database at `url` and its table or view, in the order of reading.

    `zones` are IANA names of time zones that the rollup shall serve. Nothing is written. Each statement is bounded by
    `statement_timeout`; a check that runs out of time says so.
    Raises `ConfigurationError` for a table name that cannot be one.
    """
    try:
        connection, theirs = _connected(url, statement_timeout)
    except psycopg.Error as error:
        return [server.unreachable(error)]
    with connection:
        findings = [*server.version(connection), *server.timeouts(theirs, statement_timeout)]
        found = relation(connection, table_name)
        if found is None:
            return [*findings, structure.missing(connection, table_name)]
        findings.append(structure.present(found))
        fits = not misfits(found) and found.readable
        served = _Check("rollup", partial(rollup.rollup, zones=zones), fitting=True)
        for check in (*_CHECKS, served):
            if fits or not check.fitting:
                findings += _run(check, connection, found)
    return findings


def _connected(url: str, statement_timeout: timedelta) -> tuple[timeouts.Connection, dict[str, int | None]]:
    """A connection under our time-out, and the server's or role's own, which it replaces: see `server.own_timeout`."""
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


def _run(check: _Check, connection: Connection, found: Relation) -> list[Finding]:
    try:
        return check.run(connection, found)
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
