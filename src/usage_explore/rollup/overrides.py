"""What a person wants kept, instead of what was measured: set by hand, for good, until it is forgotten."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from uuid import UUID

from sqlalchemy import Table

from usage_explore.db.ddl import Connection
from usage_explore.errors import ConfigurationError, ScopeError
from usage_explore.query import filters, validators
from usage_explore.rollup import catalog, refresh_run
from usage_explore.sql.rollup_plan import DAY, HOUR, KEYS, NONE

GRAINS = {"15m": timedelta(minutes=15), "hour": HOUR, "day": DAY}
"""What `--keep` may say, finest first: 15 minutes serve zones such as +05:45."""

BY_HAND = "left out by hand"


def grain(text: str) -> tuple[str, timedelta]:
    """`dim:model=hour` as a dimension and a grain. Raises `ConfigurationError`."""
    name, equals, word = text.rpartition("=")
    if not equals or word not in GRAINS:
        raise ConfigurationError(
            f"--keep: {validators.shorten(text)} does not say how; write DIMENSION=GRAIN, such as dim:model=hour, where"
            f" the grain is {', '.join(GRAINS)}"
        )
    return dimension(name, "--keep"), GRAINS[word]


def dimension(name: str, option: str) -> str:
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


def wish(
    connection: Connection, events: Table, wanted: Mapping[str, timedelta | None], organization_id: UUID | None
) -> None:
    """Keep each dimension at its grain, None for not at all, from the next refresh on.

    For one organization, or with None for every one, those to come included. Where the grain changes the rows go, to
    be built again. Raises `ScopeError` for an organization without events. The rollup must be there.
    """
    with connection.transaction():
        catalog.lock(connection, events)
        now = refresh_run.now(connection)
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
                        chosen_at=now if before is None else before.chosen_at,
                    )
                )
        catalog.choose(connection, events, chosen)


def forget(connection: Connection, events: Table, names: Collection[str], organization_id: UUID | None) -> None:
    """Go back to what is measured, for one organization or every one. The rollup must be there."""
    with connection.transaction():
        catalog.lock(connection, events)
        if organization_id is None:
            told = catalog.wishes(connection, events)
            catalog.forget(connection, events, [each for each in told if each.dimension in names])
        else:
            _check(connection, events, organization_id)
    refresh_run.choose(connection, events, again=True, forgotten=names, only=organization_id)


def _owners(connection: Connection, events: Table) -> list[UUID]:
    known = {entry.organization_id for entry in catalog.entries(connection, events)}
    return sorted(known.union(catalog.organizations(connection, events)))


def _check(connection: Connection, events: Table, organization_id: UUID) -> None:
    if organization_id not in _owners(connection, events):
        raise ScopeError.refusing(organization_id)


def _of(connection: Connection, events: Table, owner: UUID) -> list[catalog.Entry]:
    lines = catalog.wishes if owner == catalog.EVERY else catalog.entries
    return [entry for entry in lines(connection, events) if entry.organization_id == owner]
