"""The allow-table: who may see which organizations, and that a broken one lets nobody in."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import UUID

import pytest

from usage_explore.access.allow_list import EVERYTHING, Grant, People
from usage_explore.errors import ConfigurationError

ACME = UUID("0a0a0a0a-0000-4000-8000-000000000001")


@pytest.fixture
def people(tmp_path: Path) -> People:
    path = tmp_path / "people.toml"
    path.write_text(
        f'["Ana@Example.com"]\norganizations = ["{ACME}"]\n["audit@example.com"]\norganizations = "all"\n'
        '["new@example.com"]\norganizations = []\n'
    )
    return People(path)


def test_people_see_what_the_table_says(people: People) -> None:
    assert people.required
    assert people.grant("ana@example.COM") == Grant(frozenset({ACME}))
    assert people.grant("audit@example.com") == Grant(frozenset(), every=True)
    assert people.grant("new@example.com") == Grant(frozenset())
    assert people.grant("eve@example.com") is None
    assert people.grant("") is None


@pytest.mark.parametrize("email", ["ana@straße.example", "m\u0131ke@example.com", "mi\u212ae@example.com"])
def test_letters_that_only_look_alike_are_another_persons(tmp_path: Path, email: str) -> None:
    people = People(tmp_path / "people.toml")
    people.path.write_text(
        '["ana@strasse.example"]\norganizations = "all"\n["mike@example.com"]\norganizations = "all"\n'
    )
    assert people.grant("MIKE@example.com")
    assert people.grant(email) is None


def test_an_address_that_is_there_twice_is_an_error(people: People) -> None:
    people.path.write_text(people.path.read_text() + '["ANA@example.com"]\norganizations = "all"\n')
    with pytest.raises(ConfigurationError, match=r'\["ANA@example.com"\] is there twice'):
        people.grant("ana@example.com")


def test_a_blank_address_is_an_error(people: People) -> None:
    people.path.write_text('[" "]\norganizations = "all"\n')
    with pytest.raises(ConfigurationError, match=r'\[" "\] is no address'):
        people.grant("")


@pytest.mark.parametrize("email", ["\u2003ana@example.com", "ana@example.com\u00a0", " ana@example.com"])
def test_an_address_with_blanks_is_another_one(people: People, email: str) -> None:
    """Ana's organizations were shown to whom the provider gave such an address."""
    assert people.grant("ana@example.com")
    assert people.grant(email) is None


def test_an_address_counts_when_the_provider_verified_it(people: People) -> None:
    told = {True: True, "true": True, None: False, False: False, "false": False, "yes": False, "": False}
    for verified, counts in told.items():
        assert bool(people.grant("ana@example.com", verified)) == counts
    table = people.path.read_text()
    people.path.write_text(f'email_verified = "optional"\n{table}')
    for verified, counts in (told | {None: True}).items():
        assert bool(people.grant("ana@example.com", verified)) == counts
    people.path.write_text(f'email_verified = "required"\n{table}')
    assert people.grant("ana@example.com", None) is None


def test_a_link_that_leads_nowhere_grants_nothing(tmp_path: Path) -> None:
    people = People(tmp_path / "people.toml")
    people.path.symlink_to(tmp_path / "gone.toml")
    assert people.required
    assert people.grant("ana@example.com") is None


def test_without_a_table_nobody_is_asked_and_nobody_is_granted(tmp_path: Path) -> None:
    people = People(tmp_path / "none.toml")
    assert not people.required
    assert people.grant("ana@example.com") is None


@pytest.mark.parametrize(
    "text",
    [
        "not toml",
        '["a@b.c"]\norganizations = "some"',
        '["a@b.c"]\norganizations = ["x"]',
        '["a@b.c"]\norganizations = [7]',
        '["a@b.c"]\norganization = ["x"]',
        '["a@b.c"]\norganizations = "all"\nrole = "x"',
        '"a@b.c" = "all"',
        'email_verified = "no"',
        "email_verified = false",
        "a = " + "[" * 200_000,
    ],
)
def test_a_broken_table_lets_nobody_in(people: People, text: str) -> None:
    people.path.write_text(text)
    assert people.required
    with pytest.raises(ConfigurationError, match="people: "):
        people.grant("ana@example.com")


def test_keys_of_many_parts_are_refused_in_words(people: People) -> None:
    """10,000 parts took 12 seconds, at each request; many people are no such keys."""
    people.path.write_text("".join(f'["{number}@b.c"]\norganizations = "all"\n' for number in range(10_001)))
    assert people.grant("10000@b.c") == EVERYTHING
    people.path.write_text(f"{'.'.join('a' * 17)} = 1")
    with pytest.raises(ConfigurationError, match=r"people: .* has a key of more than 16 parts; shorten it"):
        people.grant("10000@b.c")


def test_a_pipe_in_place_of_the_table_lets_nobody_in(people: People) -> None:
    """Reading it would wait for its writer, and every request with it."""
    people.path.unlink()
    os.mkfifo(people.path)
    with pytest.raises(ConfigurationError, match="is no regular file"):
        people.grant("ana@example.com")
