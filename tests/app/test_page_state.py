"""Links and views, filters and chips: each way and back."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import get_args
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usage_explore import AggregateQuery, EventQuery, QueryError, formatting
from usage_explore.app import markdown, query_edits
from usage_explore.app.events import export_file_name
from usage_explore.app.header import linked_views
from usage_explore.app.page_state import EventsView, ExploreView, ValidateView
from usage_explore.app.query_edits import Filter
from usage_explore.decimals import json_text
from usage_explore.query import buckets
from usage_explore.query.describe import file_dates, window_words
from usage_explore.query.queries import Period
from usage_explore.store.display import Tab

ID = "0a0a0a0a-0000-4000-8000-000000000001"
NOW = datetime(2026, 9, 30, 14, 5, tzinfo=UTC)
keys = st.text(min_size=1, max_size=8).filter(lambda text: "\0" not in text and text.isprintable())
values = st.lists(keys, min_size=1, max_size=3, unique=True).map(lambda found: tuple(sorted(found)))
groups = st.sampled_from(["metric_key", "price_key", "wallet_currency", "external_cost_currency"]) | keys.map(
    "dim:{}".format
)
filters = st.one_of(
    st.builds(Filter, groups, st.sampled_from(["is", "is not"]), values),
    st.builds(Filter, groups, st.sampled_from(["is missing", "is not missing"])),
    st.builds(Filter, st.just("customer_id"), st.sampled_from(["is", "is not"]), st.just((ID,))),
)
spans = st.tuples(
    st.datetimes(datetime(1990, 1, 1), datetime(2020, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.datetimes(datetime(2020, 1, 2), datetime(2090, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
series = st.one_of(
    st.tuples(st.just("value"), st.text(max_size=8).filter(lambda text: "\0" not in text)),
    st.tuples(st.sampled_from(["all", "missing", "other"]), st.none()),
)


@given(
    filters,
    st.sampled_from(["bars", "lines", "area"]),
    st.none() | series,
    st.none() | spans,
    st.sampled_from(get_args(Tab)),
)
def test_an_explore_view_is_its_parameters(one, chart, picked, span, tab) -> None:
    query = query_edits.with_filter(AggregateQuery(organization_id=ID), one)
    view = ExploreView(query, chart, picked, span, tab=tab)
    assert AggregateQuery.from_params(view.to_params()) == query
    assert ExploreView.from_params(view.to_params()) == view


@given(filters, st.none() | st.tuples(spans.map(lambda span: span[0]), st.uuids()))
def test_an_events_view_is_its_parameters(one, event) -> None:
    view = EventsView(query_edits.with_filter(EventQuery(organization_id=ID), one), "Asia/Kathmandu", event)
    assert EventsView.from_params(view.to_params()) == view


@given(st.lists(filters, max_size=5))
def test_every_filter_has_a_chip_that_removes_it(several) -> None:
    query = EventQuery(organization_id=ID)
    for each in several:
        query = query_edits.with_filter(query, each)
    chips = query_edits.filters(query)
    assert len(chips) == len({(each.group, each.test) for each in several})
    for chip in chips:
        assert chip not in query_edits.filters(query_edits.without_filter(query, chip))
        assert query_edits.with_filter(query_edits.without_filter(query, chip), chip) == query
    assert query_edits.without_filters(query) == EventQuery(organization_id=ID)


@pytest.mark.parametrize("bucket", buckets.BUCKETS)
@pytest.mark.parametrize("name", [name for name in query_edits.PRESETS if name != "custom"])
def test_a_preset_is_the_same_time_in_every_bucket(name: str, bucket: str) -> None:
    query = query_edits.with_preset(AggregateQuery(timezone="Asia/Kathmandu"), name, NOW)
    assert query_edits.preset(query) == name
    moved = query.replace(bucket=bucket)
    assert query_edits.preset(moved) == name
    assert moved.resolve(NOW).span == query.resolve(NOW).span
    again = query_edits.with_preset(moved, name, NOW)
    assert again.resolve(NOW).span == query.resolve(NOW).span
    assert query.resolve(NOW).since in query.resolve(NOW).edges(), "a whole first hour or day"


@pytest.mark.parametrize(("name", "bucket", "bars"), [("24h", "hour", 24), ("7d", "day", 7), ("30d", "day", 30)])
def test_a_preset_draws_as_many_bars_as_its_label_says(name: str, bucket: str, bars: int) -> None:
    query = query_edits.with_preset(AggregateQuery(bucket=bucket, timezone="Asia/Kathmandu"), name, NOW)
    assert len(query.resolve(NOW).edges()) - 1 == bars
    assert query_edits.PRESETS[name].partition(" ")[0] == str(bars)
    assert window_words(query) == f"last {bars} {bucket}s"


@pytest.mark.parametrize("window", [*buckets.CALENDAR_WINDOWS, "2026-09"])
def test_a_calendar_window_is_a_preset_where_it_is_offered(window: str) -> None:
    query = AggregateQuery(window=window)
    assert query_edits.preset(query) == (window if window in query_edits.PRESETS else None)


def test_bounds_are_chips_in_words_on_the_clock_of_the_page() -> None:
    query = EventQuery(ingested_after="2026-09-30T22:00:00Z", quantity_min="0.50", idempotency_key="k", id=ID)
    chips = query_edits.filters(query, ZoneInfo("Europe/Berlin"))
    assert [str(chip) for chip in chips] == [
        f"id is {ID[:8]}…",
        "idempotency key is k",
        "arrived from 1 Oct 2026 00:00",
        "quantity at least 0.5",
    ]
    for chip in chips:
        query = query_edits.without_filter(query, chip)
    assert query == EventQuery()


def test_custom_starts_from_the_window_that_is_shown() -> None:
    query = AggregateQuery(since="-7d/d", timezone="Europe/Berlin")
    custom = query_edits.with_preset(query, "custom", NOW)
    assert custom.span == query.resolve(NOW).span
    assert query_edits.preset(custom) == "custom"


def test_a_link_that_names_an_organization_at_most_is_the_start_page_and_others_are_taken_at_their_word() -> None:
    start = AggregateQuery(since="-29d/d", group_by="metric_key")
    organization = (("organization_id", ID),)
    assert ExploreView.from_params(()).query == start
    assert ExploreView.from_params(organization).query == start.replace(organization_id=ID)
    assert ExploreView.from_params((*organization, ("chart", "lines"))).query == start.replace(organization_id=ID)
    assert ExploreView.from_params((*organization, ("top", "3"))).query == AggregateQuery(organization_id=ID, top=3)
    assert ValidateView.from_params(()).query == Period(window="last_month")
    assert ValidateView.from_params(organization).query == Period(window="last_month", organization_id=ID)
    for base in ("http://127.0.0.1:8501", "https://a.example/usage", ""):
        link = f"{base}/?organization_id={ID}&chart=lines"
        assert AggregateQuery.from_params(link) == start.replace(organization_id=ID)
        assert AggregateQuery.from_params(f"{link}&top=3") == AggregateQuery(organization_id=ID, top=3)
        period = Period.from_params(f"{base}/validate?organization_id={ID}")
        assert period == Period(window="last_month", organization_id=ID)
        requested = f"{base}/api/v1/usage-events/aggregate?organization_id={ID}"
        assert AggregateQuery.from_params(requested) == AggregateQuery(organization_id=ID)
    assert AggregateQuery.from_params(f"?organization_id={ID}") == AggregateQuery(organization_id=ID)


@pytest.mark.parametrize("organization_id", [None, ID])
def test_a_question_of_all_defaults_is_not_mistaken_for_the_start_page(organization_id: str | None) -> None:
    for view in (
        ExploreView(AggregateQuery(organization_id=organization_id)),
        ValidateView(Period(organization_id=organization_id)),
    ):
        assert type(view).from_params(view.to_params()) == view


spans_or_none, series_or_none = st.none() | spans, st.none() | series
changes = st.sampled_from(
    [{"metric": "sum_quantity"}, {"bucket": "week"}, {"since": "-7d"}, {"top": 3}, {"timezone": "Asia/Tokyo"}]
)


@given(series_or_none, spans_or_none, changes, st.sampled_from(["metric_key", "dim:model"]))
def test_what_is_picked_survives_where_it_still_means_something(picked, span, change, grouping) -> None:
    query = AggregateQuery(organization_id=ID, group_by="metric_key")
    view = ExploreView(query, "lines", picked, span)
    asked = view.with_query(query.replace(group_by=grouping, **change))
    assert (asked.chart, asked.span) == ("lines", span)
    assert asked.series == (picked if grouping == "metric_key" else None)
    other = view.with_query(query.replace(organization_id="0a0a0a0a-0000-4000-8000-000000000002"))
    assert (other.series, other.span) == (None, None)


def test_all_faults_of_a_link_are_told_at_once() -> None:
    with pytest.raises(QueryError) as raised:
        ExploreView.from_params((("bucket", "year"), ("chart", "pie"), ("series", "value"), ("span", "x/y")))
    assert {fault.parameter for fault in raised.value.faults} == {"bucket", "chart", "series", "span"}


@pytest.mark.parametrize(
    ("value", "short", "exact"),
    [
        (0, "0", "0"),
        (9871, "9,871", "9,871"),
        (12480000, "12.48 M", "12,480,000"),
        (999_940, "999.9 k", "999,940"),
        (999_960, "1 M", "999,960"),
        (-999_999_999, "-1 B", "-999,999,999"),
        (Decimal("9999.6"), "10 k", "9,999.6"),
        (Decimal("12349.9"), "12.35 k", "12,349.9"),
        (-84213, "-84.21 k", "-84,213"),
        (Decimal("0.000000000000001"), "0.0…01 (15 decimals)", "0.000000000000001"),
        (Decimal("-1.23456E-13"), "-0.0…01234… (18 decimals)", "-0.000000000000123456"),
        (10**18, "1000… (19 digits)", "1,000,000,000,000,000,000"),
        (Decimal("1734502117.123456789"), "1.73 B", "1,734,502,117.123456789"),
        (
            Decimal("12345678901234567890123456789.5"),
            "1234… (29 digits and decimals)",
            "12,345,678,901,234,567,890,123,456,789.5",
        ),
    ],
)
def test_numbers_are_short_in_headlines_and_exact_elsewhere(value, short, exact) -> None:
    assert formatting.exact(value) == exact
    assert formatting.short(value) == short


def test_a_unit_is_chosen_after_rounding() -> None:
    assert [formatting.size(octets) for octets in (999, 999_949, 999_950, 999_999_999)] == [
        *("999 bytes", "999.9 kB", "1.0 MB", "1.0 GB")
    ]
    assert formatting.percent(9_999_600, 1_000_000) == "1,000 %"
    assert formatting.change(Decimal("9.9996")) == "+1,000 %"


@pytest.mark.parametrize(
    ("ratio", "change", "share"),
    [
        ("9999.99", "+1 M %", "1 M %"),
        ("9999.991", "> +999,999 %", "> 999,999 %"),
        ("2.9394473574357E+20", "> +999,999 %", "> 999,999 %"),
        ("-2.9394473574357E+20", "< -999,999 %", "< -999,999 %"),
    ],
)
def test_a_ratio_has_no_exponent(ratio: str, change: str, share: str) -> None:
    assert formatting.change(Decimal(ratio)) == change
    assert formatting.percent(Decimal(ratio)) == share


@pytest.mark.parametrize(
    ("since", "until", "timezone", "dates"),
    [
        ("2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z", "Europe/Berlin", "2026-10-01-2026-10-31"),
        ("2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z", "UTC", "2026-09-30-2026-10-31"),
        ("2026-10-01T00:00:00Z", "2026-10-02T00:00:00Z", "UTC", "2026-10-01"),
        ("2026-10-01T00:00:00Z", "2026-10-02T00:00:00.000001Z", "UTC", "2026-10-01-2026-10-02"),
    ],
)
def test_files_are_dated_on_the_query_s_clock(since: str, until: str, timezone: str, dates: str) -> None:
    assert file_dates(AggregateQuery(since=since, until=until, timezone=timezone)) == dates


def test_an_hour_that_comes_twice_is_told_apart() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    first, second = (formatting.timestamp(datetime(2026, 10, 25, hour, 30, tzinfo=UTC), berlin) for hour in (0, 1))
    assert (first, second) == ("2026-10-25 02:30:00 +0200", "2026-10-25 02:30:00 +0100")
    assert (
        formatting.timestamp(datetime(2026, 10, 25, 12, 0, 0, 120, tzinfo=UTC), berlin) == "2026-10-25 13:00:00.00012"
    )


def test_json_keeps_every_digit() -> None:
    value = {"a": Decimal("1.10"), "b": [Decimal("12345678901234567890.123"), "1.10", None]}
    assert json_text(value) == '{"a": 1.10, "b": [12345678901234567890.123, "1.10", null]}'


def test_ids_are_shortened_in_chips_only() -> None:
    assert str(Filter("customer_id", "is", (ID,))) == "customer is 0a0a0a0a…"
    assert str(Filter("dim:model", "is not", ("", "x", "y"))) == "model is not (empty), x and 1 more"
    assert UUID(query_edits.filters(EventQuery(customer_id=ID))[0].values[0]) == UUID(ID)


def test_the_empty_text_and_one_that_is_spelled_so_are_told_apart() -> None:
    assert str(Filter("dim:model", "is", ("", "(empty)"))) == 'model is (empty), "(empty)"'
    assert str(Filter("dim:model", "is", ("(missing)",))) == 'model is "(missing)"'


def test_a_comma_parts_no_value_of_a_chip_in_two() -> None:
    assert str(Filter("dim:model", "is", ("a, b", "c"))) == 'model is "a, b", c'
    assert str(Filter("dim:model", "is", ("a, b",))) == "model is a, b"


def test_commands_in_a_message_are_code_and_the_rest_is_as_it_is() -> None:
    assert markdown.prose("Run `usage-explore load FILE`, *now*") == "Run `usage-explore load FILE`, \\*now\\*"
    assert markdown.prose("a ` b") == markdown.plain("a ` b")


def test_marks_that_stand_alone_and_entities_are_escaped() -> None:
    assert markdown.plain("R&amp;D") == r"R\&amp;D"
    for mark in ("->", "<-", "<->", "--", ">=", "<=", "~="):
        split = f"{mark[0]}\u2060{mark[1:]}"
        for text in (mark, f"a {mark} b", f"{mark}\nb", f"a\t{mark}\ufeff"):
            assert split in markdown.plain(text).replace("\\", ""), text
        assert "\u2060" not in markdown.plain(f"a{mark} {mark}b {mark}{mark}")
    assert markdown.plain("1.4 % of 5 %x") == "1\\.4\u00a0% of 5 %x"


def test_a_window_up_to_now_stays_the_same_from_explore_through_events_to_validate() -> None:
    explore = ExploreView(AggregateQuery(organization_id=ID, since="-7d/d", metric_key="tokens_in"))
    _, events, validate = linked_views(explore, NOW)
    for view in linked_views(events, NOW):
        if not isinstance(view, EventsView):
            assert view.query.resolve(NOW).span == explore.query.resolve(NOW).span
            assert view.query.until == "now"
            assert view.query.metric_key == ("tokens_in",)
    assert validate.query.resolve(NOW).span == explore.query.resolve(NOW).span


@pytest.mark.parametrize(
    ("after", "before", "name"),
    [
        (datetime(2026, 9, 30, 22, tzinfo=UTC), datetime(2026, 10, 31, 23, tzinfo=UTC), "-2026-10-01-2026-10-31"),
        (datetime(2026, 9, 30, 22, tzinfo=UTC), None, "-from-2026-10-01"),
        (None, datetime(2026, 9, 30, 22, tzinfo=UTC), "-before-2026-10-01"),
        (None, None, ""),
    ],
)
def test_an_export_is_named_by_its_window_on_the_pages_clock(
    after: datetime | None, before: datetime | None, name: str
) -> None:
    view = EventsView(EventQuery(organization_id=ID, occurred_after=after, occurred_before=before), "Europe/Berlin")
    assert export_file_name(view) == f"usage-events{name}"
