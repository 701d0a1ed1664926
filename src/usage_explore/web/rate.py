"""A limit on the requests that one address may send in a minute."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from math import ceil

from usage_explore.api.auth import network

_WINDOW_SECONDS = 60.0
_MAX_ADDRESSES = 10_000
"""Addresses that are remembered; beyond, the oldest is forgotten."""


class RateLimit:
    """At most `most` requests of an address, for IPv6 a /64 network, in a minute."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def seconds_to_wait(self, address: str) -> int:
        """Count a request: 0 if it may be answered, else the seconds until the address may send another."""
        key, now = network(address), self._clock()
        ends, number = self._windows.get(key, (0.0, 0))
        if ends <= now:
            self._windows.pop(key, None)
            while len(self._windows) >= _MAX_ADDRESSES:
                self._windows.popitem(last=False)
            ends, number = now + _WINDOW_SECONDS, 0
        self._windows[key] = (ends, number + 1)
        return ceil(ends - now) if number >= self._most else 0
