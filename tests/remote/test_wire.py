"""Results survive being sent: whatever JSON an event's dimensions hold, whatever a sheet's columns are."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import generated_events
from usage_explore import AggregateQuery, EventQuery, LeaderboardQuery, Period
from usage_explore.errors import ConfigurationError
from usage_explore.remote import wire
from usage_explore.results.types import Choice, Event, Hit, Ratio

scalars = st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False) | st.text(max_size=5)
values: Any = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["$", "d", "t", "x"]), inner, max_size=3)
    ),
    max_leaves=10,
)


def sent(value: object) -> Any:
    return wire.loads(wire.dumps(value))


@given(st.dictionaries(st.text(max_size=3) | st.sampled_from(["$", "d", "dict"]), values, max_size=4))
def test_any_dimensions_come_back_with_their_types(dimensions: dict[str, Any]) -> None:
    row = generated_events.generate(per_scene=1)[0]
    fields = {field.name: getattr(row, field.name, None) for field in dataclasses.fields(Event)}
    event = Event(**{**fields, "dimensions": dimensions})
    found = sent(event)
    assert found == event
    assert repr(found.dimensions) == repr(dimensions)  # 1, 1.0, Decimal(1) and True are equal, but not the same
    assert repr(found) == repr(event)


@given(
    st.decimals(allow_nan=False)
    | st.datetimes(timezones=st.just(UTC)).map(lambda instant: instant.replace(fold=0))
    | st.timedeltas()
    | st.uuids()
    | st.floats(allow_nan=False)
)
def test_values_come_back_exactly(value: Any) -> None:
    found = sent((value, [value], {value: value}, frozenset([value])))
    assert found == (value, [value], {value: value}, frozenset([value]))
    assert repr(found[0]) == repr(value)


@pytest.mark.parametrize(
    "query",
    [
        AggregateQuery(),
        AggregateQuery(
            metric_key=["a,b", "back\\slash", ""], dimensions={"dim:x": ["", "1"]}, exclude={"price_key": [""]}
        ),
        EventQuery(quantity_min=Decimal("1E-7"), cursor="x"),
        LeaderboardQuery(window="2026-09", top=50),
        Period(since="-3d/d", finalized_at="2026-10-02T09:00:00Z"),
    ],
)
def test_queries_come_back_equal(query: Any) -> None:
    assert sent(query) == query
    assert type(sent(query)) is type(query)


def test_named_tuples_keep_their_class_and_name() -> None:
    choice = sent(Choice("a", 3, "Acme"))
    assert (type(choice), choice, choice.name) == (Choice, ("a", 3), "Acme")
    assert type(sent(Ratio(Decimal(1), Decimal(2)))) is Ratio


def test_sheets_keep_columns_types_and_gaps() -> None:
    frame = pd.DataFrame(
        {
            "customer_id": pd.Series(["a", None], dtype="str"),
            "quantity": pd.Series([Decimal("1.50"), None], dtype="object"),
            "events": pd.Series([1, 2], dtype="int64"),
            "maybe": pd.Series([1, None], dtype="Int64"),
            "start": pd.Series([datetime(2026, 9, 1, tzinfo=UTC), pd.NaT]).astype("datetime64[us, Europe/Berlin]"),
            "share": pd.Series([0.1, float("nan")], dtype="float64"),
            "is": pd.Series([True, False], dtype="bool"),
            "took": pd.Series([timedelta(microseconds=5), pd.NaT], dtype="timedelta64[us]"),
        }
    )
    pd.testing.assert_frame_equal(sent(frame), frame)
    pd.testing.assert_frame_equal(sent(frame.iloc[:0]), frame.iloc[:0])


def test_what_is_not_a_result_is_neither_sent_nor_built() -> None:
    with pytest.raises(TypeError, match="PurePosixPath is not sent"):
        wire.dumps(__import__("pathlib").PurePosixPath("/"))
    for result in ({"$": "Popen", "args": "ls"}, {"$": "Check", "name": "x"}, {"x": 1, "y": 2}, {"d": "x"}):
        with pytest.raises(ConfigurationError, match="install the same version"):
            wire.loads(json.dumps({"version": "9.9", "result": result}).encode())
    assert sent(Hit("id", "1", 2)) == Hit("id", "1", 2)


def test_a_web_page_is_no_answer_of_the_api() -> None:
    with pytest.raises(ConfigurationError, match="a web page is at this address, not the API"):
        wire.loads(b"\n<!DOCTYPE html><title>Elsewhere</title>")
