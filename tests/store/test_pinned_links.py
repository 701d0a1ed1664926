"""A pinned link shows the same numbers whatever is appended later, also what comes with times of before."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit
from uuid import UUID

import pytest

from support import generated_events
from support.api_server import AGGREGATE, EVENTS, asking
from usage_explore import AggregateQuery, EventQuery, Period, Store, connect, demo
from usage_explore.db import ddl
from usage_explore.db.schema import events_table
from usage_explore.demo import loading
from usage_explore.demo.business import TENANTS
from usage_explore.errors import ConfigurationError, QueryError

DAY = timedelta(days=1)
INSTANT = timedelta(microseconds=1)
INSERT = """
INSERT INTO usage_events
    (id, organization_id, customer_id, metric_key, quantity, timestamp, ingested_at, idempotency_key)
SELECT gen_random_uuid(), %s, gen_random_uuid(), 'tokens', 1, time, time, gen_random_uuid()::text
FROM coalesce(%s::timestamptz, now() - %s::interval) AS time
"""


def add(
    connection: ddl.Connection,
    ago: str | None,
    organization: UUID = generated_events.ORGANIZATION,
    *,
    at: str | None = None,
) -> None:
    connection.execute(INSERT, [organization, at, ago])
    connection.commit()


def test_the_demo_that_is_appended_later_changes_no_pinned_answer(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    table = events_table()
    with connect(events_database_url, organization_id=TENANTS[0].id) as store:
        now = store.now()
        demo.append(events_connection, table, until=now - 2 * DAY, days=3, per_day=300)
        question = AggregateQuery(since=now - 9 * DAY, until=now, group_by="metric_key", metric="sum_quantity")
        pinned, listed = store.pin(question), store.pin(EventQuery(limit=100))
        period = Period(since=now - 9 * DAY, until=now - 3 * DAY)
        answer, page, examined = store.aggregate(pinned), store.events(listed), store.validate(period)
        known = store.known()
        assert pinned.as_of == listed.as_of == examined.period.as_of == known
        assert known is not None
        assert known <= now - 2 * DAY
        assert answer.url(pinned=True).endswith(pinned.query_string())

        assert demo.append(events_connection, table, until=now - timedelta(hours=1)).events > 0
        assert store.aggregate(pinned).series == answer.series
        assert store.events(listed).events == page.events
        assert store.validate(examined.period).totals == examined.totals
        assert store.aggregate(question).total > answer.total


def test_http_promises_only_what_has_settled(events_connection: ddl.Connection, events_database_url: str) -> None:
    add(events_connection, "2 days")
    with connect(events_database_url, organization_id=generated_events.ORGANIZATION) as store, asking(store) as client:
        known = store.known()
        assert known is not None
        for as_of, kept in ((known, True), (known + INSTANT, False)):
            window = {
                "since": (known - DAY).isoformat(),
                "until": (known + DAY).isoformat(),
                "as_of": as_of.isoformat(),
            }
            for address, params in ((AGGREGATE, window), (EVENTS, {"as_of": as_of.isoformat()})):
                assert ("immutable" in client.get(address, params=params).headers["cache-control"]) is kept
        link = urlsplit(store.aggregate(AggregateQuery(since="-3d")).url(pinned=True))
        assert "immutable" in client.get(f"{AGGREGATE}?{link.query}").headers["cache-control"]


def test_known_is_the_organizations_latest_arrival_that_has_settled(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    with connect(events_database_url, organization_id=generated_events.ORGANIZATION) as store:
        assert store.known() is None
        assert store.pin(EventQuery()).as_of is not None
        for ago in ("1 minute", "-1 day"):  # neither what may be joined yet, nor what is dated ahead
            add(events_connection, ago)
        add(events_connection, None, at="infinity")  # PostgreSQL has infinite intervals since 17
        add(events_connection, "10 minutes", generated_events.NEIGHBOUR)
        assert store.known() is None
        for ago, age in (("400 days", 400 * DAY), ("20 days", 20 * DAY), ("6 minutes", timedelta(minutes=6))):
            add(events_connection, ago)
            known, now = store.known(), store.now()
            assert known is not None
            assert age <= now - known < age + timedelta(minutes=2)
            assert store.is_settled(EventQuery(as_of=known))
            assert not store.is_settled(EventQuery(as_of=known + INSTANT))
        assert not store.is_settled(EventQuery())


def test_an_answer_from_another_process_cannot_be_pinned(store: Store) -> None:
    answer = store.aggregate(
        AggregateQuery(since=generated_events.LAST_INGESTED - DAY, until=generated_events.LAST_INGESTED)
    )
    again = pickle.loads(pickle.dumps(answer))
    assert again == answer
    assert again.url() == answer.url()
    with pytest.raises(ConfigurationError, match="run its query again"):
        again.url(pinned=True)


def test_a_later_run_of_the_demo_is_seen_whole_or_not_at_all(
    events_connection: ddl.Connection, events_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = events_table()
    with connect(events_database_url, organization_id=TENANTS[0].id) as store:
        now = store.now()
        demo.append(events_connection, table, until=now - 3 * DAY, days=2, per_day=300)
        before, seen = store.count(EventQuery()), set()
        record_day = loading.record_day

        def watched(*arguments: object, **values: object) -> None:
            seen.add(store.count(EventQuery()))
            record_day(*arguments, **values)  # type: ignore[arg-type]

        monkeypatch.setattr(loading, "record_day", watched)
        assert demo.append(events_connection, table, until=now - DAY).days > 1
        assert seen == {before}


def test_a_pinned_comparison_is_cut_where_the_page_s_is(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    """October had its last event on the 2nd: its link compares whole months, as the live query does."""
    for at in ("2026-08-20", "2026-09-01", *["2026-09-20"] * 3, *["2026-10-01"] * 2, "2026-10-02"):
        add(events_connection, None, at=f"{at}T12:00:00Z")
    question = AggregateQuery(window="2026-10", compare="previous")
    with connect(events_database_url, organization_id=generated_events.ORGANIZATION) as store:
        live, pinned = store.aggregate(question), store.aggregate(store.pin(question))
    assert live.comparison is not None
    assert pinned.comparison is not None
    assert pinned.comparison.total == live.comparison.total
    assert (live.comparison.total.now, live.comparison.total.before) == (3, 4)
    assert (pinned.comparison.label, pinned.complete) == (live.comparison.label, live.complete)
    assert str(pinned.query.as_of) == "2026-10-02 12:00:00+00:00"
    assert pinned.query.complete_until == pinned.query.span[1]
    for answer in (live, pinned):
        assert [point.complete for point in answer.series[0].points] == answer.complete == [True] * 31
        assert answer.frame["complete"].all()
        assert {point["complete"] for point in answer.to_dict()["series"][0]["points"]} == {True}


def test_an_answer_is_not_settled_before_what_it_compares_is_over(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    add(events_connection, None, at="2026-10-02T12:00:00Z")
    later = datetime.now(UTC) + 365 * DAY
    query = AggregateQuery(
        since="2026-10-01T00:00:00Z", until=later, as_of="2026-10-02T12:00:00Z", compare="previous", bucket="month"
    )
    with (
        connect(events_database_url, organization_id=generated_events.ORGANIZATION) as store,
        asking(store) as client,
        connect(str(client.base_url).removesuffix("/api/")) as remote,
    ):
        for closed, settled in ((None, True), (datetime.now(UTC) - DAY, True), (later, False)):
            asked = query.replace(complete_until=closed)
            assert store.is_settled(asked) is settled
            assert remote.is_settled(asked) is settled
            answer = client.get(f"/v1/usage-events/aggregate?{asked.query_string()}")
            assert ("immutable" in answer.headers["cache-control"]) is settled


@pytest.mark.parametrize(
    ("known", "until", "closed"),
    [
        ("2026-10-31T23:58:00Z", "2026-11-01T00:00:00Z", "2026-11-01T00:00:00Z"),
        ("2026-11-01T00:00:00Z", "2026-11-01T00:00:00Z", None),
        ("2026-11-09T23:50:00Z", "2026-12-01T00:00:00Z", None),
        ("2026-11-09T23:49:59Z", "2026-12-01T00:00:00Z", "2026-11-10T00:00:00Z"),
        ("2026-11-09T23:40:00Z", "2026-11-09T23:58:00Z", "2026-11-09T23:58:00Z"),
        (None, "2026-11-01T00:00:00Z", None),
    ],
)
def test_a_pinned_query_says_what_was_over_where_its_as_of_does_not(
    known: str | None, until: str, closed: str | None
) -> None:
    def instant(text: str | None) -> datetime | None:
        return None if text is None else datetime.fromisoformat(text)

    now, settle = datetime(2026, 11, 10, tzinfo=UTC), timedelta(minutes=5)
    pinned = AggregateQuery(since="2026-10-01T00:00:00Z", until=until).pin(now, settle, instant(known))
    assert pinned.complete_until == instant(closed)
    assert AggregateQuery.from_params(pinned.query_string()) == pinned
    assert pinned.pin(now + DAY, settle, now) == pinned
    assert pinned.replace(as_of=None).complete_until is None


def test_complete_until_without_as_of_or_before_it_is_refused() -> None:
    for params in (
        "complete_until=2026-10-01T00:00:00Z",
        "complete_until=2026-10-01T00:00:00Z&as_of=2026-10-02T00:00:00Z",
    ):
        with pytest.raises(QueryError, match=r"complete_until: (needs|is before) as_of; give both"):
            AggregateQuery.from_params(params)
