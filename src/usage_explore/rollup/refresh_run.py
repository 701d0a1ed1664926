"""The whole of a refresh: choose what is kept, see what changed behind the watermark, go on to the new one.

Dimensions that are set by hand hold instead of what is measured, until they are forgotten.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
from psycopg import sql
from sqlalchemy import Table

from usage_explore.db.ddl import Connection
from usage_explore.errors import ConfigurationError, ScopeError, TableMismatch
from usage_explore.formatting import duration
from usage_explore.query import filters, validators
from usage_explore.rollup import catalog, choose_dimensions, watermark
from usage_explore.rollup.refresh import Progress, advance, leave_out, rebuild
from usage_explore.sql.identifiers import identifier
from usage_explore.sql.rollup_plan import DAY, HOUR, KEYS, NONE, floor, kept_table, rollup_table

_REMEASURED_FROM_EVENTS = 10_000
"""Added events from which the dimensions of the rollup are chosen again."""

LOOKED_BACK = 7 * DAY
"""How far behind the watermark each refresh compares counts with the events."""

_CHOSEN_FOR = DAY

_DIFFERENT = """
WITH kept AS (
    SELECT DISTINCT ON (organization_id) organization_id, dimension, watermark, days_until FROM {kept}
    WHERE dimension <> %(keys)s AND watermark > %(since)s
    ORDER BY organization_id, watermark DESC, dimension <> %(none)s
), raw AS (
    SELECT kept.organization_id, e.slot, count(*) AS events
    FROM kept, LATERAL (
        SELECT date_bin('1 hour', ingested_at, '1970-01-01') AS slot FROM {events}
        WHERE organization_id = kept.organization_id AND ingested_at >= %(since)s AND ingested_at < kept.watermark
    ) AS e GROUP BY 1, 2
    UNION ALL
    SELECT kept.organization_id, date_bin('1 hour', e.ingested_at, '1970-01-01'), -count(*)
    FROM kept, LATERAL (
        SELECT ingested_at FROM {events}
        WHERE organization_id = kept.organization_id AND ingested_at >= %(since)s AND ingested_at < kept.watermark
          AND (timestamp < '1970-01-01Z' OR timestamp >= '2200-01-01Z')
    ) AS e GROUP BY 1, 2
), slots AS (
    SELECT organization_id,
           CASE WHEN slot < days_until THEN date_bin('1 day', slot, '1970-01-01') ELSE slot END AS slot,
           sum(events) AS events
    FROM raw JOIN kept USING (organization_id) GROUP BY 1, 2 HAVING sum(events) <> 0
), rolled AS (
    SELECT organization_id, r.ingested AS slot, sum(r.events) AS events
    FROM {rollup} r JOIN kept USING (organization_id)
    WHERE r.dimension = kept.dimension AND r.ingested >= %(since)s AND r.ingested < kept.watermark GROUP BY 1, 2
)
SELECT organization_id, slot, slot + CASE WHEN slot < days_until THEN interval '1 day' ELSE interval '1 hour' END
FROM slots FULL JOIN rolled USING (organization_id, slot) JOIN kept USING (organization_id)
WHERE slots.events IS DISTINCT FROM rolled.events ORDER BY 1, 2
"""
"""Slots of ingestion of which `none`, or while that is behind the dimension furthest ahead, counts other numbers.

