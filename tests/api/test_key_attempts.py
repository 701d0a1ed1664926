"""Wrong keys are limited by address, within bounded memory, and keep nobody else out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support import generated_events
from support.api_server import EVENTS, asking
from usage_explore import Store
from usage_explore.access.api_keys import Keyring
from usage_explore.api import auth
from usage_explore.api.auth import MAX_WRONG_KEYS, Access, KeyAttempts

HERE, THERE = "192.0.2.1", "192.0.2.2"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tried(clock: Clock) -> KeyAttempts:
    """An address that has used up its wrong keys, at the key `a`."""
    made = KeyAttempts(clock)
    for _ in range(MAX_WRONG_KEYS):
        assert made.seconds_to_wait(HERE, None) == 0
        made.record_failure(HERE, "a")
    return made


def test_an_address_waits_until_its_minute_is_over(tried: KeyAttempts, clock: Clock) -> None:
    assert tried.seconds_to_wait(HERE, None) == 60
    clock.now = 59.5
    assert tried.seconds_to_wait(HERE, None) == 1
    clock.now = 60
    assert tried.seconds_to_wait(HERE, None) == 0


def test_only_the_guessed_key_waits_too(tried: KeyAttempts) -> None:
    assert tried.seconds_to_wait(HERE, "a") > 0
    assert tried.seconds_to_wait(HERE, "b") == 0
    assert tried.seconds_to_wait(THERE, "a") == tried.seconds_to_wait(THERE, None) == 0


def test_the_holder_of_an_ipv6_network_is_one_address(clock: Clock) -> None:
    made = KeyAttempts(clock)
    for number in range(MAX_WRONG_KEYS):
        made.record_failure(f"2001:db8::{number:x}", None)
    assert made.seconds_to_wait("2001:db8::ffff", None) > 0
    assert made.seconds_to_wait("2001:db8:0:1::1", None) == 0
    for _ in range(MAX_WRONG_KEYS):
        made.record_failure("::ffff:192.0.2.1", None)
    assert made.seconds_to_wait(HERE, None) > 0
    assert made.seconds_to_wait("::ffff:192.0.2.2", None) == 0


def test_memory_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "_MAX_ADDRESSES", 100)
    made = KeyAttempts(clock)
    for number in range(1_000):
        made.record_failure(f"10.0.{number // 250}.{number % 250}", None)
    assert len(made._windows) == 100


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path / "keys.json")


@pytest.fixture
def door(store: Store, ring: Keyring) -> Iterator[httpx.Client]:
    with asking(store, access=Access(ring)) as client:
        yield client


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def test_too_many_wrong_keys_are_told_to_wait(door: httpx.Client, ring: Keyring) -> None:
    key, guessed = ring.create(generated_events.ORGANIZATION, "a"), ring.create(generated_events.ORGANIZATION, "b")
    wrong = [bearer(guessed[:-1]), bearer("ue_00000000_x"), bearer("x")]
    assert [door.get(EVENTS).status_code for _ in range(MAX_WRONG_KEYS + 1)] == [401] * (MAX_WRONG_KEYS + 1), (
        "no key is no wrong key"
    )
    assert [door.get(EVENTS, headers=wrong[0]).status_code for _ in range(MAX_WRONG_KEYS)] == [401] * MAX_WRONG_KEYS
    for headers in (*wrong, bearer(guessed)):
        answer = door.get(EVENTS, headers=headers)
        assert answer.status_code == 429
        assert 0 < int(answer.headers["retry-after"]) <= 60
        assert answer.json()["type"] == "urn:usage-explore:problem:too-many"
        assert answer.headers["content-type"] == "application/problem+json"
    assert door.get(EVENTS, headers=bearer(key)).status_code == 200
    assert door.get(EVENTS).status_code == 401
    assert door.get("/healthz").status_code == 200


def test_right_keys_are_never_counted(door: httpx.Client, ring: Keyring) -> None:
    key = bearer(ring.create(generated_events.ORGANIZATION, "a"))
    assert {door.get(EVENTS, headers=key, params={"limit": 1}).status_code for _ in range(3 * MAX_WRONG_KEYS)} == {200}
