"""Questions as values: parse, canonical form, round trips, and faults that name parameter and cure."""

from __future__ import annotations

import pickle
import re
from datetime import UTC, date, datetime, timedelta, timezone
from importlib import resources
from inspect import signature
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.query_oracle import utc
from usage_explore import AggregateQuery, EventQuery, LeaderboardQuery, Period, QueryError
from usage_explore.errors import Fault
from usage_explore.query.base import Query
from usage_explore.query.filters import GROUPS
from usage_explore.remote.operations import ChoiceQuery, ExplanationQuery, NamesQuery, SearchQuery

API = Path(__file__).parents[2] / ".." / "shared" / "reference" / "usage-events-api.txt"

words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=8)
some_words = st.lists(words, min_size=1, max_size=3)
moments = st.datetimes(datetime(1970, 1, 1), datetime(2199, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
group_names = st.one_of(st.sampled_from(GROUPS), words.map("dim:{}".format))
shared: dict[str, st.SearchStrategy[Any]] = {
    "organization_id": st.uuids(),
    "customer_id": st.uuids(),
    "product_id": st.uuids(),
    "subscription_id": st.uuids(),
    "metric_key": some_words,
    "price_key": some_words,
    "wallet_currency": some_words,
    "external_cost_currency": some_words,
    "dimensions": st.dictionaries(
        words, st.lists(st.one_of(words, st.just("")), min_size=1, max_size=3), min_size=1, max_size=3
    ),
    "missing": st.lists(group_names, min_size=1, max_size=3),
    "exclude": st.dictionaries(
        st.one_of(st.sampled_from(["metric_key", "price_key"]), words.map("dim:{}".format)),
        some_words,
        min_size=1,
        max_size=3,
    ),
    "as_of": moments,
}
event_queries = st.fixed_dictionaries(
    {}, optional={**shared, "limit": st.integers(1, 100), "cursor": words, "occurred_after": moments}
).map(lambda given: EventQuery(**given))
aggregate_queries = st.fixed_dictionaries(
    {},
    optional={
        **shared,
        "bucket": st.sampled_from(["hour", "day", "week"]),
        "metric": st.sampled_from(["count", "sum_quantity", "sum_cost", "unit_cost"]),
        "since": st.one_of(
            moments.filter(lambda m: m.year < 2190), st.sampled_from(["-30d", "-7d/d", "-1w/w", "now/d", "-36h"])
        ),
        "until": st.sampled_from(["now", "-1h", "2199-12-31T00:00:00Z"]),
        "timezone": st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu"]),
        "group_by": st.one_of(st.just("none"), group_names),
        "top": st.integers(0, 100),
    },
).map(lambda given: AggregateQuery(**given))
questions = st.one_of(event_queries, aggregate_queries)


@given(questions)
def test_params_repr_and_pickle_round_trip(question: Query) -> None:
    model = type(question)
    assert model.from_params(question.to_params()) == question
    assert model.from_params("?" + question.query_string()) == question
    path = {AggregateQuery: "aggregate", EventQuery: "events", Period: "validations"}[model]
    assert model.from_params(f"http://127.0.0.1:8501/{path}?{question.query_string()}#top") == question
    grouped: dict[str, list[str]] = {}
    for name, value in question.to_params():
        grouped.setdefault(name, []).append(value)
    assert model.from_params(grouped) == question
    assert eval(repr(question)) == question
    assert pickle.loads(pickle.dumps(question)) == question
    assert hash(model.from_params(question.to_params())) == hash(question)
    assert question.replace() == question


@pytest.mark.parametrize("model", [AggregateQuery, EventQuery, LeaderboardQuery, Period])
@pytest.mark.parametrize(
    ("link", "words"),
    [
        ("http://127.0.0.1:8501/s/0a1b2c3d4e5f6a7b", "is a short link"),
        ("https://usage.example.com/billing/s/0a1b2c3d4e5f6a7b?group_by=none", "is a short link"),
        ("/s/0a1b2c3d4e5f6a7b#top", "is a short link"),
        ("http://127.0.0.1:8501/home", "has no parameter"),
        ("http://127.0.0.1:8501/nonsense?organization_id=0a0a0a0a-0000-4000-8000-000000000001", "has no parameter"),
    ],
)
def test_a_link_that_holds_no_query_is_not_everything(model: type[Query], link: str, words: str) -> None:
    with pytest.raises(QueryError, match=f"link: {words}"):
        model.from_params(link)


def test_a_bare_link_of_another_page_is_refused() -> None:
    assert EventQuery.from_params("http://127.0.0.1:8501/events") == EventQuery()
    for model, link in ((AggregateQuery, "/validate"), (EventQuery, "http://127.0.0.1:8501/"), (Period, "/events")):
        with pytest.raises(QueryError, match="its path is none of"):
            model.from_params(link)


def test_the_documented_parameters_are_the_declared_ones() -> None:
    if not API.exists():
        pytest.skip("the documented API page is not beside this checkout")
    listing, aggregate = API.read_text().split("Time-bucketed usage aggregate\n")
    for text, model in ((listing, EventQuery), (aggregate, AggregateQuery)):
        documented = re.findall(
            r"^([a-z_]+)(?=[A-Z])", text.split("query Parameters")[1].split("Responses")[0], re.MULTILINE
        )
        assert len(documented) >= 8
        assert set(documented) <= set(model.model_fields)


def test_every_parameter_says_what_it_is() -> None:
    for model in (EventQuery, AggregateQuery):
        assert all(field.description for field in model.model_fields.values())


def test_help_shows_every_parameter_in_plain_words() -> None:
    for model in (EventQuery, AggregateQuery):
        shown = str(signature(model))
        assert list(signature(model).parameters) == list(model.model_fields)
        assert "Validator" not in shown
        assert all(f"    {name}: " in (model.__doc__ or "") for name in model.model_fields)


def test_equal_questions_are_equal_objects() -> None:
    berlin = timezone(timedelta(hours=2))
    a = EventQuery(
        metric_key=["b", "a", "b"],
        occurred_after=datetime(2026, 9, 1, 2, tzinfo=berlin),
        dimensions={"y": "1", "x": ["2", "1"]},
    )
    b = EventQuery.from_params("dim:x=1&metric_key=a,b&dim:x=2&occurred_after=2026-09-01T00:00:00Z&dim:y=1&limit=25")
    assert a == b
    assert hash(a) == hash(b)
    assert len({a, b}) == 1


def test_metric_keys_split_at_commas_and_unescape() -> None:
    query = EventQuery.from_params(r"metric_key=a\,b,c&metric_key=d%5C%5C")
    assert query.metric_key == ("a,b", "c", "d\\")
    assert EventQuery(metric_key="a,b").metric_key == ("a,b",)
    assert EventQuery.from_params("dim:model=a,b").dimensions == (("model", ("a,b",)),)
    assert EventQuery.from_params("not:metric_key=a,b").exclude == (("metric_key", ("a", "b")),)


def test_a_blank_value_is_the_empty_string_for_dimensions_only() -> None:
    assert EventQuery.from_params("dim:model=").dimensions == (("model", ("",)),)
    assert EventQuery.from_params("not:dim:model").exclude == (("dim:model", ("",)),)


@pytest.mark.parametrize(
    "name", ["metric_key", "price_key", "wallet_currency", "external_cost_currency", "idempotency_key"]
)
def test_the_empty_text_of_a_column_is_written_by_name(name: str) -> None:
    query = EventQuery(**{name: ["", "a"], "exclude": {name: [""]}})
    assert {*query.to_params()} == {("empty", name), (name, "a"), ("not:empty", name)}
    assert EventQuery.from_params(query.query_string()) == query
    assert EventQuery.model_validate_json(query.model_dump_json()) == query
    for blank in ({name: ""}, {"exclude": {name: ""}}):
        with pytest.raises(QueryError, match=f"{name}: is blank"):
            EventQuery(**blank)


DEEP: list[Any] = []  # deeper than the limit of recursion in any Python
for _ in range(100_000):
    DEEP = [DEEP]
CUSTOMER = "3f2b8c1e-0000-4000-8000-000000000000"
FAULTS = {
    "custmer_id=x": "custmer_id: unknown parameter, did you mean customer_id?",
    "Limit=3": "Limit: unknown parameter, did you mean limit?",
    "dimensions=x": "dimensions: unknown parameter",
    "exclude=x": "exclude: unknown parameter",
    "bucket=day": "bucket: unknown parameter",
    "limit=0": "limit: 0 is not a whole number from 1 to 100",
    "limit=101": "limit: 101 is not a whole number from 1 to 100",
    "limit=1e1": "limit: '1e1' is not a whole number",
    "limit=٣": "limit: '٣' is not a whole number",
    "limit=1&limit=2": "limit: is given more than once",
    f"customer_id={CUSTOMER}&customer_id={CUSTOMER}": "customer_id: is given more than once",
    "customer_id=": "customer_id: is blank",
    "customer_id=12": "customer_id: '12' is not a UUID",
    "metric_key=": "metric_key: is blank",
    "metric_key=a,,b": "metric_key: has an empty item",
    r"metric_key=a\x": "metric_key: has a lone backslash",
    "metric_key=a%5C": "metric_key: has a lone backslash",
    "price_key=": "price_key: is blank; give a value, leave the parameter out, or write empty=price_key",
    "empty=dim:model": "empty: 'dim:model' is not one of metric_key, price_key, wallet_currency, external_cost",
    "price_key=a%00b": "price_key: contains a NUL",
    "dim:=x": "dim:: names no dimension",
    "missing=": "missing: is blank",
    "missing=quantity": "missing: 'quantity' is not one of",
    "missing=dim:": "missing: names no dimension",
    "id=3": "id: '3' is not a UUID",
    "id=": "id: is blank",
    "not:id=3": "not:id: '3' is not a UUID",
    "not:idempotency_key=": "not:idempotency_key: is blank; give a value, leave the parameter out, or write not:empty",
    "not:quantity_min=3": "not:quantity_min: unknown parameter",
    "idempotency_key=": "write empty=idempotency_key for the empty text",
    "not:empty=id": "not:empty: 'id' is not one of metric_key, price_key, wallet_currency, external_cost_currency",
    "ingested_after=2026-09-01": "ingested_after: '2026-09-01' is not RFC 3339",
    "ingested_after=2026-09-02T00:00:00Z&ingested_before=2026-09-02T00:00:00Z": "ingested_before: is not after",
    "quantity_min=1e3": "quantity_min: '1e3' is not a decimal such as 2.5",
    "quantity_min=1,5": "quantity_min: '1,5' is not a decimal such as 2.5",
    "quantity_max=NaN": "quantity_max: 'NaN' is not a decimal such as 2.5",
    "quantity_max=٣": "quantity_max: '٣' is not a decimal",
    f"quantity_max={'9' * 1001}": "quantity_max: has more than 1,000 digits",
    "quantity_min=2&quantity_max=1.99": "quantity_max: is less than quantity_min",
    "quantity_min=2&quantity_min=2": "quantity_min: is given more than once",
    "not:limit=3": "not:limit: unknown parameter",
    "not:custmer_id=3": "not:custmer_id: unknown parameter, did you mean customer_id?",
    "not:customer_id=3": "not:customer_id: '3' is not a UUID",
    "not:price_key=": "not:price_key: is blank",
    "not:missing=none": "not:missing: 'none' is not one of",
    "occurred_after=2026-09-01": "occurred_after: '2026-09-01' is not RFC 3339",
    "occurred_after=2026-09-01T00:00:00": "has no offset; append Z",
    "occurred_after=2026-09-01T00:00:00+02:00": "write %2B for +",
    "occurred_after=2026-02-30T00:00:00Z": "is not a time that exists",
    "occurred_after=2026-09-01T24:00:00Z": "is not a time that exists",
    "occurred_after=2026-12-31T23:59:60Z": "leap second",
    "occurred_after=2026-09-01T00:00:00.1234567Z": "finer than microseconds",
    "occurred_after=1969-12-31T23:59:59Z": "occurred_after: lies outside 1970",
    "occurred_after=2200-01-01T00:00:00.000001Z": "occurred_after: lies outside 1970",
    "occurred_after=0000-01-01T00:00:00Z": "is not a time that exists",
    "occurred_after=2026-09-01T00:00:00%2B24:00": "is not a time that exists",
    "occurred_after=-7d": "occurred_after: '-7d' is not RFC 3339",
    "as_of=now": "as_of: 'now' is not RFC 3339",
    "occurred_after=2026-09-02T00:00:00Z&occurred_before=2026-09-01T00:00:00Z": "occurred_after: is not before",
    "occurred_after=2026-09-01T00:00:00Z&occurred_before=2026-09-01T00:00:00Z": "occurred_before: is not after",
    "=x": ": unknown parameter",
    "limit=": "limit: is blank; give a value",
    "id=x&id=y": "is not a UUID such as 3f2b8c1e-0000-4000-8000-000000000000; 'y' is not a UUID",
    "missing=a&missing=b&missing=c&missing=d": "for a dimension write dim:c; and 1 more",
    "since%FF=1": "is not valid percent-encoded UTF-8",
}
AGGREGATE_FAULTS = {
    "bucket=days": "bucket: 'days' is not one of hour, day, week, month, did you mean day?",
    "bucket=DAY": "bucket: 'DAY' is not one of",
    "metric=sum": "metric: 'sum' is not one of count, sum_quantity, sum_cost, unit_cost",
    "group_by=model": "group_by: 'model' is not one of",
    "group_by=dim:": "group_by: names no dimension",
    "group_by=": "group_by: is blank",
    "top=-1": "top: -1 is not a whole number",
    "timezone=Berlin": "timezone: 'Berlin' is not an IANA time zone",
    "timezone=localtime": "timezone: 'localtime' is not an IANA time zone",
    "timezone=europe/berlin": "did you mean Europe/Berlin?",
    "since=-30m": "since: '-30m' is not a relative time",
    "since=-0d": "since: '-0d' is not a relative time, did you mean now?; write now, -24h",
    "since=-0d/d": "did you mean now/d?",
    "since=-0h/M": "did you mean now/M?",
    "since=now-7d/d": "did you mean -7d/d?",
    "since=-7days": "did you mean -7d?",
    "since=-02w/W": "did you mean -2w/w?",
    "since=\u22127d": "did you mean -7d?",
    "since=yesterday": "did you mean -1d/d?",
    "since=20260901T000000Z": "'20260901T000000Z' is not RFC 3339",
    "since=-1M": "since: '-1M' is not a relative time; write now",
    "since=%2B1d": "since: '+1d' is not a relative time; write now",
    "since=30d": "since: '30d' is not a relative time",
    "until=tomorrow": "until: 'tomorrow' is not RFC 3339",
    "since=2026-09-02T00:00:00Z&until=2026-09-01T00:00:00Z": "until: is not after since",
    "window=last_weak": "last_quarter, did you mean last_week?; or a month such as 2026-09",
    "window=2026-9": "window: '2026-9' is not a month with two digits; write 2026-09",
    "window=2026-13": "window: '2026-13' is not a month: after the year come 01 to 12, as in 2026-09",
    "window=2026-00": "window: '2026-00' is not a month",
    "window=1969-12": "window: '1969-12' lies outside 1970-01 to 2199-12",
    "window=2200-01": "window: '2200-01' lies outside 1970-01 to 2199-12",
    "window=2026-09&until=now": "until: cannot be combined with window",
    "since=-30d/m": "with /h, /d, /w or /M to round down",
    "window=this_month&since=-30d": "since: cannot be combined with window",
    "window=this_month&until=now": "until: cannot be combined with window",
    "window=this_month&since=-2d&until=now": "window: cannot be combined with since and until",
    "compare=2026-01-01/2026-02-01": "write 2026-01-01T00:00:00Z; its until '2026-02-01' is not RFC 3339",
    "Dim:model=x": "Dim:model: unknown parameter, did you mean dim:model=…?",
    "dims:model=x": "dims:model: unknown parameter, did you mean dim:model=…?",
    "dim.model=x": "dim.model: unknown parameter, did you mean dim:model=…?",
    "Not:metric_key=x": "Not:metric_key: unknown parameter, did you mean not:metric_key=…?",
    "not:Dim:model=x": "not:Dim:model: unknown parameter, did you mean not:dim:model?",
    "group_by=Dim:model": "or dim:<key>, did you mean dim:model?",
    "cursor=x": "cursor: unknown parameter",
}


@pytest.mark.parametrize(("params", "said"), FAULTS.items())
def test_a_faulty_list_is_refused_with_parameter_and_cure(params: str, said: str) -> None:
    with pytest.raises(QueryError, match=re.escape(said)):
        EventQuery.from_params(params)


@pytest.mark.parametrize(("params", "said"), AGGREGATE_FAULTS.items())
def test_a_faulty_aggregate_is_refused_with_parameter_and_cure(params: str, said: str) -> None:
    with pytest.raises(QueryError, match=re.escape(said)):
        AggregateQuery.from_params(params)


@pytest.mark.parametrize(
    ("model", "params", "said"),
    [
        (ChoiceQuery, "", "group: is missing; give metric_key or dim:<key>"),
        (ChoiceQuery, "group=", "group: is blank; give metric_key or dim:<key>"),
        (ChoiceQuery, "group=foo", "group: 'foo' is not one of"),
        (ChoiceQuery, "group=metric_key&group=price_key", "group: is given more than once"),
        (SearchQuery, "", "text: is missing; give what to search"),
        (SearchQuery, "text=", "text: is blank; give what to search"),
        (SearchQuery, "text=%00", "text: contains a NUL character"),
    ],
)
def test_a_faulty_parameter_is_not_missing_too(model: type[Query], params: str, said: str) -> None:
    with pytest.raises(QueryError, match=said) as caught:
        model.from_params(params)
    assert len(caught.value.faults) == 1


@pytest.mark.parametrize("model", [EventQuery, AggregateQuery, Period, LeaderboardQuery, ExplanationQuery, NamesQuery])
def test_every_blank_parameter_is_called_blank(model: type[Query]) -> None:
    for name in model.model_fields.keys() - {"dimensions", "exclude"}:
        with pytest.raises(QueryError, match=f"^{name}: is blank; give"):
            model.from_params(f"{name}=")


def test_all_faults_are_reported_together() -> None:
    params = (
        "custmer_id=1&customer_id=x&limit=0&occurred_after=2026-09-02T00:00:00Z"
        "&occurred_before=2026-09-01T00:00:00Z&dim:=1&not:dim:=2&metric_key=,"
    )
    with pytest.raises(QueryError) as caught:
        EventQuery.from_params(params)
    assert {fault.parameter for fault in caught.value.faults} == {
        "custmer_id",
        "customer_id",
        "limit",
        "occurred_after",
        "occurred_before",
        "dim:",
        "not:dim:",
        "metric_key",
    }
    assert pickle.loads(pickle.dumps(caught.value)).faults == caught.value.faults


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"occurred_after": datetime(2026, 9, 1)}, "has no time zone"),  # noqa: DTZ001
        ({"occurred_after": date(2026, 9, 1)}, "is not text"),
        ({"occurred_after": pd.Timestamp("2026-09-01T00:00:00.000000001Z")}, "has nanoseconds"),
        ({"limit": True}, "is not a whole number"),
        ({"limit": 2.0}, "is not a whole number"),
        ({"metric_key": []}, "has no values"),
        ({"metric_key": [1]}, "1 is not text"),
        ({"metric_key": ["\ud800"]}, "is not valid Unicode"),
        ({"dimensions": {"model": None}}, "use missing=dim:model"),
        ({"dimensions": {"model": 7}}, "7 is not text"),
        ({"dimensions": "model"}, "is not a mapping"),
        ({"exclude": ["x"]}, "is not a mapping"),
        ({"custmer_id": "x"}, "did you mean customer_id?"),
        ({"\ud800": "x"}, r"\ud800: unknown parameter"),
        ({"dimensions": {"\ud800": "x"}}, r"dim:\ud800: is not valid Unicode"),
        ({"exclude": {"\ud800": "x"}}, r"not:\ud800: unknown parameter"),
        ({"occurred_after": timedelta(days=1)}, "is not text such as 2026-09-01T00:00:00Z, nor an aware datetime"),
        ({"metric_key": [DEEP]}, "this list is not text"),
        ({"limit": 10**5000}, "this int is not a whole number"),
        ({"metric_key": [10**5000]}, "this int is not text"),
        ({"occurred_after": datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))}, "lies outside 1970"),
        ({"as_of": datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))}, "lies outside 1970"),
    ],
)
def test_python_values_are_checked_as_strictly(given: dict[str, Any], said: str) -> None:
    with pytest.raises(QueryError, match=re.escape(said)):
        EventQuery(**given)


