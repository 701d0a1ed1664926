"""The generated rows in a database of their own, loaded once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import rows
from oracle import Row
from servers import fresh_database
from usage_explore import Store, connect, writing


@pytest.fixture(scope="session")
def generated() -> list[Row]:
    return rows.generate()


@pytest.fixture(scope="session")
def both_organizations(server_url: str, _template: str, generated: list[Row]) -> Iterator[Store]:
    """A store on the generated rows that was not told which organization."""
    with fresh_database(server_url, template=_template) as url:
        with writing.connect(url) as connection:
            rows.insert(connection, generated)
        store = connect(url)
        yield store
        store.close()


@pytest.fixture(scope="session")
def store(both_organizations: Store) -> Store:
    """A store for the generated rows' main organization."""
    return both_organizations.scoped(rows.ORGANIZATION)


@pytest.fixture(scope="session")
def own(generated: list[Row]) -> list[Row]:
    """The main organization's rows."""
    return [row for row in generated if row.organization_id == rows.ORGANIZATION]
