"""Checks of the rollup: existence, permission, freshness, and whether it serves the days of time zones."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from usage_explore.db.catalog import Relation
from usage_explore.db.ddl import Connection
from usage_explore.db.schema import events_table
from usage_explore.doctor.finding import Finding
from usage_explore.query import buckets
from usage_explore.rollup import catalog, refresh_run
from usage_explore.rollup.catalog import Entry
from usage_explore.sql.identifiers import quoted
from usage_explore.sql.rollup_plan import DAY, GRAINS, HOUR, KEYS, floor, kept_table, rollup_table, span

_MIN_ROWS = 100_000
"""Events in the table below which a rollup is not recommended."""

_MAX_AGE_HOURS = 3
_YEAR = timedelta(days=365)
_GRAIN_NAMES = {DAY: "day", HOUR: "hour", GRAINS[0]: "15m"}
_READABLE = "SELECT has_table_privilege(to_regclass(%s), 'SELECT') AND has_table_privilege(to_regclass(%s), 'SELECT')"


def rollup(connection: Connection, relation: Relation, zones: Sequence[str] = ()) -> list[Finding]:
    """Findings that make aggregates faster; results are the same without a rollup. `zones` are IANA names."""
    events = events_table(f"{relation.schema}.{relation.name}")
    if not catalog.exists(connection, events):
        if relation.rows < _MIN_ROWS:
            return [Finding("rollup", "ok", "none, and so few events need none")]
        return [Finding("rollup", "warning", "none, so aggregates read the events", "usage-explore rollup")]
    names = [quoted(table.name, relation.schema) for table in (rollup_table(events), kept_table(events))]
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
