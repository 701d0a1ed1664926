"""An answer that is empty by mistake does not pass for usage that was looked at."""

from __future__ import annotations

import json
import pickle
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from click.testing import CliRunner

from support import generated_events
from support.api_server import AGGREGATE, EVENTS, EXPORT, asking
from support.query_oracle import Row
from usage_explore import AggregateQuery, EventQuery, Period, QueryError, Store, connect
from usage_explore.cli.main import main
from usage_explore.db import ddl
from usage_explore.sql.hints import HintWarning

WINDOW = {"since": "2011-01-01T00:00:00Z", "until": "2026-12-01T00:00:00Z", "bucket": "week"}
NONE = "none of the newest 10,000 events has"
SPLIT = "no event has 'b' or 'c', but some have 'c,b'; in a link write metric_key=c\\,b, in Python one text"
PREFIXED = '{"dim:model": "prefixed", "model": "large", "region": "Berlin, DE"}'


@pytest.fixture(scope="module")
def generated() -> list[Row]:
    made = generated_events.generate(per_scene=5)
    return [replace(row, dimensions=PREFIXED) if number % 10 == 0 else row for number, row in enumerate(made)]


@pytest.fixture
def store(events_database_url: str, events_connection: ddl.Connection, generated: list[Row]) -> Iterator[Store]:
    generated_events.insert(events_connection, generated)
    with connect(events_database_url, generated_events.ORGANIZATION) as opened:
        yield opened


def asked(store: Store, **filters: Any) -> list[Callable[[], Any]]:
    """The same filters at each method that answers with numbers or rows."""
    listing, over = EventQuery(**filters), AggregateQuery(**filters, **WINDOW)
    return [
        lambda: store.count(listing),
        lambda: len(store.events(listing).events),
        lambda: store.aggregate(over).total,
        lambda: store.export(listing, Path("never.csv"), progress=False),
        lambda: list(store.export_csv(listing)),
        lambda: store.validate(Period(**filters, since=WINDOW["since"], until=WINDOW["until"]), checks=["quantities"]),
    ]


