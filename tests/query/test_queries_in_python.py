"""How questions are written in Python: dates, lists, dimensions, links; what help, completion and hints say."""

from __future__ import annotations

import copy
import pickle
import pydoc
import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from IPython.core.completer import IPCompleter, provisionalcompleter

from support.query_oracle import utc
from support.thoroughness import cases
from usage_explore import AggregateQuery, EventQuery, Period, QueryError, describe
from usage_explore.app.page_state import EventsView, ExploreView, ValidateView
from usage_explore.query.base import Query
from usage_explore.results.types import Choice

MODELS: tuple[type[Query], ...] = (AggregateQuery, EventQuery, Period)
BERLIN = utc(2026, 9, 30, 22)
"""When 1 October 2026 begins in Berlin."""


@pytest.mark.parametrize(
    "day",
    [
        date(2026, 10, 1),
        "2026-10-01",
        pd.Timestamp("2026-10-01"),
        pd.Timestamp("2026-10-01", tz="Europe/Berlin"),
        pd.Period("2026-10"),
        pd.Period("2026-10-01", freq="D"),
        pd.Period("2026Q4"),
    ],
    ids=repr,
)
def test_a_date_is_the_local_midnight_of_a_window(day: Any) -> None:
    for model in (AggregateQuery, Period):
        assert model(since=day, until="2026-10-02", timezone="Europe/Berlin").span == (BERLIN, utc(2026, 10, 1, 22))
        assert model(since="2026-09-01", until=day, timezone="Europe/Berlin").until == BERLIN
    query = AggregateQuery(timezone="Europe/Berlin").replace(since=day, until=pd.Period("2026-11"))
    assert describe(query) == "Events per day, 1–31 Oct 2026, Europe/Berlin"


def test_a_midnight_that_does_not_exist_or_happens_twice_is_where_its_bucket_begins() -> None:
    assert AggregateQuery(since="2026-03-08", timezone="America/Havana").since == utc(2026, 3, 8, 5)
    assert AggregateQuery(since="2026-11-01", timezone="America/Havana").since == utc(2026, 11, 1, 4)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (pd.NaT, "NaT is not a time"),
        (pd.Timestamp("2026-10-01 09:30"), "has no time zone"),
        (datetime(2026, 10, 1), "has no time zone"),  # noqa: DTZ001
        (pd.Period("2026-10-01 05:00", freq="h"), "is not text such as"),
        (np.datetime64("2026-10-01"), "is not text such as"),
        (date(1969, 12, 31), "is not text such as"),
        ("2026-02-30", "is not RFC 3339"),
        ("1969-12-31", "is not RFC 3339"),
        (20261001, "is not text such as"),
    ],
    ids=str,
)
def test_what_is_no_date_is_refused_in_words(value: Any, said: str) -> None:
    for name in ("since", "until"):
        with pytest.raises(QueryError, match=f"^{name}: .*{said}"):
            AggregateQuery(**{name: value}, timezone="Europe/Berlin")


@pytest.mark.parametrize("name", ["occurred_after", "occurred_before", "as_of"])
@pytest.mark.parametrize(
    "day", [date(2026, 10, 1), "2026-10-01", pd.Timestamp("2026-10-01"), pd.Period("2026-10"), pd.NaT]
)
def test_events_have_no_time_zone_so_a_date_alone_is_refused(name: str, day: Any) -> None:
    with pytest.raises(QueryError, match=f"^{name}: "):
        EventQuery(**{name: day})
    assert EventQuery(**{name: pd.Timestamp("2026-10-01", tz="Europe/Berlin")}).given() == {name: BERLIN}


@pytest.mark.parametrize("name", ["since", "until"])
def test_a_link_still_needs_the_offset(name: str) -> None:
    for model in (AggregateQuery, Period):
        for given_ in (f"{name}=2026-10-01&timezone=Europe/Berlin", {name: "2026-10-01"}, {name: date(2026, 10, 1)}):
            with pytest.raises(
                QueryError, match=f"^{name}: '2026-10-01' is not RFC 3339: it has no time and no offset"
            ):
                model.from_params(given_)


