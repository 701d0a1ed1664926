"""Charts: every specification compiles, and what it tells is what the answer says."""

from __future__ import annotations

import dataclasses
import html
import io
import itertools
import json
import math
import random
import re
import tomllib
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import altair as alt
import numpy as np
import pandas as pd
import pytest
import vl_convert
from altair.utils import schemapi

from usage_explore import charts, formatting
from usage_explore.answers import Aggregate
from usage_explore.charts import chart_rows, expected, labels, style
from usage_explore.decimals import exact_sum, plain, rfc3339, unit_cost
from usage_explore.errors import QueryError
from usage_explore.names import Names
from usage_explore.query.describe import describe
from usage_explore.query.queries import AggregateQuery
from usage_explore.results.types import Point, Ratio, Series, SeriesKind, Served
from usage_explore.results.units import value_name

NOW = datetime(2026, 11, 5, 14, 5, tzinfo=UTC)
KINDS: tuple[charts.SeriesKind, ...] = ("bars", "lines", "area")
ALL: list[tuple[SeriesKind, str | None]] = [("all", None)]
EVERY: list[tuple[SeriesKind, str | None]] = [
    ("value", "gpt-x"),
    ("missing", None),
    ("value", ""),
    ("value", "Other"),
    ("value", "title"),
    ("value", "Total"),
    ("value", "(missing)"),
    ("other", None),
]
MANY: list[tuple[SeriesKind, str | None]] = [*(("value", f"v{n}") for n in range(60)), ("other", None)]

Value = Callable[[int, int], int | str]


def _varied(rank: int, index: int) -> str:
    return str(random.Random(rank * 10_000 + index).randrange(1, 9_000_000)) + ".125"


def answer(
    keys: list[tuple[SeriesKind, str | None]],
    since: str = "2026-10-20T00:00:00Z",
    until: str = "2026-11-05T14:05:00Z",
    *,
    value: Value = _varied,
    now: datetime = NOW,
    capped: bool = False,
    metrics: int = 1,
    **question: Any,
) -> Aggregate:
    """An answer with the values of `value(rank, bucket)`, 0 where the bucket has not begun."""
    group = "none" if keys == ALL else "dim:model"
    query = AggregateQuery(**{"metric": "sum_quantity", "group_by": group, "since": since, "until": until, **question})
    edges = query.edges()
    span_since, span_until = query.span
    number: Any = int if query.metric == "count" else Decimal
    found = []
    for rank, (kind, key) in enumerate(keys):
        points = tuple(
            Point(
                start,
                end,
                number(0 if start >= now else value(rank, index)),
                start >= span_since and end <= min(span_until, now),
            )
            for index, (start, end) in enumerate(itertools.pairwise(edges))
        )
        total = exact_sum((point.value for point in points), number(0))
        found.append(Series(kind, key, total, 33 if kind == "other" else 1, points))
    return Aggregate(
        query=query,
        series=tuple(found),
        edges=edges,
        now=now,
        capped=capped,
        metrics=metrics,
        app_url="http://127.0.0.1:8501",
        served=Served("there is no extract", timedelta(0)),
    )


def costs(keys: list[tuple[SeriesKind, str | None]], metric: str, *currencies: str | None) -> Aggregate:
    """The answer as costs; unit costs have gaps in every third bucket, and none at all without a currency."""
    made = answer(keys, metric=metric)
    if metric == "unit_cost":
        made = dataclasses.replace(
            made,
            series=tuple(_with_ratios(series, currencies) for series in made.series),
        )
    return dataclasses.replace(made, currencies=currencies)


def _with_ratios(series: Series, currencies: tuple[str | None, ...]) -> Series:
    points = []
    for index, point in enumerate(series.points):
        gap = index % 3 == 1 or not currencies
        ratio = Ratio(Decimal(point.value or 0), Decimal(0 if gap else 4))
        points.append(dataclasses.replace(point, value=unit_cost(*ratio), ratio=ratio))
    ratios = [point.ratio for point in points if point.ratio]
    whole = Ratio(sum((each.cost for each in ratios), Decimal(0)), sum((each.quantity for each in ratios), Decimal(0)))
    return dataclasses.replace(series, points=tuple(points), total=unit_cost(*whole), ratio=whole)