@pytest.mark.parametrize(
    ("name", "filters"),
    [
        ("metric_key", {"metric_key": "tokens_in,Other"}),
        ("metric_key", {"metric_key": "tokens_in, nothing"}),
        ("price_key", {"price_key": "p1,p2"}),
        ("dim:model", {"dimensions": {"model": "large,zebra"}}),
        ("not:metric_key", {"exclude": {"metric_key": "tokens_in,Other"}}),
        ("not:dim:model", {"exclude": {"dim:model": "large,zebra"}}),
    ],
)
def test_several_values_written_as_one_are_refused(
    store: Store, name: str, filters: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for ask in asked(store, **filters):
        with pytest.raises(QueryError, match=f"{name}: no event has .*, but some have a part of it; several values"):
            ask()
    assert list(tmp_path.iterdir()) == []


def test_a_value_with_a_comma_is_found_where_it_exists(store: Store, generated: list[Row]) -> None:
    own = [row for row in generated if row.organization_id == generated_events.ORGANIZATION]
    assert store.count(EventQuery(metric_key="a,b")) == sum(row.metric_key == "a,b" for row in own) > 0
    assert store.count(EventQuery(dimensions={"region": "Berlin, DE"})) == sum(
        row.dimensions == PREFIXED for row in own
    )
    assert store.count(EventQuery(metric_key=["tokens_in", "Other"])) == sum(
        row.metric_key in ("tokens_in", "Other") for row in own
    )
    assert store.count(EventQuery(metric_key="nothing,of it")) == 0


def test_http_refuses_it_too(store: Store) -> None:
    with asking(store) as client:
        for path in (EVENTS, AGGREGATE):
            answer = client.get(path, params={"price_key": "p1,p2"})
            assert answer.status_code == 400
            assert "repeated parameter" in answer.text
        assert client.get(EVENTS, params={"metric_key": "tokens_in,Other"}).json()["data"]


@pytest.mark.parametrize("prefix", ["", "not:"])
def test_a_metric_key_that_was_split_at_its_comma_is_refused(
    store: Store, events_connection: ddl.Connection, prefix: str
) -> None:
    name = f"{prefix}metric_key"
    events_connection.execute("UPDATE usage_events SET metric_key = 'c,b' WHERE metric_key = 'tokens_in'")
    events_connection.commit()
    with asking(store) as client:
        for path in (EVENTS, AGGREGATE, EXPORT):
            answer = client.get(path, params={name: "c,b", **(WINDOW if path == AGGREGATE else {})})
            assert answer.status_code == 400, "not an empty answer, which would look like usage that was looked at"
            assert answer.json()["errors"] == [{"parameter": name, "message": SPLIT}]
            assert client.get(path, params={name: r"c\,b", **(WINDOW if path == AGGREGATE else {})}).status_code == 200
        assert client.get(EVENTS, params={name: "c,Other"}).status_code == 200, "one of them exists"
    assert store.count(EventQuery(metric_key="c,b"))


@pytest.mark.parametrize("prefix", ["", "not:"])
def test_an_escaped_comma_is_accepted_though_no_event_has_it(
    store: Store, events_database_url: str, tmp_path: Path, prefix: str
) -> None:
    name, value, kept = f"{prefix}metric_key", r"tokens_in\,Other", store.count(EventQuery()) if prefix else 0
    with asking(store) as client:
        assert bool(client.get(EVENTS, params={name: value}).json()["data"]) == bool(kept)
        series = client.get(AGGREGATE, params={name: value, **WINDOW}).json()["series"]
        assert sum(each["total"] for each in series) == kept
        assert client.get(EXPORT, params={name: value}).text.count("\n") == 1 + kept
    options = ["--database-url", events_database_url, "--organization-id", str(generated_events.ORGANIZATION)]
    result = CliRunner().invoke(main, ["export", *options, "--query", f"{name}={value}", str(tmp_path / "events.csv")])
    assert f"Wrote {kept:,} events" in result.output


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        ({"dimensions": {"modell": "large"}}, f"dim:modell: {NONE} it, did you mean dim:model?"),
        ({"exclude": {"missing": "dim:modell"}}, f"dim:modell: {NONE} it"),
        ({"metric_key": "token_in"}, f"metric_key: {NONE} 'token_in', did you mean tokens_in?"),
        ({"dimensions": {"model": "larg"}}, f"dim:model: {NONE} 'larg', did you mean large?"),
    ],
)  # fmt: skip
def test_an_empty_answer_says_which_name_no_event_has(store: Store, filters: dict[str, Any], said: str) -> None:
    for ask in asked(store, **filters)[:3]:
        with pytest.warns(HintWarning, match=re.escape(said)) as warned:
            assert ask() == 0
        assert {warning.filename for warning in warned} == {__file__}, "the line that asked"


def test_a_part_of_values_says_which(store: Store) -> None:
    for ask in asked(store, dimensions={"region": "berlin"})[:3]:
        with pytest.warns(HintWarning, match=f"dim:region: {NONE} 'berlin', did you mean Berlin, DE"):
            assert ask() == 0


def test_a_hint_offers_whole_values_alone(events_database_url: str, generated: list[Row]) -> None:
    """A value that the sentence cuts or escapes is no value of the dimension: its text finds nothing."""
    own = [row for row in generated if row.organization_id == generated_events.ORGANIZATION]
    regions = [f"region-{number:03}" for number in range(20)]
    rows = [
        replace(row, dimensions=json.dumps({"regions": value, "path": path}))
        for row, value, path in zip(
            own, [regions, {"eu": "west"}, "north"], ["eu\\west\n1", "eu west", "x"], strict=False
        )
    ]
    with ddl.connect(events_database_url) as connection:
        generated_events.insert(connection, rows)
    with connect(events_database_url, generated_events.ORGANIZATION) as store:
        for key, value, says in (
            ("regions", "region-00", ", only longer values contain it"),
            ("regions", "west", ', did you mean {"eu": "west"}?'),
            ("path", "west", ", did you mean eu west?"),
            ("path", "st\n1", ", only longer values contain it"),
        ):
            with pytest.warns(HintWarning) as warned:
                assert not store.count(EventQuery(dimensions={key: value}))
            assert [str(one.message).endswith(says) for one in warned] == [True]
        assert store.count(EventQuery(dimensions={"regions": '{"eu": "west"}'})) == 1


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        ({"metric_key": "token_in"}, f"not:metric_key: {NONE} 'token_in', did you mean tokens_in?"),
        ({"dim:model": ["small", "larg"]}, f"not:dim:model: {NONE} 'larg', did you mean large?"),
    ],
)
def test_a_value_that_excludes_nothing_says_so(store: Store, filters: dict[str, Any], said: str) -> None:
    for ask in asked(store, exclude=filters)[:3]:
        with pytest.warns(HintWarning, match=re.escape(said)) as warned:
            assert ask() > 0
        assert len(warned) == 1


