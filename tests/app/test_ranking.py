"""The ranking on the Explore page: a shape for every row, and the selected series."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from support.app_pages import MAIN, Open, opened
from support.demo_database import ACME, WINDOW
from support.generated_events import ORGANIZATION
from support.plain_events import SINCE, event, store_of
from support.waiting import PATIENCE
from usage_explore import AggregateQuery, Store, demo, formatting
from usage_explore.app import explore_ranking, grid, query_edits
from usage_explore.app.cache import Source
from usage_explore.app.leaders import OTHER
from usage_explore.charts import labels
from usage_explore.db import ddl
from usage_explore.decimals import Number
from usage_explore.selection import selected, windows

LINK: dict[str, Any] = {"organization_id": ACME, **WINDOW}
NINTH = datetime(2026, 9, 9, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize("group", ["customer_id", "metric_key", "dim:model"])
@pytest.mark.parametrize("lookups", [0, 8])
def test_a_series_beside_the_chart_is_that_of_its_values_own_query(
    store: Store, monkeypatch: pytest.MonkeyPatch, group: str, lookups: int
) -> None:
    monkeypatch.setattr(query_edits, "_MAX_IDS", lookups)  # of more ids all series are read
    source = Source(store.scoped(ACME), store.now().replace(second=lookups, microsecond=0))
    query = AggregateQuery(**LINK, group_by=group, top=1)
    every = store.aggregate(query.replace(top=0))
    keys = [(series.kind, series.key) for series in every.series][1:6]
    lines = source.lines(query, [*keys, ("value", "00000000-0000-0000-0000-000000000001")])
    assert [*lines] == sorted(keys, key=lambda key: (key[0], key[1] or ""))
    for series in every.series[1:6]:
        assert lines[series.kind, series.key].points == series.points


def test_what_moved_most_in_other_has_its_shape(explore: Open, store: Store, demo_url: str) -> None:
    with ddl.connect(demo_url) as connection:
        planted = next(each for each in demo.incidents(connection) if each.kind == "runaway_customer")
    customer = str(planted.customer_id)
    app = explore(
        **LINK, group_by="customer_id", top="3", span=f"{planted.starts:%Y-%m-%dT00:00:00Z}/2026-09-29T00:00:00Z"
    )
    assert any(each.value.startswith("□ ") and " in Other, too, which counts " in each.value for each in app.caption)
    ranking = app.dataframe[0].value
    assert all(len(shape) > 20 for shape in ranking["shape"])
    (row,) = [
        row
        for row in ranking.itertuples()
        if customer in row.series
        or store.scoped(ACME).names([("customer_id", customer)]).label("customer_id", customer) == row.name
    ]
    assert math.isnan(row.share)  # Other counts it
    assert ranking["share"].sum() == pytest.approx(1)
    points = store.aggregate(query_edits.only(AggregateQuery(**LINK), "customer_id", customer)).series[0].points
    largest = max(point.value for point in points)
    assert list(row.shape) == pytest.approx([point.value / largest for point in points])


def test_the_selected_series_is_marked_and_rules_the_numbers(explore: Open, store: Store) -> None:
    answer = store.aggregate(AggregateQuery(**LINK, group_by="metric_key", top=3))
    for series in answer.series[1:2] + answer.series[3:]:
        written = "other" if series.kind == "other" else f"value:{series.key}"
        app = explore(**LINK, group_by="metric_key", top="3", series=written)
        ranking = app.dataframe[0].value
        (marked,) = ranking.index[ranking["pick"] == "◉"]
        assert ranking["total"][marked] == series.total
        assert set(ranking["pick"]) == {"◉", "○"}
        assert any(each.value.startswith(formatting.short(series.total)) for each in app.subheader)
        parts_of_other = len(ranking) - len(answer.series)
        assert any("in Other, too" in each.value for each in app.caption) == (parts_of_other > 0)


def test_the_ranking_of_a_selected_time_has_the_chart_s_series_and_the_chart_s_other(store: Store) -> None:
    source = Source(store.scoped(ACME), store.now().replace(microsecond=0))
    query = AggregateQuery(**LINK, group_by="customer_id", top=3)
    answer = source.aggregate(query)
    own_largest = set()
    for days in range(5):
        span = (NINTH + days * DAY, NINTH + (days + 1) * DAY)
        selection = selected(answer, None, span)
        assert selection
        result = explore_ranking.ranked_series(source, answer, selection, windows(selection, "", answer, None), "total")
        bucket = next(index for index, edge in enumerate(answer.edges) if edge == span[0])
        assert {(item.kind, item.key): item.total for item in result.basis.series} == {
            (item.kind, item.key): item.points[bucket].value for item in answer.series
        }
        assert explore_ranking._pick_text(result, answer, OTHER, None) == "○"
        named = dict(zip(((item.kind, item.key) for item in answer.series), labels.names(answer), strict=True))
        assert {key: result.names[key] for key in named} == named
        day = source.aggregate(query.replace(since=span[0], until=span[1]))
        own_largest.add({item.key for item in day.series} == {item.key for item in answer.series})
    assert False in own_largest  # on some day others are larger than the chart's


@pytest.mark.parametrize(
    ("quantities", "said"), [((-9, -1), True), ((9, -1), True), ((9, 5, -1), True), ((9, 1), False)]
)
def test_that_the_most_negative_are_in_other_is_said(
    use: Callable[..., None],
    events_database_url: str,
    events_connection: ddl.Connection,
    quantities: tuple[int, ...],
    said: bool,
) -> None:
    rows = [event(SINCE, metric_key=f"m{place}", quantity=quantity) for place, quantity in enumerate((*quantities, 2))]
    store_of(events_connection, events_database_url, rows).close()
    use(events_database_url)
    link = {"organization_id": str(ORGANIZATION), "window": "2026-09"}
    link |= {"metric": "sum_quantity", "group_by": "metric_key"}
    app = opened(AppTest.from_file(MAIN, default_timeout=PATIENCE), {**link, "top": "2"})
    assert any("the most negative ones" in each.value for each in app.caption) == said
    opened(app, {"top": "0"})
    assert not any("the most negative ones" in each.value for each in app.caption)


def test_a_value_named_other_beside_the_chart_is_not_named_like_other(
    use: Callable[..., None], events_database_url: str, events_connection: ddl.Connection
) -> None:
    numbers = {"big": (9, 9), "Other": (1, 5), "small": (1, 1)}
    rows = [
        event(SINCE + (7 * week + 1) * DAY, metric_key=name)
        for name, of_weeks in numbers.items()
        for week, number in enumerate(of_weeks)
        for _ in range(number)
    ]
    rows.append(event(SINCE, metric_key="big"))
    store_of(events_connection, events_database_url, rows).close()
    use(events_database_url)
    window = {"since": "2026-09-08T00:00:00Z", "until": "2026-09-15T00:00:00Z", "top": "1", "group_by": "metric_key"}
    app = opened(AppTest.from_file(MAIN, default_timeout=PATIENCE), {"organization_id": str(ORGANIZATION), **window})
    assert [name.strip() for name in app.dataframe[0].value["name"]] == ["big", '"Other"', "Other (2)"]


def test_a_shape_has_a_first_bucket_that_the_window_cuts(explore: Open, store: Store) -> None:
    cut = {**LINK, "since": "2026-09-26T06:00:00Z", "group_by": "metric_key"}
    ranking = explore(**cut).dataframe[0].value
    series = store.aggregate(AggregateQuery(**cut)).series
    assert not series[0].points[0].complete
    assert [len(shape) for shape in ranking["shape"]] == [3] * len(ranking)


@pytest.mark.parametrize(
    ("number", "text"), [(Decimal("-46.1"), "\N{MINUS SIGN}46.1"), (Decimal(926), "+926"), (0, "0")]
)
def test_the_difference_of_a_compared_ranking_has_the_minus_of_its_change(number: Number, text: str) -> None:
    shown = explore_ranking._signed_short
    assert grid.numbers("Difference", [number], shown).shown(float(number)) == shown(number) == text
