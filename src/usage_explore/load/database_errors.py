"""The database's errors while a file is loaded, as the project's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from usage_explore.errors import DatabaseUnavailable, LoadError, TableMismatch, UsageExploreError


@contextmanager
def mapped_errors(path: Path, table_name: str) -> Iterator[None]:
    """Raise the database's errors as the project's own, each a sentence that says what happened to the file."""
    try:
        yield
    except UsageExploreError:
        raise
    except psycopg.errors.InsufficientPrivilege as error:
        raise TableMismatch(
            f"{table_name}: this role may not load into it ({error.diag.message_primary}); it needs SELECT and INSERT "
            "on the table (DELETE to --replace), TEMPORARY on the database and, where there is a rollup, SELECT, "
            "INSERT, UPDATE and DELETE on its two tables"
        ) from error
    except psycopg.errors.DiskFull as error:
        raise LoadError(
            f"{path}: the database server's disk is full, so nothing of the file was loaded "
            f"({error.diag.message_primary}); make room there, then load it again"
        ) from error
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        if error.sqlstate and not error.sqlstate.startswith(("08", "57P")):
            raise _refused(path, error) from error
        raise DatabaseUnavailable(
            f"{path}: the connection to the database broke, so nothing of the file was loaded; load it again"
        ) from error
    except psycopg.Error as error:
        raise _refused(path, error) from error


def _refused(path: Path, error: psycopg.Error) -> LoadError:
    message = error.diag.message_primary or str(error)
    where = f" ({error.diag.context.splitlines()[0]})" if error.diag.context else ""
    return LoadError(f"{path}: the database refused it, so nothing of the file was loaded: {message}{where}")
