"""`/api/metrics`: right numbers, a bounded number of series, nothing of the data, and only for those who may see it."""

from __future__ import annotations

import asyncio
import http.client
import random
import string
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from support import extracts, generated_events
from support.api_server import AGGREGATE, EVENTS, asking, working
from support.generated_events import NEIGHBOUR, ORGANIZATION
from support.plain_events import beside, event
from support.query_oracle import Row
from support.waiting import PATIENCE, SLEEP, eventually
from usage_explore import Store, config, connect
from usage_explore.access.allow_list import People
from usage_explore.access.api_keys import Keyring
from usage_explore.api import Limits, create_app, metrics
from usage_explore.api.auth import MAX_WRONG_KEYS, Access
from usage_explore.cli.uvicorn_server import access as configured_access
from usage_explore.cli.uvicorn_server import standalone
from usage_explore.db import ddl
from usage_explore.errors import ConfigurationError, DatabaseUnavailable

METRICS = "/metrics"
KEY = "0123456789abcdef0123456789abcdef"
NOW = datetime.now(UTC).replace(microsecond=0)

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: str) -> Samples:
    """The samples by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def read(client: httpx.Client, **headers: str) -> Samples:
    answer = client.get(METRICS, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    return samples(answer.text)


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def value(found: Samples, name: str, **labels: str) -> float | None:
    return found.get((f"usage_explore_{name}", tuple(sorted(labels.items()))))


def requests(found: Samples, route: str, status: int, method: str = "GET") -> float | None:
    return value(found, "http_requests_total", route=route, method=method, status=str(status))


def test_requests_are_counted_by_route_method_and_status(everyone: Store) -> None:
    question = {"organization_id": str(ORGANIZATION)}
    with asking(everyone) as client:
        for _ in range(3):
            assert client.get(EVENTS, params=question).status_code == 200
        assert client.get(AGGREGATE, params=question | {"metric": "nonsense"}).status_code == 400
        assert client.head(EVENTS, params=question).status_code == 200
        assert client.post(EVENTS).status_code == 405
        assert client.delete("/v1/links/abcdefghijk", params=question).status_code == 410
        assert client.get("/v1/validations/0").status_code == 404
        assert client.get("/nothing").status_code == 404
        found = read(client)
        assert requests(found, "/api/v1/usage-events", 200) == 3
        assert requests(found, "/api/v1/usage-events", 200, "HEAD") == 1
        assert requests(found, "/api/v1/usage-events", 405, "POST") == 1
        assert requests(found, "/api/v1/usage-events/aggregate", 400) == 1
        assert requests(found, "/api/v1/links/{token}", 410, "DELETE") == 1
        assert requests(found, "/api/v1/validations/{id}", 404) == 1
        assert requests(found, "other", 404) == 1
        assert requests(found, "/api/metrics", 200) is None
        assert value(found, "http_problems_total", problem="query") == 1
        assert value(found, "http_problems_total", problem="gone") == 1
        assert value(found, "http_problems_total", problem="method") == 1
        assert value(found, "http_problems_total", problem="not_found") == 2
        assert value(found, "http_request_seconds_count", route="/api/v1/usage-events") == 5
        assert value(found, "http_request_seconds_bucket", route="/api/v1/usage-events", le="+Inf") == 5
        assert 0 < (value(found, "http_request_seconds_sum", route="/api/v1/usage-events") or 0) < 5 * PATIENCE
        assert requests(read(client), "/api/metrics", 200) == 1


def test_nothing_that_clients_send_adds_series_without_end(everyone: Store) -> None:
    with asking(everyone) as client:
        address = (client.base_url.host, client.base_url.port or 80)

        def attack(rounds: int) -> None:
            for number in range(rounds):
                word = "".join(random.choices(string.ascii_letters + string.digits, k=12))
                connection = http.client.HTTPConnection(*address, timeout=PATIENCE)
                method = [word.upper(), "GET", "get", "DELETE"][number % 4]
                path = [f"/{word}", f"/v1/links/{word}", f"/v1/validations/{word}", f"/v1/usage-events?{word}={word}"]
                connection.request(method, f"/api{path[number // 4 % 4]}", headers={word: word, "X-Request-ID": word})
                connection.getresponse().read()
                connection.close()

        attack(64)
        first = read(client)
        attack(256)
        second = client.get(METRICS)
        assert len(samples(second.text)) <= len(first) + 20  # the series of /api/metrics itself
        assert set(second.text) <= set(string.printable)
        labels = {pair for _, found in samples(second.text) for pair in found}
        assert {method for name, method in labels if name == "method"} <= {"GET", "DELETE", "other"}
        assert {route for name, route in labels if name == "route"} <= {
            *("other", "/api/v1/links/{token}", "/api/v1/validations/{id}", "/api/v1/usage-events", "/api/metrics")
        }


@pytest.fixture
def built(events_connection: ddl.Connection, events_database_url: str, tmp_path: Path) -> Store:
    """A store of two organizations that have extracts."""
    rows = [event(NOW - timedelta(hours=hour), metric_key="very private") for hour in range(1, 9)]
    generated_events.insert(events_connection, [*rows, *beside(rows[:3])])
    events_connection.commit()
    extracts.build(events_database_url, tmp_path, until=NOW - timedelta(hours=1))
    return connect(events_database_url, home=tmp_path)


def test_age_and_size_of_extracts(built: Store, tmp_path: Path) -> None:
    with built, asking(built) as client:
        found = read(client)
        assert value(found, "extracts") == 2
        sizes = {}
        for organization_id in (ORGANIZATION, NEIGHBOUR):
            label = str(organization_id)
            age = value(found, "extract_age_seconds", organization_id=label)
            assert age == pytest.approx(time.time() - (NOW - timedelta(hours=1)).timestamp(), abs=PATIENCE)
            (folder,) = tmp_path.glob(f"extract/*/{label}")
            sizes[label] = sum(path.stat().st_size for path in folder.glob("*.parquet"))
            assert value(found, "extract_bytes", organization_id=label) == sizes[label]
        assert value(found, "extracts_bytes") == sum(sizes.values())
        assert (value(found, "extracts_max_age_seconds") or 0) >= 3600
        text = client.get(METRICS).text
        assert "very private" not in text
        assert str(tmp_path) not in text


def test_a_server_of_one_organization_names_no_other(built: Store) -> None:
    for store in (built.scoped(ORGANIZATION), built.restricted([ORGANIZATION])):
        with asking(store) as client:
            assert value(read(client), "extracts") == 1
            assert str(NEIGHBOUR) not in client.get(METRICS).text
    built.close()


def test_organizations_are_named_to_who_may_see_all(built: Store, tmp_path: Path) -> None:
    ring = Keyring(tmp_path / "keys.json")
    text = ring.create(ORGANIZATION, "a")
    people = tmp_path / "people.toml"
    people.write_text("")
    with built:
        for access in (Access(ring), Access(people=People(people))):
            with asking(built, access=access) as client:
                found = read(client)
                assert value(found, "extracts") == 2
                assert str(ORGANIZATION) not in client.get(METRICS, headers=bearer(text)).text
        with asking(built, access=Access(ring, metrics_key=KEY)) as client:
            assert value(read(client, **bearer(KEY)), "extract_bytes", organization_id=str(NEIGHBOUR))


def test_a_bounded_number_of_organizations_is_named(built: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "MAX_ORGANIZATIONS", 1)
    with built, asking(built) as client:
        found = read(client)
        assert value(found, "extracts") == 2
        assert len([name for name, _ in found if name == "usage_explore_extract_bytes"]) == 1


def test_the_metrics_key_opens_the_metrics_alone(everyone: Store, tmp_path: Path) -> None:
    ring = Keyring(tmp_path / "keys.json")
    own = ring.create(ORGANIZATION, "a")
    with asking(everyone, access=Access(ring, metrics_key=KEY)) as client:
        assert client.get(METRICS, headers=bearer(KEY)).status_code == 200
        assert client.get(METRICS, headers=bearer(KEY) | {"Host": "usage.example", "Via": "1.1 x"}).status_code == 200
        assert client.get(EVENTS, headers=bearer(KEY)).status_code == 401
        wrong: list[dict[str, str] | list[tuple[str, str]]] = [
            {},
            {"Authorization": "Bearer"},
            bearer(own),
            bearer(KEY[:-1]),
            bearer(KEY + "x"),
            {"Authorization": KEY},
            {"Authorization": f"Basic {KEY}"},
            {"X-Metrics-Key": KEY},
            [*bearer(KEY).items(), *bearer(KEY).items()],
        ]
        for headers in wrong:
            answer = client.get(METRICS, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert "usage_explore_" not in answer.text
        assert client.get(f"{METRICS}?key={KEY}").status_code == 401


def test_guesses_of_the_metrics_key_are_limited(everyone: Store) -> None:
    with asking(everyone, access=Access(metrics_key=KEY)) as client:
        statuses = [client.get(METRICS, headers=bearer(f"guess {number}")).status_code for number in range(20)]
        assert statuses == [401] * MAX_WRONG_KEYS + [429] * (20 - MAX_WRONG_KEYS)
        assert client.get(METRICS, headers=bearer(KEY)).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        {"X-Forwarded-For": "127.0.0.1"},
        {"X-Forwarded-For": ""},
        {"x-forwarded-proto": "https"},
        {"X-Forwarded-Host": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        {"X-Real-IP": "127.0.0.1"},
        {"Via": "1.1 proxy"},
        {"True-Client-IP": "127.0.0.1"},
        {"CF-Connecting-IP": "127.0.0.1"},
        {"Host": "usage.example.com"},
        {"Host": "127.0.0.1.evil.example"},
    ],
)
def test_without_a_key_what_comes_through_a_proxy_is_refused(everyone: Store, header: dict[str, str]) -> None:
    with asking(everyone) as client:
        answer = client.get(METRICS, headers=header)
        assert answer.status_code == 421
        assert "USAGE_EXPLORE_METRICS_KEY" in answer.json()["detail"]
        assert client.get(METRICS).status_code == 200


@pytest.mark.parametrize(("peer", "status"), [("127.0.0.1", 200), ("::1", 200), ("10.1.2.3", 421), ("", 421)])
def test_without_a_key_the_peer_is_this_machine(everyone: Store, peer: str, status: int) -> None:
    async def ask() -> int:
        transport = httpx.ASGITransport(standalone(create_app(everyone)), client=(peer, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return (await client.get(f"/api{METRICS}")).status_code

    assert asyncio.run(ask()) == status


def test_a_server_behind_a_configured_proxy_needs_the_key(everyone: Store, tmp_path: Path) -> None:
    """A proxy that adds no header looks like this machine: the settings that name it close the metrics."""
    for settings, status in (
        ({}, 200),
        ({"app_url": "http://localhost:9000"}, 200),
        ({"app_url": "https://usage.example.com"}, 421),
        ({"trusted_proxies": "127.0.0.1"}, 421),
    ):
        with asking(everyone, access=configured_access(config.settings(home=tmp_path, **settings))) as client:
            assert client.get(METRICS).status_code == status
        given = config.settings(home=tmp_path, metrics_key=KEY, **settings)
        with asking(everyone, access=configured_access(given)) as client:
            assert client.get(METRICS).status_code == 401
            assert client.get(METRICS, headers=bearer(KEY)).status_code == 200
        assert KEY not in repr(given) + repr(configured_access(given))


@pytest.mark.parametrize("key", ["short", "x" * 31, "with a blank " * 3, "ü" * 40, "x" * 2_000])
def test_a_weak_key_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ConfigurationError, match="USAGE_EXPLORE_METRICS_KEY") as caught:
        config.settings(metrics_key=key)
    assert key not in str(caught.value)


def test_what_runs_and_waits(
    events_database_url: str, events_connection: ddl.Connection, slow: Callable[[str], None]
) -> None:
    slow(events_database_url)
    with (
        connect(events_database_url, ORGANIZATION, table="slow", statement_timeout=SLEEP) as store,
        asking(store, limits=Limits(queries=1, wait_seconds=PATIENCE)) as client,
        httpx.Client(base_url=client.base_url, timeout=PATIENCE) as other,
    ):

        def load(name: str) -> float | None:
            return value(read(other), name, work="queries")

        def connections(state: str) -> float:
            return value(read(other), "database_connections", state=state) or 0

        before = connections("in_use")
        assert (load("work_running"), load("work_waiting"), load("work_running_max")) == (0, 0, 1)
        address = (client.base_url.host, client.base_url.port or 80)
        asked = [http.client.HTTPConnection(*address, timeout=PATIENCE) for _ in range(3)]
        for connection in asked:
            connection.request("GET", f"/api{EVENTS}", headers={"Host": "localhost"})
        eventually(lambda: working(events_connection))
        eventually(lambda: load("work_waiting") == 2)
        assert load("work_running") == 1
        assert connections("in_use") > before
        assert (value(read(other), "database_connections_max") or 0) >= 10
        for connection in asked:
            connection.close()
        eventually(lambda: load("work_running") == load("work_waiting") == 0)


def test_without_the_database_the_other_numbers_are_there() -> None:
    def gone() -> Store:
        raise DatabaseUnavailable("no database here, at secret:5432")

    with asking(gone) as client:
        assert client.get(EVENTS).status_code == 503
        answer = client.get(METRICS)
        found = samples(answer.text)
        assert requests(found, "/api/v1/usage-events", 503) == 1
        assert value(found, "http_problems_total", problem="unavailable") == 1
        assert value(found, "extracts") is None
        assert "secret" not in answer.text


def test_no_name_or_value_of_the_data(everyone: Store, generated: list[Row]) -> None:
    with asking(everyone) as client:
        for row in generated[:3]:
            client.get(
                EVENTS, params={"organization_id": str(row.organization_id), "customer_id": str(row.customer_id)}
            )
        text = client.get(METRICS).text
    values: set[object] = {row.customer_id for row in generated} | {row.metric_key for row in generated}
    words = {str(one) for one in values if len(str(one)) > 3}
    assert not [word for word in words if word in text]
    assert not any(isinstance(one, UUID) and one.hex in text for one in values)
