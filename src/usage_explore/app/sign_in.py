"""Who asks, and what they may see: decided here alone, at every look, before anything remembered is shown.

Without a table of people everything is for the one person on this machine. As soon as there is one, everybody signs
in (Streamlit's OpenID Connect) and sees what the table grants to their e-mail address. A mistake in the configuration
lets nobody in and says what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from usage_explore import config
from usage_explore.access.allow_list import EVERYTHING, Grant, People
from usage_explore.access.bind_check import host_name, is_this_machine
from usage_explore.app import markdown
from usage_explore.config import Settings
from usage_explore.errors import ConfigurationError, ScopeError

_NEEDED = ("redirect_uri", "cookie_secret", "client_id", "client_secret", "server_metadata_url")
_SECRET = 32  # characters that nobody guesses

MISDIRECTED = (
    "This server is for the one person on its machine, who opens it at 127.0.0.1 or localhost, or by the "
    "name in USAGE_EXPLORE_APP_URL."
)


def grant() -> Grant:
    """What the asker may see.

    Raises `ScopeError` when that is nothing, `ConfigurationError` when nobody can be let in.
    """
    settings = config.settings()
    people = People(settings.people)
    if not people.required:
        _only_this_machine(settings)
        return EVERYTHING
    _check_sign_in(people)
    found = _granted(people, _user())
    if found is None:
        raise ScopeError("Nothing here is yours to see; sign in, or ask whoever runs this server.")
    return found


def is_alone() -> bool:
    """Whether the app is for the one person on this machine, who may know the database's address."""
    return not People(config.settings().people).required


def may_connect(hosts: Sequence[str]) -> bool:
    """Whether a request with these `Host` headers is answered: any where people sign in, else one that names us."""
    settings = config.settings()
    return People(settings.people).required or (len(hosts) == 1 and _is_own_name(hosts[0], settings))


def admitted() -> bool:
    """Whether there is something for the asker to see; else it is said what to do instead.

    Raises `ConfigurationError` when nobody can be let in.
    """
    people = People(config.settings().people)
    if not people.required:
        grant()
        return True
    _check_sign_in(people)
    if not _is_signed_in(_user()):
        st.subheader("usage-explore", anchor=False)
        st.caption("Sign in to see your organization's usage. You come back to the link you opened.")
        st.button("Sign in", on_click=st.login, key="sign_in", type="primary")
        return False
    if _granted(people, _user()) is None:
        st.info(
            f"You are signed in as {markdown.plain(_name())}, and no organization here is shown to you; "
            "ask whoever runs this server.",
            icon=":material/info:",
        )
        st.button("Sign out", on_click=st.logout, key="sign_out")
        return False
    return True


def may_upload(user: Mapping[str, Any]) -> bool:
    """Whether a session of the user may hold files: any where nobody signs in, else one for which there is a grant."""
    people = People(config.settings().people)
    try:
        return not people.required or _granted(people, user) is not None
    except ConfigurationError:
        return False


def known() -> str | None:
    """The e-mail address of who asks, None where nobody signs in or the work is nobody's in particular."""
    found = _user().get("email") if get_script_run_ctx(suppress_warning=True) else None
    return found if isinstance(found, str) else None


def account() -> None:
    """Draw who is signed in and the way out; nothing where nobody signs in."""
    if not People(config.settings().people).required:
        return
    with st.popover("Account", icon=":material/person:"):
        st.caption(f"Signed in as {markdown.plain(_name())}")
        st.button("Sign out", on_click=st.logout, key="sign_out")


def sign_in_lacks() -> list[str]:
    """What the configuration of the sign-in lacks, in words; nothing where it is whole."""
    found = st.secrets.get("auth") if st.secrets.load_if_toml_exists() else None
    if not isinstance(found, Mapping):
        return ["the sign-in's [auth] section in .streamlit/secrets.toml (is it there, and valid TOML?)"]
    lacking = [f"auth.{name} in .streamlit/secrets.toml" for name in _NEEDED if not found.get(name)]
    if not lacking and len(str(found["cookie_secret"])) < _SECRET:
        lacking.append(f"an auth.cookie_secret of at least {_SECRET} random characters in .streamlit/secrets.toml")
    return lacking


def _check_sign_in(people: People) -> None:
    people.check()
    if lacking := sign_in_lacks():
        raise ConfigurationError(f"Nobody can sign in yet; what is missing: {'; '.join(lacking)}.")


def _granted(people: People, user: Mapping[str, Any]) -> Grant | None:
    """What the table grants to the person who signed in, None where that is nothing."""
    email = user.get("email")
    if not (_is_signed_in(user) and isinstance(email, str)):
        return None
    found = people.grant(email, user.get("email_verified"))
    return found if found and (found.every or found.organizations) else None


def _only_this_machine(settings: Settings) -> None:
    """Raise `ConfigurationError` where others could reach the app, by its address or by a name that leads here."""
    address = str(st.get_option("server.address") or "every address")
    if not is_this_machine(address):
        raise ConfigurationError(
            f"This server listens at {address}, where others reach it, and nothing keeps them out; so nobody is let "
            f"in. Make the table of who may see what ({settings.people}), or listen at 127.0.0.1. See SECURITY.md."
        )
    if not _is_own_name(st.context.headers.get("Host") or address, settings):
        raise ConfigurationError(MISDIRECTED)


def _is_own_name(host: str, settings: Settings) -> bool:
    """Whether a `Host` header, such as localhost:8501, names this machine or the host in USAGE_EXPLORE_APP_URL."""
    name = host_name(host)
    return name is not None and (is_this_machine(name) or name == urlsplit(settings.app_url).hostname)


def _is_signed_in(user: Mapping[str, Any]) -> bool:
    return user.get("is_logged_in") is True


def _user() -> Mapping[str, Any]:
    return st.user.to_dict()


def _name() -> str:
    return str(_user().get("email") or _user().get("name") or "somebody without an e-mail address")
