"""Control totals name every event that is missing or too much by day and metric, and nothing else, as Python does."""

from __future__ import annotations

import random
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from support.check_results import examine, shown
from support.database_servers import fresh_database
from support.demo_database import ACME, DAYS, PER_DAY, UNTIL
from support.plain_events import JUNE, LARGE, SMALL, event, september
from support.query_oracle import Row, utc
from support.thoroughness import seeds
from usage_explore import Store, connect, demo
from usage_explore.db import ddl
from usage_explore.db.schema import events_table
from usage_explore.demo import files as demo_files
from usage_explore.errors import QueryError
from usage_explore.query.queries import Period
from usage_explore.validation import Finding, Result, read_control, report

NAME = "control_totals"
Make = Callable[[list[Row]], Store]


def usage(days: int = 30, per_day: int = 20, **fields: object) -> list[Row]:
    """Events of the first days of September, evenly over each."""
    return [
        event(utc(2026, 9, 1) + timedelta(days=day, minutes=60 * number), **fields)
        for day in range(days)
        for number in range(per_day)
    ]


def counted(events: Iterable[Row], zone: str = "UTC", *, by_customer: bool = False) -> pd.DataFrame:
    """What a gateway that saw these events would have counted, by day of the zone."""
    events_of: Counter[tuple[Any, ...]] = Counter()
    quantities: dict[tuple[Any, ...], Decimal] = defaultdict(Decimal)
    for row in events:
        day = row.timestamp.astimezone(ZoneInfo(zone)).date().isoformat()
        key = (day, row.metric_key, *((str(row.customer_id),) if by_customer else ()))
        events_of[key] += 1
        quantities[key] += row.quantity
    names = ["day", "metric", *(["customer"] if by_customer else [])]
    return pd.DataFrame(
        [(*key, number, str(quantities[key])) for key, number in sorted(events_of.items())],
        columns=[*names, "events", "quantity"],
    )


def findings(result: Result) -> tuple[Finding, ...]:
    assert result.outcome is not None, result.skipped or result.failed
    return result.outcome.findings


def days(finding: Finding) -> tuple[date, date]:
    """The first and the last day, both included."""
    return finding.since.date(), (finding.until - timedelta(days=1)).date()


def test_totals_that_match_are_counted_and_said(make: Make) -> None:
    events = usage()
    store, totals = make(events), counted(events)
    result = examine(store, NAME, september(), control=totals)
    assert result.is_clean
    assert result.outcome is not None
    assert result.outcome.looked_at == 30
    assert (result.outcome.note[:31], result.outcome.unchecked) == ("30 of 30 control totals match, ", "")
    left = examine(store, NAME, september(), control=totals.rename(columns={"events": "Aufrufe"})).outcome
    assert left is not None
    assert left.unchecked == "column 'Aufrufe' not compared"


def test_a_loss_on_some_days_is_one_finding_with_its_events(make: Make) -> None:
    """3 % of one metric, drawn by chance each day, on five days: to the event and day, once."""
    draw = random.Random(7)
    events = [*usage(per_day=200, metric_key="lossy"), *usage(per_day=50, metric_key="whole")]
    lost = {
        row.id
        for day in range(10, 15)
        for row in draw.sample([row for row in events if row.metric_key == "lossy" and row.timestamp.day == day], 6)
    }
    kept = [row for row in events if row.id not in lost]
    gone = [row for row in events if row.id in lost]
    (finding,) = findings(examine(make(kept), NAME, september(), control=counted(events)))
    assert (finding.events, finding.quantity) == (30, sum(row.quantity for row in gone))
    assert days(finding) == (date(2026, 9, 10), date(2026, 9, 14))
    assert (finding.metric_key, finding.severity) == ("lossy", "high")
    assert finding.sentence.startswith(
        "3.0 % of lossy is missing, 10–14 Sep 2026, 5 days: 30 events missing, quantity "
    )
    assert dict(finding.facts)["2026-09-12"] == "194 of 200 events: 6 missing (3.0 %)"


def test_a_loss_in_the_demo_is_named_to_the_event_and_day(server_url: str, _template: str) -> None:  # noqa: PT019
    with fresh_database(server_url, template=_template) as url:
        period = Period(since="2026-09-01T00:00:00Z", until="2026-09-29T00:00:00Z")
        with ddl.connect(url) as connection, connect(url, organization_id=ACME) as store:
            demo.append(connection, events_table(), until=UNTIL, days=DAYS, per_day=PER_DAY)
            totals = demo_files.control_totals(store, period, loss=False)
            clean = examine(store, NAME, period, control=totals)
            deleted = connection.execute(
                "DELETE FROM usage_events WHERE id IN (SELECT id FROM (SELECT id, row_number() OVER"
                " (PARTITION BY timestamp::date ORDER BY md5(id::text)) AS number FROM usage_events WHERE"
                " organization_id = %s AND metric_key = 'tokens_in' AND timestamp >= '2026-09-10Z' AND timestamp <"
                " '2026-09-15Z') AS numbered WHERE number %% 33 = 1) RETURNING quantity",
                [ACME],
            ).fetchall()
            connection.commit()
            (finding,) = findings(examine(store, NAME, period, control=totals))
    assert findings(clean) == ()
    assert (finding.events, finding.quantity) == (len(deleted), sum(quantity for (quantity,) in deleted))
    assert days(finding) == (date(2026, 9, 10), date(2026, 9, 14))
    assert finding.metric_key == "tokens_in"


def test_the_demos_control_totals_have_a_loss_that_is_found(planted_demo: tuple[Store, Period, object]) -> None:
    store, _, _ = planted_demo
    period = Period(since="2026-09-01T00:00:00Z", until="2026-09-29T00:00:00Z", timezone="Europe/Berlin")
    (finding,) = findings(examine(store, NAME, period, control=demo_files.control_totals(store, period)))
    assert finding.sentence.startswith("3.0 % of tokens_in is missing, 10–14 Sep 2026, 5 days: ")
    assert finding.severity == "high"


def test_more_events_than_counted_are_too_many(make: Make) -> None:
    events = usage()
    extra = usage(days=2, per_day=3)
    (finding,) = findings(examine(make([*events, *extra]), NAME, september(), control=counted(events)))
    assert (finding.events, days(finding)) == (6, (date(2026, 9, 1), date(2026, 9, 2)))
    assert "too many" in finding.sentence
    assert shown_days(finding) == 2


def shown_days(finding: Finding) -> int:
    """The days of the finding's chart."""
    return (finding.question.until - finding.question.since).days  # type: ignore[union-attr, operator]


def test_copies_explain_what_is_too_much(make: Make) -> None:
    events = usage(per_day=30)
    copies = [event(row.timestamp, idempotency_key=row.idempotency_key, quantity=row.quantity) for row in events[60:72]]
    (finding,) = findings(examine(make([*events, *copies]), NAME, september(), control=counted(events)))
    assert (finding.events, finding.severity) == (12, "medium")
    assert dict(finding.facts)["explained by"] == "duplicates"


def test_later_arrivals_explain_what_is_missing(make: Make) -> None:
    late = [event(utc(2026, 9, 5, 10), ingested_at=utc(2026, 10, 9)) for _ in range(5)]
    events = [*usage(), *late]
    (finding,) = findings(examine(make(events), NAME, september(as_of="2026-10-05T00:00:00Z"), control=counted(events)))
    assert (finding.events, finding.severity) == (5, "medium")
    assert dict(finding.facts)["explained by"] == "late events"


BESIDE = {
    "after finalization": "without what arrived after the period was finalized",
    "late events": "with what arrived later than this validation examines",
    "duplicates": "without what repeats an idempotency key",
}


@pytest.mark.parametrize("cause", BESIDE)
@pytest.mark.parametrize(
    ("events", "quantity", "cost", "words"),
    [
        (0, 0, "0", ""),
        (0, 3000, "0", "of the quantity of tokens is missing, 9 Sep 2026: 3,000 missing. "),
        (0, -1, "0", "of the quantity of tokens is too much, 9 Sep 2026: 1 too much. "),
        (2, 14, "0", "of tokens is missing, 9 Sep 2026: 2 events missing, quantity 14. "),
        (-1, 5, "0", "of tokens is too much, 9 Sep 2026: 1 event too many, but quantity 5 missing. "),
        (0, 0, "30", "of the external cost in USD of tokens is missing, 9 Sep 2026: 30.00 USD missing. "),
    ],
)
def test_a_further_error_beside_events_that_explain_a_day_is_a_finding_of_its_own(
    make: Make, cause: str, events: int, quantity: int, cost: str, words: str
) -> None:
    """A wrong quantity went without a word beside a right number of events; a wrong number took all days along."""
    fields = {"quantity": Decimal(7), "external_cost_amount": Decimal("1.25"), "external_cost_currency": "USD"}
    rows = usage(**fields)
    then, further = (
        utc(2026, 10, 5),
        [row for row in rows if row.timestamp.day in (8, 9, 10) and row.timestamp.hour == 5],
    )
    copied = [row.idempotency_key if cause == "duplicates" else None for row in further]
    given: dict[str, object] = {} if cause == "duplicates" else {"ingested_at": utc(2026, 10, 9)}
    further = [
        event(row.timestamp, **fields, **given, **({"idempotency_key": key} if key else {}))
        for row, key in zip(further, copied, strict=True)
    ]
    seen = counted([*rows, *further] if cause == "late events" else rows)
    paid = [Decimal("1.25") * int(number) for number in seen["events"]]
    seen.loc[8, "events"] += events
    seen.loc[8, "quantity"] = str(Decimal(seen.loc[8, "quantity"]) + quantity)
    paid[8] += Decimal(cost)
    seen = seen.assign(cost=[str(amount) for amount in paid], currency="USD")
    period = {"after finalization": {"finalized_at": then}, "late events": {"as_of": then}, "duplicates": {}}[cause]
    found = findings(examine(make([*rows, *further]), NAME, september(**period), control=seen))
    explained = [finding for finding in found if dict(finding.facts).get("explained by") == cause]
    others = [finding for finding in found if finding not in explained]
    assert {finding.severity for finding in explained} == {"medium"}
    assert sum(finding.events for finding in explained) == 3 - bool(events or quantity)
    assert sum(amount for finding in explained for _, amount in finding.amounts) == Decimal("1.25") * (
        3 - bool(int(cost))
    )
    if not words:
        assert others == []
        return
    (finding,) = others
    assert words in finding.sentence
    assert finding.sentence.endswith(f", {BESIDE[cause]}.")
    assert finding.severity == ("medium" if quantity == -1 else "high")


