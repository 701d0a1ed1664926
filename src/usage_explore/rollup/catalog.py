"""What the rollup keeps: reading and writing its catalogue, making and dropping its tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

import psycopg
from psycopg import sql
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement

from usage_explore.db import ddl
from usage_explore.db.catalog import check_instants, relation
from usage_explore.db.ddl import Connection
from usage_explore.db.schema import events_table
from usage_explore.errors import TableMismatch
from usage_explore.rollup.fill_sql import summarize
from usage_explore.sql import filters
from usage_explore.sql.identifiers import identifier
from usage_explore.sql.rollup_plan import SUMMARY, Kept, kept_table, rollup_index, rollup_table

EVERY = UUID(int=0)
"""Whose line of the catalogue says what a person wants of every organization, those to come included."""

UNFIT = "cannot be kept: "
"""How the reason begins where the events hold what the rollup cannot, such as a value too long for its index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the catalogue: a dimension that is kept, or was left out (`grain` None) for a `reason`.

    `share` is how many rollup rows an event needs, as measured; `watermark` and `days_until`
    (see `Kept`, as for `summary`) are None before the first refresh.
    """

    organization_id: UUID
    dimension: str
    grain: timedelta | None
    watermark: datetime | None = None
    days_until: datetime | None = None
    summary: bool = False
    by_hand: bool
    share: Decimal | None = None
    reason: str | None = None
    chosen_at: datetime

    @property
    def kept(self) -> Kept | None:
        """The dimension as answers are served from it; None while there is nothing to serve."""
        if self.grain is None or self.watermark is None or self.days_until is None:
            return None
        return Kept(self.dimension, self.grain, self.watermark, self.days_until, self.summary)

    @property
    def is_fixed(self) -> bool:
        """Whether measuring leaves it as it is: it is kept, was set by hand, or has proved not to fit."""
        return self.by_hand or self.grain is not None or (self.reason or "").startswith(UNFIT)


def placed(connection: Connection, events: Table) -> Table:
    """The events table with the schema it is in, so that its rollup is beside it.

    Raises `TableMismatch` where there is none, or its times are without a zone.
    """
    found = relation(connection, events.fullname)
    if found is None:
        raise TableMismatch(
            f"{events.fullname}: does not exist; `usage-explore init` makes it, or name another --table"
        )
    check_instants(connection, f"{found.schema}.{found.name}")
    return events_table(f"{found.schema}.{found.name}")


def exists(connection: Connection, events: Table) -> bool:
    """Whether the table has a rollup."""
    name = identifier(kept_table(events)).as_string(connection)
    row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [name]).fetchone()
    return bool(row and row[0])


def _is_of_today(connection: Connection, events: Table) -> bool:
    """Whether the table has a rollup whose catalogue has every column."""
    kept = kept_table(events)
    row = connection.execute(
        "SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = ANY (%s)",
        [identifier(kept).as_string(connection), list(kept.columns.keys())],
    ).fetchone()
    return row == (len(kept.columns),)


def organizations(connection: Connection, events: Table) -> list[UUID]:
    """Every organization that has events."""
    try:
        with connection.transaction():
            return _organizations(connection, events, distributed=False)
    except psycopg.errors.FeatureNotSupported:  # by Citus
        return _organizations(connection, events, distributed=True)


def _organizations(connection: Connection, events: Table, *, distributed: bool) -> list[UUID]:
    statement = filters.to_sql(filters.organizations(events, distributed=distributed))
    return [owner for (owner,) in connection.execute(statement.encode())]


def create(connection: Connection, events: Table) -> None:
    """Make the tables where they are missing, on Citus spread as the events are; give those of before summaries.

    Raises `TableMismatch` when the role may not.
    """
    rows = rollup_table(events)
    with connection.transaction():
        if _is_of_today(connection, events):
            return
        lock(connection, events)
        if exists(connection, events):
            name = identifier(kept_table(events))
            connection.execute(
                sql.SQL("ALTER TABLE {} ADD COLUMN IF NOT EXISTS summary boolean NOT NULL DEFAULT false").format(name)
            )
            return
        made: list[ExecutableDDLElement] = [
            CreateTable(rows),
            CreateIndex(rollup_index(rows)),
            CreateTable(kept_table(events)),
        ]
        try:
            for statement in made:
                connection.execute(str(statement.compile(dialect=postgresql.dialect())).encode())  # type: ignore[no-untyped-call]
            found = relation(connection, events.fullname)
            if found and found.distributed == ddl.DISTRIBUTION_COLUMN:
                for table in (rows, kept_table(events)):
                    ddl.distribute_beside(connection, identifier(table), identifier(events))
        except psycopg.errors.InsufficientPrivilege as error:
            raise TableMismatch(
                f"{rows.fullname}: this role may not create it ({error.diag.message_primary}); run "
                "`usage-explore rollup` with the role that owns the events table"
            ) from error


def drop(connection: Connection, events: Table) -> bool:
    """Take the rollup away; True if there was one. Questions are answered from the events then."""
    with connection.transaction():
        lock(connection, events)
        there = exists(connection, events)
        for table in (kept_table(events), rollup_table(events)):
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(identifier(table)))
    return there


def lock(connection: Connection, events: Table) -> None:
    """Take turns: one transaction at a time changes this table's rollup, or loads behind its watermark.

    However long the others take: the statement timeout is for work, not for waiting.
    """
    before = connection.execute("SELECT current_setting('statement_timeout')").fetchone()
    connection.execute("SELECT set_config('statement_timeout', '0', true)")
    connection.execute(sql.SQL("SELECT {}").format(lock_call(connection, events)))
    connection.execute("SELECT set_config('statement_timeout', %s, true)", before)


def lock_call(connection: Connection, events: Table) -> sql.Composed:
    """What `lock` calls, for SQL that takes turns too."""
    return sql.SQL("pg_advisory_xact_lock(hashtext('usage-explore rollup'), to_regclass({})::oid::integer)").format(
        sql.Literal(identifier(events).as_string(connection))
    )


def entries(connection: Connection, events: Table) -> list[Entry]:
    """The catalogue's lines of organizations, by organization and dimension."""
    return [entry for entry in _lines(connection, events) if entry.organization_id != EVERY]


