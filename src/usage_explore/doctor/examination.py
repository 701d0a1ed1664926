"""Runs all checks on a read-only connection: of the server and the extract, here, and of the events table.

A failed check becomes a finding and the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import psycopg

from usage_explore import config
from usage_explore.db import owners, timeouts
from usage_explore.db.catalog import Relation, misfits, relation
from usage_explore.db.ddl import Connection
from usage_explore.db.engine import translated, unparsed_style
from usage_explore.db.names import add_units, is_readable, lacks_units
from usage_explore.db.schema import events_table, names_table
from usage_explore.doctor import performance, table
from usage_explore.doctor.finding import Finding
from usage_explore.doctor.ownership import ownership
from usage_explore.extract import folder, visibility
from usage_explore.extract import manifest as manifests
from usage_explore.extract.manifest import Manifest
from usage_explore.pricing.table import prices_table
from usage_explore.sql.identifiers import literal, quoted

_SETTINGS = {"default_transaction_read_only": "on"}
_MIN_POSTGRESQL_VERSION = 15
_MIN_TRANSACTION_TIMEOUT_MS = 1_000
"""Transaction timeout below which most queries fail."""

_TOO_SHORT = "less time than it takes to read this setting"
_MIN_ROWS = 100_000
"""Events in the table below which an extract is not recommended."""

_MAX_AGE_HOURS = 3
_EXISTS = "SELECT to_regclass(%s) IS NOT NULL"
_PROCEDURE_EXISTS = (
    "SELECT EXISTS (SELECT FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace"
    " WHERE proname = %s AND n.nspname = %s)"
)
_RETENTION = (
    "SELECT config ->> 'drop_after'::text FROM timescaledb_information.jobs"
    " WHERE proc_name = 'policy_retention' AND hypertable_schema = %s AND hypertable_name = %s"
)


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
    names_table_name: str | None = None,
    home: Path | None = None,
) -> list[Finding]:
    """All findings about the database at `url` and its table or view, in the order of the checks.

    `home` is the folder of extracts, by default that of the settings. Nothing is written. Each statement is
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
        place = config.default_home() if home is None else home
        extract = _Check("extract", partial(_extract, url=url, home=place), fitting=True)
        others = (_Check("rollup", _old_rollup), _Check("retention", _retention))
        named = _Check("names", partial(_names, table_name=table_name, names_table_name=names_table_name))
        directory = names_table(names_table_name, events_table(table_name))
        owned = _Check("owners", partial(ownership, names=directory))
        for check in (*_CHECKS, extract, *others, named, _Check("prices", _prices), owned):
            if fits or not check.fitting:
                findings += _run(check, connection, examined)
    return findings


def _names(
    connection: Connection, examined: Relation, *, table_name: str, names_table_name: str | None
) -> list[Finding]:
    """A warning if the directory of names does not fit, has no units, or the named one is missing or unreadable."""
    directory = names_table(names_table_name, events_table(table_name))
    existing = relation(connection, directory.fullname)
    if existing is not None and lacks_units(connection, directory, existing):
        message = f"{directory.fullname} has no column unit, so quantities are shown without a unit"
        return [Finding("names", "warning", message, f"{add_units(directory).as_string()};")]
    if is_readable(connection, directory) or (names_table_name is None and not (existing and existing.readable)):
        return []
    if existing is None:
        message, fix = "does not exist", "run `usage-explore init`, or correct --names-table"
    elif owners.refusal(connection, directory.info["events"], directory, reading=True):
        return []  # `ownership` names it
    elif not existing.readable:
        message, fix = "may not be read", f"GRANT SELECT ON {existing.sql_name} TO CURRENT_USER;"
    else:
        message = "has other columns"
        fix = "Make a view with organization_id, id (uuid), kind, external_id, name, preferred_currency (text)."
    return [Finding("names", "warning", f"{directory.fullname} {message}, so ids are shown without names", fix)]


def _prices(connection: Connection, examined: Relation) -> list[Finding]:
    """A note if the role may not read the price book beside the events, which only ratings need."""
    existing = relation(connection, prices_table(examined.schema).fullname)
    if existing is None or existing.readable:
        return []
    message = f"{existing.sql_name} may not be read: ratings by its prices need GRANT SELECT on it"
    return [Finding("prices", "ok", message)]


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
    except NotImplementedError as error:
        return [Finding(check.name, "fault", str(unparsed_style(error)))]


