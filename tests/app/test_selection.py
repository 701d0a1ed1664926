"""The selection of the Explore page: the events it is about, what it is compared with, and its edits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import pytest

from support.app_pages import Open
from support.demo_database import ACME, WINDOW
from usage_explore import AggregateQuery, EventQuery, Store, formatting
from usage_explore.app import query_edits, why
from usage_explore.app.page_state import ExploreView
from usage_explore.app.selected import settled_series, zoomed
from usage_explore.explain import Cell
from usage_explore.selection import Selection, Windows, selected, windows

LINK = {"organization_id": ACME, **WINDOW, "group_by": "metric_key"}
DAY = timedelta(days=1)
SPAN = "2026-09-09T00:00:00Z/2026-09-10T00:00:00Z"
NINTH = datetime(2026, 9, 9, tzinfo=UTC)


@pytest.mark.parametrize("series", [None, ("value", "tokens_in"), ("value", "batch_jobs"), ("other", None)])
@pytest.mark.parametrize("span", [None, (NINTH, NINTH + DAY), (NINTH + 15 * DAY, NINTH + 90 * DAY)])
def test_a_selection_counts_the_events_of_its_series_in_its_span(store: Store, series, span) -> None:
    answer = store.aggregate(AggregateQuery(**LINK, top=3))
    selection = selected(answer, series, span)
    assert selection is not None
    every = store.aggregate(AggregateQuery(**LINK, top=0))
    shown = {item.key for item in answer.series if item.kind == "value"}
    expected = sum(
        point.value
        for item in every.series
        if series is None or (item.key == series[1] if series[0] == "value" else item.key not in shown)
        for point in item.points
        if span is None or span[0] <= point.start < span[1]
    )
    assert store.aggregate(selection.query).total == expected > 0
    kept = settled_series(ExploreView(answer.query, series=series, span=span), selection)
    assert (kept.series is None) == (series is None or series[0] == "other")
    if series == ("other", None):
        assert (
            store.aggregate(kept.query.replace(since=selection.query.since, until=selection.query.until)).total
            == expected
        )


def test_the_days_of_a_running_total_are_those_that_its_number_counts(store: Store) -> None:
    """A bar of a running total is the sum since the window's start; the words said its own day alone."""
    answer = store.aggregate(AggregateQuery(**LINK, cumulative=True))
    selection = selected(answer, None, (NINTH - DAY, NINTH + DAY))
    assert selection is not None
    assert selection.words(answer) == "1–9 Sep 2026"
    before = store.aggregate(AggregateQuery(**{**LINK, "until": NINTH + DAY}))
    assert store.aggregate(selection.query).total == before.total
    compared = windows(selection, "", answer, NINTH - 400 * DAY)
    assert isinstance(compared, Windows)
    assert compared.label == "vs 23–31 Aug 2026"


@pytest.mark.parametrize(
    ("group", "filters", "key"),
    [
        ("metric_key", {"metric_key": ["tokens_in"]}, "batch_jobs"),
        ("dim:model", {"dimensions": {"model": ["large", "small"]}}, "medium"),
        ("customer_id", {"customer_id": UUID(int=1)}, str(UUID(int=2))),
    ],
)
def test_a_value_that_the_filter_leaves_out_selects_nothing(store: Store, group: str, filters: dict, key: str) -> None:
    """Its events are not in the answer, so its number would be beside the total instead of a part of it."""
    answer = store.aggregate(AggregateQuery(**{**LINK, "group_by": group}, **filters))
    for series in (("value", key), ("missing", None)):
        assert selected(answer, series, None) == Selection(answer.query)


def test_a_span_outside_the_window_selects_nothing(store: Store) -> None:
    answer = store.aggregate(AggregateQuery(**LINK))
    assert selected(answer, None, (NINTH - 90 * DAY, NINTH - 89 * DAY)) is None
    assert not Selection(answer.query)


@pytest.mark.parametrize(
    ("length", "before", "label"),
    [
        (1, 7, "vs Wed 2 Sep 2026"),
        (7, 7, "vs 2–8 Sep 2026"),
        (8, 8, "vs 1–8 Sep 2026"),
    ],
)
def test_up_to_a_week_is_compared_with_the_week_before(store: Store, length: int, before: int, label: str) -> None:
    answer = store.aggregate(AggregateQuery(**LINK))
    selection = selected(answer, None, (NINTH, NINTH + length * DAY))
    assert selection
    first = datetime(2026, 8, 31, tzinfo=UTC)
    compared = windows(selection, "", answer, first)
    assert isinstance(compared, Windows)
    assert (compared.before.since, compared.before.until) == (
        NINTH - before * DAY,
        NINTH - before * DAY + length * DAY,
    )
    assert compared.label == label
    assert "events begin on" in str(windows(selection, "", answer, NINTH))


