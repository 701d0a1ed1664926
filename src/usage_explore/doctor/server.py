"""Checks of the server: does it answer, is it new enough, which time-outs are in force."""

from __future__ import annotations

from datetime import timedelta

import psycopg

from usage_explore.doctor.finding import Connection, Finding

OLDEST = 15
"""The oldest PostgreSQL that is supported."""


def unreachable(error: psycopg.Error) -> Finding:
    """The finding for a connection that could not be made."""
    words = " ".join(str(error).split())
    cure = "Check the address, the password and that the server runs: --database-url or USAGE_EXPLORE_DATABASE_URL."
    if "unsupported startup parameter" in words:
        cure = (
            "The pooler refuses connection options: add `ignore_startup_parameters = options` to pgbouncer.ini,"
            " or go round it."
        )
    return Finding("server", "fault", f"does not answer: {words}", cure)


def version(connection: Connection) -> list[Finding]:
    """Version and encoding, and whether it is a replica, which serves as well."""
    row = connection.execute(
        "SELECT current_setting('server_version'), current_setting('server_encoding'), pg_is_in_recovery()"
    ).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    number, encoding, replica = row
    said = f"PostgreSQL {number}{', a read-only replica (which serves as well)' if replica else ''}"
    findings = [Finding("server", "ok", said)]
    if connection.info.server_version < OLDEST * 10_000:
        findings = [
            Finding("server", "fault", f"{said} is too old", f"Use PostgreSQL {OLDEST} or newer."),
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


def timeouts(connection: Connection, ours: timedelta) -> list[Finding]:
    """The time-outs that the server or the role sets, beside ours."""
    ours_ms = round(ours.total_seconds() * 1000)
    rows = connection.execute(
        "SELECT name, setting::bigint FROM pg_settings WHERE name IN ('statement_timeout', 'transaction_timeout')"
    ).fetchall()
    theirs: dict[str, int] = dict(rows)
    statement, transaction = theirs.get("statement_timeout", 0), theirs.get("transaction_timeout", 0)
    if 0 < statement < ours_ms:
        findings = [
            Finding(
                "time-out",
                "warning",
                f"the database allows a statement {statement / 1000:g} s, ours of {ours_ms / 1000:g} s takes its place",
                f"To keep to the database's: USAGE_EXPLORE_STATEMENT_TIMEOUT={statement / 1000:g}",
            )
        ]
    else:
        findings = [Finding("time-out", "ok", f"each statement is cancelled after {ours_ms / 1000:g} s")]
    if transaction:
        findings.append(
            Finding(
                "time-out",
                "warning",
                f"transaction_timeout is {transaction / 1000:g} s; an export reads in one transaction and ends then",
                "For large exports, give the role more: ALTER ROLE … SET transaction_timeout = 0;",
            )
        )
    return findings
