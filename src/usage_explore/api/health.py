"""Is the process there, and could it answer a question now?"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from usage_explore.db import catalog, engine
from usage_explore.errors import TableMismatch
from usage_explore.store import Store

if TYPE_CHECKING:
    from usage_explore.db.ddl import Connection

PATIENCE = 3.0
"""Seconds the database has to answer."""


def probe(store: Store) -> None:
    """Look whether the table is there and fits, in the catalog only.

    Raises `DatabaseUnavailable` or `TableMismatch`.
    """
    with engine.transaction(store.engine) as connection:
        driver = cast("Connection", connection.connection.driver_connection)
        found = catalog.relation(driver, store.table.fullname)
    if found is None:
        raise TableMismatch("The table is missing; `usage-explore init` makes one.")
    wrong = [] if found.readable else ["it may not be read"]
    wrong += catalog.misfits(found)
    if wrong:
        raise TableMismatch(f"The table does not fit: {'; '.join(wrong)}.")
