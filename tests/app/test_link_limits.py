"""A link that Streamlit would read as none is refused, and never shown without its filters."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest

from usage_explore.app.middleware import MAX_READ_PARAMETERS, LinkLimits
from usage_explore.app.navigation import MAX_LINK_BYTES, MAX_LINK_PARAMETERS
from usage_explore.cli import app_server
from usage_explore.query.limits import MAX_QUERY_STRING_BYTES


def asked(path: str, query: str) -> tuple[int, str]:
    """The status and the body of a GET; 200 where it comes to the page."""
    sent: list[Any] = []

    async def page(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"the page"})

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "query_string": query.encode(), "headers": []}
    with ThreadPoolExecutor(1) as thread:  # where no other test's browser has an event loop
        thread.submit(anyio.run, LinkLimits(page), scope, receive, send).result()
    return sent[0]["status"], sent[1]["body"].decode()


@pytest.mark.parametrize("path", ["/", "/events", "/behind/a/proxy/explore"])
def test_a_link_beyond_the_bounds_is_refused(path: str) -> None:
    assert asked(path, "&".join(["metric_key=a"] * MAX_READ_PARAMETERS)) == (200, "the page")
    assert asked(path, "dim:x=" + "a" * 60_000) == (200, "the page")
    status, said = asked(path, "&".join(["metric_key=a"] * (MAX_READ_PARAMETERS + 1)))
    assert (status, "1,001 parameters" in said) == (414, True)
    assert asked(path, "a=" + "a" * MAX_QUERY_STRING_BYTES)[0] == 414


def test_the_api_has_its_own() -> None:
    assert asked("/api/v1/usage-events", "&".join(["a"] * 1_050))[0] == 200


def test_what_the_app_writes_it_also_reads() -> None:
    assert MAX_LINK_PARAMETERS <= MAX_READ_PARAMETERS
    assert MAX_LINK_BYTES <= MAX_QUERY_STRING_BYTES


def test_the_app_is_served_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    served = []
    monkeypatch.setattr(app_server.uvicorn_server, "serve", lambda app, *_, **__: served.append(app))
    monkeypatch.setattr(app_server.bootstrap, "load_config_options", lambda _: None)
    app_server.run("127.0.0.1", 1, lambda: None)
    assert any(each.cls is LinkLimits for each in served[0]._user_middleware)