def test_a_zone_without_a_name_is_refused() -> None:
    nameless = ZoneInfo.from_file(BytesIO((resources.files("tzdata.zoneinfo") / "UTC").read_bytes()))
    with pytest.raises(QueryError, match="timezone: None is not text"):
        AggregateQuery(timezone=nameless)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ("http://[::1?custmer_id=x", "did you mean customer_id?"),
        ("dim:url=http://x/y&custmer_id=x", "did you mean customer_id?"),
        ("/events?custmer_id=x", "did you mean customer_id?"),
        ({"metric_key": []}, "metric_key: has no values"),
        ({"metric_key": [None]}, "metric_key: has no values"),
        ({"limit": b"5"}, "is not text"),
        ({5: "x"}, "5: unknown parameter"),
        ([(5, "x")], "5: unknown parameter"),
        ([("dim:\ud800", "x")], "is not valid Unicode"),
        ([("metric_key", 5), ("limit", 101)], "limit: 101 is not"),
    ],
)
def test_odd_parameters_never_widen_the_answer(params: Any, said: str) -> None:
    with pytest.raises(QueryError, match=re.escape(said)):
        EventQuery.from_params(params)


def test_a_link_keeps_every_filter() -> None:
    assert EventQuery.from_params("dim:url=http://x/y&price_key=a").to_params() == (
        ("price_key", "a"),
        ("dim:url", "http://x/y"),
    )
    assert EventQuery.from_params("http://[::1]:8501/events?price_key=a#b").price_key == ("a",)
    assert EventQuery.from_params("/events?price_key=a").price_key == ("a",)


