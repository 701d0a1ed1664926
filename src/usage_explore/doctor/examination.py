"""Runs all checks on a read-only connection: of the server and the rollup, here, and of the events table.

A failed check becomes a finding and the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfo

import psycopg

from usage_explore.db import timeouts
from usage_explore.db.catalog import Relation, misfits, relation
from usage_explore.db.ddl import Connection
from usage_explore.db.names import is_readable
from usage_explore.db.schema import events_table, names_table
from usage_explore.doctor import performance, table
from usage_explore.doctor.finding import Finding
from usage_explore.query import buckets
from usage_explore.rollup import catalog, refresh_run
from usage_explore.rollup.catalog import Entry
from usage_explore.sql.identifiers import quoted
from usage_explore.sql.rollup_plan import DAY, GRAINS, HOUR, KEYS, floor, kept_table, rollup_table, span

_SETTINGS = {"default_transaction_read_only": "on"}
_MIN_POSTGRESQL_VERSION = 15
_MIN_TRANSACTION_TIMEOUT_MS = 1_000
"""Transaction timeout below which most queries fail."""

_TOO_SHORT = "less time than it takes to read this setting"
_MIN_ROWS = 100_000
"""Events in the table below which a rollup is not recommended."""

_MAX_AGE_HOURS = 3
_YEAR = timedelta(days=365)
_GRAIN_NAMES = {DAY: "day", HOUR: "hour", GRAINS[0]: "15m"}
_READABLE = "SELECT has_table_privilege(to_regclass(%s), 'SELECT') AND has_table_privilege(to_regclass(%s), 'SELECT')"


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


def examine(
    url: str,
    table_name: str,
    statement_timeout: timedelta,
    zones: Sequence[str] = (),
    names_table_name: str | None = None,
) -> list[Finding]:
    """All findings about the database at `url` and its table or view, in the order of the checks.

    `zones` are IANA names of time zones whose days the rollup should serve. Nothing is written. Each statement is
    bounded by `statement_timeout`; a check that exceeds it says so.
    Raises `ConfigurationError` for an invalid table name.
    """
    try:
        connection, theirs = _connected(url, statement_timeout)
    except psycopg.Error as error:
        return [_unreachable(error)]
    with connection:
        findings = [*_version(connection), *_timeout_findings(theirs, statement_timeout)]
        examined = relation(connection, table_name)
        if examined is None:
            return [*findings, table.missing(connection, table_name)]
        findings.append(table.present(examined))
        fits = not misfits(examined) and examined.readable
        served = _Check("rollup", partial(_rollup, zones=zones), fitting=True)
        named = _Check("names", partial(_names, table_name=table_name, names_table_name=names_table_name))
        for check in (*_CHECKS, served, named):
            if fits or not check.fitting:
                findings += _run(check, connection, examined)
    return findings


def _names(
    connection: Connection, examined: Relation, *, table_name: str, names_table_name: str | None
) -> list[Finding]:
    """A warning if the directory of names does not fit, or the one that is named may not be read or is missing."""
    directory = names_table(names_table_name, events_table(table_name))
    existing = relation(connection, directory.fullname)
    if is_readable(connection, directory) or (names_table_name is None and not (existing and existing.readable)):
        return []
    if existing is None:
        message, fix = "does not exist", "run `usage-explore init`, or correct --names-table"
    elif not existing.readable:
        message, fix = "may not be read", f"GRANT SELECT ON {existing.sql_name} TO CURRENT_USER;"
    else:
        message = "has other columns"
        fix = "Make a view with organization_id, id (uuid), kind, external_id, name, preferred_currency (text)."
    return [Finding("names", "warning", f"{directory.fullname} {message}, so ids are shown without names", fix)]


def _connected(url: str, statement_timeout: timedelta) -> tuple[timeouts.Connection, dict[str, int | None]]:
    """A connection under our timeout, and the timeouts of the server or role that it replaces."""
    ours = {"statement_timeout": max(int(statement_timeout.total_seconds() * 1000), 1), "transaction_timeout": 0}
    theirs: dict[str, int | None] = {}
    connection = _connect(url, {}, statement_timeout)
    for name, value in ours.items():
        theirs[name] = _own_timeout(connection, name)
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


def _unreachable(error: psycopg.Error) -> Finding:
    """The finding for a connection that could not be made."""
    words = " ".join(str(error).split())
    fix = "Check the address, the password and that the server runs: --database-url or USAGE_EXPLORE_DATABASE_URL."
    if "unsupported startup parameter" in words:
        fix = (
            "The pooler refuses connection options: add `ignore_startup_parameters = options` to pgbouncer.ini,"
            " or go round it."
        )
    return Finding("server", "fault", f"does not answer: {words}", fix)


def _version(connection: Connection) -> list[Finding]:
    """Version, encoding, and whether the server is a replica, which works too."""
    row = connection.execute(
        "SELECT current_setting('server_version'), current_setting('server_encoding'), pg_is_in_recovery()"
    ).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    number, encoding, replica = row
    said = f"PostgreSQL {number}{', a read-only replica (which serves as well)' if replica else ''}"
    findings = [Finding("server", "ok", said)]
    if connection.info.server_version < _MIN_POSTGRESQL_VERSION * 10_000:
        findings = [
            Finding("server", "fault", f"{said} is too old", f"Use PostgreSQL {_MIN_POSTGRESQL_VERSION} or newer."),
        ]
    if encoding != "UTF8":
        findings.append(
            Finding(
                "encoding",
                "fault",
                f"the database's encoding is {encoding}, so not every text can be asked for",
                "Dump it and restore it into a database made with ENCODING 'UTF8'.",
            )
        )
    return findings


def _own_timeout(connection: Connection, name: str) -> int | None:
    """The timeout that the server or the role sets, in ms, 0 for none; None if it is too short to be read."""
    try:
        row = connection.execute("SELECT setting::int FROM pg_settings WHERE name = %s", [name]).fetchone()
    except psycopg.errors.QueryCanceled:
        return None if name == "statement_timeout" else 0
    except psycopg.errors.TransactionTimeout:
        return None if name == "transaction_timeout" else 0
    return row[0] if row else 0


def _timeout_findings(theirs: Mapping[str, int | None], ours: timedelta) -> list[Finding]:
    """The timeouts that the server or the role sets, in ms (None if too short to be read), beside ours."""
    ours_ms = round(ours.total_seconds() * 1000)
    statement, transaction = theirs["statement_timeout"], theirs["transaction_timeout"]
    if statement is None or 0 < statement < ours_ms:
        allowed = _TOO_SHORT if statement is None else f"{statement / 1000:g} s"
        fix = f"To keep to the database's: USAGE_EXPLORE_STATEMENT_TIMEOUT={statement / 1000:g}" if statement else ""
        said = f"the database allows a statement {allowed}, ours of {ours_ms / 1000:g} s takes its place"
        findings = [Finding("time-out", "warning", said, fix)]
    else:
        findings = [Finding("time-out", "ok", f"each statement is cancelled after {ours_ms / 1000:g} s")]
    fix = "Give the role more: ALTER ROLE … SET transaction_timeout = 0;"
    if transaction is None or 0 < transaction < _MIN_TRANSACTION_TIMEOUT_MS:
        is_ = _TOO_SHORT if transaction is None else f"{transaction / 1000:g} s"
        said = f"transaction_timeout is {is_}: every query reads in a transaction, and most end with an error"
        findings.append(Finding("time-out", "fault", said, fix))
    elif transaction:
        said = f"transaction_timeout is {transaction / 1000:g} s; an export reads in one transaction and ends then"
        findings.append(Finding("time-out", "warning", said, f"For large exports: {fix}"))
    return findings


def _rollup(connection: Connection, relation: Relation, zones: Sequence[str] = ()) -> list[Finding]:
    """Findings that make aggregates faster; results are the same without a rollup. `zones` are IANA names."""
    events = events_table(f"{relation.schema}.{relation.name}")
    if not catalog.exists(connection, events):
        if relation.rows < _MIN_ROWS:
            return [Finding("rollup", "ok", "none, and so few events need none")]
        return [Finding("rollup", "warning", "none, so aggregates read the events", "usage-explore rollup")]
    names = [quoted(stored.name, relation.schema) for stored in (rollup_table(events), kept_table(events))]
    row = connection.execute(_READABLE, names).fetchone()
    if not (row and row[0]):
        fix = f"GRANT SELECT ON {', '.join(names)} TO …;"
        return [Finding("rollup", "warning", "this role may not read it, so aggregates read the events", fix)]
    kept = [entry for entry in catalog.entries(connection, events) if entry.grain is not None]
    return [_freshness(connection, kept), *(finding for zone in zones for finding in _zone(kept, zone))]


def _freshness(connection: Connection, kept: Sequence[Entry]) -> Finding:
    if not kept:
        return Finding("rollup", "ok", "there, and so few events need none")
    marks = [entry.watermark for entry in kept if entry.watermark]
    if len(marks) < len(kept):
        return Finding("rollup", "warning", "not built to the end", "usage-explore rollup")
    oldest = min(marks)
    hours = (refresh_run.now(connection) - oldest) // HOUR
    if hours > _MAX_AGE_HOURS:
        return Finding(
            "rollup",
            "warning",
            f"it ends {hours:,} hours ago; what came since is read from the events",
            "usage-explore rollup --every 5m",
        )
    return Finding("rollup", "ok", f"{len(kept):,} dimensions are kept up to {oldest:%Y-%m-%d %H:%M} UTC")


def _zone(kept: Sequence[Entry], zone: str) -> list[Finding]:
    """The dimensions whose slots are too large for days in the zone, and the slot that fits."""
    grain = _serving(ZoneInfo(zone))
    if grain is None:
        return [Finding("rollup", "warning", f"no slot fits the days of {zone}; they are read from the events")]
    coarse = sorted({entry.dimension for entry in kept if entry.dimension != KEYS and (entry.grain or DAY) > grain})
    if not coarse:
        return [Finding("rollup", "ok", f"serves days in {zone}")]
    return [
        Finding(
            "rollup",
            "warning",
            f"days in {zone} need slots of {span(grain)}; {', '.join(coarse)} are kept in larger ones, so they are read"
            " from the events",
            "usage-explore rollup " + " ".join(f"--keep {dimension}={_GRAIN_NAMES[grain]}" for dimension in coarse),
        )
    ]


def _serving(zone: ZoneInfo) -> timedelta | None:
    """The largest slot that no day of the zone cuts, within a year of now; None if none fits."""
    now = datetime.now(zone)
    edges = buckets.edges(now - _YEAR, now + _YEAR, "day", zone)
    fitting = (grain for grain in reversed(GRAINS) if all(floor(edge, grain) == edge for edge in edges))
    return next(fitting, None)
