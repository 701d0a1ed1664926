"""Events of an id or idempotency key, and a searched text, found by every path, are those of plain Python."""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest

from extract.small_extract import DAY, HOUR, NOON, ORGANIZATION, Extract, event
from extract.table_histories import Answers, History
from support import generated_events, query_oracle
from support.query_oracle import Row, group_text
from usage_explore import AggregateQuery, EventQuery, LeaderboardQuery, QueryError, Store, connect
from usage_explore.db import ddl
from usage_explore.db.names import Entry, upsert
from usage_explore.db.schema import events_table, names_table
from usage_explore.errors import NotExact
from usage_explore.extract import routing, segments, watermark
from usage_explore.query.filters import GROUPS

COPIES = 30


@pytest.fixture
def history(
    events_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[History, Answers]]:
    """A table with an extract, a tail, and one key with copies in both."""
    monkeypatch.setattr(segments, "MIN_SUMMARY_ROWS", 5)
    monkeypatch.setattr(segments, "MIN_KNOWN_ROWS", 2)
    made, answers = History(events_database_url, 5, tmp_path), Answers(events_database_url, tmp_path)
    monkeypatch.setattr(watermark, "safe", made.safe)

    def copies() -> None:
        made.append([dataclasses.replace(row, idempotency_key="a,key") for row in made.new(COPIES)])

    try:
        for step in (made.arrive, copies, made.advance, made.arrive, copies):
            step()
        yield made, answers
    finally:
        answers.close()
        made.close()


def own(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row.organization_id == generated_events.ORGANIZATION]


def walked(store: Store, query: EventQuery) -> list[object]:
    """The ids on all pages, read forward, after going one page back from the last one."""
    page = store.events(query)
    pages = [page]
    while (page := page.next()) is not None:
        pages.append(page)
    if len(pages) > 1:
        back = pages[-1].previous()
        assert back is not None
        assert [event.id for event in back.events] == [event.id for event in pages[-2].events]
    return [event.id for page in pages for event in page.events]