Events that occurred outside 1970 to 2200 are in no rollup: they are counted apart and taken away, so that counting all
the others needs no more than the index on the time of ingestion."""

GRAINS = {"15m": timedelta(minutes=15), "hour": HOUR, "day": DAY}
"""What `--keep` may say, finest first: 15 minutes serve zones such as +05:45."""

BY_HAND = "left out by hand"


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a refresh did.

    `rows` rows were added up to the hour that `safe` lies in, none where that is not known; `chosen` dimensions were
    newly kept, of which `unfit` were left out again; `mended` slots of ingestion had changed behind the watermark.
    """

    rows: int
    safe: watermark.Safe
    chosen: int
    unfit: int
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
    kept already stays. Raises `TableMismatch` when the role may not write here, or not see every event. The
    connection must not be in a transaction.
    """
    with connection.transaction():
        events = catalog.placed(connection, events)
        watermark.check_visible(connection, events)
        if not catalog.exists(connection, events):
            watermark.check_dated(connection, events)
    catalog.create(connection, events)
    chosen = choose(connection, events, again=choose_again)
    safe = watermark.safe(connection, settle)
    before = _unfit(connection, events)
    mended = _mend(connection, events)
    rows = advance(connection, events, safe.until, progress).rows if safe.until else 0
    return Report(rows=rows, safe=safe, chosen=chosen, unfit=len(_unfit(connection, events) - before), mended=mended)


def refresh_after_loading(
    connection: Connection,
    events: Table,
    added: int,
    *,
    settle: timedelta,
    timeout: timedelta,
    progress: Progress | None = None,
) -> str:
    """`refresh` after a number of events was added, each statement bounded by `timeout`.

    Returns "", or why the rollup is not refreshed to the end: this role may not, or it takes longer than `timeout`.
    """
    connection.commit()
    milliseconds = int(timeout.total_seconds() * 1000)
    connection.execute("SELECT set_config('statement_timeout', %s, false)", [str(milliseconds)])
    connection.commit()
    try:
        refresh(connection, events, settle=settle, progress=progress, choose_again=added >= _REMEASURED_FROM_EVENTS)
    except (TableMismatch, psycopg.errors.InsufficientPrivilege) as error:
        reason = " ".join(str(error).split())
        return f"The rollup was left as it is, to be refreshed by the role that owns it: {reason}"
    except psycopg.errors.QueryCanceled:
        return (
            f"The rollup is not up to date, as refreshing it was cancelled, perhaps after {duration(timeout)}"
            " (USAGE_EXPLORE_LONG_STATEMENT_TIMEOUT); go on with: usage-explore rollup"
        )
    return ""


def choose(
    connection: Connection,
    events: Table,
    *,
    again: bool,
    forgotten: Collection[str] = (),
    only: UUID | None = None,
) -> int:
    """Measure what is worth keeping, and what people want of every organization; how many dimensions are newly kept.

    Where the choice is a day old or `again` says so. The choice of `forgotten` dimensions is made from nothing, for
    every organization or `only` one.
    """
    with connection.transaction():
        at = now(connection)
        known: dict[UUID, list[catalog.Entry]] = {owner: [] for owner in catalog.organizations(connection, events)}
        for entry in catalog.entries(connection, events):
            known.setdefault(entry.organization_id, []).append(entry)
        known.pop(catalog.EVERY, None)  # its lines are wishes: an organization of that id is answered from the events
    chosen = 0
    for owner, entries in known.items():
        if only not in (None, owner):
            continue
        if again or _stale(entries, at):
            with connection.transaction():
                catalog.lock(connection, events)
                chosen += _choose(connection, events, owner, at, forgotten)
    return chosen


def _choose(connection: Connection, events: Table, owner: UUID, at: datetime, forgotten: Collection[str]) -> int:
    there = {entry.dimension: entry for entry in catalog.entries(connection, events) if entry.organization_id == owner}
    wanted = {
        wish.dimension: replace(wish, organization_id=owner)
        for wish in catalog.wishes(connection, events)
        if not (wish.dimension in there and there[wish.dimension].by_hand)
    }
    before = {**{name: entry for name, entry in there.items() if name not in forgotten}, **wanted}
    try:
        with connection.transaction():
            measured = choose_dimensions.measure(connection, events, owner)
    except psycopg.errors.DataError as error:  # a time or number that cannot be counted with
        nothing = catalog.Entry(organization_id=owner, dimension=NONE, grain=None, by_hand=False, chosen_at=at)
        leave_out(connection, events, there.get(NONE, nothing), error)
        return 0
    found = {entry.dimension: entry for entry in choose_dimensions.choose(owner, measured, before.values(), at)}
    found = {**wanted, **found}
    catalog.choose(connection, events, found.values())
    catalog.forget(connection, events, [there[name] for name in forgotten if name in there and name not in found])
    kept = {name for name, entry in there.items() if entry.grain is not None}
    return sum(entry.grain is not None and name not in kept for name, entry in found.items())


def _stale(entries: Iterable[catalog.Entry], at: datetime) -> bool:
    """Whether an organization's choice is a day old, or was made when it had hardly any events."""
    whole = next((entry for entry in entries if entry.dimension == NONE), None)
    return whole is None or not whole.is_fixed or at - whole.chosen_at > _CHOSEN_FOR


def _unfit(connection: Connection, events: Table) -> set[tuple[UUID, str]]:
    with connection.transaction():
        return {
            (entry.organization_id, entry.dimension)
            for entry in catalog.entries(connection, events)
            if entry.grain is None and entry.is_fixed and not entry.by_hand
        }


