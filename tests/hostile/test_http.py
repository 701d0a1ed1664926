"""Hostile strings over HTTP: what the package answers, no more; an error is the package's own and never a 500."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from support import generated_events, hostile_values
from support.api_server import AGGREGATE, EVENTS, EXPORT
from support.query_parameters import Pairs, answered, faults_of, fit_to_print, names
from support.thoroughness import THOROUGH
from usage_explore import AggregateQuery, EventQuery, Store
from usage_explore.api import create_app
from usage_explore.api.endpoints import View
from usage_explore.query.base import Query
from usage_explore.query.limits import MAX_QUERY_STRING_BYTES

QUESTIONS: list[tuple[str, type[Query]]] = [(EVENTS, EventQuery), (AGGREGATE, AggregateQuery)]
PICTURE = f"{AGGREGATE}.svg"
OTHERS = [
    (PICTURE, AggregateQuery, tuple(View.model_fields)),
    pytest.param(f"{AGGREGATE}.png", AggregateQuery, tuple(View.model_fields), marks=pytest.mark.thorough),
    (EXPORT, EventQuery, ()),
]
WINDOW = [
    ("since", "2026-05-01T00:00:00Z"),
    ("until", "2026-06-10T00:00:00Z"),
    ("organization_id", str(generated_events.ORGANIZATION)),
]


class Door:
    """The application asked in this process, with query strings that no well-behaved client would send."""

    def __init__(self, store: Store) -> None:
        self._app = Starlette(routes=[Mount("/api", create_app(store))])

    def get(self, path: str, pairs: Pairs, **headers: str) -> httpx.Response:
        return self.ask([(path, pairs)], **headers)[0]

    def ask(self, questions: list[tuple[str, Pairs]], **headers: str) -> list[httpx.Response]:
        async def work() -> list[httpx.Response]:
            return [await self._one(path, encoded(pairs).encode(), headers) for path, pairs in questions]

        return anyio.run(work)

    async def _one(self, path: str, query_string: bytes, headers: dict[str, str]) -> httpx.Response:
        sent: list[Any] = []
        given = {"host": "127.0.0.1", **{name.replace("_", "-"): value for name, value in headers.items()}}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": f"/api{path}",
            "raw_path": f"/api{path}".encode(),
            "query_string": query_string,
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in given.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        over = anyio.Event()

        async def receive() -> dict[str, Any]:
            await over.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        over.set()
        body = b"".join(message.get("body", b"") for message in sent)
        return httpx.Response(sent[0]["status"], headers=sent[0]["headers"], content=body)


def encoded(pairs: Pairs) -> str:
    return urlencode(pairs, quote_via=quote, errors="surrogatepass")


def faults(answer: httpx.Response) -> dict[str, str]:
    found: dict[str, Any] = answer.json()
    assert (answer.status_code, found["type"]) == (400, "urn:usage-explore:problem:query"), answer.text
    assert all(map(fit_to_print, [found["detail"], *(fault["message"] for fault in found["errors"])]))
    assert all(fit_to_print(fault["parameter"]) for fault in found["errors"])
    return {fault["parameter"]: fault["message"] for fault in found["errors"]}


def short(strings: list[str]) -> Iterator[str]:
    """Those that one query string can hold."""
    return (text for text in strings if len(text) < 6_000)


@pytest.fixture(scope="module")
def door(store: Store) -> Door:
    return Door(store)


@pytest.mark.parametrize(("path", "model"), QUESTIONS)
def test_every_string_in_all_parameters_at_once(door: Door, path: str, model: type[Query]) -> None:
    """The same faults as in Python, word for word."""
    asked = [(path, [(name, text) for name in names(model)]) for text in short(hostile_values.ENCODABLE)]
    for (_, pairs), answer in zip(asked, door.ask(asked), strict=True):
        if len(encoded(pairs)) <= MAX_QUERY_STRING_BYTES:
            assert faults(answer) == faults_of(model, pairs), pairs[0][1][:50]
        else:
            assert answer.status_code == 414


@pytest.mark.parametrize(("path", "model"), QUESTIONS)
def test_every_string_that_is_fine_in_a_parameter(door: Door, store: Store, path: str, model: type[Query]) -> None:
    """The same answer as in Python, or the same refusal."""
    asked = [
        (path, [(name, text), *(pair for pair in extra if pair[0] != name)])
        for extra in ([("limit", "2")] if model is EventQuery else WINDOW,)
        for number, text in enumerate(short(hostile_values.ENCODABLE))
        for place, name in enumerate(names(model))
        if not faults_of(model, [(name, text)]) and (number + place) % (7 if THOROUGH else 21) == 0
    ]
    assert len(asked) > 100
    for (_, pairs), answer in zip(asked, door.ask(asked), strict=True):
        expected = answered(store, model, pairs)
        if expected is None:
            assert answer.status_code == 403, pairs
        elif answer.status_code == 400:
            assert faults(answer) == expected, pairs
        else:
            assert answer.status_code == 200, answer.text
            assert answer.json() == json.loads(json.dumps(expected)), pairs
            assert str(generated_events.NEIGHBOUR) not in answer.text


@pytest.mark.parametrize(("path", "model", "more"), OTHERS)
def test_the_other_forms_refuse_the_same(door: Door, path: str, model: type[Query], more: tuple[str, ...]) -> None:
    known = [name for name in names(model) if (path, name) != (EXPORT, "limit")]
    asked = [(path, [(name, text) for name in (*known, *more)]) for text in short(hostile_values.ENCODABLE)]
    for (_, pairs), answer in zip(asked, door.ask(asked), strict=True):
        if len(encoded(pairs)) > MAX_QUERY_STRING_BYTES:
            assert answer.status_code == 414
            continue
        found = faults(answer)
        own = {name: found.pop(name) for name in more}
        assert found == faults_of(model, [pair for pair in pairs if pair[0] not in more])
        assert all(own.values())


def test_pictures_and_files_of_hostile_names(door: Door) -> None:
    """What a chart writes is what a question may say: marks, controls and the right-to-left among it."""
    for text in hostile_values.WORST[2:8]:
        pairs = [*WINDOW[:2], ("group_by", f"dim:{text}"), ("not:dim:model", text)]
        picture = door.get(PICTURE, pairs)
        assert picture.status_code == 200, picture.text
        assert "<script" not in picture.text
    for text in hostile_values.WORST[2:]:
        for path in (EVENTS, EXPORT):
            answer = door.get(path, [("not:metric_key", "a"), ("dim:model", text)], accept="text/csv")
            assert (answer.status_code, answer.text.count("\n")) == (200, 1)


def test_every_string_as_a_name(door: Door) -> None:
    wrong = {"limit": "0"}  # so that no question is asked: what is told of the names counts
    asked = [
        (path, [(shape.format(text), "x"), *wrong.items()])
        for path, _ in QUESTIONS
        for text in short(hostile_values.ENCODABLE)
        for shape in ("{}", "dim:{}", "not:{}", "not:dim:{}")
    ]
    for (path, pairs), answer in zip(asked, door.ask(asked), strict=True):
        assert faults(answer) == faults_of(dict(QUESTIONS)[path], pairs), pairs


def test_what_is_no_utf8_is_refused(door: Door) -> None:
    for text in hostile_values.SURROGATES:
        for path, model in QUESTIONS:
            for name in names(model):
                assert set(faults(door.get(path, [(name, text)]))) == {"query string"}


def test_what_is_too_long_is_refused(door: Door) -> None:
    for text in hostile_values.LONG[2:]:
        for path in (EVENTS, AGGREGATE, PICTURE, EXPORT):
            answer = door.get(path, [("metric_key", text)])
            assert answer.status_code == 414
            assert len(answer.content) < 2_000


def test_hostile_headers(door: Door) -> None:
    for text in hostile_values.WORST:
        value = text.encode("latin-1", "replace").decode("latin-1").replace("\0", "").replace("\r\n", " ")[:4_000]
        for name in ("accept", "if-none-match", "x-request-id", "authorization", "accept-encoding", "cookie"):
            answer = door.get(EVENTS, [("limit", "1")], **{name: value})
            assert answer.status_code in (200, 406), (name, value)
            assert answer.headers["x-request-id"].isascii()
