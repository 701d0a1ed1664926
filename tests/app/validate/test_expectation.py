"""The band that a finding's chart draws is the one that the finding states."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import streamlit as st

from support.billing_events import CUSTOMERS, SEPTEMBER, SINCE, UNTIL, steady, store_of
from support.query_oracle import utc
from usage_explore.app.cache import Source
from usage_explore.app.validate.explanation import change, expectation
from usage_explore.charts import expected
from usage_explore.query.validators import instant
from usage_explore.validation import Finding, Validation

BAND = ("expected", "low", "high")
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
BEFORE = SINCE - 63 * DAY


@pytest.fixture
def source(events_database_url: str) -> Iterator[Source]:
    """A customer's spike on a day, another's busy hours, a third's new level, a fourth's day of silence."""
    noon = utc(2026, 9, 16, 12)
    events = [row for customer in range(4) for row in steady(customer, BEFORE, UNTIL, HOUR)]
    events += steady(0, noon, noon + 8 * HOUR, MINUTE)
    events += steady(1, noon - 5 * DAY, noon - 5 * DAY + 3 * HOUR, 2 * MINUTE)
    events += steady(2, utc(2026, 9, 10), UNTIL, 20 * MINUTE)
    events = [row for row in events if row.customer_id != CUSTOMERS[3] or row.timestamp.date() != noon.date()]
    with store_of(events_database_url, events) as store:
        yield Source(store, store.now())
    st.cache_resource.clear()


@pytest.fixture
def validation(source: Source) -> Validation:
    found = source.store.validate(SEPTEMBER, checks=["shifts"])
    assert len(banded(found)) >= 3
    return found


def banded(validation: Validation) -> list[Finding]:
    """The findings that state a band: those on days without events state none."""
    return [finding for finding in validation.findings if "bucket" in dict(finding.facts)]


def drawn(source: Source, validation: Validation, finding: Finding) -> dict[int, dict[str, Any]]:
    """The chart's buckets by their start in milliseconds; the zone is UTC, so the wall's clock is the instant."""
    answer = source.aggregate(finding.chart_query(validation.period, validation.now))
    band = expectation(source, validation, finding, answer)
    layers = expected.chart(answer, finding.since, finding.until, expected=band).to_dict()["layer"]
    (values,) = (
        each["data"]["values"] for each in layers if each["data"]["name"] == "buckets" and "values" in each["data"]
    )
    return {row["start"]: row for row in (json.loads(values) if isinstance(values, str) else values)}


def stated(finding: Finding) -> tuple[int, dict[str, float]]:
    facts = dict(finding.facts)
    return round(instant(facts["bucket"]).timestamp() * 1_000), {name: float(facts[name]) for name in BAND}


def test_a_finding_on_invoice_lines_is_no_change_of_usage(validation: Validation) -> None:
    """A line in a wrong currency was explained by "low amounts in 11–15 Sep"."""
    finding = banded(validation)[0]
    assert change(validation, finding) is not None
    assert change(validation, replace(finding, check="reconciliation")) is None


def test_the_drawn_band_is_what_the_finding_says(source: Source, validation: Validation) -> None:
    for finding in banded(validation):
        rows = drawn(source, validation, finding)
        start, band = stated(finding)
        assert {name: rows[start][name] for name in BAND} == pytest.approx(band, rel=0.01, abs=1e-9), finding.sentence
        assert rows[start]["marked"]
        since, until = (round(moment.timestamp() * 1_000) for moment in (finding.since, finding.until))
        assert all(row["marked"] == (row["start"] < until and since < row["end"]) for row in rows.values())
        assert all(row["low"] <= row["expected"] <= row["high"] for row in rows.values() if row["low"] is not None)


def test_a_stated_band_that_is_not_the_detector_s_is_drawn_as_stated(source: Source, validation: Validation) -> None:
    told = {"expected": 7_000_000.0, "low": 6_000_000.0, "high": 8_000_000.0}
    for finding in banded(validation):
        facts = dict(finding.facts) | {name: f"{value:.0f}" for name, value in told.items()}
        rows = drawn(source, validation, replace(finding, facts=tuple(facts.items())))
        start, _ = stated(finding)
        assert {name: rows[start][name] for name in BAND} == told
        assert all(row["high"] != told["high"] for row in rows.values() if not row["marked"])


def test_no_band_is_drawn_where_none_is_stated(source: Source, validation: Validation) -> None:
    finding = replace(validation.findings[0], facts=())
    assert (
        expectation(
            source, validation, finding, source.aggregate(finding.chart_query(validation.period, validation.now))
        )
        is None
    )
    assert all("low" not in row for row in drawn(source, validation, finding).values())
