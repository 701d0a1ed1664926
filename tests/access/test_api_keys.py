"""API keys: shown once, kept as hashes, one organization each, revocable at once."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.waiting import PATIENCE
from usage_explore.access.api_keys import Keyring
from usage_explore.errors import ConfigurationError

ACME = UUID("0a0a0a0a-0000-4000-8000-000000000001")


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path / "home" / "keys.json")


def test_a_key_opens_its_organization_and_is_kept_nowhere(ring: Keyring) -> None:
    assert ring.listed() == ()
    text = ring.create(ACME, "billing bot")
    found = ring.find(text)
    assert found is not None
    assert (found.organization_id, found.name) == (ACME, "billing bot")
    stored = ring.path.read_text()
    assert text not in stored
    assert text.split("_", 2)[2] not in stored
    assert stat.S_IMODE(ring.path.stat().st_mode) == 0o600


def test_other_users_cannot_put_a_file_in_the_place_of_the_keys(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        Keyring(tmp_path / "new" / "home" / "keys.json").create(ACME, "a")
    finally:
        os.umask(before)
    for folder in (tmp_path / "new", tmp_path / "new" / "home"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o755


@pytest.mark.skipif(os.geteuid() != 0, reason="only root writes files of other users")
def test_keys_that_root_changes_stay_those_of_the_service(ring: Keyring) -> None:
    ring.path.parent.mkdir()
    os.chown(ring.path.parent, 65534, 65534)
    key = ring.find(ring.create(ACME, "a"))
    assert key is not None
    assert ring.path.stat().st_uid == ring.path.with_suffix(".lock").stat().st_uid == 65534
    for owner in (65534, 65533):
        os.chown(ring.path, owner, owner)
        ring.revoke(key.id)
        assert (ring.path.stat().st_uid, ring.path.stat().st_gid) == (owner, owner)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("make", [os.symlink, os.link])
@pytest.mark.parametrize("name", ["keys.lock", "keys.part"])
def test_a_link_of_the_service_gives_it_no_file_of_root(
    ring: Keyring, tmp_path: Path, name: str, make: Callable[..., None]
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of root")
    secret.chmod(0o640)
    ring.path.parent.mkdir()
    make(secret, ring.path.parent / name)
    os.chown(ring.path.parent, 65534, 65534)
    with contextlib.suppress(ConfigurationError):
        ring.create(ACME, "a")
    assert (secret.read_text(), secret.stat().st_uid) == ("of root", 0)
    assert stat.S_IMODE(secret.stat().st_mode) == 0o640


def test_a_revoked_key_is_refused_at_once_and_stays_listed(ring: Keyring) -> None:
    text, other = ring.create(ACME, "a"), ring.create(uuid4(), "b")
    key = ring.find(text)
    assert key is not None
    first = ring.revoke(key.id)
    assert ring.find(text) is None
    assert ring.find(other) is not None
    assert ring.revoke(key.id) == first
    assert [kept.name for kept in ring.listed()] == ["a", "b"]
    with pytest.raises(ConfigurationError, match="keys list"):
        ring.revoke("nobody")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.text(), st.just("ue__"), st.text().map("ue_{}".format)))
def test_nothing_else_opens_anything(ring: Keyring, text: str) -> None:
    if not ring.listed():
        ring.create(ACME, "a")
    assert ring.find(text) is None
    assert ring.find(f"ue_{ring.listed()[0].id}_{text}") is None


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"keys": [{"id": 1}]}', '{"keys": 3}', "\0", "[" * 200_000])
def test_a_damaged_file_lets_nobody_in(ring: Keyring, content: str) -> None:
    text = ring.create(ACME, "a")
    ring.path.write_text(content)
    with pytest.raises(ConfigurationError, match="is damaged"):
        ring.find(text)
    with pytest.raises(ConfigurationError, match="is damaged"):
        ring.create(ACME, "b")
    assert ring.path.read_text() == content


def test_a_pipe_in_place_of_the_keys_lets_nobody_in(ring: Keyring) -> None:
    """Reading it would wait for its writer, and every request with it."""
    text = ring.create(ACME, "a")
    ring.path.unlink()
    os.mkfifo(ring.path)
    with pytest.raises(ConfigurationError, match="is no regular file"):
        ring.find(text)


def test_two_writers_lose_no_key(ring: Keyring) -> None:
    program = (
        "import sys, uuid, pathlib; from usage_explore.access.api_keys import Keyring; "
        "[Keyring(pathlib.Path(sys.argv[1])).create(uuid.uuid4(), 'x') for _ in range(5)]"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, str(ring.path)]) for _ in range(3)]
    assert [writer.wait(PATIENCE) for writer in writers] == [0, 0, 0]
    assert len({key.id for key in ring.listed()}) == 15
