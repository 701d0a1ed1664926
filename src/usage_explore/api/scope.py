"""Whose events may this request see? The one place where that is decided.

Today the server listens on 127.0.0.1 for the one person on this machine, who may see what the configured store
may. With API keys, a scope looks at `request.headers["authorization"]` and gives
`dataclasses.replace(store, organization_id=…)` for the key's organization, or raises `Problem` (401). The store
then checks every `organization_id` in a question or cursor against it; nothing else of this package knows who asks.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request

from usage_explore.store import Store

Scope = Callable[[Request, Store], Store]
"""The store that answers a request: the server's, narrowed to what the asker may see."""


def this_machine(request: Request, store: Store) -> Store:
    """Everybody who reaches the server is the one person on this machine."""
    return store
