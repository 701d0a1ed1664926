"""What the Customer page shows: its links, its empty states, findings, and texts from the data as they are."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from urllib.parse import parse_qsl
from uuid import uuid4

import pytest
from streamlit.testing.v1 import AppTest

from support.app_pages import Open, opened
from support.demo_database import ACME, BIRCH, WINDOW
from support.generated_events import ORGANIZATION
from support.plain_events import JUNE, SINCE, event, store_of
from support.waiting import PATIENCE
from usage_explore import AggregateQuery, EventQuery, Store, formatting
from usage_explore.app.page_state import CustomerView
from usage_explore.db import ddl
from usage_explore.decimals import rfc3339
from usage_explore.errors import QueryError
from usage_explore.query.queries import Period
from usage_explore.records.decisions import Decision
from usage_explore.records.runs import Run
from usage_explore.validation.review import run_of

UNKNOWN = "00000000-0000-4000-8000-00000000c057"
LINK = {"organization_id": ACME, **WINDOW}


def texts(app: AppTest) -> str:
    drawn = [*app.markdown, *app.caption, *app.subheader, *app.info, *app.error]
    return "\n".join([*(element.value for element in drawn), html(app)]).replace("\\", "")


def html(app: AppTest) -> str:
    return "\n".join(element.proto.body for element in app.get("html"))


def links(app: AppTest) -> dict[str, dict[str, str]]:
    """The parameters of each link by its label."""
    return {
        str(link.proto.label).replace("\\", ""): dict(parse_qsl(link.proto.query_string))
        for link in app.get("page_link")
    }


def customer_links(app: AppTest) -> list[dict[str, str]]:
    links = [link.proto for link in app.get("page_link")]
    return [dict(parse_qsl(link.query_string)) for link in links if link.page == "customer"]


@pytest.fixture
def largest(store: Store) -> str:
    return store.customers(AggregateQuery(**LINK))[0].value


def test_the_page_names_the_customer_and_counts_its_events(customer: Open, store: Store, largest: str) -> None:
    app = customer(**LINK, customer_id=largest)
    name = store.scoped(ACME).names([("customer_id", largest)]).name("customer_id", largest)
    assert name in [heading.value.replace("\\", "") for heading in app.subheader]
    assert largest in [code.value for code in app.code]
    within = EventQuery(
        organization_id=ACME, customer_id=largest, occurred_after=WINDOW["since"], occurred_before=WINDOW["until"]
    )
    events = store.count(within)
    assert any(f"Exactly {events:,} events" in (heading.help or "") for heading in app.subheader)
    costs = store.currencies(AggregateQuery(**LINK, customer_id=largest))
    assert costs
    for cost in costs:
        assert any(formatting.exact(cost.cost) in (heading.help or "") for heading in app.subheader)
    assert len(app.dataframe[0].value) == 10
    assert not app.error


def test_the_charts_numbers_are_in_a_table(customer: Open, store: Store, largest: str) -> None:
    app = customer(**LINK, customer_id=largest)
    assert len(app.dataframe) == 1
    app.session_state["customer_numbers"] = True
    app.run()
    table = app.dataframe[0].value
    query = AggregateQuery(**LINK, customer_id=largest, group_by="metric_key", metric="sum_quantity", top=0)
    for series in store.aggregate(query).series:
        shown = table[table["Metric"] == series.key]
        assert [Decimal(str(value)) for value in shown["Quantity"]] == [point.value for point in series.points]
    assert {*table["Complete"]} == {"yes"}


def test_every_metric_opens_explore_with_customer_and_metric(customer: Open, store: Store, largest: str) -> None:
    app = customer(**LINK, customer_id=largest, timezone="Europe/Berlin")
    metrics = store.values("metric_key", AggregateQuery(**LINK, customer_id=largest))
    assert metrics
    for metric in metrics:
        assert links(app)[f"**{metric.value}**"] == {
            **LINK,
            "customer_id": largest,
            "metric_key": metric.value,
            "metric": "sum_quantity",
            "timezone": "Europe/Berlin",
        }
    assert links(app)["Open in Events"]["customer_id"] == largest


def test_links_between_the_pages_keep_customer_and_window(
    customer: Open, explore: Open, events: Open, largest: str
) -> None:
    link = {**LINK, "customer_id": largest}
    app = explore(**link, group_by="dim:model", metric_key="images")
    assert customer_links(app) == [link]
    for opener, window in (
        (explore, WINDOW),
        (events, {"occurred_after": WINDOW["since"], "occurred_before": WINDOW["until"]}),
    ):
        drawn = opener(organization_id=ACME, customer_id=largest, **window)
        found = [
            dict(parse_qsl(page.proto.query_string)) for page in drawn.get("page_link") if "customer" in page.proto.page
        ]
        assert found[0] == link
    assert not [page for page in explore(**LINK).get("page_link") if "customer" in page.proto.page]


def test_an_unknown_customer_and_one_of_another_organization_are_the_same(customer: Open, store: Store) -> None:
    other = store.customers(EventQuery(organization_id=BIRCH))[0].value
    shown = []
    for id_ in (UNKNOWN, other):
        app = customer(**LINK, customer_id=id_)
        shown.append([info.value for info in app.info])
        assert "has no events of a customer with this id" in shown[-1][0]
        assert not app.dataframe
        assert id_ in [code.value for code in app.code]
        assert "Customer without a name" in texts(app)
    assert shown[0] == shown[1]


def test_an_organization_that_may_not_be_seen_is_the_same_error_as_elsewhere(
    customer: Open, explore: Open, largest: str
) -> None:
    parameters = {"organization_id": UNKNOWN, "customer_id": largest}
    errors = [[error.value for error in opener(**parameters).error] for opener in (customer, explore)]
    assert errors[0] == errors[1]
    assert errors[0]


def test_an_empty_window_offers_the_span_of_the_customers_events(customer: Open, store: Store, largest: str) -> None:
    app = customer(
        organization_id=ACME, customer_id=largest, since="2030-01-01T00:00:00Z", until="2030-02-01T00:00:00Z"
    )
    assert "This customer has no events in" in texts(app)
    app.button(key="show_extent").click().run()
    first, last = store.extent(EventQuery(organization_id=ACME, customer_id=largest)) or (None, None)
    assert first is not None
    assert last is not None
    assert app.query_params["since"] == f"{first:%Y-%m-%d}T00:00:00Z"
    assert app.query_params["until"] > f"{last:%Y-%m-%d}"
    assert app.dataframe


def test_without_a_customer_the_page_offers_those_of_most_events(customer: Open, store: Store, largest: str) -> None:
    app = customer(**LINK)
    offered = [
        str(button.key).removeprefix("customer ") for button in app.button if str(button.key).startswith("customer ")
    ]
    assert offered == [choice.value for choice in store.customers(AggregateQuery(**LINK))[: len(offered)]]
    app.button(key=f"customer {largest}").click().run()
    assert app.query_params["customer_id"] == largest


def test_the_window_and_the_currency_are_in_the_link(customer: Open, store: Store, largest: str) -> None:
    app = customer(**LINK, customer_id=largest)
    named = [one.currency for one in store.currencies(AggregateQuery(**LINK, customer_id=largest)) if one.currency]
    assert len(named) > 1
    assert f"Cost, {named[0]}" in texts(app)
    app.button_group(key="customer_currency").select(named[1]).run()
    assert app.query_params["currency"] == named[1]
    assert f"Cost, {named[1]}" in texts(app)
    app.selectbox(key="customer_calendar").select("2026-09").run()
    assert app.query_params["window"] == "2026-09"
    assert "since" not in app.query_params
    assert app.query_params["currency"] == named[1]


def test_findings_are_those_of_the_kept_run_of_the_window_in_every_session(
    customer: Open, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: object, **options: object) -> None:
        raise AssertionError("the page started a validation")

    validation = store.validate(Period(**LINK))
    about = [finding for finding in validation.findings if finding.customer_id]
    named = str(about[0].customer_id)
    none = "No kept validation examined this customer in this window."
    monkeypatch.setattr(Store, "validate", refused)
    made: list[Run] = []

    def own(store: Store, *_: object) -> Run | None:
        return next((run for run in made if run.organization_id == store.organization_id), None)

    monkeypatch.setattr(Store, "closest_run", own)  # the demo database never changes
    assert none in texts(customer(**LINK, customer_id=named))
    made.append(run_of(validation, "ana"))
    app = customer(**LINK, customer_id=named)
    shown = [
        label for label in links(app) if any(label.startswith(f"**{word}**") for word in ("High", "Medium", "Low"))
    ]
    mine = [finding for finding in validation.findings if str(finding.customer_id) == named]
    assert len(shown) == min(len(mine), 5)
    assert links(app)[shown[0]]["about_customer"] == named
    assert "finding" in links(app)[shown[0]]
    first = next(one for one in made[0].findings if one.identity.customer_id == named and not one.folded_into)
    settled = Decision(
        id=uuid4(),
        organization_id=made[0].organization_id,
        made_at=validation.now,
        author="ana",
        action="acknowledge",
        finding=first,
        place="file",
    )
    with monkeypatch.context() as patched:
        patched.setattr(Store, "decisions", lambda *_: [settled])
        (marked,) = (label for label in links(customer(**LINK, customer_id=named)) if ", acknowledged]" in label)
    assert links(app)[marked.replace(", acknowledged]", "]")]["finding"] == first.identity.id
    assert links(app)[shown[0]]["as_of"] == rfc3339(validation.period.as_of)
    assert any(f", as of {formatting.minute(validation.period.as_of)}" in label for label in links(app))
    assert app.button(key="customer_run_checks")
    others = store.customers(AggregateQuery(**LINK))
    quiet = next(one.value for one in others if one.value not in {str(finding.customer_id) for finding in about})
    app = customer(**LINK, customer_id=quiet)
    assert any(label.startswith("None names this customer in the validation of") for label in links(app))
    common = "Findings of several customers are not listed here: open the validation"
    lead = made[0].findings[0]
    for customer_id in (None, named):
        made[:] = [
            replace(made[0], findings=(replace(lead, identity=replace(lead.identity, customer_id=customer_id)),))
        ]
        for id_ in (named, quiet):
            shown = links(customer(**LINK, customer_id=id_))
            assert (common in shown) == (customer_id is None)
            assert "about_customer" not in shown.get(common, {})
    foreign = store.customers(EventQuery(organization_id=BIRCH))[0].value
    assert none in texts(customer(organization_id=BIRCH, **WINDOW, customer_id=foreign))


def test_texts_from_the_data_stay_texts(
    use: Callable[..., None], events_database_url: str, events_connection: ddl.Connection
) -> None:
    hostile = '"><script>alert(1)</script> **b** [x](http://y) :smile:'
    rows = [
        event(SINCE, metric_key=hostile, price_key=hostile, external_cost_amount=1, external_cost_currency=hostile[:20])
    ]
    store_of(events_connection, events_database_url, rows).close()
    use(events_database_url)
    app = opened(
        AppTest.from_function(_page, default_timeout=PATIENCE),
        {"organization_id": str(ORGANIZATION), "customer_id": str(JUNE), "window": "2026-09"},
    )
    assert "<script" not in html(app)
    assert "&lt;script&gt;alert(1)" in html(app)
    assert re.search(r'aria-label="&quot;&gt;&lt;script', html(app))


@pytest.mark.parametrize(
    ("quantities", "zero", "bar"),
    [((-60, -30), "100%", "--from:50%;--to:100%"), ((60, -20), "25%", "--from:0%;--to:25%"), ((5, 9), "0%", "to:100%")],
)
def test_the_line_of_a_chart_is_at_zero(
    use: Callable[..., None],
    events_database_url: str,
    events_connection: ddl.Connection,
    quantities: tuple[int, int],
    zero: str,
    bar: str,
) -> None:
    rows = [event(SINCE + timedelta(days=day), quantity=Decimal(each)) for day, each in enumerate(quantities)]
    store_of(events_connection, events_database_url, rows).close()
    use(events_database_url)
    app = opened(
        AppTest.from_function(_page, default_timeout=PATIENCE),
        {"organization_id": str(ORGANIZATION), "customer_id": str(JUNE), "window": "2026-09"},
    )
    assert f'style="--zero:{zero}"' in html(app)
    assert bar in html(app)


def _page() -> None:
    from usage_explore.app.main import run

    run("customer")


@pytest.mark.parametrize(
    "pairs",
    [
        (("customer_id", UNKNOWN),),
        (("customer_id", UNKNOWN), ("since", "-30d")),
        (("customer_id", UNKNOWN), ("until", "-1d"), ("timezone", "Asia/Kolkata")),
        (("customer_id", UNKNOWN), ("window", "2026-09"), ("as_of", "2026-10-01T00:00:00Z"), ("currency", "")),
        (("organization_id", ACME), ("window", "last_month"), ("currency", "EUR")),
        (),
    ],
)
def test_a_link_is_read_as_it_was_written(pairs: tuple[tuple[str, str], ...]) -> None:
    view = CustomerView.from_params(pairs)
    assert CustomerView.from_params(view.to_params()) == view
    assert {*pairs} <= {*view.to_params()}


def test_a_link_names_all_its_faults() -> None:
    pairs = (("customer_id", "x"), ("metric_key", "tokens"), ("bucket", "day"), ("currency", "a"), ("currency", "b"))
    with pytest.raises(QueryError) as error:
        CustomerView.from_params(pairs)
    assert {fault.parameter for fault in error.value.faults} == {"customer_id", "metric_key", "bucket", "currency"}
