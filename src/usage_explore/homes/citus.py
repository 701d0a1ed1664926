"""Citus: the table spread over the workers by organization.

CHOSEN
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from usage_explore.errors import ConfigurationError

Connection = psycopg.Connection[tuple[Any, ...]]

COLUMN = "organization_id"


def distribute(connection: Connection, name: sql.Identifier) -> None:
    """Spread the table over the workers; the rows it holds move, writers wait meanwhile.

    Raises `ConfigurationError` where this database has no Citus.
    """
    row = connection.execute("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')").fetchone()
    if not (row and row[0]):
        raise ConfigurationError(
            "--distribute: this database has no Citus; run CREATE EXTENSION citus in it on every node and add the"
            " workers with citus_add_node, or leave the option out"
        )
    connection.execute("SELECT create_distributed_table(%s::regclass, %s)", [name.as_string(connection), COLUMN])