def test_a_key_given_twice_means_any_of_its_values() -> None:
    assert EventQuery(dimensions=[("m", "a"), ("m", "b")]) == EventQuery(dimensions={"m": ["a", "b"]})
    assert EventQuery(exclude=[("missing", "dim:m"), ("missing", "dim:n")]).exclude == (
        ("missing", ("dim:m", "dim:n")),
    )


def test_python_values_of_the_right_kind_are_taken() -> None:
    customer = uuid4()
    stamp = pd.Timestamp("2026-09-01T02:00:00.5+02:00")
    query = EventQuery(customer_id=customer, occurred_after=stamp, metric_key=("b", "a"))
    assert query.customer_id == customer
    assert query.occurred_after == utc(2026, 9, 1, 0, 0, 0, 500_000)
    assert type(query.occurred_after) is datetime
    assert EventQuery(customer_id=str(customer).upper()).customer_id == customer
    assert EventQuery.from_params({"customer_id": customer, "limit": 5, "as_of": None}).limit == 5
    assert type(EventQuery(limit=np.int64(5)).limit) is int


def test_replace_swaps_calendar_and_plain_windows() -> None:
    query = AggregateQuery(since="-7d", until="-1d", top=3)
    month = query.replace(window="this_month")
    assert month == AggregateQuery(window="this_month", top=3)
    assert month.replace(since="-7d") == AggregateQuery(since="-7d", top=3)
    assert query.replace(top=None) == AggregateQuery(since="-7d", until="-1d")


