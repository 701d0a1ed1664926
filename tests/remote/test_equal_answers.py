"""A store by address and key answers as the store on the database does: equal results, equal errors, equal pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support import generated_events
from support.api_server import asking
from support.demo_database import ACME
from support.query_oracle import Row
from support.random_filters import filters, with_filters
from support.thoroughness import cases
from usage_explore import AggregateQuery, EventQuery, LeaderboardQuery, Period, QueryError, Store, connect
from usage_explore.cli.main import main
from usage_explore.cli.validate import FOUND
from usage_explore.db import ddl
from usage_explore.errors import ConfigurationError, Fault, ScopeError, UsageExploreError
from usage_explore.names import KINDS
from usage_explore.pricing.read import read_prices
from usage_explore.pricing.table import replace_prices
from usage_explore.query.base import Query
from usage_explore.records.views import SavedView
from usage_explore.validation import registry
from usage_explore.validation.bounds import read_bounds
from usage_explore.validation.control.totals import read_control
from usage_explore.validation.inputs import read_preferences
from usage_explore.validation.reconciliation.invoices import read_invoices

EDGES = [datetime(2010, 1, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 10, 25, 3, tzinfo=UTC)]
BEFORE = datetime(2026, 11, 10, tzinfo=UTC)  # an unfinished window depends on the time of reading
AFTER = datetime(2026, 12, 1, tzinfo=UTC)
unhurried = settings(max_examples=cases(200), deadline=None, suppress_health_check=list(HealthCheck))


def outcome(ask: Callable[[], Any]) -> Any:
    """The result, or the error with all its faults."""
    try:
        return ask()
    except UsageExploreError as error:
        return type(error), str(error), getattr(error, "faults", ())


@st.composite
def aggregates(draw: st.DrawFn) -> AggregateQuery:
    """Aggregates of every measure and grouping, with filters, comparisons, zones and pasts; some are errors."""
    query = with_filters(AggregateQuery, draw(filters()))
    metric = draw(st.sampled_from(["count", "sum_quantity", "sum_cost", "unit_cost"]))
    currency = {"external_cost_currency": "USD"} if "cost" in metric and draw(st.integers(0, 3)) else {}
    return query.replace(
        bucket=draw(st.sampled_from(["hour", "day", "week", "month"])),
        metric=metric,
        group_by=draw(st.sampled_from(["none", "metric_key", "customer_id", "dim:model", "external_cost_currency"])),
        top=draw(st.sampled_from([0, 1, 3, 8])),
        cumulative=draw(st.booleans()),
        compare=draw(st.sampled_from([None, "previous", "year"])),
        timezone=draw(st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu"])),
        since=draw(st.sampled_from(EDGES)),
        until=BEFORE,
        as_of=draw(st.sampled_from([None, datetime(2026, 9, 1, tzinfo=UTC)])),
        **currency,
    )


@unhurried
@given(query=aggregates())
def test_aggregates_are_equal(store: Store, remote: Store, query: AggregateQuery) -> None:
    here, there = (outcome(partial(asked.aggregate, query)) for asked in (store, remote))
    assert here == there
    if not isinstance(here, tuple):
        assert here.frame.equals(there.frame)
        assert here.hints == there.hints
        assert (here.names, here.to_dict()) == (there.names, there.to_dict())


@settings(unhurried, max_examples=cases(30))
@given(chosen=filters(), limit=st.integers(1, 100))
def test_events_counts_and_extents_are_equal(
    store: Store, remote: Store, chosen: dict[str, list[str]], limit: int
) -> None:
    query = with_filters(EventQuery, chosen).replace(limit=limit)
    for method in ("events", "count", "extent", "metric_keys", "dimension_keys", "currencies"):
        here, there = (outcome(partial(getattr(asked, method), query)) for asked in (store, remote))
        assert here == there, method


def test_pages_go_forward_and_back(store: Store, remote: Store) -> None:
    query = EventQuery(limit=7)
    here, there = store.events(query), remote.events(query)
    for _ in range(3):
        here, there = here.next(), there.next()  # type: ignore[assignment]
        assert here == there
        assert there.previous() == here.previous()
    assert remote.events(query).previous() is None
    larger = query.replace(limit=50, cursor=store.events(query).cursor)
    assert remote.events(larger).previous() == store.events(larger).previous()
    few = EventQuery(metric_key=generated_events.METRICS[0], limit=100)
    assert list(remote.events(few)) == list(store.events(few))
    with pytest.raises(QueryError, match="cursor: is damaged"):
        remote.events(query.replace(cursor="x"))


QUESTIONS: list[Callable[[Store], Any]] = [
    lambda asked: asked.leaderboards(AggregateQuery(since=EDGES[0], until=AFTER), top=3),
    lambda asked: asked.leaderboards(LeaderboardQuery(since=EDGES[0], until=AFTER, metric="sum_cost")),
    lambda asked: asked.leaderboards(LeaderboardQuery(since=EDGES[0], until=AFTER, external_cost_currency="USD")),
    lambda asked: asked.explain(AggregateQuery(since=EDGES[1], until=AFTER, bucket="month"), EDGES[2]),
    lambda asked: asked.explain(AggregateQuery(since=EDGES[2], until=BEFORE), baseline=(EDGES[1], EDGES[2])),
    lambda asked: asked.explain(AggregateQuery(since=EDGES[1], until=BEFORE), expected=Decimal("12.5")),
    lambda asked: asked.explain(AggregateQuery(since=EDGES[1], until=EDGES[2]), AFTER),
    lambda asked: asked.explain(AggregateQuery(since=EDGES[1], until=EDGES[2]), expected=0.5),
    lambda asked: asked.explain(AggregateQuery(since=EDGES[1], until=EDGES[2], metric="unit_cost")),
    lambda asked: asked.dimension_values("model"),
    lambda asked: asked.dimension_values("model", AggregateQuery(since=EDGES[1], until=AFTER), 2),
    lambda asked: asked.values("price_key", EventQuery(occurred_after=EDGES[1])),
    lambda asked: asked.values("price_key", Period(since=EDGES[1], until=AFTER)),
    lambda asked: asked.values("nothing"),
    lambda asked: asked.values("metric_key", most=0),
    lambda asked: asked.customers(AggregateQuery(window="2026-09"), 3),
    lambda asked: [choice.name for choice in asked.customers()],
    lambda asked: asked.search("a", AggregateQuery(since=EDGES[0], until=AFTER)),
    lambda asked: asked.search("  "),
    lambda asked: asked.search_names("a"),
    lambda asked: asked.search_names(""),
    lambda asked: asked.search_names("a", "customer", 3),
    lambda asked: asked.search_names("", "organization"),
    lambda asked: asked.names(
        [("customer_id", generated_events.CUSTOMERS[0]), ("product", generated_events.PRODUCTS[0])]
    ),
    lambda asked: asked.organizations(),
    lambda asked: asked.organization_names(),
    lambda asked: asked.organization_name(EventQuery()),
    lambda asked: asked.known(),
    lambda asked: asked.first_event(),
    lambda asked: asked.first_event(datetime(2026, 5, 1, tzinfo=UTC)),
    lambda asked: asked.pin(EventQuery()),
    lambda asked: asked.pin(AggregateQuery(window="2026-09")),
    lambda asked: asked.is_settled(EventQuery(as_of=EDGES[1])),
    lambda asked: asked.is_settled(EventQuery()),
    lambda asked: asked.headline(AggregateQuery(since=EDGES[0], until=AFTER, bucket="month")),
    lambda asked: asked.frequent_values(AggregateQuery(group_by="dim:model")),
    lambda asked: asked.read(EventQuery()),
    lambda asked: asked.read(EventQuery(metric_key="nothing")),
    lambda asked: asked.events(EventQuery(metric_key="a,b")),
    lambda asked: asked.aggregate(AggregateQuery(since="-9999d/d", until="-9998d/d")),
    lambda asked: asked.aggregate(EventQuery()),  # type: ignore[arg-type]
    lambda asked: asked.aggregate(AggregateQuery(organization_id=generated_events.NEIGHBOUR)),
    lambda asked: asked.count(EventQuery(organization_id=generated_events.NEIGHBOUR)),
    lambda asked: asked.read(EventQuery(organization_id=generated_events.NEIGHBOUR)),
    lambda asked: asked.scoped(generated_events.NEIGHBOUR),
    lambda asked: asked.scoped(generated_events.ORGANIZATION).organization_id,
    lambda asked: asked.scoped(generated_events.ORGANIZATION).restricted([]).count(EventQuery()),
]


@pytest.mark.parametrize("ask", QUESTIONS)
def test_every_other_method_answers_the_same(store: Store, remote: Store, ask: Callable[[Store], Any]) -> None:
    assert outcome(lambda: ask(remote)) == outcome(lambda: ask(store))


@pytest.mark.parametrize("compare", [None, "year"])
@pytest.mark.parametrize("until", [AFTER, datetime(2026, 10, 1, tzinfo=UTC)])
def test_an_answer_is_compared_afterwards(store: Store, remote: Store, compare: str | None, until: datetime) -> None:
    query = AggregateQuery(since=EDGES[1], until=until, group_by="dim:model", top=2, compare=compare)
    answer = replace(store.aggregate(query), now=datetime(2026, 11, 2, tzinfo=UTC))
    assert remote.compare(answer) == store.compare(answer)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".xlsx"])
def test_files_are_the_same(store: Store, remote: Store, tmp_path: Path, suffix: str) -> None:
    query = EventQuery(metric_key=generated_events.METRICS[:2])
    paths = [tmp_path / f"{name}{suffix}" for name in ("here", "there")]
    reports = [asked.export(query, path, False) for asked, path in zip((store, remote), paths, strict=True)]
    assert reports[0].events == reports[1].events > 0
    if suffix == ".parquet":
        here, there = map(pyarrow.parquet.read_table, paths)
        assert here.equals(there, check_metadata=True)
    elif suffix == ".csv":
        assert paths[0].read_bytes() == paths[1].read_bytes()
        assert b"".join(remote.export_csv(query)) == paths[0].read_bytes()


NOW = datetime(2026, 9, 1, tzinfo=UTC)
VIEW = SavedView(
    id=UUID(int=1),
    organization_id=generated_events.ORGANIZATION,
    name="x",
    note="",
    author="local",
    created_at=NOW,
    changed_at=NOW,
    saved_at=NOW,
    page="explore",
    params="",
    pinned="",
    total=None,
    currency=None,
    as_of=NOW,
    place="table",
)


def test_what_a_server_does_not_offer_says_so(remote: Store) -> None:
    for ask in (
        lambda: remote.sql(EventQuery()),
        lambda: remote.save_view("x", AggregateQuery()),
        lambda: remote.change_view(VIEW, note="x"),
        lambda: remote.delete_view(VIEW),
        lambda: remote.decide("0" * 12, "acknowledge", by="ana"),
        remote.decisions,
        remote.runs,
        remote.signoffs,
        lambda: remote.extract_state(),
        remote.links,
        lambda: remote.share(AggregateQuery()),
        remote.aggregate(AggregateQuery()).share,
        remote.events(EventQuery()).share,
        lambda: remote.link("A" * 22),
        lambda: remote.revoke_link("A" * 22),
    ):
        with pytest.raises(ConfigurationError, match="a store over HTTP does not offer this: a key reads"):
            ask()


def test_a_validation_is_equal_and_reports_its_progress(store: Store, remote: Store) -> None:
    period = Period(since=EDGES[1], until=BEFORE, as_of=BEFORE)
    seen: list[tuple[str, float]] = []
    there = remote.validate(period, checks=["duplicates", "unrated"], progress=lambda *step: seen.append(step))
    here = store.validate(period, checks=["duplicates", "unrated"])
    assert there.period == here.period
    assert (there.totals, there.unexamined, there.findings) == (here.totals, here.unexamined, here.findings)
    assert there.frame.equals(here.frame)
    assert {name for name, _ in seen} == {"duplicates", "unrated"}
    assert seen[-1][1] == 1.0
    with pytest.raises(QueryError, match="checks: 'nothing' is not a check"):
        remote.validate(period, checks=["nothing"])
    with pytest.raises(QueryError) as error:
        remote.validate(period, invoices="/nowhere.csv")
    with pytest.raises(QueryError) as same:
        store.validate(period, invoices="/nowhere.csv")
    assert error.value.faults == same.value.faults


def test_an_interrupted_validation_is_cancelled_on_the_server(remote: Store) -> None:
    def interrupt(name: str, done: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        remote.validate(Period(since=EDGES[1], until=BEFORE), progress=interrupt)
    response = remote.client._http.get(f"{remote.client.url}/api/v1/validations")  # type: ignore[attr-defined]
    assert response.json() == {"validations": []}


def test_frames_are_sent_with_a_validation(store: Store, remote: Store) -> None:
    lines = pa.table(
        {
            "customer_id": [str(generated_events.CUSTOMERS[0])] * 2,
            "metric_key": ["tokens_in", "Other"],
            "quantity": [Decimal("12.50"), Decimal("0.25")],
        }
    )
    period = Period(since=EDGES[1], until=BEFORE, as_of=BEFORE)
    for invoices in (lines, lines.to_pandas(), lines.to_reader):
        here, there = (
            asked.validate(
                period,
                checks=["reconciliation", "wallets"],
                invoices=invoices() if callable(invoices) else invoices,
                wallets={None: "EUR", generated_events.CUSTOMERS[1]: "USD"},
            )
            for asked in (store, remote)
        )
        assert here.findings == there.findings
        for check in ("reconciliation", "wallets"):
            assert here.sheet(check).equals(there.sheet(check))  # type: ignore[union-attr]


def test_inputs_that_were_read_are_sent_with_their_lines_and_tolerance(
    store: Store, remote: Store, tmp_path: Path
) -> None:
    period = Period(since=EDGES[1], until=BEFORE, as_of=BEFORE)
    customer, other = generated_events.CUSTOMERS[:2]
    rows = [f'{customer},tokens_in,12.50,"a\nb"', f"{customer},Other,0.25,", f"ACME-7,tokens_in,{10**30}.5,"]
    file = tmp_path / "lines.csv"
    file.write_text("customer_id,metric_key,quantity,note\n" + "\n".join(rows))
    totals = tmp_path / "control.csv"
    totals.write_text(f"day,metric_key,quantity\n{EDGES[1]:%Y-%m-%d},tokens_in,3\n")
    checks = ["reconciliation", "wallets", "control_totals"]
    tried = []
    for tolerance in ("0", "0.01", 10**40):
        given = {
            "invoices": read_invoices(file, tolerance=tolerance),
            "control": read_control(totals),
            "wallets": read_preferences({None: "EUR", other: "USD"}),
        }
        here, there = (asked.validate(period, checks=checks, **given) for asked in (store, remote))
        assert here.findings == there.findings
        for check in checks:
            first, second = here.sheet(check), there.sheet(check)
            assert (first is None and second is None) or first.equals(second)  # type: ignore[union-attr]
        tried.append(here.findings)
    assert tried[0] != tried[2]
    with pytest.raises(QueryError, match="invoices: object is neither a path") as error:
        remote.validate(period, invoices=object())
    assert "0x" not in str(error.value)


def test_commands_that_read_work_against_a_server(
    key_and_address: tuple[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key, address = key_and_address
    monkeypatch.setenv("USAGE_EXPLORE_KEY", key)
    file = tmp_path / "lines.csv"
    file.write_text(f"customer_id,metric_key,quantity\n{generated_events.CUSTOMERS[0]},tokens_in,12.50\n")

    def run(*arguments: object) -> Any:
        return CliRunner().invoke(main, [*map(str, arguments), "--database-url", address])

    assert run("names", "list").exit_code == 0
    document, report = tmp_path / "v.json", tmp_path / "v.html"
    period = ["--since", EDGES[1].isoformat(), "--until", BEFORE.isoformat(), "--check", "reconciliation"]
    files = ["--invoices", file, "--tolerance", "0.01", "--json", document, "--report", report]
    done = run("validate", *period, *files, "--no-keep")
    assert done.exit_code in (0, FOUND), done.output
    assert "every finding counts as new and open" in done.stderr
    assert "not kept" not in done.stderr
    assert "tolerance 0.01" in document.read_text()
    assert report.exists()
    assert "This run was not kept" in run("validate", *period, "--invoices", file).stderr
    signed = run("validate", *period, "--sign-off", "--by", "ana")
    assert signed.exit_code == 1
    assert "--sign-off: a key of a server reads" in signed.stderr


def test_bounds_are_sent_with_a_validation(store: Store, remote: Store, tmp_path: Path) -> None:
    period = Period(since=EDGES[1], until=BEFORE, as_of=BEFORE)
    bound = next(each for each in registry.all_bounds() if each.check == "silence" and type(each.default) is int)
    file = tmp_path / "strict.toml"
    file.write_text(f"[silence]\n{bound.name} = {bound.default + 1}\n")
    known = read_bounds(file, registry.all_bounds())
    for bounds in (file, {"silence": {bound.name: bound.default + 1}}, known):
        here, there = (asked.validate(period, checks=["silence"], bounds=bounds) for asked in (store, remote))
        assert here.findings == there.findings
        assert here.bounds == there.bounds
        assert there.bounds.changed
    for wrong in (
        {"silence": {f"{bound.name}s": 9}},
        {"silence": {bound.name: "many"}},
        {"silence": {bound.name: True}},
        {"silence": {bound.name: -1}},
        {"silens": {bound.name: 1}},
        {"silence": 3},
        tmp_path / "none.toml",
    ):
        said = [refused(partial(asked.validate, period, bounds=wrong)) for asked in (store, remote)]
        assert said[0] == said[1]
        assert [fault.parameter for fault in said[0]] == ["bounds"]


PRICES: list[dict[str, Any]] = [
    {
        "metric_key": "tokens_in",
        "model": "staircase",
        "tiers": [{"up_to": 2, "unit_amount": "0.10"}, {"unit_amount": "0.08", "flat_amount": 5}],
        "currency": "JPY",
        "valid_from": date(2026, 4, 1),
    },
    {"metric_key": "Other", "unit_amount": "0.025", "currency": "KWD", "valid_to": "2026-11-01T00:00:00Z"},
    {"metric_key": "a,b", "aggregation": "unique:customer_id", "unit_amount": 1, "currency": "USD", "scale": 4},
]


def test_ratings_are_equal(store: Store, remote: Store, tmp_path: Path) -> None:
    period = Period(since=EDGES[1], until=BEFORE, as_of=BEFORE)
    file = tmp_path / "acme.csv"
    file.write_text("metric,unit_amount,currency\ntokens_in,0.1,USD\n,,\nOther,2.50,EUR\n")
    wallets = {None: "EUR", generated_events.CUSTOMERS[1]: "USD"}
    for prices in (PRICES, {"prices": PRICES}, read_prices(PRICES), file, pd.read_csv(file, dtype="str")):
        here, there = (asked.rate(period, prices=prices, wallets=wallets) for asked in (store, remote))
        assert here.lines
        assert here.unpriced
        assert there == here
        assert there.to_dict() == here.to_dict()
        assert there.frame.equals(here.frame)
        assert there.csv() == here.csv()
    for wrong in (
        {"prices": None},
        {"prices": [{"metric_key": "a"}]},
        {"prices": "/nowhere.csv"},
        {"prices": PRICES, "wallets": {generated_events.CUSTOMERS[1]: ""}},
        {"prices": [PRICES[1], {**PRICES[1], "valid_to": None}]},
        {"prices": [{**PRICES[1], "customer_id": "0" * 31}]},
    ):
        said = [refused(partial(asked.rate, period, **wrong)) for asked in (store, remote)]
        assert said[0] == said[1]
    client: Any = remote.client  # type: ignore[attr-defined]
    assert client._http.get(f"{client.url}/api/v1/ratings").json() == {"ratings": []}


def refused(ask: Callable[[], Any]) -> tuple[Fault, ...]:
    """The faults of a query that is refused."""
    with pytest.raises(QueryError) as caught:
        ask()
    return caught.value.faults


def test_saved_views_are_listed_and_opened(events_database_url: str, tmp_path: Path) -> None:
    with (
        connect(events_database_url, generated_events.ORGANIZATION, home=tmp_path) as here,
        asking(here) as client,
        connect(str(client.base_url).removesuffix("/api/"), generated_events.ORGANIZATION) as there,
    ):
        assert there.views() == here.views() == []
        query = AggregateQuery(since=EDGES[1], until=BEFORE, group_by="metric_key", metric="sum_quantity")
        here.save_view("Tokens, größer", query, "why", display=[("chart", "lines")])
        here.save_view("All", EventQuery(metric_key="a,b"))
        assert there.views() == here.views()
        opened = there.views()[1]
        assert there.aggregate(opened.query).series == here.aggregate(query).series
        assert there.headline(opened.pinned_query) == here.headline(opened.pinned_query)
        (listed,) = [view for view in client.get("/v1/views").json()["views"] if view["name"] == "Tokens, größer"]
        assert (listed["page"], listed["note"], listed["place"]) == ("explore", "why", opened.place)


def test_the_stored_price_book_is_the_same(events_database_url: str, tmp_path: Path) -> None:
    with (
        connect(events_database_url, generated_events.ORGANIZATION, home=tmp_path) as here,
        asking(here) as client,
        connect(str(client.base_url).removesuffix("/api/"), generated_events.ORGANIZATION) as there,
    ):
        assert there.prices() is here.prices() is None
        assert client.get("/v1/prices").json() == {"source": None, "prices": []}
        with ddl.connect(events_database_url) as connection:
            replace_prices(connection, here.table, generated_events.ORGANIZATION, read_prices(PRICES))
            connection.commit()
        book = here.prices()
        assert book is not None
        assert len(book) == len(PRICES)
        assert there.prices() == book
        read = read_prices(client.get("/v1/prices").json()["prices"])
        assert [replace(price, place="") for price in read.prices] == [replace(p, place="") for p in book.prices]
        with ddl.connect(events_database_url) as connection:
            connection.execute("UPDATE usage_prices SET unit_amount = -1")
            connection.commit()
        assert refused(there.prices) == refused(here.prices) != ()


def test_names_are_the_same(demo_url: str) -> None:
    with connect(demo_url) as store, asking(store) as client:
        address = str(client.base_url).removesuffix("/api/")
        acme = store.scoped(ACME)
        with connect(address, ACME) as remote:
            customers = acme.customers(most=5)
            ids = [("customer_id", customer.value) for customer in customers]
            ids += [("organization_id", ACME), ("product", acme.values("product_id", most=1)[0].value)]
            assert acme.names(ids)
            assert remote.names(ids) == acme.names(ids)
            assert [item.name for item in remote.customers(most=5)] == [item.name for item in customers]
            assert remote.organization_names() == acme.organization_names()
            for kind in (*KINDS, "customer_id", "organization_id"):
                assert remote.search_names("", kind) == acme.search_names("", kind)
            assert remote.search_names("", "organization") != []
            query = AggregateQuery(since="2026-09-01", until="2026-09-08", group_by="customer_id")
            here, there = acme.aggregate(query), remote.aggregate(query)
            assert (here.names, [item.name for item in here.series]) == (
                there.names,
                [item.name for item in there.series],
            )
            assert repr(here) == repr(there)
            query = AggregateQuery(
                since="2026-09-01", until="2026-09-08", metric="sum_quantity", metric_key="tokens_in"
            )
            over_http = client.get(
                "/v1/usage-events/aggregate", params={"organization_id": ACME, **dict(query.to_params())}
            ).json()
            assert acme.aggregate(query).unit == remote.aggregate(query).unit == over_http["unit"] == "tokens"
            assert acme.leaderboards(query).unit == remote.leaderboards(query).unit == "tokens"
            assert remote.search_names("", "metric") == acme.search_names("", "metric") != []
            assert here.organization == there.organization
            assert acme.read(EventQuery(customer_id=ids[0][1])) == remote.read(EventQuery(customer_id=ids[0][1]))
        with connect(address) as everyone, pytest.raises(ScopeError) as several:
            everyone.count(EventQuery())
        with pytest.raises(ScopeError) as same:
            store.count(EventQuery())
        assert str(several.value) == str(same.value)


def test_a_key_opens_no_other_organization(remote: Store, own: list[Row]) -> None:
    assert remote.count(EventQuery()) == len(own)
    with pytest.raises(ScopeError):
        remote.validate(Period(window="2026-09", organization_id=generated_events.NEIGHBOUR))


def test_every_query_class_is_sent(remote: Store) -> None:
    assert isinstance(remote.pin(Query()), Query)
