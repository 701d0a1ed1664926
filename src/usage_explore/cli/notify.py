"""Messages to a webhook: bounded retries in bounded time, to the address alone that was given, which no text shows."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from usage_explore.access.bind_check import is_this_machine
from usage_explore.cli.options import say
from usage_explore.errors import ConfigurationError
from usage_explore.formatting import shortened

PAUSES_SECONDS = (1.0, 3.0, 9.0)
"""Pauses before the second and further attempts; `Retry-After` makes one longer."""

MAX_ATTEMPT_SECONDS = 10.0
MAX_SECONDS = 60.0
"""Time of all attempts and pauses together."""

MAX_FAILURE_SECONDS = 10.0
"""Time of all attempts for a run that failed or was interrupted: the command ends after them."""

_MAX_REASON_CHARACTERS = 200
_RETRIED = frozenset({408, 425, 429, *range(500, 600)})


@dataclass(frozen=True)
class Webhook:
    """The address of a webhook, of which path, query and user are secret."""

    url: httpx.URL = field(repr=False)

    def __str__(self) -> str:
        port = f":{self.url.port}" if self.url.port else ""
        host = f"[{self.url.host}]" if ":" in self.url.host else self.url.host
        return f"{self.url.scheme}://{host}{port}/…"

    def redacted(self, text: str) -> str:
        """A text without the secret parts of the address."""
        parts = (str(self.url), self.url.raw_path.decode(), self.url.path, self.url.username, self.url.password)
        for part in sorted((*parts, self.url.query.decode(errors="replace")), key=len, reverse=True):
            if len(part) > 1:
                text = text.replace(part, "…")
        return text


def webhook(text: str, *, any_http: bool = False) -> Webhook:
    """The webhook at an address: https, or http on this machine, with `any_http` also elsewhere.

    Raises `ConfigurationError`, which shows no part of the address.
    """
    try:
        url = httpx.URL(text.strip())
        is_named = bool(url.host) and not {"%", " "} & set(url.host) and 0 < (url.port or 1) < 65_536
        is_address = url.scheme in ("https", "http") and is_named and text.strip().isprintable()
    except (httpx.InvalidURL, ValueError, UnicodeError):
        is_address = False
    if not is_address:
        raise ConfigurationError(
            "--notify: is no address of a webhook; write https://host/path (or USAGE_EXPLORE_NOTIFY_URL)"
        )
    if url.scheme == "http" and not is_this_machine(url.host) and not any_http:
        raise ConfigurationError(
            "--notify: http would send the message and the secrets of the address unencrypted; write https://…, or add"
            " --notify-http if the network between is yours"
        )
    return Webhook(url.copy_with(fragment=None))


def deliver(to: Webhook, message: dict[str, Any], max_seconds: float | None = None) -> str:
    """Send the message; "" if it was accepted, else the reason why not, without secrets.

    `max_seconds` bounds all attempts, by default `MAX_SECONDS`.
    A connection that fails, and the statuses 408, 425, 429 and 5xx, are tried again; redirects are not followed.
    """
    seconds = MAX_SECONDS if max_seconds is None else max_seconds
    with _without_log_lines():
        try:
            return asyncio.run(_delivered(to, json.dumps(message, ensure_ascii=False).encode(), seconds))
        except TimeoutError:
            return f"it did not accept it within {seconds:g} s"


def deliver_or_stop(to: Webhook, message: Callable[[], dict[str, Any]]) -> str:
    """`deliver`, where an interruption is a reason too."""
    try:
        return deliver(to, message())
    except KeyboardInterrupt:
        return "it was interrupted, before or while it was sent"


@contextmanager
def of_interruption(to: Webhook | None) -> Iterator[None]:
    """Say that there will be no message if the block, between the run and its message, is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        if to is not None:
            say(f"Warning: the notification was not delivered to {to}: it was interrupted.", err=True)
        raise


@contextmanager
def of_failure(to: Webhook | None, message: Callable[[BaseException], dict[str, Any]]) -> Iterator[None]:
    """Deliver the message of an exception, then raise it; a second Ctrl-C ends the wait of `MAX_FAILURE_SECONDS`."""
    try:
        yield
    except (KeyboardInterrupt, Exception) as error:
        if to is not None:
            with suppress(KeyboardInterrupt):
                reason = deliver(to, message(error), MAX_FAILURE_SECONDS)
                say(f"Warning: not delivered to {to}: {reason}." if reason else f"Notified {to}.", err=True)
        raise


async def _delivered(to: Webhook, content: bytes, seconds: float) -> str:
    reason = ""
    # a proxy of the environment would be sent what is for this machine
    async with asyncio.timeout(seconds), httpx.AsyncClient(trust_env=not is_this_machine(to.url.host)) as client:
        for pause in (*PAUSES_SECONDS, None):
            reason, wait = await _attempt(client, to, content)
            if not reason or wait is None or pause is None:
                break
            await asyncio.sleep(max(pause, wait))
    return reason


async def _attempt(client: httpx.AsyncClient, to: Webhook, content: bytes) -> tuple[str, float | None]:
    """The reason why it failed, "" if it did not, and the seconds to wait at least; None if trying again is useless."""
    headers = {"Content-Type": "application/json", "User-Agent": "usage-explore"}
    try:
        async with (
            asyncio.timeout(MAX_ATTEMPT_SECONDS),
            client.stream("POST", to.url, content=content, headers=headers, timeout=MAX_ATTEMPT_SECONDS) as response,
        ):
            status, after = response.status_code, response.headers.get("Retry-After", "")
    except (TimeoutError, httpx.TimeoutException):
        return f"it did not answer within {MAX_ATTEMPT_SECONDS:g} s", 0.0
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
        words = shortened(to.redacted(str(error)), _MAX_REASON_CHARACTERS)
        return f"{type(error).__name__}{': ' if words else ''}{words}", 0.0
    if 200 <= status < 300:
        return "", None
    if 300 <= status < 400:
        return f"it redirects (status {status}), which is not followed: give the address that it redirects to", None
    wait = float(after) if after.isdecimal() and len(after) < 6 else 0.0
    return f"it answered with status {status}", wait if status in _RETRIED else None


@contextmanager
def _without_log_lines() -> Iterator[None]:
    """Meanwhile HTTPX logs nothing: its lines have the whole address."""
    logger = logging.getLogger("httpx")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
