"""Rendered links: one rendering for all who wait, refusals for a minute; every request is counted."""

from __future__ import annotations

import asyncio
import logging
import sys
from uuid import UUID

import httpx
import pytest
from starlette.applications import Starlette

from usage_explore import AggregateQuery, Store
from usage_explore.api.auth import Access
from usage_explore.api.problems import Problem, ProblemType, busy
from usage_explore.api.service import Limits, Service
from usage_explore.web.routes import Cache, _Rendered, routes

KEY = (UUID(int=1), "")
TOKEN = "abcdefghijk"
PAGE = _Rendered(b"page", "text/html", AggregateQuery())


class Rendering:
    """Counts renderings; each takes a turn of the event loop, and fails with `failure` if there is one."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.number, self.failure = 0, failure

    async def __call__(self) -> _Rendered:
        self.number += 1
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        return PAGE


async def all_of(cache: Cache, render: Rendering, number: int) -> list[_Rendered | BaseException]:
    return await asyncio.gather(*(cache.rendered(KEY, render) for _ in range(number)), return_exceptions=True)


def test_a_page_is_rendered_once_for_all_who_wait_and_kept_for_ten_minutes() -> None:
    now, render = [0.0], Rendering()
    cache = Cache(lambda: now[0])

    async def asked() -> None:
        assert await all_of(cache, render, 5) == [PAGE] * 5
        now[0] = 599.0
        await cache.rendered(KEY, render)
        assert render.number == 1
        await cache.rendered((KEY[0], "csv"), render)
        assert render.number == 2
        now[0] = 600.0
        await cache.rendered(KEY, render)
        assert render.number == 3

    asyncio.run(asked())


def test_a_refusal_is_kept_for_a_minute_and_a_busy_server_is_not() -> None:
    now = [0.0]
    cache, refused, failed = Cache(lambda: now[0]), Rendering(Problem(ProblemType.QUERY, "no")), Rendering(busy())

    async def asked() -> None:
        assert [str(one) for one in await all_of(cache, failed, 2)] == [str(busy())] * 2
        assert failed.number == 2
        assert all(isinstance(one, Problem) for one in await all_of(cache, refused, 5))
        assert refused.number == 1
        now[0] = 60.0
        await all_of(cache, refused, 1)
        assert refused.number == 2

    asyncio.run(asked())


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[Cache.__module__], "MAX_KEPT_BYTES", 2 * len(PAGE.content))
    cache, render = Cache(), Rendering()

    async def asked() -> None:
        for number in (1, 2, 3, 3, 2, 1):
            await cache.rendered((UUID(int=number), ""), render)

    asyncio.run(asked())
    assert render.number == 4


def broken() -> Store:
    raise ZeroDivisionError(TOKEN)


@pytest.mark.parametrize(
    ("method", "status", "problem"), [("GET", 500, "internal"), ("POST", 405, "method"), ("DELETE", 405, "method")]
)
def test_a_fault_and_another_method_are_pages_and_counted(
    caplog: pytest.LogCaptureFixture, method: str, status: int, problem: str
) -> None:
    service = Service(broken, Access(), Limits())
    app = Starlette(routes=routes(service, lambda: ""))

    async def asked() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            return await client.request(method, f"/s/{TOKEN}")

    with caplog.at_level(logging.INFO, "usage_explore.web"):
        answer = asyncio.run(asked())
    assert answer.status_code == status
    assert answer.headers["cache-control"] == "private, no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers.get("allow") == ("GET, HEAD" if status == 405 else None)
    labels = {"route": "/s/{token}", "method": method, "status": str(status)}
    count = service.requests.registry.get_sample_value
    assert count("usage_explore_http_requests_total", labels) == 1
    assert count("usage_explore_http_problems_total", {"problem": problem}) == 1
    (line,) = [record for record in caplog.records if record.message == "link"]
    assert line.levelno == (logging.ERROR if status == 500 else logging.INFO)
    assert ("in broken" in line.fields.get("trace", "")) == (status == 500)
    assert TOKEN not in str(line.fields)
