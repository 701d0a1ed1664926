"""Checks of the server: reachable, version, encoding, timeouts in force."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import psycopg

from usage_explore.db.ddl import Connection
from usage_explore.doctor.finding import Finding

MIN_POSTGRESQL_VERSION = 15

_MIN_TRANSACTION_TIMEOUT_MS = 1_000
"""Transaction timeout below which most queries fail."""

_TOO_SHORT = "less time than it takes to read this setting"


def unreachable(error: psycopg.Error) -> Finding:
    """The finding for a connection that could not be made."""
    words = " ".join(str(error).split())
    fix = "Check the address, the password and that the server runs: --database-url or USAGE_EXPLORE_DATABASE_URL."
    if "unsupported startup parameter" in words:
        fix = (
            "The pooler refuses connection options: add `ignore_startup_parameters = options` to pgbouncer.ini,"
            " or go round it."
        )
    return Finding("server", "fault", f"does not answer: {words}", fix)


def version(connection: Connection) -> list[Finding]:
    """Version, encoding, and whether the server is a replica, which works too."""
    row = connection.execute(
        "SELECT current_setting('server_version'), current_setting('server_encoding'), pg_is_in_recovery()"
    ).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    number, encoding, replica = row
    said = f"PostgreSQL {number}{', a read-only replica (which serves as well)' if replica else ''}"
    findings = [Finding("server", "ok", said)]
    if connection.info.server_version < MIN_POSTGRESQL_VERSION * 10_000:
        findings = [
            Finding("server", "fault", f"{said} is too old", f"Use PostgreSQL {MIN_POSTGRESQL_VERSION} or newer."),
        ]
    if encoding != "UTF8":
        findings.append(
            Finding(
                "encoding",
                "fault",
                f"the database's encoding is {encoding}, so not every text can be asked for",
                "Dump it and restore it into a database made with ENCODING 'UTF8'.",
            )
        )
    return findings


def own_timeout(connection: Connection, name: str) -> int | None:
    """The timeout that the server or the role sets, in ms, 0 for none; None if it is too short to be read."""
    try:
        row = connection.execute("SELECT setting::int FROM pg_settings WHERE name = %s", [name]).fetchone()
    except psycopg.errors.QueryCanceled:
        return None if name == "statement_timeout" else 0
    except psycopg.errors.TransactionTimeout:
        return None if name == "transaction_timeout" else 0
    return row[0] if row else 0


def timeouts(theirs: Mapping[str, int | None], ours: timedelta) -> list[Finding]:
    """The timeouts that the server or the role sets, in ms (None if too short to be read), beside ours."""
    ours_ms = round(ours.total_seconds() * 1000)
    statement, transaction = theirs["statement_timeout"], theirs["transaction_timeout"]
    if statement is None or 0 < statement < ours_ms:
        allowed = _TOO_SHORT if statement is None else f"{statement / 1000:g} s"
        fix = f"To keep to the database's: USAGE_EXPLORE_STATEMENT_TIMEOUT={statement / 1000:g}" if statement else ""
        said = f"the database allows a statement {allowed}, ours of {ours_ms / 1000:g} s takes its place"
        findings = [Finding("time-out", "warning", said, fix)]
    else:
        findings = [Finding("time-out", "ok", f"each statement is cancelled after {ours_ms / 1000:g} s")]
    fix = "Give the role more: ALTER ROLE … SET transaction_timeout = 0;"
    if transaction is None or 0 < transaction < _MIN_TRANSACTION_TIMEOUT_MS:
        is_ = _TOO_SHORT if transaction is None else f"{transaction / 1000:g} s"
        said = f"transaction_timeout is {is_}: every query reads in a transaction, and most end with an error"
        findings.append(Finding("time-out", "fault", said, fix))
    elif transaction:
        said = f"transaction_timeout is {transaction / 1000:g} s; an export reads in one transaction and ends then"
        findings.append(Finding("time-out", "warning", said, f"For large exports: {fix}"))
    return findings
