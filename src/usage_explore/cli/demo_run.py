"""Make demo data: in the foreground for `usage-explore demo`, in a process of its own beside `usage-explore app`."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from usage_explore.cli.extract import refresh_extract
from usage_explore.cli.options import say
from usage_explore.cli.signals import Signals
from usage_explore.formatting import path_text

if TYPE_CHECKING:
    from usage_explore.config import Settings
    from usage_explore.db.ddl import Connection
    from usage_explore.demo import DemoReport

_MAX_START_SECONDS = 20.0
"""Time that the process beside the app has to begin; later, the page may say for a moment that there are no events."""

_MAX_END_SECONDS = 10.0
"""Time that the process has to undo what is unfinished, before it is killed and the database undoes it."""

_POLL_SECONDS = 0.1


def run(
    connection: Connection,
    settings: Settings,
    *,
    seed: int | None = None,
    until: datetime | None = None,
    days: int,
    force: bool = False,
) -> DemoReport:
    """Create the events table with the demo, or append what is missing, and refresh the extract; progress on stderr."""
    from usage_explore import demo
    from usage_explore.db import demo_fill as fill
    from usage_explore.db import schema

    def waiting() -> None:
        click.echo("Another process is making demo data; waiting for it.", err=True)

    table = schema.events_table(settings.table)
    names = schema.names_table(settings.names_table, table)
    with fill.alone(connection, waiting):
        report = demo.create(connection, table, seed=seed, until=until, days=days, progress=True, names=names)
        if report is None:
            report = demo.append(
                connection,
                table,
                seed=seed,
                until=until,
                days=days,
                progress=True,
                force=force,
                names=names,
                home=settings.home,
            )
        else:
            click.echo("Demo data: complete; making the extract, which speeds up charts.", err=True)
        fill.announce_extract(connection)
        refresh_extract(connection, settings)
    return report


def write_files(settings: Settings, folder: Path) -> None:
    """Write the files to try a validation of the demo's main organization with, and say how."""
    from usage_explore import demo
    from usage_explore.demo import files
    from usage_explore.open_store import opened
    from usage_explore.query.queries import Period

    organization = next(iter(demo.ORGANIZATIONS))
    with warnings.catch_warnings(), opened(settings) as store:
        warnings.simplefilter("once", UserWarning)  # each file asks the same period
        paths = files.write(store.scoped(organization), Period(window="last_month"), folder)
    options = {name: f"--{name} {shlex.quote(str(path))}" for name, path in paths.items()}
    say(f"Wrote {', '.join(path.name for path in paths.values())} of last month into {path_text(folder)}. Try")
    own = f"--organization-id {organization}"
    say(f"  usage-explore rate {own} {options['prices']} {options['wallets']}")
    say(f"  usage-explore validate {own} {' '.join(options.values())}")


@contextmanager
def beside(settings: Settings, url: str, *, wanted: bool, days: int | None = None) -> Iterator[None]:
    """Make demo data in another process while the body runs, where the embedded database at `url` needs it.

    That is where it has no events table, or a demo that `append` continues. Not `wanted`: create an empty table.
    `days` is by default that of `demo`. At the end the process is ended too; what it has not committed is undone.
    """
    from usage_explore import demo
    from usage_explore.db import catalog, ddl, schema

    with closing(ddl.connect(url)) as connection:
        is_new = catalog.relation(connection, settings.table) is None
        if is_new and not wanted:
            ddl.ensure_schema(connection, settings.table, names_table_name=settings.names_table)
        continued = not is_new and demo.started(connection, schema.events_table(settings.table))
        connection.commit()
    if not wanted or not (is_new or continued):
        yield
        return
    if is_new:
        click.echo("Nothing is here yet: demo data is being made meanwhile (--no-demo starts without).")
    process = _start(settings, days or demo.DEFAULT_DAYS)
    try:
        _wait_until_begun(process, url)
        yield
    finally:
        _end(process)


def _start(settings: Settings, days: int) -> subprocess.Popen[bytes]:
    # a session of its own: Ctrl-C in the terminal is for the server, which ends the process in order
    return subprocess.Popen(  # noqa: S603 - this program
        [
            sys.executable,
            "-P",
            "-m",
            "usage_explore.cli.demo_run",
            str(days),
        ],  # -P: no modules of the working directory
        env=settings.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def _wait_until_begun(process: subprocess.Popen[bytes], url: str) -> None:
    """Wait until sessions of the database see the run, so that a page that is opened at once shows it."""
    from usage_explore.db import ddl
    from usage_explore.db import demo_fill as fill

    deadline = time.monotonic() + _MAX_START_SECONDS
    with closing(ddl.connect(url)) as connection:
        connection.autocommit = True
        while process.poll() is None and time.monotonic() < deadline:
            if connection.execute(fill.SESSIONS).fetchone():
                return
            time.sleep(_POLL_SECONDS)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(_MAX_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin:
        process.stdin.close()


def main(days: int) -> None:
    """Run in the process beside the app, and end with it: its standard input ends when the app does, even killed."""
    from usage_explore import config
    from usage_explore.db import ddl
    from usage_explore.errors import UsageExploreError

    def end_with_app() -> None:
        os.read(0, 1)
        while True:  # an interrupt is lost where Python ignores exceptions, such as in a finalizer
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(_MAX_END_SECONDS / 2)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Signals() as signals:
        try:
            with signals.raised():
                threading.Thread(target=end_with_app, daemon=True).start()
                settings = config.settings()
                with closing(ddl.connect(config.database_url(settings))) as connection:
                    report = run(connection, settings, days=days)
            if report.events:
                click.echo(report, err=True)
        except KeyboardInterrupt:
            sys.exit(signals.exit_code)  # without a line on the app's stderr
        except UsageExploreError as error:
            click.echo(f"Demo data: {error}", err=True)
            sys.exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]))
