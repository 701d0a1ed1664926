"""Units of metrics: of a sum only if all its metrics have the same, on both paths, of one organization only."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from support import extracts
from support.generated_events import NEIGHBOUR, ORGANIZATION
from support.plain_events import JUNE, SINCE, UNTIL, beside, event, store_of
from usage_explore import AggregateQuery, LeaderboardQuery, Store, charts, connect, ticket
from usage_explore.comparison import compare
from usage_explore.db import ddl
from usage_explore.db.names import Entry, upsert
from usage_explore.db.schema import events_table, names_table
from usage_explore.doctor.examination import examine
from usage_explore.errors import TableMismatch
from usage_explore.formatting import exact
from usage_explore.names import METRIC, made_id
from usage_explore.query.limits import MAX_METRIC_KEYS
from usage_explore.results.units import singular

TABLE = names_table(None, events_table())
QUANTITY = AggregateQuery(since=SINCE, until=UNTIL, metric="sum_quantity", bucket="week")
TOKENS = QUANTITY.replace(metric_key=["tokens_in", "tokens_out"])
UNITS = {"tokens_in": "tokens", "tokens_out": "tokens", "audio": "seconds", "paid": "kWh"}


def units_of(connection: ddl.Connection, organization: object, units: dict[str, str]) -> None:
    rows = (Entry(METRIC, made_id(METRIC, key), key, unit=unit) for key, unit in units.items())
    upsert(connection, TABLE, organization, rows)  # type: ignore[arg-type]
    connection.commit()


@pytest.fixture(params=["events", "extract"])
def store(
    request: pytest.FixtureRequest, events_connection: ddl.Connection, events_database_url: str, tmp_path: Path
) -> Iterator[Store]:
    """Events of five metrics, `odd` without a unit, and a neighbour's, who has other units."""
    cost = {"external_cost_amount": Decimal("0.5"), "external_cost_currency": "USD"}
    events = [event(SINCE + timedelta(days=1), metric_key=key, **cost if key == "paid" else {}) for key in UNITS]
    events += [event(SINCE + timedelta(days=2), metric_key="odd"), event(SINCE, metric_key="tokens_in", **cost)]
    units_of(events_connection, ORGANIZATION, UNITS)
    units_of(events_connection, NEIGHBOUR, dict.fromkeys([*UNITS, "odd"], "secrets"))
    store_of(events_connection, events_database_url, events + beside(events)).close()
    if request.param == "extract":
        extracts.build(events_database_url, tmp_path)
    with connect(events_database_url, ORGANIZATION, home=tmp_path) as opened:
        assert opened.aggregate(QUANTITY).served.path == request.param
        yield opened


def test_a_sum_has_the_unit_that_all_its_metrics_have(store: Store) -> None:
    for query, unit, adds in [
        (QUANTITY.replace(metric_key=["audio"]), "seconds", ""),
        (TOKENS, "tokens", ""),
        (TOKENS.replace(group_by="metric_key", top=1), "tokens", ""),
        (TOKENS.replace(group_by="customer_id"), "tokens", ""),
        (QUANTITY.replace(metric_key=["tokens_in", "audio", "paid"]), None, "adds 3 metrics in 3 units"),
        (QUANTITY.replace(metric_key=["tokens_in", "odd"]), None, "adds 2 metrics"),
        (QUANTITY.replace(metric_key=["odd"]), None, ""),
        (QUANTITY, None, "adds 5 metrics"),
        (QUANTITY.replace(metric_key=["nothing"]), None, ""),
        (TOKENS.replace(metric="count"), None, ""),
        (TOKENS.replace(metric="sum_cost"), None, ""),
        (QUANTITY.replace(metric="unit_cost", metric_key=["paid"]), "kWh", ""),
        # of a unit cost, only the metrics that have a cost
        (QUANTITY.replace(metric="unit_cost", metric_key=["tokens_in", "audio"]), "tokens", ""),
        (QUANTITY.replace(metric="unit_cost"), None, "adds 2 metrics in 2 units"),
    ]:
        answer = store.aggregate(query)
        assert (answer.unit, answer.adds, answer.to_dict()["unit"]) == (unit, adds, unit), query
        assert query.metric == "unit_cost" or store.leaderboards(query).unit == unit
    assert store.leaderboards(LeaderboardQuery(since=SINCE, until=UNTIL, metric="sum_quantity", top=1)).unit is None


def test_the_unit_is_read_where_the_numbers_are(store: Store) -> None:
    answer = store.aggregate(TOKENS)
    assert charts.labels.unit(answer) == "tokens"
    assert charts.labels.heading(answer) == "Quantity, tokens"
    assert '"title": "tokens"' in answer.chart().to_json(indent=None)
    assert f"total {answer.total} tokens;" in repr(answer)
    assert f"Total {answer.total:,} tokens." in charts.summary(answer)
    cost = store.aggregate(QUANTITY.replace(metric="unit_cost", metric_key=["tokens_in"]))
    assert charts.labels.unit(cost) == "unit cost in USD per token"


def test_a_comparison_has_a_unit_if_both_periods_have_it(store: Store) -> None:
    first = QUANTITY.replace(since=SINCE, until=SINCE + timedelta(days=1), compare=_span(1))
    for query, unit, both in [
        (first, "tokens", None),
        (first.replace(metric_key="tokens_in"), "tokens", "tokens"),
        (first.replace(compare="previous"), "tokens", "tokens"),  # there were no events
        (first.replace(since=SINCE + timedelta(days=2), until=UNTIL, compare=_span(0)), None, None),
    ]:
        answer = store.aggregate(query)
        assert answer.comparison is not None
        assert (answer.unit, answer.comparison.unit, answer.to_dict()["comparison"]["unit"]) == (unit, both, both)
        assert store.compare(store.aggregate(query)).unit == both


