"""Authorization of requests: decides here alone which organization's events a request may read.

API keys are required as soon as the keyring has a key, even a revoked one, or the app requires sign-in; a key grants
access to one organization. Without keys only requests from this machine, addressed to one of its own names, are
answered: a web page of another site cannot read through a name of its own that resolves to 127.0.0.1 (DNS rebinding).

The store then checks every `organization_id` in a query or cursor against the result.
"""

from __future__ import annotations

import hmac
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import IPv6Address, ip_address, ip_network
from math import ceil
from urllib.parse import urlsplit
from uuid import UUID

from starlette.requests import Request

from usage_explore.access.allow_list import People
from usage_explore.access.api_keys import Keyring
from usage_explore.access.bind_check import host_name, is_this_machine
from usage_explore.api.problems import Problem, ProblemType
from usage_explore.errors import ConfigurationError

MAX_WRONG_KEYS = 10
"""Wrong keys that one address may send in `_WINDOW_SECONDS`; further requests with a wrong key get 429."""

_WINDOW_SECONDS = 60.0
_MAX_ADDRESSES = 10_000
"""Addresses with wrong keys that are remembered; beyond, the oldest is forgotten."""

_OWN_NAMES = ("127.0.0.1", "localhost", "::1")
_ONLY_THIS_MACHINE = (
    "Without API keys only this machine is answered, at 127.0.0.1, localhost or [::1]. `usage-explore keys create`"
    " creates keys for other machines."
)
_METRICS_HINT = "Set USAGE_EXPLORE_METRICS_KEY, and send it as `Authorization: Bearer …`."

_FORWARDED = (
    *("forwarded", "via", "x-forwarded-", "x-real-ip", "x-original-", "x-client-ip", "x-cluster-client-ip"),
    *("true-client-ip", "cf-", "fastly-", "x-envoy-", "x-amzn-", "x-azure-", "x-goog-", "x-appengine-"),
)
"""How the names of headers begin that proxies add."""


@dataclass(slots=True)
class _Window:
    ends: float
    wrong: int = 0
    wrong_by_key_id: Counter[str] = field(default_factory=Counter)


