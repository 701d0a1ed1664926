"""Laws of the generator; no database."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import numpy as np
import pytest

from usage_explore.db.schema import COLUMNS
from usage_explore.demo.business import METRICS, ORGANIZATIONS, TENANTS, Draws, customers
from usage_explore.demo.events import DAY, copy_lines, day_start
from usage_explore.demo.planted_incidents import CYCLE_DAYS, KINDS, MAIN, complete_at, plans, planted, whole_day

DAY_0 = date(2026, 9, 14)
CYCLE_DAYS = [DAY_0 + timedelta(days=number) for number in range(CYCLE_DAYS)]


def lines(seed: int, day: date, tenant: int, per_day: int = 400) -> list[str]:
    return list(copy_lines(whole_day(seed, day, tenant, per_day), tenant))


def records(day: date, tenant: int = MAIN, per_day: int = 8_500) -> list[dict[str, str | None]]:
    return [
        dict(zip(COLUMNS, (None if cell == r"\N" else cell for cell in line.rstrip("\n").split("\t")), strict=True))
        for line in lines(1, day, tenant, per_day)
    ]


def microseconds(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def test_a_day_is_the_same_on_every_machine() -> None:
    """The digest holds for every numpy and every processor; a change of the generator changes it on purpose."""
    days = [date(2026, 9, 2), date(2026, 9, 9), date(2026, 9, 16), date(2026, 10, 1), date(2026, 10, 6)]
    text = "".join(line for day in days for tenant in range(3) for line in lines(7, day, tenant))
    assert (
        hashlib.sha256(text.encode()).hexdigest() == "b2c49da912d395554598e4294c3aa0afc91787da6d8cbdbd019cbcfa257aabfa"
    )


@pytest.mark.parametrize("tenant", range(len(TENANTS)))
def test_a_day_depends_on_seed_and_day_alone(tenant: int) -> None:
    first = lines(1, DAY_0, tenant)
    lines(2, DAY_0 + timedelta(days=3), tenant)
    assert lines(1, DAY_0, tenant) == first
    assert not set(lines(2, DAY_0, tenant)) & set(first)
    assert not set(lines(1, DAY_0 + timedelta(days=1), tenant)) & set(first)


@pytest.mark.parametrize("until", [datetime(2024, 2, 1, tzinfo=UTC), datetime(2026, 11, 22, 3, tzinfo=UTC)])
def test_a_hundred_and_twenty_days_hold_over_a_million_events(until: datetime) -> None:
    days = [until.date() - timedelta(days=number) for number in range(121)]
    arrived = [
        int((whole_day(1, day, tenant)["ingested_at"] <= microseconds(until)).sum())
        for day in days
        for tenant in range(len(TENANTS))
    ]
    assert sum(arrived) >= 1_000_000


def test_rows_arrive_between_the_start_of_their_day_and_its_completion() -> None:
    for day in CYCLE_DAYS:
        rows = whole_day(1, day, MAIN, 600)
        assert rows["ingested_at"].min() >= day_start(day)
        assert rows["ingested_at"].max() <= microseconds(complete_at(day))
        assert (np.diff(rows["ingested_at"]) >= 0).all()


def test_events_occur_on_their_day_and_before_they_arrive_but_for_the_future_batch() -> None:
    future = next(kind for kind in KINDS if kind.name == "future_batch")
    for day in CYCLE_DAYS:
        rows = whole_day(1, day, MAIN, 600)
        odd = rows["incident"] == future.number
        assert (rows["timestamp"][odd] > rows["ingested_at"][odd]).all()
        usual = rows[~odd]
        assert (usual["timestamp"] < usual["ingested_at"]).all()
        assert ((usual["timestamp"] >= day_start(day)) & (usual["timestamp"] < day_start(day) + DAY)).all()
        for plan in plans(1, day):
            marked = rows[rows["incident"] == plan.kind.number]
            assert plan.concerns(marked).all()


def test_ids_are_random_uuids_and_unique() -> None:
    ids = [UUID(line.split("\t")[0]) for day in CYCLE_DAYS for tenant in range(3) for line in lines(1, day, tenant)]
    assert len(set(ids)) == len(ids)
    assert all(each.version == 4 for each in ids)


def test_the_main_organization_has_four_hundred_customers_by_zipf() -> None:
    assert list(ORGANIZATIONS.values()) == ["Acme AI", "Birch Labs", "Cedar Studio"]
    assert [len(customers(tenant).ids) for tenant in range(3)] == [400, 24, 9]
    seen: Counter[int] = Counter()
    for day in CYCLE_DAYS:
        seen.update(whole_day(1, day, MAIN)["customer"].tolist())
    shares = [count for _, count in seen.most_common()]
    assert len(seen) > 340
    assert sum(shares[:20]) > sum(shares) / 2


def test_every_metric_is_there_with_its_decimals() -> None:
    quantities: dict[str, list[Decimal]] = {metric.key: [] for metric in METRICS}
    for record in records(DAY_0):
        assert record["metric_key"] is not None
        assert record["quantity"] is not None
        quantities[record["metric_key"]].append(Decimal(record["quantity"]))
    for metric in METRICS:
        assert quantities[metric.key]
        assert all(-each.as_tuple().exponent == metric.decimals for each in quantities[metric.key])
        assert all(each != 0 for each in quantities[metric.key])
    assert any(each != round(each, 6) for each in quantities["storage_gb_hours"])


def test_credits_are_negative_without_a_cost_and_other_costs_are_not_negative() -> None:
    found = 0
    for record in records(DAY_0):
        cost = record["external_cost_amount"]
        assert (cost is None) == (record["external_cost_currency"] is None)
        assert cost is None or Decimal(cost) >= 0
        if str(record["quantity"]).startswith("-"):
            found += 1
            assert cost is None
    assert found


def test_nulls_and_odd_dimension_values_are_there() -> None:
    rows = records(DAY_0)
    dimensions = [json.loads(str(record["dimensions"])) for record in rows]
    for key in ("region", "model", "status"):
        values = [each.get(key, "absent") for each in dimensions]
        assert {"Other", "", None, "absent"} <= set(values)
    assert {"api_key" in each for each in dimensions} == {True, False}
    for column in ("product_id", "subscription_id", "price_key", "wallet_currency", "external_cost_amount"):
        assert {record[column] is None for record in rows} == {True, False}
    for column in ("wallet_currency", "external_cost_currency"):
        assert {record[column] for record in rows} == {"USD", "EUR", "GBP", None}


def test_about_three_percent_arrive_hours_late() -> None:
    rows = whole_day(1, DAY_0, MAIN)
    late = (rows["ingested_at"] - rows["timestamp"] > 3_600_000_000).mean()
    assert 0.02 < late < 0.04


def test_weekends_are_quiet_and_the_business_grows() -> None:
    size = {day: len(whole_day(1, day, 1)) for day in CYCLE_DAYS}
    weekend = [count for day, count in size.items() if day.weekday() >= 5]
    working = [count for day, count in size.items() if day.weekday() < 5]
    assert max(weekend) < min(working)
    assert sum(len(whole_day(1, day + timedelta(days=364), 1)) for day in CYCLE_DAYS) > sum(size.values())


def test_amounts_stay_in_range_for_centuries() -> None:
    for day in (date(1971, 1, 1), date(2190, 5, 5)):
        rows = whole_day(1, day, MAIN)
        assert (rows["cost"] >= 0).all()
        assert (np.abs(rows["quantity"]) > 0).all()


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
def test_every_cycle_plants_every_kind(seed: int) -> None:
    began = Counter(plan.kind.name for day in CYCLE_DAYS for plan in plans(seed, day) if plan.day == day)
    assert began == {kind.name: 1 for kind in KINDS}


def test_an_incident_is_known_once_it_has_begun() -> None:
    day = next(day for day in CYCLE_DAYS for plan in plans(1, day) if plan.kind.name == "runaway_customer")
    rows = whole_day(1, day, MAIN)
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    counts = []
    for until in (noon - timedelta(hours=4), noon, noon + timedelta(hours=12)):
        found = planted(1, day, rows[rows["ingested_at"] <= microseconds(until)], until)
        counts.append(sum(each.events for each in found))
    assert counts[0] == 0
    assert 0 < counts[1] < counts[2]


def test_draws_follow_their_tables() -> None:
    draws = Draws(1)
    assert set(draws.pick((1, 0, 3), 1000).tolist()) == {0, 2}
    values = draws.spread(((0, 10), (500, 20), (1000, 1000)), 10_000)
    assert (values >= 10).all()
    assert (values < 1000).all()
    assert 0.48 < (values < 20).mean() < 0.52
