"""Sign-in and authorization of the app's user, checked on every access, before cached results are shown.

Without an allow list the app serves only its own machine. With one, users sign in (Streamlit's OpenID Connect) and
see the organizations that the list grants to their e-mail address. With an invalid configuration nothing is served,
and the page says what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import UUID

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from usage_explore import config
from usage_explore.access.allow_list import EVERYTHING, Grant, People
from usage_explore.access.bind_check import host_name, is_this_machine
from usage_explore.config import Settings
from usage_explore.errors import ConfigurationError, ScopeError

_REQUIRED_SECRETS = ("redirect_uri", "cookie_secret", "client_id", "client_secret", "server_metadata_url")
_MIN_SECRET_CHARACTERS = 32
_CARD_PIXELS = 400

FAILED = "usage_explore_sign_in_failed"
"""The cookie of a browser whose last sign-in did not succeed; its value is `SILENT` if the provider was not reached."""

SILENT = "silent"

_FAILURES = {
    False: "You are not signed in: your provider refused, or its answer could not be trusted. Try again; the reason "
    "is in the server's log.",
    True: "You are not signed in: your provider did not answer this server. Try again in a few minutes; the reason is "
    "in the server's log.",
}
"""What is said after a sign-in that did not succeed, by whether the provider was not reached."""

_MAX_COOKIE_BYTES = 3_500

_TOO_LONG = "The link you opened is too long to come back to: open it once more after that."

_NOTHING = "No organization here is shown to you; ask the administrator."

_UNVERIFIED = (
    "No organization here is shown to you: your sign-in does not confirm that this address is yours "
    "(`email_verified`). Ask the administrator."
)

MISDIRECTED = (
    "This server is for the one person on its machine, who opens it at 127.0.0.1 or localhost, or by the "
    "name in USAGE_EXPLORE_APP_URL."
)


def grant() -> Grant:
    """The organizations that are visible to the user.

    Raises `ScopeError` if there are none, `ConfigurationError` if the configuration is invalid.
    """
    settings = config.settings()
    people = People(settings.people)
    if not people.required:
        _only_this_machine(settings)
        return EVERYTHING
    _check_sign_in(people)
    granted = _granted(people, _user())
    if granted is None:
        raise ScopeError("Nothing here is yours to see; sign in, or ask the administrator.")
    return granted


def is_alone() -> bool:
    """Whether the app serves only its own machine; its user may see the database's address."""
    return not People(config.settings().people).required


def may_connect(hosts: Sequence[str]) -> bool:
    """Whether to answer a request with these `Host` headers: any with sign-in, else one that names this server."""
    settings = config.settings()
    return People(settings.people).required or (len(hosts) == 1 and _is_own_name(hosts[0], settings))


def admitted() -> bool:
    """Whether an organization is visible to the user; if not, draw what to do.

    Raises `ConfigurationError` if the configuration is invalid.
    """
    people = People(config.settings().people)
    if not people.required:
        grant()
        return True
    _check_sign_in(people)
    if not _is_signed_in(_user()):
        with _card():
            st.subheader("usage-explore", anchor=False)
            if failed := st.context.cookies.get(FAILED):
                st.warning(_FAILURES[failed == SILENT], icon=":material/warning:")
            comes_back = cookie_value(_quoted_query()) is not None
            link = "You come back to the link you opened." if comes_back else _TOO_LONG
            st.caption(f"Sign in to see your organization's usage. {link}")
            st.button("Sign in", on_click=st.login, key="sign_in", type="primary", width="stretch")
        return False
    if _granted(people, _user()) is None:
        with _card():
            unverified = "email" in _user() and not people.accepts(_user().get("email_verified"))
            st.info(_UNVERIFIED if unverified else _NOTHING, icon=":material/info:")
            _signed_in_as()
            st.button("Sign out", on_click=st.logout, key="sign_out")
        return False
    return True


def cookie_value(page: str) -> str | None:
    """The page to come back to after the sign-in, as the value of a cookie; None if it is too long for one."""
    value = quote(page, safe="")
    return value if len(value) <= _MAX_COOKIE_BYTES else None