def test_a_dimension_may_be_named_as_in_a_link() -> None:
    plain = EventQuery(dimensions={"model": "large"}, exclude={"metric_key": "tests", "missing": "dim:model"})
    assert (
        EventQuery(dimensions={"dim:model": "large"}, exclude={"not:metric_key": "tests", "not:missing": "dim:model"})
        == plain
    )
    assert EventQuery(dimensions=[("dim:model", ["large"])], exclude=plain.exclude) == plain
    with pytest.raises(QueryError, match="dim:model: is given twice, as model and with dim:"):
        EventQuery(dimensions={"model": "large", "dim:model": "small"})
    with pytest.raises(QueryError, match="dim:: names no dimension"):
        EventQuery(dimensions={"dim:": "large"})


KEYS = st.one_of(
    st.sampled_from(["model", "dim:model", "dim:dim:model", "dim:dim:", "not:model", "dim"]), st.text(min_size=1)
)


@settings(max_examples=cases(60), deadline=None)
@given(st.dictionaries(KEYS, st.text(), min_size=1, max_size=4), KEYS)
def test_each_key_is_one_dimension_however_it_is_carried(filters: dict[str, str], key: str) -> None:
    """A link names every dimension; the question is the same from its repr, its JSON, a pickle and a copy."""
    pairs = [(f"dim:{name}", value) for name, value in filters.items()]
    try:
        query = AggregateQuery.from_params([*pairs, ("group_by", f"dim:{key}")])
    except QueryError:
        return
    assert sorted(query.to_params()) == sorted([*pairs, ("group_by", f"dim:{key}")])
    assert AggregateQuery(**query.given()) == query
    assert AggregateQuery(dimensions=dict(query.dimensions), group_by=query.group_by) == query
    assert AggregateQuery(dimensions=dict(pairs), group_by=query.group_by) == query
    assert eval(repr(query)) == query
    assert AggregateQuery.model_validate_json(query.model_dump_json()) == query
    assert AggregateQuery.model_validate(query.model_dump()) == query
    assert pickle.loads(pickle.dumps(query)) == query
    assert copy.deepcopy(query) == query.model_copy() == query


@pytest.mark.parametrize(
    "query",
    [
        AggregateQuery(),
        EventQuery(),
        Period(window="last_month", finalized_at=datetime(2026, 10, 2, tzinfo=UTC)),
        AggregateQuery(
            metric_key=["a,b", "c\\d"], dimensions={"m": ["", "x"]}, missing="dim:r", exclude={"dim:m": "z"}
        ),
        AggregateQuery(since="-7d/d", top=0, group_by="dim:model", as_of="2026-10-01T00:00:00.000001Z"),
        EventQuery(
            limit=7, customer_id="0a7f3c52-5f0e-4c57-9a35-8d1f2f0c6b11", occurred_after=datetime(2026, 1, 1, tzinfo=UTC)
        ),
    ],
)
def test_json_reads_what_it_wrote(query: Query) -> None:
    assert type(query).model_validate_json(query.model_dump_json()) == query
    assert type(query)(**query.model_dump()) == query


def test_pydantics_copy_checks_what_it_is_given() -> None:
    assert EventQuery().model_copy(update={"metric_key": "b"}) == EventQuery(metric_key="b")
    with pytest.raises(QueryError, match="limit"):
        EventQuery().model_copy(update={"limit": 1_000_000})


