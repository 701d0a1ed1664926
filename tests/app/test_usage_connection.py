"""A store as a connection of Streamlit, by secrets and by arguments, shared by the sessions of an app."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit import config
from streamlit.runtime.secrets import secrets_singleton
from streamlit.testing.v1 import AppTest

from support import generated_events
from support.api_server import asking
from usage_explore import Store
from usage_explore.access.api_keys import Keyring
from usage_explore.api.auth import Access
from usage_explore.errors import ConfigurationError
from usage_explore.streamlit import UsageConnection

SCRIPT = """
import streamlit as st
from usage_explore import AggregateQuery, EventQuery
from usage_explore.streamlit import UsageConnection

usage = st.connection("usage", type=UsageConnection, **st.session_state.get("options", {}))
query = AggregateQuery(since="2011-01-01T00:00:00Z", until="2026-12-01T00:00:00Z", bucket="month")
st.text(repr(usage.store))
st.text(usage.aggregate(query).total)
st.text(usage.aggregate(query, ttl=60).total)
st.text(len(usage.events(EventQuery(limit=7), ttl=60).events))
"""


@pytest.fixture
def own_secrets() -> Iterator[None]:
    """The test's secrets are forgotten."""
    files = config.get_option("secrets.files")
    yield
    config.set_option("secrets.files", files)
    secrets_singleton._reset()


@pytest.mark.parametrize("by", ["secrets", "arguments"])
def test_a_connection_answers(everyone: Store, tmp_path: Path, by: str, own_secrets: None) -> None:
    store = everyone.scoped(generated_events.ORGANIZATION)
    ring = Keyring(tmp_path / "keys.json")
    key = ring.create(generated_events.ORGANIZATION, "app")
    with asking(everyone, access=Access(ring)) as client:
        options = {"url": str(client.base_url).removesuffix("/api/"), "key": key}
        script = AppTest.from_string(SCRIPT, default_timeout=60)
        if by == "secrets":
            (tmp_path / "secrets.toml").write_text(
                "[connections.usage]\n" + "\n".join(f'{name} = "{value}"' for name, value in options.items())
            )
            config.set_option("secrets.files", [str(tmp_path / "secrets.toml")])
            secrets_singleton._reset()
        else:
            script.session_state["options"] = options
        script.run()
        assert not script.exception, script.exception
        shown = [text.value for text in script.text]
        total = str(len(list(store.events())))
        assert shown[1:] == [total, total, "7"]
        assert options["url"] in shown[0]
        assert key not in str(shown)


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"connections\.usage: unknown adress; the options are url, key"):
        UsageConnection("usage", adress="x")
