"""Questions in words."""

from __future__ import annotations

from uuid import UUID

import pytest

from usage_explore import AggregateQuery, EventQuery, describe

SENTENCES = {
    "": "Events per day, last 30 days, UTC",
    "metric=sum_quantity&group_by=dim:model&since=2026-09-01T00:00:00%2B02:00&until=2026-10-01T00:00:00%2B02:00"
    "&timezone=Europe/Berlin": "Quantity per day by model, 1–30 Sep 2026, Europe/Berlin",
    "bucket=hour&since=-23h/h": "Events per hour, last 24 hours, UTC",
    "since=-29d/d": "Events per day, last 30 days, UTC",
    "bucket=week&since=-29d/w": "Events per week, last 30 days in whole weeks, UTC",
    "bucket=month&window=2026-09": "Events per month, September 2026, UTC",
    "window=this_quarter": "Events per day, this quarter, UTC",
    "id=00000000-0000-0000-0000-000000000007&idempotency_key=a,b&quantity_min=0.50&quantity_max=1000": (
        "Events per day, last 30 days, UTC, id is 00000000-0000-0000-0000-000000000007, "
        "idempotency key is a,b, quantity at least 0.5, quantity at most 1,000"
    ),
    "ingested_after=2026-09-30T22:00:00Z&ingested_before=2026-10-01T22:00:00Z&timezone=Europe/Berlin": (
        "Events per day, last 30 days, Europe/Berlin, arrived from 1 Oct 2026 00:00, arrived before 2 Oct 2026 00:00"
    ),
    "metric=unit_cost&external_cost_currency=USD": "Unit cost in USD per day, last 30 days, UTC",
    "metric=sum_cost&group_by=external_cost_currency": "Cost per day by cost currency, last 30 days, UTC",
    "external_cost_currency=USD": "Events per day, last 30 days, UTC, cost currency is USD",
    "bucket=week&since=-1w": "Events per week, last week, UTC",
    "window=last_month&group_by=customer_id": "Events per day by customer, last month, UTC",
    "since=2026-12-31T00:00:00Z&until=2027-01-02T00:00:00Z": "Events per day, 31 Dec 2026 – 1 Jan 2027, UTC",
    "since=2026-08-31T00:00:00Z&until=2026-09-02T00:00:00Z": "Events per day, 31 Aug – 1 Sep 2026, UTC",
    "since=2026-09-01T00:00:00Z&until=2026-09-02T00:00:00Z": "Events per day, 1 Sep 2026, UTC",
    "since=2026-09-01T08:30:00Z": "Events per day, 1 Sep 2026 08:30 to now, UTC",
    "since=-7d&metric_key=a,b&dim:model=&not:missing=dim:region&missing=price_key&not:metric_key=x": (
        "Events per day, last 7 days, UTC, metric is a or b, model is (empty), price is missing, "
        "metric is not x, region is not missing"
    ),
    "metric_key=a,b,c,d": "Events per day, last 30 days, UTC, metric is any of 4 values",
    f"dim:model={'x' * 3000}": f"Events per day, last 30 days, UTC, model is {'x' * 59}…",
    "since=2026-10-25T00:30:00Z&until=2026-10-25T01:30:00.25Z&timezone=Europe/Berlin": (
        "Events per day, 25 Oct 2026 02:30 +0200 to 25 Oct 2026 02:30:00.25 +0100, Europe/Berlin"
    ),
    "as_of=2026-09-01T08:30:05Z": "Events per day, last 30 days, UTC, as known at 1 Sep 2026 08:30:05",
    "as_of=2026-09-01T22:30:05Z&timezone=Europe/Berlin": (
        "Events per day, last 30 days, Europe/Berlin, as known at 2 Sep 2026 00:30:05"
    ),
}


@pytest.mark.parametrize(("params", "sentence"), SENTENCES.items())
def test_an_aggregate_reads_as_a_sentence(params: str, sentence: str) -> None:
    assert describe(AggregateQuery.from_params(params)) == sentence


def test_a_list_reads_as_a_sentence() -> None:
    query = EventQuery.from_params("occurred_after=2026-09-01T00:00:00Z&occurred_before=2026-09-02T12:00:00Z")
    assert describe(query) == "Events, newest first, 1 Sep 2026 00:00 to 2 Sep 2026 12:00 UTC"
    assert describe(EventQuery(customer_id=UUID(int=7))).endswith("customer is 00000000-0000-0000-0000-000000000007")
