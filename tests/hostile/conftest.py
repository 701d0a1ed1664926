"""The HTTP door on the generated rows, behind a real server."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from support.api_server import asking
from usage_explore import Store


@pytest.fixture(scope="session")
def client(store: Store) -> Iterator[httpx.Client]:
    """Asks the door of one organization."""
    with asking(store) as opened:
        yield opened
