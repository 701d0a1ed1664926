"""Files of a validation name customers, products and subscriptions by the texts of the files that were loaded."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from support.api_server import asking
from support.database_servers import fresh_database
from support.generated_events import ORGANIZATION
from support.plain_events import SINCE, event, september, store_of
from usage_explore import Store, connect
from usage_explore.db import ddl
from usage_explore.errors import QueryError
from usage_explore.files.values import InvalidValue, MadeId, id_reader
from usage_explore.names import made_id
from usage_explore.sql.hints import HintWarning

OWN, LOADED, PLAIN = UUID(int=1), made_id("customer", "cus_7"), UUID(int=3)
"""The customer whose text the directory has, one whose id `load` made of its text, and one without a text."""


@pytest.fixture(scope="module")
def store(server_url: str, _template: str) -> Iterator[Store]:
    """Ten events of each customer, of one unit each."""
    times = [SINCE + number * timedelta(hours=1) for number in range(10)]
    events = [event(time, customer_id=customer, quantity=1) for customer in (OWN, LOADED, PLAIN) for time in times]
    with fresh_database(server_url, _template) as url:
        with ddl.connect(url) as connection:
            opened = store_of(connection, url, events)
            connection.execute(
                "INSERT INTO usage_names (organization_id, kind, id, external_id) VALUES (%s, 'customer', %s, 'cus_1')",
                (events[0].organization_id, OWN),
            )
            connection.commit()
        with opened:
            yield opened


def invoices(folder: Path, *lines: str) -> Path:
    (folder / "invoices.csv").write_text("customer_id,metric_key,quantity\n" + "".join(f"{line}\n" for line in lines))
    return folder / "invoices.csv"


def test_lines_of_texts_are_those_of_their_customers(store: Store, tmp_path: Path) -> None:
    right = invoices(tmp_path, "cus_1,tokens,10", "cus_7,tokens,10", f"{PLAIN},tokens,10")
    assert store.validate(september(), invoices=right, checks=["reconciliation"]).findings == ()
    wrong = invoices(tmp_path, "cus_1,tokens,11", "cus_7,tokens,10", f"{PLAIN},tokens,10", "cus_9,tokens,1")
    validation = store.validate(september(), invoices=wrong, checks=["reconciliation"])
    unknown = made_id("customer", "cus_9")
    assert {finding.customer_id for finding in validation.findings} == {OWN, unknown}
    said = [validation.names.in_text(finding.sentence) for finding in validation.findings]
    assert any("cus_1 is invoiced 11 of tokens" in text for text in said)
    assert any("cus_9 is not known: no event and no name" in text for text in said)


def test_control_totals_wallets_and_prices_of_texts(store: Store, tmp_path: Path) -> None:
    (tmp_path / "control.csv").write_text(
        f"day,metric_key,customer_id,events\n{SINCE.date()},tokens,cus_1,10\n{SINCE.date()},tokens,cus_7,12\n"
    )
    (finding,) = store.validate(september(), control=tmp_path / "control.csv", checks=["control_totals"]).findings
    assert finding.customer_id == LOADED
    prices = [
        {"metric_key": "tokens", "unit_amount": "1", "currency": "USD"},
        {"metric_key": "tokens", "unit_amount": "2", "currency": "USD", "customer_id": "cus_1"},
        {"metric_key": "tokens", "unit_amount": "3", "currency": "EUR", "customer_id": "cus_7"},
    ]
    rating = store.rate(september(), prices=prices, wallets={"cus_1": "USD", "cus_7": "EUR", "default": "USD"})
    amounts = {line.customer_id: (str(line.amount), line.currency) for line in rating.lines}
    assert amounts == {OWN: ("20.00", "USD"), LOADED: ("30.00", "EUR"), PLAIN: ("10.00", "USD")}
    assert {type(line.price.customer_id) for line in rating.lines} == {UUID, type(None)}
    with asking(store) as client, connect(str(client.base_url).removesuffix("/api/"), ORGANIZATION) as remote:
        told = remote.rate(september(), prices=prices, wallets={"cus_1": "USD", "cus_7": "EUR", "default": "USD"})
        assert told.lines == rating.lines


@pytest.mark.parametrize("given", ["prices", "wallets"])
def test_a_misspelled_text_in_prices_or_wallets_is_warned_of(store: Store, given: str) -> None:
    prices = [{"metric_key": "tokens", "unit_amount": "1", "currency": "USD"}]
    more = [{**prices[0], "customer_id": "cus_11"}] if given == "prices" else []
    wallets = {"cus_11": "EUR", "default": "USD"} if given == "wallets" else None
    with pytest.warns(HintWarning, match="customer cus_11: not in the directory of names"):
        store.rate(september(), prices=prices + more, wallets=wallets)
    sources = {"prices": prices + more} if given == "prices" else {"wallets": wallets}
    assert store.unknown_texts(**sources).startswith("customer cus_11: not in the directory of names")  # type: ignore[arg-type]
    assert not store.unknown_texts(prices=[{**prices[0], "customer_id": "cus_1"}], wallets={"cus_1": "EUR"})


@pytest.mark.parametrize(
    "given",
    [
        {"wallets": {"cus_1": "USD", str(OWN): "EUR"}},
        {
            "prices": [
                {"metric_key": "tokens", "unit_amount": "1", "currency": "USD", "customer_id": customer}
                for customer in ("cus_1", str(OWN))
            ]
        },
    ],
)
def test_a_customer_by_its_id_and_by_its_text_is_given_twice(store: Store, given: dict[str, object]) -> None:
    with pytest.raises(QueryError, match=next(iter(given))):
        store.validate(september(), checks=["duplicates"], **given)  # type: ignore[arg-type]


def test_an_id_of_a_text_is_that_of_load_and_can_be_pickled() -> None:
    made = id_reader("customer")(" cus_7 ")
    assert isinstance(made, MadeId)
    assert made == LOADED
    copy = pickle.loads(pickle.dumps(made))
    assert (copy, copy.kind, copy.text) == (LOADED, "customer", "cus_7")
    assert id_reader("customer")(4711) == made_id("customer", "4711")
    assert type(id_reader("customer")(str(OWN))) is UUID


@pytest.mark.parametrize("raw", [str(OWN)[:-1], f"{OWN}0", 1.5, True, "x" * 5_000, "a\0b"])
def test_what_is_no_id_is_refused(raw: object) -> None:
    with pytest.raises(InvalidValue):
        id_reader("customer")(raw)
