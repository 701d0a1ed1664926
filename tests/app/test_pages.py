"""What each page shows in each of its states."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import psycopg
import pytest
from psycopg import sql
from streamlit.dataframe_util import convert_arrow_bytes_to_pandas_df
from streamlit.testing.v1 import AppTest

from support.app_pages import MAIN, Open, opened
from support.demo_database import ACME, BIRCH, WINDOW
from support.waiting import PATIENCE
from usage_explore import AggregateQuery, EventQuery, Store, formatting
from usage_explore.app import markdown
from usage_explore.errors import StatementTimeout

LINK = {"organization_id": ACME, **WINDOW, "group_by": "dim:model"}
EARLY = {
    "explore": {"since": "2020-01-01T00:00:00Z", "until": "2020-02-01T00:00:00Z"},
    "events": {"occurred_before": "2020-02-01T00:00:00Z"},
}


def charts(app: AppTest) -> int:
    return len(app.get("vega_lite_chart"))


def text(app: AppTest) -> str:
    found = [*app.markdown, *app.subheader, *app.caption, *app.info, *app.error, *app.warning]
    return "\n".join(each.value.replace("\\", "") for each in found)


def test_a_link_shows_its_numbers(explore: Open, store: Store) -> None:
    answer = store.aggregate(AggregateQuery(**LINK))
    app = explore(**LINK)
    assert charts(app) == 1
    assert formatting.short(answer.total) in text(app)
    assert "Events per day by model, 1–28 Sep 2026, UTC" in text(app)
    assert f"{answer.folded:,} in Other" in text(app)
    assert formatting.counted(answer.total, "event") in text(app)


def test_the_widgets_follow_the_url(explore: Open) -> None:
    app = explore(**LINK, bucket="week", metric="sum_quantity", chart="lines", timezone="Europe/Berlin")
    assert [app.session_state[key] for key in ("bucket", "metric", "chart_kind", "timezone", "preset")] == [
        "week",
        "sum_quantity",
        "lines",
        "Europe/Berlin",
        "custom",
    ]
    app.query_params["bucket"] = "hour"
    app.run()
    assert app.session_state["bucket"] == "hour"


def test_a_widget_writes_the_url(explore: Open) -> None:
    app = explore(**LINK)
    app.selectbox(key="group_by").select("customer_id").run()
    assert app.query_params["group_by"] == "customer_id"
    assert app.query_params["organization_id"] == ACME
    app.selectbox(key="timezone").select("Asia/Kathmandu").run()
    assert app.query_params["timezone"] == "Asia/Kathmandu"
    assert app.query_params["group_by"] == "customer_id"


def test_a_chip_removes_its_filter(explore: Open) -> None:
    app = explore(**LINK, metric_key=["tokens_in", "tokens_out"], **{"not:dim:region": "us-west"})
    app.button(key="chip metric_key is").click().run()
    assert "metric_key" not in app.query_params
    assert app.query_params["not:dim:region"] == "us-west"


def test_every_fault_of_a_bad_link_is_told_and_nothing_is_shown(explore: Open) -> None:
    app = explore(organization_id=ACME, custmer_id="x", bucket="year", chart="pie", span="yesterday")
    told = app.error[0].value.replace("\\", "")
    for fault in ("custmer_id**: unknown parameter, did you mean customer_id?", "bucket**", "chart**", "span**"):
        assert fault in told
    assert len(told.splitlines()) == 6
    assert not charts(app)
    assert not app.dataframe
    app.button(key="start_over").click().run()
    assert not app.error


def test_a_link_cannot_smuggle_markdown_into_the_page(explore: Open) -> None:
    app = explore(organization_id=ACME, bucket="[click](http://example.com)")
    assert "\\[click\\]" in app.error[0].value


def test_nothing_found_is_said_with_what_to_do(explore: Open) -> None:
    app = explore(**LINK, metric_key="no such metric")
    assert not charts(app)
    assert "Remove a filter" in text(app)


def test_a_capped_window_is_said_in_words(explore: Open) -> None:
    app = explore(organization_id=ACME, bucket="hour", since="2026-01-01T00:00:00Z", until="2026-09-29T00:00:00Z")
    assert "Window shortened to the last 2,400 hours" in text(app)


def test_several_organizations_are_a_choice_and_no_default(explore: Open) -> None:
    app = explore(**{**LINK, "organization_id": []})
    assert not charts(app)
    assert [button.label for button in app.button] == ["Acme AI", "Birch Labs", "Cedar Studio"]
    app.button(key=f"organization_{BIRCH}").click().run()
    assert app.query_params["organization_id"] == BIRCH
    assert app.query_params["group_by"] == "dim:model"
    assert charts(app) == 1


def test_an_only_organization_is_taken_and_written_into_the_link(use: Callable[..., None], demo_url: str) -> None:
    use(demo_url, ORGANIZATION_ID=BIRCH)
    app = opened(AppTest.from_file(MAIN, default_timeout=PATIENCE), dict(WINDOW))
    assert app.query_params["organization_id"] == BIRCH
    assert charts(app) == 1


@pytest.mark.parametrize("page", ["explore", "events", "validate"])
def test_an_organization_that_is_not_there_shows_nothing_and_offers_those_that_are(
    page: str, request: pytest.FixtureRequest
) -> None:
    app = request.getfixturevalue(page)(organization_id="00000000-0000-4000-8000-000000000000")
    assert "not an organization you may see" in text(app)
    assert not charts(app)
    assert not app.dataframe
    assert [button.label for button in app.button] == ["Acme AI", "Birch Labs", "Cedar Studio"]
    app.button(key=f"organization_{BIRCH}").click().run()
    assert app.query_params["organization_id"] == BIRCH
    assert not app.error


def test_a_configured_organization_that_is_not_there_shows_nothing(use: Callable[..., None], demo_url: str) -> None:
    use(demo_url, ORGANIZATION_ID="00000000-0000-4000-8000-000000000000")
    app = opened(AppTest.from_file(MAIN, default_timeout=PATIENCE), {})
    assert "not an organization you may see" in text(app)
    assert not charts(app)


@pytest.mark.parametrize("link", [{}, {"organization_id": ACME}])
def test_a_table_without_events_says_what_to_run(
    use: Callable[..., None], events_database_url: str, events_connection: psycopg.Connection, link: dict[str, str]
) -> None:
    use(events_database_url)
    app = opened(AppTest.from_file(MAIN, default_timeout=PATIENCE), link)
    assert "`usage-explore demo`" in app.info[0].value
    assert not app.error
    assert not charts(app)
    events_connection.execute(
        "INSERT INTO usage_events (id, organization_id, customer_id, metric_key, quantity, timestamp, idempotency_key)"
        " VALUES (gen_random_uuid(), %s, %s, 'x', 1, now() - interval '1 hour', 'x')",
        [ACME, ACME],
    )
    events_connection.commit()
    app.button(key="look_again").click().run()
    assert charts(app) == 1


def test_a_database_without_the_table_says_what_to_run(use: Callable[..., None], database_url: str) -> None:
    use(database_url)
    app = opened(AppTest.from_file(MAIN, default_timeout=PATIENCE), {})
    assert "`usage-explore init`" in app.error[0].value


def test_a_timed_out_statement_says_what_to_do(use: Callable[..., None], demo_url: str) -> None:
    use(demo_url, STATEMENT_TIMEOUT="0.1", ORGANIZATION_ID=ACME)
    with psycopg.connect(demo_url) as another_session:
        another_session.execute("LOCK TABLE usage_events")
        app = opened(AppTest.from_file(MAIN, default_timeout=PATIENCE), LINK)
    assert "narrow the window" in text(app)
    assert not charts(app)


@contextlib.contextmanager
def away(url: str, server_url: str) -> Iterator[None]:
    """The database takes no connections, and those it had are cut."""
    name = sql.Identifier(urlsplit(url).path[1:])
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [urlsplit(url).path[1:]]
        )
        yield
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))


@pytest.mark.parametrize("which", ["explore", "events"])
def test_a_database_that_is_away_is_said_and_its_return_noticed(
    which: str, request: pytest.FixtureRequest, demo_url: str, server_url: str
) -> None:
    link = LINK if which == "explore" else {"organization_id": ACME}
    app = request.getfixturevalue(which)(**link)
    tables = len(app.dataframe)
    assert tables
    with away(demo_url, server_url):
        app.run()
        assert not app.exception
        assert "refuses the connection" in text(app)
        assert not charts(app)
        assert not app.dataframe
    app.run()
    assert not app.error
    assert len(app.dataframe) == tables


def test_the_events_page_counts_what_it_pages_through(events: Open, store: Store) -> None:
    query = EventQuery(organization_id=ACME, metric_key="images")
    app = events(organization_id=ACME, metric_key="images")
    assert formatting.counted(store.count(query), "event") in text(app)
    assert len(app.dataframe[0].value) == 25


def test_pages_forward_and_back_are_the_same_pages(events: Open, store: Store) -> None:
    expected = store.events(EventQuery(organization_id=ACME))
    app = events(organization_id=ACME)
    seen = [list(app.dataframe[0].value["Id"])]
    for _ in range(2):
        app.button(key="older").click().run()
        seen.append(list(app.dataframe[0].value["Id"]))
    for page in seen:
        assert page == [str(event.id) for event in expected.events]
        expected = expected.next() or expected
    assert app.query_params["cursor"]
    for page in reversed(seen[:-1]):
        app.button(key="newer").click().run()
        assert list(app.dataframe[0].value["Id"]) == page
    assert "cursor" not in app.query_params


def test_a_damaged_cursor_is_an_error(events: Open) -> None:
    app = events(organization_id=ACME, cursor="nonsense")
    assert "cursor" in text(app)
    assert not app.dataframe


def test_a_value_keeps_its_colour_after_a_filter_in_chart_and_ranking(explore: Open) -> None:
    known: dict[str, str] = {}
    for filters in ({}, {"dim:region": "us-east"}, {"metric_key": "tokens_in"}, {"metric_key": "images"}, {"top": "3"}):
        app = explore(**{**LINK, **filters})
        layers = json.loads(app.get("vega_lite_chart")[0].proto.spec)["layer"]
        scale = next(layer["encoding"]["color"]["scale"] for layer in layers if "color" in layer.get("encoding", {}))
        drawn = dict(zip(scale["domain"], scale["range"], strict=True))
        assert len(drawn) > 2
        for name, color in drawn.items():
            assert known.setdefault(name, color) == color
        styles = next(table.proto.arrow_data.styler.styles for table in app.dataframe if "share" in table.value)
        assert {color for color in drawn.values() if color in styles} == set(drawn.values())
    assert len({color for name, color in known.items() if name not in ("Other", "(missing)")}) > 8


def test_one_event_in_full_from_its_link(events: Open, store: Store) -> None:
    event = next(iter(store.events(EventQuery(organization_id=ACME, metric_key="gpu_seconds")).events))
    app = events(organization_id=ACME, event=f"{event.timestamp.isoformat()}/{event.id}".replace("+00:00", "Z"))
    shown = {name: value.replace("\\", "") for name, value in app.table[0].value["value"].items()}
    copied = {element.value for element in app.code}
    assert {str(event.id), event.idempotency_key, str(event.customer_id), str(ACME)} <= copied
    dimensions = app.table[1].value["value"].items()
    assert {key.replace("\\", ""): value.replace("\\", "") for key, value in dimensions} == event.dimensions
    assert shown["quantity"] == formatting.exact(event.quantity)
    app.button(key="around").click().run()
    assert app.query_params["customer_id"] == str(event.customer_id)


def test_dimensions_are_columns(events: Open, store: Store) -> None:
    page = store.events(EventQuery(organization_id=ACME, limit=25))
    table = events(organization_id=ACME, limit="25").dataframe[0].value
    keys = {key for event in page.events for key in event.dimensions}
    assert "Dimensions" not in table
    for key in keys:
        shown = [value if isinstance(value, str) else None for value in table[f"dim:{key}"]]
        assert shown == [event.dimensions.get(key) for event in page.events]


def test_times_are_shown_in_the_zone_and_say_so(events: Open, store: Store) -> None:
    first = store.events(EventQuery(organization_id=ACME)).frame["timestamp"][0]
    app = events(organization_id=ACME, timezone="Asia/Kathmandu")
    shown = app.dataframe[0].value["Time (Asia/Kathmandu)"][0]
    assert shown.startswith(first.tz_convert("Asia/Kathmandu").strftime("%Y-%m-%d %H:%M:%S"))


def test_a_window_before_or_after_all_events_offers_theirs(explore: Open) -> None:
    app = explore(organization_id=ACME, since="2030-01-01T00:00:00Z", until="2030-02-01T00:00:00Z", bucket="hour")
    assert "events lie within 31 Aug – 30 Sep 2026, UTC" in text(app)
    app.button(key="show_extent").click().run()
    assert charts(app) == 1
    assert app.query_params["since"] == "2026-08-31T00:00:00Z"


def test_a_link_that_is_older_than_all_arrivals_offers_what_is_known_now(explore: Open) -> None:
    app = explore(organization_id=ACME, window="2026-09", as_of="2020-01-01T00:00:00Z")
    assert "Events that arrived after 1 Jan 2020 00:00 do not count here." in text(app)
    app.button(key="show_now").click().run()
    assert "as_of" not in app.query_params
    assert charts(app) == 1


def test_no_page_offers_the_window_that_it_shows(explore: Open, events: Open) -> None:
    shown = explore(organization_id=ACME, since="2030-01-01T00:00:00Z", until="2030-02-01T00:00:00Z")
    assert "widen" not in text(shown)
    shown.button(key="show_extent").click().run()
    window = {name: shown.query_params[name] for name in ("since", "until")}
    for app in (
        explore(organization_id=ACME, metric_key="none", **window),
        events(organization_id=ACME, metric_key="none"),
    ):
        assert "No events match" in text(app)
        assert "Remove a filter. This organization's events lie" in text(app)
        assert [button.key for button in app.button if button.key in ("show_extent", "without_filters")] == [
            "without_filters"
        ]


@pytest.mark.parametrize("page", ["explore", "events"])
def test_a_filter_that_leaves_nothing_is_removed_by_a_click(page: str, request: pytest.FixtureRequest) -> None:
    app = request.getfixturevalue(page)(organization_id=ACME, metric_key="no such metric", **EARLY[page])
    app.button(key="without_filters").click().run()
    assert "metric_key" not in app.query_params
    assert app.info
    app.button(key="show_extent").click().run()
    assert app.dataframe


def test_quantities_that_cancel_out_are_not_nothing(
    use: Callable[..., None], events_database_url: str, events_connection: psycopg.Connection
) -> None:
    events_connection.execute(
        "INSERT INTO usage_events (id, organization_id, customer_id, metric_key, quantity, timestamp, idempotency_key)"
        " SELECT gen_random_uuid(), %s, %s, 'x', 0, '2026-09-01T12:00Z', g::text FROM generate_series(1, 3) g",
        [ACME, ACME],
    )
    events_connection.commit()
    use(events_database_url)
    app = opened(AppTest.from_file(MAIN, default_timeout=PATIENCE), {**WINDOW, "metric": "sum_quantity"})
    assert charts(app) == 1
    assert "0 quantity" in text(app).replace(":small[:gray[", "")


def test_the_python_the_request_and_the_sql_give_the_numbers_on_the_page(explore: Open, store: Store) -> None:
    odd = ["a,b", "back\\slash", 'it\'s "quoted"']
    filters = {
        "not:metric_key": [text.replace("\\", "\\\\").replace(",", "\\,") for text in odd],
        "dim:region": "us-east",
    }
    app = explore(**LINK, **filters, tab="code")
    python, request, sql_text = (each.value for each in app.code[1:])
    names: dict[str, object] = {}
    exec(python, names)
    names["store"].close()  # type: ignore[attr-defined]
    answer = names["answer"]
    assert formatting.short(answer.total) in text(app)  # type: ignore[attr-defined]
    with psycopg.connect(store.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)) as opened:
        rows = opened.execute(sql_text).fetchall()
    assert len(rows) == len(answer.series)  # type: ignore[attr-defined]
    command, address = shlex.split(request)
    assert command == "curl"
    assert urlsplit(address).path == "/api/v1/usage-events/aggregate"
    assert AggregateQuery.from_params(address) == names["query"]


def test_a_period_that_begins_before_the_first_event_is_not_compared(explore: Open) -> None:
    reason = "not compared with the 19 days before: events begin on 31 Aug 2026"
    for chosen in ({}, {"compare": "previous"}):
        early = explore(**{**LINK, "since": "2026-09-10T00:00:00Z", **chosen})
        assert re.search(rf"^– .*{reason} \d\d:\d\d", text(early), re.MULTILINE)
        (ranking,) = (frame.value for frame in early.dataframe if "change" in frame.value)
        assert len(ranking)
        assert ranking["change"].isna().all()
        assert "difference" not in ranking
    late = explore(**{**LINK, "since": "2026-09-20T00:00:00Z"})
    assert "% :small[:gray[vs the 9 days before" in text(late)
    (changes,) = (frame.value["change"] for frame in late.dataframe if "change" in frame.value)
    assert changes.notna().all()


def test_a_comparison_and_a_running_total_are_in_the_link_and_on_the_page(explore: Open, store: Store) -> None:
    link = {**LINK, "since": "2026-09-20T00:00:00Z", "cumulative": "true"}
    app = explore(**link)
    assert app.selectbox(key="compare").value == "off"
    assert app.toggle(key="cumulative").value is True
    app.selectbox(key="compare").set_value("previous").run()
    assert not app.exception
    assert app.query_params["compare"] == "previous"
    answer = store.aggregate(AggregateQuery(**link, compare="previous"))
    assert answer.comparison is not None
    change = formatting.typographic(formatting.signed_short(answer.comparison.total.absolute))
    assert f"vs the 9 days before, {change}" in text(app)
    (ranking,) = (frame.value for frame in app.dataframe if "difference" in frame.value)
    differences = [series.absolute for series in answer.comparison.series[: len(answer.series)]]
    in_chart = ~ranking["series"].str.endswith(" (in Other)")  # the others are parts of Other that moved most
    assert ranking["difference"][in_chart].tolist() == differences
    app.selectbox(key="compare").set_value("custom").run()
    assert app.query_params["compare"] == "2026-09-11T00:00:00Z/2026-09-20T00:00:00Z"
    app.toggle(key="cumulative").set_value(False).run()
    assert "cumulative" not in app.query_params
    app.selectbox(key="compare").set_value("off").run()
    assert "compare" not in app.query_params


def test_a_sum_over_several_metrics_says_how_many_it_adds(explore: Open, store: Store) -> None:
    summed = {**LINK, "metric": "sum_quantity"}
    answer = store.aggregate(AggregateQuery(**summed))
    assert answer.metrics > 1
    adds = f"adds {answer.metrics} metrics in {len(set(answer.units.values()))} units"
    assert f":small[:gray[quantity, {adds}]]" in text(explore(**summed))
    assert ":small[:gray[tokens]]" in text(explore(**summed, metric_key="tokens_in"))
    assert ":small[:gray[tokens]]" in text(explore(**summed, metric_key=["tokens_in", "tokens_out"]))
    assert "in USD per token]]" in text(explore(**LINK, metric="unit_cost", metric_key="tokens_in"))
    assert "adds" not in text(explore(**LINK))


def test_costs_are_shown_in_one_currency_that_the_page_names(explore: Open, store: Store) -> None:
    costs = store.currencies(AggregateQuery(**LINK))
    assert len(costs) > 1
    most, other = costs[0].currency, costs[1].currency
    assert most
    assert other
    answer = store.aggregate(AggregateQuery(**LINK, metric="sum_cost", external_cost_currency=most))
    app = explore(**LINK, metric="sum_cost")
    assert charts(app) == 1
    assert formatting.short(answer.total) in text(app)
    assert f":small[:gray[cost in {most}]]" in text(app)
    others = sorted(cost.currency or "" for cost in costs[1:])
    left_out = f"Other costs are in {formatting.listed(others)}"
    assert f"Only costs in {most}, the currency of most events. {left_out}" in text(app)
    assert app.button(key="chip external_cost_currency is").label == f"cost currency is {most}"
    app.selectbox(key="currency").set_value(1).run()
    assert app.query_params["external_cost_currency"] == other
    other_answer = store.aggregate(AggregateQuery(**LINK, metric="sum_cost", external_cost_currency=other))
    assert formatting.short(other_answer.total) in text(app)
    assert f"Only costs in {other}. Other costs are in" in text(app)
    app.segmented_control(key="metric").set_value("unit_cost").run()
    ratio = store.aggregate(AggregateQuery(**LINK, metric="unit_cost", external_cost_currency=other))
    assert f":small[:gray[unit cost in {other}, adds" in text(app)
    assert formatting.short(ratio.total) in text(app)
    (table,) = (frame.value for frame in app.dataframe if "share" in frame.value)
    assert table["share"].isna().all()
    assert table["total"].notna().any()


def test_costs_by_currency_have_no_total(explore: Open) -> None:
    app = explore(**{**LINK, "group_by": "external_cost_currency"}, metric="sum_cost")
    assert charts(app) == 1
    assert "– :small[:gray[cost in" in text(app)
    assert "currency" not in {box.key for box in app.selectbox}


def test_every_time_on_the_page_is_on_its_clock(explore: Open, store: Store) -> None:
    app = explore(**LINK, timezone="Asia/Tokyo", as_of="2026-09-30T20:00:05Z")
    assert [button.label for button in app.button if "known" in button.label] == ["as known at 2026-10-01 05:00"]
    assert "Asia/Tokyo, as known at 1 Oct 2026 05:00:05" in text(app)
    known = store.pin(EventQuery(organization_id=ACME, as_of="2026-09-30T20:00:05Z")).as_of
    assert known
    assert f"had arrived by {formatting.timestamp(known, ZoneInfo('Asia/Tokyo'))} Asia/Tokyo" in text(app)
    assert "UTC" not in text(app)


def test_a_link_stays_as_it_was_typed(explore: Open) -> None:
    app = explore(**LINK, bucket="day", top="8")
    assert app.query_params["bucket"] == "day"
    assert app.query_params["top"] == "8"


def test_a_picked_time_outside_the_window_is_said(explore: Open) -> None:
    app = explore(**LINK, span="2020-01-01T00:00:00Z/2020-01-02T00:00:00Z")
    assert "outside the window" in text(app)
    app.button(key="clear_selection").click().run()
    assert "span" not in app.query_params


def test_values_are_never_read_as_markdown(explore: Open) -> None:
    app = explore(**LINK, **{"not:metric_key": "*bold* [x](http://example.com) :smile: $a$"})
    label = app.button(key="chip metric_key is not").label
    assert "\\*bold\\* \\[x\\]\\(" in label
    # Streamlit finds :names: of emoji and icons after all escaping
    assert "\\:\u2060smile\\:" in label
    assert markdown.plain("14:05:30") == "14\\:05\\:30"


def test_a_pinned_link_says_when_its_numbers_were_known(explore: Open) -> None:
    app = explore(**LINK, as_of="2026-09-20T12:30:00Z", timezone="Asia/Kathmandu")
    assert "as of 20 Sep 2026 18:15" in text(app)


def test_a_value_called_other_is_not_taken_for_the_fold(
    use: Callable[..., None], events_database_url: str, events_connection: psycopg.Connection
) -> None:
    events_connection.execute(
        "INSERT INTO usage_events (id, organization_id, customer_id, metric_key, quantity, timestamp, idempotency_key)"
        " SELECT gen_random_uuid(), %s, %s, 'Other', 1, '2026-09-01T12:00Z', g::text FROM generate_series(1, 3) g",
        [ACME, ACME],
    )
    events_connection.commit()
    use(events_database_url)
    app = opened(
        AppTest.from_file(MAIN, default_timeout=PATIENCE), {**LINK, "group_by": "metric_key", "series": "value:Other"}
    )
    assert '3 events** · "Other"' in text(app)


def test_ids_are_shown_by_their_first_digits_and_copied_whole(events: Open, store: Store) -> None:
    found = store.events(EventQuery(organization_id=ACME)).events
    (table,) = events(organization_id=ACME).dataframe
    eye = convert_arrow_bytes_to_pandas_df(table.proto.arrow_data.styler.display_values)
    for heading, name in (
        ("Customer id", "customer_id"),  # beside the names
        ("Product id", "product_id"),
        ("Subscription", "subscription_id"),
        ("Id", "id"),
    ):
        ids = [None if getattr(each, name) is None else str(getattr(each, name)) for each in found]
        assert any(ids), name
        assert table.value[heading].astype(object).where(table.value[heading].notna(), None).tolist() == ids
        assert eye[heading].tolist() == [f"{each[:8]}…" if each else "" for each in ids]


@pytest.mark.parametrize(
    ("quantity", "rounds"), [("12345678901234.5", True), ("12345678901234567890123456789.5", True), ("12.5", False)]
)
def test_totals_are_called_rounded_only_where_they_are(
    use: Callable[..., None],
    events_database_url: str,
    events_connection: psycopg.Connection,
    quantity: str,
    rounds: bool,
) -> None:
    events_connection.execute(
        "INSERT INTO usage_events (id, organization_id, customer_id, metric_key, quantity, timestamp, idempotency_key)"
        " SELECT gen_random_uuid(), %s, %s, metric, %s, '2026-09-01T12:00Z', metric"
        " FROM unnest(ARRAY['images', 'tokens']) metric",
        [ACME, ACME, quantity],
    )
    events_connection.commit()
    use(events_database_url)
    app = opened(
        AppTest.from_file(MAIN, default_timeout=PATIENCE), {**LINK, "group_by": "metric_key", "metric": "sum_quantity"}
    )
    (table,) = (each for each in app.dataframe if "total" in each.value)
    assert ("rounded" in table.proto.columns) is rounds
    eye = convert_arrow_bytes_to_pandas_df(table.proto.arrow_data.styler.display_values)
    for shown in eye["total"]:
        assert (shown.replace(",", "") != quantity) is rounds


def test_a_bad_parameter_without_a_name_is_told(explore: Open) -> None:
    assert "a parameter without a name" in text(explore(**LINK, **{"": "x"}))


def test_events_that_cannot_be_counted_in_time_are_shown_all_the_same(
    events: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(self: Store, query: EventQuery) -> int:
        raise StatementTimeout("too slow")

    monkeypatch.setattr(Store, "count", slow)
    app = events(organization_id=ACME)
    assert "More events than could be counted in time" in text(app)
    assert len(app.dataframe[0].value) == 25


def ranked(app: AppTest) -> Any:
    return next(each for each in app.dataframe if "total" in each.value)


def test_the_shape_reaches_the_newest_bucket_and_stands_on_one_zero_line(explore: Open, store: Store) -> None:
    table = ranked(explore(**LINK, as_of="2026-09-20T06:00:00Z"))
    answer = store.aggregate(AggregateQuery(**LINK, as_of="2026-09-20T06:00:00Z"))
    for series, shape in zip(answer.series, table.value["shape"], strict=True):
        values = [point.value for point in series.points[:20]]
        assert list(shape) == pytest.approx([value / max(values) for value in values])
    assert not answer.series[0].points[19].complete
    assert "Shape to date" in table.proto.columns
    cut = ranked(explore(**{**LINK, "since": "2026-09-01T12:00:00Z", "until": "2026-09-11T12:00:00Z"}))
    assert {len(shape) for shape in cut.value["shape"]} == {11}  # with both days that are cut
    assert "to date" not in cut.proto.columns


NAMES = ["All", "(empty)", "(missing)", "Other", "", None]


def test_series_leave_the_tables_as_they_are(
    use: Callable[..., None], events_database_url: str, events_connection: psycopg.Connection
) -> None:
    for place, name in enumerate(NAMES):
        events_connection.execute(
            "INSERT INTO usage_events (id, organization_id, customer_id, metric_key, price_key, quantity, timestamp,"
            " idempotency_key) SELECT gen_random_uuid(), %s, %s, 'm', %s, -g, '2026-09-01T12:00Z', %s::text || g"
            " FROM generate_series(1, %s) g",
            [ACME, ACME, name, place, 10 - place],
        )
    events_connection.commit()
    use(events_database_url)
    link = {**LINK, "group_by": "price_key", "metric": "sum_quantity", "top": "5"}
    app = opened(AppTest.from_file(MAIN, default_timeout=PATIENCE), {**link, "top": "0"})
    spelled = ["All", "(empty)", "(missing)", "Other", "'", "(missing) (absent)"]
    table = ranked(app)
    assert {*table.value["series"]} == {*spelled}
    assert {value for shape in table.value["shape"] for value in shape} == {0, -1}
    config = json.loads(table.proto.columns)["shape"]["type_config"]
    assert (config["y_min"], config["y_max"]) == (-1, 1)
    folded = opened(AppTest.from_file(MAIN, default_timeout=PATIENCE), link)
    assert [*ranked(folded).value["series"]][-1] == "Other (folded)"


@pytest.mark.parametrize("link", [{"group_by": "dim:modle"}, {"dim:modle": "large"}])
def test_a_dimension_that_no_event_has_is_a_warning_with_a_similar_one(explore: Open, link: dict[str, str]) -> None:
    app = explore(organization_id=ACME, **WINDOW, **link)
    assert "No event has the dimension dim:modle, did you mean dim:model?" in text(app)
    assert not explore(**LINK).warning


def test_of_two_clicks_before_the_page_is_drawn_both_take_effect(explore: Open) -> None:
    app = explore(**LINK, metric_key=["tokens_in"], price_key="x")
    app.segmented_control(key="metric").set_value("sum_quantity")
    app.segmented_control(key="bucket").set_value("week")
    app.button(key="chip price_key is").click().run()
    written = {"metric": "sum_quantity", "bucket": "week", "metric_key": "tokens_in"}
    assert {name: app.query_params.get(name) for name in (*written, "price_key")} == {**written, "price_key": None}
    assert app.query_params["group_by"] == LINK["group_by"]


def test_a_click_with_the_address_from_before_the_last_click_loses_nothing(explore: Open) -> None:
    app = explore(**LINK)
    first = dict(app.query_params)
    app.segmented_control(key="metric").set_value("sum_quantity").run()
    app.query_params.clear()
    app.query_params.update(first)  # the browser has not received the address of the first click
    app.segmented_control(key="bucket").set_value("week").run()
    assert (app.query_params["metric"], app.query_params["bucket"]) == ("sum_quantity", "week")
    app.query_params.clear()
    app.query_params.update(first)
    app.run()  # back, in the browser's history
    app.segmented_control(key="bucket").set_value("hour").run()
    assert (app.query_params.get("metric"), app.query_params["bucket"]) == (None, "hour")


def test_a_cursor_is_dropped_if_a_click_before_changed_the_filters(events: Open) -> None:
    app = events(organization_id=ACME, metric_key=["tokens_in"])
    app.button(key="chip metric_key is").click()
    app.button(key="older").click().run()
    assert not app.error
    assert not {"metric_key", "cursor"} & set(app.query_params)
