"""Shared by all commands: options, the database connection, error messages."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click
from click.core import ParameterSource

from usage_explore.cli.signals import SIGNALS, Signals
from usage_explore.errors import ConfigurationError, QueryError, ScopeError, UsageExploreError
from usage_explore.formatting import printable
from usage_explore.query import validators

if TYPE_CHECKING:
    from usage_explore.config import Settings
    from usage_explore.db.ddl import Connection

_Command = TypeVar("_Command", bound=Callable[..., Any])

_SPAN_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_LINES = "usage_explore.arguments_of_several_lines"


class Group(click.Group):
    """Prints errors and warnings as sentences on stderr, and undoes what is unfinished on a signal."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Remember the arguments of several lines, such as a file's name: a message writes each as one line."""
        values = (arg.partition("=")[2] if arg.startswith("--") else arg for arg in args)
        ctx.meta[_LINES] = [value for value in values if value.strip() and "\n" in value]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Exit code 2 for an error of a query, 1 for other errors of ours or the database's.

        130 for Ctrl-C, 143 for SIGTERM.
        """
        with Signals() as signals, warnings.catch_warnings():
            ctx.meta[SIGNALS] = signals
            warnings.showwarning = _each_once()
            try:
                return super().invoke(ctx)
            except Exception as error:
                signals.check()
                if isinstance(error, ScopeError) and "choose" in str(error):
                    _fail(f"{error}; `usage-explore organizations` lists them", 1)
                if isinstance(error, UsageExploreError):
                    _fail(str(error), 2 if isinstance(error, QueryError) else 1)
                if isinstance(error, (click.ClickException, click.exceptions.Exit, click.Abort)):
                    raise  # such as --help, which needs no database driver
                import psycopg

                if not isinstance(error, psycopg.Error):
                    raise
                words = " ".join((error.diag.message_primary or str(error)).split())
                if isinstance(error, psycopg.errors.UndefinedColumn | psycopg.errors.DatatypeMismatch):
                    _fail(f"The table does not fit: {words}. Run `usage-explore doctor` to see what to do.", 1)
                _fail(f"The database refused: {words}; what was not finished was undone", 1)


def _each_once() -> Callable[..., None]:
    """What prints a warning, one of the same words once: several queries of a command may have the same hint."""
    printed = set()

    def show(message: Warning | str, *_: object, **__: object) -> None:
        if (text := str(message)) not in printed:
            printed.add(text)
            say(f"Warning: {text}", err=True)

    return show


def _fail(message: str, code: int) -> NoReturn:
    say(f"Error: {message}", err=True)
    sys.exit(code)


def say(text: object, *, err: bool = False) -> None:
    """Print text that may contain stored values or file names; control characters are escaped."""
    words, ctx = str(text), click.get_current_context(silent=True)
    for value in ctx.meta.get(_LINES, ()) if ctx else ():
        words = words.replace(value, repr(value)[1:-1])
    click.echo(printable(words), err=err)


def _setting(flag: str, help: str, **parameters: Any) -> Callable[[_Command], _Command]:
    """An option that overrides a setting; `settings_in_force` applies it."""
    name = flag.removeprefix("--").replace("-", "_")
    return click.option(
        flag,
        help=help,
        envvar=f"USAGE_EXPLORE_{name.upper()}",
        show_envvar=True,
        expose_value=False,
        callback=_remember,
        **parameters,
    )


def _remember(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Keep a value of the command line; the environment is read by `config`, after the options of every level."""
    if ctx.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE:
        ctx.find_root().ensure_object(dict)[parameter.name] = value


_home = _setting("--home", "Folder of the embedded database.", type=click.Path(path_type=Path))
_table = _setting("--table", "Events table or view.", metavar="[SCHEMA.]NAME", show_default="usage_events")
_names_table = _setting(
    "--names-table",
    "Table or view of customers' and other names.",
    metavar="[SCHEMA.]NAME",
    show_default="usage_names beside the events",
)
_database_url = _setting("--database-url", "PostgreSQL to use.", metavar="URL", show_default="the embedded one")


def common(command: _Command) -> _Command:
    """The options that every command takes, before its name or after it."""
    return _database_url(_table(_names_table(_home(command))))


organization = _setting("--organization-id", "Whose events.", metavar="UUID")


def instant(ctx: click.Context, parameter: click.Parameter, value: str | None) -> datetime | None:
    """Option callback: an RFC 3339 time with an offset. Raises `ConfigurationError`."""
    try:
        return None if value is None else validators.instant(value)
    except ValueError as error:
        raise ConfigurationError(f"{parameter.opts[0]}: {error}") from None


def span(ctx: click.Context, parameter: click.Parameter, value: str | None) -> timedelta | None:
    """Option callback: 1 second to 7 days, such as 30s, 5m, 1h or 7d. Raises `ConfigurationError`."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d{1,6})([smhd])", value)
    length = timedelta(**{_SPAN_UNITS[match[2]]: int(match[1])}) if match else timedelta(0)
    if not timedelta(seconds=1) <= length <= timedelta(days=7):
        raise ConfigurationError(f"{parameter.opts[0]}: {value!r} is not a span between 1s and 7d; write 30s, 5m or 1h")
    return length


def settings_in_force() -> Settings:
    """The settings from this run's options and the environment."""
    from usage_explore import config

    return config.settings(**click.get_current_context().find_root().ensure_object(dict))


@contextmanager
def connected() -> Iterator[tuple[Connection, Settings]]:
    """A connection that may write, and the settings in force; closed at the end."""
    from usage_explore import config
    from usage_explore.db import ddl

    settings = settings_in_force()
    with closing(ddl.connect(config.database_url(settings))) as connection:
        yield connection, settings
