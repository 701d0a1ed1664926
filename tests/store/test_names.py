"""Names beside ids: of one organization only, in every answer, never necessary."""

from __future__ import annotations

import csv
import io
import pickle
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pyarrow.parquet as pq
import pytest

from support.generated_events import NEIGHBOUR, ORGANIZATION
from support.plain_events import JUNE, LARGE, SINCE, SMALL, UNTIL, beside, event, september, store_of
from usage_explore import AggregateQuery, EventQuery, Store, charts, connect
from usage_explore.db import ddl
from usage_explore.db.names import Entry, remember, upsert
from usage_explore.db.schema import events_table, names_table
from usage_explore.results import frames
from usage_explore.validation import report

PRODUCT = UUID(int=0xF0)
NAMES = names_table(None, events_table())
BY_CUSTOMER = AggregateQuery(since=SINCE, until=UNTIL, group_by="customer_id", bucket="week")
EVIL = '=HYPERLINK("http://x")'


def names_of(connection: ddl.Connection, organization: UUID, *entries: Entry) -> None:
    upsert(connection, NAMES, organization, entries)
    connection.commit()


@pytest.fixture
def named(events_connection: ddl.Connection, events_database_url: str) -> Iterator[Store]:
    """June and Small are called Acme, Large has no name; a neighbour has other names for all of them."""
    events = [event(SINCE + timedelta(days=day), customer_id=JUNE, product_id=PRODUCT) for day in range(3)]
    events += [event(SINCE, customer_id=SMALL), event(SINCE, customer_id=SMALL), event(SINCE, customer_id=LARGE)]
    names_of(
        events_connection,
        ORGANIZATION,
        Entry("customer", JUNE, "cus_june", "Acme"),
        Entry("customer", SMALL, None, "Acme"),
        Entry("product", PRODUCT, None, EVIL),
        Entry("organization", ORGANIZATION, None, "Metering GmbH"),
    )
    secrets = [Entry("customer", id_, "cus_secret", "Secret") for id_ in (JUNE, SMALL, LARGE)]
    names_of(
        events_connection,
        NEIGHBOUR,
        *secrets,
        Entry("product", PRODUCT, None, "Secret"),
        Entry("organization", NEIGHBOUR, None, "Secret"),
        Entry("organization", ORGANIZATION, None, "Secret"),
    )
    with store_of(events_connection, events_database_url, events + beside(events)) as store:
        yield store


def test_series_carry_the_name_and_two_of_one_name_stay_apart(named: Store) -> None:
    answer = named.aggregate(BY_CUSTOMER)
    assert [(item.key, item.name) for item in answer.series] == [
        (str(JUNE), "Acme"),
        (str(SMALL), "Acme"),
        (str(LARGE), None),
    ]
    assert [item["name"] for item in answer.to_dict()["series"]] == ["Acme", "Acme", None]
    assert [item["label"] for item in answer.to_dict()["series"]] == [str(JUNE), str(SMALL), str(LARGE)]
    labels = [f"Acme ({JUNE})", f"Acme ({SMALL})", str(LARGE)]
    assert list(answer.pivot().columns) == list(dict.fromkeys(answer.frame["label"])) == labels
    assert charts.labels.names(answer) == tuple(labels)
    assert set(answer.frame["key"]) == {str(JUNE), str(SMALL), str(LARGE)}


def test_names_are_no_part_of_queries_answers_and_their_equality(
    named: Store, events_connection: ddl.Connection
) -> None:
    query = BY_CUSTOMER.replace(customer_id=JUNE)
    before = named.aggregate(query)
    names_of(events_connection, ORGANIZATION, Entry("customer", JUNE, None, "Renamed"))
    after = named.aggregate(query)
    assert after.series[0].name == "Renamed"
    assert before.series == after.series
    assert "Renamed" not in after.url()
    assert "Acme" not in str(after.query.to_params())
    assert pickle.loads(pickle.dumps(after)).series[0].name == "Renamed"


def test_a_filter_s_name_is_in_the_chart_s_title(named: Store) -> None:
    answer = named.aggregate(AggregateQuery(since=SINCE, until=UNTIL, product_id=PRODUCT))
    title = answer.chart().to_dict()["title"]["text"]
    assert EVIL in " ".join(title)
    assert str(PRODUCT) not in " ".join(title)
    assert EVIL in repr(answer)


