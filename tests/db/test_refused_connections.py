"""A server that answers and refuses the connection is not said to be silent: in Python, by command and over HTTP."""

from __future__ import annotations

from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
import pytest
from click.testing import CliRunner

from support.api_server import EVENTS, asking
from support.breakable_server import refused
from usage_explore import connect
from usage_explore.cli.main import main
from usage_explore.config import DEFAULT_STATEMENT_TIMEOUT
from usage_explore.db import ddl
from usage_explore.db.engine import translated
from usage_explore.doctor import examine
from usage_explore.errors import DatabaseUnavailable

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
    assert error.public == (
        "The database refuses the connection of this service; its administrator has to correct the settings."
    )


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
