"""A validation finds the same on both paths: with an extract and the newest events, and on the events alone."""

from __future__ import annotations

import dataclasses
import random
import uuid
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import Select

from support.demo_database import ACME, UNTIL
from support.extracts import build
from support.generated_events import CUSTOMERS, METRICS
from support.plain_events import event, store_of
from support.query_oracle import Row, utc
from support.thoroughness import further
from usage_explore import Period, Store, connect, demo
from usage_explore.db import ddl
from usage_explore.db.schema import events_table
from usage_explore.extract.engine import ExtractUnusable
from usage_explore.extract.translated import Translated
from usage_explore.validation import Validation

AS_OF = "2026-10-03T00:00:00Z"
SEPTEMBER = Period(since="2026-09-01T00:00:00Z", until="2026-10-01T00:00:00Z", as_of=AS_OF)
TEN_DAYS = Period(since="2026-09-11T18:15:00Z", until="2026-09-21T18:15:00Z", timezone="Asia/Kathmandu", as_of=AS_OF)
EARLIER = SEPTEMBER.replace(as_of="2026-09-20T05:00:00Z")
PERIODS = [
    SEPTEMBER,
    Period(
        since="2026-08-31T22:00:00Z",
        until="2026-09-30T22:00:00Z",
        timezone="Europe/Berlin",
        as_of=AS_OF,
        finalized_at="2026-10-01T12:00:00Z",
    ),
    EARLIER.replace(customer_id=str(CUSTOMERS[1]), missing="price_key"),
    TEN_DAYS.replace(metric_key="a,b"),
    SEPTEMBER.replace(dimensions={"model": "large"}),
    *further(
        TEN_DAYS,
        EARLIER,
        SEPTEMBER.replace(metric_key="a,b"),
        SEPTEMBER.replace(customer_id=str(CUSTOMERS[1])),
        SEPTEMBER.replace(missing="price_key"),
    ),
]


def content(validation: Validation) -> dict[str, Any]:
    """All that a validation says, by check, without what differs between two runs: the time that it took."""
    said: dict[str, Any] = {"totals": validation.totals}
    for result in validation.results:
        said[result.check.name] = {"skipped": result.skipped, "failed": result.failed}
        if outcome := result.outcome:
            said[result.check.name] |= {
                "looked at": outcome.looked_at,
                "note": outcome.note,
                "partial": outcome.is_partial,
                "findings": outcome.findings,
                "sheet": None if outcome.sheet is None else rows(outcome.sheet),
            }
    return said


def rows(sheet: pd.DataFrame) -> list[tuple[Any, ...]]:
    """The rows of a sheet: decimals by value, since 1.5 and 1.50 are printed alike, and other cells by their text."""
    return [tuple(cell if isinstance(cell, Decimal) else str(cell) for cell in row) for row in sheet.itertuples()]


def same(store: Store, period: Period, monkeypatch: pytest.MonkeyPatch, checks: int = 0) -> set[str]:
    """Validate on both paths, compare, and give the reasons for which statements were read from the events.

    `checks` is the least number of checks that find something.
    """
    reasons: list[str] = []
    answered = Translated.rows

    def spied(self: Translated, statement: Select[Any]) -> list[Any]:
        try:
            found = answered(self, statement)
        except ExtractUnusable as error:
            reasons.append(str(error))
            raise
        reasons.append("answered")
        return found

    with monkeypatch.context() as patched:
        patched.setattr(Translated, "rows", spied)
        one = store.validate(period)
    other = dataclasses.replace(store, extracts=None).validate(period)
    there = content(other)
    assert len({finding.check for finding in other.findings}) >= checks
    for check, said in content(one).items():
        for what, value in said.items() if isinstance(said, dict) else [("", said)]:
            expected = there[check][what] if what else there[check]
            assert value == expected or repr(value) == repr(expected), (period, check, what)  # NaN is not NaN
    return set(reasons)


def random_events(seed: int) -> list[Row]:
    """Usage of a few customers before and in September, with every kind of disorder that the checks look for."""
    draw = random.Random(seed)
    found = []
    for _ in range(1_500):
        at = utc(2026, 7, 20) + timedelta(microseconds=draw.randrange(72 * 86_400_000_000))
        at = draw.choice([at, at.replace(microsecond=0), at.replace(minute=0, second=0, microsecond=0)])
        lag = draw.choice([1, 1, 1, 1, 1, 30, 3600, 86_400 * 2, 86_400 * 5, -3 * 3600])
        cost = draw.random() < 0.5
        found.append(
            event(
                at,
                id=uuid.UUID(int=draw.getrandbits(128)),
                customer_id=draw.choice([*CUSTOMERS, CUSTOMERS[0], CUSTOMERS[0]]),
                metric_key=draw.choice([*METRICS, METRICS[0]]),
                price_key=draw.choice(["p1", "p2", None]),
                subscription_id=draw.choice([None, uuid.UUID(int=5)]),
                quantity=Decimal(draw.choice([1, 2, 3, 100, 250, 250, 0, -5, 60_000]))
                * draw.choice([1, 1, 1, Decimal("0.001")]),
                ingested_at=at + timedelta(seconds=lag),
                external_cost_amount=Decimal(draw.randrange(1, 500)) / 1000 if cost else None,
                external_cost_currency=draw.choice(["USD", "USD", "usd", "éur", "EUR"]) if cost else None,
                wallet_currency=draw.choice([None, "USD", "EUR"]),
                dimensions=draw.choice(['{"model": "large"}', '{"model": "small", "rate": "1.5"}', "{}"]),
            )
        )
    again = [
        dataclasses.replace(row, id=uuid.UUID(int=draw.getrandbits(128)), **changes)
        for row in draw.sample(found, 120)
        for changes in [
            draw.choice(
                [
                    {},
                    {"ingested_at": row.ingested_at + timedelta(hours=5)},
                    {"idempotency_key": f"again {row.idempotency_key}"},
                    {"timestamp": row.timestamp + timedelta(days=3)},
                    {"quantity": row.quantity * 1024},
                ]
            )
        ]
    ]
    return [*found, *again]