def test_totals_that_have_the_later_events_are_compared_with_them(make: Make) -> None:
    """Of a file that was counted later, the difference of a day is that of all its events."""
    late = [event(utc(2026, 9, day, 10), quantity=Decimal(9), ingested_at=utc(2026, 10, 9)) for day in (5, 6)]
    rows = [*usage(quantity=Decimal(7)), *late]
    seen = counted(rows)
    seen.loc[4, "quantity"] = "150"
    (finding,) = findings(examine(make(rows), NAME, september(finalized_at=utc(2026, 10, 5)), control=seen))
    assert finding.sentence.endswith("The control totals are 150, the ingested events come to 149.")


def test_usage_without_a_total_that_came_later_says_so(make: Make) -> None:
    late = event(utc(2026, 9, 5, 10), customer_id=LARGE, ingested_at=utc(2026, 10, 9))
    rows = [*usage(customer_id=SMALL), event(utc(2026, 9, 3, 10), customer_id=LARGE)]
    seen = counted(rows, by_customer=True)
    (finding,) = findings(examine(make([*rows, late]), NAME, september(finalized_at=utc(2026, 10, 5)), control=seen))
    assert finding.kind == "no control total"
    assert finding.sentence.endswith("1 event was ingested; as many arrived after the period was finalized.")


def test_days_of_unlike_shares_are_findings_of_their_own(make: Make) -> None:
    events = usage(per_day=100)
    kept = [row for row in events if not (row.timestamp.day == 10 and row.timestamp.hour >= 12)]
    kept = [row for row in kept if not (row.timestamp.day == 11 and row.timestamp.hour == 5)]
    found = findings(examine(make(kept), NAME, september(), control=counted(events)))
    assert [days(finding)[0].day for finding in found] == [10, 11]


@pytest.mark.parametrize(
    ("events", "quantity", "words"),
    [
        (1, 10, "2 events missing, quantity 20. "),
        (1, -10, "2 events missing, but quantity 20 too much. "),
        (-1, 10, "2 events too many, but quantity 20 missing. "),
        (-1, -10, "2 events too many, quantity 20. "),
    ],
)
def test_a_quantity_that_differs_the_other_way_is_said_so(make: Make, events: int, quantity: int, words: str) -> None:
    rows = usage(quantity=Decimal(10))
    seen = counted(rows)
    for day in (3, 4):
        seen.loc[day, "events"] += events
        seen.loc[day, "quantity"] = str(Decimal(seen.loc[day, "quantity"]) + quantity)
    (finding,) = findings(examine(make(rows), NAME, september(), control=seen))
    assert words in finding.sentence


@pytest.mark.parametrize(
    ("fourth", "fifth", "words", "severity"),
    [
        (1, 1, "2 events missing, quantity 2. ", "medium"),
        (90, 1, "2 events missing, quantity 91. ", "high"),
        (90, -90, "2 events missing, quantity 90 missing and 90 too much. ", "high"),
    ],
)
def test_a_larger_share_of_the_quantity_than_of_the_events_counts(
    make: Make, fourth: int, fifth: int, words: str, severity: str
) -> None:
    """It was medium, and opposite quantities of two days were none."""
    rows = usage(per_day=24) * 10
    rows = [replace(row, id=uuid.uuid4(), idempotency_key=str(uuid.uuid4()), quantity=Decimal(1)) for row in rows]
    seen = counted(rows)
    for day, quantity in ((3, fourth), (4, fifth)):
        seen.loc[day, "events"] += 1
        seen.loc[day, "quantity"] = str(Decimal(seen.loc[day, "quantity"]) + quantity)
    (finding,) = findings(examine(make(rows), NAME, september(), control=seen))
    assert (words in finding.sentence, finding.severity) == (True, severity)


def test_an_equal_number_with_another_quantity_is_a_finding_on_the_quantity(make: Make) -> None:
    events = usage(quantity=Decimal(10))
    seen = counted(events)
    seen.loc[3, "quantity"] = "250"
    (finding,) = findings(examine(make(events), NAME, september(), control=seen))
    assert (finding.quantity, finding.events) == (Decimal(50), 20)
    assert finding.sentence.startswith("20.0 % of the quantity of tokens is missing, 4 Sep 2026: 50 missing. ")
    assert dict(finding.facts)["2026-09-04"] == "200 of 250 quantity: 50 missing (20.0 %)"


def test_many_customers_that_lose_the_same_are_one_finding_and_few_are_named(make: Make) -> None:
    customers = [uuid.UUID(int=0xD00 + number) for number in range(6)]
    events = [row for customer in customers for row in usage(customer_id=customer)]
    seen = counted(events, by_customer=True)
    all_lose = [row for row in events if not (row.timestamp.day == 7 and row.timestamp.hour == 3)]
    (finding,) = findings(examine(make(all_lose), NAME, september(), control=seen))
    assert (finding.customer_id, finding.events) == (None, 6)
    assert "of 6 customers" in finding.sentence


def test_a_customers_loss_names_the_customer(make: Make) -> None:
    events = [row for customer in (SMALL, LARGE) for row in usage(customer_id=customer)]
    kept = [
        row for row in events if not (row.customer_id == SMALL and row.timestamp.day == 7 and row.timestamp.hour < 4)
    ]
    (finding,) = findings(examine(make(kept), NAME, september(), control=counted(events, by_customer=True)))
    assert (finding.customer_id, finding.events) == (SMALL, 4)


def test_totals_of_all_customers_and_by_customer_are_one_finding(make: Make) -> None:
    events = [row for customer in (SMALL, LARGE) for row in usage(customer_id=customer)]
    kept = [
        row for row in events if not (row.customer_id == SMALL and row.timestamp.day == 7 and row.timestamp.hour < 4)
    ]
    both = pd.concat([counted(events), counted(events, by_customer=True)])
    (finding,) = findings(examine(make(kept), NAME, september(), control=both))
    assert (finding.customer_id, finding.events) == (None, 4)


def test_metrics_that_lose_the_same_share_are_one_finding(make: Make) -> None:
    events = [row for metric in ("a", "b", "c") for row in usage(metric_key=metric)]
    kept = [row for row in events if not (row.timestamp.day in (7, 8) and row.timestamp.hour == 3)]
    (finding,) = findings(examine(make(kept), NAME, september(), control=counted(events)))
    assert (finding.metric_key, finding.events) == (None, 6)
    assert finding.sentence.startswith("5.0 % of a, b and c is missing, 7–8 Sep 2026, 2 days: 6 events missing")


def test_a_metric_or_a_day_on_one_side_is_said(make: Make) -> None:
    events = [*usage(metric_key="both"), *usage(metric_key="uncounted")]
    seen = counted(events)
    seen = seen[(seen.metric == "both") & (seen.day != "2026-09-20")]
    never = pd.DataFrame([("2026-09-03", "never", 7, "9")], columns=seen.columns)
    result = examine(make(events), NAME, september(), control=pd.concat([seen, never]))
    (finding,) = findings(result)
    assert (finding.metric_key, finding.events, finding.quantity) == ("never", 7, Decimal(9))
    assert finding.sentence.startswith("100 % of never is missing")
    assert result.outcome is not None
    assert "No control total has metric uncounted: 600 events not compared." in result.outcome.note
    assert "No control total is of 2026-09-20" in result.outcome.note
    assert result.is_partial


def test_usage_of_a_customer_that_has_other_totals_is_said(make: Make) -> None:
    """All three were said to have no control total, though the file has one of LARGE."""
    other = uuid.UUID(int=0xD00)
    events = [row for customer in (SMALL, LARGE, other) for row in usage(customer_id=customer)]
    events += usage(days=2, customer_id=LARGE, metric_key="more")
    seen = counted(events, by_customer=True)
    given = seen[(seen.customer == str(LARGE)) & (seen.metric != "more")]
    result = examine(make(events), NAME, september(), control=given)
    assert result.outcome is not None
    words = "No control total has 2 customers or other usage of 1 customer: 1,240 events not compared."
    assert words in result.outcome.note


def test_a_day_that_only_one_metric_lacks_is_a_finding(make: Make) -> None:
    events = [*usage(metric_key="a"), *usage(metric_key="b")]
    seen = counted(events)
    (finding,) = findings(
        examine(make(events), NAME, september(), control=seen[~((seen.metric == "a") & (seen.day == "2026-09-20"))])
    )
    assert (finding.severity, finding.metric_key, finding.events) == ("medium", "a", 20)
    assert finding.sentence.startswith("There is no control total for a, 20 Sep 2026, where 20 events were ingested")


