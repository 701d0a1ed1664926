"""The operations: each reads its question, asks the store in a thread, and writes the answer as it was asked for."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any, Literal, NamedTuple, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from usage_explore import charts
from usage_explore.answers import Aggregate
from usage_explore.api import health, threads
from usage_explore.api.caching import answered, is_pinned
from usage_explore.api.negotiation import CSV, JSON, PNG, SVG, chosen
from usage_explore.api.request_query import Csv, View, asked_with, pairs
from usage_explore.api.service import Door
from usage_explore.errors import Fault, QueryError
from usage_explore.query.base import Question
from usage_explore.query.limits import MAX_DRAWN
from usage_explore.query.queries import AggregateQuery, EventQuery
from usage_explore.query.url_params import query_string, to_pairs
from usage_explore.results import frames
from usage_explore.store import Store

_Q = TypeVar("_Q", bound=Question)

_LONGEST_LINK = 4_000
_SVG_ALONE = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}


class _Answer(NamedTuple):
    body: bytes
    pinned: bool
    rows: int | None  # None where nobody counted them
    cursor: str | None = None


class Endpoints:
    """The endpoints of one door."""

    def __init__(self, door: Door) -> None:
        self.door = door

    async def events(self, request: Request) -> Response:
        """A page of raw events."""
        form = _form(request, JSON, CSV)
        question, text = _text(EventQuery, request, form)

        def work(store: Store) -> _Answer:
            pinned = is_pinned(store, question)
            if form == CSV:
                body, cursor = store.events_csv(question, escape_formulas=text.escapes)
                return _Answer(body, pinned, None, cursor)
            page = store.events(question)
            return _Answer(_json(page.to_dict()), pinned, len(page.events), page.cursor)

        answer = await self.door.ask(request, question, work)
        request.state.rows = answer.rows
        return answered(request, answer.body, form, pinned=answer.pinned, headers=_next(question, text, answer.cursor))

    async def aggregate(self, request: Request) -> Response:
        """How much, over time."""
        form = _form(request, JSON, CSV)
        question, text = _text(AggregateQuery, request, form)

        def work(store: Store) -> tuple[bytes, bool, Aggregate]:
            pinned = is_pinned(store, question)
            answer = store.aggregate(question)
            body = frames.to_csv(answer, escape_formulas=text.escapes) if form == CSV else _json(answer.to_dict())
            return body, pinned, answer

        body, pinned, answer = await self.door.ask(request, question, work)
        request.state.question, request.state.rows = answer.query, _points(answer)
        return answered(request, body, form, pinned=pinned, headers=_timing(answer))

    async def png(self, request: Request) -> Response:
        """The chart as PNG."""
        return await self._picture(request, PNG, "png")

    async def svg(self, request: Request) -> Response:
        """The chart as SVG."""
        return await self._picture(request, SVG, "svg", _SVG_ALONE)

    async def alive(self, request: Request) -> Response:
        """The process is there."""
        return answered(request, _json({"state": "ok"}), _form(request, JSON), pinned=False)

    async def ready(self, request: Request) -> Response:
        """The database answers and the table fits."""
        form = _form(request, JSON)
        await threads.answer(request, lambda: health.probe(self.door.store()), within=health.PATIENCE)
        return answered(request, _json({"state": "ok"}), form, pinned=False)

    async def _picture(
        self, request: Request, media_type: str, form: Literal["png", "svg"], headers: dict[str, str] | None = None
    ) -> Response:
        _form(request, media_type)
        question, view = asked_with(AggregateQuery, View, pairs(request))

        def work(store: Store) -> tuple[Aggregate, bool]:
            pinned = is_pinned(store, question)
            return store.aggregate(question), pinned

        answer, pinned = await self.door.ask(request, question, work)
        request.state.question, request.state.rows = answer.query, _points(answer)
        async with self.door.pictures.one():
            body = await threads.answer(request, lambda: _drawn(answer, view, form))
        return answered(request, body, media_type, pinned=pinned, headers=(headers or {}) | _timing(answer))


def _points(answer: Aggregate) -> int:
    return sum(len(series.points) for series in answer.series)


def _timing(answer: Aggregate) -> dict[str, str]:
    """Which path answered, and how many milliseconds the database took."""
    milliseconds = answer.served.took / timedelta(milliseconds=1)
    return {"Server-Timing": f"{answer.served.path};dur={milliseconds:.1f}"}


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _form(request: Request, *offers: str) -> str:
    return chosen(",".join(request.headers.getlist("accept")), offers)


def _text(model: type[_Q], request: Request, form: str) -> tuple[_Q, Csv]:
    """The question, and how its CSV is written. Raises `QueryError`, also where another form would be escaped."""
    question, text = asked_with(model, Csv, pairs(request))
    if text.escapes and form != CSV:
        raise QueryError([Fault("escape_formulas", "is for CSV; ask with Accept: text/csv, or leave it out")])
    return question, text


def _drawn(answer: Aggregate, view: View, form: Literal["png", "svg"]) -> bytes:
    points = _points(answer)
    if points > MAX_DRAWN:
        words = f"the picture would have {points:,} points, more than {MAX_DRAWN:,}; keep fewer series"
        raise QueryError([Fault("top", words)])
    chart = charts.chart(answer, kind=view.chart, dark=view.theme == "dark", width=960, interactive=False)
    return charts.image(chart, form)


def _next(question: EventQuery, text: Csv, cursor: str | None) -> dict[str, str]:
    """The next page as a link relative to this one, where it is short enough for a header."""
    if cursor is None:
        return {}
    address = "?" + query_string((*to_pairs(question.replace(cursor=cursor)), *to_pairs(text)))
    return {"Link": f'<{address}>; rel="next"'} if len(address) <= _LONGEST_LINK else {}