@pytest.mark.parametrize("filters", [{"missing": "dim:modell"}, {"exclude": {"dim:modell": "large"}}])
def test_a_filter_that_leaves_nothing_out_says_so(store: Store, filters: dict[str, Any]) -> None:
    for ask in asked(store, **filters)[:3]:
        with pytest.warns(HintWarning, match="dim:modell: none of the newest 10,000 events has it"):
            assert ask() > 0


def test_a_grouping_that_no_event_has_says_so(store: Store) -> None:
    with pytest.warns(HintWarning, match="dim:modell: none of the newest"):
        answer = store.aggregate(AggregateQuery(group_by="dim:modell", **WINDOW))
    assert [series.kind for series in answer.series] == ["missing"]


@pytest.mark.filterwarnings("error")
def test_nothing_is_said_of_answers_that_may_well_be_right(store: Store) -> None:
    store.aggregate(AggregateQuery(group_by="dim:model", exclude={"dim:region": "eu"}, **WINDOW))
    store.aggregate(AggregateQuery(metric_key="tokens_in", **WINDOW))
    store.events(EventQuery(dimensions={"model": "a value of its own"}))
    first, _ = store.extent() or pytest.fail("no events")
    store.events(EventQuery(customer_id=UUID(int=0xC0), occurred_before=first + timedelta(microseconds=1)))
    store.events(EventQuery(occurred_after="2190-01-01T00:00:00Z", as_of="1980-01-01T00:00:00Z"))
    page = store.events(EventQuery(limit=2, dimensions={"model": "large"}))
    assert sum(1 for _ in page) > 2


def test_http_answers_carry_the_hints_and_the_server_does_not_warn(store: Store) -> None:
    with asking(store) as client, warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in (EVENTS, AGGREGATE):
            answer = client.get(path, params={"dim:modell": "large", **(WINDOW if path == AGGREGATE else {})}).json()
            assert not answer.get("data")
            assert not any(series["total"] for series in answer.get("series", ()))
            assert answer["hints"] == [f"dim:modell: {NONE} it, did you mean dim:model?"]
            assert client.get(path, params=WINDOW if path == AGGREGATE else {}).json()["hints"] == []


def test_http_says_where_data_lies_that_the_window_misses(store: Store) -> None:
    windows: dict[str, tuple[str, str]] = {EVENTS: ("occurred_after", "occurred_before"), AGGREGATE: ("since", "until")}
    with asking(store) as client:
        for path, names in windows.items():
            parameters = dict(zip(names, ("2190-01-01T00:00:00Z", "2190-02-01T00:00:00Z"), strict=True))
            hints = client.get(path, params=parameters).json()["hints"]
            assert hints == [outside(store, " from 2190-01-01 00:00:00 +00:00 to 2190-02-01 00:00:00 +00:00", names)]


@pytest.mark.filterwarnings("default")
def test_the_command_says_them(store: Store, events_database_url: str, tmp_path: Path) -> None:
    options = ["--database-url", events_database_url, "--organization-id", str(generated_events.ORGANIZATION)]
    result = CliRunner().invoke(main, ["export", *options, "--query", "dim:modell=x", str(tmp_path / "events.csv")])
    assert result.exit_code == 0
    assert "Warning: dim:modell: none of the newest 10,000 events has it, did you mean dim:model?" in result.stderr


