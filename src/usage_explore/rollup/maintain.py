"""The whole of a refresh: choose what is kept, see what changed behind the watermark, go on to the new one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from psycopg import sql
from sqlalchemy import Table

from usage_explore import statements
from usage_explore.rollup import catalogue, choice, watermark
from usage_explore.rollup.filling import identifier
from usage_explore.rollup.refresh import Progress, advance, rebuild
from usage_explore.rollup.serving import DAY, HOUR, NONE, floor
from usage_explore.rollup.tables import kept_table, rollup_table
from usage_explore.writing import Connection

LOOKED_BACK = 7 * DAY
"""How far behind the watermark each refresh compares counts with the events."""

_CHOSEN_FOR = DAY

_DIFFERENT = """
WITH kept AS (
    SELECT organization_id, grain, watermark FROM {kept} WHERE dimension = %(none)s AND watermark > %(since)s
), raw AS (
    SELECT k.organization_id, k.slot, count(*) AS events
    FROM kept, LATERAL (
        SELECT kept.organization_id, date_bin('1 hour', e.ingested_at, '1970-01-01') AS slot FROM {events} e
        WHERE e.organization_id = kept.organization_id
          AND e.ingested_at >= %(since)s AND e.ingested_at < kept.watermark) AS k
    GROUP BY 1, 2
), days AS (
    SELECT organization_id, CASE WHEN grain = interval '1 day' AND slot < date_bin('1 day', watermark, '1970-01-01')
                                 THEN date_bin('1 day', slot, '1970-01-01') ELSE slot END AS slot, sum(events) AS events
    FROM raw JOIN kept USING (organization_id) GROUP BY 1, 2
), rolled AS (
    SELECT organization_id, r.ingested AS slot, sum(r.events) AS events
    FROM {rollup} r JOIN kept USING (organization_id)
    WHERE r.dimension = %(none)s AND r.ingested >= %(since)s AND r.ingested < kept.watermark GROUP BY 1, 2
)
SELECT organization_id, slot FROM days FULL JOIN rolled USING (organization_id, slot)
WHERE days.events IS DISTINCT FROM rolled.events ORDER BY 1, 2
"""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a refresh did.

    `rows` rows were added up to `watermark`, which is None where transactions of other roles could not be waited for;
    `chosen` dimensions were newly kept; `mended` slots of ingestion had changed behind the watermark.
    """

    rows: int
    watermark: datetime | None
    chosen: int
    mended: int


def refresh(
    connection: Connection,
    events: Table,
    *,
    settle: timedelta,
    progress: Progress | None = None,
    choose_again: bool = False,
) -> Report:
    """Create the rollup where it is missing, and bring it up to now; safe to run at any time, several times at once.

    What is kept is measured for new organizations, once a day for the others, and when `choose_again` says so; what is
    kept already stays. Raises `TableMismatch` when the role may not write here. The connection must not be in a
    transaction.
    """
    catalogue.create(connection, events)
    chosen = _choose(connection, events, choose_again=choose_again)
    target = watermark.safe(connection, settle)
    mended = _mend(connection, events)
    if target is None:
        return Report(rows=0, watermark=None, chosen=chosen, mended=mended)
    done = advance(connection, events, target, progress)
    return Report(rows=done.rows, watermark=done.watermark, chosen=chosen, mended=mended)


def _choose(connection: Connection, events: Table, *, choose_again: bool) -> int:
    with connection.transaction():
        now = _now(connection)
        owners = connection.execute(statements.to_sql(statements.organizations(events)).encode()).fetchall()
        known: dict[UUID, list[catalogue.Entry]] = {owner: [] for (owner,) in owners}
        for entry in catalogue.entries(connection, events):
            known.setdefault(entry.organization_id, []).append(entry)
    chosen = 0
    for owner, entries in known.items():
        if not choose_again and not _stale(entries, now):
            continue
        with connection.transaction():
            catalogue.lock(connection, events)
            entries = [entry for entry in catalogue.entries(connection, events) if entry.organization_id == owner]
            measured = choice.measure(connection, events, owner)
            found = choice.choose(owner, measured, entries, now)
            catalogue.choose(connection, events, found)
            chosen += sum(entry.grain is not None for entry in found)
    return chosen


def _stale(entries: Iterable[catalogue.Entry], now: datetime) -> bool:
    """Whether an organization's choice is a day old, or was made when it had hardly any events."""
    whole = next((entry for entry in entries if entry.dimension == NONE), None)
    return whole is None or whole.grain is None or now - whole.chosen_at > _CHOSEN_FOR


def _mend(connection: Connection, events: Table) -> int:
    """Rebuild the slots of ingestion whose events are not as many as they were; how many."""
    with connection.transaction():
        catalogue.lock(connection, events)
        since = floor(_now(connection) - LOOKED_BACK, DAY)
        different = connection.execute(
            sql.SQL(_DIFFERENT).format(
                kept=identifier(kept_table(events)),
                rollup=identifier(rollup_table(events)),
                events=identifier(events),
            ),
            {"none": NONE, "since": since},
        ).fetchall()
        for owner, slot in different:
            rebuild(connection, events, [owner], slot, slot + HOUR)
    return len(different)


def _now(connection: Connection) -> datetime:
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None  # noqa: S101 - a select without FROM has one row
    now: datetime = row[0]
    return now.astimezone(UTC)
