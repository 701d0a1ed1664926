"""One kept HTTP client of a usage-explore server: requests with their key, and problems as the package's exceptions.

The key goes to the server alone: over TLS, or to this machine; redirects are not followed. It is part of no message.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from ipaddress import ip_address
from typing import Any, NoReturn
from urllib.parse import urlsplit

import httpx

from usage_explore.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    Fault,
    NoPriceBook,
    NotExact,
    QueryError,
    ScopeError,
    ServerError,
    StatementTimeout,
    TableMismatch,
    UsageExploreError,
)
from usage_explore.formatting import cut
from usage_explore.query import validators
from usage_explore.query.url_params import Pairs, query_string
from usage_explore.remote import wire

CONNECT_SECONDS = 10.0
"""Time to connect to the server."""

MARGIN_SECONDS = 15.0
"""Time that an answer may take beyond the statement timeout: waiting for a free slot, and the transfer's pauses."""

IDLE_SECONDS = 2.0
"""Time that a connection is kept for the next request: less than the 5 s or more after which servers and proxies close
it. A request that is sent at that moment would be lost."""

MAX_RETRY_SECONDS = 30.0
"""Time for which a server that is busy or away (503 with Retry-After) is asked again."""

_AWAY = (502, 503, 504)
"""Statuses of a proxy whose server is restarting."""

_AWAY_SECONDS = 1.0
"""Pause before a server that is away is asked again."""

MAX_RESULT_MEGABYTES = 1_024
"""Size of a result, decompressed."""

MAX_PROBLEM_MEGABYTES = 8
"""Size of the body of an error, decompressed."""

MAX_MESSAGE_CHARACTERS = 4_000
"""Characters of a server's message that an exception has."""

_KEPT_HEADERS = ("Content-Type", "Retry-After")

_KEY = re.compile(r"ue_[0-9A-Za-z]{1,64}_[0-9A-Za-z_-]{16,256}")
_PROBLEM = "urn:usage-explore:problem:"


