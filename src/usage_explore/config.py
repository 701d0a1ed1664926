"""Settings from options and `USAGE_EXPLORE_…` environment variables. The only module that reads the environment."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from datetime import timedelta
from functools import lru_cache
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import platformdirs
import psutil  # type: ignore[import-untyped]
import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import AliasGenerator, BeforeValidator, Field, ValidationInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from usage_explore.db.schema import DEFAULT_TABLE, split_name
from usage_explore.errors import ConfigurationError
from usage_explore.query import validators

PREFIX = "USAGE_EXPLORE_"
DEFAULT_STATEMENT_TIMEOUT = timedelta(seconds=30)
DEFAULT_LONG_STATEMENT_TIMEOUT = timedelta(minutes=10)
DEFAULT_SETTLE_TIME = timedelta(minutes=5)
DEFAULT_APP_URL = "http://127.0.0.1:8501"

SERVER_SCHEMES = ("https://", "http://")
"""How the address of a usage-explore server begins."""

_URL_SCHEMES = ("postgresql://", "postgres://", "postgresql+psycopg://")
_MAX_DURATION = timedelta(days=1)
_SWITCH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _variable(field: str | None) -> str:
    return f"{PREFIX}{field}".upper()


def _database_url(value: Any) -> str:
    """The URL of a PostgreSQL database, or of a usage-explore server, whose parts `remote.client` checks."""
    if isinstance(value, str) and value.lower().startswith(SERVER_SCHEMES):
        return value
    for scheme in _URL_SCHEMES:
        if isinstance(value, str) and value.startswith(scheme):
            return _readable("postgresql://" + value.removeprefix(scheme))
    raise ConfigurationError(
        "database_url: only PostgreSQL is spoken here; write postgresql://user:password@host:5432/database"
        " (--database-url or USAGE_EXPLORE_DATABASE_URL)"
    )


def _readable(url: str) -> str:
    """The address if libpq can split it; the error shows no part of it, as any part may be the password.

    libpq ends the password of `postgresql://user:pass/word@host/database` at the slash: its host is `user`.
    """
    address, _, query = url.removeprefix("postgresql://").partition("?")
    authority, _, path = address.partition("/")
    is_split = authority.count("@") < 2 and "@" not in path + query
    try:
        port = str(conninfo_to_dict(url).get("port") or "")
    except psycopg.ProgrammingError as error:
        if is_split and "query parameter" in str(error):
            raise ConfigurationError(
                "database_url: has a parameter after ? that libpq does not know; see"
                " https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS"
                " (--database-url or USAGE_EXPLORE_DATABASE_URL)"
            ) from None
        port = "none"
    if (
        is_split
        and "@" in authority
        and port != "none"
        and not all(digits.isdecimal() for digits in port.split(",") if digits)
    ):
        raise ConfigurationError(
            "database_url: its port is not a number; write host:5432, or percent-encode / in the password as %2F"
            " (--database-url or USAGE_EXPLORE_DATABASE_URL)"
        )
    if authority.count("@") > 1 or "@" in path or not all(digits.isdecimal() for digits in port.split(",") if digits):
        raise ConfigurationError(
            "database_url: is not a readable address; write postgresql://user:password@host:5432/database and"
            " percent-encode special characters of user, password and database: % as %25, / as %2F, @ as %40, # as %23"
            " and ? as %3F, so the password a/b is postgresql://user:a%2Fb@host:5432/database"
            " (--database-url or USAGE_EXPLORE_DATABASE_URL)"
        )
    return url


def _organization(value: Any) -> UUID:
    try:
        return validators.uuid(value)
    except ValueError as error:
        raise ConfigurationError(
            f"organization_id: {error} (--organization-id or USAGE_EXPLORE_ORGANIZATION_ID)"
        ) from None


def _table(value: Any) -> str:
    split_name(value)
    return str(value)


def _names_table(value: Any) -> str:
    split_name(value, "names_table")
    return str(value)


def _path(value: Any, info: ValidationInfo) -> Path:
    try:
        if b"\0" in os.fsencode(value):
            raise ValueError
        return Path(value).expanduser().absolute()
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: ~ of an unknown user
        raise ConfigurationError(
            f"{info.field_name}: {validators.shorten(value)} is not a path ({_variable(info.field_name)})"
        ) from None


def _duration(minimum: timedelta) -> Callable[[Any, ValidationInfo], timedelta]:
    def seconds(value: Any, info: ValidationInfo) -> timedelta:
        try:
            number = value.total_seconds() if isinstance(value, timedelta) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not minimum.total_seconds() <= number <= _MAX_DURATION.total_seconds():
            raise ConfigurationError(
                f"{info.field_name}: {validators.shorten(value)} is not a number of seconds between"
                f" {minimum.total_seconds():g} and {_MAX_DURATION.total_seconds():g} ({_variable(info.field_name)})"
            )
        return timedelta(seconds=number)

    return seconds


def _count(minimum: int) -> Callable[[Any, ValidationInfo], int]:
    def number(value: Any, info: ValidationInfo) -> int:
        try:
            count = int(str(value))
        except ValueError:
            count = -1
        if count < minimum:
            raise ConfigurationError(
                f"{info.field_name}: {validators.shorten(value)} is not a whole number from {minimum:,}"
                f" ({_variable(info.field_name)})"
            )
        return count

    return number


def _quarter_of_memory() -> int:
    return int(psutil.virtual_memory().total) // 4


def _app_url(value: Any) -> str:
    is_url = isinstance(value, str) and value.startswith(("http://", "https://"))
    if not is_url or not value.isprintable() or " " in value:
        raise ConfigurationError(
            f"app_url: {validators.shorten(value)} does not start with http:// or https://, or has blanks in it"
            " (USAGE_EXPLORE_APP_URL)"
        )
    return str(value).rstrip("/")


def _switch(value: Any, info: ValidationInfo) -> bool:
    text = str(value).lower()
    if text not in _SWITCH:
        raise ConfigurationError(
            f"{info.field_name}: {validators.shorten(value)} is neither true nor false ({_variable(info.field_name)})"
        )
    return _SWITCH[text]


def _networks(value: Any) -> tuple[str, ...]:
    try:
        addresses = value.split(",") if isinstance(value, str) else value
        return tuple(str(ip_network(address.strip())) for address in addresses if address.strip())
    except (AttributeError, TypeError, ValueError):
        raise ConfigurationError(
            f"trusted_proxies: {validators.shorten(value)} is not a list of addresses or networks, such as"
            " 127.0.0.1,10.0.0.0/8 (USAGE_EXPLORE_TRUSTED_PROXIES)"
        ) from None


MIN_METRICS_KEY_CHARACTERS = 32


def _metrics_key(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(rf"[!-~]{{{MIN_METRICS_KEY_CHARACTERS},1024}}", value):
        raise ConfigurationError(
            f"metrics_key: is not a text of at least {MIN_METRICS_KEY_CHARACTERS} ASCII characters without blanks; make"
            " one with `openssl rand -hex 32` (USAGE_EXPLORE_METRICS_KEY)"
        )
    return value


_SITE = re.compile(r"https?://(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)*(:[0-9]{1,5})?", re.ASCII | re.IGNORECASE)


def _sites(value: Any) -> tuple[str, ...]:
    sites = tuple(site.strip() for site in (value.split(",") if isinstance(value, str) else value) if str(site).strip())
    for site in sites:
        if not _SITE.fullmatch(site):
            raise ConfigurationError(
                f"embed_sites: {validators.shorten(site)} is not the origin of a site, such as"
                " https://wiki.example.com or https://*.example.com (USAGE_EXPLORE_EMBED_SITES)"
            )
    return sites


def default_home() -> Path:
    """The embedded database's folder: the user's data folder, for root one that other OS users can reach."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/usage-explore")
    return platformdirs.user_data_path("usage-explore", appauthor=False)


