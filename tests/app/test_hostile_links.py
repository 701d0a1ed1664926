"""Hostile links into the app: the package's own faults and no data, or a page that shows the text as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from uuid import uuid4

import pytest
from streamlit.testing.v1 import AppTest

from support import generated_events, hostile_values
from support.app_pages import MAIN, Open, opened
from support.demo_database import ACME, WINDOW
from support.query_oracle import Row
from support.query_parameters import faults_of, names
from support.waiting import PATIENCE
from usage_explore import AggregateQuery, EventQuery
from usage_explore.app import markdown
from usage_explore.db import ddl
from usage_explore.query.base import Query
from usage_explore.query.queries import Period

OWN = {
    "explore": ("chart", "series", "span"),
    "events": ("timezone", "event"),
    "validate": ("severity", "check", "about_customer", "finding"),
}
MODELS: dict[str, type[Query]] = {"explore": AggregateQuery, "events": EventQuery, "validate": Period}


def again(app: AppTest, parameters: dict[str, str]) -> AppTest:
    """The next link in the same session."""
    app.query_params.clear()
    return opened(app, dict(parameters))


@pytest.mark.parametrize("page", list(OWN))
def test_every_fault_is_told_in_the_package_s_words(page: str, explore: Open, events: Open, validate: Open) -> None:
    doors = {"explore": explore, "events": events, "validate": validate}
    app = doors[page](organization_id=ACME, limit="0", top="-1")
    model = MODELS[page]
    for text in (text[:1_000] for text in hostile_values.WORST):
        given = dict.fromkeys(names(model), text)
        again(app, {**given, **dict.fromkeys(OWN[page], text)})
        (said,) = (each.value for each in app.error)
        for name, message in faults_of(model, given.items()).items():
            assert f"- **{markdown.plain(name)}**: {markdown.plain(message)}" in said, name
        for name in OWN[page]:
            assert f"- **{markdown.plain(name)}**: " in said
        assert all(line.replace("\u2060", "").isprintable() for line in said.splitlines())
        assert len(said) < 10_000
        assert not app.get("vega_lite_chart")
        assert not app.dataframe


def test_text_that_is_a_value_is_shown_as_it_is(explore: Open) -> None:
    app = explore(organization_id=ACME, **WINDOW)
    for text in hostile_values.WORST[2:7]:
        for given in (
            {"dim:model": text, "not:metric_key": "x"},
            {"not:dim:model": text, "group_by": f"dim:{text}", "series": f"value:{text}"},
        ):
            again(app, {"organization_id": ACME, **WINDOW, **given})
            assert not app.error, given
            shown = "".join(each.value for each in (*app.markdown, *app.info))
            assert "<script>" not in shown
            assert not {"\x1b", "\u202e"} & {*shown}


def test_text_that_is_a_value_is_examined_as_it_is(validate: Open) -> None:
    app = validate(organization_id=ACME, **WINDOW)
    for text in hostile_values.WORST[2:7]:
        again(app, {"organization_id": ACME, **WINDOW, "dim:model": text, "not:metric_key": "x", "about_metric": text})
        assert not app.error, text
        shown = "".join(each.value for each in (*app.markdown, *app.subheader, *app.info))
        assert "Checks not run yet" in shown
        assert "<script>" not in shown
        assert not {"\x1b", "\u202e"} & {*shown}


@pytest.mark.parametrize("page", list(OWN))
def test_a_link_of_another_organization_shows_nothing(page: str, explore: Open, events: Open, validate: Open) -> None:
    window = {} if page == "events" else WINDOW
    app = {"explore": explore, "events": events, "validate": validate}[page](organization_id=str(uuid4()), **window)
    assert "not an organization you may see" in app.error[0].value.replace("\\", "")
    assert not app.get("vega_lite_chart")
    assert not app.dataframe
    assert "Checks not run yet" not in "".join(each.value for each in app.subheader)


def test_what_cannot_be_drawn_is_said_and_still_listed(
    events_database_url: str, events_connection: ddl.Connection, own: list[Row], use: Callable[..., None]
) -> None:
    kept = replace(own[0], dimensions="{}")
    for number, quantity in enumerate(("1e400", "-3e5000", "1e-400")):
        row = replace(kept, id=uuid4(), idempotency_key=str(number), quantity=Decimal(quantity))
        generated_events.insert(events_connection, [row])
    use(events_database_url)
    window = {"since": "-9999d", "bucket": "week", "metric": "sum_quantity", "group_by": "dim:model"}
    app = opened(AppTest.from_file(MAIN, default_timeout=PATIENCE), window)
    said = [each.value for each in app.info]
    assert any(markdown.plain("There is no chart: the values are too large") in each for each in said), (
        said,
        [e.value for e in app.error],
    )
    assert not app.get("vega_lite_chart")
    assert not app.error
    assert app.dataframe
    for tab in ("data", "download"):
        assert not opened(app, {"tab": tab}).error