class KeyAttempts:
    """Counts wrong keys per address within a window of 60 seconds.

    Valid keys are still accepted from an address at its limit, because all clients behind a proxy share its address;
    except a key whose own id was used in `MAX_WRONG_KEYS` wrong attempts.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def seconds_to_wait(self, address: str, key_id: str | None) -> int:
        """Seconds until the address may try again, 0 if it may now.

        `key_id` is the id of the valid key that was sent, None for a wrong key.
        """
        window = self._window(address)
        if window is None:
            return 0
        wrong = window.wrong if key_id is None else window.wrong_by_key_id[key_id]
        return ceil(window.ends - self._clock()) if wrong >= MAX_WRONG_KEYS else 0

    def record_failure(self, address: str, key_id: str | None) -> None:
        """Count a wrong key; `key_id` is the id in it if a key has that id, else None."""
        window = self._window(address)
        if window is None:
            while len(self._windows) >= _MAX_ADDRESSES:
                self._windows.popitem(last=False)
            window = self._windows[network(address)] = _Window(self._clock() + _WINDOW_SECONDS)
        window.wrong += 1
        if key_id is not None:
            window.wrong_by_key_id[key_id] += 1

    def _window(self, address: str) -> _Window | None:
        window = self._windows.get(network(address))
        if window is not None and window.ends <= self._clock():
            del self._windows[network(address)]
            return None
        return window


@dataclass(frozen=True, slots=True)
class Access:
    """Who may read: holders of an API key where keys are required, else this machine's user.

    `metrics_key` opens the metrics and nothing else. `behind_proxy`: clients of other machines seem to come from this
    one.
    """

    keyring: Keyring | None = None
    people: People | None = None
    metrics_key: str | None = field(default=None, repr=False)
    behind_proxy: bool = False
    attempts: KeyAttempts = field(default_factory=KeyAttempts, compare=False)

    def needs_key(self) -> bool:
        """Whether a key is required; also true while the keyring is damaged."""
        try:
            return bool(self.keyring and self.keyring.required) or bool(self.people and self.people.required)
        except ConfigurationError:
            return True

    def is_open(self, request: Request) -> bool:
        """Whether the request may read everything without signing in: no keys or people, and from this machine."""
        ends = [request.scope.get(end) for end in ("server", "client")]
        return not self.needs_key() and all(end and is_this_machine(end[0]) for end in ends)

    def __call__(self, request: Request) -> UUID | None:
        """The only organization that the request may read, None for every organization that the server may.

        Raises `Problem`: 401 for a missing, wrong or revoked key, in the same words; 429 after too many wrong keys;
        421 where no key is required and the request does not come from this machine. `ConfigurationError` for a
        damaged keyring.
        """
        if not self.needs_key():
            _require_this_machine(request)
            return None
        text = _bearer_token(request)
        key, claimed_id = self.keyring.look(text) if self.keyring else (None, None)
        if text:
            self._check_attempts(request, key.id if key else None)
        if key is None:
            detail = "Send an API key of this server as `Authorization: Bearer ue_…`; its operator creates keys."
            raise self._refused(request, text, claimed_id, detail)
        request.state.api_key = {"key": key.id, "name": key.name}
        return key.organization_id

    def check_again(self, request: Request) -> None:
        """Raise `Problem` (401) if the key of a request that was admitted opens nothing any longer."""
        if self.needs_key() and not (self.keyring and self.keyring.find(_bearer_token(request))):
            raise Problem(ProblemType.UNAUTHORIZED, "The key was revoked.", headers={"WWW-Authenticate": "Bearer"})

    def metrics(self, request: Request) -> bool:
        """Whether the metrics may name organizations to the request; raises `Problem` if it may not read them at all.

        With a metrics key the request needs it (401, 429). Without one it must come from this machine (421) and have
        passed no proxy, as far as its headers and the configuration say; it sees ids where it may read all events.
        """
        if self.metrics_key is None:
            if self.behind_proxy or any(name.startswith(_FORWARDED) for name in request.headers.keys()):  # noqa: SIM118
                raise Problem(ProblemType.MISDIRECTED, f"Behind a proxy the metrics need a key. {_METRICS_HINT}")
            _require_this_machine(request, f"The metrics are for this machine alone. {_METRICS_HINT}")
            return self.is_open(request)
        text = _bearer_token(request)
        if text and hmac.compare_digest(*(sha256(given.encode()).digest() for given in (text, self.metrics_key))):
            return True
        if text:
            self._check_attempts(request, None)
        raise self._refused(request, text, None, "Send the metrics key of this server as `Authorization: Bearer …`.")

    def _check_attempts(self, request: Request, key_id: str | None) -> None:
        """Raise `Problem` (429) if too many wrong keys came from the request's address."""
        if seconds := self.attempts.seconds_to_wait(_address(request), key_id):
            detail = f"{MAX_WRONG_KEYS} wrong keys came from this address within a minute; try again in {seconds} s."
            raise Problem(ProblemType.TOO_MANY, detail, headers={"Retry-After": str(seconds)})

    def _refused(self, request: Request, text: str, claimed_id: str | None, detail: str) -> Problem:
        """The 401 for a request without a right key; a wrong one is counted."""
        if text:
            self.attempts.record_failure(_address(request), claimed_id)
        return Problem(ProblemType.UNAUTHORIZED, detail, headers={"WWW-Authenticate": "Bearer"})


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _bearer_token(request: Request) -> str:
    """The API key in the request, blank if it has none or several."""
    values = request.headers.getlist("authorization")
    scheme, _, text = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    return text.strip() if scheme.lower() == "bearer" else ""


def refuse_other_sites(request: Request) -> None:
    """Raise `Problem` (421) for a request that a browser sends for a page of another site.

    Without keys a request needs no credentials, so such a page could start validations or make links.
    """
    headers = request.headers
    own = all(_network_location(origin) == headers.get("Host") for origin in headers.getlist("Origin"))
    if not own or headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
        raise Problem(
            ProblemType.MISDIRECTED, "Pages of other sites are not answered; send the request from a program."
        )


def _network_location(origin: str) -> str:
    """Host and port of an origin, empty if it is malformed, as for `null`."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _require_this_machine(request: Request, detail: str = _ONLY_THIS_MACHINE) -> None:
    """Raise `Problem` (421) unless both ends are on this machine and `Host` is one of its own names."""
    hosts = request.headers.getlist("host")
    is_own_name = len(hosts) == 1 and host_name(hosts[0]) in _OWN_NAMES
    ends = [request.scope.get(end) for end in ("server", "client")]
    if not is_own_name or not all(end and is_this_machine(end[0]) for end in ends):
        raise Problem(ProblemType.MISDIRECTED, detail)


def network(address: str) -> str:
    """The unit that attempts are counted by: an IPv4 address, or an IPv6 /64 network, which has one holder."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or ip_network((parsed, 64), strict=False))
    return str(parsed)