def test_days_that_the_period_cuts_are_not_compared(make: Make) -> None:
    events = usage()
    period = Period(since="2026-09-02T06:00:00Z", until="2026-09-20T00:00:00Z")
    result = examine(make(events[:-1]), NAME, period, control=counted(events))
    assert findings(result) == ()
    assert result.outcome is not None
    assert result.outcome.looked_at == 17
    assert (
        "12 lines of days outside the period were not compared. 1 line of 2026-09-02 was not compared: days"
        in result.outcome.note
    )


def test_days_are_those_of_the_periods_zone(make: Make) -> None:
    """A zone with a change of the clock; totals by another zone's days are one finding, not sixty."""
    zone = "America/Santiago"
    draw = random.Random(3)
    events = [
        event(utc(2026, 8, 30) + timedelta(minutes=draw.randrange(34 * 1440)), quantity=Decimal(draw.randrange(99)))
        for _ in range(3_000)
    ]
    store = make(events)
    period = Period(since="2026-09-01T04:00:00Z", until="2026-10-01T03:00:00Z", timezone=zone)
    assert findings(examine(store, NAME, period, control=counted(events, zone))) == ()
    (finding,) = findings(examine(store, NAME, period, control=counted(events)))
    assert finding.sentence.startswith(f"The days of the control totals begin at another time than those of {zone}")


def test_a_files_spans_are_days_only_within_the_zones_day(make: Make) -> None:
    events = usage(days=3)
    lines = [
        ("2026-09-01T00:00:00Z", "2026-09-01T12:00:00Z", 12),
        ("2026-09-01T12:00:00Z", "2026-09-02T00:00:00Z", 8),
        ("2026-09-02T00:00:00Z", "2026-09-03T00:00:00Z", 20),
        ("2026-09-02T23:00:00Z", "2026-09-03T01:00:00Z", 1),
        ("2026-09-03T00:00:00Z", None, 20),
        ("2026-09-03T06:00:00Z", None, 20),
    ]
    frame = pd.DataFrame(lines, columns=["ChargePeriodStart", "ChargePeriodEnd", "events"]).assign(SkuMeter="tokens")
    result = examine(make(events), NAME, september(), control=frame)
    assert findings(result) == ()
    assert result.outcome is not None
    assert result.outcome.looked_at == 3
    assert "2 lines were not compared: the time is not within one day of UTC" in result.outcome.note


def test_costs_are_compared_by_currency_within_the_lines_rounding(make: Make) -> None:
    cost = Decimal("0.1234567")
    events = [
        *usage(external_cost_amount=cost, external_cost_currency="USD"),
        *usage(external_cost_amount=cost, external_cost_currency="eur", customer_id=LARGE),
    ]
    billed = pd.DataFrame(
        [
            (f"2026-09-{day:02}", "4.94" if currency == "EUR" and day in (4, 5) else "2.47", currency)
            for day in range(1, 31)
            for currency in ("USD", "EUR")
        ],
        columns=["date", "BilledCost", "BillingCurrency"],
    )
    store = make(events)
    (finding,) = findings(examine(store, NAME, september(), control=billed))
    assert finding.amounts == (("EUR", Decimal("9.88") - 40 * cost),)
    assert days(finding) == (date(2026, 9, 4), date(2026, 9, 5))
    assert finding.sentence.startswith("50.0 % of the external cost in EUR is missing, 4–5 Sep 2026, 2 days: 4.94")
    assert store.aggregate(finding.question).total == 40 * cost  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("costs", "is_right"),
    [
        (("72",), True),
        (("71.7",), True),
        (("71",), True),
        (("71.67",), True),
        (("71.60",), False),  # written to the cent
        (("72.00",), False),
        (("71.8",), False),
        (("73",), False),
        (("0",), False),
        (("40", "33"), True),  # of two lines two units
        (("40", "33.0"), False),
        (("40", "34"), False),
    ],
)
def test_a_cost_is_compared_to_within_one_unit_of_its_last_decimal(
    make: Make, costs: tuple[str, ...], is_right: bool
) -> None:
    """A bill in whole dollars was high, "0.3316 USD missing"."""
    (row,) = usage(days=1, per_day=1, external_cost_amount=Decimal("71.6684"), external_cost_currency="USD")
    control = pd.DataFrame([("2026-09-01", cost, "USD") for cost in costs], columns=["day", "cost", "currency"])
    result = examine(make([row]), NAME, september(), control=control)
    assert (findings(result) == ()) is is_right


def test_a_whole_cost_of_zero_is_rounded_beside_others_in_whole_units(make: Make) -> None:
    """0 for 0.183 was "100 % too much", as it is beside costs in cents."""
    costs = {"2026-09-01": "0.183", "2026-09-02": "71.668"}
    events = [
        replace(row, timestamp=row.timestamp + timedelta(days=day), external_cost_amount=Decimal(cost))
        for day, cost in enumerate(costs.values())
        for row in usage(days=1, per_day=1, external_cost_currency="USD")
    ]
    store = make(events)
    for second, is_right in (("72", True), ("71.67", False)):
        control = pd.DataFrame({"day": [*costs], "cost": ["0", second], "currency": "USD"})
        assert (findings(examine(store, NAME, september(), control=control)) == ()) is is_right, second


def test_whole_costs_of_usage_that_has_no_decimals_are_exact(make: Make) -> None:
    """72 is not 71: what the usage has no decimals of was not rounded."""
    (row,) = usage(days=1, per_day=1, external_cost_amount=Decimal("71.00"), external_cost_currency="USD")
    control = pd.DataFrame([("2026-09-01", "72", "USD")], columns=["day", "cost", "currency"])
    assert findings(examine(make([row]), NAME, september(), control=control)) != ()


@pytest.mark.parametrize("more", ["0", "0.03"])
def test_costs_that_are_there_in_another_currency_are_said_to_be(make: Make, more: str) -> None:
    """It was high: "100 % of the external cost in EUR is missing", all of which is there in USD."""
    events = usage(external_cost_amount=Decimal("0.1234567"), external_cost_currency="USD")
    cost = str(Decimal("2.47") + Decimal(more))
    control = pd.DataFrame([(f"2026-09-{day:02}", cost, "EUR") for day in range(1, 31)])
    control = control.set_axis(["date", "BilledCost", "BillingCurrency"], axis=1)
    (finding,) = findings(examine(make(events), NAME, september(), control=control))
    is_there = "; exactly as much is there in USD: the currency of one of both is wrong." in finding.sentence
    assert (is_there, finding.severity) == ((True, "medium") if more == "0" else (False, "high"))


def costs(currency: str, **fields: object) -> list[Row]:
    """One cost on each day of September, another one each."""
    days = range(30)
    return [
        replace(row, external_cost_amount=Decimal(day * 37 % 101) + 7, external_cost_currency=currency)
        for day in days
        for row in usage(days=1, per_day=1, **fields)
        for row in [replace(row, timestamp=row.timestamp + timedelta(days=day))]
    ]


def billed(events: Iterable[Row], *, by_metric: bool = True) -> dict[tuple[str, ...], Decimal]:
    """The costs by day, currency and metric."""
    sums: dict[tuple[str, ...], Decimal] = defaultdict(Decimal)
    for row in events:
        metric = (row.metric_key,) if by_metric else ()
        sums[(row.timestamp.date().isoformat(), row.external_cost_currency, *metric)] += row.external_cost_amount
    return sums


def bill(sums: dict[tuple[str, ...], Decimal]) -> pd.DataFrame:
    names = ["day", "currency", "metric"][: len(next(iter(sums)))]
    lines = [(*key, f"{cost:.2f}") for key, cost in sums.items()]
    return pd.DataFrame(lines, columns=[*names, "cost"])


@pytest.mark.parametrize("given", ["USD", "EUR"])
def test_costs_of_one_account_in_another_currency_are_one_finding(make: Make, given: str) -> None:
    """Each of its days was a high, "18.90 USD missing", without a word on the same amount in euros."""
    dollars = [*costs("USD", metric_key="cpu"), *costs("USD", metric_key="disk")]
    euros = [*costs("EUR", metric_key="cpu", customer_id=LARGE), *costs("EUR", metric_key="disk", customer_id=LARGE)]
    euros = [replace(row, external_cost_amount=row.external_cost_amount * 2 + 1) for row in euros]
    euros[3] = replace(euros[3], external_cost_amount=Decimal("0.50"))  # so little may be there by chance
    others = [replace(row, external_cost_currency="USD") for row in euros]
    taken, seen = (euros, others) if given == "USD" else (others, euros)
    (finding,) = findings(examine(make(dollars + taken), NAME, september(), control=bill(billed(dollars + seen))))
    assert finding.severity == "medium"
    assert finding.amounts == ((given, sum(row.external_cost_amount for row in euros)),)
    there = "EUR" if given == "USD" else "USD"
    assert f"; exactly as much is there in {there}: the currency of one of both is wrong." in finding.sentence
    assert "of cpu and disk is missing, 1–30 Sep 2026, 30 days" in finding.sentence


@pytest.mark.parametrize("days", [[4], [4, 5, 20], range(1, 31)])
def test_costs_of_some_days_in_another_currency_are_one_finding(make: Make, days: Iterable[int]) -> None:
    events = costs("USD")
    wrong = {f"2026-09-{day:02}" for day in days}
    sums = {
        (day, "EUR" if day in wrong else code, metric): cost for (day, code, metric), cost in billed(events).items()
    }
    (finding,) = findings(examine(make(events), NAME, september(), control=bill(sums)))
    assert finding.severity == "medium"
    assert finding.amounts == (("EUR", sum(cost for (_, code, _), cost in sums.items() if code == "EUR")),)
    assert "; exactly as much is there in USD" in finding.sentence


