"""Append missing demo events to an events table, day by day, and record them in a ledger of two tables.

The ledger has a row for each day and one for each planted incident, with the name of the events table in a column. Its
tables are in the connection's default schema. They are written in the transaction that adds the events, so that an
interrupted process leaves whole days and a correct ledger.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import class_row
from sqlalchemy import MetaData, Table

from usage_explore.console import progress_bar
from usage_explore.db import catalog, ddl, owners
from usage_explore.db import demo_fill as fill
from usage_explore.db.ddl import Connection
from usage_explore.db.names import remember
from usage_explore.db.schema import COLUMNS, names_table
from usage_explore.demo.business import ORGANIZATIONS, TENANTS, metric_units, name_entries
from usage_explore.demo.events import EVENTS_PER_DAY, copy_lines
from usage_explore.demo.planted_incidents import MAIN, Incident, complete_at, planted, whole_day
from usage_explore.errors import ConfigurationError, DatabaseUnavailable, TableMismatch
from usage_explore.extract import changes
from usage_explore.sql.identifiers import identifier

DEFAULT_SEED = 1

DEFAULT_DAYS = 92
"""Days of a new demo before the day it is loaded until. On every day of a month they hold the whole month before it and
30 days of history for its checks, two cycles of incidents, and the 30 days before the last 30."""

_MIN_UNTIL, _MAX_UNTIL = datetime(1971, 1, 1, tzinfo=UTC), datetime(2199, 1, 1, tzinfo=UTC)

_DAYS_TABLE = "usage_explore_demo"
_INCIDENTS_TABLE = "usage_explore_demo_incidents"
_CREATE_LEDGER = """
CREATE TABLE IF NOT EXISTS usage_explore_demo (
    events_table text NOT NULL,
    day date NOT NULL,
    seed bigint NOT NULL,
    per_day integer NOT NULL,
    loaded_until timestamptz NOT NULL,
    events bigint NOT NULL,
    PRIMARY KEY (events_table, day)
);
CREATE TABLE IF NOT EXISTS usage_explore_demo_incidents (
    events_table text NOT NULL,
    kind text NOT NULL,
    day date NOT NULL,
    organization_id uuid NOT NULL,
    customer_id uuid,
    metric_key text,
    starts timestamptz NOT NULL,
    ends timestamptz NOT NULL,
    events bigint NOT NULL,
    sentence text NOT NULL,
    PRIMARY KEY (events_table, kind, day)
);
"""


@dataclass(frozen=True, kw_only=True)
class DemoReport:
    """The result of `append`: it added `events` events to `days` days; the demo's first day is `first_day`.

    `until` is the instant up to which the demo is loaded, which is later than the argument where the database had more.
    `str()` is one sentence.
    """

    events: int
    days: int
    first_day: date
    until: datetime

    def __str__(self) -> str:
        reach = f"{self.first_day} to {self.until:%Y-%m-%d %H:%M} UTC"
        if not self.events:
            return f"Nothing to append: the demo is loaded from {reach}."
        return f"Appended {self.events:,} demo events to {self.days} days; the demo is loaded from {reach}."


@dataclass(frozen=True, kw_only=True)
class _Demo:
    """The demo of one events table: the table, its name in the ledger, seed, events per day, extracts' folder."""

    table: Table
    key: str
    seed: int
    per_day: int
    home: Path | None = None

    @property
    def name(self) -> sql.Identifier:
        return identifier(self.table)


@contextmanager
def _mapped_errors() -> Iterator[None]:
    """Raise the database's errors as the project's own."""
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise TableMismatch(
            f"table: this role may not write here ({error.diag.message_primary}); use the role that owns the table"
        ) from error
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(
            f"The connection to the database broke: {' '.join(str(error).split())}; "
            "finished days are kept; run it again"
        ) from error