NOW = utc(2026, 11, 22, 14, 5)


@pytest.mark.parametrize(
    ("params", "since", "until"),
    [
        ("", utc(2026, 10, 23, 14, 5), NOW),
        ("since=-24h/h", utc(2026, 11, 21, 14), NOW),
        ("since=-30d/d&timezone=Europe/Berlin", utc(2026, 10, 22, 22), NOW),
        ("since=-1d/d&timezone=Pacific/Auckland", utc(2026, 11, 21, 11), NOW),
        ("since=-2w/w", utc(2026, 11, 2), NOW),
        ("since=-1d/h", utc(2026, 11, 21, 14), NOW),
        ("since=now/d&until=now", utc(2026, 11, 22), NOW),
        ("window=this_month&timezone=Asia/Kathmandu", utc(2026, 10, 31, 18, 15), utc(2026, 11, 30, 18, 15)),
        ("window=last_month&timezone=Europe/Berlin", utc(2026, 9, 30, 22), utc(2026, 10, 31, 23)),
        ("window=2026-03&timezone=Europe/Berlin", utc(2026, 2, 28, 23), utc(2026, 3, 31, 22)),
        ("window=2026-12&timezone=Asia/Kathmandu", utc(2026, 11, 30, 18, 15), utc(2026, 12, 31, 18, 15)),
        ("window=1970-01&timezone=Asia/Kathmandu", utc(1970, 1, 1), utc(1970, 1, 31, 18, 30)),
        ("window=2199-12&timezone=America/Havana", utc(2199, 12, 1, 5), utc(2200, 1, 1)),
        ("window=this_week&timezone=Asia/Kathmandu", utc(2026, 11, 15, 18, 15), utc(2026, 11, 22, 18, 15)),
        ("window=last_week", utc(2026, 11, 9), utc(2026, 11, 16)),
        ("window=this_quarter&timezone=Europe/Berlin", utc(2026, 9, 30, 22), utc(2026, 12, 31, 23)),
        ("window=last_quarter&timezone=America/Havana", utc(2026, 7, 1, 4), utc(2026, 10, 1, 4)),
        ("since=-29d/M&bucket=month", utc(2026, 10, 1), NOW),
    ],
)
def test_a_window_resolves_in_its_zone(params: str, since: datetime, until: datetime) -> None:
    resolved = AggregateQuery.from_params(params).resolve(NOW)
    assert resolved.span == (since, until)
    assert resolved.resolve(utc(2030, 1, 1)) == resolved
    assert not resolved.is_relative