def wishes(connection: Connection, events: Table) -> list[Entry]:
    """The catalogue's lines that are for every organization, all of them by hand."""
    return [entry for entry in _lines(connection, events) if entry.organization_id == EVERY]


def choose(connection: Connection, events: Table, chosen: Iterable[Entry]) -> None:
    """Write lines of the catalogue; where the grain changes the rows go, to be built again.

    A dimension that is summarized stays so at its grain.
    """
    name = identifier(kept_table(events))
    for entry in chosen:
        before = connection.execute(
            sql.SQL("SELECT grain, summary FROM {} WHERE organization_id = %s AND dimension = %s").format(name),
            [entry.organization_id, entry.dimension],
        ).fetchone()
        if before and before[0] != entry.grain:
            _empty(connection, events, entry)
        connection.execute(
            sql.SQL(
                "INSERT INTO {} AS k (organization_id, dimension, grain, summary, by_hand, share, reason, chosen_at)"
                " VALUES (%(organization_id)s, %(dimension)s, %(grain)s, %(summary)s, %(by_hand)s, %(share)s,"
                " %(reason)s, %(chosen_at)s)"
                " ON CONFLICT (organization_id, dimension) DO UPDATE SET grain = excluded.grain,"
                " summary = excluded.summary OR k.summary AND k.grain IS NOT DISTINCT FROM excluded.grain,"
                " by_hand = excluded.by_hand, share = excluded.share, reason = excluded.reason,"
                " chosen_at = excluded.chosen_at,"
                " watermark = CASE WHEN k.grain IS NOT DISTINCT FROM excluded.grain THEN k.watermark END,"
                " days_until = CASE WHEN k.grain IS NOT DISTINCT FROM excluded.grain THEN k.days_until END"
            ).format(name),
            asdict(entry),
        )
        if before == (entry.grain, False) and entry.summary:
            connection.execute(summarize(events), asdict(entry))


def forget(connection: Connection, events: Table, forgotten: Iterable[Entry]) -> None:
    """Take lines of the catalogue away, and their rows."""
    for entry in forgotten:
        _empty(connection, events, entry)
        connection.execute(
            sql.SQL("DELETE FROM {} WHERE organization_id = %s AND dimension = %s").format(
                identifier(kept_table(events))
            ),
            [entry.organization_id, entry.dimension],
        )


def _empty(connection: Connection, events: Table, entry: Entry) -> None:
    """Take a dimension's rows away."""
    connection.execute(
        sql.SQL("DELETE FROM {} WHERE organization_id = %s AND dimension = ANY (%s)").format(
            identifier(rollup_table(events))
        ),
        [entry.organization_id, [entry.dimension, SUMMARY + entry.dimension]],
    )


def _lines(connection: Connection, events: Table) -> list[Entry]:
    cursor = connection.cursor(row_factory=psycopg.rows.class_row(Entry))
    return cursor.execute(
        sql.SQL("SELECT * FROM {} ORDER BY organization_id, dimension").format(identifier(kept_table(events)))
    ).fetchall()