def test_a_key_that_begins_with_dim_is_another_dimension(store: Store, generated: list[Row]) -> None:
    own = [row for row in generated if row.organization_id == generated_events.ORGANIZATION]
    prefixed = sum(row.dimensions == PREFIXED for row in own)
    large = sum('"model": "large"' in row.dimensions for row in own)
    assert large > prefixed > 0
    assert store.count(EventQuery(dimensions={"dim:model": "large"})) == large
    assert store.count(EventQuery(dimensions={"dim:dim:model": "prefixed"})) == prefixed
    assert [choice.value for choice in store.dimension_values("dim:model")] == [
        choice.value for choice in store.dimension_values("model")
    ]
    assert [choice.value for choice in store.dimension_values("dim:dim:model")] == ["prefixed"]
    answer = store.aggregate(AggregateQuery(group_by="dim:dim:model", dimensions={"model": "large"}, **WINDOW))
    for series in answer.series:
        assert store.count(answer.events_at(series)) == series.total
    assert {series.kind for series in answer.series} == {"value", "missing"}


def test_what_comes_back_can_be_pickled(store: Store) -> None:
    page = store.events(EventQuery(limit=3))
    assert len(page.frame) == 3
    kept = pickle.loads(pickle.dumps(page))
    assert kept == page
    assert list(kept.frame["id"]) == list(page.frame["id"])
    assert repr(kept) == repr(page)
    for needs_the_store in (kept.next, kept.previous, kept.url):
        with pytest.raises(QueryError, match="page: has no store, because it was pickled"):
            needs_the_store()
    assert store.events(kept.query.replace(cursor=kept.cursor)) == page.next()
    answer = store.aggregate(AggregateQuery(group_by="dim:model", **WINDOW))
    validation = store.validate(Period(since=WINDOW["since"], until=WINDOW["until"]), checks=["quantities"])
    explanation = store.explain(AggregateQuery(**WINDOW), since="2026-03-01", until="2026-04-01")
    for value in (answer, validation, explanation):
        assert repr(pickle.loads(pickle.dumps(value))) == repr(value)


def outside(store: Store, times: str, names: Sequence[str]) -> str:
    """The sentence on a window without events, in UTC."""
    lie = " and ".join(f"{time.astimezone(UTC).isoformat(sep=' ')[:-6]} +00:00" for time in store.extent() or ())
    return f"There are no events{times}; this organization's events lie between {lie}: pass {' and '.join(names)}"


def test_an_empty_window_says_when_there_are_events(store: Store) -> None:
    with pytest.warns(HintWarning) as hints:
        answer = store.aggregate(AggregateQuery(since="2190-01-01T00:00:00Z", until="2190-02-01T00:00:00Z"))
    times = " from 2190-01-01 00:00:00 +00:00 to 2190-02-01 00:00:00 +00:00"
    assert answer.total == 0
    assert answer.hints == (outside(store, times, ["since", "until"]),) == tuple(str(item.message) for item in hints)
    with warnings.catch_warnings():
        warnings.simplefilter("error", HintWarning)
        assert store.aggregate(AggregateQuery(**WINDOW)).hints == ()


@pytest.mark.parametrize(
    ("window", "times"),
    [
        ({"occurred_after": "2190-01-01T00:00:00Z"}, " from 2190-01-01 00:00:00 +00:00 on"),
        ({"occurred_before": "1971-01-01T00:00:00Z"}, " before 1971-01-01 00:00:00 +00:00"),
        (
            {"occurred_after": "1971-01-01T00:00:00Z", "occurred_before": "1971-02-01T00:00:00Z"},
            " from 1971-01-01 00:00:00 +00:00 to 1971-02-01 00:00:00 +00:00",
        ),
    ],
)
def test_a_listing_and_its_count_say_when_there_are_events(store: Store, window: dict[str, str], times: str) -> None:
    query, sentence = EventQuery(**window), outside(store, times, list(window))
    with pytest.warns(HintWarning, match=re.escape(sentence)):
        assert store.count(query) == 0
    with pytest.warns(HintWarning, match=re.escape(sentence)):
        page = store.events(query)
    assert page.hints == (sentence,)
    assert not page.events
    assert pickle.loads(pickle.dumps(page)).hints == page.hints


def test_bounds_of_a_window_count_as_in_the_listing(store: Store) -> None:
    first, last = store.extent() or pytest.fail("no events")
    with warnings.catch_warnings():
        warnings.simplefilter("error", HintWarning)
        assert store.events(EventQuery(occurred_after=last)).events
    with pytest.warns(HintWarning, match="There are no events before"):
        assert not store.events(EventQuery(occurred_before=first)).events
    with pytest.warns(HintWarning, match="There are no events from"):
        assert not store.events(EventQuery(occurred_after=last + timedelta(microseconds=1))).events