@pytest.mark.parametrize(
    ("zone", "now", "since", "start"),
    [
        # the second 00:30 of the day, counted back to a day without a 00:30
        ("America/Havana", utc(2026, 11, 1, 5, 30), "-238d/d", utc(2026, 3, 8, 5)),
        # 23:15 for the second time: the day of the first midnight has begun
        ("America/St_Johns", utc(2010, 11, 7, 2, 45), "now/d", utc(2010, 11, 7, 2, 30)),
        ("America/St_Johns", utc(2010, 11, 7, 2, 45), "-1d/d", utc(2010, 11, 6, 2, 30)),
        ("Europe/Berlin", utc(2026, 10, 25, 1, 30), "now/h", utc(2026, 10, 25, 1)),
        ("Europe/Berlin", utc(2026, 10, 26, 1, 30), "-1d/h", utc(2026, 10, 25, 0)),
        ("Europe/Berlin", utc(2026, 10, 26, 1, 30), "-24h/h", utc(2026, 10, 25, 1)),
    ],
)
def test_rounding_counts_the_days_that_buckets_show(zone: str, now: datetime, since: str, start: datetime) -> None:
    assert AggregateQuery(since=since, timezone=zone).resolve(now).since == start


def test_a_month_begins_with_its_first_bucket() -> None:
    query = AggregateQuery(window="this_month", timezone="America/St_Johns")
    assert query.resolve(utc(1993, 10, 31, 2, 45)).since == utc(1993, 10, 1, 2, 30)
    assert query.resolve(utc(2009, 11, 1, 2, 45)).since == utc(2009, 11, 1, 2, 30)


