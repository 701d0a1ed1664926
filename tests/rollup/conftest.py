"""A database with a rollup that tests drive by hand, its store with and without, and another role."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from support.partial_rollup import ORGANIZATION, Ahead
from usage_explore import Store, connect
from usage_explore.db import ddl


@pytest.fixture
def ahead(events_database_url: str, events_connection: ddl.Connection) -> Ahead:
    return Ahead(events_database_url, events_connection)


@pytest.fixture
def fast(events_database_url: str) -> Iterator[Store]:
    """A store for the organization, which asks the rollup."""
    with connect(events_database_url, organization_id=ORGANIZATION) as opened:
        yield opened


@pytest.fixture
def raw(fast: Store) -> Store:
    """The same, which never does."""
    return replace(fast, rollup=False)


@pytest.fixture
def other_role(events_database_url: str) -> Iterator[str]:
    """A URL to connect to the database with, as a role that may do nothing yet; it goes afterwards."""
    role = f"other_{uuid4().hex[:8]}"
    with psycopg.connect(events_database_url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
        parts = urlsplit(events_database_url)
        yield urlunsplit(parts._replace(netloc=f"{role}@{parts.netloc.rpartition('@')[2]}"))
        admin.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
        admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
