"""Every bound holds at every door and names the parameter; every answer's drill-down stays within them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charts.test_charts import answer
from support.query_oracle import utc
from usage_explore import AggregateQuery, EventQuery, QueryError
from usage_explore.api import openapi
from usage_explore.api.openapi import DESCRIPTION
from usage_explore.errors import MAX_FAULTS
from usage_explore.query import limits
from usage_explore.query.url_params import query_string
from usage_explore.remote.operations import ChoiceQuery
from usage_explore.results.types import SeriesKind

MANY = [str(number) for number in range(limits.MAX_VALUES)]
UUIDS = [str(UUID(int=number)) for number in range(limits.MAX_VALUES)]
KEYS = [f"k{number}" for number in range(limits.MAX_DIMENSIONS)]


def fault(model: type[Any], **given: Any) -> tuple[str, str]:
    with pytest.raises(QueryError) as raised:
        model(**given)
    (found,) = raised.value.faults
    return found.parameter, found.message


@pytest.mark.parametrize(
    ("within", "beyond", "parameter"),
    [
        ({"metric_key": MANY}, {"metric_key": [*MANY, "x"]}, "metric_key"),
        ({"dimensions": {"m": MANY}}, {"dimensions": {"m": MANY}, "price_key": "x"}, "dim:m"),
        (
            {"exclude": {"customer_id": UUIDS}},
            {"exclude": {"customer_id": UUIDS}, "missing": "dim:m"},
            "not:customer_id",
        ),
        ({"dimensions": dict.fromkeys(KEYS, "x")}, {"dimensions": dict.fromkeys([*KEYS, "x"], "x")}, "dim:k0"),
        ({"missing": [f"dim:{key}" for key in KEYS]}, {"missing": [f"dim:{key}" for key in [*KEYS, "x"]]}, "missing"),
        ({"exclude": {"missing": [f"dim:{key}" for key in KEYS]}, "dimensions": dict.fromkeys(KEYS, "x")}, None, ""),
        ({"metric_key": "é" * 32_768}, {"metric_key": "é" * 32_769}, "metric_key"),
        ({"dimensions": {"k" * 1_000: "x"}}, {"dimensions": {"k" * 1_001: "x"}}, "dim:" + "k" * 55 + "…"),
        ({"cursor": "x" * 65_536}, {"cursor": "x" * 65_537}, "cursor"),
    ],
)
@pytest.mark.parametrize("model", [EventQuery, AggregateQuery])
def test_a_question_is_bounded(
    model: type[Any], within: dict[str, Any], beyond: dict[str, Any] | None, parameter: str
) -> None:
    if "cursor" in within and model is AggregateQuery:
        return
    assert model.from_params(model(**within).to_params()) == model(**within)
    if beyond:
        name, message = fault(model, **beyond)
        assert name == parameter
        assert "more than" in message


def test_top_and_group_by_count_with_the_filters() -> None:
    assert AggregateQuery(group_by="dim:m", top=1_000)
    assert AggregateQuery(group_by="dim:m", top=990, metric_key=MANY[:10])
    assert fault(AggregateQuery, group_by="dim:m", top=991, metric_key=MANY[:10])[0] == "top"
    assert AggregateQuery(group_by="dim:m", top=0, metric_key=MANY[:-1])
    for top in (0, 1):
        assert fault(AggregateQuery, group_by="dim:m", top=top, metric_key=MANY)[0] == "metric_key"
    assert fault(AggregateQuery, top=1_001)[0] == "top"
    assert AggregateQuery(group_by="dim:k0", dimensions=dict.fromkeys(KEYS, "x"))
    assert fault(AggregateQuery, group_by="dim:x", dimensions=dict.fromkeys(KEYS, "x"))[0] == "group_by"


def test_a_query_string_is_bounded() -> None:
    for text, said in (
        ("metric_key=" + "x" * limits.MAX_QUERY_STRING_BYTES, "65,5"),
        ("&".join(["a"] * (limits.MAX_PARAMETERS + 1)), "1,101 parameters"),
    ):
        with pytest.raises(QueryError, match=f"query string: has .*{said}"):
            EventQuery.from_params(text)


def test_faults_are_bounded_and_counted() -> None:
    with pytest.raises(QueryError) as raised:
        EventQuery.from_params("&".join(f"x{number}=1" for number in range(1_000)))
    assert len(raised.value.faults) == MAX_FAULTS
    assert "901 more faults" in raised.value.faults[-1].message


def test_the_largest_drill_fits_into_a_link() -> None:
    kinds: list[tuple[SeriesKind, str | None]] = [("value", key) for key in UUIDS]
    asked = answer([*kinds, ("other", None)], "2026-11-03T00:00:00Z", group_by="customer_id", top=1_000)
    behind = asked.events_at(asked.series[-1])
    assert len(query_string(behind.to_params())) <= limits.MAX_QUERY_STRING_BYTES
    assert EventQuery.from_params(behind.query_string()) == behind


names = st.sampled_from(
    ["metric_key", "price_key", "dim:k0", "dim:a", "not:metric_key", "not:dim:a", "missing", "not:missing"]
)


@given(
    st.dictionaries(names, st.integers(1, 400), max_size=5),
    st.integers(0, 1_000),
    st.sampled_from(["dim:a", "dim:new", "metric_key", "customer_id"]),
    st.integers(0, limits.MAX_DIMENSIONS),
    st.booleans(),
)
def test_the_rows_behind_any_series_can_be_asked_for(
    chosen: dict[str, int], top: int, group_by: str, keys: int, absent: bool
) -> None:
    pairs = [
        (name, f"dim:k{number % 50}" if "missing" in name else f"v{number}")
        for name, size in chosen.items()
        for number in range(size)
    ] + [(f"dim:k{number}", "x") for number in range(keys)]
    try:
        query = AggregateQuery.from_params([*pairs, ("group_by", group_by), ("top", str(top))])
    except QueryError:
        return
    kept = UUIDS[: (top or 3) - absent]
    series: list[tuple[SeriesKind, str | None]] = [("value", key) for key in kept]
    series += [("missing", None)] * absent + [("other", None)] * bool(top)
    small = answer(series, "2026-11-04T00:00:00Z", "2026-11-05T00:00:00Z", group_by=group_by)
    asked = replace(small, query=query.replace(since=utc(2026, 11, 4), until=utc(2026, 11, 5)))
    for each in {0, len(series) - 2, len(series) - 1} & set(range(len(series))):
        assert asked.events_at(asked.series[each])


def test_the_documents_state_every_limit() -> None:
    document = (Path(__file__).parents[2] / "docs" / "limits.md").read_text()
    stated = [value for name, value in vars(limits).items() if name.startswith("MAX_")]
    assert len(stated) >= 10
    for value in stated:
        assert f"{value:,}" in document, value
        assert f"{value:,}" in DESCRIPTION or value in (limits.MAX_TOP, limits.MAX_CHOICES, MAX_FAULTS)
    described = {each["name"]: each["schema"] for each in openapi.parameters(AggregateQuery)}
    assert described["top"]["maximum"] == limits.MAX_TOP
    described = {each["name"]: each["schema"] for each in openapi.parameters(ChoiceQuery)}
    assert described["most"]["maximum"] == limits.MAX_CHOICES
