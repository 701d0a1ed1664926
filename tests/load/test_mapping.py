"""How columns become events: ids of any text, paths, constants, measures, tags, and whose events they are."""

from __future__ import annotations

import json
from decimal import Decimal
from uuid import UUID

import pytest

from usage_explore.errors import ConfigurationError, LoadError
from usage_explore.load import LOCAL_ORGANIZATION, LoadOptions, check_file, loaded_queries
from usage_explore.load.identifiers import Identifiers
from usage_explore.load.mapping import parse_preset

ORG = UUID("00000000-0000-4000-8000-000000000001")
TIME = "2026-01-31T08:00:00Z"
PLAIN = {"customer_id": "customer", "metric_key": "metric", "quantity": "amount", "timestamp": "at"}


def made(kind: str, text: str) -> UUID:
    return UUID(Identifiers().made(f"{kind}_id", f"{kind}_id", text))


def preset(load, text: str) -> str:
    return str(load.file("mine.toml", text))


def test_any_text_is_an_id_and_made_ids_never_change(load):
    """Stored ids and links depend on them: these values are for ever."""
    assert str(made("customer", "cus_1")) == "7cc593af-897f-5291-b11c-456b8b813c23"
    assert str(made("product", "cus_1")) == "de4f8146-2290-5ff9-9ce7-9ff6608cbcb0"
    header = "organization_id,customer_id,product_id,subscription_id,metric_key,quantity,timestamp"
    text = f"{header}\nacme, cus_1 ,p,,m,1,{TIME}\n"
    report = load.csv(text, organization_id=None)
    assert load.rows("organization_id", "customer_id", "product_id", "subscription_id") == [
        (made("organization", "acme"), made("customer", "cus_1"), made("product", "p"), None)
    ]
    assert report.organizations == (made("organization", "acme"),)
    assert load.csv(text, organization_id=None).already_there == 1


def test_the_text_of_a_mapped_id_stays_as_a_dimension(load):
    load.csv(
        f"User,m,q,t\ndev-a,x,1,{TIME}\n",
        mapping={"customer_id": "user", "metric_key": "m", "quantity": "q", "timestamp": "t"},
    )
    assert load.rows("customer_id", "dimensions") == [(made("customer", "dev-a"), {"User": "dev-a"})]


def test_a_path_reaches_into_nested_json_and_the_rest_are_dimensions(load):
    event = {
        "time": TIME,
        "who": {"name": "a"},
        "data": {"duration": 1.50, "path": "/x", "deep": {"n": 1}},
        "type": "calls",
    }
    mapping = {"customer_id": "who.name", "metric_key": "type", "quantity": "data.duration", "timestamp": "time"}
    path = load.file("events.jsonl", json.dumps(event) + "\n")
    load(path, mapping=mapping)
    assert load.rows("customer_id", "quantity::text", "dimensions") == [
        (made("customer", "a"), "1.5", {"who.name": "a", "data.path": "/x", "data.deep.n": 1})
    ]
    assert load(path, mapping=mapping).already_there == 1


def test_a_column_that_only_later_rows_have_is_read_by_its_name(load):
    first = {"customer_id": "a", "metric_key": "m", "quantity": 1, "timestamp": TIME}
    lines = [json.dumps({**first, "quantity": number}) for number in range(150)]
    lines.append(json.dumps({**first, "quantity": 9, "price_key": "late"}))
    load(load.file("events.jsonl", "\n".join(lines)))
    assert {row[:2] for row in load.rows("price_key", "dimensions::text", "quantity")} == {(None, "{}"), ("late", "{}")}


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_column_that_is_set_is_no_dimension(load, form):
    """An export that is loaded for another organization does not keep the former one."""
    rows = [{"organization_id": str(ORG), "customer_id": "c", "metric_key": "m", "quantity": "1", "plan": "pro"}]
    text = "".join(json.dumps(row) for row in rows)
    if form == "csv":
        text = ",".join(rows[0]) + "\n" + ",".join(rows[0].values())
    constants = {"organization_id": "acme", "timestamp": "2026-01-31T08:00:00Z"}
    path = load.file(f"events.{form}", text)
    report = load(path, organization_id=None, constants=constants)
    assert load.rows("dimensions") == [({"plan": "pro"},)]
    assert "the column 'organization_id' is left out: organization_id is set for all rows" in report.notes
    assert check_file(path, LoadOptions(constants=constants)).dimensions == ("plan",)