CASES: dict[str, Callable[[], Aggregate]] = {
    "none": lambda: answer(ALL, metric="count", value=lambda _, index: index * 7),
    "every kind of series": lambda: answer(EVERY),
    "more series than hues": lambda: answer(MANY[:12]),
    "more series than can be drawn": lambda: answer(MANY),
    "negative": lambda: answer(EVERY, value=lambda rank, index: (-1) ** (rank + index) * 50),
    "no events": lambda: answer([]),
    "zero events": lambda: answer(ALL, metric="count", value=lambda *_: 0),
    "zero quantity": lambda: answer(ALL, value=lambda *_: 0),
    "one bucket": lambda: answer(EVERY, "2026-11-04T00:00:00Z", "2026-11-05T00:00:00Z"),
    "one unfinished bucket": lambda: answer(EVERY, "2026-11-05T01:00:00Z", "2026-11-05T03:00:00Z"),
    "this month": lambda: answer(EVERY, "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
    "all in the future": lambda: answer(EVERY, "2026-12-01T00:00:00Z", "2026-12-08T00:00:00Z"),
    "days over a clock change": lambda: answer(EVERY, "2026-10-22T22:00:00Z", timezone="Europe/Berlin"),
    "an hour twice": lambda: answer(
        EVERY, "2026-10-24T20:30:00Z", "2026-10-25T05:00:00Z", bucket="hour", timezone="Europe/Berlin"
    ),
    "half an hour twice": lambda: answer(
        EVERY, "2026-04-04T10:00:00Z", "2026-04-04T20:00:00Z", bucket="hour", timezone="Australia/Lord_Howe"
    ),
    "midnight twice": lambda: answer(EVERY, "2026-10-30T04:00:00Z", "2026-11-04T05:00:00Z", timezone="America/Havana"),
    "a date that never was": lambda: answer(
        EVERY, "2011-12-27T10:00:00Z", "2012-01-03T10:00:00Z", timezone="Pacific/Apia"
    ),
    "weeks": lambda: answer(EVERY, "2026-08-01T00:00:00Z", bucket="week", timezone="Asia/Kathmandu"),
    "two years of weeks": lambda: answer(EVERY, "2024-11-01T00:00:00Z", bucket="week"),
    "capped hours": lambda: answer(EVERY, "2026-07-28T14:00:00Z", bucket="hour", capped=True),
    "costs by currency": lambda: costs(EVERY, "sum_cost", "EUR", "USD", None),
    "unit costs": lambda: costs(EVERY, "unit_cost", "USD"),
    "more unit costs than can be drawn": lambda: costs(MANY, "unit_cost", "USD"),
    "one unit cost": lambda: costs(ALL, "unit_cost", None),
    "unit costs of nothing": lambda: costs(EVERY, "unit_cost"),
    "enormous": lambda: answer(ALL, value=lambda _, index: f"{index - 3}e280"),
    "tiny": lambda: answer(ALL, value=lambda _, index: f"{index}e-30"),
}


def svg(chart: Any) -> str:
    """The chart as SVG; whatever Vega warns about would be an empty or wrong picture."""
    return charts.image(chart, "svg").decode()


def data(spec: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The rows of a chart's data set."""
    for layer in spec["layer"]:
        if layer.get("data", {}).get("name") == name and "values" in layer["data"]:
            return list(json.loads(layer["data"]["values"]))
    return []


def test_unit_costs_are_lines_with_gaps_never_stacked() -> None:
    found = CASES["unit costs"]()
    spec = charts.chart(found).to_dict()
    assert "Drawn as lines, because unit costs do not add up" in json.dumps(spec["title"])
    rows = [row for row in data(spec, "points") if row["series"] == "gpt-x"]
    values = {row["middle"]: row["high"] for row in rows}
    first = found.series[0]
    for point in first.points:
        middle = (style.millis(point.start) + style.millis(point.end)) // 2
        assert values.get(middle) == (None if point.value is None else float(point.value))
    assert {row["low"] for row in rows} == {0.0}
    assert None in values.values()
    totals = labels.bucket_totals(found)
    assert totals[1] is None
    assert totals[0] == unit_cost(
        sum((s.points[0].ratio.cost for s in found.series if s.points[0].ratio), Decimal(0)), Decimal(4 * len(EVERY))
    )
    assert "Unit cost in USD" in json.dumps(spec)
    many = charts.chart(CASES["more unit costs than can be drawn"]()).to_dict()
    assert max(row["high"] or 0 for row in data(many, "points")) <= 9_000_000 / 4  # a mean, not a sum
    summary = labels.summary(found)
    assert "of the total" not in summary
    assert "that of the largest cost gpt-x" in summary


@pytest.mark.parametrize(
    ("currencies", "name"),
    [
        (("EUR", "USD"), "cost in 2 currencies"),
        (("EUR", None, "USD"), "cost in 2 currencies and without a currency"),
        (("USD", None), "cost in USD and without a currency"),
        ((None,), "cost, without a currency"),
    ],
)
def test_costs_without_a_currency_are_not_a_currency_more(currencies: tuple[str | None, ...], name: str) -> None:
    keys: list[tuple[SeriesKind, str | None]] = [("value", "a")]
    assert value_name(dataclasses.replace(costs(keys, "sum_cost", *currencies), currencies=currencies)) == name


def test_costs_in_several_currencies_are_lines_without_a_total() -> None:
    found = CASES["costs by currency"]()
    spec = charts.chart(found, kind="area").to_dict()
    assert "costs in several currencies do not add up" in json.dumps(spec["title"])
    assert found.total is None
    assert set(labels.bucket_totals(found)) == {None}
    assert "No total cost: costs in several currencies" in labels.summary(found)


def test_no_costs_are_said_to_be_none() -> None:
    found = CASES["unit costs of nothing"]()
    assert "No event here has a cost" in labels.summary(found)
    assert "No event here has a cost" in json.dumps(charts.chart(found).to_dict()["title"])


@pytest.mark.each_value
@pytest.mark.usefixtures("validated_charts")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_every_chart_compiles(case: str, kind: charts.SeriesKind) -> None:
    # every case is seen light and dark, every kind too; the pair of all three only costs time
    dark = (list(CASES).index(case) + KINDS.index(kind)) % 2 == 1
    drawing = svg(charts.chart(CASES[case](), kind=kind, dark=dark))
    assert (charts.DARK if dark else charts.LIGHT).background in drawing
    assert "20" in drawing
    assert "NaN" not in drawing
    assert "Infinity" not in drawing


@pytest.mark.each_value
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_a_pages_specification_is_the_charts(case: str, kind: charts.SeriesKind) -> None:
    found = CASES[case]()
    drawn = charts.chart(found, kind=kind).to_dict()
    for name in ("continuousWidth", "continuousHeight"):  # of Altair's theme, for charts without a size
        del drawn["config"]["view"][name]
    names = {layer["name"]: f"view_{index}" for index, layer in enumerate(drawn["layer"]) if "name" in layer}
    for layer in drawn["layer"]:
        if "name" in layer:
            layer["name"] = names[layer["name"]]
    for param in drawn["params"]:
        param["views"] = [names[view] for view in param["views"]]
    assert charts.spec(found, kind=kind) == drawn


def test_a_specification_leaves_altairs_validation_on() -> None:
    charts.spec(answer(EVERY), kind="bars")
    assert schemapi.DEBUG_MODE


@pytest.mark.parametrize("key", ["us-east", "a-b-c-d-e-f-g-h-i-j-k-l-m-n-o-p-q-r-s-t-u-v-w-x-y-z", "eu west"])
def test_a_title_is_the_description_broken_at_spaces(key: str) -> None:
    for others in range(4):
        dimensions = {"model": ("gpt-4-turbo",) * 1, "tier": tuple(f"tier-{number}" for number in range(1, others + 2))}
        asked = answer(EVERY, dimensions=dimensions, exclude={"dim:region": {key}})
        ungrouped = asked.query.replace(group_by=None)  # the expectation is of all series together
        for chart, query in (
            (charts.chart(asked), asked.query),
            (expected.chart(asked, NOW - timedelta(days=3), NOW), ungrouped),
        ):
            assert " ".join(chart.to_dict()["title"]["text"]) == describe(query, whole_seconds=True)


@pytest.mark.usefixtures("validated_charts")
@pytest.mark.parametrize("bucket", ["hour", "day", "week"])
def test_no_axis_is_described_in_milliseconds(bucket: str) -> None:
    asked = answer(EVERY, "2026-10-25T00:00:00Z", "2026-11-03T00:00:00Z", bucket=bucket, timezone="Europe/Berlin")
    for chart in (charts.chart(asked), expected.chart(asked, NOW - timedelta(days=3), NOW)):
        spoken = re.findall(r'aria-roledescription="axis" aria-label="([^"]*)"', svg(chart))
        assert [label.partition(" titled")[0] for label in spoken] == ["Y-axis"]
        assert re.search(r" 2026( \d\d:\d\d)?, Europe/Berlin\. ", chart.to_dict()["description"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_chart_for_a_file_has_no_selections(kind: charts.SeriesKind) -> None:
    spec = charts.chart(answer(EVERY), kind=kind, interactive=False).to_dict()
    assert "params" not in spec
    assert "param" not in json.dumps(spec["layer"])


@pytest.mark.parametrize("case", CASES)
def test_the_three_selections_are_always_there(case: str) -> None:
    for kind in KINDS:
        spec = charts.chart(CASES[case](), kind=kind).to_dict()
        assert {param["name"] for param in spec["params"]} == {"pick", "brush", "legend"}


@pytest.mark.parametrize("form", ["png", "svg"])
def test_pictures(form: Any) -> None:
    picture = charts.image(charts.chart(answer(EVERY)), form)
    assert picture.startswith(b"\x89PNG" if form == "png" else b"<svg")


def test_another_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="png or svg"):
        charts.image(charts.chart(answer(EVERY)), "gif")  # type: ignore[arg-type]


def test_the_browsers_zone_has_no_say() -> None:
    spec = charts.chart(CASES["an hour twice"]()).to_dict()
    assert '"temporal"' not in json.dumps(spec)
    assert "time" not in json.dumps(spec["layer"][0]["encoding"])


def whole(points: list[Point], asked: Aggregate) -> int | Decimal | None:
    """The sum of points, of unit costs the ratio of sums, and nothing of several currencies."""
    if len(asked.currencies) > 1:
        return None
    if asked.query.metric == "unit_cost":
        pairs = [point.ratio for point in points if point.ratio is not None]
        assert len(pairs) == len(points)
        quantity = sum(pair.quantity for pair in pairs)
        return unit_cost(sum((pair.cost for pair in pairs), Decimal(0)), Decimal(quantity))
    return exact_sum((point.number for point in points), points[0].number * 0)


@pytest.mark.parametrize("case", [case for case in CASES if case not in ("no events", "zero events")])
def test_the_tooltip_tells_every_exact_value_and_the_total(case: str) -> None:
    asked = CASES[case]()
    spec = charts.chart(asked).to_dict()
    drawn = chart_rows.lines(asked, labels.names(asked))
    shown, hidden = chart_rows.split_tooltip(drawn)
    by_start = {row["start"]: row for row in data(spec, "buckets")}
    for index, point in enumerate(asked.series[0].points):
        column = [series.points[index].value for series in asked.series]
        row = by_start.get(style.millis(point.start))
        if row is None:
            assert point.start >= NOW
            assert not any(column)
            continue
        texts = [row["total"], *(row[f"v{place}"] for place in range(len(shown)))]
        assert not [text for text in texts if text.startswith("-")], "the minus is that of the page"
        total, *values = (text.replace("−", "-") for text in texts)
        assert total == formatting.exact(whole([series.points[index] for series in asked.series], asked))
        assert values == [formatting.exact(line.values[index]) for line in shown]
        points = [line.points[index] for line in shown + hidden]
        assert whole(points, asked) == whole([series.points[index] for series in asked.series], asked)
        assert (row["state"] == "complete") is point.complete


def test_names_in_a_tooltip_are_distinct_and_never_special() -> None:
    named = labels.names(answer(EVERY))
    assert len(set(named)) == len(EVERY)
    assert not {"title", "image", "Total", "State"} & set(named)
    assert named[-1] == "Other"
    assert named[1] == "(missing)"
    assert labels.names(answer([("value", "constructor"), ("value", "__proto__")])) == ('"constructor"', '"__proto__"')


@pytest.mark.parametrize("kind", KINDS)
def test_any_name_is_told_as_it_is(kind: charts.SeriesKind) -> None:
    odd = ["a\nb", "a\\", '\\"', '"a', "\u2028", "\t", "__proto__", "constructor", "404", "${x}"]
    asked = answer([("value", key) for key in odd])
    spec = charts.chart(asked, kind=kind, width=900).to_dict()
    for layer in spec["layer"]:
        layer["encoding"].pop("description", None)  # Vega says the tooltip then
    found = vl_convert.vegalite_to_svg(spec)
    spoken = [html.unescape(label) for label in re.findall(r'aria-label="([^"]*)"', found) if "State: " in label]
    assert spoken
    for label in spoken:
        assert re.search(".*".join(re.escape(f"; \u2060{name}: ") for name in labels.names(asked)), label, re.DOTALL)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mark_is_read_out_with_its_time_and_exact_value(kind: charts.SeriesKind) -> None:
    odd = ["a\nb", "a\\", '\\"', '"a', "__proto__", "constructor", "404", "${x}"]
    asked = answer([("value", key) for key in odd], value=lambda rank, index: Decimal(f"1234567.{rank}{index}1"))
    spoken = {
        html.unescape(label) for label in re.findall(r'aria-label="([^"]*)"', svg(charts.chart(asked, kind=kind)))
    }
    assert not [label for label in spoken if "e+" in label]
    for name, series in zip(labels.names(asked), asked.series, strict=True):
        for point in series.points:
            if point.start < NOW:
                when, state = labels.bucket_label(asked, point), labels.state(asked, point)
                said = f"time: {when}; series: {name}; value: {formatting.exact(point.value)}; state: {state}"
                assert said in spoken
    assert any(re.fullmatch(r"time: [^;]+; total: [\d,.]+; state: complete", label) for label in spoken)
    for label in re.findall(r'aria-label="([^"]*)"', svg(expected.chart(asked, NOW - timedelta(days=3), NOW))):
        assert "start: " not in label


def test_an_unfinished_bucket_says_why() -> None:
    cut = answer(ALL, "2026-11-01T12:00:00Z", "2026-11-10T00:00:00Z")
    states = [labels.state(cut, point) for point in cut.series[0].points]
    assert states[0] == "unfinished: cut by the window's edge"
    assert states[1:4] == ["complete"] * 3
    assert states[4] == "unfinished: still filling"
    assert states[5] == "unfinished: not begun yet"
    by_the_minute = answer(ALL, "2026-11-01T12:00:00Z", "2026-11-05T14:04:30Z")
    assert labels.state(by_the_minute, by_the_minute.series[0].points[-1]) == "unfinished: still filling"
    earlier = answer(ALL, "2026-11-01T12:00:00Z", "2026-11-05T13:00:00Z")
    assert labels.state(earlier, earlier.series[0].points[-1]) == "unfinished: cut by the window's edge"
    live = answer(ALL, "2026-11-01T00:00:00Z", "2026-11-05T14:05:00Z")
    assert "still filling" in labels.state(live, live.series[0].points[-1])
    past = answer(ALL, "2026-11-01T00:00:00Z", "2026-11-03T12:00:00Z")
    assert labels.state(past, past.series[0].points[-1]) == "unfinished: cut by the window's edge"


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_not_begun_is_not_drawn_as_zero(kind: charts.SeriesKind) -> None:
    month = CASES["this month"]()
    spec = charts.chart(month, kind=kind).to_dict()
    begun = [style.millis(point.start) for point in month.series[0].points if point.start < NOW]
    assert {row["start"] for row in data(spec, "points")} == set(begun)
    assert [row["start"] for row in data(spec, "buckets")] == begun
    assert "not yet" in svg(charts.chart(month, kind=kind, width=960))
    assert "not yet" not in svg(charts.chart(month, kind=kind, width=60))


def test_future_dated_events_are_drawn() -> None:
    asked = answer(EVERY, "2026-11-01T00:00:00Z", "2026-11-12T00:00:00Z", now=datetime(2026, 11, 30, tzinfo=UTC))
    early = Aggregate(**{**asked.__dict__, "now": NOW})
    assert len(data(charts.chart(early).to_dict(), "buckets")) == 11


@pytest.mark.parametrize("kind", ["lines", "area"])
def test_a_point_that_no_line_reaches_is_a_dot(kind: charts.SeriesKind) -> None:
    asked = answer(
        EVERY[:2],
        "2026-10-01T00:00:00Z",
        "2026-12-31T00:00:00Z",
        now=datetime(2027, 1, 1, tzinfo=UTC),
        value=lambda _, index: 5 if index < 36 or index == 80 else 0,
    )
    early = Aggregate(**{**asked.__dict__, "now": NOW})
    found = data(charts.chart(early, kind=kind).to_dict(), "dots")
    assert [row["start"] for row in found] == [style.millis(asked.edges[80])] * 2


def test_stacks_meet_and_negatives_go_down_from_zero() -> None:
    asked = CASES["negative"]()
    drawn = chart_rows.stacked(asked, chart_rows.lines(asked, labels.names(asked)), stack=True, zeros=False)
    for _, column in itertools.groupby(sorted(drawn, key=lambda row: row["start"]), key=lambda row: row["start"]):
        up = down = 0.0
        for row in column:
            if row["high"] >= row["low"]:
                assert row["low"] == up
                up = row["high"]
            else:
                assert row["low"] == down
                down = row["high"]


def test_no_two_buckets_share_a_place() -> None:
    for case in ("an hour twice", "half an hour twice", "midnight twice", "a date that never was"):
        asked = CASES[case]()
        buckets = data(charts.chart(asked).to_dict(), "buckets")
        assert [(row["start"], row["end"]) for row in buckets] == [
            (style.millis(start), style.millis(end)) for start, end in itertools.pairwise(asked.edges)
        ]
        assert len({row["when"] for row in buckets}) == len(buckets)


def test_an_hour_that_comes_twice_says_which() -> None:
    asked = CASES["an hour twice"]()
    texts = [labels.bucket_label(asked, point) for point in asked.series[0].points]
    assert "Sun 25 Oct 2026, 02:00–03:00 (UTC+02:00), Europe/Berlin" in texts
    assert "Sun 25 Oct 2026, 02:00–03:00 (UTC+01:00), Europe/Berlin" in texts
    assert "Sun 25 Oct 2026, 03:00–04:00, Europe/Berlin" in texts


@pytest.mark.each_value
@pytest.mark.parametrize("bucket", ["hour", "day", "week", "month"])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/Havana", "Asia/Kathmandu", "Pacific/Apia"])
def test_ticks_are_few_and_tell_the_zones_clock(bucket: str, zone: str) -> None:
    for hours in (
        1,
        5,
        24,
        40,
        24 * 3,
        24 * 8,
        24 * 31,
        24 * 92,
        24 * 400,
        *((24 * 3_000, 24 * 15_000) if bucket == "month" else ()),
    ):
        since = (NOW - timedelta(hours=hours)).isoformat()
        asked = answer([], since, bucket=bucket, timezone=zone)
        found = style.tick_labels(asked)
        assert 1 <= len(found) <= style.MAX_TICKS
        assert list(found) == sorted(found)
        assert len(next(iter(found.values()))) == 2
        assert style.millis(asked.edges[0]) <= min(found) < style.millis(asked.edges[-1])
        for place, lines in found.items():
            wall = datetime.fromtimestamp(place / 1000, UTC).astimezone(ZoneInfo(zone))
            assert lines[0] in (f"{wall:%H:%M}", f"{wall.day} {wall:%b}", f"{wall:%b}") or bucket == "week"


def test_a_month_is_named_in_tooltip_and_tick() -> None:
    asked = answer([], "2026-08-01T00:00:00Z", bucket="month")
    texts = [
        labels.bucket_label(asked, point)
        for point in answer(ALL, "2026-08-01T00:00:00Z", bucket="month").series[0].points
    ]
    assert texts == ["August 2026, UTC", "September 2026, UTC", "October 2026, UTC", "November 2026, UTC"]
    assert list(style.tick_labels(asked).values()) == [["Aug", "2026"], ["Sep"], ["Oct"], ["Nov"]]


def test_many_bars_become_areas_and_say_so() -> None:
    asked = CASES["capped hours"]()
    spec = charts.chart(asked).to_dict()
    marks = [layer["mark"]["type"] for layer in spec["layer"]]
    assert "area" in marks
    assert "bar" not in marks
    subtitle = " ".join(spec["title"]["subtitle"])
    assert "Drawn as areas" in subtitle
    assert f"Window shortened to the last {len(asked.edges) - 1:,} hours." in subtitle


@pytest.mark.parametrize("kind", ["bars", "area"])
def test_missing_has_no_outline_where_its_marks_are_narrow(kind: charts.SeriesKind) -> None:
    def outline(days: int) -> float | None:
        end = NOW + timedelta(days=days)
        found = answer(EVERY, until=rfc3339(end), now=end, bucket="day")
        marks = [layer["mark"] for layer in charts.chart(found, kind=kind).to_dict()["layer"]]
        first = "bar" if kind == "bars" else "line"
        shown = [mark for mark in marks if mark["type"] == first and "strokeDash" not in mark]
        return shown[0]["strokeWidth"] if shown else None

    assert outline(0) == 1
    assert outline(80) == 0.5
    assert not outline(150)


def test_areas_of_negative_values_become_lines_and_say_so() -> None:
    spec = charts.chart(CASES["negative"](), kind="area").to_dict()
    assert "area" not in [layer["mark"]["type"] for layer in spec["layer"]]
    assert "Drawn as lines" in " ".join(spec["title"]["subtitle"])


def test_series_beyond_the_drawn_ones_are_one_and_said() -> None:
    asked = CASES["more series than can be drawn"]()
    drawn = chart_rows.lines(asked, labels.names(asked))
    assert len(drawn) == chart_rows.MAX_DRAWN_SERIES
    assert drawn[-1].kind == "other"
    for index, total in enumerate(labels.bucket_totals(asked)):
        assert exact_sum((line.values[index] for line in drawn), Decimal(0)) == total
    assert "drawn as one" in " ".join(charts.chart(asked).to_dict()["title"]["subtitle"])


def test_no_events_are_said_not_drawn() -> None:
    for case in ("no events", "zero events"):
        assert "No events in this window" in svg(charts.chart(CASES[case]()))
        assert "No events in this window" in charts.summary(CASES[case]())
    assert "No events" not in svg(charts.chart(CASES["zero quantity"]()))


def test_the_summary_tells_total_largest_peak_and_what_is_unfinished() -> None:
    asked = answer(
        [("value", "large"), ("value", "small"), ("other", None)],
        "2026-11-03T00:00:00Z",
        value=lambda rank, index: f"{(3 - rank) * 1000 * (index + 1)}.5",
    )
    said = charts.summary(asked)
    assert "Total 36,004.5 quantity" in said
    assert "largest large with 18,001.5 (50.0 % of the total), 33 folded into Other" in said
    assert "Peak 18,001.5 on Thu 5 Nov 2026, UTC" in said
    assert "Unfinished: Thu 5 Nov 2026, UTC" in said
    pinned = charts.summary(dataclasses.replace(asked, query=asked.query.replace(as_of="2026-11-05T09:00:00.123456Z")))
    assert "as known at 5 Nov 2026 09:00:00." in pinned
    assert "Unfinished: Thu 5 Nov 2026, UTC, still filling on 5 Nov 2026 09:00:00." in pinned
    assert charts.chart(asked).to_dict()["description"] == said


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1234567, "1,234,567"),
        (-1234, "-1,234"),
        (Decimal("-999.50"), "-999.5"),
        (Decimal("1E-7"), "0.0000001"),
        (Decimal("12345678901234567890123456789012345.6789"), "12,345,678,901,234,567,890,123,456,789,012,345.6789"),
    ],
)
def test_exact_numbers_are_written_out(value: int | Decimal, text: str) -> None:
    assert formatting.exact(value) == text


