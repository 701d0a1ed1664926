"""What is kept of rendered links: one rendering for all who wait, and refusals for a minute."""

from __future__ import annotations

import asyncio
import sys
from uuid import UUID

import pytest

from usage_explore import AggregateQuery
from usage_explore.api.problems import Problem, ProblemType, busy
from usage_explore.web.routes import Cache, _Rendered

KEY = (UUID(int=1), "")
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
