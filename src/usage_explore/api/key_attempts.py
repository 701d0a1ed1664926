"""Wrong keys are limited: so many a minute from one address, then 429 until the minute is over.

Who holds a right key is not kept out by others at the same address (a proxy makes everybody look like one), unless
its very key is what is being guessed at.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address, ip_network
from math import ceil

MOST = 10
"""Wrong keys that an address may send in a minute."""

_WINDOW = 60.0
_MOST_ADDRESSES = 10_000


@dataclass(slots=True)
class _Window:
    ends: float
    wrong: int = 0
    guessed: Counter[str] = field(default_factory=Counter)


class Attempts:
    """Wrong keys by address, those of the last minute, the oldest forgotten where there are too many addresses."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def wait(self, address: str, key_id: str | None) -> int:
        """Seconds until the address may try again: for the key of that id, for None any that is wrong; 0 for now."""
        window = self._window(address)
        if window is None:
            return 0
        tried = window.wrong if key_id is None else window.guessed[key_id]
        return ceil(window.ends - self._clock()) if tried >= MOST else 0

    def failed(self, address: str, key_id: str | None) -> None:
        """The address sent a wrong key, one that carries the id of this known key, None where there is none."""
        window = self._window(address)
        if window is None:
            while len(self._windows) >= _MOST_ADDRESSES:
                self._windows.popitem(last=False)
            window = self._windows[_place(address)] = _Window(self._clock() + _WINDOW)
        window.wrong += 1
        if key_id is not None:
            window.guessed[key_id] += 1

    def _window(self, address: str) -> _Window | None:
        window = self._windows.get(_place(address))
        if window is not None and window.ends <= self._clock():
            del self._windows[_place(address)]
            return None
        return window


def _place(address: str) -> str:
    """What counts as one address: of IPv6 a network, whose holder has all of its addresses."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, IPv6Address):
        return str(found.ipv4_mapped or ip_network((found, 64), strict=False))
    return str(found)