@_mapped_errors()
def append(
    connection: Connection,
    table: Table,
    *,
    seed: int | None = None,
    until: datetime | None = None,
    days: int = DEFAULT_DAYS,
    progress: bool = False,
    force: bool = False,
    per_day: int | None = None,
    names: Table | None = None,
    home: Path | None = None,
) -> DemoReport:
    """Append the demo events with an `ingested_at` up to `until` (default: the database's clock) that are missing.

    The first run begins `days` whole days (1 to 3,660) before the day of `until` in UTC; later runs continue from there
    and ignore `days`. Running up to s and then up to t leaves the same rows as running up to t at once; an `until`
    before the end of what is loaded adds nothing. `seed` and `per_day`, the events of an average day, are by default
    those of the demo in the table, else `DEFAULT_SEED` and `EVENTS_PER_DAY`. The names of organizations, customers and
    products are written to `names`, by default `usage_names` beside the table, if it exists. `home` is the folder whose
    extracts are to know of what is added behind their watermark.

    Each day of a first run is one transaction. A later run is one transaction as a whole, so that a link that is pinned
    meanwhile shows either none of its rows or all. The connection is committed.

    Raises `TableMismatch` when the table is missing or cannot be written; `ConfigurationError` for a time without an
    offset, for another seed or size than the demo in the table has, and, without `force`, for a table with other
    organizations' events but no demo; `DatabaseUnavailable` when the connection breaks.
    """
    _check(seed, until, days, per_day)
    connection.commit()
    with connection.transaction():
        now = _value(connection, sql.SQL("SELECT clock_timestamp()"))
        reach = (until or now).astimezone(UTC)
        key = _key(connection, table)
        _create_ledger(connection)
        _lock_ledger(connection, table)
        stored = _stored_demo(connection, table, key, force=force)
        demo = _Demo(
            table=catalog.placed(connection, table),
            key=key,
            seed=_chosen("seed", seed, stored and stored[0], DEFAULT_SEED),
            per_day=_chosen("per_day", per_day, stored and stored[1], EVENTS_PER_DAY),
            home=home,
        )
        before = _loaded(connection, demo.key)
        _write_names(connection, names_table(None, table) if names is None else names)
    first = min(before, default=reach.date() - timedelta(days=days))
    missing = [day for day in _span(first, reach) if _is_missing(before.get(day), day, reach)]
    added: dict[date, int] = {}
    bar = progress_bar("Demo data", "days", shown=progress and bool(missing))
    with connection.transaction() if before else nullcontext(), bar as show:
        for day in missing:
            with connection.transaction():
                fill.announce(connection, len(added), len(missing), first=not before)
                _lock_ledger(connection, table)
                added[day] = _append_day(connection, demo, day, reach)
            show(len(added), len(missing))
    if any(added.values()):
        _vacuum(connection, demo)
    return DemoReport(
        events=sum(added.values()),
        days=sum(count > 0 for count in added.values()),
        first_day=first,
        until=max(reach, *before.values()) if before else reach,
    )


@_mapped_errors()
def create(
    connection: Connection,
    table: Table,
    *,
    seed: int | None = None,
    until: datetime | None = None,
    days: int = DEFAULT_DAYS,
    progress: bool = False,
    per_day: int | None = None,
    names: Table | None = None,
) -> DemoReport | None:
    """Create the events table with the demo in it, the same as `append` makes; None if there is a table already.

    One transaction: other sessions see the table when the whole demo is in it, and an interrupted run leaves nothing.
    The indexes are created after the rows. Arguments and errors are those of `append`.
    """
    _check(seed, until, days, per_day)
    connection.commit()
    reports: list[DemoReport] = []

    def insert(frozen: bool) -> None:
        now = _value(connection, sql.SQL("SELECT clock_timestamp()"))
        reach = (until or now).astimezone(UTC)
        demo = _Demo(
            table=catalog.placed(connection, table),
            key=_key(connection, table),
            seed=DEFAULT_SEED if seed is None else seed,
            per_day=EVENTS_PER_DAY if per_day is None else per_day,
        )
        _create_ledger(connection)
        _lock_ledger(connection, table)
        _forget(connection, demo.key)
        first = reach.date() - timedelta(days=days)
        span = _span(first, reach)
        events = 0
        with progress_bar("Demo data", "days", shown=progress) as show:
            for number, day in enumerate(span):
                fill.announce(connection, number, len(span), first=True)
                events += _append_day(connection, demo, day, reach, frozen=frozen)
                show(number + 1, len(span))
        fill.announce(connection, len(span), len(span), first=True)
        reports.append(DemoReport(events=events, days=len(span), first_day=first, until=reach))

    with connection.transaction():
        names_name = None if names is None else names.fullname
        if ddl.ensure_schema(connection, table.fullname, names_table_name=names_name, fill=insert):
            _write_names(connection, names_table(None, table) if names is None else names)
            connection.execute(sql.SQL("ANALYZE {}").format(identifier(table)))
    return reports[0] if reports else None


def _write_names(connection: Connection, names: Table) -> None:
    for tenant, organization in enumerate(TENANTS):
        remember(connection, names, organization.id, name_entries(tenant))
        remember(connection, names, organization.id, metric_units())


def incidents(connection: Connection) -> list[Incident]:
    """The incidents planted in this database's demo data, oldest first; empty without a demo."""
    with connection.cursor() as cursor:
        (exists,) = cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [_INCIDENTS_TABLE]).fetchone() or (False,)
    if not exists:
        return []
    with connection.cursor(row_factory=class_row(Incident)) as cursor:
        cursor.execute(
            "SELECT kind, day, organization_id, customer_id, metric_key, starts, ends, events, sentence"
            " FROM usage_explore_demo_incidents ORDER BY starts, kind, events_table"
        )
        return cursor.fetchall()