def test_credits_in_another_currency_are_there(make: Make) -> None:
    events = [replace(row, external_cost_amount=-row.external_cost_amount) for row in costs("EUR")]
    given = bill({(day, "USD", metric): cost for (day, _, metric), cost in billed(events).items()})
    (finding,) = findings(examine(make(events), NAME, september(), control=given))
    assert finding.severity == "medium"
    assert "USD too much" in finding.sentence
    assert "; exactly as much is there in EUR" in finding.sentence


@pytest.mark.parametrize("more", [5, -5])
def test_a_further_error_in_costs_of_another_currency_is_a_finding_of_its_own(make: Make, more: int) -> None:
    """It hid that all other days are there: "100 % is missing"."""
    sums = {
        (day, "EUR", metric): cost + (more if day == "2026-09-07" else 0)
        for (day, _, metric), cost in billed(costs("USD")).items()
    }
    found = findings(examine(make(costs("USD")), NAME, september(), control=bill(sums)))
    by_severity = {finding.severity: finding for finding in found}
    assert len(found) == len(by_severity) == 2
    assert by_severity["high"].amounts == (("EUR", Decimal(5)),)
    assert f"5.00 EUR {'missing' if more > 0 else 'too much'}" in by_severity["high"].sentence
    assert by_severity["high"].sentence.endswith(" EUR, with what is there in USD.")
    assert "29 days" in by_severity["medium"].sentence
    assert "; exactly as much is there in USD" in by_severity["medium"].sentence


@pytest.mark.parametrize(("lacking", "beyond"), [("3.00", "3.05"), ("0.04", "0.04")])
def test_other_errors_in_two_currencies_are_not_one(make: Make, lacking: str, beyond: str) -> None:
    events = [*costs("USD"), *costs("EUR", customer_id=LARGE)]
    sums = billed(events)
    sums["2026-09-07", "USD", "tokens"] += Decimal(lacking)
    sums["2026-09-07", "EUR", "tokens"] -= Decimal(beyond)
    found = findings(examine(make(events), NAME, september(), control=bill(sums)))
    assert sorted(finding.amounts for finding in found) == [
        (("EUR", Decimal(beyond)),),
        (("USD", Decimal(lacking)),),
    ]
    assert not any("exactly as much" in finding.sentence for finding in found)


def test_filters_keep_the_lines_that_they_can_tell_apart(make: Make) -> None:
    events = [*usage(metric_key="a"), *usage(metric_key="b")]
    seen = counted(events)
    store = make([row for row in events if not (row.metric_key == "b" and row.timestamp.day == 9)])
    assert findings(examine(store, NAME, september(metric_key="a"), control=seen)) == ()
    (finding,) = findings(examine(store, NAME, september(metric_key="b"), control=seen))
    assert finding.sentence.startswith("100 % of b is missing, 9 Sep 2026")
    (nothing,) = findings(examine(store, NAME, september(customer_id=JUNE), control=seen))
    assert nothing.sentence.startswith("No control total was compared")
    assert nothing.severity == "high"


def test_totals_of_a_day_that_is_not_over_say_so_and_are_no_finding(make: Make) -> None:
    """They were a high finding that no control total was compared."""
    store, morning = make(usage()), utc(2026, 9, 9, 6)
    today = counted(usage()).query("day == '2026-09-09'")
    for until in (utc(2026, 10, 1), morning):
        result = examine(store, NAME, september(as_of=morning).replace(until=until), control=today)
        assert result.skipped.startswith("2026-09-09 is not complete")
    cut = examine(store, NAME, september(as_of=utc(2026, 10, 5)).replace(until=morning), control=today)
    assert findings(cut)[0].severity == "high", "the day is over, and the period is not"


def test_totals_of_another_month_are_no_clean_result(make: Make) -> None:
    seen = counted(usage()).assign(day="2026-07-01").drop_duplicates(["day", "metric"])
    (finding,) = findings(examine(make(usage()), NAME, september(), control=seen))
    assert "1 line of days outside the period was not compared" in finding.sentence


@pytest.mark.parametrize(
    ("ingested", "severity"), [(9_900, "high"), (9_901, "medium"), (9_990, "medium"), (9_991, "low"), (10_000, None)]
)
def test_the_severity_follows_the_share_of_the_control_totals(make: Make, ingested: int, severity: str | None) -> None:
    store = make([event(utc(2026, 9, 1), quantity=Decimal(ingested))])
    seen = pd.DataFrame([("2026-09-01", "tokens", "10000")], columns=["day", "metric", "quantity"])
    found = findings(examine(store, NAME, september(), control=seen))
    assert [finding.severity for finding in found] == ([] if severity is None else [severity])


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_files_and_frames_are_read_alike(tmp_path: Path, suffix: str) -> None:
    frame = pd.DataFrame(
        {"Day": ["2026-09-01"], "Metric": ["m"], "customer id": [str(JUNE)], "events": ["3"], "quantity": ["1.50"]}
    )
    path = tmp_path / f"totals.{suffix}"
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
    (line,) = read_control(path).lines
    assert line == read_control(frame).lines[0]._replace(line=line.line)
    assert (line.day, line.metric_key, line.customer_id, line.events) == (date(2026, 9, 1), "m", JUNE, 3)
    assert line.quantity == Decimal("1.50")


def test_every_faulty_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "totals.csv"
    path.write_text(
        "day,until,metric,customer,events,quantity,cost,currency\n"
        ",,m,,1,,,\n"
        "2026-09-01,,,,1,2,,\n"
        "2026-09-01,,m,,,,,\n"
        "2026-09-01,,m,,-1,,,\n"
        "2026-09-01,,m,,1.5,,,\n"
        "2026-09-01,,m,,,,5,\n"
        "2026-09-02,2026-09-01,m,,1,,,\n"
        "2026-09-01,2026-09-02T00:00:00Z,m,,1,,,\n"
        "2026-09-31,,m,3f2b8c1e-0000-4000-8000-00000000000,1,,,\n"
    )
    with pytest.raises(QueryError) as caught:
        read_control(path)
    assert {fault.parameter for fault in caught.value.faults} == {"control"}
    expected = [
        "line 2: day: is blank",
        "line 3: metric_key: is blank, while events and quantity of a metric are given",
        "line 4: events, quantity and cost: all are blank",
        "line 5: events: '-1' is not a number of events",
        "line 6: events: '1.5' is not a number of events",
        "line 7: currency: is blank",
        "line 8: until: is not after day",
        "line 9: until: is not of the kind of day",
        "line 10: day: '2026-09-31' is not a date that exists",
        "line 10: customer_id: '3f2b8c1e-0000-4000-8000-00000000000' is not a UUID",
    ]
    messages = [fault.message for fault in caught.value.faults]
    assert [message for message, begin in zip(messages, expected, strict=True) if not message.startswith(begin)] == []


@pytest.mark.parametrize("events", ["1e400", "9" * 900, "10000000000001"])
def test_a_number_of_events_that_no_day_has_is_refused_with_its_line(events: str) -> None:
    with pytest.raises(QueryError, match=r"row 1: events: .* is more than 10,000,000,000,000 events; correct it"):
        read_control(pd.DataFrame([["2026-09-01", "m", events]], columns=["day", "metric", "events"]))


@pytest.mark.parametrize(
    ("columns", "values"),
    [
        (["metric", "events"], ["m", "1e13"]),
        (["metric", "quantity"], ["m", "1e400"]),
        (["metric", "quantity"], ["m", "-1e-400"]),
        (["cost", "currency"], ["1e400", "USD"]),
    ],
)
def test_the_largest_and_smallest_numbers_are_compared_and_shown(
    make: Make, columns: list[str], values: list[str]
) -> None:
    """Two lines of each day are summed; the sheet, JSON and the report hold their sum."""
    cost = {"external_cost_amount": Decimal(1), "external_cost_currency": "USD"}
    store = make(usage(days=7, per_day=2, metric_key="m", **cost))
    lines = [[f"2026-09-0{day}", *values] for day in range(1, 8) for _ in range(2)]
    control = pd.DataFrame(lines, columns=["day", *columns])
    validation = store.validate(september(), checks=[NAME], control=control)
    (result,) = validation.results
    assert result.failed == ""
    assert findings(result)
    assert validation.to_dict()["findings"]
    assert report.html(store, validation, report.statements(store, validation))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["day", "metric"], "there is no column events nor quantity nor cost"),
        (["metric", "events"], "there is no column day; add day"),
        (["day", "metric", "evnts"], "column 'evnts' is unknown, did you mean events?"),
        (["day", "events", "MeterName"], "there is no column metric_key; name it so, instead of 'MeterName'"),
        (["day", "date", "events"], "column 'date' is day, as is 'day'"),
        (["Datum", "Metrik", "Anzahl"], "column 'Anzahl' may be events or quantity; name it so"),
        (["Datum", "Metrik", "Aantal", "cost", "currency"], "column 'Aantal' may be events or quantity; name it so"),
    ],
)
def test_columns_that_are_missing_or_misspelt_are_errors(columns: list[str], message: str) -> None:
    with pytest.raises(QueryError) as caught:
        read_control(pd.DataFrame([["x"] * len(columns)], columns=columns))
    assert any(fault.message.startswith(message) for fault in caught.value.faults)