def test_a_window_that_turns_out_empty_or_too_old_is_refused() -> None:
    with pytest.raises(QueryError, match=r"since: is not before until.*\n?.*until"):
        AggregateQuery(until=utc(2020, 1, 1)).resolve(NOW)
    for since in ("-999999d", "-999999w", "-99999d/d", "-60000w/w"):
        with pytest.raises(QueryError, match=r"since: .* reaches before 1970"):
            AggregateQuery(since=since).resolve(NOW)


def test_single_events_are_excluded_by_id_and_key_but_not_from_a_billing_period() -> None:
    id_ = "0a7f3c52-5f0e-4c57-9a35-8d1f2f0c6b11"
    exclude = {"id": [id_.upper()], "not:idempotency_key": ["a,b", ""]}
    query = AggregateQuery(window="2026-09", exclude=exclude, metric_key="m")
    assert query.exclude == (("id", (id_,)), ("idempotency_key", ("", "a,b")))
    excluded = [(name, value) for name, value in query.to_params() if name.startswith("not:")]
    assert excluded == [("not:id", id_), ("not:empty", "idempotency_key"), ("not:idempotency_key", "a,b")]
    assert AggregateQuery.from_params(query.query_string()) == query
    assert EventQuery(**query.shared_with(EventQuery)).exclude == query.exclude
    # they are dropped for a period, as the filters id and idempotency_key are
    assert Period(**query.shared_with(Period)) == Period(window="2026-09", metric_key="m")
    assert [fault.parameter for fault in refused(window="2026-09", exclude={**exclude, "metric_key": "x"})] == [
        "not:id",
        "not:idempotency_key",
    ]
    assert "it belongs to events (EventQuery)" in str(refused(window="2026-09", exclude=exclude)[0])
    with pytest.raises(QueryError, match="not:empty: 'idempotency_key' is not one of"):
        Period.from_params("window=2026-09&not:empty=idempotency_key")