def test_events_carry_the_names_of_their_ids(named: Store) -> None:
    page = named.events(EventQuery(customer_id=JUNE, limit=1))
    (item,) = page.events
    assert (item.customer_name, item.product_name, item.subscription_name) == ("Acme", EVIL, None)
    assert item.organization_name == "Metering GmbH"
    (row,) = page.to_dict()["data"]
    assert {name: row[name] for name in row if name.endswith("_name")} == {
        "customer_name": "Acme",
        "product_name": EVIL,
        "subscription_name": None,
        "organization_name": "Metering GmbH",
    }
    assert page.frame["customer_name"].tolist() == ["Acme"]
    assert page.names.label("customer_id", JUNE).startswith("Acme (")  # Small has the name, too, on no page here


def test_choices_and_the_search_know_names(named: Store) -> None:
    customers = named.customers()
    assert customers == [(str(JUNE), 3), (str(SMALL), 2), (str(LARGE), 1)]
    assert [choice.name for choice in customers] == ["Acme", "Acme", None]
    for text in ("cm", "ACME", "acme"):
        assert {hit.id for hit in named.search_names(text, "customer_id")} == {JUNE, SMALL}
    assert [hit.id for hit in named.search_names("S_jun")] == [JUNE]
    assert [hit.id for hit in named.search_names(str(PRODUCT)[-6:])] == [PRODUCT]
    assert named.search_names("%") == named.search_names("secret") == named.search_names("cm", "product_id") == []
    assert len(named.search_names("", most=2)) == 2


