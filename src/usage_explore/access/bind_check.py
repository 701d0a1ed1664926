"""Refuses to listen on an address that other machines reach, unless access control is configured.

Nothing in the environment overrides these checks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address

from usage_explore.access.allow_list import People
from usage_explore.access.api_keys import Keyring
from usage_explore.config import Settings
from usage_explore.errors import ConfigurationError

_HOST_HEADER = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\s\[\]:/?#@]+))(?::[0-9]{1,5})?", re.ASCII)


def host_name(header: str) -> str | None:
    """The name or address in a `Host` header, lower-case, without brackets and port; None for a malformed header.

    >>> host_name("LocalHost:8501"), host_name("[::1]:80"), host_name("localhost:80:1")
    ('localhost', '::1', None)
    """
    match = _HOST_HEADER.fullmatch(header.lower())
    return (match[1] or match[2]) if match else None


def is_this_machine(host: str) -> bool:
    """Whether only this machine reaches the address; of names, only localhost counts."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_api(host: str, settings: Settings) -> None:
    """Raise `ConfigurationError` if other machines could use the API without a key."""
    if is_this_machine(host):
        return
    if not any(key.revoked is None for key in Keyring(settings.keys).listed()):
        raise _refused(host, [f"an API key (`usage-explore keys create`; there is none in {settings.keys})"])


def check_app(host: str, settings: Settings, sign_in_lacks: Iterable[str]) -> None:
    """Raise `ConfigurationError` if other machines could use the app without signing in.

    `sign_in_lacks` lists what the configuration of the sign-in lacks; empty if it is complete.
    """
    if is_this_machine(host):
        return
    people = People(settings.people)
    missing = [] if people.required else [f"the table of who may see what ({settings.people})"]
    people.check()
    missing += sign_in_lacks
    if missing:
        raise _refused(host, missing)


def _refused(host: str, missing: Iterable[str]) -> ConfigurationError:
    return ConfigurationError(
        f"--host: at {host} others could reach everything; what keeps them out is missing: {'; '.join(missing)}. "
        f"See SECURITY.md, or leave --host out to serve this machine alone"
    )