def started(connection: Connection, table: Table) -> bool:
    """Whether the events table has a demo, complete or not, that `append` would continue."""
    name = sql.Literal(_DAYS_TABLE)
    if _value(connection, sql.SQL("SELECT to_regclass({}) IS NULL").format(name)):
        return False
    return _made_with(connection, _key(connection, table)) is not None


def _check(seed: int | None, until: datetime | None, days: int, per_day: int | None) -> None:
    if seed is not None and not 0 <= seed < 2**63:
        raise ConfigurationError(f"seed: {seed} is not between 0 and 2**63 - 1")
    if not 1 <= days <= 3660:
        raise ConfigurationError(f"days: {days} is not between 1 and 3660")
    if per_day is not None and not 1 <= per_day <= 1_000_000:
        raise ConfigurationError(f"per_day: {per_day} is not between 1 and 1,000,000")
    if until is None:
        return
    if until.tzinfo is None:
        raise ConfigurationError(f"until: {until.isoformat()} has no offset; write it as {until.isoformat()}Z")
    if not _MIN_UNTIL <= until <= _MAX_UNTIL:
        raise ConfigurationError(f"until: {until.isoformat()} is not between {_MIN_UNTIL:%Y} and {_MAX_UNTIL:%Y}")


def _stored_demo(connection: Connection, table: Table, key: str, *, force: bool) -> tuple[int, int] | None:
    """(seed, per_day) of the demo in the table; None for a table without one.

    The ledger of a demo whose table was emptied is deleted. Raises `ConfigurationError` for demo events without a
    ledger, and, without `force`, for other organizations' events without a demo.
    """
    stored = _made_with(connection, key)
    has_demo_events = _has_any(connection, table, _demo_organizations())
    if stored and not has_demo_events:
        _forget(connection, key)
        stored = None
    if has_demo_events and not stored:
        raise ConfigurationError(
            f"table: {key} holds demo events that {_DAYS_TABLE} does not record, so the missing ones are"
            " unknown; use a database of its own for the demo"
        )
    if not stored and not force and _has_any(connection, table, _other_organizations()):
        raise ConfigurationError(
            f"table: {key} holds events of organizations that are not the demo's; use a database of its own for the"
            " demo, or mix them with --force (force=True)"
        )
    return stored


def _chosen(parameter: str, given: int | None, stored: int | None, default: int) -> int:
    if given is not None and stored is not None and given != stored:
        raise ConfigurationError(
            f"{parameter}: the demo in this table was made with {stored}, not {given}; continue it, or use a database"
            " of its own"
        )
    return next(value for value in (given, stored, default) if value is not None)


def _is_missing(loaded_until: datetime | None, day: date, until: datetime) -> bool:
    return loaded_until is None or loaded_until < min(until, complete_at(day))


def _span(first: date, reach: datetime) -> list[date]:
    return [first + timedelta(days=number) for number in range((reach.date() - first).days + 1)]


def _append_day(connection: Connection, demo: _Demo, day: date, until: datetime, *, frozen: bool = False) -> int:
    """Append the day's events that have arrived since the last run; returns their number.

    `frozen` is for a table that was created in the same transaction. Belongs into a transaction that locks the ledger.
    """
    since = _loaded(connection, demo.key).get(day)
    if not _is_missing(since, day, until):
        return 0
    seen = -1 if since is None else _microseconds(since)
    added = total = 0
    columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
    copy_in = sql.SQL("COPY {} ({}) FROM STDIN{}").format(
        demo.name, columns, sql.SQL(" WITH (FREEZE)" if frozen else "")
    )
    for tenant in range(len(TENANTS)):
        rows = whole_day(demo.seed, day, tenant, demo.per_day)
        rows = rows[rows["ingested_at"] <= _microseconds(until)]
        fresh = rows[rows["ingested_at"] > seen]
        if len(fresh):
            with connection.cursor() as cursor, cursor.copy(copy_in) as copy:
                copy.write("".join(copy_lines(fresh, tenant)))
            if demo.home is not None:  # events that arrived between two runs may be before an extract's watermark
                times = _instant(fresh["ingested_at"].min()), _instant(fresh["ingested_at"].max())
                changes.announce(connection, demo.table, demo.home, {TENANTS[tenant].id: times})
        if tenant == MAIN:
            for incident in planted(demo.seed, day, rows, until):
                _record_incident(connection, demo.key, incident)
        added += len(fresh)
        total += len(rows)
    record_day(connection, demo.key, day, seed=demo.seed, per_day=demo.per_day, until=until, events=total)
    return added


