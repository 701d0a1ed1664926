"""The search box of the header, the calendar's windows, and filters on events' own values as chips."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from support.app_pages import Open
from support.demo_database import ACME, WINDOW
from usage_explore import AggregateQuery, EventQuery, Store
from usage_explore.app.cache import Source
from usage_explore.decimals import rfc3339
from usage_explore.results.types import Hit

LINK = {"organization_id": ACME, **WINDOW, "group_by": "dim:model"}


def searched(app: AppTest, text: str) -> AppTest:
    app.session_state["search"] = True
    app.run()
    return app.text_input(key="search_text").input(text).run()


def hits(app: AppTest) -> list[str]:
    return [button.label.replace("\\", "") for button in app.button if str(button.key).startswith("hit ")]


def links(app: AppTest) -> list[str]:
    return [str(link.proto.label).replace("\\", "") for link in app.get("page_link")]


def test_a_value_is_offered_with_its_events_and_becomes_a_filter(explore: Open, store: Store) -> None:
    app = explore(**LINK, metric_key="tokens_in", quantity_min="1")
    value = store.values("dim:model", AggregateQuery(**LINK))[0]
    searched(app, value.value.upper())
    assert f":gray[model] **{value.value}** :gray[· {value.events:,} events]" in hits(app)
    app.button(key=f"hit {next(n for n, hit in enumerate(hits(app)) if f'**{value.value}**' in hit)}").click().run()
    assert app.query_params["dim:model"] == value.value
    assert app.query_params["metric_key"] == "tokens_in"
    assert app.query_params["quantity_min"] == "1"


def test_a_dimension_with_the_name_of_a_column_is_told_apart(explore: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Hit("customer_id", ACME, 3, "cus_7"), Hit("dim:customer", "cus_7", 2), Hit("dim:model", "cus_7", 1)]
    monkeypatch.setattr(Source, "find", lambda *_: found)
    app = searched(explore(**LINK), "cus_7")
    kinds = [hit.partition("]")[0] for hit in hits(app)]
    assert kinds == [":gray[customer", ":gray[customer (dimension)", ":gray[model"]
    app.button(key="hit 1").click().run()
    assert any("customer (dimension) is cus_7" in button.label.replace("\\", "") for button in app.button)


def test_a_customer_is_found_by_a_part_of_the_name(explore: Open, store: Store) -> None:
    customer = store.customers(AggregateQuery(organization_id=ACME, **WINDOW))[0]
    assert customer.name
    app = searched(explore(**LINK), customer.name[2:-2].upper())
    (hit,) = [hit for hit in hits(app) if f"**{customer.name}**" in hit]
    assert hit == f":gray[customer] **{customer.name}** :gray[· {customer.events:,} events]"
    app.button(key=f"hit {hits(app).index(hit)}").click().run()
    assert app.query_params["customer_id"] == customer.value


def test_a_customer_found_by_a_part_of_the_id_says_so(explore: Open, store: Store) -> None:
    customer = store.customers(AggregateQuery(organization_id=ACME, **WINDOW))[0]
    app = searched(explore(**LINK), customer.value[3:14].upper())
    assert f":gray[customer] **{customer.name}** :gray[· {customer.events:,} events · found in its id]" in hits(app)


@pytest.mark.parametrize(("letters", "number"), [(1, "at least 50"), (8, None)])
def test_more_places_than_five_of_a_column_are_counted_and_listed_by_a_click(
    explore: Open, store: Store, letters: int, number: str | None
) -> None:
    query = AggregateQuery(organization_id=ACME, **WINDOW)
    names = [str(choice.name).lower() for choice in store.customers(query)]
    parts = [name[:letters] for name in names]
    part = "a" if number else next(part for part in parts if 5 < sum(part in name for name in names) < 50)
    app = searched(explore(**LINK), part)
    assert sum(hit.startswith(":gray[customer] ") for hit in hits(app)) == 5
    more = app.button(key="more customer_id")
    found = [hit for hit in store.search(part, query, 50) if hit.group == "customer_id"]
    assert more.label.startswith(f"5 of {number or len(found)}, ")
    more.click().run()
    assert sum(hit.startswith(":gray[customer] ") for hit in hits(app)) == len(found)


def test_an_event_and_a_key_are_found_whatever_the_window(explore: Open, events: Open, store: Store) -> None:
    event = store.scoped(ACME).events(EventQuery(limit=1)).events[0]
    early = {"organization_id": ACME, "since": "2020-01-01T00:00:00Z", "until": "2020-02-01T00:00:00Z"}
    app = searched(explore(**early), event.idempotency_key)
    assert any("idempotency key" in link and event.idempotency_key in link for link in links(app))
    app = searched(events(organization_id=ACME, metric_key="no such metric"), str(event.id))
    assert hits(app) == [f":gray[event] **{str(event.id)[:8]}…** :gray[· 1 event]"]
    app.button(key="hit 0").click().run()
    assert app.query_params["id"] == str(event.id)
    assert "metric_key" not in app.query_params
    assert app.query_params["event"] == f"{rfc3339(event.timestamp)}/{event.id}"
    assert len(app.dataframe[0].value) == 1


def test_a_search_without_a_hit_says_what_was_searched(explore: Open) -> None:
    app = searched(explore(**LINK), "no [such](thing)")
    assert any("Nothing has" in each.value for each in app.markdown)
    assert any("Searched: ids and idempotency keys" in each.value for each in app.caption)
    assert not hits(app)


def test_the_calendar_offers_the_months_with_events_and_writes_the_link(explore: Open) -> None:
    app = explore(**LINK)
    calendar = app.selectbox(key="calendar")
    assert calendar.value is None
    assert calendar.options[:6] == [
        "This week",
        "Last week",
        "This month",
        "Last month",
        "This quarter",
        "Last quarter",
    ]
    assert "September 2026" in calendar.options
    calendar.select("2026-09").run()
    assert app.query_params["window"] == "2026-09"
    assert "since" not in app.query_params
    assert app.session_state["preset"] is None
    assert len(app.get("vega_lite_chart")) == 1
    app.button_group(key="bucket").select("month").run()
    assert app.query_params["window"] == "2026-09"
    assert app.query_params["bucket"] == "month"


def test_presets_stay_relative_in_the_link(explore: Open) -> None:
    app = explore(**LINK)
    app.button_group(key="preset").select("7d").run()
    assert app.query_params["since"] == "-6d/d"
    for bucket in ("hour", "week"):
        app.button_group(key="bucket").select(bucket).run()
        assert app.query_params["bucket"] == bucket
        assert app.query_params["since"] == "-6d/d", "a control of the buckets does not change the amount"
    app.selectbox(key="calendar").select("last_month").run()
    assert app.query_params["window"] == "last_month"
    assert "since" not in app.query_params


def test_filters_on_own_values_are_chips_that_a_click_removes(explore: Open, store: Store) -> None:
    own = {"quantity_min": "0.50", "ingested_after": "2026-09-02T00:00:00Z"}
    app = explore(**LINK, **own, timezone="Europe/Berlin")
    labels = [button.label.replace("\\", "") for button in app.button]
    assert "quantity at least 0.5" in labels
    assert "arrived from 2 Sep 2026 02:00" in labels
    (link,) = [link for link in app.get("page_link") if "Open in Events" in str(link.proto.label)]
    assert "quantity_min=0.5" in str(link.proto)
    app.button(key="chip quantity_min is").click().run()
    assert "quantity_min" not in app.query_params
    assert app.query_params["ingested_after"] == "2026-09-02T00:00:00Z"