def refused(**given: Any) -> tuple[Fault, ...]:
    """The faults of a period that is refused."""
    with pytest.raises(QueryError) as caught:
        Period(**given)
    return caught.value.faults


def test_a_period_is_finalized_after_it_began() -> None:
    with pytest.raises(QueryError, match="finalized_at: is not after since"):
        Period(since="2026-09-01T00:00:00Z", until="2026-10-01T00:00:00Z", finalized_at="2026-09-01T00:00:00Z")
    with pytest.raises(QueryError, match="finalized_at"):
        Period(window="last_month", finalized_at="2026-01-01T00:00:00Z").resolve(datetime(2026, 9, 15, tzinfo=UTC))
    assert Period(window="last_month", finalized_at="2026-09-02T00:00:00Z").resolve(datetime(2026, 9, 15, tzinfo=UTC))


def test_pinning_fixes_window_and_knowledge() -> None:
    live = AggregateQuery(since="-1d", organization_id=UUID(int=1))
    pinned = live.pin(NOW, timedelta(minutes=5))
    assert pinned.span == (NOW - timedelta(days=1), NOW)
    assert pinned.as_of == NOW - timedelta(minutes=5)
    assert pinned.pin(utc(2027, 1, 1), timedelta(minutes=5)) == pinned
    unsettled = live.replace(as_of=NOW + timedelta(days=1))
    assert unsettled.pin(NOW, timedelta(minutes=5)) == pinned
    assert EventQuery(limit=7).pin(NOW, timedelta(minutes=5)) == EventQuery(limit=7, as_of=pinned.as_of)
    last = NOW - timedelta(hours=3)
    for as_of in (None, NOW - timedelta(hours=1)):
        assert live.replace(as_of=as_of).pin(NOW, timedelta(minutes=5), last).as_of == last
    assert live.replace(as_of=last - timedelta(hours=1)).pin(NOW, timedelta(minutes=5), last).as_of < last


def test_pinning_a_period_leaves_to_the_clock_whether_it_is_over() -> None:
    settle, last = timedelta(minutes=5), NOW - timedelta(hours=3)
    over = Period(since=NOW - timedelta(days=9), until=last)
    assert over.pin(NOW, settle, last).as_of == last
    assert over.replace(until=last + timedelta(hours=1)).pin(NOW, settle, last).as_of == NOW - settle
    assert over.replace(as_of=NOW - timedelta(hours=1)).pin(NOW, settle, last).as_of == NOW - timedelta(hours=1)
