"""A store on a real server of the generated rows, beside the store that the server has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support import generated_events
from support.api_server import asking
from usage_explore import Store, connect
from usage_explore.access.api_keys import Keyring
from usage_explore.api.auth import Access


@pytest.fixture(scope="session")
def key_and_address(everyone: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A key of the main organization, and the address of a server of all organizations."""
    ring = Keyring(tmp_path_factory.mktemp("keys") / "keys.json")
    key = ring.create(generated_events.ORGANIZATION, "notebook")
    with asking(everyone, access=Access(ring), request_line=262_144) as client:
        yield key, str(client.base_url).removesuffix("/api/")


@pytest.fixture(scope="session")
def remote(key_and_address: tuple[str, str]) -> Iterator[Store]:
    """A store of the main organization, by address and key."""
    key, address = key_and_address
    with connect(address, key=key) as opened:
        yield opened
