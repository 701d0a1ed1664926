"""Cookies of the app are sent over TLS only where it is used."""

from __future__ import annotations

import asyncio
import tomllib
from types import SimpleNamespace

import httpx
import pytest
import streamlit as st
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from usage_explore.app.middleware import Guard


async def page(request: Request) -> Response:
    answer = PlainTextResponse("page")
    answer.set_cookie("first", "1", httponly=True)
    answer.set_cookie("second", "2", secure=True)
    return answer


def cookies(scheme: str) -> list[str]:
    app = Starlette(routes=[Route("/", page)], middleware=[Middleware(Guard)])

    async def received() -> list[str]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"{scheme}://localhost") as client:
            return (await client.get("/")).headers.get_list("set-cookie")

    return asyncio.run(received())


def configure(monkeypatch: pytest.MonkeyPatch, toml: str) -> None:
    """Let the sign-in's configuration be that of a file."""
    secrets = SimpleNamespace(load_if_toml_exists=lambda: bool(toml), get=tomllib.loads(toml).get)
    monkeypatch.setattr(st, "secrets", secrets)


@pytest.mark.parametrize(("scheme", "number"), [("https", 2), ("http", 1)])
def test_a_request_over_tls_gets_cookies_for_tls_only(
    monkeypatch: pytest.MonkeyPatch, scheme: str, number: int
) -> None:
    configure(monkeypatch, "")
    given = cookies(scheme)
    assert sum("; Secure" in cookie for cookie in given) == number
    assert all(cookie.count("Secure") <= 1 for cookie in given)


@pytest.mark.parametrize(("scheme", "number"), [("https", 2), ("http", 1)])
def test_so_does_a_sign_in_at_an_https_address(monkeypatch: pytest.MonkeyPatch, scheme: str, number: int) -> None:
    configure(monkeypatch, f'[auth]\nredirect_uri = "{scheme}://usage.example/oauth2callback"')
    assert sum("; Secure" in cookie for cookie in cookies("http")) == number