def _span(day: int) -> str:
    since = SINCE + timedelta(days=day)
    return f"{since.isoformat()}/{(since + timedelta(days=1)).isoformat()}"


def test_a_ticket_names_the_unit_of_each_period(store: Store) -> None:
    query = QUANTITY.replace(since=SINCE, until=SINCE + timedelta(days=1), compare=_span(1), group_by="metric_key")
    answer = store.aggregate(query)
    total, change = ticket.text(answer, compare(store, answer), "Acme", "link").split("\n\n")[1].splitlines()[:2]
    assert total == f"Total: {exact(answer.total)} tokens"
    assert answer.comparison is not None
    assert f": {exact(answer.comparison.total.before)} quantity)" in change
    largest = ticket.text(answer, compare(store, answer), "Acme", "link").split("\n\n")[2]
    assert f"- tokens_in: {exact(answer.total)} tokens, 100" in largest


def test_another_organization_has_its_own_units(store: Store) -> None:
    other = dataclasses.replace(store, organization_id=NEIGHBOUR)
    assert other.aggregate(QUANTITY).unit == "secrets"
    assert "secrets" not in str(store.search_names("", METRIC))
    assert {entry.external_id: entry.unit for entry in store.search_names("", METRIC)} == UNITS
    assert not [entry for entry in store.search_names("") if entry.unit]


def test_a_directory_without_the_column_has_no_units(
    store: Store, events_connection: ddl.Connection, events_database_url: str
) -> None:
    upsert(events_connection, TABLE, ORGANIZATION, [Entry("customer", JUNE, name="Acme")])
    events_connection.execute("ALTER TABLE usage_names DROP COLUMN unit")
    events_connection.commit()
    answer = store.aggregate(TOKENS.replace(group_by="customer_id"))
    assert (answer.unit, answer.series[0].name, answer.adds) == (None, "Acme", "adds 2 metrics")
    assert [entry.unit for entry in store.search_names("acme")] == [None]
    with pytest.raises(TableMismatch, match="has no column unit"):
        units_of(events_connection, ORGANIZATION, UNITS)
    upsert(events_connection, TABLE, ORGANIZATION, [Entry("customer", JUNE, name="Acme Inc")])
    events_connection.commit()
    (finding,) = (
        one for one in examine(events_database_url, "usage_events", timedelta(minutes=1)) if "unit" in one.fix
    )
    assert (finding.name, finding.state) == ("names", "warning")
    ddl.ensure_schema(events_connection, "usage_events")
    events_connection.commit()
    assert not [one for one in examine(events_database_url, "usage_events", timedelta(minutes=1)) if "unit" in one.fix]
    units_of(events_connection, ORGANIZATION, UNITS)
    assert store.aggregate(TOKENS).unit == "tokens"


def test_a_role_that_does_not_own_the_names_does_not_change_them(
    store: Store, events_connection: ddl.Connection
) -> None:
    events_connection.execute("ALTER TABLE usage_names DROP COLUMN unit")
    with events_connection.transaction(force_rollback=True):
        events_connection.execute("CREATE ROLE not_the_owner")
        events_connection.execute("GRANT SELECT ON usage_names, usage_events TO not_the_owner")
        events_connection.execute("SET LOCAL ROLE not_the_owner")
        assert not ddl.ensure_schema(events_connection, "usage_events")
    events_connection.commit()
    assert store.aggregate(TOKENS).unit is None


def test_of_two_units_of_a_metric_in_a_view_none_is_taken(
    store: Store, events_connection: ddl.Connection, events_database_url: str
) -> None:
    events_connection.execute(
        "CREATE VIEW two AS SELECT * FROM usage_names UNION ALL SELECT organization_id, kind, id, external_id, name,"
        " preferred_currency, CASE external_id WHEN 'audio' THEN 'minutes' ELSE ' ' || unit || E'\\n' END"
        " FROM usage_names"
    )
    events_connection.commit()
    with connect(events_database_url, ORGANIZATION, names_table="two") as twice:
        assert twice.aggregate(QUANTITY.replace(metric_key=["audio"])).unit is None
        assert twice.aggregate(TOKENS).unit == "tokens"


def test_the_units_of_too_many_metrics_are_unknown(
    events_connection: ddl.Connection, events_database_url: str, tmp_path: Path
) -> None:
    keys = [f"metric {number}" for number in range(MAX_METRIC_KEYS + 1)]
    units_of(events_connection, ORGANIZATION, dict.fromkeys(keys, "calls"))
    store_of(events_connection, events_database_url, [event(SINCE, metric_key=key) for key in keys]).close()
    for _ in range(2):
        with connect(events_database_url, ORGANIZATION, home=tmp_path) as store:
            answer = store.aggregate(QUANTITY)
            assert (answer.unit, answer.adds) == (None, f"adds {len(keys):,} metrics")
            assert store.aggregate(QUANTITY.replace(exclude={"metric_key": keys[:1]})).unit == "calls"
        extracts.build(events_database_url, tmp_path)


def test_the_singular_of_a_unit_is_sure_or_its_plural() -> None:
    for unit in ("ms", "GB", "Mbps", "bus", "status", "batches", "boxes", "series", "s", "kWh"):
        assert singular(unit) == unit
    for unit, one in {"tokens": "token", "GB-hours": "GB-hour", "API calls": "API call", "queries": "query"}.items():
        assert singular(unit) == one