@pytest.mark.parametrize(
    ("bucket", "days", "finer"), [("week", 28, "day"), ("day", 1, "hour"), ("day", 28, "day"), ("hour", 1, "hour")]
)
def test_a_zoom_takes_a_finer_bucket_unless_it_is_too_fine(bucket: str, days: int, finer: str) -> None:
    view = ExploreView(AggregateQuery(**LINK, bucket=bucket), span=(NINTH, NINTH + days * DAY))
    assert view.span
    made = zoomed(view, view.span)
    assert (made.query.bucket, made.query.span, made.span) == (finer, view.span, None)


def test_only_and_not_compose_with_the_filters_that_are_there() -> None:
    query = EventQuery(metric_key=["a", "b"], exclude={"dim:model": ["x"]})
    assert query_edits.only(query, "metric_key", "c").metric_key == ("c",)
    assert query_edits.only(query, "dim:model", None).missing == ("dim:model",)
    assert dict(query_edits.without_value(query, "dim:model", "y").exclude) == {"dim:model": ("x", "y")}
    assert dict(query_edits.without_value(query, "price_key", None).exclude)["missing"] == ("price_key",)


def test_a_link_to_a_selection_shows_its_numbers(explore: Open, store: Store) -> None:
    app = explore(**LINK, span=SPAN, rank="change")
    query = AggregateQuery(**{**LINK, "since": NINTH, "until": NINTH + DAY}, top=0)
    now, before = (
        store.aggregate(query.replace(since=NINTH - days * DAY, until=NINTH - days * DAY + DAY)) for days in (0, 7)
    )
    text = " ".join(each.value for each in app.subheader)
    assert f"{formatting.short(now.total)}" in text.replace("\\", "")
    assert "vs Wed 2 Sep 2026" in text.replace("\\", "")
    ranking = app.dataframe[0].value
    earlier = {series.key: series.total for series in before.series}
    changes = {series.key: series.total - earlier.get(series.key, 0) for series in now.series}
    ranking["series"] = ranking["series"].str.removesuffix(" (in Other)")
    listed = ranking[ranking["series"].isin([*changes])]
    assert dict(zip(listed["series"], listed["change"], strict=True)) == {
        name: changes[name] for name in listed["series"]
    }
    moved = sorted((abs(change) for change in changes.values()), reverse=True)
    assert [abs(change) for change in listed["change"]][:5] == moved[:5]


def test_a_series_is_selected_in_a_list_which_the_keyboard_reaches(explore: Open) -> None:
    app = explore(**LINK, top=2)
    (box,) = (each for each in app.selectbox if each.label == "Selected series")
    assert box.options[0] == "Select a series"
    box.select(("value", box.options[1])).run()
    assert app.query_params["series"] == f"value:{box.options[1]}"
    (box,) = (each for each in app.selectbox if each.label == "Selected series")
    box.select(()).run()
    assert "series" not in app.query_params
    assert not [each for each in explore(**{**LINK, "group_by": "none"}).selectbox if each.label == "Selected series"]


@pytest.mark.parametrize("series", ["value:tokens_in", "other"])
def test_a_series_becomes_a_filter_in_another_grouping(explore: Open, store: Store, series: str) -> None:
    link = {"organization_id": ACME, "since": NINTH, "until": NINTH + DAY, "group_by": "metric_key"}
    kept = store.aggregate(AggregateQuery(**LINK, top=3)).series[:3]
    named = {"metric_key": "tokens_in"} if series != "other" else {"not:metric_key": [each.key for each in kept]}
    expected = store.aggregate(AggregateQuery.from_params({**link, **named})).total
    app = explore(**LINK, top=3, series=series, span=SPAN)
    for group in (None, "dim:region"):
        if group:
            app.selectbox(key="group_by").select(group).run()
        said = "\n".join(each.value.replace("\\", "") for each in (*app.markdown, *app.subheader, *app.caption))
        assert f"**{formatting.counted(expected, 'event')}** ·" in said
    assert "series" not in app.query_params
    assert app.query_params["span"] == SPAN