def _microseconds(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _instant(microseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(microseconds))


def _key(connection: Connection, table: Table) -> str:
    """The table's name with its schema."""
    name = identifier(table).as_string(connection)
    key = _value(
        connection,
        sql.SQL(
            "SELECT n.nspname::text || '.'::text || c.relname::text"
            " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.oid = to_regclass({})::oid"
        ).format(sql.Literal(name)),
    )
    if key is None:
        raise TableMismatch(f"table: {table.fullname} does not exist; run `usage-explore init`")
    return str(key)


def _has_any(connection: Connection, table: Table, tests: Iterable[sql.Composed]) -> bool:
    """Whether the events table has a row that satisfies one of the conditions, by an index."""
    name = identifier(table)
    exists = [sql.SQL("EXISTS (SELECT 1 FROM {} WHERE {})").format(name, test) for test in tests]
    return bool(_value(connection, sql.SQL("SELECT {}").format(sql.SQL(" OR ").join(exists))))


def _demo_organizations() -> list[sql.Composed]:
    return [sql.SQL("organization_id = {}").format(sql.Literal(organization_id)) for organization_id in ORGANIZATIONS]


def _other_organizations() -> list[sql.Composed]:
    """Conditions for the ids before, between and after the demo's organizations."""
    edges = sorted(ORGANIZATIONS)
    return [
        sql.SQL("organization_id < {}").format(sql.Literal(edges[0])),
        *(
            sql.SQL("organization_id > {} AND organization_id < {}").format(sql.Literal(low), sql.Literal(high))
            for low, high in itertools.pairwise(edges)
        ),
        sql.SQL("organization_id > {}").format(sql.Literal(edges[-1])),
    ]


def _value(connection: Connection, statement: sql.SQL | sql.Composed) -> Any:
    row = connection.execute(statement).fetchone()
    return row[0] if row else None


def _vacuum(connection: Connection, demo: _Demo) -> None:
    """Update the planner's statistics and the visibility map, for index-only scans."""
    connection.autocommit = True
    try:
        connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(demo.name))
    finally:
        connection.autocommit = False


def _create_ledger(connection: Connection) -> None:
    """Create both tables where missing; concurrent calls wait for each other."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtext('usage-explore demo')::bigint)")
    connection.execute(_CREATE_LEDGER)


def _lock_ledger(connection: Connection, events: Table) -> None:
    """Let other demos wait until the transaction ends; readers do not wait.

    Raises `TableMismatch` if the events or the ledger have code of a role that is not to get this one's rights.
    """
    connection.execute("LOCK TABLE usage_explore_demo IN SHARE ROW EXCLUSIVE MODE")
    for table in (events, Table(_DAYS_TABLE, MetaData()), Table(_INCIDENTS_TABLE, MetaData())):
        if why := owners.refusal(connection, events, table):
            raise TableMismatch(f"demo: {why}")


def _loaded(connection: Connection, events_table: str) -> dict[date, datetime]:
    """Day -> the instant up to which its arrivals are in the events table."""
    rows = connection.execute(
        "SELECT day, loaded_until FROM usage_explore_demo WHERE events_table = %s", [events_table]
    )
    return dict(rows)


def _made_with(connection: Connection, events_table: str) -> tuple[int, int] | None:
    """(seed, per_day) of the demo in the events table; None without a demo."""
    row = connection.execute(
        "SELECT seed, per_day FROM usage_explore_demo WHERE events_table = %s LIMIT 1", [events_table]
    ).fetchone()
    return None if row is None else (row[0], row[1])


def _forget(connection: Connection, events_table: str) -> None:
    """Delete the rows of an events table that was emptied or recreated."""
    for table in (_DAYS_TABLE, _INCIDENTS_TABLE):
        connection.execute(
            sql.SQL("DELETE FROM {} WHERE events_table = %s").format(sql.Identifier(table)),
            [events_table],
        )


def record_day(
    connection: Connection, events_table: str, day: date, *, seed: int, per_day: int, until: datetime, events: int
) -> None:
    """Record that the day's arrivals up to `until` are in the table, `events` in number."""
    connection.execute(
        "INSERT INTO usage_explore_demo (events_table, day, seed, per_day, loaded_until, events)"
        " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (events_table, day)"
        " DO UPDATE SET loaded_until = excluded.loaded_until, events = excluded.events",
        [events_table, day, seed, per_day, until, events],
    )


def _record_incident(connection: Connection, events_table: str, incident: Incident) -> None:
    """Record an incident, or the number of its events that have arrived since."""
    connection.execute(
        "INSERT INTO usage_explore_demo_incidents (events_table, kind, day, organization_id, customer_id,"
        " metric_key, starts, ends, events, sentence) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
        " ON CONFLICT (events_table, kind, day) DO UPDATE SET events = excluded.events",
        [
            events_table,
            incident.kind,
            incident.day,
            incident.organization_id,
            incident.customer_id,
            incident.metric_key,
            incident.starts,
            incident.ends,
            incident.events,
            incident.sentence,
        ],
    )