def test_constants_fill_every_row(load):
    text = f"who,amount,at\na,1,{TIME}\n"
    mapping = {"customer_id": "who", "quantity": "amount", "timestamp": "at"}
    load.csv(
        text, mapping=mapping, constants={"metric_key": "requests", "organization_id": "acme", "dimensions": '{"x": 1}'}
    )
    assert load.rows("metric_key", "organization_id", "dimensions") == [
        ("requests", made("organization", "acme"), {"x": 1, "who": "a"})
    ]
    with pytest.raises(LoadError, match="set: external_cost_amount: 'x' is not a decimal number"):
        load.csv(text, mapping=mapping, constants={"metric_key": "m", "external_cost_amount": "x"})
    with pytest.raises(ConfigurationError, match="metric_key is given by --map too; keep one"):
        load.csv(text, mapping={"metric_key": "who"}, constants={"metric_key": "m"})


MEASURED = "id,at,who,input,output,cost\n"
MEASURES = {
    "mapping": {"idempotency_key": "id", "timestamp": "at", "customer_id": "who", "external_cost_amount": "cost"},
    "measures": ["input", "output=tokens out"],
}


def events(load) -> list[tuple[str, str, str, Decimal | None]]:
    return sorted(load.rows("idempotency_key", "metric_key", "quantity::text", "external_cost_amount"))


def test_each_measure_is_an_event_and_one_carries_the_cost(load):
    text = MEASURED + f"r1,{TIME},a,10,20,0.5\nr2,{TIME},a,0,7,0.25\nr3,{TIME},a,,,\nr4,{TIME},a,0,0,1.25\n"
    report = load.csv(text, **MEASURES)
    assert events(load) == [
        ("r1:input", "input", "10", Decimal("0.5")),
        ("r1:tokens out", "tokens out", "20", None),
        ("r2:tokens out", "tokens out", "7", Decimal("0.25")),
        ("r4:input", "input", "0", Decimal("1.25")),
    ]
    assert (report.loaded, report.read) == (4, 4)
    assert "1 row in which every measure is empty or zero" in str(report)
    assert "the file has no rows" not in str(report)
    again = load.csv(text, **MEASURES)
    assert (again.loaded, again.already_there) == (0, 4)


def test_zero_measures_are_kept_on_demand(load):
    load.csv(MEASURED + f"r1,{TIME},a,0,20,0.5\n", keep_zero=True, **MEASURES)
    assert events(load) == [
        ("r1:input", "input", "0", Decimal("0.5")),
        ("r1:tokens out", "tokens out", "20", None),
    ]


def test_measures_without_a_key_repeat_nothing_either(load):
    options = {**MEASURES, "mapping": {"timestamp": "at", "customer_id": "who", "external_cost_amount": "cost"}}
    text = f"at,who,input,output,cost\n{TIME},a,1,1,0.5\n{TIME},a,1,1,0.5\n"
    assert load.csv(text, **options).loaded == 4
    assert load.csv(text, **options).already_there == 4
    assert sum(cost for (cost,) in load.rows("external_cost_amount") if cost) == 1


def test_a_faulty_measure_names_its_column(load):
    with pytest.raises(LoadError, match=r"line 2, quantity \(from 'output'\): 'x' is not a decimal number"):
        load.csv(MEASURED + f"r1,{TIME},a,1,x,\n", **MEASURES)
    with pytest.raises(LoadError, match=r"has no column 'outptu' to measure \(did you mean output\?\)"):
        load.csv(MEASURED, **{**MEASURES, "measures": ["outptu"]})
    with pytest.raises(ConfigurationError, match="so quantity cannot be given too"):
        load.csv(MEASURED, mapping={"quantity": "input"}, measures=["output"])


SESSION = """
last_line_wins = true
[columns]
timestamp = "at"
customer_id = "who"
idempotency_key = "id"
[measures]
input = "in"
cached = "in_cached"
"""


def test_the_last_line_of_a_key_is_loaded_with_all_its_measures(load):
    text = f"id,at,who,input,cached\nr1,{TIME},a,1,5\nr2,{TIME},a,2,\nr1,{TIME},a,10,0\n"
    report = load.csv(text, preset=preset(load, SESSION))
    assert sorted(load.rows("idempotency_key", "quantity")) == [("r1:in", 10), ("r2:in", 2)]
    assert "2 events left out, as a later line of the file has the row's key" in str(report)
    assert load.csv(text, preset=preset(load, SESSION)).loaded == 0


DERIVED = """
cost_factors = ["amount", "price", "0.5"]
[columns]
timestamp = "at"
customer_id = "who"
metric_key = "what"
[measures.amount]
metric_key = "net"
minus = ["free"]
[tags]
Tags = "tag:"
"""


