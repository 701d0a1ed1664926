"""Short links in both places: addresses, what they hold, who sees them, and the three ways in which they are gone."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from support.generated_events import NEIGHBOUR
from support.hostile_values import WORST
from support.plain_events import LARGE, beside, event
from support.record_places import as_role, neighbour
from usage_explore import AggregateQuery, EventQuery, Period, QueryError, Store
from usage_explore.db import ddl
from usage_explore.errors import ConfigurationError, LinkGone, RecordError
from usage_explore.records import links as records
from usage_explore.records.tables import LINKS

NOW = datetime.now(UTC).replace(microsecond=0)
EVENTS = [event(NOW - timedelta(days=day), dimensions='{"model": "a"}') for day in range(2, 12)]
QUERY = AggregateQuery(metric="sum_quantity", group_by="dim:model", since="-29d/d", timezone="Europe/Berlin")


@pytest.fixture(params=["table", "file"])
def store(
    request: pytest.FixtureRequest, events_connection: ddl.Connection, events_database_url: str, tmp_path: Path
) -> Iterator[Store]:
    """A store of the main organization, beside a neighbour's events: its role may create the table, or only read."""
    events = [*EVENTS, *beside(EVENTS[:3])]
    with as_role(request.param, events_connection, events_database_url, tmp_path, events) as opened:
        yield opened


def test_a_link_opens_the_pinned_query(store: Store) -> None:
    answer = store.aggregate(QUERY)
    made = answer.share(display=[("chart", "lines")], author="ana@example.com")
    read = store.link(made.url)
    assert read == made == store.link(made.token)
    assert (read.author, read.page, read.without_sign_in, read.expires_at) == (
        "ana@example.com",
        "explore",
        False,
        None,
    )
    query = read.query
    assert isinstance(query, AggregateQuery)
    assert query.as_of
    assert query.as_of <= datetime.now(UTC) - timedelta(minutes=5)
    assert not query.is_relative
    assert store.aggregate(query).total == answer.total
    assert ("chart", "lines") in read.pairs()
    assert AggregateQuery.from_params(f"{store.app_url}{read.target}") == query
    assert made.url == f"{store.app_url}/s/{made.token}"
    assert str(made.id) not in repr(made)
    assert made.token not in repr(made)


@pytest.mark.parametrize(
    ("query", "page"),
    [(EventQuery(limit=3), "events"), (Period(since="-60d/d"), "validate"), (AggregateQuery(), "explore")],
)
def test_every_page_has_links(store: Store, query: Any, page: str) -> None:
    made = store.share(query)
    assert (made.page, store.link(made.token).query.as_of is not None) == (page, True)


def test_a_page_of_a_later_version_is_gone(store: Store) -> None:
    with pytest.raises(LinkGone):
        _ = replace(store.share(QUERY), page="/evil.example").target


def test_a_page_of_events_is_shared_from_its_first_page(store: Store) -> None:
    page = store.events(EventQuery(limit=3)).next()
    assert page is not None
    query = store.link(page.share().token).query
    assert isinstance(query, EventQuery)
    assert (query.cursor, query.limit) == (None, 3)


def test_a_customers_page_has_links(store: Store) -> None:
    made = store.share(AggregateQuery(customer_id=LARGE), page="customer", display=[("currency", "USD")])
    assert made.target.startswith("/customer?")


def test_ids_have_128_random_bits_and_one_spelling(store: Store) -> None:
    ids = [store.share(QUERY).id for _ in range(40)]
    bits = [f"{id_.int:0128b}" for id_ in ids]
    assert all({column.count(bit) > 0 for bit in "01"} == {True} for column in map("".join, zip(*bits, strict=True)))
    token = store.links()[0].token
    assert len(token) == 22
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = alphabet[alphabet.index(token[-1]) ^ 1]  # the same 128 bits, four others after them
    with pytest.raises(LinkGone):
        store.link(token[:-1] + other)


