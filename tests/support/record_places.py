"""Stores whose role may create the tables of records, or only read events, so that records go into a file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

from psycopg import sql

from support.database_servers import drop_role
from support.generated_events import NEIGHBOUR, ORGANIZATION
from support.plain_events import store_of
from support.query_oracle import Row
from usage_explore import Store, connect
from usage_explore.db import ddl


class as_role:  # noqa: N801 - a context manager
    """A store whose role may write to the database, or only SELECT."""

    def __init__(
        self, place: str, connection: ddl.Connection, url: str, home: Path, events: Iterable[Row] = ()
    ) -> None:
        store_of(connection, url, events).close()
        connection.commit()
        self.admin, self.role = url, ""
        if place == "file":
            self.role = f"reader_{uuid4().hex[:8]}"
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(self.role)))
            connection.execute(sql.SQL("GRANT SELECT ON usage_events TO {}").format(sql.Identifier(self.role)))
            connection.commit()
            parts = urlsplit(url)
            url = urlunsplit(parts._replace(netloc=f"{self.role}@{parts.netloc.rpartition('@')[2]}"))
        self.everyone = connect(url, home=home)

    def __enter__(self) -> Store:
        return replace(self.everyone, organization_id=ORGANIZATION)

    def __exit__(self, *_: object) -> None:
        self.everyone.close()
        if self.role:
            drop_role(self.admin, self.role)


def neighbour(store: Store) -> Store:
    return replace(store, organization_id=NEIGHBOUR)