def test_costs_are_exact_products_and_measures_exact_differences(load):
    price = "0.12345678901234567890123456789"
    text = f'at,who,amount,free,price,Tags\n{TIME},a,3,0.5,{price},"""env"": ""prod"", ""none"": null"\n'
    source = DERIVED.replace('metric_key = "what"\n', "")
    load.csv(text, preset=preset(load, source))
    [(quantity, cost, dimensions)] = load.rows("quantity::text", "external_cost_amount::text", "dimensions")
    assert quantity == "2.5"
    assert cost == "0.185185183518518518351851851835"
    assert dimensions == {"who": "a", "price": price, "tag:env": "prod"}


EXPLODED = """
explode = "results"
[columns]
timestamp = "start"
customer_id = "project"
quantity = "amount.value"
metric_key = "item"
"""


def test_the_items_of_a_list_are_the_rows(load):
    buckets = [
        {"start": 1769846400, "results": [{"project": "a", "item": "x", "amount": {"value": 1, "unit": "h"}}]},
        {"start": 1769846400, "results": []},
        {"start": 1769846400, "results": [{"project": "b", "item": "x", "amount": {"value": 2}}] * 2},
    ]
    path = load.file("buckets.jsonl", "\n".join(map(json.dumps, buckets)))
    report = load(path, preset=preset(load, EXPLODED))
    assert (report.read, report.loaded) == (3, 3)
    assert sorted(load.rows("quantity", "dimensions::text")) == [
        (1, '{"project": "a", "amount.unit": "h"}'),
        (2, '{"project": "b"}'),
        (2, '{"project": "b"}'),
    ]
    assert load(path, preset=preset(load, EXPLODED)).already_there == 3
    with pytest.raises(LoadError, match="has no list 'results', whose items are the rows"):
        load(load.file("other.jsonl", '{"start": 1769846400}'), preset=preset(load, EXPLODED))


def test_numbers_in_an_object_are_measures_of_the_metric(load):
    source = 'measure_members = "data"\n[columns]\ntimestamp="time"\ncustomer_id="subject"\nmetric_key="type"\n'
    lines = [
        {"time": TIME, "subject": "a", "type": "tokens", "data": {"in": 1, "out": "2.5", "model": "small"}},
        {"time": TIME, "subject": "a", "type": "calls", "data": {"path": "/x"}},
        {"time": TIME, "subject": "a", "type": "pings"},
    ]
    load(load.file("events.jsonl", "\n".join(map(json.dumps, lines))), preset=preset(load, source))
    assert sorted(load.rows("metric_key", "quantity::text", "dimensions")) == [
        ("calls", "1", {"subject": "a", "data.path": "/x"}),
        ("pings", "1", {"subject": "a"}),
        ("tokens.in", "1", {"subject": "a", "data.model": "small"}),
        ("tokens.out", "2.5", {"subject": "a", "data.model": "small"}),
    ]


def test_without_an_organization_events_are_local_and_it_is_said(load, table_of):
    report = load.csv(table_of(), organization_id=None)
    assert load.rows("organization_id") == [(LOCAL_ORGANIZATION,)]
    assert "1 row without an organization belong to the organization 'local'" in str(report)
    assert made("organization", "local") == LOCAL_ORGANIZATION
    assert f"1 customer, organization local ({LOCAL_ORGANIZATION})" in str(report)


def test_the_report_names_organizations_and_a_given_name_outlives_loads(load, table_of):
    acme = made("organization", "acme")
    report = load.csv(table_of(), organization_id=None, constants={"organization_id": "acme"})
    assert f", organization acme ({acme})" in str(report)
    load.connection.execute("UPDATE usage_names SET name = 'Acme AI' WHERE id = %s", [acme])
    load.connection.commit()
    report = load.csv(table_of(), organization_id=None, constants={"organization_id": "acme"})
    assert f", organization Acme AI ({acme})" in str(report)
    assert report.loaded == 0


def test_the_link_adds_up_one_metric_and_counts_several_by_metric(load, table_of):
    one = load.csv(table_of())
    long = load.csv(table_of(metric_key="m," * 512, idempotency_key="k2").replace("m," * 512, f'"{"m," * 512}"'))
    several = load.csv(table_of({}, {"metric_key": "calls", "idempotency_key": "k3"}))
    (query,) = loaded_queries([one], "UTC")
    assert (query.metric, query.metric_key, query.group_by) == ("sum_quantity", ("tokens",), "none")
    (query,) = loaded_queries([long], "UTC")
    assert (query.metric, query.metric_key, query.group_by) == ("sum_quantity", ("m," * 512,), "none")
    for reports in ([several], [one, several], [one, long]):
        (query,) = loaded_queries(reports, "UTC")
        assert (query.metric, query.metric_key, query.group_by) == ("count", (), "metric_key"), reports