_PathSetting = Annotated[Path, BeforeValidator(_path)]
_Timeout = Annotated[timedelta, BeforeValidator(_duration(timedelta(milliseconds=1)))]


class Settings(BaseSettings):
    """The settings of a run, each from its option, its `USAGE_EXPLORE_…` variable or its default, in this order."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        case_sensitive=True,
        validate_by_name=True,
        alias_generator=AliasGenerator(validation_alias=_variable),
        hide_input_in_errors=True,
    )

    database_url: Annotated[str, BeforeValidator(_database_url)] | None = Field(default=None, repr=False)
    """None: the embedded database. For what only reads also the address of a usage-explore server."""
    key: str | None = Field(default=None, repr=False)
    """API key of that server."""
    table: Annotated[str, BeforeValidator(_table)] = DEFAULT_TABLE
    names_table: Annotated[str, BeforeValidator(_names_table)] | None = None
    """Table or view of names; None: `usage_names` in the schema of the events table."""
    home: _PathSetting = Field(default_factory=default_home)
    """Folder of the embedded database."""
    organization_id: Annotated[UUID, BeforeValidator(_organization)] | None = None
    """None: the only organization in the table, or a choice in the app."""
    keys: _PathSetting = Field(default_factory=lambda validated: validated["home"] / "keys.json")
    """File of the API keys."""
    people: _PathSetting = Field(default_factory=lambda validated: validated["home"] / "people.toml")
    """File of the organizations that each person may see in the app."""
    app_load: Annotated[bool, BeforeValidator(_switch)] | None = None
    """Whether the app loads files; None: only on a server that is not shared."""
    statement_timeout: _Timeout = DEFAULT_STATEMENT_TIMEOUT
    """Bound of each statement."""
    long_statement_timeout: _Timeout = DEFAULT_LONG_STATEMENT_TIMEOUT
    """Bound of each statement that reads the whole table: of `extract` and `validate`."""
    extract_memory: Annotated[int, BeforeValidator(_count(64 * 2**20))] = Field(default_factory=_quarter_of_memory)
    """Bytes of memory that DuckDB may use for extracts, by default a quarter of the machine's."""
    extract_threads: Annotated[int, BeforeValidator(_count(1))] = Field(default_factory=lambda: os.cpu_count() or 1)
    """Threads that DuckDB may use for extracts, by default one for each core."""
    settle_time: Annotated[timedelta, BeforeValidator(_duration(timedelta(0)))] = DEFAULT_SETTLE_TIME
    """How far `as_of` of a pinned link stays behind the database's clock."""
    bounds: _PathSetting | None = None
    """TOML file with the bounds of the checks of a validation that differ from their defaults."""
    notify_url: str | None = Field(default=None, repr=False)
    """Webhook that gets a summary of each `validate` run."""
    app_url: Annotated[str, BeforeValidator(_app_url)] = DEFAULT_APP_URL
    """The app's address; links begin with it."""
    public_links: Annotated[bool, BeforeValidator(_switch)] = True
    """Whether short links may open without sign-in; false: those that do need a sign-in, too."""
    embed_sites: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_sites)] = ()
    """Origins of the sites that may show charts of `/embed` in a frame."""
    metrics_key: Annotated[str, BeforeValidator(_metrics_key)] | None = Field(default=None, repr=False)
    """Key of `/api/metrics`; None: only this machine reads them."""
    trusted_proxies: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_networks)] = ()
    """Addresses or networks of the proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Options, then the environment; no files."""
        return init_settings, _Environment(settings_cls)

    @property
    def has_app_url(self) -> bool:
        """Whether `app_url` is another than the default, at which no app may be running."""
        return self.app_url != DEFAULT_APP_URL

    @property
    def is_remote(self) -> bool:
        """Whether the database is behind a usage-explore server."""
        return bool(self.database_url) and str(self.database_url).lower().startswith(SERVER_SCHEMES)

    def environment(self) -> dict[str, str]:
        """The environment of a child process that works with these settings."""
        texts = {_variable(name): _text(value) for name, value in self}
        others = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        return others | {name: text for name, text in texts.items() if text}