# --- colours ---------------------------------------------------------------------------------------------------


def test_a_key_keeps_its_colour_whatever_its_rank() -> None:
    for key in ("gpt-x", "tokens_in", "", "eu-west-1"):
        alone = charts.colors(answer([("value", key)]))[0]
        assert charts.colors(answer([("missing", None), ("value", key), ("other", None)]))[1] == alone
        assert charts.colors(answer([("value", key)]), dark=True)[0] in style.DARK.hues


def test_eight_keys_have_eight_colours() -> None:
    for start in range(0, 48, 8):
        keys: list[tuple[SeriesKind, str | None]] = [("value", f"v{n}") for n in range(start, start + 8)]
        assert set(charts.colors(answer(keys)).values()) == set(style.LIGHT.hues)


def test_sixteen_keys_have_sixteen_colours_and_the_rest_is_muted() -> None:
    found = charts.colors(answer(MANY))
    assert len({found[index] for index in range(16)}) == 16
    assert {found[index] for index in range(16, 60)} == {style.LIGHT.muted}
    assert found[60] == style.LIGHT.other


def test_two_keys_that_change_places_keep_their_colours() -> None:
    keys = [f"model-{n}" for n in range(8)]
    forth = answer([("value", key) for key in keys])
    back = answer([("value", key) for key in reversed(keys)])
    assert [charts.colors(forth)[n] for n in range(8)] == [charts.colors(back)[7 - n] for n in range(8)]