@pytest.mark.parametrize(
    ("parameters", "words"), [({"span": SPAN}, "9 Sep 2026"), ({"series": "value:tokens_in"}, "metric tokens_in")]
)
def test_the_text_for_a_ticket_is_about_the_selection(
    explore: Open, store: Store, parameters: dict[str, str], words: str
) -> None:
    app = explore(**LINK, **parameters, tab="ticket")
    text = app.code[-1].value
    link = text.splitlines()[-1]
    pinned = AggregateQuery.from_params([pair for pair in parse_qsl(urlsplit(link).query) if pair[0] not in parameters])
    answer = store.aggregate(pinned)
    part = answer
    if "span" in parameters:
        part = store.aggregate(pinned.replace(since=NINTH, until=NINTH + DAY))
        before = store.aggregate(pinned.replace(since=NINTH - 7 * DAY, until=NINTH - 6 * DAY)).total
        largest = part.series[0]
        assert f", 9 Sep 2026:\n- {largest.key}: {largest.total:,} events" in text
        assert f"Its change: {formatting.change(Decimal(part.total - before) / before)}" in text
        assert f"(2 Sep 2026: {before:,} events)" in text
    else:
        part = store.aggregate(pinned.replace(metric_key=["tokens_in"]))
        assert "Largest" not in text
    assert f"Selected: {words}: {part.total:,} events" in text
    assert f"\nTotal: {answer.total:,} events" in text
    known = formatting.zoned(answer.query.as_of, answer.query.zone)
    assert f"As of: {known}" in text
    assert any(f"as of {known}" in each.value.replace("\\", "") for each in app.caption)


def test_why_runs_beside_the_page_and_a_pair_excludes_each_of_its_values(explore: Open, store: Store) -> None:
    span = (NINTH, NINTH + 7 * DAY)
    written = "/".join(edge.isoformat().replace("+00:00", "Z") for edge in span)
    app = explore(**LINK, span=written, tab="why")
    assert not app.exception
    explanation = store.explain(
        AggregateQuery(**{**LINK, "since": span[0], "until": span[1], "group_by": "none"}),
        baseline=(span[0] - 7 * DAY, span[1] - 7 * DAY),
    )
    shown = " ".join(each.value for each in app.markdown).replace("\\", "").replace("\u00a0", " ")
    assert formatting.typographic(explanation.headline).replace("\\", "") in shown
    assert not any("Searching for the causes" in each.value for each in app.caption)
    query = AggregateQuery(**LINK)
    pair = Cell(
        where=(("metric_key", "tokens_in"), ("dim:model", "large")),
        without=(),
        always=(),
        before=1,
        after=2,
        share=Decimal("-0.25"),
        is_new=False,
        is_gone=False,
        query=query,
    )
    row = why._row(explanation, pair, pair.label, Decimal(4))
    assert (row.part, row.share, row.is_against) == ("\N{MINUS SIGN}25.0 %", 0.25, True)
    assert row.name.endswith(" (against the change)")
    assert row.exclusions == (
        "Not metric tokens_in, not only in this pair",
        "Not model large, not only in this pair",
    )
    assert not row.excludable
    edited = [why.without_value(ExploreView(query), Selection(query), pair, place).query for place in (0, 1)]
    assert [dict(each.exclude) for each in edited] == [{"metric_key": ("tokens_in",)}, {"dim:model": ("large",)}]


def test_why_says_what_it_explains_of_a_unit_cost_and_which_windows_differ_in_length(explore: Open) -> None:
    def notes(**more: object) -> str:
        app = explore(**{**LINK, "tab": "why", **more})
        assert not app.exception
        return " ".join(each.value for each in [*app.caption, *app.info]).replace("\\", "")

    words = "A unit cost is a ratio, whose change has no parts: this is the change of its cost."
    assert words in notes(metric="unit_cost", metric_key="tokens_in", external_cost_currency="USD", span=SPAN)
    plain = notes(compare="2026-09-01T00:00:00Z/2026-09-08T00:00:00Z")
    assert "The two windows differ in length: 28 days against 7." in plain
    assert words not in plain
    assert "differ in length" not in notes(span=SPAN)
    assert "The quantity adds" in notes(metric="sum_quantity", span=SPAN)
    assert "The quantity adds" not in notes(metric="sum_quantity", metric_key="tokens_in", span=SPAN)
    by_metric = {"metric": "sum_quantity", "group_by": "metric_key"}
    assert "The quantity adds" in notes(**by_metric, span=SPAN)
    assert "The quantity adds" not in notes(**by_metric, series="value:tokens_in", span=SPAN)
