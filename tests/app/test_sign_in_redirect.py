"""After the sign-in people are where they wanted to go, and never elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from support.api_server import running
from usage_explore.app.middleware import COOKIE, SignInRedirect
from usage_explore.app.sign_in import FAILED, SILENT

LINK = "/events?group_by=dim:model&metric_key=a%5C%2Cb&dim:x=%E2%80%AE%20%26&until=now"


async def login(request: Request) -> Response:
    if request.query_params.get("provider") == "silent":
        return PlainTextResponse("Authentication error", 400)
    return RedirectResponse("https://login.example/authorize", 302)


async def callback(request: Request) -> Response:
    if "code" not in request.query_params:
        return PlainTextResponse("no", 400)
    answer = RedirectResponse("/", 302)
    if request.query_params["code"] == "refused":
        answer.delete_cookie("_streamlit_user")
    else:
        answer.set_cookie("_streamlit_user", "ana@example.com")
    return answer


async def page(request: Request) -> Response:
    return PlainTextResponse("page")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    routes = [Route("/auth/login", login), Route("/oauth2callback", callback), Route("/events", page)]
    app = Starlette(routes=routes, middleware=[Middleware(SignInRedirect)])
    with running(app) as url:
        yield url


@pytest.fixture
def client(address: str) -> Iterator[httpx.Client]:
    """A browser that has no cookies yet."""
    with httpx.Client(base_url=address) as made:
        yield made


def returned(client: httpx.Client, referer: str | None) -> str:
    client.get("/auth/login?provider=x", headers={} if referer is None else {"Referer": referer})
    return client.get("/oauth2callback?code=1").headers["location"]


@pytest.mark.parametrize(
    "link",
    [
        LINK,
        "/explore?since=-7d&dim:x=a%20b",
        "/explore",
        "/validate",
        "/events?limit=5",
        "/",
        "/events",
        "/?since=-7d",
        "/?x=//evil.example",
    ],
)
def test_people_come_back_to_their_link(client: httpx.Client, link: str) -> None:
    assert returned(client, f"http://usage.example{link}") == link
    assert COOKIE not in client.cookies, "it is used once"
    assert client.get("/oauth2callback?code=1").headers["location"] == "/"


@pytest.mark.parametrize(
    "referer",
    [
        None,
        "",
        "https://evil.example",
        "https://evil.example/path",
        "http://usage.example//evil.example",
        "http://usage.example/\\evil.example",
        "http://usage.example//evil.example/explore",
        "http://usage.example/explore//evil.example",
        "https:evil.example",
        "http://usage.example/auth/logout",
        "http://usage.example/events/../auth/logout",
        "http://usage.example/events/",
        "javascript:alert(1)",
        "http://[",
        "/events?" + "x" * 5_000,
    ],
)
def test_everything_else_leads_to_the_front_page(client: httpx.Client, referer: str | None) -> None:
    assert returned(client, referer) == "/"


@pytest.mark.parametrize(
    "value",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "/%2Fevil.example",
        "https://evil.example//",
        "/events%0d%0aSet-Cookie: a=b",
        "\x00",
    ],
)
def test_a_forged_cookie_leads_nowhere_else(client: httpx.Client, value: str) -> None:
    answer = client.get("/oauth2callback?code=1", headers={"Cookie": f"a=b; {COOKIE}={quote(value, safe='')}; c"})
    assert answer.headers["location"] == "/"


def test_a_forged_query_stays_a_query(client: httpx.Client) -> None:
    value = quote("/events?a=\r\nSet-Cookie: b=c", safe="")
    answer = client.get("/oauth2callback?code=1", headers={"Cookie": f"{COOKIE}={value}"})
    location = answer.headers["location"]
    assert location.startswith("/events?a=")
    assert location.isascii()
    assert location.isprintable()
    assert "b" not in client.cookies


def test_other_addresses_and_failed_sign_ins_are_left_alone(client: httpx.Client) -> None:
    assert "set-cookie" not in client.get("/events", headers={"Referer": f"http://usage.example{LINK}"}).headers
    assert client.get("/oauth2callback").status_code == 400


def test_a_refused_sign_in_is_remembered_until_the_next(client: httpx.Client) -> None:
    client.get("/auth/login?provider=x", headers={"Referer": f"http://usage.example{LINK}"})
    assert client.get("/oauth2callback?code=refused").headers["location"] == LINK
    assert client.cookies[FAILED] == "1"
    assert returned(client, None) == "/"
    assert FAILED not in client.cookies


@pytest.mark.parametrize(("referer", "way_back"), [(f"http://usage.example{LINK}", LINK), ("", "/")])
def test_where_the_provider_does_not_answer_the_page_says_so(client: httpx.Client, referer: str, way_back: str) -> None:
    """It was a white page with two words."""
    answer = client.get("/auth/login?provider=silent", headers={"Referer": referer})
    assert (answer.status_code, answer.headers["location"], answer.content) == (302, way_back, b"")
    assert client.cookies[FAILED] == SILENT
    assert COOKIE not in client.cookies
    assert returned(client, None) == "/"
    assert FAILED not in client.cookies


def test_the_cookie_is_short_lived_and_out_of_reach_for_scripts(client: httpx.Client) -> None:
    answer = client.get("/auth/login?provider=x", headers={"Referer": f"http://usage.example{LINK}"})
    kept = answer.headers["set-cookie"]
    assert "HttpOnly" in kept
    assert "SameSite=Lax" in kept
    assert "Max-Age=600" in kept