@pytest.mark.parametrize("path", ["index", "extract", "neither", "too many for the extract"])
def test_all_copies_of_a_key_are_found(
    history: tuple[History, Answers], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, answers = history
    if path != "index":
        for name in ("id", "key"):
            made.connection.execute(f"DROP INDEX usage_events_{name}".encode())
        made.connection.commit()
    if path == "too many for the extract":
        monkeypatch.setattr(routing, "_MAX_TIMES", 3)
    looked_up = list[object]()
    times = routing.Paths.times
    monkeypatch.setattr(routing.Paths, "times", lambda *given: looked_up.append(found := times(*given)) or found)
    store = answers.raw if path == "neither" else answers.fast
    rows = query_oracle.newest_first(own(made.rows))
    wanted = [row.id for row in rows if row.idempotency_key == "a,key"]
    assert len(wanted) > COPIES
    query = EventQuery(idempotency_key="a,key", limit=7)
    assert walked(store, query) == wanted
    assert store.count(query) == len(wanted)
    assert [event.id for event in store.events(EventQuery(id=wanted[3]))] == [wanted[3]]
    assert walked(store, query.replace(id=wanted[:9])) == wanted[:9]
    late = query.replace(as_of=rows[len(rows) // 2].ingested_at)
    known = [row.id for row in rows if row.id in wanted and row.ingested_at <= late.as_of]
    assert walked(store, late) == known
    assert not store.events(EventQuery(idempotency_key="no such key")).events
    if path == "index" and not ddl.is_hypertable(made.connection, "usage_events"):
        assert not looked_up
    if path == "extract":
        assert looked_up
        assert None not in looked_up
    if path == "too many for the extract":
        assert None in looked_up
    assert len(store.read(query)) == len(wanted)


@pytest.mark.parametrize("path", ["extract", "events"])
@pytest.mark.parametrize("text", ["LARGE", "tokens", "e", "c1", "zzz", "a,key", "Bright"])
def test_a_search_finds_values_names_ids_and_keys(history: tuple[History, Answers], path: str, text: str) -> None:
    made, answers = history
    customer = generated_events.CUSTOMERS[1]
    entry = Entry("customer", customer, "ext-bright", "Brightwater")
    upsert(made.connection, names_table(None, events_table()), generated_events.ORGANIZATION, [entry])
    made.connection.commit()
    since, until = made.clock - timedelta(days=4), made.clock + timedelta(days=1)
    store = answers.fast if path == "extract" else answers.raw
    hits = store.search(text, LeaderboardQuery(since=since, until=until), most=50)
    counts: Counter[tuple[str, str]] = Counter()
    for row in own(made.rows):
        for group in (*GROUPS, "dim:model", "dim:region"):
            value = group_text(row, group)
            if since <= row.timestamp < until and value is not None:
                counts[group, value] += 1
    named = {("customer_id", str(customer))} if text.lower() in f"brightwater ext-bright {customer}" else set()
    expected = {pair: number for pair, number in counts.items() if text.lower() in pair[1].lower() or pair in named} | {
        pair: counts[pair] for pair in named
    }
    if keyed := sum(row.idempotency_key == text for row in own(made.rows)):
        expected["idempotency_key", text] = keyed
    assert {(hit.group, hit.value): hit.events for hit in hits} == expected
    assert {hit.name for hit in hits if hit.value == str(customer)} <= {"Brightwater"}
    row = own(made.rows)[0]
    (hit,) = [hit for hit in store.search(str(row.id).upper()) if hit.group == "id"]
    assert (hit.value, hit.events) == (str(row.id), 1)


@pytest.mark.parametrize("path", ["extract", "events"])
def test_a_search_lists_the_names_with_most_events_first(history: tuple[History, Answers], path: str) -> None:
    made, answers = history
    numbers = Counter(row.customer_id for row in own(made.rows))
    largest, *_, smallest = (customer for customer, _ in numbers.most_common() if customer is not None)
    entries = [
        *(Entry("customer", UUID(int=number), None, f"Umbra {number}") for number in range(10, 20)),
        *(Entry("customer", customer, None, f"Umbra {name}") for customer, name in ((smallest, "A"), (largest, "Z"))),
    ]
    upsert(made.connection, names_table(None, events_table()), generated_events.ORGANIZATION, entries)
    made.connection.commit()
    window = LeaderboardQuery(since=made.clock - timedelta(days=400), until=made.clock + timedelta(days=1))
    store = answers.fast if path == "extract" else answers.raw
    hits = store.search("umbra", window, most=3)
    assert [(hit.value, hit.events) for hit in hits[:2]] == [
        (str(largest), numbers[largest]),
        (str(smallest), numbers[smallest]),
    ]
    assert [(hit.name, hit.events) for hit in hits[2:]] == [("Umbra 10", 0)]


def test_a_blank_search_is_refused(history: tuple[History, Answers]) -> None:
    with pytest.raises(QueryError, match="text: is blank"):
        history[1].fast.search("  ")


@pytest.mark.parametrize("dimensions", ["{}", '{"rare": null}', "[1]"])
def test_every_question_about_events_without_a_dimension(extract: Extract, dimensions: str) -> None:
    """A table that was filled from a file without further columns."""
    extract.add(*(event(NOON + HOUR * number, dimensions=dimensions) for number in range(30)))
    extract.refresh(NOON + 3 * DAY)
    events, question = EventQuery(metric_key="tokens"), AggregateQuery(since=NOON - DAY, until=NOON + 3 * DAY)
    with connect(extract.url, organization_id=ORGANIZATION, home=extract.home) as fast:
        raw = dataclasses.replace(fast, extracts=None)
        assert fast.aggregate(question).served.because is None
        for ask in (
            lambda store: (store.dimension_keys(), store.dimension_keys(within=question)),
            lambda store: [store.values(group, within=question) for group in GROUPS],
            lambda store: [store.aggregate(question.replace(group_by=group)).series for group in (*GROUPS, "dim:x")],
            lambda store: store.leaderboards(question).boards,
            lambda store: store.explain(question).to_dict(),
            lambda store: store.count(events),
            lambda store: store.read(events).to_pandas().to_dict("list"),
            lambda store: store.search("tok"),
            lambda store: store.currencies(question),
        ):
            assert ask(fast) == ask(raw)


def test_newest_events_with_more_decimal_places_give_the_same_numbers(extract: Extract) -> None:
    extract.add(event(quantity=Decimal("1.5")), event(NOON + HOUR, quantity=Decimal(2)))
    extract.connection.commit()
    extract.refresh(NOON + 2 * HOUR)
    extract.add(event(NOON + 3 * HOUR, quantity=Decimal("0.0000000042")))
    extract.connection.commit()
    query = AggregateQuery(since=NOON, until=NOON + 4 * HOUR, bucket="hour", metric="sum_quantity")
    answers = []
    for home in (extract.home, extract.home / "none"):
        with connect(extract.url, organization_id=ORGANIZATION, home=home) as store:
            answers.append(store.aggregate(query))
    assert answers[0].served.because is None
    values = [[point.value for point in answer.series[0].points] for answer in answers]
    assert values[0] == values[1] == [Decimal("1.5"), 2, 0, Decimal("0.0000000042")]
    assert answers[0].to_dict()["series"] == answers[1].to_dict()["series"]


def test_reading_the_extract_ends_where_the_newest_events_are_no_number(extract: Extract) -> None:
    extract.add(event(quantity=Decimal("1.5")))
    extract.connection.commit()
    extract.refresh(NOON + 2 * HOUR)
    extract.add(event(NOON + 3 * HOUR, quantity=Decimal("NaN")))
    extract.connection.commit()
    query = AggregateQuery(since=NOON, until=NOON + 4 * HOUR, bucket="hour", metric="sum_quantity")
    with (
        connect(extract.url, organization_id=ORGANIZATION, home=extract.home) as store,
        pytest.raises(NotExact, match="NaN"),
    ):
        store.aggregate(query)
    assert not [thread for thread in threading.enumerate() if thread.name == "usage-explore-duckdb"]