def _quoted_query() -> str:
    context = get_script_run_ctx()
    return "" if context is None else context.query_string


def _card() -> Any:
    """A bordered box in the middle of the page."""
    with st.container(horizontal=True, horizontal_alignment="center", key="sign_in_page"):
        return st.container(width=_CARD_PIXELS, border=True)


def may_upload(user: Mapping[str, Any]) -> bool:
    """Whether the user's session may hold files: always without sign-in, else if an organization is visible."""
    people = People(config.settings().people)
    try:
        return not people.required or _granted(people, user) is not None
    except ConfigurationError:
        return False


def visibility(organization_id: UUID | None) -> Callable[[], None]:
    """Checks later, outside of the session, that its user may see an organization: raises `ScopeError` if not.

    None stands for any.
    """
    user = dict(_user()) if People(config.settings().people).required else {}

    def check() -> None:
        people = People(config.settings().people)
        granted = _granted(people, user) if people.required else EVERYTHING
        if granted is None or not (organization_id is None or granted.allows(organization_id)):
            raise ScopeError("Nothing here is yours to see any longer; reload the page.")

    return check


def current_user() -> str | None:
    """The user's e-mail address; None without sign-in, and outside a session."""
    email = _user().get("email") if get_script_run_ctx(suppress_warning=True) else None
    return email if isinstance(email, str) else None


def account() -> None:
    """Draw the user's name and a button to sign out; nothing without sign-in."""
    if not People(config.settings().people).required:
        return
    with st.popover("Account", icon=":material/person:", key="account"):
        _signed_in_as()
        st.button("Sign out", on_click=st.logout, key="sign_out")


def _signed_in_as() -> None:
    st.text(f"Signed in as {_name()}")  # no Markdown: an address is copied as it is


def sign_in_lacks() -> list[str]:
    """The missing parts of the sign-in's configuration, as phrases; empty if it is complete."""
    secrets = _secrets()
    if secrets is None:
        return ["the sign-in's [auth] section in .streamlit/secrets.toml (is it there, and valid TOML?)"]
    lacking = [f"auth.{name} in .streamlit/secrets.toml" for name in _REQUIRED_SECRETS if not secrets.get(name)]
    if not lacking and len(str(secrets["cookie_secret"])) < _MIN_SECRET_CHARACTERS:
        lacking.append(
            f"an auth.cookie_secret of at least {_MIN_SECRET_CHARACTERS} random characters in .streamlit/secrets.toml"
        )
    return lacking


def is_encrypted() -> bool:
    """Whether users sign in at an `https` address, the `redirect_uri` of the configuration."""
    secrets = _secrets()
    return secrets is not None and str(secrets.get("redirect_uri")).startswith("https:")


def _secrets() -> Mapping[str, Any] | None:
    """The sign-in's configuration."""
    secrets = st.secrets.get("auth") if st.secrets.load_if_toml_exists() else None
    return secrets if isinstance(secrets, Mapping) else None


def _check_sign_in(people: People) -> None:
    people.check()
    if lacking := sign_in_lacks():
        raise ConfigurationError(f"Sign-in is not configured; missing: {'; '.join(lacking)}.")


def _granted(people: People, user: Mapping[str, Any]) -> Grant | None:
    """The user's grant from the allow list; None without one."""
    email = user.get("email")
    if not (_is_signed_in(user) and isinstance(email, str)):
        return None
    granted = people.grant(email, user.get("email_verified"))
    return granted if granted and (granted.every or granted.organizations) else None


def _only_this_machine(settings: Settings) -> None:
    """Raise `ConfigurationError` if other machines can reach the app, or if the `Host` header names another server."""
    address = str(st.get_option("server.address") or "every address")
    if not is_this_machine(address):
        raise ConfigurationError(
            f"This server listens at {address}, which other machines can reach, without sign-in, so it shows no data. "
            f"Make the table of who may see what ({settings.people}), or listen at 127.0.0.1. See SECURITY.md."
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
