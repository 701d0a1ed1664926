"""An option beats the environment, the environment beats the default, and a wrong value is named."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from usage_explore import config
from usage_explore.config import Settings, settings
from usage_explore.errors import ConfigurationError

ORGANIZATION = "6f1c2d3e-0000-4000-8000-000000000001"

FULL = {
    "DATABASE_URL": "postgresql://someone:secret@db.example:5432/usage",
    "ORGANIZATION_ID": ORGANIZATION,
    "TABLE": "metering.events",
    "HOME": "/srv/usage",
    "KEYS": "/etc/usage/keys.json",
    "PEOPLE": "/etc/usage/people.toml",
    "STATEMENT_TIMEOUT": "2.5",
    "LONG_STATEMENT_TIMEOUT": "900",
    "SETTLE_TIME": "0",
    "APP_URL": "https://usage.example/",
    "TRUSTED_PROXIES": "192.0.2.7, 2001:db8::/32",
}

MEANT = Settings(
    database_url="postgresql://someone:secret@db.example:5432/usage",
    organization_id=UUID(ORGANIZATION),
    table="metering.events",
    home=Path("/srv/usage"),
    keys=Path("/etc/usage/keys.json"),
    people=Path("/etc/usage/people.toml"),
    statement_timeout=timedelta(seconds=2.5),
    long_statement_timeout=timedelta(minutes=15),
    settle_time=timedelta(0),
    app_url="https://usage.example",
    trusted_proxies=("192.0.2.7/32", "2001:db8::/32"),
)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in FULL.items():
        monkeypatch.setenv(f"USAGE_EXPLORE_{name}", value)


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("USAGE_EXPLORE_HOME")
    assert settings() == Settings(
        database_url=None,
        organization_id=None,
        table="usage_events",
        home=config.default_home(),
        keys=config.default_home() / "keys.json",
        people=config.default_home() / "people.toml",
        statement_timeout=timedelta(seconds=30),
        long_statement_timeout=timedelta(minutes=10),
        settle_time=timedelta(minutes=5),
        app_url="http://127.0.0.1:8501",
        trusted_proxies=(),
    )


@pytest.mark.usefixtures("environment")
def test_environment_is_read() -> None:
    assert settings() == MEANT


@pytest.mark.usefixtures("environment")
def test_option_beats_environment() -> None:
    assert settings(table="other", statement_timeout=timedelta(seconds=7)) == MEANT.model_copy(
        update={"table": "other", "statement_timeout": timedelta(seconds=7)}
    )


@pytest.mark.parametrize("name", FULL)
def test_blank_variable_counts_as_absent(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv("USAGE_EXPLORE_HOME")
    absent = settings()
    monkeypatch.setenv(f"USAGE_EXPLORE_{name}", " ")
    assert settings() == absent


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("meant", [MEANT, settings(home="/srv/other")], ids=["full", "bare"])
def test_child_gets_the_same_settings(monkeypatch: pytest.MonkeyPatch, meant: Settings) -> None:
    child = meant.environment()
    for name in FULL:
        monkeypatch.delenv(f"USAGE_EXPLORE_{name}")
    for name, value in child.items():
        monkeypatch.setenv(name, value)
    assert settings() == meant
    assert child["PATH"] == os.environ["PATH"]


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_every_spelling_of_a_postgresql_url(scheme: str) -> None:
    assert settings(database_url=f"{scheme}://host/db").database_url == "postgresql://host/db"


def test_password_is_not_shown() -> None:
    assert "secret" not in repr(MEANT)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("DATABASE_URL", "sqlite:///usage.db", "database_url: only PostgreSQL"),
        ("DATABASE_URL", "mysql://user:hunter2@host/db", "database_url: only PostgreSQL"),
        ("ORGANIZATION_ID", "acme", "organization_id: 'acme' is not a UUID"),
        ("TABLE", "a;b", "table: 'a;b' is not a table name"),
        ("STATEMENT_TIMEOUT", "0", "statement_timeout: '0' is not a number of seconds"),
        ("STATEMENT_TIMEOUT", "soon", "statement_timeout: 'soon' is not a number of seconds"),
        ("STATEMENT_TIMEOUT", "nan", "statement_timeout: 'nan' is not a number of seconds"),
        ("STATEMENT_TIMEOUT", "1e99", "statement_timeout: '1e99' is not a number of seconds"),
        ("SETTLE_TIME", "-1", "settle_time: '-1' is not a number of seconds"),
        ("TRUSTED_PROXIES", "*", "trusted_proxies: '*' is not a list of addresses"),
        ("TRUSTED_PROXIES", "10.0.0.1/8", "trusted_proxies: '10.0.0.1/8' is not a list of addresses"),
        ("APP_URL", "usage.example", "app_url: 'usage.example' does not start with"),
    ],
)
def test_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    monkeypatch.setenv(f"USAGE_EXPLORE_{name}", value)
    with pytest.raises(ConfigurationError) as error:
        settings()
    assert str(error.value).startswith(said)
    assert "hunter2" not in str(error.value)


def test_configured_url_starts_no_server(tmp_path: Path) -> None:
    chosen = settings(database_url="postgresql://host/db", home=tmp_path / "home")
    assert config.database_url(chosen) == "postgresql://host/db"
    assert not (tmp_path / "home").exists()


def test_embedded_server_is_the_default(home: Path) -> None:
    assert config.database_url(settings(home=home)).startswith("postgresql://postgres@/usage_explore?host=")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:s3cr3t%zz@127.0.0.1:1/db",
        "postgresql://u:s3cr3t@[::1/db",
        "postgresql://u:p@s3cr3t@127.0.0.1/db",
        "postgresql://u:s3cr3t/p@127.0.0.1/db",
        "postgres://u:12/s3cr3t@127.0.0.1/db",
        "postgresql://u:s3cr3t#/p@127.0.0.1/db",
        "postgresql://u:s3cr3t?/p@127.0.0.1/db",
        "postgresql://u:p@s3cr3t/p@127.0.0.1/db",
        "postgresql://u:@/s3cr3t@127.0.0.1/db",
        "postgresql://u:s3cr3t/127.0.0.1",
    ],
)
def test_an_unreadable_address_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match="database_url: is not a readable address") as raised:
        settings(database_url=url)
    assert "s3cr3t" not in str(raised.value)
    assert "percent-encode special characters" in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:a%2Fb%40c%23d%3Fe%25@host:5432/db",
        "postgresql://u:a#b?c@host/db",  # libpq reads both as parts of the password
        "postgresql://u:p@host1:5432,host2/db?target_session_attrs=any",
        "postgresql://u:p@[::1]:5432/db",
        "postgresql:///db?host=/run/a@b&password=a/b@c",
    ],
)
def test_an_address_that_libpq_reads_is_taken_as_it_is(url: str) -> None:
    assert settings(database_url=url).database_url == url


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        ("postgresql://u:secret@h/db?nosuch=1", "has a parameter after ? that libpq does not know"),
        ("postgresql://u:secret@h:abc/db", "its port is not a number"),
        ("postgresql://u:sec/ret@h/db", "percent-encode"),
    ],
)
def test_the_hint_for_an_address_names_what_is_wrong_and_no_part_of_it(address: str, hint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        config.settings(database_url=address)
    assert hint in str(caught.value)
    assert not any(part in str(caught.value) for part in ("sec", "nosuch", "abc"))