CHOSEN = "Choice(value='x', events=5) is not text; take its .value"
HINTS = {
    "EventQuery(since='-7d')": "since: unknown parameter, did you mean occurred_after?",
    "EventQuery(until='now')": "until: unknown parameter, did you mean occurred_before?",
    "EventQuery.from_params('since=-7d')": "since: unknown parameter, did you mean occurred_after?",
    "AggregateQuery(occurred_after='x')": "occurred_after: unknown parameter, did you mean since?",
    "AggregateQuery(tz='UTC')": "tz: unknown parameter, did you mean timezone?",
    "AggregateQuery(region='x')": "region: unknown parameter; for a dimension write dimensions={'region': …}",
    "AggregateQuery(**{'dim:m': 'x'})": "dim:m: unknown parameter, did you mean dimensions={'m': …}?",
    "AggregateQuery(**{'not:dim:m': 'x'})": "not:dim:m: unknown parameter, did you mean exclude={'dim:m': …}?",
    "AggregateQuery(compare=('2026-01-01',))": "compare: ('2026-01-01',) is not previous, year or two times",
    "EventQuery.from_params('region=x')": "region: unknown parameter; for a dimension write dim:region=…",
    "AggregateQuery(group_by='model')": "; for a dimension write dim:model",
    "AggregateQuery(missing='region')": "; for a dimension write dim:region",
    "AggregateQuery(exclude={'m': 'x'})": "not:m: unknown parameter; for a dimension write not:dim:m",
    "AggregateQuery(exclude=['metric_key'])": 'exclude: is not a mapping such as {"dim:model": ["large"]}',
    "AggregateQuery(dimensions=['model'])": 'dimensions: is not a mapping such as {"model": ["large"]}',
    "AggregateQuery(limit=10)": "limit: unknown parameter; it belongs to events (EventQuery)",
    "EventQuery(group_by='dim:model')": "group_by: unknown parameter; it belongs to aggregates (AggregateQuery)",
    "EventQuery(timezone='UTC')": "timezone: unknown parameter; it belongs to aggregates (AggregateQuery)",
    "EventQuery(metric='count')": "metric: unknown parameter; it belongs to aggregates (AggregateQuery)",
    "AggregateQuery(finalized_at='x')": "finalized_at: unknown parameter; it belongs to billing periods (Period)",
    "EventQuery.from_params({'group_by': 'x'})": "group_by: unknown parameter; it belongs to aggregates",
    "EventQuery(metric_key=Choice('x', 5))": f"metric_key: {CHOSEN}",
    "EventQuery(metric_key=[Choice('x', 5)])": f"metric_key: {CHOSEN}",
    "EventQuery(customer_id=Choice('x', 5))": f"customer_id: {CHOSEN}",
    "EventQuery(dimensions={'m': Choice('x', 5)})": f"dim:m: {CHOSEN}",
    "AggregateQuery(group_by=Choice('x', 5))": f"group_by: {CHOSEN}",
    "EventQuery.from_params({'metric_key': Choice('x', 5)})": "metric_key: Choice(value='x', events=5) is not text",
    "EventQuery(dimensions={'m': [pd.NA]})": "dim:m: <NA> is not text",
}


@pytest.mark.parametrize("made", HINTS)
def test_a_wrong_name_gets_the_right_one(made: str) -> None:
    with pytest.raises(QueryError, match=re.escape(HINTS[made])):
        eval(made, {"Choice": Choice, "pd": pd, "EventQuery": EventQuery, "AggregateQuery": AggregateQuery})


def test_a_link_of_another_question_says_which_once() -> None:
    links = list(LINKS)
    for kind, other, page, link in (
        (EventQuery, "AggregateQuery", "Explore", links[0]),
        (EventQuery, "Period", "Validate", links[2] + "&finalized_at=2026-10-02T09:00:00Z"),
        (AggregateQuery, "EventQuery", "Events", links[1] + "&limit=5"),
    ):
        with pytest.raises(QueryError) as refused:
            kind.from_params(link)
        assert len(refused.value.faults) == 1
        assert f"of {kind.__name__}; this is a link of {page}, use {other}.from_params" in str(refused.value)


LINKS = {
    "http://127.0.0.1:8501/?group_by=dim%3Amodel&since=-7d&chart=lines&series=value:large"
    "&span=2026-09-01T00:00:00Z/2026-09-02T00:00:00Z": AggregateQuery(group_by="dim:model", since="-7d"),
    "https://usage.example.com/app/events?metric_key=tokens_in&timezone=Europe/Berlin"
    "&event=2026-09-01T00:00:00Z/0a7f3c52-5f0e-4c57-9a35-8d1f2f0c6b11": EventQuery(metric_key="tokens_in"),
    "/validate?window=last_month&severity=high&check=wallets&about_customer=0a7f3c52-5f0e-4c57-9a35-8d1f2f0c6b11"
    "&about_metric=&finding=0123456789ab": Period(window="last_month"),
}


@pytest.mark.parametrize("link", LINKS)
def test_a_whole_link_of_the_app_is_the_question_it_shows(link: str) -> None:
    query = LINKS[link]
    assert type(query).from_params(link) == query
    assert type(query).from_params(link.partition("?")[2]) == query
    with pytest.raises(QueryError, match="chrt: unknown parameter"):
        type(query).from_params(f"{link}&chrt=lines")