def test_unknown_expired_and_revoked_are_the_same(store: Store) -> None:
    made = store.share(QUERY, expires=timedelta(hours=1))
    revoked = store.share(QUERY)
    store.revoke_link(revoked)
    with store._recorded(LINKS) as (_, places, _, now):
        assert records.find(places, made.token, now, "").expires_at == made.expires_at
        later = now + timedelta(hours=1, seconds=1)
        with pytest.raises(LinkGone) as expired:
            records.find(places, made.token, later, "")
    messages = {str(expired.value)}
    for token in (revoked.token, "A" * 22, "", "x", "../s", "A" * 21 + "é", *WORST):
        with pytest.raises(LinkGone) as gone:
            store.link(token)
        messages.add(str(gone.value))
    assert messages == {"This link is unknown, has expired or was revoked."}
    assert isinstance(pickle.loads(pickle.dumps(expired.value)), LinkGone)
    with pytest.raises(LinkGone):
        store.revoke_link(revoked)


def test_a_neighbour_neither_sees_nor_opens_nor_revokes_a_link(store: Store) -> None:
    made = store.share(QUERY)
    other = neighbour(store)
    assert other.links() == []
    for act in (other.link, other.revoke_link):
        with pytest.raises(LinkGone):
            act(made.url)
    restricted = replace(store, organization_id=None).restricted([NEIGHBOUR])
    with pytest.raises(LinkGone):
        restricted.link(made.token)
    assert store.links() == [made]


def test_the_list_says_who_when_and_last_opened(store: Store) -> None:
    first = store.share(QUERY, author="ana")
    second = store.share(QUERY, author="bob", without_sign_in=True, expires="2199-01-01T00:00:00Z")
    assert [(link.author, link.opened_at, link.without_sign_in) for link in store.links()] == [
        ("bob", None, True),
        ("ana", None, False),
    ]
    store.link_opened(first)
    read = store.link(first.token)
    assert read.opened_at is not None
    store.link_opened(read)  # within a minute: not written again
    assert store.link(first.token) == read
    assert store.links()[0] == second


@pytest.mark.parametrize(
    ("options", "parameter"),
    [
        ({"expires": "2020-01-01T00:00:00Z"}, "expires"),
        ({"expires": timedelta(0)}, "expires"),
        ({"expires": timedelta.max}, "expires"),
        ({"expires": "tomorrow"}, "expires"),
        ({"expires": 5}, "expires"),
        ({"without_sign_in": "yes"}, "without_sign_in"),
        ({"author": None}, "author"),
        ({"page": "load"}, "page"),
        ({"display": "chart"}, "display"),
        ({"display": [("nonsense", "1")]}, "nonsense"),
        ({"display": [("chart", "evil")]}, "chart"),
        ({"display": [("chart", "lines"), ("chart", "area")]}, "chart"),
        ({"display": [("organization_id", str(NEIGHBOUR))]}, "organization_id"),
    ],
)
def test_a_faulty_option_is_named(store: Store, options: dict[str, Any], parameter: str) -> None:
    with pytest.raises(QueryError) as refused:
        store.share(QUERY, **options)
    assert parameter in {fault.parameter for fault in refused.value.faults}
    assert store.links() == []


@pytest.mark.parametrize("query", [EventQuery(), Period(since="-60d/d")])
def test_only_views_of_explore_open_without_sign_in(store: Store, query: Any) -> None:
    with pytest.raises(QueryError, match="without_sign_in: is for views of Explore"):
        store.share(query, without_sign_in=True)


def test_their_number_is_bounded_and_expired_ones_make_room(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_LINKS", 2)
    store.share(QUERY, expires=timedelta(microseconds=1))
    kept = [store.share(QUERY), store.share(QUERY)]
    assert store.links() == kept[::-1]
    with pytest.raises(RecordError, match="There are 2 links already"):
        store.share(QUERY)


def test_a_pickled_answer_says_that_it_has_no_store(store: Store) -> None:
    with pytest.raises(ConfigurationError, match="share"):
        pickle.loads(pickle.dumps(store.aggregate(QUERY))).share()
