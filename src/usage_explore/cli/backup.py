"""`usage-explore backup` and `restore`: the embedded database as one file, and back, also to a newer PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import click

from usage_explore.cli.options import common, say, settings_in_force
from usage_explore.errors import ConfigurationError
from usage_explore.formatting import counted, size


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@common
def backup(file: Path) -> None:
    """Write the embedded database to FILE: events, names, prices, views, links, runs, decisions, sign-offs.

    One snapshot, also while the app runs or events are loaded. FILE appears when it is whole, and only its owner can
    read it. It has neither extracts, which are made anew, nor the files keys.json and people.toml beside the database.
    """
    from usage_explore.db import backup as backups

    manifest = backups.backup(_home("backup", "pg_dump"), file, lambda words: say(words, err=True))
    tables, rows = counted(len(manifest.tables), "table"), counted(manifest.rows, "row")
    say(f"Wrote {file}: {tables}, {rows}, {size(file.stat().st_size)}, of PostgreSQL {manifest.postgresql}.")


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--replace", is_flag=True, help="Replace a database that has rows; they are lost.")
@common
def restore(file: Path, replace: bool) -> None:
    """Put the backup in FILE in the place of the embedded database, in the newest PostgreSQL of this installation.

    Needs a database without rows, or --replace, and no other process that uses it. A damaged FILE, and a restored table
    that differs from the backup, change nothing. A backup is SQL that runs with all rights: restore only your own.
    """
    from usage_explore.db import backup as backups

    restored = backups.restore(
        _home("restore", "pg_restore"), file, replace=replace, say=lambda words: say(words, err=True)
    )
    manifest = restored.manifest
    before = "" if manifest.postgresql == restored.postgresql else f", before {manifest.postgresql}"
    say(
        f"Restored {counted(len(manifest.tables), 'table')} with {counted(manifest.rows, 'row')}, the same as in"
        f" {file}; PostgreSQL {restored.postgresql}{before}."
    )


def _home(command: str, program: str) -> Path:
    """The folder of the embedded database. Raises `ConfigurationError` where a database URL is configured."""
    settings = settings_in_force()
    if settings.database_url is not None:
        raise ConfigurationError(
            f"database_url: `usage-explore {command}` is for the embedded database; for yours use its {program}, or"
            " leave out --database-url and USAGE_EXPLORE_DATABASE_URL"
        )
    return settings.home