@pytest.mark.parametrize(
    ("view", "model"), [(ExploreView, AggregateQuery), (EventsView, EventQuery), (ValidateView, Period)]
)
def test_what_a_question_leaves_out_is_what_its_page_declares(view: Any, model: type[Query]) -> None:
    for name in model.VIEW:
        with pytest.raises(QueryError) as refused:
            view.from_params(((name, "\0"),))
        assert str(refused.value).startswith(f"{name}: ")
        assert "unknown parameter" not in str(refused.value)
    for other in {name for each in MODELS for name in each.VIEW} - {*model.VIEW, *model.model_fields}:
        with pytest.raises(QueryError, match="unknown parameter"):
            view.from_params(((other, "x"),))


@pytest.mark.parametrize("model", MODELS)
def test_help_fits_two_screens_and_says_nothing_of_pydantic(model: type[Query]) -> None:
    shown = pydoc.plain(pydoc.render_doc(model))
    assert len(shown.splitlines()) <= 130
    assert max(map(len, shown.splitlines()[5:])) <= 140
    assert "model_dump" not in shown
    for name in model.model_fields:
        assert re.search(rf"^ \|      {name}: \S", shown, re.MULTILINE), name
    for link_only in ("=<value>", "repeatable", "comma-separated", "&"):
        assert link_only not in shown


@pytest.mark.parametrize("query", [model() for model in MODELS], ids=lambda query: type(query).__name__)
@pytest.mark.parametrize("use_jedi", [True, False])
def test_completion_lists_our_names(query: Query, use_jedi: bool) -> None:
    for space in ({"x": query}, {"x": type(query)}):
        completer = IPCompleter(namespace=space, use_jedi=use_jedi)
        with provisionalcompleter():
            listed = [each.text.lstrip(".") for each in completer.completions("x.", 2)]
        own = {"replace", "from_params", "to_params", *(type(query).model_fields if space["x"] is query else ())}
        assert own <= set(listed)
        assert not [
            name for name in listed if name.startswith("model_") or name in ("json", "dict", "schema", "construct")
        ]


def test_what_help_shows_can_be_written() -> None:
    """Every mapping and every quoted value in the words about a parameter is a value of it."""
    tried = 0
    for model in MODELS:
        for name, words in re.findall(r"^    (\w+): (.*(?:\n        .*)*)", model.__doc__ or "", re.MULTILINE):
            for text in re.findall(r"\{.*?\}|\"[^\"]+\"", re.sub(r"\s+", " ", words)):
                assert text == '"-30d"' or name in model(**{name: eval(text)}).given()
                tried += 1
    assert tried > 10


ROOT = Path(__file__).parents[2]
CALLS = re.compile(r"`((?:AggregateQuery|EventQuery|Period)\([^`]*\))`")


def test_every_question_in_the_documents_can_be_asked() -> None:
    texts = [*(ROOT / "src").rglob("*.py"), *ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    found = [call for path in texts for call in CALLS.findall(path.read_text()) if "=…" not in call]
    assert len(found) >= 3
    for call in found:
        assert isinstance(eval(call), Query), call


@pytest.mark.parametrize("name", ["metric_key", "price_key", "wallet_currency"])
def test_the_error_of_a_blank_text_names_the_list_that_holds_it(name: str) -> None:
    for values in ({name: ""}, {"exclude": {name: ""}}):
        with pytest.raises(
            QueryError, match=r'is blank; give a value, leave the parameter out, or write \[""\] for the'
        ):
            EventQuery(**values)
    assert getattr(EventQuery(**{name: [""]}), name) == ("",)


@pytest.mark.parametrize("bound", ["0.0000001", "100000000000000000000000000", "-0.5", "0"])
def test_a_bound_of_quantities_is_written_without_an_exponent(bound: str) -> None:
    query = AggregateQuery(quantity_min=bound, quantity_max=bound)
    assert f"quantity_min='{bound}'" in repr(query)
    assert eval(repr(query)) == query
    assert AggregateQuery.model_validate_json(query.model_dump_json()) == query


def test_a_compared_period_may_be_dates_at_midnight_of_the_zone() -> None:
    query = AggregateQuery(compare=("2026-01-01", date(2026, 2, 1)), timezone="Europe/Berlin")
    assert query.compare == "2025-12-31T23:00:00Z/2026-01-31T23:00:00Z"
