"""The examination: connect read-only, run each check in a transaction of its own, go on after a failed one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    relation_name = table_name
    try:
        connection = timeouts.Connection.connect(
            **timeouts.parameters(url, _SETTINGS) | {"autocommit": True, "application_name": "usage-explore doctor"}
        )
    except psycopg.Error as error:
        return [server.unreachable(error)]
    connection.allow(statement_timeout)
    with connection:
        findings = [*server.version(connection), *server.timeouts(connection, statement_timeout)]
        connection.execute(
            "SELECT set_config('statement_timeout', %s, false)",
            [f"{max(int(statement_timeout.total_seconds() * 1000), 1)}ms"],
        )
        found = relation(connection, relation_name)
        if found is None:
            return [*findings, structure.missing(connection, relation_name)]
        findings.append(structure.present(found))
        fits = not misfits(found) and found.readable
        served = _Check("rollup", partial(rollup.rollup, zones=zones), fitting=True)
        for check in (*_CHECKS, served):
            if fits or not check.fitting:
                findings += _run(check, connection, found)
    return findings


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
