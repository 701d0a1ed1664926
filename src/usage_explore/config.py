"""Settings: what the options and the environment say. The only module that reads the environment."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from uuid import UUID

import platformdirs

from usage_explore.db.schema import DEFAULT_TABLE, split_name
from usage_explore.errors import ConfigurationError
from usage_explore.query import validators

PREFIX = "USAGE_EXPLORE_"
DEFAULT_STATEMENT_TIMEOUT = timedelta(seconds=30)
DEFAULT_LONG_STATEMENT_TIMEOUT = timedelta(minutes=10)
DEFAULT_SETTLE = timedelta(minutes=5)
DEFAULT_APP_URL = "http://127.0.0.1:8501"

_SCHEMES = ("postgresql://", "postgres://", "postgresql+psycopg://")
_LONGEST = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a run works with.

    `database_url` is None for the embedded database, `organization_id` None when it was not chosen;
    `home` is the folder of the embedded database, `keys` the file of the API keys, `people` the table of who may see
    which organizations in the app; `statement_timeout` bounds each statement, `long_statement_timeout` each of what
    works through the whole table, such as the rollup's; `settle` is how far a pinned link stays behind the database's
    clock; `app_url` is where the app is reached; `trusted_proxies` are the addresses or networks of proxies whose
    `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
    """

    database_url: str | None = field(default=None, repr=False)
    organization_id: UUID | None = None
    table: str = DEFAULT_TABLE
    home: Path
    keys: Path
    people: Path
    statement_timeout: timedelta = DEFAULT_STATEMENT_TIMEOUT
    long_statement_timeout: timedelta = DEFAULT_LONG_STATEMENT_TIMEOUT
    settle: timedelta = DEFAULT_SETTLE
    app_url: str = DEFAULT_APP_URL
    trusted_proxies: tuple[str, ...] = ()

    def environment(self) -> dict[str, str]:
        """The environment of a child process that works with these settings."""
        values = {
            "DATABASE_URL": self.database_url,
            "ORGANIZATION_ID": self.organization_id and str(self.organization_id),
            "TABLE": self.table,
            "HOME": str(self.home),
            "KEYS": str(self.keys),
            "PEOPLE": str(self.people),
            "STATEMENT_TIMEOUT": f"{self.statement_timeout.total_seconds():g}",
            "LONG_STATEMENT_TIMEOUT": f"{self.long_statement_timeout.total_seconds():g}",
            "SETTLE_TIME": f"{self.settle.total_seconds():g}",
            "APP_URL": self.app_url,
            "TRUSTED_PROXIES": ",".join(self.trusted_proxies),
        }
        others = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        return others | {PREFIX + name: value for name, value in values.items() if value}


def settings(
    *,
    database_url: str | None = None,
    organization_id: UUID | str | None = None,
    table: str | None = None,
    home: Path | str | None = None,
    keys: Path | str | None = None,
    people: Path | str | None = None,
    statement_timeout: timedelta | float | str | None = None,
    long_statement_timeout: timedelta | float | str | None = None,
    settle: timedelta | float | str | None = None,
    app_url: str | None = None,
    trusted_proxies: str | None = None,
) -> Settings:
    """The settings in force: each override, else its `USAGE_EXPLORE_…` variable, else its default.

    Durations are timedeltas or seconds. An empty variable counts as absent.
    Raises `ConfigurationError` naming the option and the variable when a value cannot work.
    """
    return _settings(
        os.environ,
        database_url=database_url,
        organization_id=organization_id,
        table=table,
        home=home,
        keys=keys,
        people=people,
        statement_timeout=statement_timeout,
        long_statement_timeout=long_statement_timeout,
        settle=settle,
        app_url=app_url,
        trusted_proxies=trusted_proxies,
    )


def put_in_force(settings: Settings) -> None:
    """Make these the settings of this process: what `settings()` finds from now on."""
    os.environ.update(settings.environment())


def database_url(settings: Settings) -> str:
    """The configured database URL, else the embedded server's, started on demand.

    Raises `ConfigurationError` when the embedded server's folder cannot be used and `DatabaseUnavailable`
    when it does not start.
    """
    if settings.database_url:
        return settings.database_url
    from usage_explore.db import embedded

    return embedded.start(settings.home)


