"""What the rollup keeps: reading and writing its catalogue, making and dropping its tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

import psycopg
from psycopg import sql
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement

from usage_explore.errors import TableMismatch
from usage_explore.rollup.filling import identifier
from usage_explore.rollup.serving import Kept
from usage_explore.rollup.tables import kept_table, rollup_index, rollup_table
from usage_explore.writing import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the catalogue: a dimension that is kept, or was left out (`grain` None).

    `share` is how many rollup rows an event needs, as measured; `watermark` None before the first refresh.
    """

    organization_id: UUID
    dimension: str
    grain: timedelta | None
    watermark: datetime | None
    by_hand: bool
    share: Decimal | None
    chosen_at: datetime

    @property
    def kept(self) -> Kept | None:
        """The dimension as answers are served from it; None while there is nothing to serve."""
        if self.grain is None or self.watermark is None:
            return None
        return Kept(self.dimension, self.grain, self.watermark)


def exists(connection: Connection, events: Table) -> bool:
    """Whether the table has a rollup."""
    name = identifier(kept_table(events)).as_string(connection)
    row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [name]).fetchone()
    return bool(row and row[0])


def create(connection: Connection, events: Table) -> None:
    """Make the tables where they are missing. Raises `TableMismatch` when the role may not."""
    rows = rollup_table(events)
    with connection.transaction():
        lock(connection, events)
        if exists(connection, events):
            return
        made: list[ExecutableDDLElement] = [
            CreateTable(rows),
            CreateIndex(rollup_index(rows)),
            CreateTable(kept_table(events)),
        ]
        try:
            for statement in made:
                connection.execute(str(statement.compile(dialect=postgresql.dialect())).encode())  # type: ignore[no-untyped-call]
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
    """Take turns: one transaction at a time changes this table's rollup, or loads behind its watermark."""
    connection.execute(
        "SELECT pg_advisory_xact_lock(hashtext('usage-explore rollup'), hashtext(%s))",
        [identifier(events).as_string(connection)],
    )


def entries(connection: Connection, events: Table) -> list[Entry]:
    """The catalogue, by organization and dimension."""
    cursor = connection.cursor(row_factory=psycopg.rows.class_row(Entry))
    return cursor.execute(
        sql.SQL("SELECT * FROM {} ORDER BY organization_id, dimension").format(identifier(kept_table(events)))
    ).fetchall()


def choose(connection: Connection, events: Table, chosen: Iterable[Entry]) -> None:
    """Write lines of the catalogue; where the grain changes the rows go, to be built again."""
    name, rows = identifier(kept_table(events)), identifier(rollup_table(events))
    for entry in chosen:
        values = {
            "organization_id": entry.organization_id,
            "dimension": entry.dimension,
            "grain": entry.grain,
            "by_hand": entry.by_hand,
            "share": entry.share,
            "chosen_at": entry.chosen_at,
        }
        changed = connection.execute(
            sql.SQL(
                "SELECT FROM {} WHERE organization_id = %(organization_id)s AND dimension = %(dimension)s"
                " AND grain IS DISTINCT FROM %(grain)s"
            ).format(name),
            values,
        ).rowcount
        if changed:
            connection.execute(
                sql.SQL(
                    "DELETE FROM {} WHERE organization_id = %(organization_id)s AND dimension = %(dimension)s"
                ).format(rows),
                values,
            )
        connection.execute(
            sql.SQL(
                "INSERT INTO {} AS k (organization_id, dimension, grain, by_hand, share, chosen_at) VALUES"
                " (%(organization_id)s, %(dimension)s, %(grain)s, %(by_hand)s, %(share)s, %(chosen_at)s)"
                " ON CONFLICT (organization_id, dimension) DO UPDATE SET grain = excluded.grain,"
                " by_hand = excluded.by_hand, share = excluded.share, chosen_at = excluded.chosen_at,"
                " watermark = CASE WHEN k.grain IS NOT DISTINCT FROM excluded.grain THEN k.watermark END"
            ).format(name),
            values,
        )
