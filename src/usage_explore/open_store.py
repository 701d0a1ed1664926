"""Opens the store of a database: from arguments, the environment or the configuration, else the embedded one."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path
from uuid import UUID

from usage_explore import config
from usage_explore.db import engine as db_engine
from usage_explore.db.schema import events_table
from usage_explore.extract.connection import resources
from usage_explore.extract.engine import Extracts
from usage_explore.records.places import Records
from usage_explore.store import Store


def connect(
    url: str | None = None,
    organization_id: UUID | str | None = None,
    *,
    key: str | None = None,
    table: str | None = None,
    names_table: str | None = None,
    home: Path | str | None = None,
    statement_timeout: timedelta | float | None = None,
) -> Store:
    """A store on the database at `url`, else the configured one, else the embedded one.

    `url` may also be the address of a usage-explore server, with the `key` of one organization: then every method is a
    request to it, with the same answers and errors. Such a store writes nothing, and keeps no saved views.

    `organization_id` defaults to the configured one, else the only one in the table. `table` is a table or view, `name`
    or `schema.name`, `names_table` that of customers' and other names; `statement_timeout` is a timedelta or seconds,
    default 30.

    Raises `ConfigurationError` for an invalid value. The first query connects to the database.

    >>> store = connect()  # doctest: +SKIP
    >>> store.aggregate(AggregateQuery(group_by="metric_key")).frame  # doctest: +SKIP
    """
    settings = config.settings(
        database_url=url,
        key=key,
        organization_id=organization_id,
        table=table,
        names_table=names_table,
        home=home,
        statement_timeout=statement_timeout,
    )
    return opened(settings)


def opened(settings: config.Settings) -> Store:
    """The store of these settings, on their database or the embedded one. Raises `ConfigurationError`."""
    if settings.is_remote:
        from usage_explore.remote.store import opened as opened_remote

        return opened_remote(settings)
    url = config.database_url(settings)
    revive = None if settings.database_url else partial(config.database_url, settings)
    return Store(
        engine=db_engine.engine(url, settings.statement_timeout, revive),
        table=events_table(settings.table),
        organization_id=settings.organization_id,
        settle=settings.settle_time,
        app_url=settings.app_url,
        extracts=Extracts(
            home=settings.home,
            url=url,
            resources=resources(settings),
        ),
        long_statement_timeout=settings.long_statement_timeout,
        names_table=settings.names_table,
        records=Records(settings.home, url),
        bounds=settings.bounds,
    )