@pytest.mark.parametrize(
    ("last", "bucket"),
    [("2026-03-01T00:06:00Z", "hour"), ("2026-03-09T00:00:00Z", "day"), ("2029-03-01T00:00:00Z", "week")],
)
def test_the_link_has_a_bucket_that_fits_what_was_loaded(load, table_of, last, bucket):
    times = ({"timestamp": "2026-03-01T00:00:00Z"}, {"timestamp": last, "idempotency_key": "k2"})
    (query,) = loaded_queries([load.csv(table_of(*times))], "UTC")
    assert query.bucket == bucket


def test_one_other_organization_does_not_matter_and_several_are_listed(load, table_of):
    load.csv(table_of())
    load.csv(table_of(idempotency_key="k2"), organization_id=None)
    assert {row[0] for row in load.rows("organization_id")} == {ORG, LOCAL_ORGANIZATION}
    load.connection.execute("DELETE FROM usage_events WHERE organization_id = %s", [LOCAL_ORGANIZATION])
    load.connection.commit()
    load.csv(table_of(), organization_id=UUID(int=7))
    with pytest.raises(LoadError) as refused:
        load.csv(table_of(idempotency_key="k3"), organization_id=None)
    assert f"the table holds 2 organizations: {UUID(int=7)}, {ORG}" in str(refused.value)
    assert "Give --organization-id UUID" in str(refused.value)
    acme = made("organization", "acme")
    load.csv(table_of(idempotency_key="k3"), organization_id=None, constants={"organization_id": "acme"})
    assert acme in {row[0] for row in load.rows("organization_id")}
    with pytest.raises(LoadError, match=rf"the table holds 3 organizations: .*acme \({acme}\)"):
        load.csv(table_of(idempotency_key="k4"), organization_id=None)


def test_a_file_without_customers_has_one_and_an_empty_cell_is_a_fault(load):
    text = f"metric,amount,at\nm,1,{TIME}\n"
    mapping = {name: source for name, source in PLAIN.items() if name != "customer_id"}
    assert "1 row without a customer belong to the customer 'local'" in str(load.csv(text, mapping=mapping))
    assert load.rows("customer_id") == [(made("customer", "local"),)]
    with pytest.raises(LoadError, match=r"line 2, customer_id \(from 'customer'\): is missing"):
        load.csv(f"customer,metric,amount,at\n,m,1,{TIME}\n", mapping=PLAIN)
    with pytest.raises(LoadError, match="line 2, customer_id: is missing"):
        load.csv(f"customer_id,metric,amount,at\n,m,1,{TIME}\n", mapping=mapping)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = [", "mine is not TOML"),
        ("tittle = 'x'", r"mine: unknown key 'tittle'"),
        ("key = 5", "mine: key: "),
        ("[columns]\nquantitty = 'x'", "'quantitty' is not a column of the events table.*did you mean quantity"),
        ("timezone = 'Mars/Base'", "timezone: 'Mars/Base' is not an IANA time zone"),
        ("decimal = ';'", "decimal: ';' is neither"),
    ],
)
def test_a_faulty_preset_names_the_key(text, said):
    with pytest.raises(ConfigurationError, match=said):
        parse_preset(text, "mine")


def names(load):
    return set(load.connection.execute("SELECT organization_id, kind, external_id, name FROM usage_names").fetchall())


def test_texts_and_names_of_ids_are_kept_for_their_own_organization(load):
    load.csv(
        "organization_id,customer_id,customer_name,metric_key,quantity,timestamp,idempotency_key\n"
        "acme,cus_1,Müller GmbH,seats,1,2026-10-01T00:00:00Z,a\n"
        "globex,cus_1,Secret Ltd,seats,2,2026-10-01T00:00:00Z,b\n"
        "globex,cus_2,,seats,3,2026-10-01T00:00:00Z,c\n",
        organization_id=None,
    )
    ids = dict(
        load.connection.execute("SELECT external_id, organization_id FROM usage_names WHERE kind = 'organization'")
    )
    assert names(load) == {
        (ids["acme"], "organization", "acme", None),
        (ids["acme"], "customer", "cus_1", "Müller GmbH"),
        (ids["globex"], "organization", "globex", None),
        (ids["globex"], "customer", "cus_1", "Secret Ltd"),
        (ids["globex"], "customer", "cus_2", None),
    }
    assert load.rows("dimensions") == [({},)] * 3  # the name is none of an export that is loaded again


