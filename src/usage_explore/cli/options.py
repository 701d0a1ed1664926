"""What all commands share: their options, how they fail, how they end."""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from usage_explore.errors import QueryError, UsageExploreError
from usage_explore.formatting import printable

if TYPE_CHECKING:
    from usage_explore.config import Settings


class Group(click.Group):
    """Says what went wrong, and what is warned of, in words; ends in order when asked to."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error of ours or the database's is said on stderr, exit code 1 (a question's: 2)."""
        with _ending_in_order(), warnings.catch_warnings():
            warnings.showwarning = _warn
            try:
                return super().invoke(ctx)
            except UsageExploreError as error:
                _fail(str(error), 2 if isinstance(error, QueryError) else 1)
            except Exception as error:
                import psycopg

                if not isinstance(error, psycopg.Error):
                    raise
                words = " ".join((error.diag.message_primary or str(error)).split())
                _fail(f"The database refused: {words}; what was not finished was undone", 1)


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """SIGTERM ends the command as Ctrl-C does: transactions undone, the embedded server released."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _fail(message: str, code: int) -> NoReturn:
    say(f"Error: {message}", err=True)
    sys.exit(code)


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    say(f"Warning: {message}", err=True)


def say(text: object, *, err: bool = False) -> None:
    """Print text that may hold what somebody stored, or a file's name, so that no terminal is led astray by it."""
    click.echo(printable(str(text)), err=err)


def _remember(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value is not None:
        ctx.find_root().ensure_object(dict)[parameter.name] = value


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that every command takes, before its name or after it."""
    for option in (
        click.option(
            "--home",
            type=click.Path(path_type=Path),
            help="Folder of the embedded database.  [env: USAGE_EXPLORE_HOME]",
            expose_value=False,
            callback=_remember,
        ),
        click.option(
            "--table",
            metavar="[SCHEMA.]NAME",
            help="Events table or view, default usage_events.  [env: USAGE_EXPLORE_TABLE]",
            expose_value=False,
            callback=_remember,
        ),
        click.option(
            "--database-url",
            metavar="URL",
            help="PostgreSQL to work with, default the embedded one.  [env: USAGE_EXPLORE_DATABASE_URL]",
            expose_value=False,
            callback=_remember,
        ),
    ):
        command = option(command)
    return command


organization = click.option(
    "--organization-id",
    metavar="UUID",
    help="Whose events.  [env: USAGE_EXPLORE_ORGANIZATION_ID]",
    expose_value=False,
    callback=_remember,
)


def settings_in_force() -> Settings:
    """The settings that this run's options and the environment make."""
    from usage_explore import config

    return config.settings(**click.get_current_context().find_root().ensure_object(dict))