def test_frequent_values_keep_their_colours_after_any_filter() -> None:
    frequent = [f"model-{n}" for n in range(16)]
    whole = charts.colors(answer([("value", key) for key in frequent]), frequent=frequent)
    assert len(set(whole.values())) == 16
    for start in range(16):
        kept = [frequent[(start + step) % 16] for step in (0, 3, 7)]
        shown = charts.colors(answer([("value", key) for key in [*kept, "rare"]]), frequent=frequent)
        assert [shown[place] for place in range(3)] == [whole[frequent.index(key)] for key in kept]
        assert shown[3] not in {shown[place] for place in range(3)}


def test_a_caption_has_the_filters_in_words_with_names_and_short_ids() -> None:
    acme, unknown = (str(uuid.UUID(int=0xC0 + number, version=4)) for number in range(2))
    shown = answer(
        [("value", "large")],
        customer_id=acme,
        product_id=unknown,
        metric_key=["a", "b", "c", "d"],
        exclude={"dim:model": ["tiny"]},
        missing=["price_key"],
    )
    shown = dataclasses.replace(shown, names=Names({("customer", acme): "Acme; Inc"}))
    whose, filters, known = labels.caption(shown, "Metering").split(" · ")
    assert whose == "Metering"
    assert known.startswith("as of ")
    for words in (
        f"customer is Acme; Inc ({acme[:8]}…)",
        f"product is {unknown}",
        "metric is a or b or c or d",
        "price is missing",
        "model is not tiny",
    ):
        assert words in filters
    assert "=" not in filters
    assert "no filters" in labels.caption(answer([("value", "large")]), "Metering")