@dataclass(frozen=True)
class Client:
    """Requests to the server at `url`. Raises `ConfigurationError` for an address or a key that cannot work."""

    url: str
    key: str | None = field(default=None, repr=False)
    timeout: timedelta = timedelta(seconds=30)
    retry_seconds: float = MAX_RETRY_SECONDS

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", _address(self.url))
        if self.key is not None and not _KEY.fullmatch(self.key):
            raise ConfigurationError("key: is no key of this kind; give the whole text ue_…, as its operator sent it")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a remote store cannot be pickled: it holds a key; connect again")

    @cached_property
    def _http(self) -> httpx.Client:
        seconds = self.timeout.total_seconds() + MARGIN_SECONDS
        return httpx.Client(
            auth=_Bearer(self.key) if self.key else None,
            timeout=httpx.Timeout(seconds, connect=CONNECT_SECONDS),
            limits=httpx.Limits(keepalive_expiry=IDLE_SECONDS),
            trust_env=self.url.startswith("https://"),  # never through a proxy to this machine
        )

    def close(self) -> None:
        """Close the connections; the next request opens them again."""
        if client := self.__dict__.pop("_http", None):
            client.close()

    def get(
        self, path: str, pairs: Pairs, store: object = None, read: Callable[[Any], Any] = lambda result: result
    ) -> Any:
        """What `read` makes of the result of an operation.

        Raises the exceptions of a local store, and `ConfigurationError`, also for a result that `read` cannot read.
        """
        return wire.loads(self.send("GET", path, pairs).content, store, read)

    def send(
        self, method: str, path: str, pairs: Pairs, files: dict[str, tuple[str, bytes]] | None = None
    ) -> httpx.Response:
        """The response to a request; while the server is busy it is sent again."""
        deadline = time.monotonic() + self.retry_seconds
        while True:
            with self._failures():
                response = self._response(method, self._target(path, pairs), files or None)
            if response.is_success:
                return response
            seconds = _retry_after(response)
            if seconds is None or time.monotonic() + seconds > deadline:
                raise problem_error(_body(response), response.status_code)
            time.sleep(seconds)

    def _response(self, method: str, target: str, files: dict[str, tuple[str, bytes]] | None) -> httpx.Response:
        """The response; a request that reads is sent once more if the server closed its connection meanwhile."""
        headers = {"Accept": wire.MEDIA_TYPE}
        try:
            return self._whole(method, target, headers, files)
        except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
            if method != "GET":
                raise
            return self._whole(method, target, headers)

    def _whole(self, method: str, target: str, headers: dict[str, str], files: Any = None) -> httpx.Response:
        """The response with its body, which is decompressed. Raises `ConfigurationError` for one that is too large."""
        with self._http.stream(method, target, headers=headers, files=files) as response:
            return httpx.Response(
                response.status_code,
                headers={name: value for name in _KEPT_HEADERS if (value := response.headers.get(name))},
                content=_bounded_body(response),
            )

    @contextmanager
    def stream(self, path: str, pairs: Pairs, media_type: str) -> Iterator[Iterator[bytes]]:
        """The body of a response in chunks. Raises `DatabaseUnavailable` for one that breaks off."""
        target = self._target(path, pairs)
        with self._failures(), self._http.stream("GET", target, headers={"Accept": media_type}) as response:
            if not response.is_success:
                error = httpx.Response(response.status_code, content=_bounded_body(response))
                raise problem_error(_body(error), error.status_code)
            yield response.iter_bytes()

    def _target(self, path: str, pairs: Pairs) -> str:
        return f"{self.url}/api{path}" + (f"?{query_string(pairs)}" if pairs else "")

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Failures of the network as `DatabaseUnavailable`."""
        try:
            yield
        except httpx.TimeoutException:
            seconds = self.timeout.total_seconds() + MARGIN_SECONDS
            raise DatabaseUnavailable(f"{self.url} did not answer within {seconds:g} s; try again shortly") from None
        except httpx.InvalidURL:
            raise ConfigurationError(f"url: {validators.shorten(self.url)} is no address") from None
        except httpx.HTTPError as error:
            reason = _reason(error)
            if "certificate" in reason.lower():
                raise ConfigurationError(
                    f"url: {self.url} has no certificate that this machine trusts ({reason}); ask its operator"
                ) from None
            raise DatabaseUnavailable(f"{self.url} does not answer: {reason}; try again shortly") from None


class _Bearer(httpx.Auth):
    """Adds the key to a request; unlike a default header it is in no representation of the client."""

    def __init__(self, key: str) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:  # type: ignore[override]
        """The request with its key."""
        request.headers["Authorization"] = f"Bearer {self._key}"
        yield request


def problem_error(body: Mapping[str, Any], status: int) -> UsageExploreError:
    """The exception of a problem (RFC 9457): the one that a local store raises."""
    detail = cut(str(body.get("detail") or ""), MAX_MESSAGE_CHARACTERS)
    faults = _faults(body.get("errors"))
    match str(body.get("type") or "").removeprefix(_PROBLEM):
        case "query" if faults:
            missing = NoPriceBook()
            return missing if faults == [*missing.faults] else QueryError(faults)
        case "forbidden":
            return ScopeError(detail)
        case "unauthorized":
            return ConfigurationError(
                "key: the server wants one; none was given, or this one is wrong or was revoked: ask its operator"
            )
        case "too-many" | "misdirected":
            return ConfigurationError(f"key: {detail}")
        case "not-exact":
            return NotExact(detail)
        case "timeout":
            return StatementTimeout(detail)
        case "mismatch":
            return TableMismatch(detail)
        case "unavailable" | "too-many-jobs":
            return DatabaseUnavailable(detail, detail)
        case "too-long":
            return QueryError([Fault("query", f"{detail} Give fewer or shorter values.")])
        case "not-acceptable" | "not-found" | "method":
            return ConfigurationError("url: the server lacks this operation; install the same version on both")
        case "" if status in _AWAY:
            return DatabaseUnavailable(f"The server is away (status {status}); try again shortly.")
        case "" if status >= 500:
            return ServerError(f"The server failed (status {status}).")
        case "":
            return ConfigurationError(
                f"url: no usage-explore server answers there (status {status}); check the address"
            )
    return ServerError(f"{detail or 'The server failed.'} (request {body.get('request_id', 'unknown')!s:.100})")


def _faults(errors: object) -> list[Fault]:
    """The faults of a problem; none if they are not those of a usage-explore server."""
    items: list[Any] = errors if isinstance(errors, list) else []
    if not all(isinstance(item, dict) and {"parameter", "message"} <= item.keys() for item in items):
        return []
    return [
        Fault(*(cut(str(item[name]), MAX_MESSAGE_CHARACTERS) for name in ("parameter", "message"))) for item in items
    ]


def _bounded_body(response: httpx.Response) -> bytes:
    """The body of a response, decompressed. Raises `ConfigurationError` for one that is too large."""
    most = MAX_RESULT_MEGABYTES if response.is_success else MAX_PROBLEM_MEGABYTES
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > most * 2**20:
            raise ConfigurationError(
                f"url: an answer of status {response.status_code} from there has more than {most:,} MB, which"
                " usage-explore never sends; check the address"
            )
    return bytes(body)


def _body(response: httpx.Response) -> Mapping[str, Any]:
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds after which a request can be sent again: after a 503, and while too many validations run; else None."""
    text, kind = response.headers.get("Retry-After", ""), str(_body(response).get("type") or "")
    if (response.status_code == 503 or kind == f"{_PROBLEM}too-many-jobs") and text.isdecimal() and len(text) < 6:
        return float(text)
    return _AWAY_SECONDS if not kind and response.status_code in _AWAY else None


def _reason(error: httpx.HTTPError) -> str:
    """The error without addresses of other parties; TLS errors say what is wrong with the certificate."""
    return str(error).partition("(_ssl")[0].strip() or type(error).__name__


def _address(text: object) -> str:
    """The address of a server, without a trailing slash. Raises `ConfigurationError`, which shows no credentials."""
    try:
        parts = urlsplit(str(text).strip())
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ConfigurationError("url: is no readable address; write https://usage.example.com") from None
    if parts.username or parts.password or parts.query or parts.fragment or not host:
        raise ConfigurationError("url: is not the address alone; write https://usage.example.com, and the key as key=…")
    if parts.scheme.lower() != "https" and not _is_loopback(host):
        raise ConfigurationError(
            f"url: http:// would send key and data unencrypted; write https://{validators.named(host)} (http:// is for"
            " this machine alone)"
        )
    return f"{parts.scheme.lower()}://{parts.netloc}{parts.path.rstrip('/')}"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
