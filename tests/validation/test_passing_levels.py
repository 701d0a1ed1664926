"""Changes of level that pass: found though no day leaves its band, and none where usage only varies."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from support.billing_events import CUSTOMERS, SEPTEMBER, SINCE, event, store_of
from support.query_oracle import Row
from support.thoroughness import seeds
from usage_explore.validation.anomalies.levels import _candidates, _change, _passing

DAY = timedelta(days=1)
HISTORY, PERIOD = 91, 30
WEEK = np.array([1, 1, 1, 1, 1, 0.4, 0.3])


def days(mean: float, rows: int, shape: str, seed: int = 1) -> np.ndarray:
    draw = np.random.default_rng(seed)
    base = np.full((rows, HISTORY + PERIOD), float(mean))
    if "week" in shape:
        base *= np.tile(WEEK, HISTORY + PERIOD)[: HISTORY + PERIOD]
    if "grows" in shape:
        base *= np.exp(np.linspace(0, 1, HISTORY + PERIOD))
    if "varies" in shape:
        base *= draw.lognormal(0, 0.3, base.shape)
    return draw.poisson(base).astype(float)


def found(values: np.ndarray) -> dict[int, tuple[int, int, float]]:
    judged = ((row, _passing(values[row], HISTORY)) for row in _candidates(values, HISTORY))
    return {int(row): change for row, change in judged if change}


@pytest.mark.each_value
@pytest.mark.parametrize("shape", ["", "week", "grows", "week grows", "week varies"])
@pytest.mark.parametrize("mean", [5, 60, 3000])
def test_usage_that_varies_has_none(mean: float, shape: str) -> None:
    assert found(days(mean, 100, shape)) == {}


@pytest.mark.each_value
@pytest.mark.parametrize(("factor", "length"), [(0.3, 10), (0.3, 7), (3.0, 10), (2.0, 21)])
@pytest.mark.parametrize("shape", ["", "week"])
def test_weeks_of_less_or_more_are_found_where_they_are(factor: float, length: int, shape: str) -> None:
    values = days(60, 50, shape)
    values[:, HISTORY + 5 : HISTORY + 5 + length] = np.round(values[:, HISTORY + 5 : HISTORY + 5 + length] * factor)
    changes = found(values)
    assert len(changes) >= 48
    for start, end, usual in changes.values():
        assert abs(start - HISTORY - 5) <= 4
        assert abs(end - HISTORY - 5 - length) <= 4
        assert usual > 0


def test_a_level_that_lasts_to_the_end_does_not_pass() -> None:
    values = days(60, 20, "")
    values[:, HISTORY + 10 :] = np.round(values[:, HISTORY + 10 :] * 0.3)
    assert found(values) == {}


def usage(customer: int, factors: dict[int, float]) -> list[Row]:
    """About 60 events on each day from three months before September, a part of them on some of its days, from 0."""
    counts = days(60, 1, "", seed=customer)[0]
    return [
        event(customer, SINCE + (column - HISTORY) * DAY + number * DAY / 400)
        for column, usual in enumerate(counts)
        for number in range(round(usual * factors.get(column - HISTORY, 1)))
    ]


@pytest.mark.parametrize("seed", seeds([4, 5, 6]))
def test_ten_days_with_a_third_of_the_events_are_one_drop(events_database_url: str, seed: int) -> None:
    short = usage(seed, dict.fromkeys(range(11, 21), 0.3))
    with store_of(events_database_url, [*short, *usage(1, {}), *usage(2, {})]) as store:
        (finding,) = store.validate(SEPTEMBER).findings
    assert (finding.check, finding.customer_id) == ("shifts", CUSTOMERS[seed])
    assert "dropped, 12" in finding.sentence
    inside = [row for row in short if finding.since <= row.timestamp < finding.until]
    assert finding.events == len(inside) == pytest.approx(180, rel=0.2)
    facts = dict(finding.facts)
    assert float(facts["actual"]) == pytest.approx(18, rel=0.2)
    assert float(facts["expected"]) == pytest.approx(60, rel=0.1)
    assert "events a day against about" in finding.sentence


@pytest.mark.parametrize("seed", seeds([1, 2, 3]))
def test_hours_without_events_by_chance_do_not_hide_a_level(events_database_url: str, seed: int) -> None:
    low = usage(seed, dict.fromkeys(range(4, 24), 0.06))
    with store_of(events_database_url, low) as store:
        (finding,) = store.validate(SEPTEMBER, checks=["shifts"]).findings
    assert "dropped, " in finding.sentence
    assert "events a day against about" in finding.sentence
    assert finding.events == pytest.approx(72, abs=25)


@pytest.mark.parametrize("seed", seeds([1, 2, 3]))
def test_what_of_a_level_lies_in_the_period_is_a_spike_and_its_end_is_no_fall(
    events_database_url: str, seed: int
) -> None:
    high = usage(seed, dict.fromkeys(range(-7, 13), 3.5))
    with store_of(events_database_url, high) as store:
        (finding,) = store.validate(SEPTEMBER).findings
    assert "spiked, " in finding.sentence
    assert "Aug – 13 Sep 2026" in finding.sentence
    assert finding.since == SINCE
    assert finding.events == sum(SINCE <= row.timestamp < finding.until for row in high)


@pytest.mark.parametrize("factor", [0.1, 0.35, 2.0, 3.5])
def test_usage_that_is_back_since_the_day_before_the_period_is_no_level(
    events_database_url: str, factor: float
) -> None:
    with store_of(events_database_url, usage(1, dict.fromkeys(range(-21, -1), factor))) as store:
        assert store.validate(SEPTEMBER).findings == ()


@pytest.mark.parametrize("share", [0.02, 0.004])
def test_a_level_near_nothing_is_one_drop_and_hours_after_it_are_no_spike(
    events_database_url: str, share: float
) -> None:
    counts = [
        round(usual * share if 4 <= column - HISTORY < 14 else usual)
        for column, usual in enumerate(days(300, 1, "", seed=3)[0])
    ]
    rows = [
        event(1, SINCE + (column - HISTORY + (number + 0.5) / count) * DAY)
        for column, count in enumerate(counts)
        for number in range(count)
    ]
    with store_of(events_database_url, rows) as store:
        (finding,) = store.validate(SEPTEMBER, checks=["shifts"]).findings
    assert "dropped, 5–14 Sep 2026" in finding.sentence
    assert finding.events == sum(counts[HISTORY + 4 : HISTORY + 14])


def test_a_day_of_many_events_and_one_event_beside_it_are_no_level() -> None:
    values = np.zeros(84)
    values[[10, 25, 40, 82]] = 1
    values[79] = 300
    assert _change(values, 56) is None
    values[77:] = 43
    assert _change(values, 56) is not None


def test_a_window_without_a_whole_day_has_none() -> None:
    assert _candidates(np.ones((2, HISTORY)), HISTORY).size == 0
