"""Validations over HTTP: jobs with progress, of one organization, bounded, and over in the database when deleted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pandas as pd
import pytest
from sqlalchemy import text

from support import generated_events
from support.api_server import VALIDATIONS, asking, working
from support.waiting import SLEEP, eventually
from usage_explore import Period, Store, connect
from usage_explore.access.api_keys import Keyring
from usage_explore.api import jobs
from usage_explore.api.auth import Access
from usage_explore.db import ddl
from usage_explore.db.timeouts import cancellable
from usage_explore.errors import LoadError
from usage_explore.files.tables import opened
from usage_explore.validation.registry import CHECKS

PERIOD = {"since": "2026-03-01T00:00:00Z", "until": "2026-11-10T00:00:00Z", "as_of": "2026-11-12T00:00:00Z"}
LINE = {"customer_id": str(generated_events.CUSTOMERS[0]), "metric_key": "tokens_in", "quantity": "12.5"}


def ended(client: httpx.Client, path: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """The job as soon as it has ended."""
    jobs: list[dict[str, Any]] = []

    def is_over() -> bool:
        jobs.append(client.get(path, headers=headers).json())
        return jobs[-1]["state"] not in ("queued", "running")

    eventually(is_over)
    return jobs[-1]


def started(client: httpx.Client, headers: dict[str, str] | None = None, **more: Any) -> str:
    """The address of a job that was started."""
    answer = client.post(VALIDATIONS, params={**PERIOD, "checks": "duplicates"}, headers=headers, **more)
    assert answer.status_code == 202, answer.text
    assert answer.json()["state"] == "queued"
    location: str = answer.headers["location"]
    assert location == f"/api{VALIDATIONS}/{answer.json()['id']}"
    return location.removeprefix("/api")


def without_times(found: dict[str, Any]) -> dict[str, Any]:
    checks = [{**check, "milliseconds": 0} for check in found["checks"]]
    return {**found, "checks": checks}


def test_a_job_ends_with_the_validation(client: httpx.Client, store: Store, tmp_path: Path) -> None:
    checks = ["duplicates", "reconciliation", "unrated"]
    lines = tmp_path / "lines.csv"
    pd.DataFrame([LINE]).to_csv(lines, index=False)
    files = {"invoices": (lines.name, lines.read_bytes())}
    answer = client.post(VALIDATIONS, params={**PERIOD, "checks": checks}, files=files)
    job = ended(client, f"{VALIDATIONS}/{answer.json()['id']}")
    assert (job["state"], job["problem"]) == ("done", None)
    assert job["progress"] == dict.fromkeys(checks, 1.0)
    document = client.get("/openapi.json").json()
    schema = {"$ref": "#/components/schemas/ValidationJob", "components": document["components"]}
    jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(job)
    here = store.validate(Period(**PERIOD), checks=checks, invoices=lines)
    assert without_times(job["result"]) == without_times(here.to_dict())
    assert job["result"]["findings"]
    listed = client.get(VALIDATIONS).json()["validations"]
    assert next((item["id"], item["result"]) for item in listed) == (job["id"], None)
    assert client.delete(f"{VALIDATIONS}/{job['id']}").status_code == 204
    assert client.get(f"{VALIDATIONS}/{job['id']}").status_code == 404


@pytest.mark.parametrize(
    ("sent", "status", "said"),
    [
        ({"params": {"checks": "nothing"}}, 400, "checks: 'nothing' is not a check"),
        ({"params": {"since": "x", "nonsense": "1"}}, 400, "nonsense: unknown parameter"),
        ({"params": {"tolerance": "0.1"}}, 400, "tolerance: is for invoice lines"),
        (
            {
                "params": {"tolerance": "-1"},
                "files": {"invoices": ("a.csv", b"customer_id,metric_key,quantity\n1,calls,1\n")},
            },
            400,
            "tolerance: is negative",
        ),
        ({"json": {}}, 415, "multipart/form-data"),
        ({"content": b"x"}, 415, "multipart/form-data"),
        ({"files": {"other": ("a.csv", b"")}}, 400, "other: is not a file that is known here"),
        (
            {"files": {"invoices": ("a.csv", b"customer_id,metric_key,quantity\n1,calls,many\n")}},
            400,
            "invoices: line 2",
        ),
        ({"files": {"wallets": ("../../etc/passwd", b"nothing\n1\n")}}, 400, "wallets: "),
        ({"files": {"wallets": ("a.parquet", b"nothing\n1\n")}}, 400, "wallets: "),
        ({"content": b"--x\r\nno", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}, 400, "body: "),
        ({"content": b"", "headers": {"Content-Type": "multipart/form-data"}}, 400, "body: "),
        ({"headers": {"Origin": "https://evil.example"}}, 421, "other sites"),
        ({"headers": {"Sec-Fetch-Site": "cross-site"}}, 421, "other sites"),
        ({"params": {"organization_id": str(generated_events.NEIGHBOUR)}}, 403, "organization_id"),
    ],
)
def test_what_cannot_be_validated_is_said_at_once(
    client: httpx.Client, sent: dict[str, Any], status: int, said: str
) -> None:
    answer = client.post(VALIDATIONS, **sent)
    assert answer.status_code == status, answer.text
    errors = [f"{fault['parameter']}: {fault['message']}" for fault in answer.json().get("errors", ())]
    assert any(said in text for text in [*errors, answer.json()["detail"]]), answer.text
    assert "/tmp" not in answer.text


def test_too_many_bytes_are_refused(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "MAX_UPLOAD_MEGABYTES", 1)
    answer = client.post(VALIDATIONS, files={"invoices": ("a.csv", b"x" * 2**20)})
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:usage-explore:problem:too-large")


def test_other_methods_name_those_that_work(client: httpx.Client) -> None:
    assert client.put(VALIDATIONS).headers["allow"] == "GET, HEAD, POST"
    assert client.post(f"{VALIDATIONS}/{'0' * 32}").headers["allow"] == "DELETE, GET, HEAD"
    assert client.post("/v1/usage-events").headers["allow"] == "GET, HEAD"


@pytest.fixture
def sleeping(events_database_url: str, events_connection: ddl.Connection) -> Iterator[Store]:
    """A store whose validations sleep in the database."""
    generated_events.insert(events_connection, generated_events.generate(per_scene=2))
    events_connection.commit()
    with (
        pytest.MonkeyPatch.context() as patch,
        connect(events_database_url, statement_timeout=SLEEP) as store,
    ):

        def sleep(self: Store, period: Period, **_: object) -> None:
            with self._transaction(period) as (connection, _):
                connection.execute(text(f"SELECT pg_sleep({SLEEP})"))

        patch.setattr(Store, "validate", sleep)
        yield store


def test_a_deleted_job_is_over_in_the_database(sleeping: Store, events_connection: ddl.Connection) -> None:
    with asking(sleeping.scoped(generated_events.ORGANIZATION)) as client:
        first, second = started(client), started(client)
        eventually(lambda: len(working(events_connection)) == 1)
        assert client.get(second).json()["state"] == "queued"
        assert client.get("/readyz").status_code == 200
        refused = client.post(VALIDATIONS, params=PERIOD)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
        assert client.delete(second).status_code == 204
        assert client.delete(first).status_code == 204
        eventually(lambda: not working(events_connection))
        assert client.get(VALIDATIONS).json() == {"validations": []}
        third = started(client)
        eventually(lambda: working(events_connection))
        client.delete(third)
        eventually(lambda: not working(events_connection))
        eventually(lambda: sleeping.engine.pool.checkedout() == 0)  # type: ignore[attr-defined]


def test_a_job_is_its_organizations_alone(sleeping: Store, tmp_path: Path) -> None:
    ring = Keyring(tmp_path / "keys.json")
    mine, theirs = (
        {"Authorization": f"Bearer {ring.create(each, 'test')}"}
        for each in (generated_events.ORGANIZATION, generated_events.NEIGHBOUR)
    )
    with asking(sleeping, access=Access(ring)) as client:
        job = started(client, mine)
        unknown = client.get(f"{VALIDATIONS}/{'0' * 32}", headers=theirs)
        for answer in (client.get(job, headers=theirs), client.delete(job, headers=theirs)):
            assert answer.status_code == 404
            assert answer.json()["detail"] == unknown.json()["detail"]
        assert client.get(VALIDATIONS, headers=theirs).json() == {"validations": []}
        assert len(client.get(VALIDATIONS, headers=mine).json()["validations"]) == 1
        for answer in (client.get(job), client.delete(job), client.post(VALIDATIONS), client.get(VALIDATIONS)):
            assert answer.status_code == 401
        other = started(client, theirs)  # the other organization's jobs leave room for one's own
        for path, header in ((job, mine), (other, theirs)):
            assert client.delete(path, headers=header).status_code == 204


def test_failures_are_problems_and_old_jobs_are_forgotten(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("/secret/path")

    monkeypatch.setattr(Store, "validate", fail)
    monkeypatch.setattr(jobs, "MAX_KEPT_PER_ORGANIZATION", 2)
    paths = []
    for _ in range(3):
        paths.append(started(client))
        job = ended(client, paths[-1])
        assert (job["state"], job["result"]) == ("failed", None)
        assert job["problem"]["type"] == "urn:usage-explore:problem:internal"
        assert "/secret" not in str(job)
    assert client.get(paths[0]).status_code == 404
    for path in paths[1:]:
        assert client.delete(path).status_code == 204


def test_a_check_that_fails_says_nothing_of_the_server(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, unexpected_failures: list[str]
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("/secret/path")

    monkeypatch.setitem(CHECKS, "duplicates", replace(CHECKS["duplicates"], examine=fail))
    job = ended(client, started(client))
    unexpected_failures.clear()
    (check,) = job["result"]["checks"]
    assert (check["failed"], check["findings"]) == (
        "an unexpected error, RuntimeError; its traceback is in the log",
        None,
    )
    assert "/secret" not in str(job)


def test_reading_a_posted_file_ends_when_its_request_is_cancelled(tmp_path: Path) -> None:
    path = tmp_path / "invoices.csv"
    path.write_text("customer_id,metric_key,quantity\n" + "c,m,1\n" * 10)
    with cancellable() as held, jobs._without_folder(tmp_path), opened(path, "invoices") as records:
        rows = iter(records.rows)
        assert next(rows)[0] == 2
        held.cancel()
        with pytest.raises(LoadError, match="its reading was cancelled"):
            next(rows)
