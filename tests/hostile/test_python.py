"""Any value of any kind in any parameter, from Python: the right answer or an error that names the parameter."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import generated_events, hostile_values, query_oracle
from support.query_oracle import Row
from support.query_parameters import MODELS, answered, faults_of, fit_to_print, names, told
from usage_explore import (
    AggregateQuery,
    EventQuery,
    Period,
    QueryError,
    Store,
    UsageExploreError,
    charts,
    connect,
    describe,
)
from usage_explore.query.base import Query

FILTERS = ("metric_key", "price_key", "wallet_currency", "dim:model")


class Rude:
    """Nothing about it works."""

    def __repr__(self) -> str:
        raise RuntimeError("\x1b[31mno\r\n")


class Sly:
    def __repr__(self) -> str:
        return "\x1b[31m\u202e" + "x" * 10_000


def _knot() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


STRANGE: list[Any] = [
    *(0, -1, 5, 10**5000, True, False, 1.5, float("nan"), float("inf"), 1j, Decimal("NaN"), Decimal("1e400")),
    *(b"", b"tokens_in", bytearray(b"x"), [], (), {}, set(), [[]], [None], {"model": None}, {"model": []}, {5: 5}),
    *([""], ["a", 5], {"": "x"}, {"\0": "x"}, {"model": "x" * 70_000}, {"x" * 1_001: "x"}, _knot(), {"a": _knot()}),
    *(object(), Rude(), Sly(), Rude, print, ..., range(3), iter([1]), {"missing": "dim:"}),
    *(datetime(2026, 1, 1), date(2026, 1, 1), time(1), timedelta(1), datetime.max, datetime.min),  # noqa: DTZ001, DTZ901
    *(UUID(int=0), Path("x"), np.int64(5), np.str_("x"), np.array([1]), pd.NaT, pd.Timestamp("2026-01-01"), pd.NA),
    *("\ud800", ["\udcff"], {"\ud800": "x"}, "\0", "x" * 70_000),
]


@pytest.mark.parametrize("model", MODELS)
def test_strings_in_every_parameter(model: type[Query]) -> None:
    for text in hostile_values.ALL:
        for name in names(model):
            found = faults_of(model, [(name, text)])
            assert set(found) <= {name, "since", "until"}, (name, text[:50])
            if not found:
                question = model.from_params([(name, text)])
                assert model.from_params(question.to_params()) == question
                assert eval(repr(question)) == question
                assert len(describe(question)) < 1_000 + 4 * len(name)


@pytest.mark.parametrize("model", MODELS)
def test_strings_as_names_raise_query_errors_alone(model: type[Query]) -> None:
    for text in hostile_values.ALL:
        for name in (text, f"dim:{text}", f"not:{text}", f"not:dim:{text}"):
            faults_of(model, [(name, "x")])
        for name in ("missing", "not:missing", "group_by"):
            faults_of(model, [(name, f"dim:{text}")])


@given(st.sampled_from(MODELS), st.data(), st.text(st.characters(), max_size=30))
def test_any_text(model: type[Query], data: st.DataObject, text: str) -> None:
    name = data.draw(st.sampled_from(names(model)))
    assert set(faults_of(model, [(name, text)])) <= {name, "since", "until"}
    faults_of(model, [(text, "x"), (f"dim:{text}", text), (f"not:{text}", text)])


@pytest.mark.parametrize("model", MODELS)
def test_things_that_are_no_values(model: type[Query]) -> None:
    for field in model.model_fields:
        for thing in STRANGE:
            try:
                question = model(**{field: thing})
            except QueryError as error:
                found = told(error)
                assert any(name.startswith((field, "dim:", "not:")) for name in found), (field, found)
            else:
                assert hash(question) == hash(model(**question.given()))
                assert model.from_params(question.to_params()) == question


def test_things_that_are_no_parameters_raise_query_errors_alone() -> None:
    for thing in [*STRANGE, "x" * 70_000, "&".join(["a=b"] * 2_000), "%ff", "%00=%00", "\ud800=x"]:
        for given_ in (thing, [thing], [(thing, thing)], {"metric_key": thing}, {"metric_key": [thing]}):
            for model in MODELS:
                try:
                    model.from_params(given_)
                except QueryError as error:
                    told(error)


def test_a_valid_string_finds_what_plain_python_finds(store: Store, own: list[Row]) -> None:
    """Injection shapes, controls and marks are values like any other, whatever they look like."""
    for name in FILTERS:
        found = Counter(query_oracle.group_text(row, name) for row in own)
        for text in hostile_values.ENCODABLE:
            value = text.replace("\\", "\\\\").replace(",", "\\,") if name == "metric_key" else text
            if not faults_of(EventQuery, [(name, value)]):
                assert store.count(EventQuery.from_params([(name, value)])) == found[text], (name, text[:50])


def test_a_dimension_may_be_called_anything(store: Store, own: list[Row]) -> None:
    for text in hostile_values.ENCODABLE:
        if not faults_of(EventQuery, [("missing", f"dim:{text}")]):
            question = EventQuery.from_params([("missing", f"dim:{text}"), (f"not:dim:{text}", text)])
            assert store.count(question) == len(own)


def test_nothing_is_answered_for_others(store: Store) -> None:
    for organization in (generated_events.NEIGHBOUR, UUID(int=0), UUID(int=2**128 - 1)):
        for model in MODELS:
            assert answered(store, model, [("organization_id", str(organization))]) is None


def _calls(store: Store) -> dict[str, Callable[[Any], Any]]:
    page = store.events(EventQuery(limit=1))
    answer = store.aggregate(AggregateQuery(since="2026-05-01T00:00:00Z", until="2026-05-09T00:00:00Z"))
    moment = datetime.fromisoformat("2026-05-05T00:00:00Z")
    asked, period = AggregateQuery(since=moment, until="2026-05-07T00:00:00Z"), Period(window="last_month")
    checked = store.validate(period, checks=["quantities"])
    return {
        "connect url": lambda thing: connect(thing).close(),
        "connect organization": lambda thing: connect("postgresql://x/y", thing).close(),
        "connect table": lambda thing: connect("postgresql://x/y", table=thing).close(),
        "connect home": lambda thing: connect("postgresql://x/y", home=thing).close(),
        "connect timeout": lambda thing: connect("postgresql://x/y", statement_timeout=thing).close(),
        "describe": describe,
        "scoped": store.scoped,
        "restricted": store.restricted,
        "signed": store.signed,
        "events": store.events,
        "events_before": store.events_before,
        "count": store.count,
        "extent": store.extent,
        "aggregate": store.aggregate,
        "leaderboards": store.leaderboards,
        "leaderboards top": lambda thing: store.leaderboards(asked, thing),
        "read": store.read,
        "explain": store.explain,
        "explain bucket": lambda thing: store.explain(asked, thing),
        "explain since": lambda thing: store.explain(asked, since=thing),
        "explain expected": lambda thing: store.explain(asked, expected=thing),
        "explain baseline": lambda thing: store.explain(asked, baseline=thing),
        "validate": lambda thing: store.validate(thing, checks=["quantities"]),
        "validate checks": lambda thing: store.validate(period, checks=thing),
        "validate invoices": lambda thing: store.validate(period, checks=["reconciliation"], invoices=thing),
        "validate wallets": lambda thing: store.validate(period, checks=["wallets"], wallets=thing),
        "validate prices": lambda thing: store.validate(period, checks=["unpriced"], prices=thing),
        "rate": lambda thing: store.rate(thing, prices=[{"metric_key": "a", "unit_amount": 1, "currency": "USD"}]),
        "rate prices": lambda thing: store.rate(period, prices=thing),
        "rate price": lambda thing: store.rate(period, prices=[{"metric_key": thing, "unit_amount": 1}, thing]),
        "rate tiers": lambda thing: store.rate(period, prices=[{"metric_key": "a", "model": "volume", "tiers": thing}]),
        "rate amount": lambda thing: store.rate(period, prices=[{"metric_key": "a", "unit_amount": thing}]),
        "unknown_texts": lambda thing: store.unknown_texts(prices=thing),
        "unknown_texts wallets": lambda thing: store.unknown_texts(wallets=thing),
        "rate wallets": lambda thing: store.rate(period, wallets=thing),
        "export question": lambda thing: store.export(thing, "never.csv", progress=False),
        "export path": lambda thing: store.export(EventQuery(limit=1), thing, progress=False),
        "export_csv": lambda thing: next(store.export_csv(thing)),
        "events_csv": store.events_csv,
        "sql": store.sql,
        "metric_keys": store.metric_keys,
        "dimension_keys": store.dimension_keys,
        "dimension_values": store.dimension_values,
        "dimension_values most": lambda thing: store.dimension_values("model", most=thing),
        "customers": store.customers,
        "names": store.names,
        "search_names": store.search_names,
        "search_names kind": lambda thing: store.search_names("a", thing),
        "search_names most": lambda thing: store.search_names("a", most=thing),
        "values": store.values,
        "values within": lambda thing: store.values("metric_key", thing),
        "values timeout": lambda thing: store.values("metric_key", timeout=thing),
        "currencies": store.currencies,
        "search": store.search,
        "search within": lambda thing: store.search("a", thing),
        "runs within": lambda thing: store.runs(within=thing),
        "runs since": lambda thing: store.runs(within=(thing, moment)),
        "closest_run": store.closest_run,
        "closest_run filters": lambda thing: store.closest_run((moment, moment), thing),
        "compared_runs": lambda thing: store.compared_runs(thing, (moment, moment)),
        "compared_runs within": lambda thing: store.compared_runs("", thing),
        "runs period": lambda thing: store.runs(period=thing),
        "runs most": lambda thing: store.runs(most=thing),
        "search most": lambda thing: store.search("a", most=thing),
        "organization_name": store.organization_name,
        "duplicate_pairs": lambda thing: store.duplicate_pairs(thing, thing),
        "save_view": lambda thing: store.save_view(thing, asked),
        "save_view query": lambda thing: store.save_view("a", thing),
        "save_view note": lambda thing: store.save_view("a", asked, thing),
        "save_view author": lambda thing: store.save_view("a", asked, author=thing),
        "save_view display": lambda thing: store.save_view("a", asked, display=thing),
        "change_view": lambda thing: store.change_view(thing, name="b"),
        "delete_view": store.delete_view,
        "restore_view": store.restore_view,
        "frequent_values": store.frequent_values,
        "count_frequent": lambda thing: store.count_frequent(thing, "metric_key"),
        "count_frequent group": lambda thing: store.count_frequent(None, thing),
        "export_arrow": lambda thing: next(iter(store.export_arrow(thing))),
        "review": store.review,
        "keep_run": store.keep_run,
        "decide": lambda thing: store.decide(thing, "acknowledge"),
        "decide action": lambda thing: store.decide("0123456789ab", thing),
        "decide by": lambda thing: store.decide("0123456789ab", "acknowledge", by=thing),
        "decide note": lambda thing: store.decide("0123456789ab", "note", note=thing),
        "decide until": lambda thing: store.decide("0123456789ab", "mute", until=thing),
        "decide assignee": lambda thing: store.decide("0123456789ab", "assign", assignee=thing),
        "decide_all": lambda thing: store.decide_all(thing, "acknowledge"),
        "decide_all finding": lambda thing: store.decide_all([thing], "acknowledge"),
        "decisions": store.decisions,
        "sign_off": lambda thing: store.sign_off(thing, by="a"),
        "sign_off by": lambda thing: store.sign_off(checked, by=thing),
        "sign_off note": lambda thing: store.sign_off(checked, by="a", note=thing),
        "sign_off rating": lambda thing: store.sign_off(checked, by="a", rating=thing),
        "changes_since": store.changes_since,
        "share": store.share,
        "link": store.link,
        "link_opened": store.link_opened,
        "revoke_link": store.revoke_link,
        "headline": store.headline,
        "events_at": answer.events_at,
        "events_at start": lambda thing: answer.events_at(answer.series[0], thing),
        "events_at end": lambda thing: answer.events_at(answer.series[0], moment, thing),
        "chart": lambda thing: answer.chart(kind=thing),
        "chart colors": lambda thing: answer.chart(colors=thing),
        "chart colors value": lambda thing: answer.chart(colors={answer.series[0].label: thing}),
        "chart names": lambda thing: answer.chart(names=thing),
        "mark": lambda thing: charts.mark(thing, "x"),
        "mark text": lambda thing: charts.mark(moment, thing),
        "first_event": store.first_event,
        "compare": store.compare,
        "resolve": page.query.resolve,
        "resolve relative": AggregateQuery().resolve,
        "is_settled": store.is_settled,
        "pin": lambda thing: AggregateQuery().pin(thing, timedelta(minutes=5)),
        "pin settle": lambda thing: AggregateQuery().pin(moment, thing),
        "from_params": EventQuery.from_params,
    }


def test_every_public_function_refuses_in_words(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("USAGE_EXPLORE_DATABASE_URL", "postgresql://127.0.0.1:1/nowhere")
    said = []
    wrong = [AggregateQuery(bucket="week"), EventQuery(limit=2), Query()]
    for name, call in _calls(store).items():
        for thing in [*STRANGE, *wrong, *hostile_values.WORST, "a\0b.csv", "\ud800.csv"]:
            try:
                call(thing)
            except UsageExploreError as error:
                said.append(str(error))
            except Exception as error:
                error.add_note(f"{name}({thing if isinstance(thing, str) else type(thing)})")
                raise
    assert [line for text in said for line in text.split("\n") if not fit_to_print(line)] == []
    assert {path.name for path in tmp_path.iterdir()} <= {"never.csv"}


def test_the_functions_tried_are_all_that_take_something() -> None:
    tried = {name.partition(" ")[0] for name in _calls.__code__.co_consts if isinstance(name, str)}
    tried |= {word for names_ in _calls.__code__.co_consts if isinstance(names_, tuple) for word in map(str, names_)}
    tried = {word.partition(" ")[0] for word in tried}
    public = {
        name
        for name, method in inspect.getmembers(Store, inspect.isfunction)
        if not name.startswith("_") and len(inspect.signature(method).parameters) > 1
    }
    assert public <= tried
