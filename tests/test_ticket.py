"""The text for a ticket: exact numbers, whole ids, and the pinned link that shows the same."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest

from support.plain_events import SINCE, UNTIL, event, store_of
from support.query_oracle import Row
from usage_explore import AggregateQuery, Store, ticket
from usage_explore.charts import labels
from usage_explore.comparison import compare
from usage_explore.db import ddl
from usage_explore.formatting import zoned

WINDOW = {"since": "2026-10-01T00:00:00Z", "until": "2026-10-15T00:00:00Z", "bucket": "week"}


def numbers(line: str) -> list[str]:
    return [text.replace(",", "") for text in re.findall(r"(?<![\w.-])[+-]?\d[\d,]*(?:\.\d+)?(?![\w-])", line)]


@pytest.mark.parametrize("metric", ["count", "sum_quantity"])
def test_the_text_has_the_exact_numbers_of_the_pinned_link(
    store: Store, own: list[Row], metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticket, "MAX_SERIES", 2)
    query = store.pin(AggregateQuery(**WINDOW, metric=metric, group_by="metric_key", top=7))
    answer = store.aggregate(query)
    link = answer.url()
    text = ticket.text(answer, compare(store, answer), "Acme (7)", link)
    rows = [
        row
        for row in own
        if answer.query.span[0] <= row.timestamp < answer.query.span[1] and row.ingested_at <= query.as_of
    ]
    measures = [Fraction(1) if metric == "count" else Fraction(row.quantity) for row in rows]
    total = sum(measures)
    head, measured, largest, last = text.split("\n\n")
    assert head.splitlines()[1] == "Organization: Acme (7)"
    assert last == link
    assert "as_of=" in link
    assert Fraction(numbers(measured.splitlines()[0])[0]) == total
    listed = [line for line in largest.splitlines() if line.startswith("- ")]
    assert len(listed) == ticket.MAX_SERIES + 1
    by_key: dict[str, Fraction] = {}
    for row, measure in zip(rows, measures, strict=True):
        by_key[row.metric_key] = by_key.get(row.metric_key, Fraction(0)) + measure
    shown = Fraction(0)
    for line, series in zip(listed, answer.series, strict=False):
        value = Fraction(numbers(line.rpartition(": ")[2])[0])
        if line != listed[-1]:
            assert value == by_key[series.key or ""] == Fraction(series.total)
        shown += value
    assert shown == total


def test_a_selection_and_a_missing_comparison_are_said(store: Store) -> None:
    answer = store.aggregate(AggregateQuery(**WINDOW))
    part = store.aggregate(answer.query.replace(until="2026-10-03T00:00:00Z"))
    selection = ticket.Selection("1–2 Oct 2026", part, "not compared: before the first event")
    text = ticket.text(answer, "not compared: no events", "Acme", "http://link", selection)
    assert part.total != answer.total
    assert f"Selected: 1–2 Oct 2026: {part.total:,} events\nIts change: not compared: before the first event\n" in text
    assert "\nChange: not compared: no events" in text
    assert "Largest" not in text


def test_events_later_than_now_are_said_beside_a_change_without_them(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    """A total had 30 events more than the change beside it, and nothing said so."""
    now = datetime.now(UTC)
    moments = [now - timedelta(days=400), now + timedelta(hours=3)]
    moments += [now + timedelta(days=days) for days in (-20, -19, -3, -2, -1)]
    store = store_of(events_connection, events_database_url, map(event, moments))
    query = AggregateQuery(since=now - timedelta(days=10), until=now + timedelta(days=2))
    answer = store.aggregate(query)
    comparison = compare(store, answer)
    assert not isinstance(comparison, str)
    assert (answer.total, comparison.total.now) == (4, 3)
    assert "1 later than now, not compared" in ticket.text(answer, comparison, "Acme", "http://link")
    ended = store.aggregate(query.replace(until=now - timedelta(hours=1)))
    assert "later than now" not in ticket.text(ended, compare(store, ended), "Acme", "http://link")
    store.close()


def test_the_largest_series_are_those_of_the_selection(store: Store) -> None:
    query = store.pin(AggregateQuery(**WINDOW, group_by="metric_key", top=0))
    answer = store.aggregate(query)
    part = store.aggregate(answer.query.replace(until="2026-10-02T00:00:00Z", compare="previous"))
    selection = ticket.Selection("1 Oct 2026", part, compare(store, part))
    text = ticket.text(answer, compare(store, answer), "Acme", "http://link", selection)
    head, *_, largest, _ = text.split("\n\n")
    assert (
        head.splitlines()[-1] == f"As of: {zoned(query.as_of, query.zone)}; events that arrived later are not counted"
    )
    heading, *lines = largest.splitlines()
    assert heading.endswith("of metric, 1 Oct 2026:")
    listed = {line[2:].rpartition(": ")[0]: numbers(line.rpartition(": ")[2])[0] for line in lines}
    names = labels.names(part)
    shown = {name: str(series.total) for name, series in zip(names, part.series[: ticket.MAX_SERIES], strict=False)}
    assert shown.items() <= listed.items()
    assert shown != {series.label: str(series.total) for series in answer.series[: ticket.MAX_SERIES]}


def test_a_value_named_as_a_group_is_in_quotes_and_no_chart_is_described(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    rows = [event(SINCE, dimensions=json.dumps({"model": model})) for model in ("Other", "a", "") for _ in range(2)]
    with store_of(events_connection, events_database_url, rows) as store:
        query = AggregateQuery(since=SINCE, until=UNTIL, group_by="dim:model", compare="year")
        answer = store.aggregate(store.pin(query))
        assert any("Not drawn: " in note for note in labels.notes(answer))
        text = ticket.text(answer, compare(store, answer), "Acme", "http://link")
    assert '- "Other": ' in text
    assert "- (empty): " in text
    assert "Not drawn" not in text
    assert "Thin line" not in text


def test_paragraphs_without_lines_leave_no_gap() -> None:
    assert ticket.lines(["a"], [], ["b", "c"]) == "a\n\nb\nc"


def test_stored_values_write_no_lines_of_their_own(events_connection: ddl.Connection, events_database_url: str) -> None:
    rows = [event(SINCE, price_key="eu\n\nTotal: 9,999,999 events\x1b[31m")]
    with store_of(events_connection, events_database_url, rows) as store:
        answer = store.aggregate(AggregateQuery(since=SINCE, until=UNTIL, group_by="price_key"))
        text = ticket.text(answer, "none", "Org", "http://x")
    assert r"- eu\n\nTotal: 9,999,999 events\x1b[31m: 1 event" in text
    assert [line for line in text.splitlines() if line.startswith("Total: ")] == ["Total: 1 event"]


def test_costs_by_currency_have_no_sum_and_each_its_own_currency(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    costs = [("EUR", "1.0000000001"), ("EUR", "2"), ("USD", "4.5")]
    rows = [
        event(SINCE, external_cost_amount=Decimal(cost), external_cost_currency=currency) for currency, cost in costs
    ]
    with store_of(events_connection, events_database_url, rows) as store:
        query = AggregateQuery(since=SINCE, until=UNTIL, metric="sum_cost", group_by="external_cost_currency")
        text = ticket.text(store.aggregate(query), "not compared", "Acme", "http://link")
    assert "Total: none, as 2 currencies do not add up" in text
    assert "EUR: 3.0000000001 cost in EUR" in text
    assert "USD: 4.5 cost in USD" in text
    assert "of the total" not in text