def _linear(color: str) -> np.ndarray[Any, Any]:
    channels = np.array([int(color[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def _contrast(one: str, two: str) -> float:
    weights = np.array([0.2126, 0.7152, 0.0722])
    low, high = sorted((float(_linear(one) @ weights), float(_linear(two) @ weights)))
    return (high + 0.05) / (low + 0.05)


# Machado, Oliveira and Fernandes 2009, severity 1
SIGHT = {
    "full": np.eye(3),
    "without red": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "without green": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "without blue": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def _oklab(linear: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    to_cones = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    to_lab = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return np.asarray(to_lab @ np.cbrt(to_cones @ np.clip(linear, 0, 1)))


PALETTES = (style.LIGHT, style.DARK)


@pytest.mark.parametrize("shown", PALETTES, ids=["light", "dark"])
def test_colours_stand_out_from_their_background(shown: style.Palette) -> None:
    for color in (*shown.hues, *shown.shades, shown.muted, shown.other, shown.missing):
        assert _contrast(color, shown.background) >= 3, color
    for color in (shown.text, shown.soft):
        assert _contrast(color, shown.background) >= 4.5, color


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("shown", PALETTES, ids=["light", "dark"])
def test_the_hues_are_told_apart_by_every_eye(shown: style.Palette, sight: str) -> None:
    seen = {color: _oklab(SIGHT[sight] @ _linear(color)) for color in (*shown.hues, shown.other)}
    for one, two in itertools.combinations(seen, 2):
        assert np.linalg.norm(seen[one] - seen[two]) >= 0.075, (one, two)


def _ciede2000(one: np.ndarray[Any, Any], two: np.ndarray[Any, Any]) -> float:
    """The difference of two linear sRGB colours, by CIE 142-2001 for D65."""
    lab = []
    for linear in (one, two):
        xyz = np.array(
            [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
        ) @ np.clip(linear, 0, 1)
        ratio = xyz / np.array([0.95047, 1, 1.08883])
        x, y, z = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
        lab.append((116 * y - 16, 500 * (x - y), 200 * (y - z)))
    (l1, a1, b1), (l2, a2, b2) = lab
    mean_chroma = (math.hypot(a1, b1) + math.hypot(a2, b2)) / 2
    stretch = 1.5 - 0.5 * math.sqrt(mean_chroma**7 / (mean_chroma**7 + 25**7))
    c1, c2 = math.hypot(a1 * stretch, b1), math.hypot(a2 * stretch, b2)
    h1, h2 = (math.degrees(math.atan2(b, a * stretch)) % 360 for a, b in ((a1, b1), (a2, b2)))
    turn = (h2 - h1 + 180) % 360 - 180
    hue, chroma, light = (h1 + turn / 2) % 360, (c1 + c2) / 2, (l1 + l2) / 2
    waves = [(0.17, 1, -30), (-0.24, 2, 0), (-0.32, 3, 6), (0.2, 4, -63)]
    t = 1 - sum(height * math.cos(math.radians(times * hue + shift)) for height, times, shift in waves)
    by_light = (l2 - l1) / (1 + 0.015 * (light - 50) ** 2 / math.sqrt(20 + (light - 50) ** 2))
    by_chroma = (c2 - c1) / (1 + 0.045 * chroma)
    by_hue = 2 * math.sqrt(c1 * c2) * math.sin(math.radians(turn / 2)) / (1 + 0.015 * chroma * t)
    rotation = 2 * math.sqrt(chroma**7 / (chroma**7 + 25**7))
    rotation *= math.sin(math.radians(60 * math.exp(-(((hue - 275) / 25) ** 2))))
    return math.sqrt(by_light**2 + by_chroma**2 + by_hue**2 - rotation * by_chroma * by_hue)


def test_the_colour_difference_is_that_of_published_pairs() -> None:
    # sRGB primaries, whose CIEDE2000 differences are published
    red, green, blue, black, white = (_linear(c) for c in ("#ff0000", "#00ff00", "#0000ff", "#000000", "#ffffff"))
    assert _ciede2000(black, white) == pytest.approx(100, abs=0.01)
    assert _ciede2000(red, green) == pytest.approx(86.61, abs=0.02)
    assert _ciede2000(blue, green) == pytest.approx(83.19, abs=0.02)
    assert _ciede2000(red, blue) == pytest.approx(52.88, abs=0.02)


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("shown", PALETTES, ids=["light", "dark"])
def test_the_nearest_hues_are_twelve_apart_for_every_eye(shown: style.Palette, sight: str) -> None:
    seen = {color: SIGHT[sight] @ _linear(color) for color in (*shown.hues, shown.other)}
    for one, two in itertools.combinations(seen, 2):
        assert _ciede2000(seen[one], seen[two]) >= 12, (one, two)


def test_the_grounds_of_charts_are_those_of_the_pages() -> None:
    theme = tomllib.loads((Path(style.__file__).parents[1] / "app/.streamlit/config.toml").read_text())["theme"]
    assert theme["light"]["backgroundColor"] == style.LIGHT.background
    assert theme["dark"]["backgroundColor"] == style.DARK.background


# --- selections ------------------------------------------------------------------------------------------------


def test_a_brush_takes_the_buckets_whose_middle_it_covers() -> None:
    asked = answer(EVERY, "2026-10-20T00:00:00Z", "2026-10-30T00:00:00Z")
    edges = asked.edges
    low, high = style.millis(edges[2]) + 1000, style.millis(edges[5]) - 1000
    for selection in (
        {"brush": {"start": [low, high]}},
        {"brush": {"start": [high, low]}, "pick": {}},
        {"selection": {"brush": {"middle": [low, high]}}},
        SimpleNamespace(brush=SimpleNamespace(value={"start": [low, high]})),
    ):
        assert charts.brushed(asked, selection) == (edges[2], edges[5])


def test_a_brush_within_one_bucket_takes_it() -> None:
    asked = answer(EVERY, "2026-10-20T00:00:00Z", "2026-10-30T00:00:00Z")
    low = style.millis(asked.edges[3]) + 60_000
    assert charts.brushed(asked, {"brush": {"start": [low, low + 60_000]}}) == asked.edges[3:5]


@pytest.mark.parametrize("selection", [{}, {"brush": {}}, {"brush": None}, None, {"brush": {"start": [0, 1]}}])
def test_no_brush_is_none(selection: Any) -> None:
    assert charts.brushed(answer(EVERY), selection) is None


def test_a_brush_goes_back_over_the_hour_that_comes_twice() -> None:
    asked = CASES["an hour twice"]()
    for start, end in itertools.pairwise(asked.edges):
        inside = [style.millis(start) + 1, style.millis(end) - 1]
        assert charts.brushed(asked, {"brush": {"start": inside}}) == (start, end)


def test_a_click_gives_series_and_bucket() -> None:
    asked = answer(EVERY)
    start = asked.edges[4]
    mark = {"start": style.millis(start), "position": 2}
    for selection in (
        {"pick": [mark]},
        {"selection": {"pick": [mark], "brush": {}}},
        SimpleNamespace(pick=SimpleNamespace(value=[mark])),
    ):
        assert charts.picked(asked, selection) == (asked.series[2], start)
    assert charts.picked(asked, {"pick": [{**mark, "position": -1}]}) == (None, start)


@pytest.mark.parametrize(
    "selection", [{}, {"pick": {}}, {"pick": []}, {"pick": [{"start": 5, "position": 0}]}, {"pick": [{}]}]
)
def test_no_click_is_none(selection: Any) -> None:
    assert charts.picked(answer(EVERY), selection) is None


def test_a_click_on_a_series_that_left_is_none() -> None:
    asked = answer(EVERY)
    mark = {"start": style.millis(asked.edges[0]), "position": 99}
    assert charts.picked(asked, {"pick": [mark]}) is None


def test_vega_says_nothing_about_a_chart(capfd: pytest.CaptureFixture[str]) -> None:
    spec = charts.chart(answer(EVERY)).to_dict()
    vl_convert.vegalite_to_vega(json.dumps({**spec, "width": 900}))
    printed = capfd.readouterr()
    assert not printed.out + printed.err


def rules(svg: str) -> list[float]:
    """Where the marks' rules are, from left to right, in pixels of the plot."""
    return [float(x) for x in re.findall(r'aria-roledescription="rule mark"[^>]*transform="translate\(([\d.]+),', svg)]


@pytest.mark.usefixtures("validated_charts")
@pytest.mark.parametrize("kind", ["bars", "lines", "area"])
@pytest.mark.parametrize("dark", [True, False])
def test_a_mark_is_where_its_time_is(kind: charts.SeriesKind, dark: bool) -> None:
    asked = answer(EVERY, "2026-10-20T00:00:00Z", "2026-10-30T00:00:00Z", timezone="Europe/Berlin")
    first, last = (edge.timestamp() for edge in (asked.edges[0], asked.edges[-1]))
    plain_chart = asked.chart(kind=kind, dark=dark, width=700)
    marked = plain_chart
    times = ["2026-10-20T00:00:00Z", "2026-10-24T12:00:00+02:00", asked.edges[-1]]
    for number, time in enumerate(times):
        marked = marked + charts.mark(time, f"release {number}")
    svg = charts.image(marked, "svg").decode()
    found = rules(svg)
    length = found[-1] * (last - first) / (last - first)
    moments = [datetime.fromisoformat(str(time)).timestamp() for time in times]
    assert found == pytest.approx([(moment - first) / (last - first) * length for moment in moments], abs=0.6)
    assert all(f"release {number}</text>" in svg for number in range(3))
    assert svg.count("day (Europe/Berlin)</text>") == 1
    assert re.findall(r'role-axis" role=[^>]*aria-label="(.-axis)', svg) == ["Y-axis"]
    assert marked.to_dict()["layer"][: len(plain_chart.layer)] == plain_chart.to_dict()["layer"]


@pytest.mark.usefixtures("validated_charts")
def test_marks_before_the_chart_are_marks_on_it() -> None:
    drawn = answer(EVERY).chart()
    first, second = (charts.mark(f"2026-10-2{day}T00:00:00Z", f"release {day}") for day in (4, 5))
    assert (first + drawn).to_dict() == (drawn + first).to_dict()
    both = (drawn + first + second).to_dict()
    assert (first + second + drawn).to_dict() == (second + (drawn + first)).to_dict() == both
    assert (drawn + (first + second)).to_dict() == both
    assert (first + first + drawn).to_dict() == (drawn + first + first).to_dict()


def test_a_label_beside_the_marks_of_a_picture_has_room_in_a_wider_font() -> None:
    """The picture is as wide as its text in the font it was laid out with, and cut where a browser has a wider one."""
    name = "Harborview Analytics"
    asked = answer([("value", name), ("value", "b")])

    def right(**options: Any) -> float:
        return float(charts.chart(asked, **options).to_dict()["padding"]["right"])

    assert right(width=960, interactive=False) >= right() + 0.2 * 6 * len(name)
    assert right(width=400, interactive=False) == right(), "the legend is below"


@pytest.mark.each_value
@pytest.mark.parametrize("width", [300, 400, 499])
@pytest.mark.parametrize("keys", [EVERY, MANY[:2], [("value", "Harborview Analytics of the North"), ("value", "b")]])
def test_columns_of_a_legend_below_the_marks_fit_also_in_a_wider_font(
    width: int, keys: list[tuple[SeriesKind, str | None]]
) -> None:
    """A browser draws the picture in its own font, up to a fifth wider than the one it was laid out with."""
    spec = charts.chart(answer(keys), width=width, interactive=False).to_dict()
    legend = next(legend for legend in _legends(spec) if legend)
    label, columns = 1.2 * legend["labelLimit"], legend["columns"]
    symbol, axis = 22, 70
    assert label <= legend["labelLimit"] + legend["columnPadding"]
    assert axis + columns * (symbol + label) <= width
    assert columns == (1 if len(keys) == 2 and len(keys[0][1] or "") > 20 else 2)


def _legends(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        if "orient" in (value.get("legend") or {}):
            yield value["legend"]
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _legends(each)


@pytest.mark.parametrize("marked", [False, True])
def test_a_saved_chart_has_a_width(marked: bool, tmp_path: Path) -> None:
    drawn = answer(EVERY).chart()
    if marked:
        drawn += charts.mark("2026-10-25T00:00:00Z", "release")
    for form in ("png", "svg", "pdf", "html", "json"):
        drawn.save(str(tmp_path / f"chart.{form}"))
    header = (tmp_path / "chart.png").read_bytes()[16:24]
    assert int.from_bytes(header[:4]) == 960
    svg = (tmp_path / "chart.svg").read_text()
    bars = [float(x) for x in re.findall(r'aria-label="time: [^"]* series: [^"]*"[^>]* d="M([\d.]+)', svg)]
    assert max(bars) - min(bars) > 500, "the plot, beside axis and legend"
    assert json.loads((tmp_path / "chart.json").read_text())["width"] == 960
    assert '"width": 960' in (tmp_path / "chart.html").read_text()
    assert (tmp_path / "chart.pdf").read_bytes().startswith(b"%PDF")
    assert drawn.to_dict()["width"] == "container"
    drawn.properties(width=300).save(tmp_path / "narrow.png")
    assert int.from_bytes((tmp_path / "narrow.png").read_bytes()[16:20]) == 300


def test_a_mark_that_the_chart_does_not_reach_is_refused() -> None:
    drawn = answer(EVERY).chart()
    with pytest.raises(QueryError, match="time: lies outside the chart, which is from 2026-10-20T00:00:00Z to"):
        drawn + charts.mark("2026-12-01T00:00:00Z", "later")
    with pytest.raises(QueryError, match="time: lies outside the chart"):
        charts.mark("2026-12-01T00:00:00Z", "later") + drawn
    with pytest.raises(QueryError, match="time: "):
        charts.mark("2026-12-01 00:00", "no offset")


def test_an_axis_keeps_its_unit_beyond_a_thousand() -> None:
    drawn = charts.image(answer(ALL, value=lambda _, index: str(index * 10**14)).chart(), "svg").decode()
    assert {"500 T", "1,000 T"} <= {*re.findall(">([^<>]+)</text>", drawn)}
    assert not re.search(r">1e\+?\d+</text>", drawn)


def test_two_answers_are_drawn_beside_each_other_and_not_on_each_other() -> None:
    drawn = answer(EVERY).chart()
    with pytest.raises(QueryError, match=r"chart: is another answer's chart.*; put it beside with \| or below with &"):
        drawn + answer(EVERY).chart(kind="lines")
    for several in ((drawn | drawn) & drawn, (drawn & drawn) | drawn, drawn & (drawn | drawn)):
        assert charts.image(several, "svg").count(b"</svg>") == 1
        assert several.to_dict()["background"] == drawn.background


def test_a_layer_with_times_is_refused_and_a_level_is_not() -> None:
    drawn = answer(EVERY).chart(width=600)
    times = pd.DataFrame({"at": [pd.Timestamp("2026-11-01", tz="UTC")], "level": [1e7]})
    rule = alt.Chart(times).mark_rule()
    for layer in (rule.encode(x="at:T"), alt.layer(rule.encode(x="at"), rule.encode(y="level:Q"))):
        with pytest.raises(QueryError, match=r"x: is not in milliseconds.*charts\.mark"):
            drawn + layer
    level = drawn + rule.encode(y="level:Q")
    assert len(rules(charts.image(level, "svg").decode())) == 1
    assert b"</svg>" in charts.image(level | drawn, "svg")


@pytest.mark.usefixtures("validated_charts")
@pytest.mark.parametrize("interactive", [True, pytest.param(False, marks=pytest.mark.thorough)])
def test_charts_are_put_together_as_they_are_alone(interactive: bool) -> None:
    one = answer(EVERY)
    two = answer(MANY[:3], "2026-09-01T00:00:00Z", "2026-09-08T00:00:00Z", value=lambda rank, _: rank + 1)
    parts = [each.chart(width=500, interactive=interactive) for each in (one, two, one)]

    def drawn(chart: Any) -> list[tuple[str, str]]:
        """The numbers of each bar, which Vega says of marks that it describes, and its colour."""
        described = json.dumps(chart.to_dict()).replace('"aria": false', '"aria": true')
        svg = vl_convert.vegalite_to_svg(described)
        return re.findall(r'aria-label="(start: [^"]* high: [^"]*)"[^>]* fill="(#[^"]*)"', svg)

    alone = [drawn(part) for part in parts]
    assert all(alone)
    for together in (parts[0] | parts[1] | parts[2], parts[0] & parts[1] & parts[2]):
        assert drawn(together) == [*itertools.chain(*alone)]
        spec = together.to_dict()
        assert spec["background"] == style.LIGHT.background
        assert "params" not in spec
    wide = one.chart() | alt.Chart(one.plot_frame).mark_line().encode(x="start:T", y="value:Q", color="label:N")
    assert b"</svg>" in charts.image(wide, "svg")


@pytest.mark.usefixtures("validated_charts")
def test_own_colours_and_names() -> None:
    asked = answer(EVERY)
    drawn = asked.chart(colors={"gpt-x": "#12ab34", "Other (folded)": "#000001"}, names={"gpt-x": "Our model"})
    svg = charts.image(drawn, "svg").decode()
    assert "Our model</text>" in svg
    assert "gpt-x</text>" not in svg
    assert {"#12ab34", "#000001"} <= set(re.findall(r'fill="(#\w+)"', svg))
    for wrong, said in (
        ({"colors": {"gpt": "#12ab34"}}, "colors: 'gpt' is the label of no series, did you mean gpt-x?"),
        ({"colors": {"gpt-x": "greenish"}}, "colors: 'greenish' is not a color; write it like #1489fa"),
        ({"names": {"gpt-x": 5}}, "names: 5 is not a name; write a text"),
        ({"names": {"gpt-x": "Other"}}, "names: give two series one name; each needs another"),
    ):
        with pytest.raises(QueryError) as refused:
            asked.chart(**wrong)
        assert said in str(refused.value)


@pytest.mark.parametrize("dark", [False, True])
def test_a_default_colour_that_is_given_to_another_series_moves_aside(dark: bool) -> None:
    asked = answer(MANY[:6])
    usual = style.colors(asked, dark)
    for index, color in usual.items():
        for given in range(6):
            found = style.colors(asked, dark, {given: color.upper()})
            assert found[given] == color.upper()
            assert len({each.lower() for each in found.values()}) == len(found), (index, given)
            assert set(found.values()) - {color.upper()} <= {*charts.theme(dark).hues}
    label = list(dict.fromkeys(asked.frame["label"]))[1]
    drawn = json.dumps(asked.chart(dark=dark, colors={label: usual[0]}).to_dict())
    assert usual[0] in drawn
    shades = json.loads(re.search(r'"range": (\[[^\]]*\])', drawn)[1])  # type: ignore[index]
    assert len(shades) == len({*shades}) == 6


def test_a_title_has_whole_seconds_and_the_answer_its_exact_times() -> None:
    asked = answer(EVERY, "2026-11-04T01:02:03.585834Z", "2026-11-06T04:43:16.000001Z", as_of="2026-11-06T05:00:00.25Z")
    title = " ".join(asked.chart().to_dict()["title"]["text"])
    assert "4 Nov 2026 01:02:03 to 6 Nov 2026 04:43:16, UTC" in title
    assert title.endswith("as known at 6 Nov 2026 05:00:00")
    assert "01:02:03.585834" in repr(asked)
    assert "01:02:03.585834" in json.dumps(asked.to_dict())


def test_the_frame_to_draw_has_floats_wall_clock_times_and_ordered_labels() -> None:
    asked = answer(EVERY, "2026-10-24T22:00:00Z", "2026-10-26T23:00:00Z", timezone="Europe/Berlin")
    frame = asked.plot_frame
    assert str(frame["value"].dtype) == "float64"
    assert list(frame["start"].unique()) == [*pd.to_datetime(["2026-10-25", "2026-10-26"])]
    assert [*frame["label"].cat.categories] == [*asked.frame["label"].unique()]
    assert [*frame["value"]] == [float(value) for value in asked.frame["value"]]
    with io.StringIO() as file:
        alt.Chart(frame).mark_bar().encode(x="start:T", y="value:Q", color="label:N").save(file, format="json")
        assert '"2026-10-25T00:00:00' in file.getvalue()
    with pytest.raises(QueryError, match="metric: the values are too large to draw"):
        _ = answer(EVERY, value=lambda *_: Decimal("1e300")).plot_frame


def test_a_sum_over_several_metrics_says_how_many_it_adds() -> None:
    unlike = answer(EVERY, metrics=12)
    assert "Adds 12 metrics." in " ".join(charts.chart(unlike).to_dict()["title"]["subtitle"])
    assert f"Total {formatting.exact(unlike.total)} quantity, adds 12 metrics." in charts.summary(unlike)
    assert f"total {plain(unlike.total)}, adds 12 metrics; Quantity per day" in repr(unlike)
    assert "adds 12 metrics" in unlike._repr_html_()
    counted = answer(EVERY, metric="count", value=lambda *_: 3, metrics=12)
    for one in (answer(EVERY, metrics=1), counted):
        assert "metrics" not in f"{charts.chart(one).to_dict()['title']} {charts.summary(one)} {one!r}"
    assert counted.to_dict()["metrics"] == 12


@pytest.mark.parametrize("kind", ["bars", "lines", "area"])
def test_no_character_ends_the_process_that_draws(kind: charts.SeriesKind) -> None:
    every = "".join(map(chr, range(1, 32))) + "\ufffe\uffff\x7f\x85😀\\u0002"
    edges = [datetime(2026, 9, day, tzinfo=UTC) for day in (1, 2, 3)]
    points = tuple(Point(start, end, 1, True) for start, end in itertools.pairwise(edges))
    answer = Aggregate(
        query=AggregateQuery(group_by="dim:\x02", metric_key=[*every, "x\x1f"], since=edges[0], until=edges[-1]),
        series=tuple(Series("value", key, 2, 1, points) for key in (every, "a\x01", "a\x02")),
        edges=tuple(edges),
        now=edges[-1],
        capped=False,
        metrics=1,
        app_url="",
        served=Served("there is no extract", timedelta(0)),
    )
    drawn = charts.image(charts.chart(answer, kind=kind, interactive=False), "svg").decode()
    assert "a␁" in drawn
    assert "a␂" in drawn
    assert charts.image(charts.chart(answer, kind=kind, interactive=False), "png").startswith(b"\x89PNG")


@pytest.mark.each_value
@pytest.mark.parametrize("value", ["1E+290", "-1E+290", "1E-290", "3E-289"])
@pytest.mark.parametrize("kind", KINDS)
def test_very_large_and_very_small_values_are_drawn(value: str, kind: charts.SeriesKind) -> None:
    drawn = charts.image(charts.chart(answer(EVERY, value=lambda *_: value), kind=kind), "svg").decode()
    assert "NaN" not in drawn
    assert "Infinity" not in drawn
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", drawn)
    assert any(re.fullmatch(r"[−-]?(\d+… \(29\d digits\)|0\.0…0\d+ \(\d+ decimals\))", text) for text in texts), texts
    assert not [text for text in texts if re.search(r"\de[+−-]?\d", text)]


@pytest.mark.parametrize("value", ["1E+291", "-1E+5000", "1E-291", "1E-16383"])
def test_values_that_no_chart_can_hold_are_refused_in_words(value: str) -> None:
    asked = answer(EVERY, value=lambda *_: value)
    with pytest.raises(QueryError, match=r"metric: the values are too (large|small) to draw.* CSV and JSON"):
        charts.chart(asked)
    assert charts.summary(asked)


def test_a_count_can_always_be_drawn() -> None:
    assert charts.undrawable(answer(ALL, metric="count", value=lambda *_: 2**62)) is None


@pytest.mark.each_value
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("index", [0, 4, 7])
def test_a_selected_bar_has_its_outline_where_it_is_drawn(kind: charts.Kind, index: int) -> None:
    shown = answer(EVERY)
    span = shown.edges[3], shown.edges[4]
    series = shown.series[index]
    marked = charts.marked(shown, (series.kind, series.key), span)
    assert marked == (style.millis(span[0]), style.millis(span[1]), index)
    drawn = charts.chart(shown, kind=kind, interactive=False, selected=marked)
    (row,) = selected_rows(drawn)
    assert row["high"] - row["low"] == pytest.approx(float(series.points[3].value or 0))
    assert (row["start"], row["end"]) == marked[:2]
    assert charts.image(drawn, "svg") != charts.image(charts.chart(shown, kind=kind, interactive=False), "svg")


@pytest.mark.parametrize("kind", KINDS)
def test_a_selected_span_has_its_outline_within_the_chart(kind: charts.Kind) -> None:
    """Also the bar of a series that is not drawn, and a time that begins before the chart."""
    shown = answer(EVERY)
    first = shown.edges[0]
    for series, span, end in (
        (None, (first - timedelta(days=9), shown.edges[2]), shown.edges[2]),
        (("value", "nothing"), (first, shown.edges[1]), shown.edges[1]),
        (("value", "gpt-x"), (first, shown.edges[2]), shown.edges[2]),
    ):
        marked = charts.marked(shown, series, span)
        assert marked == (style.millis(first), style.millis(end), None)
        drawn = charts.chart(shown, kind=kind, interactive=False, selected=marked)
        assert selected_rows(drawn) == [{"start": marked[0], "end": marked[1]}] * 2
        assert charts.image(drawn, "svg")
    assert charts.marked(shown, None, (first - timedelta(days=9), first)) is None
    assert charts.marked(shown, ("value", "gpt-x"), None) is None


def selected_rows(drawn: charts.AnswerChart) -> list[dict[str, Any]]:
    """The rows of the outlines, of each layer."""
    data = [layer.get("data", {}) for layer in drawn.to_dict()["layer"]]
    return [row for part in data if part.get("name") == "selected" for row in json.loads(part["values"])]
