"""Names in the app: in chips, pickers and tables; the link keeps the id."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from support.app_pages import MAIN, Open, opened
from support.demo_database import ACME, BIRCH, WINDOW
from support.generated_events import NEIGHBOUR, ORGANIZATION
from support.plain_events import JUNE, LARGE, SINCE, SMALL, beside, event, store_of
from support.waiting import PATIENCE
from usage_explore import AggregateQuery, EventQuery, Store
from usage_explore.app import grid, query_edits
from usage_explore.app.query_edits import Filter
from usage_explore.db import ddl
from usage_explore.db.names import Entry, upsert
from usage_explore.db.schema import events_table, names_table
from usage_explore.decimals import rfc3339
from usage_explore.names import Names

LINK = {"organization_id": ACME, **WINDOW, "group_by": "customer_id"}


def labels(app: AppTest) -> list[str]:
    return [button.label.replace("\\", "") for button in app.button]


@pytest.fixture
def largest(store: Store) -> Any:
    """The series of the demo's largest customer."""
    return store.aggregate(AggregateQuery(**LINK)).series[0]


def test_a_chip_has_the_name_and_the_link_the_id(explore: Open, largest: Any) -> None:
    app = explore(**LINK, customer_id=largest.key)
    assert f"customer is {largest.name}" in labels(app)
    assert app.query_params["customer_id"] == largest.key
    (chart,) = app.get("vega_lite_chart")
    assert largest.name in str(chart.proto.spec)


def test_the_links_opened_last_have_names(explore: Open, largest: Any) -> None:
    app = explore(**LINK, customer_id=largest.key)
    remembered = app.session_state["recent_links"]
    assert remembered[0].ids == (("customer_id", largest.key),)
    home = AppTest.from_function(_home_page, default_timeout=PATIENCE)
    home.session_state["recent_links"] = remembered
    links = [link.proto.label.replace("\\", "") for link in opened(home, {"organization_id": ACME}).get("page_link")]
    assert any(link.startswith(":gray[Explore] ") and f"customer is {largest.name}" in link for link in links), links


def _home_page() -> None:
    from usage_explore.app.main import run

    run("home")


def test_the_ranking_and_the_data_have_names(explore: Open, largest: Any) -> None:
    app = explore(**LINK)
    ranking = app.dataframe[0].value
    assert ranking["name"][0] == largest.name
    assert ranking["series"][0] == f"{largest.name} ({largest.key})"


def test_a_selected_customer_of_other_has_its_name_and_no_share(explore: Open, store: Store) -> None:
    answer = store.aggregate(AggregateQuery(**LINK, top=0))
    app = explore(**LINK, top="1", rank="change", span="2026-09-09T00:00:00Z/2026-09-10T00:00:00Z")
    ranking = app.dataframe[0].value
    row = next(row for row in ranking.itertuples() if row.series.endswith(" (in Other)"))
    assert pd.isna(row.share)  # Other counts it
    picked = next(item for item in answer.series if item.name == row.name)
    app = explore(**LINK, top="1", series=f"value:{picked.key}", tab="ticket")
    assert any(f"customer {picked.name}" in each.value.replace("\\", "") for each in app.subheader)
    assert f"Selected: customer {picked.name}: " in app.code[-1].value


def test_the_events_have_names_and_then_ids(events: Open, store: Store) -> None:
    app = events(organization_id=ACME)
    page = store.scoped(ACME).events(EventQuery())
    table = app.dataframe[0].value
    assert table["Customer"].tolist() == [item.customer_name for item in page.events]
    assert table["Customer id"].tolist() == [str(item.customer_id) for item in page.events]
    assert "Subscription id" not in table  # none has a name
    event = page.events[0]
    app = events(organization_id=ACME, event=f"{rfc3339(event.timestamp)}/{event.id}")
    assert app.table[0].value.iloc[:, 0]["customer_name"] == event.customer_name


def test_a_column_of_names_is_as_wide_as_the_longest(events: Open, store: Store) -> None:
    app = events(organization_id=ACME)
    names = [str(item.customer_name) for item in store.scoped(ACME).events(EventQuery()).events]
    shown = json.loads(app.dataframe[0].proto.columns)["Customer"]
    assert shown["width"] == grid.width("Customer", names) > grid.width("Customer", [])


def test_only_the_names_of_visible_organizations_are_offered(
    use: Callable[..., None], events_database_url: str, events_connection: ddl.Connection
) -> None:
    names = names_table(None, events_table())
    for organization, name in ((ORGANIZATION, "*Metering* GmbH"), (NEIGHBOUR, "Secret")):
        upsert(events_connection, names, organization, [Entry("organization", organization, None, name)])
    events = [event(SINCE, customer_id=SMALL), event(SINCE, customer_id=LARGE)]
    store_of(events_connection, events_database_url, events + beside(events)).close()
    events_connection.commit()
    use(events_database_url)
    app = opened(AppTest.from_file(MAIN, default_timeout=PATIENCE), {})
    assert labels(app) == ["*Metering* GmbH", "Secret"]
    assert next(button.label for button in app.button) == "\\*Metering\\* GmbH"
    use(events_database_url, ORGANIZATION_ID=str(ORGANIZATION))
    app = opened(AppTest.from_file(MAIN, default_timeout=PATIENCE), {})
    assert app.selectbox(key="organization").options == ["*Metering* GmbH"]
    assert "Secret" not in str(app)


@pytest.mark.parametrize("given", [("beta", "Zinc"), ("Zinc", "beta"), ("Zinc", None), (None, "Zinc")])
def test_organizations_are_listed_by_name(
    use: Callable[..., None],
    events_database_url: str,
    events_connection: ddl.Connection,
    given: tuple[str | None, str | None],
) -> None:
    organizations = (ORGANIZATION, NEIGHBOUR)
    for organization, name in zip(organizations, given, strict=True):
        if name is not None:
            entry = Entry("organization", organization, None, name)
            upsert(events_connection, names_table(None, events_table()), organization, [entry])
    events = [event(SINCE, customer_id=SMALL), event(SINCE, customer_id=LARGE)]
    store_of(events_connection, events_database_url, events + beside(events)).close()
    events_connection.commit()
    use(events_database_url)
    listed = ["beta", "Zinc"] if None not in given else ["Zinc", str(organizations[given.index(None)])]
    assert labels(opened(AppTest.from_file(MAIN, default_timeout=PATIENCE), {})) == listed
    app = opened(AppTest.from_file(MAIN, default_timeout=PATIENCE), {"organization_id": str(ORGANIZATION)})
    assert app.selectbox(key="organization").options == listed


def test_a_chip_of_ids_without_names_has_their_first_digits() -> None:
    names = Names({("customer", str(JUNE)): "Acme"})
    query = AggregateQuery(exclude={"customer_id": [JUNE, SMALL]})
    (item,) = query_edits.filters(query)
    assert item.text(names) == "customer is not Acme, 00000000…"
    assert str(item) == "customer is not 00000000…, 00000000…"
    assert Filter("dim:model", "is", (str(JUNE),)).text(names) == f"model is {JUNE}"


def test_another_organization_s_filter_shows_no_name(explore: Open, largest: Any) -> None:
    app = explore(**{**LINK, "organization_id": BIRCH}, customer_id=largest.key)
    assert f"customer is {largest.key[:8]}…" in labels(app)
    assert largest.name not in str(app)