def test_names_that_begin_with_the_text_come_first(named: Store, events_connection: ddl.Connection) -> None:
    others = [
        Entry("customer", UUID(int=900 + index), None, name) for index, name in enumerate(["The Zed", "Zeta", "Buzz"])
    ]
    names_of(events_connection, ORGANIZATION, *others)
    assert [hit.name for hit in named.search_names("z", "customer_id")] == ["Zeta", "Buzz", "The Zed"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_an_export_has_columns_of_names(named: Store, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"events.{suffix}"
    named.export(EventQuery(), path, progress=False)
    rows = list(csv.DictReader(io.StringIO(path.read_text()))) if suffix == "csv" else pq.read_table(path).to_pylist()
    assert list(rows[0])[-4:] == ["customer_name", "product_name", "subscription_name", "organization_name"]
    assert {(row["customer_id"], row["customer_name"] or None) for row in rows} == {
        (str(JUNE), "Acme"),
        (str(SMALL), "Acme"),
        (str(LARGE), None),
    }
    assert {row["organization_name"] for row in rows} == {"Metering GmbH"}


def test_a_name_in_csv_is_escaped_as_a_formula(named: Store, tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    named.export(EventQuery(customer_id=JUNE), path, progress=False, escape_formulas=True)
    assert {row["product_name"] for row in csv.DictReader(io.StringIO(path.read_text()))} == {"'" + EVIL}
    page, _ = named.events_csv(EventQuery(customer_id=JUNE, limit=1), escape_formulas=True)
    assert next(csv.DictReader(io.StringIO(page.decode())))["product_name"] == "'" + EVIL
    streamed = b"".join(named.export_csv(EventQuery(customer_id=JUNE), escape_formulas=True))
    assert next(csv.DictReader(io.StringIO(streamed.decode())))["product_name"] == "'" + EVIL
    answer = named.aggregate(BY_CUSTOMER.replace(group_by="product_id"))
    table = list(csv.DictReader(io.StringIO(frames.to_csv(answer, escape_formulas=True).decode())))
    assert "'" + EVIL in {row["label"] for row in table}


def everything(store: Store, folder: Path) -> str:
    """Every text that a store gives about names."""
    path = folder / "all.csv"
    store.export(EventQuery(), path, progress=False)
    validation = store.validate(september())
    answers: list[Any] = [
        store.aggregate(BY_CUSTOMER.replace(group_by=group)) for group in ("customer_id", "product_id")
    ]
    answers += [store.events(), validation]
    return "\n".join(
        [
            *(f"{answer.to_dict()} {answer.frame.to_dict()} {answer!r}" for answer in answers),
            path.read_text(),
            str(store.search_names("", most=1_000)),
            str([(choice, choice.name) for choice in store.customers()]),
            str(store.organization_names()),
            str(store.names([("customer_id", JUNE), ("organization_id", NEIGHBOUR), ("organization", NEIGHBOUR)])),
        ]
    )


def test_no_name_of_another_organization_is_ever_seen(named: Store, events_database_url: str, tmp_path: Path) -> None:
    assert "ecret" not in everything(named, tmp_path)
    with connect(events_database_url) as both:
        neighbour = both.scoped(NEIGHBOUR)
        seen = everything(neighbour, tmp_path)
        assert "Secret" in seen
        assert not any(name in seen for name in ("Acme", "cus_june", "Metering", "HYPERLINK"))
        assert both.restricted([ORGANIZATION]).organization_names().by_id == {
            ("organization", str(ORGANIZATION)): "Metering GmbH"
        }
        assert len(both.organization_names().by_id) == 2


@pytest.mark.parametrize(
    "away",
    [
        "DROP TABLE usage_names",
        "ALTER TABLE usage_names RENAME COLUMN name TO title",
        "ALTER TABLE usage_names DROP COLUMN id, ADD id text",
        "DELETE FROM usage_names",
    ],
)
def test_without_a_directory_everything_works_and_files_have_no_names(
    named: Store, events_connection: ddl.Connection, tmp_path: Path, away: str
) -> None:
    events_connection.execute(away)
    events_connection.commit()
    seen = everything(named, tmp_path)
    assert not any(name in seen for name in ("Acme", "Secret", "Metering"))
    assert "customer_name" not in (tmp_path / "all.csv").read_text()
    assert named.aggregate(BY_CUSTOMER).to_dict()["series"][0]["name"] is None
    assert named.events().to_dict()["data"][0]["customer_name"] is None
    assert "customer_name" not in named.events().frame


def test_a_role_without_select_on_the_directory_sees_ids(named: Store, events_connection: ddl.Connection) -> None:
    with events_connection.transaction():
        events_connection.execute("SET LOCAL client_min_messages TO error")
        events_connection.execute("DROP ROLE IF EXISTS reader_of_events")
        events_connection.execute("CREATE ROLE reader_of_events LOGIN PASSWORD 'x'")
        events_connection.execute("GRANT SELECT ON usage_events TO reader_of_events")
    try:
        url = named.engine.url.set(drivername="postgresql", username="reader_of_events", password="x")
        with connect(url.render_as_string(hide_password=False), ORGANIZATION) as store:
            assert [item.name for item in store.aggregate(BY_CUSTOMER).series] == [None, None, None]
            assert store.search_names("acme") == []
    finally:
        events_connection.execute("REVOKE ALL ON usage_events FROM reader_of_events")
        events_connection.execute("DROP ROLE reader_of_events")
        events_connection.commit()


def test_another_table_or_view_may_hold_the_names(named: Store, events_connection: ddl.Connection) -> None:
    events_connection.execute(
        "CREATE SCHEMA crm; CREATE VIEW crm.people AS"
        " SELECT organization_id, kind::varchar(20), id, external_id, 'CRM ' || name AS name, preferred_currency"
        " FROM usage_names UNION ALL SELECT organization_id, kind, id, NULL, 'CRM twice', NULL FROM usage_names"
    )
    events_connection.commit()
    url = named.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with connect(url, ORGANIZATION, names_table="crm.people") as store:
        answer = store.aggregate(BY_CUSTOMER)
        assert [item.name for item in answer.series] == ["CRM Acme", "CRM Acme", None]
        assert answer.total == named.aggregate(BY_CUSTOMER).total
        page, _ = store.events_csv(EventQuery())
        assert len(page.decode().splitlines()) == 1 + 6


def test_a_preferred_currency_of_the_directory_decides_on_wallets(
    named: Store, events_connection: ddl.Connection
) -> None:
    assert named.validate(september(), checks=["wallets"]).results[0].skipped
    names_of(
        events_connection,
        ORGANIZATION,
        Entry("customer", JUNE, preferred_currency="EUR"),
        Entry("organization", ORGANIZATION, preferred_currency="USD"),
    )
    sheet = named.validate(september(), checks=["wallets"]).sheet("wallets")
    wallets = {(row.customer_id, row.customer_name, row.wallet) for row in sheet.itertuples()}
    assert {(str(id_), wallet) for id_, _, wallet in wallets} == {
        (str(JUNE), "EUR"),
        (str(SMALL), "USD"),
        (str(LARGE), "USD"),
    }
    assert {name for id_, name, _ in wallets if str(id_) == str(JUNE)} == {"Acme"}
    given = named.validate(september(), checks=["wallets"], wallets={str(JUNE): "GBP"}).sheet("wallets")
    assert {row.wallet for row in given.itertuples() if str(row.customer_id) == str(JUNE)} == {"GBP"}


def test_a_load_remembers_texts_and_renews_names(named: Store, events_connection: ddl.Connection) -> None:
    new = UUID(int=0xABC)
    assert remember(events_connection, NAMES, ORGANIZATION, [("customer", str(new), "cus_new", None)]) == 1
    events_connection.commit()
    assert named.names([("customer_id", new)]).label("customer_id", new) == "cus_new"
    remember(
        events_connection, NAMES, ORGANIZATION, [("customer", new, "cus_new", "New"), ("customer", JUNE, None, "Ajax")]
    )
    remember(
        events_connection, NAMES, ORGANIZATION, [("customer", new, "cus_new", None), ("customer", JUNE, "other", None)]
    )
    events_connection.commit()
    names = named.names([("customer_id", new), ("customer_id", JUNE)])
    assert [names.label("customer_id", id_) for id_ in (new, JUNE)] == ["New", "Ajax"]
    entries = [("customer", new, None, None), ("customer", new, None, "Later"), ("customer", new, None, None)]
    remember(events_connection, NAMES, ORGANIZATION, entries)
    events_connection.commit()
    assert named.names([("customer_id", new)]).label("customer_id", new) == "Later"


def test_a_load_goes_on_where_names_cannot_be_written(events_connection: ddl.Connection) -> None:
    for away in ("ALTER TABLE usage_names DROP CONSTRAINT usage_names_pkey", "DROP TABLE usage_names"):
        events_connection.execute(away)
        assert remember(events_connection, NAMES, ORGANIZATION, [("customer", JUNE, None, "Acme")]) is None
        assert events_connection.execute("SELECT 1").fetchone() == (1,)  # the transaction is usable
    events_connection.commit()


def test_the_directory_is_made_beside_the_events(connection: ddl.Connection) -> None:
    ddl.ensure_schema(connection, "metering.usage_events")
    ddl.ensure_schema(connection, "metering.usage_events", names_table_name="crm_names")
    found = connection.execute(
        "SELECT table_schema, table_name FROM information_schema.tables"
        " WHERE table_name IN ('usage_names', 'crm_names')"
    ).fetchall()
    assert sorted(found) == [("metering", "usage_names"), ("public", "crm_names")]
    connection.execute("DROP TABLE metering.usage_names")
    assert ddl.ensure_schema(connection, "metering.usage_events") is False
    assert connection.execute("SELECT to_regclass('metering.usage_names')").fetchone() != (None,)


def test_an_events_table_of_someone_else_s_is_no_error_without_the_right_to_create(connection: ddl.Connection) -> None:
    ddl.ensure_schema(connection, "usage_events")
    connection.execute(
        "DROP TABLE usage_names; CREATE ROLE only_inserts; GRANT SELECT, INSERT ON usage_events TO only_inserts"
    )
    try:
        connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC; SET LOCAL ROLE only_inserts")
        assert ddl.ensure_schema(connection, "usage_events") is False
        assert connection.execute("SELECT to_regclass('usage_names')").fetchone() == (None,)
    finally:
        connection.rollback()
        assert isinstance(connection, psycopg.Connection)


def test_a_report_has_names_as_text(named: Store, events_connection: ddl.Connection) -> None:
    names_of(
        events_connection,
        ORGANIZATION,
        Entry("organization", ORGANIZATION, None, "<script>alert(1)</script>"),
        Entry("product", PRODUCT, None, "<b>Search\x1b[31m</b>"),
    )
    validation = named.validate(september(product_id=PRODUCT), checks=["duplicates"])
    statements = report.statements(named, validation)
    page = report.html(named, validation, statements)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "product is &lt;b&gt;Search" in page
    assert "<script>" not in page
    assert "<b>Search" not in page
    lines = "\n".join(report.lines(validation, statements, 160))
    assert f"<b>Search\\x1b[31m</b> ({PRODUCT})" in lines
    assert f"<script>alert(1)</script> ({ORGANIZATION})" in lines
    assert report.document(validation, statements)["organization_name"] == "<script>alert(1)</script>"