def _mend(connection: Connection, events: Table) -> int:
    """Rebuild the slots of ingestion whose events are not as many as they were; how many."""
    with connection.transaction():
        catalog.lock(connection, events)
        since = floor(now(connection) - LOOKED_BACK, DAY)
        different = connection.execute(
            sql.SQL(_DIFFERENT).format(
                kept=identifier(kept_table(events)),
                rollup=identifier(rollup_table(events)),
                events=identifier(events),
            ),
            {"none": NONE, "keys": KEYS, "since": since},
        ).fetchall()
        for owner, slot, end in different:
            rebuild(connection, events, [owner], slot, end)
    return len(different)


def now(connection: Connection) -> datetime:
    """The database's clock."""
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None  # noqa: S101 - a select without FROM has one row
    instant: datetime = row[0]
    return instant.astimezone(UTC)


def parse_keep(text: str) -> tuple[str, timedelta]:
    """`dim:model=hour` as a dimension and a grain. Raises `ConfigurationError`."""
    name, equals, word = text.rpartition("=")
    if not equals or word not in GRAINS:
        raise ConfigurationError(
            f"--keep: {validators.shorten(text)} does not say how; write DIMENSION=GRAIN, such as dim:model=hour, where"
            f" the grain is {', '.join(GRAINS)}"
        )
    return parse_dimension(name, "--keep"), GRAINS[word]


def parse_dimension(name: str, option: str) -> str:
    """The name of what can be kept: `none`, `keys`, a column or `dim:<key>`. Raises `ConfigurationError`."""
    if name == "metric_key":
        raise ConfigurationError(f"{option}: metric_key is part of every row of the rollup; nothing has to be set")
    if name == NONE and option == "--leave-out":
        raise ConfigurationError(
            f"{option}: none is what every other answer rests on; leave out others, or take the rollup away with --drop"
        )
    if name in (NONE, KEYS):
        return name
    try:
        return filters.group(name)
    except ValueError as error:
        raise ConfigurationError(f"{option}: {error}; none and keys can be kept too") from None


def set_overrides(
    connection: Connection, events: Table, wanted: Mapping[str, timedelta | None], organization_id: UUID | None
) -> None:
    """Keep each dimension at its grain, None for not at all, from the next refresh on.

    For one organization, or with None for every one, those to come included. Where the grain changes the rows go, to
    be built again. Raises `ScopeError` for an organization without events. The rollup must be there.
    """
    with connection.transaction():
        catalog.lock(connection, events)
        at = now(connection)
        chosen = []
        for owner in (catalog.EVERY, *_owners(connection, events)) if organization_id is None else (organization_id,):
            if organization_id is not None:
                _check(connection, events, organization_id)
            there = {entry.dimension: entry for entry in _of(connection, events, owner)}
            for name, grain in wanted.items():
                before = there.get(name)
                chosen.append(
                    catalog.Entry(
                        organization_id=owner,
                        dimension=name,
                        grain=grain,
                        by_hand=True,
                        share=before.share if before else None,
                        reason=None if grain else BY_HAND,
                        chosen_at=at if before is None else before.chosen_at,
                    )
                )
        catalog.choose(connection, events, chosen)


def forget_overrides(
    connection: Connection, events: Table, names: Collection[str], organization_id: UUID | None
) -> None:
    """Go back to what is measured, for one organization or every one. The rollup must be there."""
    with connection.transaction():
        catalog.lock(connection, events)
        if organization_id is None:
            overrides = catalog.wishes(connection, events)
            catalog.forget(connection, events, (entry for entry in overrides if entry.dimension in names))
        else:
            _check(connection, events, organization_id)
    choose(connection, events, again=True, forgotten=names, only=organization_id)


def _owners(connection: Connection, events: Table) -> list[UUID]:
    known = {entry.organization_id for entry in catalog.entries(connection, events)}
    return sorted(known.union(catalog.organizations(connection, events)))


def _check(connection: Connection, events: Table, organization_id: UUID) -> None:
    if organization_id not in _owners(connection, events):
        raise ScopeError.refusing(organization_id)


def _of(connection: Connection, events: Table, owner: UUID) -> list[catalog.Entry]:
    lines = catalog.wishes if owner == catalog.EVERY else catalog.entries
    return [entry for entry in lines(connection, events) if entry.organization_id == owner]