@pytest.fixture(params=[0, *(pytest.param(n, marks=pytest.mark.thorough) for n in (1, 2))], ids=lambda n: f"seed{n}")
def store(
    request: pytest.FixtureRequest, events_connection: ddl.Connection, events_database_url: str, tmp_path: Path
) -> Iterator[Store]:
    """A store on random events, with an extract that lacks those of the last days."""
    made = store_of(events_connection, events_database_url, random_events(request.param))
    organization = made.organization_id
    made.close()
    build(events_database_url, tmp_path, until=utc(2026, 9, 24, 3))
    with connect(events_database_url, organization, home=tmp_path) as opened:
        yield opened


def test_random_events_are_judged_alike_on_both_paths(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for period in PERIODS:
        assert "answered" in same(store, period, monkeypatch) or period.dimensions


@pytest.mark.parametrize("per_day", [500, pytest.param(1_500, marks=pytest.mark.thorough)])
def test_the_demo_is_judged_alike_on_both_paths(
    events_connection: ddl.Connection,
    events_database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    per_day: int,
) -> None:
    """Incidents of the same ten checks are planted in a third of the events, in which the checks find them as well."""
    demo.append(events_connection, events_table(), until=UNTIL, days=75, per_day=per_day)
    events_connection.commit()
    build(events_database_url, tmp_path, until=utc(2026, 9, 25))
    period = Period(since="2026-08-01T00:00:00Z", until="2026-09-30T00:00:00Z")
    with connect(events_database_url, ACME, home=tmp_path) as opened:
        assert "answered" in same(opened, period, monkeypatch, checks=10)


def test_numbers_that_an_extract_cannot_hold_are_read_from_the_events(
    events_connection: ddl.Connection, events_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tail with NaN, and one with more digits than DuckDB has beside those of the extract."""
    wide, fine = Decimal("12345678901234567890123456789012"), Decimal("0.0000000001")
    usual = [event(utc(2026, 9, day), quantity=wide) for day in range(1, 10)]
    late = [event(utc(2026, 9, 12), quantity=fine), event(utc(2026, 9, 13), quantity=Decimal(3))]
    made = store_of(events_connection, events_database_url, usual)
    build(events_database_url, tmp_path, until=utc(2026, 9, 11))
    store_of(events_connection, events_database_url, late).close()
    made.close()
    with connect(events_database_url, made.organization_id, home=tmp_path) as opened:
        assert same(opened, PERIODS[0], monkeypatch) == {"some decimals have more than 38 digits"}
    nan = [event(utc(2026, 9, 14), quantity=Decimal("NaN"))]
    store_of(events_connection, events_database_url, nan).close()
    with connect(events_database_url, made.organization_id, home=tmp_path) as opened:
        assert same(opened, PERIODS[0], monkeypatch) == {"some quantities or costs are no numbers"}


def test_many_new_events_are_read_from_the_database(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usage_explore.extract.translated.MAX_TAIL_EVENTS", 3)
    assert same(store, PERIODS[0], monkeypatch) == {"more than 3 events arrived since"}


def test_many_repeated_times_are_read_by_the_database(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usage_explore.validation.check.MAX_TIMES", 2)
    assert "answered" in same(store, PERIODS[0], monkeypatch)


@pytest.mark.parametrize(
    "change",
    [
        f"DELETE FROM usage_events WHERE id = '{uuid.UUID(int=7)}'",
        f"UPDATE usage_events SET quantity = quantity + 1000 WHERE id = '{uuid.UUID(int=7)}'",
        f"UPDATE usage_events SET customer_id = '{CUSTOMERS[1]}' WHERE id = '{uuid.UUID(int=7)}'",
    ],
    ids=["deleted", "edited", "moved to another customer"],
)
def test_an_extract_that_lacks_an_old_change_is_not_read(
    events_connection: ddl.Connection,
    events_database_url: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
) -> None:
    """A refresh notices changes of the last 7 days; older ones must not give totals that the table does not have."""
    events = [event(utc(2026, 9, day), id=uuid.UUID(int=day), customer_id=CUSTOMERS[0]) for day in range(1, 20)]
    made = store_of(events_connection, events_database_url, events)
    made.close()
    build(events_database_url, tmp_path, until=utc(2026, 9, 21))
    with connect(events_database_url, made.organization_id, home=tmp_path) as opened:
        assert "answered" in same(opened, PERIODS[0], monkeypatch)
        assert not caplog.records
        events_connection.execute(change)
        events_connection.commit()
        after = opened.validate(PERIODS[0])
        assert "extract --verify --repair" in caplog.text
    with connect(events_database_url, made.organization_id) as plain:
        truth = plain.validate(PERIODS[0])
    assert content(after) == content(truth)
    assert "moved" in change or after.totals == truth.totals
