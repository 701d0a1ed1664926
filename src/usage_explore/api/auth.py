"""Whose events may this request see? The one place where that is decided.

As soon as the keyring holds a key, even a revoked one, or the app asks people to sign in, the door asks for a key: it
opens the key's organization and nothing else. Until then it is open to the one person on this machine, who asks it
by this machine's own name: a page of another site, whose name was made to lead here, is turned away.

The store then checks every `organization_id` in a question or cursor; nothing else of this package knows who asks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from uuid import UUID

from starlette.requests import Request

from usage_explore.access.allow_list import People
from usage_explore.access.api_keys import Keyring
from usage_explore.access.bind_check import is_this_machine
from usage_explore.api.key_attempts import MOST, Attempts
from usage_explore.api.problems import Kind, Problem
from usage_explore.errors import ConfigurationError

_OWN_NAMES = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\])(?::[0-9]{1,5})?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Access:
    """Who may ask: holders of a key where keys are needed, else the one person on this machine."""

    keyring: Keyring | None = None
    people: People | None = None
    attempts: Attempts = field(default_factory=Attempts, compare=False)

    def needs_key(self) -> bool:
        """Whether a key is asked for; a damaged keyring lets nobody in without one."""
        try:
            return bool(self.keyring and self.keyring.listed()) or bool(self.people and self.people.required)
        except ConfigurationError:
            return True

    def __call__(self, request: Request) -> UUID | None:
        """The one organization that the asker may see, None for every one the server may.

        Raises `Problem`: 401 where a key is missing, wrong or revoked, with the same words for all three; 429 after
        too many wrong ones; 421 where none is needed and the request does not come from this machine.
        `ConfigurationError` for a damaged keyring.
        """
        if not self.needs_key():
            _from_this_machine(request)
            return None
        text = _bearer(request)
        key, claimed = self.keyring.look(text) if self.keyring else (None, None)
        address = request.client.host if request.client else ""
        if text and (seconds := self.attempts.wait(address, key.id if key else None)):
            words = f"{MOST} wrong keys came from this address within a minute; try again in {seconds} s."
            raise Problem(Kind.TOO_MANY, words, headers={"Retry-After": str(seconds)})
        if key is None:
            if text:
                self.attempts.failed(address, claimed)
            words = "Send an API key of this server as `Authorization: Bearer ue_…`; whoever runs it makes one."
            raise Problem(Kind.UNAUTHORIZED, words, headers={"WWW-Authenticate": "Bearer"})
        request.state.asker = {"key": key.id, "name": key.name}
        return key.organization_id


def _bearer(request: Request) -> str:
    """The key that the request carries, blank where it carries none or several."""
    given = request.headers.getlist("authorization")
    scheme, _, text = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    return text.strip() if scheme.lower() == "bearer" else ""


def _from_this_machine(request: Request) -> None:
    """Raise `Problem` (421) unless both ends are on this machine and it is called by its own name."""
    hosts = request.headers.getlist("host")
    named = len(hosts) == 1 and _OWN_NAMES.fullmatch(hosts[0])
    ends = [request.scope.get(end) for end in ("server", "client")]
    if not named or not all(end and is_this_machine(end[0]) for end in ends):
        words = "Without API keys only this machine is answered, at 127.0.0.1, localhost or [::1]."
        raise Problem(Kind.MISDIRECTED, f"{words} `usage-explore keys create` makes keys to share it with.")