def test_rejected_rows_keep_no_names(load):
    with pytest.raises(LoadError):
        load.csv("customer_id,metric_key,quantity,timestamp\ncus_1,seats,x,2026-10-01T00:00:00Z\n")
    assert names(load) == set()


@pytest.mark.parametrize(
    ("response", "dimensions"),
    [
        ({"usage": None}, {}),
        ({"usage": None, "region": "eu"}, {"response": {"region": "eu"}}),
    ],
)
@pytest.mark.parametrize("is_text", [False, True])
def test_an_exploded_list_is_no_dimension_of_its_items(load_again, tmp_path, response, dimensions, is_text):
    items = [
        {"customer_id": "a", "metric_key": "m", "quantity": n, "timestamp": "2026-01-01T00:00:00Z"} for n in (1, 2)
    ]
    response = {**response, "usage": items}
    preset = tmp_path / "mine.toml"
    preset.write_text('explode = "response.usage"')
    path = tmp_path / "file.jsonl"
    path.write_text(json.dumps({"response": json.dumps(response) if is_text else response}))
    load_again(path, preset=str(preset))
    rows = sorted(load_again.rows("quantity, dimensions"), key=lambda row: row[0])
    assert rows == [(1, dimensions), (2, dimensions)]


def test_costs_without_a_currency_are_warned_of_where_the_file_has_currencies(load):
    """The check before a load said so, the load itself added USD to EUR without a word."""
    text = (
        "timestamp,customer_id,metric_key,quantity,external_cost_amount,ccy,home\n"
        "2026-10-01T00:00:00Z,a,calls,1,1.20,USD,EUR\n2026-10-01T00:00:00Z,b,calls,1,,EUR,EUR\n"
    )
    warning = "warning: the costs of 1 event have no currency and are added up as if they had the same"
    assert f"{warning}; the file has currencies in 'ccy' (EUR and USD), 'home' (EUR): choose" in str(load.csv(text))
    again = load.csv(text, mapping={"external_cost_currency": "ccy"})
    assert warning not in str(again)


@pytest.mark.parametrize("values", [("eur", "EUR", "€"), ("EUR ", " eur")])
def test_a_column_of_the_name_of_the_currency_is_read_as_a_mapped_one(load, values):
    """The same money was in several currencies: eur, EUR and €."""
    rows = "".join(f"2026-10-01T00:00:00Z,a,calls,{n},1.20,{value}\n" for n, value in enumerate(values))
    load.csv(f"timestamp,customer_id,metric_key,quantity,external_cost_amount,external_cost_currency\n{rows}")
    assert {currency for (currency,) in load.rows("external_cost_currency")} == {"EUR"}


def test_a_currency_that_is_set_for_all_rows_is_in_capitals(load):
    text = "timestamp,customer_id,metric_key,quantity,external_cost_amount\n2026-10-01T00:00:00Z,a,calls,1,1.20\n"
    load.csv(text, constants={"external_cost_currency": "eur"})
    assert load.rows("external_cost_currency") == [("EUR",)]


@pytest.mark.parametrize(
    ("columns", "row", "options", "codes"),
    [
        ("external_cost_amount,external_cost_currency", "€1.20,USD", {}, "€ beside USD in 2 rows"),
        (
            "external_cost_amount,ccy",
            "$1.20,eur",
            {"mapping": {"external_cost_currency": "ccy"}},
            "$ beside EUR in 2 rows",
        ),
        ("external_cost_amount", "$1.20", {"constants": {"external_cost_currency": "EUR"}}, "$ beside EUR in 2 rows"),
        ("external_cost_amount,external_cost_currency", "$1.20,CAD", {}, None),
        ("external_cost_amount,external_cost_currency", "$1.20,Dollar", {}, None),
        ("external_cost_amount,external_cost_currency", ",USD", {}, None),
    ],
)
def test_signs_of_other_currencies_than_those_beside_them_are_warned_of(load, columns, row, options, codes):
    rows = "".join(f"2026-10-01T00:00:00Z,{customer},calls,1,{row}\n" for customer in "ab")
    path = load.file("events.csv", f"timestamp,customer_id,metric_key,quantity,{columns}\n{rows}")
    for report in (str(check_file(path, LoadOptions(**options))), str(load(path, **options))):
        assert (f"warning: costs have the sign {codes} of the first" in report) == bool(codes)
        assert ("warning" in report) == bool(codes)
