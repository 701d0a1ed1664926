"""Files are recognized by their columns; what may be of several kinds is not guessed."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from usage_explore.names import made_id
from usage_explore.validation.file_kinds import kinds_of, read_names, recognized


@pytest.mark.parametrize(
    ("columns", "kinds"),
    [
        ("customer_id,metric_key,quantity,amount,currency", ("invoices",)),
        ("Customer,Metric,period start,period-end,quantity,amount,currency", ("invoices",)),
        ("customer_id,price_key,quantity", ("invoices",)),
        ("customer_id,metric_key,quantity,currency", ("invoices",)),
        ("customer_id,metric_key,quantity,period_start,period_end", ("invoices", "control")),
        ("metric_key,quantity,period_start", ("control",)),
        ("day,metric_key,events,quantity", ("control",)),
        ("day,customer_id,metric_key,quantity", ("control",)),
        ("ChargePeriodStart,ChargePeriodEnd,SkuMeter,ConsumedQuantity,BilledCost,BillingCurrency", ("control",)),
        ("date,cost,currency", ("control",)),
        ("customer_id,currency", ("wallets",)),
        ("customer,preferred_currency,note", ("wallets",)),
        ("metric_key,unit_amount,currency", ("prices",)),
        ("product_id,model,tiers,currency,valid_from", ("prices",)),
        ("customer_id,metric_key,unit_amount,currency", ("prices",)),
        ("id,name,kind", ("names",)),
        ("external_id,name,preferred_currency", ("names",)),
        ("customer,metric,qty", ()),
        ("Kunde,Metrik,Menge,Betrag,Währung", ("invoices",)),
        ("Datum,Metrik,Menge", ("control",)),
        ("Datum,Metrik,Anzahl", ("control",)),
        ("Kunde,Metrik,Anzahl", ("invoices",)),
        ("Kunde,Währung", ("wallets",)),
        ("customer_id,amount", ("invoices",)),
        ("a,b", ()),
        ("", ()),
    ],
)
def test_columns_say_what_a_file_is(columns: str, kinds: tuple[str, ...]) -> None:
    assert kinds_of(columns.split(",")) == kinds


def test_a_file_is_recognized_with_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "given.csv"
    path.write_text("customer_id,currency\nx,EUR\ny,USD\n")
    assert (recognized(path, "a.csv").kinds, recognized(path, "a.csv").rows) == (("wallets",), 2)
    book = tmp_path / "given.toml"
    book.write_text('[[prices]]\nmetric_key = "a"\nunit_amount = "1"\ncurrency = "USD"\n')
    assert (recognized(book, "a.toml").kinds, recognized(book, "a.toml").rows) == (("prices",), 1)
    book.write_text("[[prices]]\n")
    assert recognized(book, "a.toml").rows is None
    path.write_bytes(b"\xff\xfe\x00")
    unreadable = recognized(path, "my lines.csv")
    assert unreadable.kinds == ()
    assert str(tmp_path) not in unreadable.problem
    assert unreadable.problem


def test_the_demo_s_files_are_recognized() -> None:
    """The columns that `usage-explore demo --files` writes."""
    for columns, kind in (
        ("customer_id,metric_key,period_start,period_end,quantity,amount,currency", "invoices"),
        ("customer_id,currency", "wallets"),
        ("day,metric_key,events,quantity", "control"),
    ):
        assert kinds_of(columns.split(",")) == (kind,)


def test_names_are_read_by_id_and_by_external_id(tmp_path: Path) -> None:
    path = tmp_path / "names.csv"
    one = UUID(int=1)
    path.write_text(f"id,name,kind\n{one},Acme,\nplan-a,Plan A,product\n,Nameless,\n{UUID(int=2)},,\n")
    names = read_names(path)
    assert names.name("customer", one) == "Acme"
    assert names.name("product", made_id("product", "plan-a")) == "Plan A"
    assert len(names.by_id) == 2