def _unreachable(error: psycopg.Error) -> Finding:
    """The finding for a connection that could not be made."""
    words = str(translated(error, broken=True))
    fix = "Check the address, the password and that the server runs: --database-url or USAGE_EXPLORE_DATABASE_URL."
    if "unsupported startup parameter" in words:
        fix = (
            "The pooler refuses connection options: add `ignore_startup_parameters = options` to pgbouncer.ini,"
            " or go round it."
        )
    return Finding("server", "fault", words[0].lower() + words[1:], fix)


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


def _extract(connection: Connection, examined: Relation, *, url: str, home: Path) -> list[Finding]:
    """Findings that make aggregates faster; results are the same without an extract."""
    source = folder.source(connection, url, events_table(f"{examined.schema}.{examined.name}"))
    places: list[Path] = []
    with suppress(OSError):  # a name that no folder can have
        places = sorted((home / "extract" / source.name).glob("*/"))
    held = [(place, manifest) for place in places if (manifest := manifests.read(place))]
    unreadable = [
        Finding("extract", "warning", f"of organization {place.name}: {words}", "usage-explore extract")
        for place in places
        for words in manifests.unreadable(place)
    ]
    unreadable += [
        Finding("extract", "warning", f"of organization {manifest.organization_id}: {manifest.removed_words}")
        for _, manifest in held
        if manifest.removed_before is not None and not manifest.removed_rows
    ]
    if not held and not unreadable:
        if examined.rows < _MIN_ROWS:
            return [Finding("extract", "ok", "none, and so few events need none")]
        return [Finding("extract", "warning", "none, so aggregates read the events", "usage-explore extract")]
    return [*unreadable, *(_state(connection, place, manifest, examined) for place, manifest in held)]


def _state(connection: Connection, place: Path, manifest: Manifest, examined: Relation) -> Finding:
    owner = f"of organization {manifest.organization_id}"
    if manifest.unfit:
        return Finding("extract", "warning", f"{owner}: queries read the events, because {manifest.unfit}")
    if manifest.relation != examined.oid:
        return Finding("extract", "warning", f"{owner}: the table was created anew since", "usage-explore extract")
    if manifest.fingerprint != visibility.fingerprint(connection, examined.oid):
        return Finding(
            "extract",
            "warning",
            f"{owner}: its definition or row-level security was changed since",
            "usage-explore extract",
        )
    if names := folder.damaged(place, manifest):
        return Finding(
            "extract", "warning", f"{owner}: damaged or missing: {', '.join(names)}", "usage-explore extract"
        )
    if manifest.watermark is None:
        return Finding("extract", "warning", f"{owner}: not built yet", "usage-explore extract")
    row = connection.execute("SELECT now()").fetchone()
    reached = manifests.instant(manifest.watermark)
    hours = (row[0] - reached) // timedelta(hours=1) if row else 0
    if hours > _MAX_AGE_HOURS:
        return Finding(
            "extract",
            "warning",
            f"{owner}: ends {hours:,} hours ago; what came since is read from the events",
            "usage-explore extract --every 5m",
        )
    size = f"{manifest.bytes / 2**20:,.0f} MiB"
    return Finding("extract", "ok", f"{owner}: {manifest.rows:,} events up to {reached:%Y-%m-%d %H:%M} UTC, {size}")


def _old_rollup(connection: Connection, examined: Relation) -> list[Finding]:
    """A warning with the statements that remove what version 0.1.0 kept in the database."""
    names = [quoted(f"{examined.name}{ending}", examined.schema) for ending in ("_rollup", "_rollup_kept")]
    found = [name for name in names if (row := connection.execute(_EXISTS, [name]).fetchone()) and row[0]]
    procedure = f"{examined.name}_rollup_refresh"
    row = connection.execute(_PROCEDURE_EXISTS, [procedure, examined.schema]).fetchone()
    if not found and not (row and row[0]):
        return []
    fix = [f"DROP TABLE {name};" for name in found]
    if row and row[0]:
        fix = [
            f"SELECT delete_job(job_id) FROM timescaledb_information.jobs WHERE proc_name = {literal(procedure)};",  # noqa: S608 - to be read
            f"DROP PROCEDURE {quoted(procedure, examined.schema)} (integer, jsonb);",
            *fix,
        ]
    return [Finding("rollup", "warning", "tables of version 0.1.0, which nothing reads any more", "\n".join(fix))]


def _retention(connection: Connection, examined: Relation) -> list[Finding]:
    """The retention policy of TimescaleDB that removes old events."""
    try:
        with connection.transaction():
            row = connection.execute(_RETENTION, [examined.schema, examined.name]).fetchone()
    except psycopg.Error:
        return []  # there is no TimescaleDB
    if row is None:
        return []
    return [
        Finding(
            "retention",
            "ok",
            f"a policy removes events that are older than {row[0]}; windows before that count what is left",
        )
    ]
