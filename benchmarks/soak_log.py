"""What was asked and what went wrong, for everybody who takes part."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

from soak_writer import mark
from usage_explore.demo import ORGANIZATIONS
from usage_explore.demo.business import customers

_NAMES = re.compile(rb"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|key_[0-9a-f]{12}|soak-[0-9a-f]{12}")


@dataclass
class Asked:
    """One request: when it was sent (seconds into the run), how long it took to its last byte, how it ended."""

    kind: str
    sent: float
    seconds: float
    status: str


@dataclass
class Log:
    """Everything that happened. `errors` are answers nobody expected, `broken` are laws that did not hold."""

    began: float = field(default_factory=time.monotonic)
    asked: list[Asked] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    busy: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)

    @property
    def now(self) -> float:
        return time.monotonic() - self.began

    @contextmanager
    def timed(self, kind: str) -> Iterator[Asked]:
        """Time a request; what is raised inside becomes its status and an error."""
        one = Asked(kind, self.now, 0, "200")
        try:
            yield one
        except Exception as error:
            one.status = type(error).__name__
            self.error(kind, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
            raise Failed from error
        finally:
            one.seconds = self.now - one.sent
            self.asked.append(one)

    def error(self, kind: str, what: str) -> None:
        self.errors[f"{kind}: {what[:300]}"] += 1

    def law(self, name: str, holds: bool, otherwise: str = "") -> None:
        """Note that a law was looked at, and whether it held."""
        self.held[name] += 1
        if not holds:
            self.broken[f"{name}: {otherwise[:300]}"] += 1


class Failed(Exception):
    """A request that ended in a way nobody expected; it is in the log."""


class Marks:
    """The names that belong to one of the demo's organizations alone: its id, customers, subscriptions, API keys."""

    def __init__(self) -> None:
        self._owner: dict[bytes, UUID] = {}
        for number, organization_id in enumerate(ORGANIZATIONS):
            people = customers(number)
            subscriptions = [name for both in people.subscription_ids for name in both]
            keys = [name for each in people.api_keys for name in each]
            for name in (str(organization_id), mark(organization_id), *people.ids, *subscriptions, *keys):
                self._owner[name.encode()] = organization_id
        self._organizations = {str(each).encode() for each in ORGANIZATIONS}

    def strangers(self, text: bytes, own: UUID, *, listed: bool = False) -> set[str]:
        """The names in the text that are another organization's; `listed`: organizations may be offered to choose."""
        found = {name for name in _NAMES.findall(text) if self._owner.get(name, own) != own}
        return {name.decode() for name in (found - self._organizations if listed else found)}