@pytest.mark.parametrize(
    "count", ["Ereignisse", "Anzahl Ereignisse", "Nombre d'événements", "Number of events", "Anzahl"]
)
def test_numbers_of_events_and_days_are_read_as_gateways_in_other_languages_write_them(
    tmp_path: Path, count: str
) -> None:
    """The events were ignored beside a quantity, and each line with a day of German form was refused."""
    path = tmp_path / "totals.csv"
    path.write_text(f"Datum;Metrik;{count};Menge\n1.10.2026;m;12;1.5\n31.10.2026;m;3;2\n")
    control = read_control(path)
    assert [(line.day.day, line.events, line.quantity) for line in control.lines] == [
        (1, 12, Decimal("1.5")),
        (31, 3, Decimal(2)),
    ]
    assert (control.ignored, control.left_out) == ((), "")
    path.write_text(f"Datum;Metrik;{count};Menge\n31.9.2026;m;12;1.5\n")
    with pytest.raises(QueryError, match=r"line 2: day: '31\.9\.2026' is not a date that exists"):
        read_control(path)


@pytest.mark.parametrize(
    ("columns", "values", "left_out"),
    [
        ("quantity;Aufrufe;Kosten;Notiz", ["1.5;3;1,50;4a", "2;4;2;"], "columns 'Aufrufe' and 'Kosten' not compared"),
        ("events;Menge;Verbrauch", ["1;2,5;3", "1;;3"], "columns 'Menge' and 'Verbrauch' not compared"),
        ("quantity;Dauer", ["1;1.5", "1;2"], ""),
        ("quantity;Aufrufe", ["1;3", "1;x"], ""),
        ("quantity;Kundennr;Preis;MwSt;leer", ["1;3;15;19;", "1;3;2;7;"], ""),
        ("events;quantity;cost;currency;Aufrufe;Kosten", ["1;2;3;EUR;4;5"], ""),
    ],
)
def test_an_ignored_column_that_may_be_a_total_is_said(
    tmp_path: Path, columns: str, values: list[str], left_out: str
) -> None:
    path = tmp_path / "totals.csv"
    path.write_text("\n".join((f"day;metric;{columns}", *(f"2026-10-01;m;{line}" for line in values))))
    assert read_control(path).left_out == left_out


def test_a_column_beside_the_one_that_its_name_is_like_is_no_misspelling() -> None:
    """Each FOCUS bill was refused: its column ConsumedUnit was taken for ConsumedQuantity."""
    bill = {"ChargePeriodStart": "2026-09-01", "SkuMeter": "m", "ConsumedQuantity": "2", "ConsumedUnit": "Hours"}
    control = read_control(pd.DataFrame([bill]))
    assert (control.lines[0].quantity, control.ignored) == (Decimal(2), ("ConsumedUnit",))


def test_a_row_of_a_focus_bill_without_a_meter_is_of_the_metric_that_load_gives() -> None:
    """A tax was taken for the day's cost of all metrics, and usage that only its service names refused the file."""
    meter = {"SkuMeter": "m", "ServiceName": "Compute", "ChargeCategory": "Usage", "ConsumedQuantity": "2"}
    rows = [
        meter,
        meter | {"SkuMeter": None, "ServiceName": "Lambda", "ConsumedQuantity": None, "PricingQuantity": "3"},
        meter | {"SkuMeter": None, "ServiceName": " ", "ChargeCategory": "Tax", "ConsumedQuantity": None},
    ]
    same = {"ChargePeriodStart": "2026-09-01", "BilledCost": "1.5", "BillingCurrency": "USD"}
    control = read_control(pd.DataFrame([same | row for row in rows], dtype="str"))
    assert [(line.metric_key, line.quantity) for line in control.lines] == [
        ("m", Decimal(2)),
        ("Lambda", Decimal(3)),
        ("Tax", None),
    ]
    assert control.ignored == ()
    totals = [same | {"metric_key": None} for _ in range(2)]
    mine = pd.DataFrame(totals, dtype="str").rename(columns={"ChargePeriodStart": "day", "BilledCost": "cost"})
    assert {line.metric_key for line in read_control(mine).lines} == {None}, "of all metrics, in other files"


def test_floats_are_refused() -> None:
    with pytest.raises(QueryError, match="holds floats"):
        read_control(pd.DataFrame({"day": ["2026-09-01"], "metric": ["m"], "quantity": [1.5]}))


@pytest.mark.parametrize("seed", seeds(range(4)))
def test_the_sheet_is_what_plain_python_finds(make: Make, seed: int) -> None:
    """Random events, some never counted and some never ingested: every difference of the sheet, and no other."""
    draw = random.Random(seed)
    zone = ZoneInfo("Asia/Kathmandu")
    events = [
        event(
            utc(2026, 8, 30) + timedelta(minutes=draw.randrange(34 * 1440)),
            metric_key=draw.choice("abc"),
            customer_id=draw.choice([SMALL, LARGE]),
            quantity=Decimal(draw.randrange(-5, 2_000)) / 100,
        )
        for _ in range(600)
    ]
    stored = [row for row in events if draw.random() > 0.02]
    seen = [row for row in events if draw.random() > 0.02]
    period = Period(since="2026-08-31T18:15:00Z", until="2026-09-29T18:15:00Z", timezone="Asia/Kathmandu")
    control = counted(seen, "Asia/Kathmandu", by_customer=True)
    result = examine(make(stored), NAME, period, control=control)
    assert result.outcome is not None
    assert result.outcome.sheet is not None
    found = {
        (row.day, row.metric_key, row.customer_id): row
        for row in result.outcome.sheet.itertuples()
        if row.status != "matched"
    }
    first, last = date(2026, 9, 1), date(2026, 9, 29)

    def by_key(rows: list[Row]) -> dict[tuple[date, str, str], tuple[int, Decimal]]:
        sums: dict[tuple[date, str, str], tuple[int, Decimal]] = {}
        for row in rows:
            day = row.timestamp.astimezone(zone).date()
            if first <= day <= last:
                key = (day, row.metric_key, str(row.customer_id))
                number, quantity = sums.get(key, (0, Decimal(0)))
                sums[key] = number + 1, quantity + row.quantity
        return sums

    ours, theirs = by_key(stored), by_key(seen)
    assert set(found) == {key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key)}
    for key, row in found.items():
        number, quantity = ours.get(key, (0, Decimal(0)))
        assert (row.events, row.quantity or Decimal(0)) == (number, quantity)


def test_the_instant_types_of_a_frame_are_days() -> None:
    frame = pd.DataFrame({"day": [pd.Timestamp("2026-09-01"), date(2026, 9, 2)], "metric": "m", "events": [1, 2]})
    assert [line.day for line in read_control(frame).lines] == [date(2026, 9, 1), date(2026, 9, 2)]


def test_what_a_finding_shows_are_the_days_that_differ(make: Make) -> None:
    events = usage()
    kept = [row for row in events if row.timestamp.day != 12 or row.timestamp.hour > 9]
    store = make(kept)
    (finding,) = findings(examine(store, NAME, september(), control=counted(events)))
    assert finding.events == 10
    assert shown(store, finding) == 10


OCTOBER = Period(
    since="2026-09-30T22:00:00Z", until="2026-10-31T23:00:00Z", timezone="Europe/Berlin", as_of=utc(2026, 11, 20)
)


def of_october(zone: str = "Europe/Berlin") -> tuple[list[Row], pd.DataFrame]:
    """Ten events of calls a day at any time, and 16 of bytes, and their control totals by the days of a zone."""
    draw = random.Random(11)
    events = [
        event(utc(2026, 9, 29) + timedelta(minutes=draw.randrange(35 * 1440)), metric_key=metric, quantity=Decimal(1))
        for metric, per_day in (("calls", 10), ("bytes", 16))
        for _ in range(35 * per_day)
    ]
    totals = counted(events, zone)
    return events, totals[totals["day"].between("2026-10-01", "2026-10-31")].reset_index(drop=True)


def add_calls(totals: pd.DataFrame, added: Callable[[int], int]) -> pd.DataFrame:
    """The totals with so many more calls on each day of the month."""
    more = [
        added(int(day[-2:])) if metric == "calls" else 0
        for day, metric in zip(totals["day"], totals["metric"], strict=True)
    ]
    return totals.assign(events=totals["events"] + more, quantity=None)


def test_totals_that_differ_both_ways_are_not_those_of_another_zone_unless_these_match(make: Make) -> None:
    """Three more and three less in turn: the days of no zone have such numbers, and bytes are exact."""
    events, totals = of_october()
    control = add_calls(totals, lambda day: 3 if day % 2 else -3)
    (finding,) = findings(examine(make(events), NAME, OCTOBER, control=control))
    assert finding.severity == "high"
    assert finding.metric_key == "calls"
    assert finding.sentence.startswith("The control totals of calls differ both ways on 31 days")
    assert "48 events missing and 45 too many" in finding.sentence
    assert "no other time zone's days explain that" in finding.sentence


def test_a_quantity_alone_among_totals_that_differ_both_ways_is_said(make: Make) -> None:
    """The 50,000 were in no number of the finding, which was medium."""
    events = usage(per_day=400, quantity=Decimal(7))
    seen = counted(events)
    for day in range(20):
        seen.loc[day, "events"] += (day % 2) * 2 - 1
    seen.loc[25, "quantity"] = str(2800 + 50_000)
    (finding,) = findings(examine(make(events), NAME, september(), control=seen))
    assert finding.severity == "high"
    assert "10 too many, 0.38 % in all; 50,000 quantity missing and 0 too much, 57.6 % in all;" in finding.sentence