class _Environment(EnvSettingsSource):
    """The environment's variables, without surrounding blanks; an empty one counts as absent."""

    def __call__(self) -> dict[str, Any]:
        return {name: text for name, value in super().__call__().items() if (text := value.strip())}


def _text(value: Any) -> str:
    """A setting as its variable holds it, "" for None."""
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}"
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def settings(**options: Any) -> Settings:
    """The settings in force: each option that is not None, else its `USAGE_EXPLORE_…` variable, else its default.

    Durations are timedeltas or seconds. Raises `ConfigurationError` naming the option and the variable when a value
    cannot work.
    """
    given = {name: value for name, value in options.items() if value is not None}
    return Settings(**given) if given else _of_environment(frozenset(os.environ.items()))


@lru_cache(maxsize=1)
def _of_environment(variables: frozenset[tuple[str, str]]) -> Settings:
    """The settings of these environment variables, which are the process's; parsing them takes 5 ms."""
    return Settings()


def put_in_force(settings: Settings) -> None:
    """Make these the settings of this process: `settings()` returns them from now on."""
    os.environ.update(settings.environment())


def database_url(settings: Settings) -> str:
    """The configured database URL, else the embedded server's, started on demand.

    Raises `ConfigurationError` when the embedded server's folder cannot be used and `DatabaseUnavailable`
    when it does not start.
    """
    if settings.is_remote:
        raise ConfigurationError(
            "database_url: this needs the PostgreSQL database itself; the address of a usage-explore server is for"
            " connect() in Python and for commands that only read (--database-url or USAGE_EXPLORE_DATABASE_URL)"
        )
    if settings.database_url:
        return settings.database_url
    from usage_explore.db import embedded

    return embedded.start(settings.home)