def default_home() -> Path:
    """The embedded database's folder: the user's data folder, for root one that other OS users can reach."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/usage-explore")
    return platformdirs.user_data_path("usage-explore", appauthor=False)


def _settings(
    environment: Mapping[str, str],
    *,
    database_url: str | None,
    organization_id: UUID | str | None,
    table: str | None,
    home: Path | str | None,
    keys: Path | str | None,
    people: Path | str | None,
    statement_timeout: timedelta | float | str | None,
    long_statement_timeout: timedelta | float | str | None,
    settle: timedelta | float | str | None,
    app_url: str | None,
    trusted_proxies: str | None,
) -> Settings:
    def pick(option: Any, variable: str, default: Any = None) -> Any:
        found = option if option is not None else environment.get(PREFIX + variable, "").strip() or None
        return default if found is None else found

    url = pick(database_url, "DATABASE_URL")
    name = pick(table, "TABLE", DEFAULT_TABLE)
    split_name(name)
    folder = _path(pick(home, "HOME", default_home()), "home")
    return Settings(
        database_url=None if url is None else _url(url),
        organization_id=_organization(pick(organization_id, "ORGANIZATION_ID")),
        table=name,
        home=folder,
        keys=_path(pick(keys, "KEYS", folder / "keys.json"), "keys"),
        people=_path(pick(people, "PEOPLE", folder / "people.toml"), "people"),
        statement_timeout=_duration(
            pick(statement_timeout, "STATEMENT_TIMEOUT"),
            "statement_timeout",
            default=DEFAULT_STATEMENT_TIMEOUT,
            least=timedelta(milliseconds=1),
        ),
        long_statement_timeout=_duration(
            pick(long_statement_timeout, "LONG_STATEMENT_TIMEOUT"),
            "long_statement_timeout",
            default=DEFAULT_LONG_STATEMENT_TIMEOUT,
            least=timedelta(milliseconds=1),
        ),
        settle=_duration(pick(settle, "SETTLE_TIME"), "settle_time", default=DEFAULT_SETTLE, least=timedelta(0)),
        app_url=_app_url(pick(app_url, "APP_URL", DEFAULT_APP_URL)),
        trusted_proxies=_networks(pick(trusted_proxies, "TRUSTED_PROXIES", "")),
    )


def _path(value: Path | str, name: str) -> Path:
    try:
        if b"\0" in os.fsencode(value):
            raise ValueError
        return Path(value).expanduser().absolute()
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: ~ of a user whose home nobody knows
        raise ConfigurationError(
            f"{name}: {validators.shorten(value)} is not a path (USAGE_EXPLORE_{name.upper()})"
        ) from None


def _url(value: str) -> str:
    for scheme in _SCHEMES if isinstance(value, str) else ():
        if value.startswith(scheme):
            return "postgresql://" + value.removeprefix(scheme)
    raise ConfigurationError(
        "database_url: only PostgreSQL is spoken here; write postgresql://user:password@host:5432/database"
        " (--database-url or USAGE_EXPLORE_DATABASE_URL)"
    )


def _organization(value: UUID | str | None) -> UUID | None:
    try:
        return None if value is None else validators.uuid(value)
    except ValueError as error:
        raise ConfigurationError(
            f"organization_id: {error} (--organization-id or USAGE_EXPLORE_ORGANIZATION_ID)"
        ) from None


def _duration(value: timedelta | float | str | None, name: str, *, default: timedelta, least: timedelta) -> timedelta:
    if value is None:
        return default
    fault = ConfigurationError(
        f"{name}: {validators.shorten(value)} is not a number of seconds between {least.total_seconds():g} and"
        f" {_LONGEST.total_seconds():g} (USAGE_EXPLORE_{name.upper()})"
    )
    if not isinstance(value, timedelta):
        try:
            seconds = float(value)
        except (TypeError, ValueError, OverflowError):
            raise fault from None
        if not math.isfinite(seconds) or abs(seconds) > _LONGEST.total_seconds():
            raise fault
        value = timedelta(seconds=seconds)
    if not least <= value <= _LONGEST:
        raise fault
    return value


def _app_url(value: str) -> str:
    known = isinstance(value, str) and value.startswith(("http://", "https://"))
    if not known or not value.isprintable() or " " in value:
        raise ConfigurationError(
            f"app_url: {validators.shorten(value)} does not start with http:// or https://, or has blanks in it"
            " (USAGE_EXPLORE_APP_URL)"
        )
    return value.rstrip("/")


def _networks(value: str) -> tuple[str, ...]:
    try:
        return tuple(str(ip_network(each.strip())) for each in value.split(",") if each.strip())
    except (AttributeError, ValueError):
        raise ConfigurationError(
            f"trusted_proxies: {validators.shorten(value)} is not a list of addresses or networks, such as"
            " 127.0.0.1,10.0.0.0/8 (USAGE_EXPLORE_TRUSTED_PROXIES)"
        ) from None