def test_lines_of_a_day_of_another_zone_that_the_period_cuts_are_said(make: Make) -> None:
    """31 October in UTC is longer than Berlin's: its lines, one of which is wrong, were left out without a word."""
    events, totals = of_october("UTC")
    last = totals["day"] == "2026-10-31"
    totals.loc[last & (totals["metric"] == "calls"), "events"] += 9
    note = examine(make(events), NAME, OCTOBER, control=totals).outcome.note  # type: ignore[union-attr]
    assert "2 lines of 2026-10-31 were not compared: days of UTC partly outside the period, or not over" in note, note


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata", "Europe/London"])
def test_another_zone_s_days_and_a_loss_are_two_findings(make: Make, zone: str) -> None:
    """Fifteen calls of five days were lost: said by the days of the totals' own zone."""
    events, totals = of_october(zone)
    store = make(events)
    (finding,) = findings(examine(store, NAME, OCTOBER, control=totals))
    assert finding.severity == "medium"
    assert f"by the days of {zone} " in finding.sentence
    lost = add_calls(totals, lambda day: 3 if 10 <= day <= 14 else 0)
    loss, other = findings(examine(store, NAME, OCTOBER, control=lost))
    assert f"by the days of {zone} " in other.sentence
    assert loss.severity == "high"
    assert loss.sentence.split(" of calls is missing, ")[1].startswith("10–14 Oct 2026, 5 days: 15 events missing")
    assert loss.metric_key == "calls"


@pytest.mark.parametrize(("moved", "words"), [(1, "late: 60 of 60"), (-1, "early: 60 of 60")])
def test_totals_that_are_dated_a_day_off_are_one_finding(make: Make, moved: int, words: str) -> None:
    """Each metric was high, as one that differs both ways; what else differs is said by its own day."""
    events, totals = of_october()
    store = make(events)

    def dated(totals: pd.DataFrame) -> pd.DataFrame:
        days = [(date.fromisoformat(day) + timedelta(days=moved)).isoformat() for day in totals["day"]]
        within = totals.assign(day=days)
        return within[within["day"].between("2026-10-01", "2026-10-31")]

    (finding,) = findings(examine(store, NAME, OCTOBER, control=dated(totals)))
    assert (finding.kind, finding.severity) == ("other days", "medium")
    side = "before" if moved > 0 else "after"
    assert f"are dated a day {words} totals of bytes and calls match the usage of the day {side}" in finding.sentence
    loss, other = findings(examine(store, NAME, OCTOBER, control=dated(add_calls(totals, lambda day: 3 * (day == 14)))))
    assert "are dated a day" in other.sentence
    assert (loss.severity, loss.metric_key, loss.events) == ("high", "calls", 3)
    assert " is missing, 14 Oct 2026: 3 events missing" in loss.sentence


def test_costs_by_the_days_of_another_zone_or_a_day_late_are_one_finding(make: Make) -> None:
    """Each cost was a finding of its own, high, while quantities by the same days were one."""
    draw = random.Random(3)
    given = {"external_cost_currency": "USD"}
    costs = [draw.randrange(1, 99_999) for _ in range(35 * 26)]
    rows, _ = of_october()
    events = [
        replace(row, external_cost_amount=Decimal(cost) / 1000, **given) for row, cost in zip(rows, costs, strict=True)
    ]
    store = make(events)

    def billed_by(zone: str, late: int = 0, *, by_metric: bool = True) -> pd.DataFrame:
        sums: dict[tuple[str, ...], Decimal] = defaultdict(Decimal)
        for row in events:
            day = row.timestamp.astimezone(ZoneInfo(zone)).date() + timedelta(days=late)
            sums[day.isoformat(), *((row.metric_key,) if by_metric else ())] += row.external_cost_amount or 0
        columns = ["day", *(["metric"] if by_metric else []), "cost"]
        control = pd.DataFrame([(*key, str(cost)) for key, cost in sums.items()], columns=columns)
        return control[control["day"].between("2026-10-01", "2026-10-31")].assign(currency="USD")

    def found(control: pd.DataFrame) -> tuple[Finding, ...]:
        return findings(examine(store, NAME, OCTOBER, control=control))

    assert found(billed_by("Europe/Berlin")) == ()
    control = billed_by("America/New_York")
    (finding,) = found(control)
    assert (finding.kind, finding.severity) == ("other days", "medium")
    assert "by the days of America/New_York 60 of 60 totals of bytes and calls match" in finding.sentence
    (finding,) = found(billed_by("America/New_York", by_metric=False))
    assert "by the days of America/New_York 30 of 30 totals of all usage match" in finding.sentence
    control.loc[control["day"] == "2026-10-14", "cost"] = "1"
    assert {(one.kind, one.severity) for one in found(control)} == {("surplus cost", "high"), ("other days", "medium")}
    (finding,) = found(billed_by("Europe/Berlin", 1))
    assert "The control totals are dated a day late: 60 of 60" in finding.sentence
    wrong = billed_by("Europe/Berlin").assign(cost=lambda frame: [str(Decimal(cost) + 9) for cost in frame["cost"]])
    assert {one.kind for one in found(wrong)} == {"missing cost"}, "of no zone's days"


def test_one_metric_may_be_counted_by_the_days_of_another_zone(make: Make) -> None:
    events, totals = of_october()
    _, utc_totals = of_october("UTC")
    mixed = pd.concat([totals[totals["metric"] == "calls"], utc_totals[utc_totals["metric"] == "bytes"]])
    (finding,) = findings(examine(make(events), NAME, OCTOBER, control=mixed))
    assert (finding.metric_key, finding.kind) == ("bytes", "other days")


def test_a_metric_of_few_events_is_counted_by_the_days_of_the_others(make: Make) -> None:
    """Three images, one of them at 00:30 in Berlin, which is the day before in UTC: no loss and no surplus."""
    events, totals = of_october("UTC")
    times = (utc(2026, 10, 5, 12), utc(2026, 10, 9, 12), utc(2026, 10, 20, 22, 30))
    images = [event(at, metric_key="images", quantity=Decimal(1)) for at in times]
    store, control = make([*events, *images]), pd.concat([totals, counted(images)])
    (finding,) = findings(examine(store, NAME, OCTOBER, control=control))
    assert finding.kind == "other days"
    lost = counted([*images, event(utc(2026, 10, 9, 13), metric_key="images", quantity=Decimal(1))])
    loss, _ = findings(examine(store, NAME, OCTOBER, control=pd.concat([totals, lost])))
    assert (loss.metric_key, loss.events, loss.kind) == ("images", 1, "missing events")


def test_a_customer_without_any_event_is_named_so_with_the_nearest_known_id(make: Make) -> None:
    """As for invoice lines; one with usage in another month is known."""
    earlier = event(utc(2026, 7, 1), customer_id=uuid.UUID(int=0xB1))
    events = [*usage(3, customer_id=uuid.UUID(int=0xC1)), earlier]
    control = counted(events[:-1], by_customer=True)
    mistyped, other = (control.assign(customer=str(uuid.UUID(int=number))) for number in (0x10C1, 0xB1))
    found = findings(examine(make(events), NAME, september(), control=pd.concat([control, mistyped, other])))
    sentences = {finding.customer_id: finding.sentence for finding in found}
    typed, near = uuid.UUID(int=0x10C1), uuid.UUID(int=0xC1)
    words = f"; customer {typed} is not known: no event and no name; a typing error of customer {near}?"
    assert sentences[typed].endswith(words)
    assert "is not known" not in sentences[uuid.UUID(int=0xB1)]


CUSTOMERS = (JUNE, SMALL, LARGE, uuid.UUID(int=0xC7))


def uneven(seed: int = 3) -> list[Row]:
    """Two metrics of four customers, 8 to 13 events a day each; the first alone uses a third one."""
    draw = random.Random(seed)
    metrics = [(customer, metric) for customer in CUSTOMERS for metric in ("bytes", "calls")]
    return [
        event(
            utc(2026, 9, day, hour),
            customer_id=customer,
            metric_key=metric,
            quantity=Decimal(draw.randrange(1, 900)).scaleb(-2),
        )
        for customer, metric in (*metrics, (JUNE, "seats"))
        for day in range(1, 31)
        for hour in range(draw.randrange(8, 14))
    ]


@pytest.mark.parametrize(
    ("measure", "factor", "words"),
    [
        ("quantity", Decimal(1000), "1,000 times the usage"),
        ("quantity", 1 / Decimal(60), "the usage divided by 60"),
        ("events", Decimal(1000), "1,000 times the usage"),
    ],
)
def test_totals_in_another_unit_are_one_finding(make: Make, measure: str, factor: Decimal, words: str) -> None:
    """Each of up to three customers was a finding of its own: "99.9 % is missing", though only the unit differs."""
    events = [replace(row, quantity=row.quantity * 7) for row in uneven() if row.customer_id in (JUNE, SMALL)]
    totals = counted(events, by_customer=True)[["day", "metric", "customer", measure]]
    totals[measure] = [str(round(Decimal(number) * factor, 3).normalize() + 0) for number in totals[measure]]
    result = examine(make(events), NAME, september(), control=totals)
    (finding,) = findings(result)
    assert (finding.kind, finding.severity) == (f"another unit, {measure}", "high")
    assert finding.events == len(events)
    assert finding.sentence.startswith(f"Every control total of {measure} of ")
    assert finding.sentence.endswith(f"is {words}: the unit differs.")
    assert result.outcome is not None
    sheet = result.outcome.sheet
    assert sheet is not None
    assert {*sheet[sheet["status"] != "matched"]["explained_by"]} == {"another unit"}


