"""Whether files can be loaded in the app: never on a shared server unless a setting allows it, and only with a database
role that may write.

Until the settings allow it, no connection is opened that could write.
"""

from __future__ import annotations

from contextlib import closing
from urllib.parse import urlsplit

import streamlit as st

from usage_explore import config
from usage_explore.access.allow_list import People
from usage_explore.access.api_keys import Keyring
from usage_explore.access.bind_check import is_this_machine
from usage_explore.config import Settings
from usage_explore.db import ddl
from usage_explore.errors import ConfigurationError, DatabaseUnavailable, TableMismatch, UsageExploreError

_CACHE_SECONDS = 60
"""Time for which the result that the role may write is cached."""


def is_offered() -> bool:
    """Whether files can be loaded here; False too while that cannot be found out."""
    try:
        return not refusal()
    except UsageExploreError:
        return False


def refusal() -> str:
    """Why files cannot be loaded here, a sentence with `commands` in backquotes; "" where they can.

    Raises `DatabaseUnavailable`, and `ConfigurationError` for invalid settings.
    """
    settings = config.settings()
    if settings.app_load is False:
        return (
            "Files are not loaded in the app here (USAGE_EXPLORE_APP_LOAD=false). In a terminal, load them with"
            " `usage-explore load FILE`."
        )
    if settings.app_load is None and (shared := _shared_by(settings)):
        return (
            f"This server is shared ({shared}), so files are not loaded in the app. In a terminal, load them with"
            " `usage-explore load FILE`; the administrator can allow it here with USAGE_EXPLORE_APP_LOAD=true."
        )
    reason = _refusal_of_role(settings)
    if not reason:
        return ""
    return f"{reason}. In a terminal, load with a role that may: `usage-explore load FILE --database-url URL`."


def _shared_by(settings: Settings) -> str:
    """What shows that others than the person at this machine use the server; "" for nothing."""
    address = str(st.get_option("server.address") or "every address")
    host = urlsplit(settings.app_url).hostname or ""
    if People(settings.people).required:
        return "people sign in"
    if Keyring(settings.keys).required:
        return "it has API keys"
    if not is_this_machine(address):
        return f"it listens at {address}"
    if not is_this_machine(host):
        return f"its address is {host}"
    if settings.trusted_proxies:
        return "it is behind a proxy"
    return ""


@st.cache_resource(ttl=_CACHE_SECONDS, max_entries=1, show_spinner=False, hash_funcs={Settings: repr})
def _refusal_of_role(settings: Settings) -> str:
    """Why the database role cannot load events; "" if it can. Raises `DatabaseUnavailable`."""
    try:
        with closing(ddl.connect(config.database_url(settings))) as connection:
            ddl.check_loadable(connection, settings.table)
    except DatabaseUnavailable:
        raise
    except (TableMismatch, ConfigurationError) as error:
        return str(error)
    return ""
