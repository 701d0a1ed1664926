"""Saved views in the app: saving, opening, what changed since, editing, undo; and the Home page."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from streamlit.testing.v1 import AppTest

from support.app_pages import MAIN, Open, opened
from support.generated_events import NEIGHBOUR, ORGANIZATION, insert
from support.plain_events import beside, event, store_of
from support.waiting import PATIENCE
from usage_explore import AggregateQuery, EventQuery, Period, Store, formatting
from usage_explore.access.allow_list import Grant
from usage_explore.app import cache
from usage_explore.app.saved_views import since_saved
from usage_explore.db import ddl
from usage_explore.records import runs
from usage_explore.records.tables import RUNS, VIEWS_TABLE
from usage_explore.records.views import Headline, SavedView
from usage_explore.validation.registry import CHECKS
from usage_explore.validation.review import run_of

NOW = datetime.now(UTC).replace(microsecond=0)
EVENTS = [event(NOW - timedelta(days=day), dimensions='{"model": "a"}') for day in range(2, 12)]
OWN = str(ORGANIZATION)
START = {"organization_id": OWN, "since": "-29d/d", "group_by": "dim:model"}


@pytest.fixture
def store(
    events_connection: ddl.Connection, events_database_url: str, use: Callable[..., None], tmp_path: Path
) -> Iterator[Store]:
    with store_of(events_connection, events_database_url, [*EVENTS, *beside(EVENTS[:3])]) as made:
        events_connection.commit()
        use(events_database_url, HOME=str(tmp_path))
        yield made


def _home_page() -> None:
    from usage_explore.app.main import run

    run("home")


@pytest.fixture
def explore(store: Store) -> Open:
    return lambda **parameters: opened(AppTest.from_file(MAIN, default_timeout=PATIENCE), parameters)


@pytest.fixture
def home(store: Store) -> Open:
    return lambda **parameters: opened(AppTest.from_function(_home_page, default_timeout=PATIENCE), parameters)


def button(app: AppTest, label: str) -> Any:
    (found,) = [each for each in app.button if plain(each.label) == label]
    return found


def plain(text: str) -> str:
    return text.replace("\\", "").replace("\u2060", "").replace("\u00a0", " ").replace("**", "")


def texts(app: AppTest) -> list[str]:
    return [plain(each.value) for each in (*app.markdown, *app.caption, *app.warning, *app.error, *app.subheader)]


def seen(app: AppTest, text: str) -> bool:
    return any(text in each for each in texts(app))


def links(app: AppTest) -> list[str]:
    return [plain(link.proto.label) for link in app.get("page_link")]


def with_menu(app: AppTest) -> AppTest:
    app.session_state["views"] = True
    return app.run()


def saved(app: AppTest, name: str, note: str = "") -> AppTest:
    with_menu(app)
    app.text_input(key="view_name").input(name)
    if note:
        app.text_area(key="view_note").input(note)
    return app.button(key="view_save").click().run()


def test_a_view_is_saved_as_the_page_shows_it_and_said_to_be_open(explore: Open, store: Store) -> None:
    app = with_menu(explore(**START, chart="lines"))
    assert seen(app, "Saved in the table public.usage_views of the database, which is created for it")
    saved(app, "By model", "On Mondays")
    (view,) = store.views()
    assert (view.name, view.note, view.author, view.total) == ("By model", "On Mondays", "test@example.com", 10)
    assert dict(view.pairs()) == {**START, "chart": "lines"}
    assert not app.session_state["views"]
    assert seen(app, ":material/bookmark: By model")
    assert re.search(r": 10 events as known at .*\d\d:\d\d, the same as of \d\d:\d\d\.", "\n".join(texts(app)))
    assert seen(app, "On Mondays")


def test_a_view_opens_live_and_pinned_and_says_what_changed_since(
    explore: Open, store: Store, events_connection: ddl.Connection
) -> None:
    store.save_view("By model", AggregateQuery.from_params(START))
    insert(events_connection, [event(NOW - timedelta(days=1), ingested_at=NOW) for _ in range(2)])
    events_connection.commit()
    app = with_menu(explore(organization_id=OWN))
    assert not seen(app, "bookmark: By model")
    button(app, "By model").click().run()
    assert dict(app.query_params.items()) == {name: [value] for name, value in START.items()} or seen(app, "bookmark")
    assert re.search(r": 10 events as known at .*\d\d:\d\d, 12 as of \d\d:\d\d, \+20.0 %\.", "\n".join(texts(app)))
    button(app, "As saved").click().run()
    assert re.search(r"as known at .*\d\d:\d\d, 12 in the same window as of \d\d:\d\d, \+20.0 %", "\n".join(texts(app)))
    assert "as_of" in app.query_params
    button(app, "Now").click().run()
    assert "as_of" not in app.query_params


def test_a_pinned_view_whose_events_were_removed_says_so(
    explore: Open, store: Store, events_connection: ddl.Connection
) -> None:
    view = store.save_view("By model", AggregateQuery.from_params(START))
    events_connection.execute("DELETE FROM usage_events WHERE id = %s", [EVENTS[0].id])
    events_connection.commit()
    app = explore(**dict(view.pairs(pinned=True)))
    assert seen(app, "The numbers below are no longer those that were saved")


def test_a_changed_page_overwrites_the_view_that_was_open(explore: Open, store: Store) -> None:
    app = saved(explore(**START), "By model", "why")
    app.selectbox(key="group_by").select("metric_key").run()
    assert not seen(app, "bookmark: By model")
    with_menu(app)
    assert app.text_input(key="view_name").value == "By model"
    button(app, "Overwrite By model").click().run()
    (view,) = store.views()
    assert (view.query.given()["group_by"], view.note) == ("metric_key", "why")
    assert seen(app, "bookmark: By model")


def test_typing_the_name_of_another_view_and_saving_at_once_overwrites_nothing(explore: Open, store: Store) -> None:
    kept = store.save_view("Kept", AggregateQuery(group_by="metric_key"))
    app = with_menu(explore(**START))
    app.text_input(key="view_name").input("Kept")
    app.button(key="view_save").click().run()  # the button was still "Save view"
    assert store.views() == [kept]
    assert seen(app, "is the name of another view")


def test_names_and_notes_are_never_read_as_markdown_or_html(explore: Open, home: Open, store: Store) -> None:
    hostile = "**b** <script>alert(1)</script> [x](javascript:y) :red[z] `c` $m$"
    saved(explore(**START), hostile, hostile)
    for app in (explore(**START), home(organization_id=OWN)):
        labels = (link.proto.label for link in app.get("page_link"))
        named = [each for each in (*labels, *(part.value for part in (*app.markdown, *app.caption))) if "alert" in each]
        assert len(named) >= 2
        assert not any(re.search(r"(?<!\\)(<|\[x|\*\*b|:red|`|\$)", each) for each in named)


def test_errors_are_said_in_the_menu(explore: Open, store: Store) -> None:
    app = saved(explore(**START), "")
    assert seen(app, "name: is blank")
    assert store.views() == []
    assert app.session_state["views"]


def test_home_lists_views_renames_deletes_and_undoes(home: Open, store: Store) -> None:
    store.save_view("Events", EventQuery(metric_key="tokens"), "raw")
    store.save_view("Period", Period(window="last_month"))
    app = home(organization_id=OWN)
    assert {"Events", "Period"} <= set(links(app))
    assert seen(app, "Events · Events, newest first, metric is tokens · saved")
    view = next(view for view in store.views() if view.name == "Events")
    key = str(view.id)
    app.session_state[f"view_edit {key}"] = True
    app.run()
    app.text_input(key=f"view_edit_name {key} {view.changed_at}").input("Tokens")
    app.button(key=f"view_change {key}").click().run()
    assert [each.name for each in store.views()] == ["Period", "Tokens"]
    app.session_state[f"view_edit {key}"] = True
    app.run()
    app.button(key=f"view_delete {key}").click().run()
    assert [each.name for each in store.views()] == ["Period"]
    assert seen(app, "The view Tokens was deleted.")
    app.button(key="view_undo").click().run()
    assert [each.name for each in store.views()] == ["Period", "Tokens"]
    assert not seen(app, "was deleted")


def test_home_shows_the_state_of_the_data_and_no_views(home: Open, store: Store) -> None:
    app = home(organization_id=OWN, timezone="Asia/Kolkata")
    assert seen(app, "No views yet")
    (table,) = app.table
    rows = {name: plain(str(value)) for name, value in table.value.iloc[:, 0].items()}
    newest = max(row.timestamp for row in EVENTS).astimezone(ZoneInfo("Asia/Kolkata"))
    assert rows["Newest event"].startswith(f"{newest:%Y-%m-%d %H:%M:%S}, ")
    assert rows["Newest arrival"].startswith(f"{newest + timedelta(seconds=1):%Y-%m-%d %H:%M:%S}")


def test_home_links_to_the_newest_kept_validation(home: Open, store: Store) -> None:
    assert seen(home(organization_id=OWN), "No validation of this organization is kept yet.")
    validation = store.validate(Period(organization_id=OWN, since="-30d"), checks=["duplicates"])
    store.scoped(ORGANIZATION).keep_run(validation)
    app = home(organization_id=OWN)
    (link,) = (link.proto for link in app.get("page_link") if link.label == "**Nothing found**")
    every = len(CHECKS)
    assert seen(app, f" by 1 of {every} checks, as of {formatting.minute(validation.period.as_of)}, UTC")
    store.scoped(ORGANIZATION).keep_run(store.validate(Period(organization_id=OWN, since="-30d")))
    assert not seen(home(organization_id=OWN), f" of {every} checks")
    period = validation.period
    assert Period.from_params(parse_qsl(link.query_string)).replace(organization_id=OWN).span == period.span


def test_home_shows_the_run_of_the_whole_organization_before_a_newer_one_of_one_customer(
    home: Open, store: Store
) -> None:
    own, customer = store.scoped(ORGANIZATION), EVENTS[0].customer_id

    def labels(app: AppTest) -> list[str]:
        return [link.proto.label.replace("\\", "") for link in app.get("page_link")]

    def keep(hours: int, **counts: int) -> None:
        filters = {"customer_id": customer} if "low" in counts else {}
        made = run_of(
            store.validate(Period(organization_id=OWN, since="-30d", **filters), checks=["duplicates"]), "ana"
        )
        run = replace(made, id=uuid4(), made_at=made.made_at + timedelta(hours=hours), counts=counts)
        with own._recorded(RUNS) as (_, places, _, _):
            runs.keep(places, run)

    keep(2, low=4)
    app = home(organization_id=OWN)
    assert seen(app, "No validation of the whole organization is kept yet.")
    keep(0, high=3)
    keep(1, high=2, medium=1)
    app = home(organization_id=OWN)
    assert "**2 high, 1 medium open**" in labels(app)
    (narrowed,) = (link for link in labels(app) if "4 low" in link)
    assert narrowed.startswith(f":small[:gray[Newer, only where customer is {str(customer)[:8]}")
    keep(3, high=1)
    app = home(organization_id=OWN)
    assert "**1 high open**" in labels(app)
    assert not [link for link in labels(app) if "4 low" in link]


def test_home_shows_an_event_that_has_just_arrived(home: Open, store: Store, events_connection: ddl.Connection) -> None:
    def row(app: AppTest, name: str) -> str:
        (table,) = app.table
        return plain(str(table.value.iloc[:, 0][name]))

    app = home(organization_id=OWN)
    known = row(app, "Newest event")
    now = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=2)
    insert(events_connection, [event(now)])
    events_connection.commit()
    app.run()  # within the minute that the pages cache
    assert row(app, "Newest event") == f"{now:%Y-%m-%d %H:%M:%S}, this minute" != known
    assert row(app, "Newest arrival").startswith(f"{now + timedelta(seconds=1):%Y-%m-%d %H:%M:%S}, ")
    (shown,) = (re.search(r"As of (.*), UTC", text) for text in texts(app) if text.startswith("As of "))
    assert shown
    assert abs(datetime.fromisoformat(shown[1]).replace(tzinfo=UTC) - datetime.now(UTC)) < timedelta(minutes=1)


def test_share_says_which_events_of_the_page_its_link_lacks(
    explore: Open, store: Store, events_connection: ddl.Connection
) -> None:
    """Within the settle time after a load the link had other numbers than the page from which it was taken."""
    query = {**START, "metric": "sum_quantity"}
    assert not seen(explore(**query), "for the link")
    now = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=2)
    insert(events_connection, [event(now - timedelta(hours=1), quantity=Decimal("7.5"), ingested_at=now)])
    events_connection.commit()
    cache.renew()
    (text,) = (one for one in texts(explore(**query)) if "for the link" in one)
    settled = sum((row.quantity for row in EVENTS), Decimal(0))
    numbers = f"{settled:,} quantity, not {settled + Decimal('7.5'):,}"
    assert text.startswith(f"1 event of this page is too recent for the link, which has {numbers}. A link made from ")
    assert not seen(explore(**query, as_of=(now - timedelta(hours=1)).isoformat()), "for the link")


def test_home_of_an_organization_without_access_shows_nothing(home: Open, store: Store) -> None:
    replace(store, organization_id=NEIGHBOUR).save_view("Theirs", AggregateQuery())
    app = home(organization_id=OWN)
    assert not seen(app, "Theirs")
    assert "Theirs" not in links(app)
    app = home(organization_id=str(uuid4()))
    assert seen(app, "is not an organization you may see")
    assert not seen(app, "Newest event")


def test_many_views_are_searched_by_name_and_note(home: Open, store: Store) -> None:
    for number in range(9):
        store.save_view(f"View {number}", AggregateQuery(), f"note {number}")
    app = home(organization_id=OWN)
    app.text_input(key="home_views_search").input("NOTE 7").run()
    assert [link for link in links(app) if link.startswith("View")] == ["View 7"]
    app.text_input(key="home_views_search").input("nothing").run()
    assert seen(app, "No view has that")


def test_a_view_of_another_version_shows_its_fault_and_no_data(
    explore: Open, home: Open, store: Store, events_connection: ddl.Connection
) -> None:
    store.save_view("Later", AggregateQuery())
    events_connection.execute(f"UPDATE {VIEWS_TABLE} SET params = 'since=-7d&colour=blue'".encode())
    events_connection.commit()
    assert seen(home(organization_id=OWN), "cannot be shown: colour: unknown parameter")
    app = with_menu(explore(organization_id=OWN))
    button(app, "Later").click().run()
    assert seen(app, "This link cannot be shown")
    assert seen(app, "colour")
    assert not app.get("vega_lite_chart")
    assert not app.dataframe


def test_the_links_opened_last_are_listed_once(explore: Open) -> None:
    app = explore(**START)
    app.selectbox(key="group_by").select("metric_key").run()
    app.query_params["chart"] = "lines"
    app.run()
    remembered = app.session_state["recent_links"]
    assert [link.text.split(",")[0] for link in remembered] == ["Events per day by metric", "Events per day by model"]
    assert all(link.organization_id == ORGANIZATION for link in remembered)


def test_the_rows_that_arrived_since_a_view_was_saved_are_a_link(
    explore: Open, store: Store, events_connection: ddl.Connection
) -> None:
    scoped = store.scoped(ORGANIZATION)
    window = {"since": NOW - timedelta(days=20), "until": NOW - timedelta(days=1)}
    saved = scoped.save_view("Month", AggregateQuery(**window))
    late = event(NOW - timedelta(days=5), ingested_at=saved.as_of + timedelta(seconds=1))
    insert(events_connection, [late])
    events_connection.commit()
    app = explore(**dict(saved.pairs()))
    (link,) = (link.proto for link in app.get("page_link") if link.label == "Rows that arrived since")
    query = EventQuery.from_params([pair for pair in parse_qsl(link.query_string) if pair[0] != "timezone"])
    assert [row.id for row in scoped.events(query).events] == [late.id]
    assert seen(app, "+10.0 %")


SAVED = datetime(2026, 11, 5, 12, 0, tzinfo=UTC)


def view_of(query: AggregateQuery, total: Decimal | None, now: datetime = SAVED, **fields: Any) -> SavedView:
    pinned = query.pin(now, timedelta(minutes=5))
    given: dict[str, Any] = {
        "id": UUID(int=1),
        "organization_id": ORGANIZATION,
        "name": "One",
        "note": "",
        "author": "local",
        "created_at": now,
        "changed_at": now + timedelta(days=1),
        "saved_at": now,
        "page": "explore",
        "params": query.query_string() or "since=-30d",
        "pinned": pinned.query_string(),
        "total": total,
        "currency": None,
        "as_of": pinned.as_of,
        "place": "file",
    }
    return SavedView(**{**given, **fields})


@pytest.mark.parametrize(
    ("query", "then", "now", "words"),
    [
        (
            AggregateQuery(since="-6d/d"),
            1_000,
            1_500,
            "1,000 events as known at 11:55 (30 Oct – 5 Nov 2026), "
            "1,500 as of 12 Nov 2026 12:00 (6–12 Nov 2026), +50.0 %.",
        ),
        (
            AggregateQuery(window="this_month"),
            500,
            1_500,
            "500 events as known at 11:55, before the window was over, 1,500 as of 12 Nov 2026 12:00, +200.0 %.",
        ),
        (AggregateQuery(window="2026-10"), 500, 500, "500 events as known at 11:55, the same as of 12 Nov 2026 12:00."),
        (
            AggregateQuery(window="2026-10"),
            500,
            499,
            "500 events as known at 11:55, 499 as of 12 Nov 2026 12:00, −0.2 %.",
        ),
        (
            AggregateQuery(window="2026-10"),
            233_468,
            233_473,
            "233.5 k events as known at 11:55, 233.5 k as of 12 Nov 2026 12:00, +5 events.",
        ),
        (AggregateQuery(window="2026-10"), 0, 7, "0 events as known at 11:55, 7 as of 12 Nov 2026 12:00."),
        (AggregateQuery(window="2026-10"), -2, 2, "-2 events as known at 11:55, 2 as of 12 Nov 2026 12:00, +200.0 %."),
        (
            AggregateQuery(window="2026-10"),
            500,
            None,
            "500 events as known at 11:55; no number to compare it with now.",
        ),
        (AggregateQuery(window="2026-10"), None, 7, ""),
    ],
)
def test_the_sentence_of_what_changed(query: AggregateQuery, then: int | None, now: int | None, words: str) -> None:
    view = view_of(query, None if then is None else Decimal(then))
    text, _ = since_saved(view, Headline(now), SAVED + timedelta(days=7), ZoneInfo("UTC"))
    assert text == (f"Saved 5 Nov 2026 12:00: {words}" if words else "Saved 5 Nov 2026 12:00.")


def test_the_exact_numbers_and_the_author_are_said() -> None:
    query = AggregateQuery(window="2026-10", metric="sum_quantity")
    view = view_of(query, Decimal("12345678.000001"), author="ana@example.com")
    text, exact = since_saved(view, Headline(Decimal("12345678.000002")), SAVED, ZoneInfo("Europe/Berlin"))
    saved_number = "Saved 5 Nov 2026 13:00 by ana@example.com: 12.35 M quantity as known at 12:55"
    assert text == f"{saved_number}, 12.35 M as of 13:00, +0.000001 quantity."
    assert "12,345,678.000001 quantity, as known at 2026-11-05 12:55:00; now exactly 12,345,678.000002." in exact


def test_the_number_of_a_view_with_a_selection_is_that_of_the_window() -> None:
    query = AggregateQuery(window="2026-10")
    view = view_of(query, Decimal(5), params=f"{query.query_string()}&span=2026-10-01T00:00:00Z/2026-10-02T00:00:00Z")
    text, _ = since_saved(view, Headline(6), SAVED, ZoneInfo("UTC"))
    assert text == "Saved 5 Nov 2026 12:00: 5 events in the whole window as known at 11:55, 6 as of 12:00, +20.0 %."


def test_costs_in_another_currency_are_not_compared() -> None:
    query = AggregateQuery(window="2026-10", metric="sum_cost")
    view = view_of(query, Decimal(5), currency="USD")
    text, _ = since_saved(view, Headline(Decimal(9), "EUR"), SAVED, ZoneInfo("UTC"))
    assert text == "Saved 5 Nov 2026 12:00: 5 USD cost as known at 11:55; no number to compare it with now."
    text, _ = since_saved(view, Headline(Decimal(9), "USD"), SAVED, ZoneInfo("UTC"))
    assert "5 USD cost as known at 11:55, 9 as of 12:00, +80.0 %." in text


def test_a_person_whose_access_ended_after_the_page_was_drawn_saves_nothing(
    explore: Open, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = with_menu(explore(**START))
    app.text_input(key="view_name").input("Late")
    monkeypatch.setattr("usage_explore.app.sign_in.grant", lambda: Grant(frozenset({NEIGHBOUR})))
    app.button(key="view_save").click().run()
    assert store.views() == []
    assert seen(app, "is not an organization you may see")