def test_one_metric_in_another_unit_and_a_further_error_are_told_apart(make: Make) -> None:
    events = [replace(row, quantity=row.quantity * 7) for row in uneven() if row.customer_id == JUNE]
    totals = counted(events)[["day", "metric", "quantity"]]
    is_bytes = totals["metric"] == "bytes"
    totals.loc[is_bytes, "quantity"] = [str(Decimal(number) * 1024) for number in totals[is_bytes]["quantity"]]
    wrong = (totals["day"] == "2026-09-05") & (totals["metric"] == "calls")
    totals.loc[wrong, "quantity"] = "100000"
    unit, other = sorted(findings(examine(make(events), NAME, september(), control=totals)), key=lambda one: one.kind)
    assert "control totals of quantity of bytes" in unit.sentence
    assert "are each 1,024 times the usage" in unit.sentence
    assert (other.metric_key, days(other)) == ("calls", (date(2026, 9, 5), date(2026, 9, 5)))


@pytest.mark.parametrize("factor", [1, 1000])
@pytest.mark.parametrize("more", [0, 3000])
def test_the_quantity_beside_a_number_of_events_in_another_unit_is_compared(make: Make, factor: int, more: int) -> None:
    """It was not looked at: 1,000 times the quantity, or 3,000 too much on a day, went without a word."""
    events = [replace(row, quantity=row.quantity * 7) for row in uneven() if row.customer_id == JUNE]
    totals = counted(events)
    wrong = (totals["day"] == "2026-09-05") & (totals["metric"] == "calls")
    quantities = zip(totals["quantity"], wrong, strict=True)
    quantity = [str((Decimal(one) + more * is_wrong) * factor) for one, is_wrong in quantities]
    result = examine(
        make(events), NAME, september(), control=totals.assign(events=totals["events"] * 1000, quantity=quantity)
    )
    found = {finding.kind: finding for finding in findings(result)}
    kinds = {"another unit, events": True, "another unit, quantity": factor > 1, "missing quantity": more > 0}
    assert {*found} == {kind for kind, is_found in kinds.items() if is_found}
    assert result.outcome is not None
    sheet = result.outcome.sheet
    assert sheet is not None
    assert (sheet["explained_by"] == "").sum() == (1 if more else 0)
    if more:
        assert found["missing quantity"].quantity == 3000
        assert days(found["missing quantity"]) == (date(2026, 9, 5), date(2026, 9, 5))


@pytest.mark.parametrize("factor", [Decimal(1000), 1 / Decimal(1024)])
def test_what_is_missing_beside_another_unit_is_said_in_the_unit_of_the_usage(make: Make, factor: Decimal) -> None:
    """The metric with a further error had no factor: "99.9 % of the quantity is missing", in three findings."""
    events = [replace(row, quantity=row.quantity * 1024) for row in uneven() if row.customer_id == JUNE]
    totals = counted(events)
    lost = (totals["day"] == "2026-09-05") & (totals["metric"] == "calls")
    quantities = zip(totals["quantity"], lost, strict=True)
    numbers = [str((Decimal(number) + Decimal("51.2") * is_lost) * factor) for number, is_lost in quantities]
    control = totals.assign(quantity=numbers, events=totals["events"] + 3 * lost)
    unit, loss = sorted(findings(examine(make(events), NAME, september(), control=control)), key=lambda one: one.kind)
    assert (loss.kind, loss.metric_key, loss.events, loss.quantity) == ("missing events", "calls", 3, Decimal("51.2"))
    assert days(loss) == (date(2026, 9, 5), date(2026, 9, 5))
    assert unit.sentence.startswith("89 control totals of quantity of bytes, calls and seats, ")


def test_a_common_share_that_is_no_unit_is_none(make: Make) -> None:
    """Half of the events of each day were lost: a like share, in one finding of each customer."""
    events = usage()
    totals = counted(events)[["day", "metric", "events"]]
    totals["events"] *= 2
    (finding,) = findings(examine(make(events), NAME, september(), control=totals))
    assert finding.kind == "missing events"


def test_swapped_columns_of_events_and_quantity_are_one_finding(make: Make) -> None:
    """It was high: "99 % is missing", hundreds of thousands of events that nobody counted."""
    events = [replace(row, quantity=row.quantity * 7) for row in uneven() if row.customer_id == JUNE]
    totals = counted(events)
    lost = (totals["day"] == "2026-09-05") & (totals["metric"] == "calls")
    further = totals.assign(events=totals["events"] + 3 * lost)
    quantities = zip(totals["quantity"], lost, strict=True)
    more = totals.assign(quantity=[str(Decimal(quantity) + 50 * is_lost) for quantity, is_lost in quantities])
    right, wrong, off = (
        frame.assign(events=[int(Decimal(q)) for q in frame["quantity"]], quantity=frame["events"].astype(str))
        for frame in (totals, further, more)
    )
    store = make(events)
    (finding,) = findings(examine(store, NAME, september(), control=right))
    assert (finding.kind, finding.severity, finding.events) == ("swapped columns", "medium", len(events))
    assert "of bytes, calls and seats are swapped" in finding.sentence
    assert "of 90 of 90 totals the quantity is exactly the number of events" in finding.sentence
    loss, other = findings(examine(store, NAME, september(), control=wrong))
    assert (loss.severity, loss.metric_key, loss.events) == ("high", "calls", 3)
    with_costs = findings(examine(store, NAME, september(), control=wrong.assign(cost="0", currency="USD")))
    assert [finding.sentence for finding in with_costs] == [loss.sentence, other.sentence]
    differing, _ = findings(examine(store, NAME, september(), control=off))
    assert (differing.kind, differing.metric_key) == ("missing quantity", "calls")
    assert days(differing) == days(loss) == (date(2026, 9, 5), date(2026, 9, 5))


def renamed(events: list[Row], number: int, *measures: str, seats: bool = True) -> pd.DataFrame:
    """Totals by customer, in which those of the first ones go round."""
    frame = counted(events, by_customer=True)[["day", "metric", "customer", *measures]]
    names = {str(CUSTOMERS[index]): str(CUSTOMERS[(index + 1) % number]) for index in range(number)}
    frame["customer"] = [
        name if not seats and metric == "seats" else names.get(name, name)
        for name, metric in zip(frame["customer"], frame["metric"], strict=True)
    ]
    return frame


@pytest.mark.each_value
@pytest.mark.parametrize("measures", [("events",), ("quantity",), ("events", "quantity")])
@pytest.mark.parametrize("number", [2, 3, 4])
def test_customers_that_are_swapped_are_one_finding(make: Make, number: int, measures: tuple[str, ...]) -> None:
    """Each metric of each was high, as one that differs both ways; the third metric lacked all of its events."""
    events = uneven()
    store = make(events)
    result = examine(store, NAME, september(), control=renamed(events, number, *measures))
    (finding,) = findings(result)
    assert (finding.kind, finding.severity) == ("swapped customers", "high")
    of_all = [row for row in events if row.customer_id in CUSTOMERS[:number] and row.metric_key != "seats"]
    assert finding.events == len(of_all)
    assert f"{(2 * number + 1) * 30} totals of bytes, calls and seats are exactly what" in finding.sentence
    assert ("the other one used" in finding.sentence) == (number == 2)
    assert all((str(customer) in finding.sentence) == (number < 4) for customer in CUSTOMERS[:number])
    facts = {(f"the totals of {CUSTOMERS[(i + 1) % number]}", f"used by {CUSTOMERS[i]}") for i in range(number)}
    assert {*finding.facts} == facts
    assert result.outcome is not None
    sheet = result.outcome.sheet
    assert sheet is not None
    assert {*sheet[sheet["status"] != "matched"]["explained_by"]} == {"swapped customers"}


def test_a_metric_that_is_right_is_none_of_those_that_are_swapped(make: Make) -> None:
    events = uneven()
    (finding,) = findings(examine(make(events), NAME, september(), control=renamed(events, 2, "events", seats=False)))
    assert "120 totals of bytes and calls are exactly what the other one used" in finding.sentence


def test_a_further_error_and_small_numbers_are_not_said_to_be_swapped(make: Make) -> None:
    events = uneven()
    totals = renamed(events, 2, "events")
    wrong = (totals["customer"] == str(JUNE)) & (totals["metric"] == "calls") & (totals["day"] == "2026-09-05")
    totals.loc[wrong, "events"] += 1
    found = {finding.kind: finding for finding in findings(examine(make(events), NAME, september(), control=totals))}
    assert "90 totals of bytes and seats are" in found.pop("swapped customers").sentence
    assert {finding.metric_key for finding in found.values()} == {"calls"}
    few = [event(utc(2026, 10, 1, hour), customer_id=customer) for customer, hours in ((JUNE, 2), (SMALL, 3))
           for hour in range(hours)]  # fmt: skip
    october = Period(since=utc(2026, 10, 1), until=utc(2026, 11, 1))
    result = examine(make(few), NAME, october, control=renamed(few, 2, "events"))
    assert {finding.kind for finding in findings(result)} == {"missing events", "surplus events"}


def test_which_of_two_customers_with_equal_usage_is_meant_is_not_guessed(make: Make) -> None:
    """Two used the same and have the totals of a third one, who has what either used: nothing says whose."""
    events = [row for row in uneven() if row.customer_id in (JUNE, SMALL) and row.metric_key == "calls"]
    twin = [event(row.timestamp, customer_id=LARGE, metric_key="calls", quantity=row.quantity) for row in events
            if row.customer_id == JUNE]  # fmt: skip
    used = dict(iter(counted([*events, *twin], by_customer=True).groupby("customer")))
    of = {JUNE: SMALL, LARGE: SMALL, SMALL: JUNE}
    totals = pd.concat([used[str(other)].assign(customer=str(customer)) for customer, other in of.items()])
    result = examine(make([*events, *twin]), NAME, september(), control=totals)
    assert {finding.kind for finding in findings(result)} == {"both ways events"}


IN_BERLIN = Period(since="2026-09-30T22:00:00Z", until="2026-10-31T23:00:00Z", timezone="Europe/Berlin")


