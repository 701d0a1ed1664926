"""A server that answers and refuses the connection is not said to be silent: in Python, by command and over HTTP."""

from __future__ import annotations

import contextvars
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
import pytest
from click.testing import CliRunner
from sqlalchemy.exc import DBAPIError

from support.api_server import EVENTS, asking
from support.breakable_server import refused
from support.waiting import eventually
from usage_explore import Store, connect
from usage_explore.cli.main import main
from usage_explore.config import DEFAULT_STATEMENT_TIMEOUT
from usage_explore.db import ddl
from usage_explore.db.engine import transaction, translated
from usage_explore.db.timeouts import cancellable, watch
from usage_explore.doctor import examine
from usage_explore.errors import DatabaseError, DatabaseUnavailable, NotExact, StatementTimeout, TableMismatch

ORGANIZATION = "00000000-0000-0000-0000-0000000000a0"

REFUSED = {
    'FATAL:  database "nix" does not exist': "create the database there, or name another one",
    "FATAL:  no such database: nix": "create the database there, or name another one",
    'FATAL:  role "who" does not exist': "create the role there, or name another one",
    'FATAL:  password authentication failed for user "who"': "Correct role and password",
    "fe_sendauth: no password supplied": "Correct role and password",
    'FATAL:  no pg_hba.conf entry for host "10.1.2.3", user "who", database "d", no encryption': "Let this host",
    'FATAL:  role "who" is not permitted to log in': "ALTER ROLE … LOGIN",
    'FATAL:  permission denied for database "d"': "GRANT CONNECT",
    "FATAL:  something that no rule here knows": "something that no rule",
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_refusal_says_the_reason_and_the_fix_and_no_address_to_users(reason: str) -> None:
    words = f'connection failed: connection to server at "10.0.0.9", port 5432 failed: {reason}'
    error = translated(psycopg.OperationalError(words), broken=True)
    assert isinstance(error, DatabaseUnavailable)
    assert str(error).startswith("The database refuses the connection: ")
    assert reason.split("  ")[-1] in str(error).replace("  ", " ")
    assert REFUSED[reason] in str(error)
    is_known = "no rule" not in REFUSED[reason]
    assert ("at the moment; try again shortly" in error.public) is not is_known
    assert error.public.endswith("its administrator has to correct the settings.")


GERMAN = {
    "FATAL:  Passwort-Authentifizierung für Benutzer »who« fehlgeschlagen": DatabaseUnavailable,
    "FATAL:  das Datenbanksystem startet": DatabaseUnavailable,
    "ВАЖНО:  система баз данных запускается": DatabaseUnavailable,
}


@pytest.mark.parametrize("reason", GERMAN)
def test_a_refusal_in_another_language_is_a_refusal_not_silence(reason: str) -> None:
    words = f'connection failed: connection to server at "10.0.0.9", port 5432 failed: {reason}'
    error = translated(psycopg.OperationalError(words), broken=True)
    assert isinstance(error, DatabaseUnavailable)
    assert str(error).startswith("The database refuses the connection: ")
    assert reason.split("  ")[-1] in str(error)
    assert "at the moment; try again shortly" in error.public
    assert reason.split("  ")[-1] not in error.public


LOCALIZED: dict[type[psycopg.Error], tuple[str, type[DatabaseError]]] = {
    psycopg.errors.QueryCanceled: ("Anweisung wird abgebrochen wegen Zeitüberschreitung", StatementTimeout),
    psycopg.errors.TransactionTimeout: ("Transaktion wegen Zeitüberschreitung beendet", StatementTimeout),
    psycopg.errors.SerializationFailure: ("konnte Zugriff nicht serialisieren", DatabaseUnavailable),
    psycopg.errors.NumericValueOutOfRange: ("Wert verursacht Überlauf im Format numeric", NotExact),
    psycopg.errors.DiskFull: ("konnte Datei nicht erweitern", DatabaseUnavailable),
    psycopg.errors.OutOfMemory: ("Speicher aufgebraucht", DatabaseUnavailable),
    psycopg.errors.CannotConnectNow: ("das Datenbanksystem startet", DatabaseUnavailable),
    psycopg.errors.TooManyConnections: ("tut mir leid, schon zu viele Verbindungen", DatabaseUnavailable),
    psycopg.errors.AdminShutdown: ("Verbindung wird abgebrochen aufgrund von Anweisung", DatabaseUnavailable),
    psycopg.errors.UndefinedTable: ("Relation »usage_events« existiert nicht", TableMismatch),
    psycopg.errors.UndefinedColumn: ("Spalte »quantity« existiert nicht", TableMismatch),
    psycopg.errors.InsufficientPrivilege: ("keine Berechtigung für Tabelle usage_events", TableMismatch),
    psycopg.errors.SyntaxError: ("Syntaxfehler bei »SELEKT«", DatabaseError),
}


@pytest.mark.parametrize("kind", LOCALIZED)
def test_errors_of_a_server_that_speaks_german_are_recognized_by_their_sqlstate(kind: type[psycopg.Error]) -> None:
    words, expected = LOCALIZED[kind]
    wrapped = DBAPIError("SELECT", {}, kind(words))  # as SQLAlchemy raises it
    assert kind.sqlstate
    assert type(translated(wrapped.orig, broken=False)) is expected


def test_a_cancelled_statement_is_told_from_a_timeout_by_its_duration(events_database_url: str) -> None:
    """The server has one SQLSTATE for both, and words in its own language."""
    store = connect(events_database_url, ORGANIZATION, statement_timeout=timedelta(seconds=60))
    watch(store.engine)
    with store, cancellable() as held, ThreadPoolExecutor(1) as pool:
        asleep = pool.submit(contextvars.copy_context().run, slept, store)
        eventually(lambda: held.cancel() or asleep.done())
        with pytest.raises(DatabaseUnavailable, match="was cancelled in the database"):
            asleep.result()
    short = connect(events_database_url, ORGANIZATION, statement_timeout=timedelta(seconds=0.2))
    with short, pytest.raises(StatementTimeout):
        slept(short)


def slept(store: Store) -> None:
    """Read for longer than any statement timeout here."""
    with transaction(store.engine) as connection:
        connection.exec_driver_sql("SELECT pg_sleep(100)")


@pytest.mark.parametrize("state", ["starting up", "shutting down", "in recovery mode", "not yet accepting connections"])
def test_a_server_that_starts_takes_no_connections_yet(state: str) -> None:
    error = translated(
        psycopg.OperationalError(f"connection failed: FATAL:  the database system is {state}"), broken=True
    )
    assert isinstance(error, DatabaseUnavailable)
    assert "takes no connections at the moment" in str(error)
    assert error.public == "The database is starting, recovering or shutting down; try again shortly."


@pytest.mark.parametrize(
    "words", ["connection failed: Connection refused", "timeout expired", "server closed the connection"]
)
def test_a_silent_server_is_said_to_be_silent(words: str) -> None:
    assert str(translated(psycopg.OperationalError(words), broken=True)).startswith("The database does not answer: ")


@pytest.fixture
def missing(server_url: str) -> str:
    return urlunsplit(urlsplit(server_url)._replace(path="/no_such_database"))


def test_a_missing_database_is_named_at_every_door(missing: str) -> None:
    says = r'refuses the connection: .*database "no_such_database" does not exist.*--database-url'
    with pytest.raises(DatabaseUnavailable, match=says):
        ddl.connect(missing)
    with connect(missing, ORGANIZATION) as store, pytest.raises(DatabaseUnavailable, match=says):
        store.now()
    with connect(missing, ORGANIZATION) as store, asking(store) as client:
        said = refused(client.get(EVENTS))
    assert said == "The database refuses the connection of this service; its administrator has to correct the settings."
    result = CliRunner().invoke(main, ["init", "--database-url", missing])
    assert result.exit_code == 1
    assert "does not answer" not in result.stderr
    assert 'database "no_such_database" does not exist' in result.stderr
    finding = examine(missing, "usage_events", DEFAULT_STATEMENT_TIMEOUT)[0]
    assert finding.message.startswith("the database refuses the connection: ")


def test_a_missing_role_is_named(server_url: str) -> None:
    parts = urlsplit(server_url)
    host = parts.netloc.rpartition("@")[2]
    url = urlunsplit(parts._replace(netloc=f"{quote('no_such_role')}@{host}"))
    with pytest.raises(DatabaseUnavailable, match=r"refuses the connection: .*no_such_role.*--database-url") as caught:
        ddl.connect(url)
    assert "no_such_role" not in caught.value.public