@pytest.mark.parametrize("by_customer", [False, True])
@pytest.mark.parametrize("others", [(), ("noon",)])
def test_a_few_totals_that_match_by_the_days_of_utc_alone_are_of_these(
    make: Make, others: tuple[str, ...], by_customer: bool
) -> None:
    """An event at 00:30 of Berlin was missing the day before, high, and too much on its own."""
    events = [event(utc(2026, 10, day, hour, 30), metric_key="rare") for day, hour in ((3, 22), (4, 22), (20, 23))]
    events += [event(utc(2026, 10, day, 12), metric_key=metric) for metric in others for day in range(1, 31)]
    store = make(events)
    totals = counted(events, by_customer=by_customer)
    (finding,) = findings(examine(store, NAME, IN_BERLIN, control=totals))
    assert (finding.kind, finding.severity, finding.metric_key) == ("other days", "medium", "rare")
    assert "seem to begin at another time than those of Europe/Berlin: by the days of UTC 3 of 3" in finding.sentence
    assert examine(store, NAME, IN_BERLIN, control=counted(events, "Europe/Berlin", by_customer=by_customer)).is_clean


@pytest.mark.parametrize("change", ["lost", "lost beside", "noon"])
def test_a_few_totals_that_the_days_of_utc_do_not_explain_stay_high(make: Make, change: str) -> None:
    events = [event(utc(2026, 10, day, hour, 30), metric_key="rare") for day, hour in ((3, 22), (4, 22), (20, 23))]
    late = [event(utc(2026, 10, day, 22, 30), metric_key="late") for day in (6, 8)]
    seen = {"lost": events[1:], "lost beside": events, "noon": [*events, *late]}[change]
    more = [event(utc(2026, 10, 9, 12), metric_key="rare")] if change == "lost beside" else []
    totals = counted([*events, *more], "Europe/Berlin" if change == "lost" else "UTC")
    if change == "noon":  # another metric matches by the period's days alone
        totals = pd.concat([totals, counted(late, "Europe/Berlin")])
    found = findings(examine(make(seen), NAME, IN_BERLIN, control=totals))
    assert "high" in {finding.severity for finding in found}
    assert "other days" not in {finding.kind for finding in found}


def swapped_where(totals: pd.DataFrame, rows: pd.Series) -> pd.DataFrame:
    """The totals with events and quantities, as whole numbers, exchanged in these rows."""
    exchanged = totals.copy()
    exchanged.loc[rows, "events"] = [int(Decimal(number)) for number in totals[rows]["quantity"]]
    exchanged.loc[rows, "quantity"] = totals[rows]["events"].astype(str)
    return exchanged


@pytest.mark.parametrize("part", ["three days", "one total", "one customer", "most"])
def test_swapped_columns_of_a_part_of_the_totals_are_one_finding_beside_a_loss(make: Make, part: str) -> None:
    """It was high: "99.3 % of 6 metrics is missing: 40,131 events missing", which nobody lost."""
    events = [replace(row, quantity=row.quantity * 70) for row in uneven() if row.customer_id in (JUNE, SMALL)]
    totals = counted(events, by_customer=True)
    lost = (totals["day"] == "2026-09-25") & (totals["metric"] == "calls") & (totals["customer"] == str(SMALL))
    rows = {
        "three days": totals["day"].between("2026-09-03", "2026-09-05"),
        "one total": (totals["day"] == "2026-09-05") & (totals["metric"] == "seats"),
        "one customer": totals["customer"] == str(JUNE),
        "most": totals.index % 7 != 0,
    }[part] & ~lost
    store = make(events)
    (finding,) = findings(examine(store, NAME, september(), control=swapped_where(totals, rows)))
    assert (finding.kind, finding.severity) == ("swapped columns", "medium")
    assert f"of {rows.sum():,} of {rows.sum():,} total" in finding.sentence
    assert (finding.customer_id == JUNE) == (part in ("one total", "one customer"))
    fewer = swapped_where(totals.assign(events=totals["events"] + 3 * lost), rows)
    loss, other = findings(examine(store, NAME, september(), control=fewer))
    assert other.sentence == finding.sentence
    assert (loss.severity, loss.metric_key, loss.events, loss.customer_id) == ("high", "calls", 3, SMALL)


def test_a_single_swapped_total_of_a_few_events_is_recognized_by_both_numbers(make: Make) -> None:
    """It was high: "97.9 % is missing: 927 events missing, but quantity 927.529 too much"."""
    events = [replace(row, quantity=row.quantity * 30) for row in uneven() if row.customer_id in (JUNE, SMALL)]
    totals = counted(events, by_customer=True)
    off = totals["quantity"].map(Decimal) - totals["events"]
    rows = totals.index == off[(off > 100) & (off < 900)].index[0]
    (finding,) = findings(examine(make(events), NAME, september(), control=swapped_where(totals, pd.Series(rows))))
    assert (finding.kind, finding.severity) == ("swapped columns", "medium")
    assert "of 1 control total of" in finding.sentence


@pytest.mark.parametrize("part", ["one customer", "from a day on"])
@pytest.mark.parametrize("factor", [Decimal(1000), 1 / Decimal(60)])
def test_another_unit_of_a_part_of_the_totals_is_one_finding_beside_a_loss(
    make: Make, part: str, factor: Decimal
) -> None:
    """It was high: "57,873,071.997 missing" of the customer, or of all metrics from the day on."""
    events = [replace(row, quantity=row.quantity * 60) for row in uneven() if row.customer_id in (JUNE, SMALL)]
    totals = counted(events, by_customer=True)
    rows = totals["customer"] == str(JUNE) if part == "one customer" else totals["day"] >= "2026-09-20"
    control = totals.copy()
    control.loc[rows, "quantity"] = [
        str(round(Decimal(n) * factor, 3).normalize() + 0) for n in totals[rows]["quantity"]
    ]
    store = make(events)
    (finding,) = findings(examine(store, NAME, september(), control=control))
    assert (finding.kind, finding.severity) == ("another unit, quantity", "high")
    assert finding.sentence.startswith(f"{rows.sum()} control totals of quantity of bytes, calls and seats")
    assert (finding.customer_id == JUNE) == (part == "one customer")
    assert days(finding)[0] == date(2026, 9, 1 if part == "one customer" else 20)
    lost = (totals["day"] == "2026-09-05") & (totals["metric"] == "calls") & (totals["customer"] == str(SMALL))
    fewer = control.assign(events=control["events"] + 3 * lost)
    unit, loss = sorted(findings(examine(store, NAME, september(), control=fewer)), key=lambda one: one.kind)
    assert unit.kind == finding.kind
    assert (loss.kind, loss.metric_key, loss.events, loss.customer_id) == ("missing events", "calls", 3, SMALL)


@pytest.mark.parametrize("first", [10, 20])
@pytest.mark.parametrize("moved", [1, -1])
def test_totals_that_are_dated_a_day_off_from_a_day_on_are_one_finding(make: Make, first: int, moved: int) -> None:
    """Each metric was high: "no other time zone's days explain that"; a loss before or after is said by its own day."""
    events, totals = of_october()
    store = make(events)

    def dated(totals: pd.DataFrame) -> pd.DataFrame:
        each = [date.fromisoformat(day) for day in totals["day"]]
        late = [day + timedelta(days=moved * (day.day >= first)) for day in each]
        kept = totals.assign(day=[day.isoformat() for day in late])
        if moved < 0:  # the day before has its own total already
            kept = kept[[day.day != first - 1 for day in each]]
        return kept[kept["day"].between("2026-10-01", "2026-10-31")]

    (finding,) = findings(examine(store, NAME, OCTOBER, control=dated(totals)))
    assert (finding.kind, finding.severity) == ("other days", "medium")
    since = f"from {first + moved} Oct 2026 on" if first + moved > 9 else "from 9 Oct 2026 on"
    assert f"The control totals are dated a day {'late' if moved > 0 else 'early'} {since}: " in finding.sentence
    for lost in (5, 28):
        control = dated(add_calls(totals, lambda day, lost=lost: 3 * (day == lost)))  # type: ignore[misc]
        loss, other = findings(examine(store, NAME, OCTOBER, control=control))
        assert "are dated a day" in other.sentence
        assert (loss.severity, loss.metric_key, loss.events) == ("high", "calls", 3)
        assert f" is missing, {lost} Oct 2026: 3 events missing" in loss.sentence


@pytest.mark.parametrize("seed", seeds(range(5)))
def test_lost_events_and_costly_days_are_no_swap_unit_or_date(make: Make, seed: int) -> None:
    """Where a half, a tenth or a hundredth is left, of a customer, from a day on or on some days, no cause is named."""
    draw = random.Random(seed)
    events = [replace(row, quantity=Decimal(1)) for row in uneven(seed) if row.customer_id in (JUNE, SMALL)]
    totals = counted(events, by_customer=True)
    store = make(events)
    assert not findings(examine(store, NAME, september(), control=totals))
    rows = [
        lambda: totals["customer"] == str(JUNE),
        lambda: totals["day"] >= f"2026-09-{draw.randrange(5, 28):02d}",
        lambda: totals.index % draw.randrange(2, 9) == 0,
    ][seed % 3]()
    factor = draw.choice([2, 10, 100])
    more = [number * factor + draw.randrange(1, factor) for number in totals["events"]]
    events_lost = totals["events"].where(~rows, more)
    control = totals.assign(events=events_lost, quantity=events_lost.astype(str))
    found = findings(examine(store, NAME, september(), control=control))
    assert {finding.kind for finding in found} == {"missing events"}
