"""What arrives after a sign-off is one finding of the next run, though it is late, old and billed too little."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from psycopg.conninfo import conninfo_to_dict

from support import generated_events
from support.billing_events import CUSTOMERS, SEPTEMBER, SINCE, UNTIL, event, steady
from support.database_servers import fresh_database
from support.generated_events import Insert
from support.query_oracle import Row, utc
from usage_explore import Store, connect
from usage_explore.db import ddl
from usage_explore.pricing.read import read_prices
from usage_explore.pricing.table import replace_prices
from usage_explore.validation import Finding, Validation
from usage_explore.validation.review import Reviewed

HOUR = timedelta(hours=1)
PRICES = [{"metric_key": metric, "unit_amount": "0.10", "currency": "USD"} for metric in ("calls", "seats")]
SIGNED = SEPTEMBER.replace(as_of=utc(2026, 10, 2))
LATER = SEPTEMBER.replace(as_of=utc(2026, 11, 20))
ARRIVED = utc(2026, 11, 18)


@pytest.fixture(scope="module")
def signed(server_url: str, _template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A database and a home with a signed September: an event an hour of four customers and two metrics."""
    first, home = SINCE - timedelta(days=20), tmp_path_factory.mktemp("signed")
    who_and_what = [(who, metric) for who in range(4) for metric in ("calls", "seats")]
    with fresh_database(server_url, _template) as url:
        with ddl.connect(url) as connection:
            rows = [row for who, metric in who_and_what for row in steady(who, first, UNTIL, HOUR, metric=metric)]
            generated_events.insert(connection, rows)
        with connect(url, generated_events.ORGANIZATION, home=home) as opened:
            validation = opened.validate(SIGNED, prices=PRICES)
            opened.sign_off(validation, by="ana", rating=opened.rate(validation.period, prices=PRICES))
        yield conninfo_to_dict(url)["dbname"], home


@pytest.fixture
def events_database_url(server_url: str, signed: tuple[str, Path]) -> Iterator[str]:
    """A copy of the signed September for one test: to copy it takes a tenth of what it takes to sign it."""
    with fresh_database(server_url, signed[0]) as url:
        yield url


@pytest.fixture
def store(events_database_url: str, signed: tuple[str, Path], tmp_path: Path) -> Iterator[Store]:
    """A store on the signed September."""
    home = shutil.copytree(signed[1], tmp_path / "home")
    with connect(events_database_url, generated_events.ORGANIZATION, home=home) as opened:
        yield opened


def late(customers: int, **given: Any) -> list[Row]:
    """Three events each, which arrive weeks after the month was signed."""
    at = utc(2026, 9, 17, 5, 30)
    return [
        event(who, at + n * timedelta(minutes=7), metric, ingested_at=ARRIVED + timedelta(minutes=n), **given)
        for who in range(customers)
        for metric in ("calls", "seats")
        for n in range(3)
    ]


def lines(**wrong: str) -> pd.DataFrame:
    """The invoice that was signed; `wrong` are other quantities by metric, of the first customer."""
    rows = [
        {"customer_id": str(CUSTOMERS[who]), "metric_key": metric, "quantity": "720", "amount": "72.00"}
        for who in range(4)
        for metric in ("calls", "seats")
    ]
    for row in rows[:2]:
        row["quantity"] = wrong.get(row["metric_key"], row["quantity"])
    return pd.DataFrame([{**row, "currency": "USD"} for row in rows], dtype="str")


def again(store: Store, **given: Any) -> Validation:
    return store.validate(LATER, prices=PRICES, **given)


def sign_off_finding(validation: Validation) -> Finding:
    (finding,) = (finding for finding in validation.findings if finding.kind == "after sign-off")
    return finding


def test_late_costs_have_their_own_signs(store: Store, insert: Insert) -> None:
    """It was "external cost +1.50 EUR and +-3.00 USD"."""
    insert(
        [
            *late(1, external_cost_amount=Decimal("0.25"), external_cost_currency="EUR"),
            *late(2, external_cost_amount=Decimal("-0.25"), external_cost_currency="USD"),
        ]
    )
    assert "external cost +1.50 EUR and -3.00 USD;" in sign_off_finding(again(store)).sentence


def test_a_late_batch_is_one_finding_with_what_the_invoice_lacks(store: Store, insert: Insert) -> None:
    assert again(store, invoices=lines()).findings == (), "nothing arrived"
    insert(late(3))
    validation = again(store, invoices=lines())
    (finding,) = validation.findings
    (signed,) = store.signoffs()
    assert finding.sentence.startswith(f"Arrived after the sign-off of {signed.signed_at.day} ")
    for words in (
        " by ana: +18 events of 3 customers, 17 Sep 2026",
        f"`usage-explore signoffs {str(signed.id)[:8]} --csv FILE.csv`",
        "6 totals of 3 customers, 1–30 Sep 2026, are invoiced other quantities than were used, 1.80 USD too little",
        "Impossible times",
        "Reconciliation",
    ):
        assert words in finding.sentence
    assert (finding.events, finding.amounts) == (18, (("USD", Decimal("1.80")),))
    assert (finding.share, finding.share_of) == (Decimal(18) / validation.totals.events, "all events")
    assert store.count(finding.question) == 18  # type: ignore[arg-type]
    assert {*validation.sheet("reconciliation")["explained_by"]} == {"", "after sign-off"}  # type: ignore[index]


def test_a_wrong_amount_is_that_of_the_signed_usage_beside_what_came_later(store: Store, insert: Insert) -> None:
    """The late part hid it: 9.70 USD too much, while the corrections bill the 0.30 USD as well."""
    invoice = lines()
    invoice.loc[0, "amount"] = "82.00"
    (before,) = again(store, invoices=invoice).findings
    insert(late(1))
    validation = again(store, invoices=invoice)
    (wrong,) = (finding for finding in validation.findings if finding.kind != "after sign-off")
    since = "; what arrived later or was changed since is left out here."
    assert (wrong.severity, wrong.amounts) == ("high", (("USD", Decimal("10.00")),))
    assert wrong.sentence == before.sentence.removesuffix(".") + since
    facts = dict(wrong.facts)
    assert (facts["arrived after finalization"], wrong.events) == ("3 events, quantity 3", 723)
    assert facts["compared"] == "invoiced 720, used 720 in 720 events before"
    sheet = validation.sheet("reconciliation")
    assert sheet is not None
    assert [*sheet[sheet["status"] == "wrong amount"]["events"]] == [720]
    finding = sign_off_finding(validation)
    assert "1 total of customer" in finding.sentence, "that of seats, whose amount is right"
    assert ", is invoiced other quantities than were used" in finding.sentence
    corrected = sum(one.amount or 0 for one in store.changes_since(store.signoffs()[0], prices=PRICES).lines)
    assert corrected == Decimal("0.60")


WRONG = {
    "too much": ([(0, "quantity", "730"), (0, "amount", "73.00")], "1.00", "10 too much, and 1.00 USD too much"),
    "missing": ([(0, "quantity", None)], "72.00", "720 was used in 720 events, for which 72.00 USD is expected"),
    "amount alone": ([(0, "amount", "82.00")], "10.00", "but 72.00 USD is expected for 720"),
    "quantity alone": ([(0, "quantity", "730")], None, "10 too much"),
    "twice": ([(0, "twice", "")], "72.00", "the used quantity without a repeated line"),
}
CHANGES = {
    "late": None,
    "edited": "UPDATE usage_events SET quantity = 4 WHERE customer_id = %s AND metric_key = 'calls' AND timestamp = %s",
    "removed": "DELETE FROM usage_events WHERE customer_id = %s AND metric_key = 'calls' AND timestamp = %s",
}
ALL_REMOVED = "DELETE FROM usage_events WHERE customer_id = %s AND metric_key = 'calls' AND timestamp >= '2026-09-01Z'"


def edit(connection: ddl.Connection, change: str = "edited") -> None:
    """Change an event of the first customer's calls."""
    assert connection.execute(CHANGES[change], (CUSTOMERS[0], utc(2026, 9, 17, 5))).rowcount == 1
    connection.commit()


@pytest.mark.parametrize("prices", [PRICES, None])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_line_is_compared_with_what_was_signed_beside_what_changed_later(
    store: Store,
    insert: Insert,
    events_connection: ddl.Connection,
    wrong: str,
    change: str,
    prices: list[dict[str, str]] | None,
) -> None:
    """The difference had the change in it, which the corrections bill or credit as well."""
    edits, amount, words = WRONG[wrong]
    invoice = lines()
    for row, column, value in edits:
        if column in invoice.columns and value is not None:
            invoice.loc[row, column] = value
    if wrong == "missing":
        invoice = invoice.drop(index=0)
    if wrong == "twice":
        invoice = pd.concat([invoice, invoice.iloc[[0]]])
    at = utc(2026, 9, 17, 5)
    if CHANGES[change] is None:
        insert([event(0, at + timedelta(minutes=n), ingested_at=ARRIVED, quantity=Decimal(10)) for n in (5, 9)])
    else:
        edit(events_connection, change)
    found = store.validate(LATER, prices=prices, invoices=invoice, checks=["reconciliation"]).findings
    high = [finding for finding in found if finding.severity == "high"]
    if prices is None and wrong == "amount alone":
        return  # nothing says what the amount should be
    (finding,) = high
    assert words.partition(", and " if prices is None else "\0")[0].partition(", for which")[0] in finding.sentence
    if prices is not None:
        assert finding.amounts == (() if amount is None else (("USD", Decimal(amount)),))


@pytest.mark.parametrize("prices", [PRICES, None])
@pytest.mark.parametrize("wrong", [None, *(wrong for wrong in WRONG if wrong != "missing")])
def test_lines_of_usage_that_was_all_removed_are_compared_with_what_was_signed(
    store: Store, events_connection: ddl.Connection, wrong: str | None, prices: list[dict[str, str]] | None
) -> None:
    """The whole line was too much, while the corrections credit what was signed of it."""
    events_connection.execute(ALL_REMOVED, (CUSTOMERS[0],))
    events_connection.commit()
    edits, amount, words = WRONG[wrong] if wrong else ([], None, "")
    invoice = lines()
    for row, column, value in edits:
        if column in invoice.columns:
            invoice.loc[row, column] = value
    if wrong == "twice":
        invoice = pd.concat([invoice, invoice.iloc[[0]]])
    found = store.validate(LATER, prices=prices, invoices=invoice, checks=["reconciliation"]).findings
    (finding,) = (one for one in found if one.kind not in ("unit price", "billed since sign-off"))
    if wrong is None:
        assert (finding.kind, finding.severity) == ("changed after sign-off", "medium")
        assert prices is None or "cannot be checked" not in finding.sentence
        return
    assert finding.severity == "high"
    if prices is None and wrong == "amount alone":
        assert "but has no usage of it, 82.00 USD too much" in finding.sentence
        assert finding.sentence.endswith("by ana have -720, too.")
        return
    if prices is not None:
        assert words in finding.sentence
        assert finding.amounts == (() if amount is None else (("USD", Decimal(amount)),))
    assert "what arrived later or was changed since is left out here" in finding.sentence


def test_the_signed_amount_of_the_quantity_now_is_what_the_corrections_have(
    store: Store, events_connection: ddl.Connection
) -> None:
    """Such as an invoice whose quantity alone was read again."""
    edit(events_connection)
    invoice = lines()
    invoice.loc[0, ["quantity", "amount"]] = "723", "72.00"
    (finding,) = store.validate(LATER, prices=PRICES, invoices=invoice, checks=["reconciliation"]).findings
    assert (finding.kind, finding.severity) == ("changed after sign-off", "medium")
    assert "72.00 USD, but 72.30 USD is expected: that is the amount that the sign-off of" in finding.sentence
    (line,) = store.changes_since(store.signoffs()[0], prices=PRICES).lines
    assert (finding.amounts, line.amount) == ((("USD", Decimal("0.30")),), Decimal("0.30"))


def test_signed_quantities_at_other_prices_have_what_the_corrections_have(store: Store, insert: Insert) -> None:
    """The corrections bill the change of the price, too: only what late usage lacks was said of these lines."""
    insert(late(1))
    dearer = [{**PRICES[0], "unit_amount": "0.25"}, PRICES[1]]
    invoice = lines()
    invoice.loc[invoice["metric_key"] == "calls", "amount"] = "180.00"
    findings = store.validate(LATER, prices=dearer, invoices=invoice).findings
    (since,) = (finding for finding in findings if finding.kind == "billed since sign-off")
    assert since.sentence.startswith("4 totals of 4 customers, 1–30 Sep 2026, are invoiced or compared with what")
    assert {finding.kind for finding in findings} == {"after sign-off", "billed since sign-off"}
    invoice = lines()
    findings = store.validate(LATER, prices=dearer, invoices=invoice).findings
    assert {finding.kind for finding in findings} == {"after sign-off", "changed after sign-off"}


def test_lines_of_several_prices_are_compared_with_the_signed_amounts(
    store: Store, events_connection: ddl.Connection
) -> None:
    """Usage, or the price book, that changed since is in the corrections: it was in the lines' difference, too."""
    until, since = {"valid_to": "2026-09-17"}, {"valid_from": "2026-09-17"}
    first, second = {**PRICES[0], **until}, {**PRICES[0], **since, "unit_amount": "0.20", "currency": "EUR"}
    prices = [first, second, PRICES[1]]
    signed = store.validate(SIGNED, prices=prices)
    store.sign_off(signed, by="bo", rating=store.rate(signed.period, prices=prices))
    one = lines()[lines()["metric_key"] == "calls"]
    right = pd.concat(
        [
            one.assign(quantity="384", amount="38.40"),
            one.assign(quantity="336", amount="67.20", currency="EUR"),
            lines()[lines()["metric_key"] == "seats"],
        ],
        ignore_index=True,
    )
    wrong = right.copy()
    wrong.loc[4, "amount"] = "77.20"

    def found(invoice: pd.DataFrame, book: list[dict[str, str]]) -> list[Finding]:
        return [*store.validate(LATER, prices=book, invoices=invoice, checks=["reconciliation"]).findings]

    def corrected(book: list[dict[str, str]]) -> Decimal:
        return sum((one.amount or Decimal(0) for one in store.changes_since(signoff, prices=book).lines), Decimal(0))

    (signoff,) = (one for one in store.signoffs() if one.author == "bo")
    dearer = [first, {**second, "unit_amount": "0.30"}, PRICES[1]]
    (finding,) = found(right, dearer)
    assert (finding.kind, finding.severity) == ("changed after sign-off", "medium")
    assert "; the price book was changed since, and `usage-explore signoffs" in finding.sentence
    assert dict(finding.amounts) == {"EUR": corrected(dearer)}
    high, medium = found(wrong, dearer)
    assert (high.severity, high.amounts, medium.severity) == ("high", (("EUR", Decimal("10.00")),), "medium")
    of_now = right.replace({"amount": "67.20"}, "100.80")
    (finding,) = found(of_now, dearer)
    assert (finding.kind, finding.severity) == ("billed since sign-off", "low")
    assert not found(right, [*prices, {**PRICES[1], "metric_key": "gpus"}]), "another book with the same prices"

    events_connection.execute(f"{ALL_REMOVED} AND timestamp >= '2026-09-17Z'", (CUSTOMERS[0],))
    events_connection.commit()
    (finding,) = found(right, prices)
    assert (finding.kind, finding.amounts) == ("changed after sign-off", (("EUR", Decimal("67.20")),))
    (high,) = found(wrong, prices)
    assert (high.severity, high.amounts) == ("high", (("EUR", Decimal("10.00")),))
    events_connection.execute(ALL_REMOVED, (CUSTOMERS[0],))
    events_connection.commit()
    (finding,) = found(right, prices)
    assert (finding.kind, finding.severity) == ("changed after sign-off", "medium")
    (high,) = found(wrong, prices)
    assert (high.severity, high.amounts) == ("high", (("EUR", Decimal("10.00")),))
    elsewhere = [first, {**second, "currency": "CHF"}, PRICES[1]]
    assert {(one.kind, one.severity) for one in found(right, elsewhere)} == {("changed after sign-off", "medium")}
    wrong.loc[0, ["quantity", "currency"]] = "400", "GBP"
    high, *_ = found(wrong, prices)
    assert "the corrections of the sign-off of" in high.sentence
    assert "have -720, -67.20 EUR and -38.40 USD, too" in high.sentence


@pytest.mark.parametrize("day", [2, 20])
@pytest.mark.parametrize("prices", [PRICES, None])
def test_lines_of_what_was_signed_are_found_beside_a_given_finalization(
    store: Store, events_connection: ddl.Connection, prices: list[dict[str, str]] | None, day: int
) -> None:
    edit(events_connection)
    period = LATER.replace(finalized_at=utc(2026, 10, day))
    (finding,) = store.validate(period, prices=prices, invoices=lines(), checks=["reconciliation"]).findings
    assert (finding.kind, finding.severity) == ("changed after sign-off", "medium")


@pytest.mark.parametrize("prices", [PRICES, None])
@pytest.mark.parametrize("is_changed_again", [False, True])
def test_lines_of_an_earlier_sign_off_are_found_after_usage_was_changed(
    store: Store, events_connection: ddl.Connection, prices: list[dict[str, str]] | None, is_changed_again: bool
) -> None:
    """By what it froze: a recomputation as of its time has the change, too."""
    edit(events_connection)
    (first,) = store.signoffs()
    second = store.validate(SEPTEMBER.replace(as_of=utc(2026, 11, 10)), prices=PRICES)
    store.sign_off(second, by="bo", rating=store.rate(second.period, prices=PRICES))
    if is_changed_again:
        edit(events_connection, "removed")
    (finding,) = store.validate(LATER, prices=prices, invoices=lines(), checks=["reconciliation"]).findings
    assert (finding.kind, finding.severity) == ("earlier sign-off", "medium")
    assert f"`usage-explore signoffs {str(first.id)[:8]} --csv FILE.csv` has what changed between" in finding.sentence
    assert ("what changed after that" in finding.sentence) == is_changed_again


@pytest.mark.parametrize("prices", [PRICES, None])
def test_an_invoice_without_the_line_of_removed_usage_says_that_the_corrections_credit_it(
    store: Store, events_connection: ddl.Connection, prices: list[dict[str, str]] | None
) -> None:
    """Nothing was found, and the corrections credit what is not charged."""
    invoice = lines().drop(index=0)
    events_connection.execute(ALL_REMOVED, (CUSTOMERS[0],))
    events_connection.commit()
    (finding,) = store.validate(LATER, prices=prices, invoices=invoice, checks=["reconciliation"]).findings
    assert (finding.kind, finding.severity) == ("billed since sign-off", "low")
    assert f"1 total of customer {CUSTOMERS[0]}, 1–30 Sep 2026, is invoiced with what arrived" in finding.sentence
    assert "(1 without a line, as all usage of it left)" in finding.sentence
    assert not store.validate(
        LATER, prices=prices, invoices=invoice[invoice["metric_key"] == "seats"], checks=["reconciliation"]
    ).findings[1:], "calls are on no line"


def test_what_arrived_later_is_low_where_right_lines_have_all_of_it(store: Store, insert: Insert) -> None:
    """It was high, and to be billed by the corrections, beside lines that bill it."""
    at = utc(2026, 9, 17, 5)
    insert([event(0, at + timedelta(minutes=n), ingested_at=ARRIVED, quantity=Decimal(500)) for n in (5, 9)])
    invoice = lines()
    assert sign_off_finding(again(store, invoices=invoice)).severity == "high"
    invoice.loc[0, ["quantity", "amount"]] = "1720", "172.00"
    finding = sign_off_finding(again(store, invoices=invoice))
    assert finding.severity == "low"
    assert "is invoiced with what arrived" in finding.sentence
    invoice.loc[0, "amount"] = "182.00"
    assert sign_off_finding(again(store, invoices=invoice)).severity == "high"
    insert([event(1, at + timedelta(minutes=n), ingested_at=ARRIVED, quantity=Decimal(500)) for n in (5, 9)])
    invoice.loc[0, "amount"] = "172.00"
    validation = again(store, invoices=invoice)
    assert sign_off_finding(validation).severity == "high", "that of the second customer is on no line"


@pytest.mark.parametrize("prices", [PRICES, None])
@pytest.mark.parametrize(("change", "quantity"), [("late", "740"), ("edited", "723"), ("removed", "719")])
def test_lines_of_the_usage_now_say_that_the_corrections_have_it_too(
    store: Store,
    insert: Insert,
    events_connection: ddl.Connection,
    prices: list[dict[str, str]] | None,
    change: str,
    quantity: str,
) -> None:
    if change == "late":
        at = utc(2026, 9, 17, 5)
        insert([event(0, at + timedelta(minutes=n), ingested_at=ARRIVED, quantity=Decimal(10)) for n in (5, 9)])
    else:
        edit(events_connection, change)
    invoice = lines()
    invoice.loc[0, ["quantity", "amount"]] = quantity, str(Decimal(quantity) / 10)
    (finding,) = store.validate(LATER, prices=prices, invoices=invoice, checks=["reconciliation"]).findings
    assert (finding.kind, finding.severity) == ("billed since sign-off", "low")
    assert f"1 total of customer {CUSTOMERS[0]}, 1–30 Sep 2026, is invoiced with what arrived" in finding.sentence
    assert "have it, too. Sign off again" in finding.sentence
    second = store.validate(LATER, prices=prices, invoices=invoice)
    store.sign_off(second, by="bo")
    assert not store.validate(LATER, prices=prices, invoices=invoice, checks=["reconciliation"]).findings


@pytest.mark.parametrize("is_last_removed", [False, True])
def test_what_was_signed_is_known_by_default_where_nothing_arrived_until_then(
    store: Store, insert: Insert, events_connection: ddl.Connection, is_last_removed: bool
) -> None:
    """The last arrival was before the sign-off's `as_of`: right lines were high, and no new run could be signed."""
    at = utc(2026, 9, 17, 5, 5)
    insert([event(0, at, ingested_at=UNTIL + HOUR)])
    if is_last_removed:
        insert([event(0, at + HOUR, ingested_at=ARRIVED)])
    signed = store.validate(SEPTEMBER if is_last_removed else SIGNED, prices=PRICES)
    store.sign_off(signed, by="bo", rating=store.rate(signed.period, prices=PRICES))
    if is_last_removed:
        assert signed.period.as_of == ARRIVED
        events_connection.execute("DELETE FROM usage_events WHERE timestamp = %s", (at + HOUR,))
        events_connection.commit()
    else:
        edit(events_connection)
    invoice = lines()
    quantity = 721 + is_last_removed
    invoice.loc[0, ["quantity", "amount"]] = str(quantity), str(Decimal(quantity) / 10)
    validation = store.validate(SEPTEMBER, prices=PRICES, invoices=invoice, checks=["reconciliation"])
    (finding,) = validation.findings
    assert (finding.kind, finding.severity) == ("changed after sign-off", "medium")
    assert store.sign_off(store.validate(SEPTEMBER), by="cy").author == "cy"


@pytest.mark.parametrize("column", ["price_key", "subscription_id"])
@pytest.mark.parametrize(
    ("quantity", "amount", "words"), [("720", "72.00", ""), ("730", "73.00", "10 too much, and 1.00")]
)
def test_lines_by_price_or_subscription_are_compared_with_what_was_signed(
    store: Store, events_connection: ddl.Connection, column: str, quantity: str, amount: str, words: str
) -> None:
    """Sign-offs have usage by metric: here each price and each customer's subscription has all of one."""
    texts = {"price_key": "'price of ' || metric_key", "subscription_id": "customer_id"}
    events_connection.execute(f"UPDATE usage_events SET {column} = {texts[column]}")
    events_connection.commit()
    prices = [{**price, "price_key": f"price of {price['metric_key']}"} for price in PRICES]
    prices = [{**price, "metric_key": None} for price in prices] if column == "price_key" else PRICES
    signed = store.validate(SIGNED, prices=prices)
    store.sign_off(signed, by="bo", rating=store.rate(signed.period, prices=prices))
    edit(events_connection)
    invoice = lines()
    invoice.loc[0, ["quantity", "amount"]] = quantity, amount
    if column == "price_key":
        invoice["price_key"] = "price of " + invoice.pop("metric_key")
    else:
        invoice["subscription_id"] = invoice["customer_id"]
    (finding,) = store.validate(LATER, prices=prices, invoices=invoice, checks=["reconciliation"]).findings
    assert finding.severity == ("high" if words else "medium")
    assert words in finding.sentence
    assert words or finding.kind == "changed after sign-off"


def test_what_of_two_subscriptions_was_changed_is_not_known_and_said(
    store: Store, events_connection: ddl.Connection
) -> None:
    events_connection.execute(
        "UPDATE usage_events SET subscription_id = CASE WHEN extract(hour FROM timestamp) < 12 THEN customer_id ELSE"
        " %s::uuid END WHERE customer_id = %s",
        (UUID(int=5), CUSTOMERS[0]),
    )
    edit(events_connection)
    invoice = lines()
    invoice = pd.concat([invoice.assign(subscription_id=str(one)) for one in (CUSTOMERS[0], UUID(int=5))])
    invoice = invoice[invoice["customer_id"] == str(CUSTOMERS[0])].assign(quantity="360", amount="36.00")
    invoice.iloc[0, [2, 3]] = "370", "37.00"
    findings = store.validate(LATER, prices=PRICES, invoices=invoice, checks=["reconciliation"]).findings
    (finding,) = (finding for finding in findings if finding.customer_id == CUSTOMERS[0])
    assert "invoiced 370 of calls" in finding.sentence
    assert "usage of this customer was changed since the sign-off of" in finding.sentence
    assert "whose corrections may have a part of it" in finding.sentence


@pytest.mark.parametrize(
    ("quantity", "amount", "words"),
    [
        ("1", "10.00", ""),
        ("1", "11.00", "is charged 11.00 USD for calls, 1–30 Sep 2026, but 10.00 USD is expected for 1"),
        ("2", "20.00", "compared with the usage now: the corrections of the sign-off of"),
    ],
)
def test_the_amount_of_a_maximum_is_what_was_signed(
    store: Store, events_connection: ddl.Connection, quantity: str, amount: str, words: str
) -> None:
    """Of a maximum the sign-off has the amount: what changed since was high, and in the corrections, too."""
    prices = [{**PRICES[0], "aggregation": "max", "unit_amount": "10"}]
    of_calls = {"metric_key": ["calls"], "customer_id": CUSTOMERS[0]}
    signed = store.validate(SIGNED.replace(**of_calls), prices=prices)
    store.sign_off(signed, by="bo", rating=store.rate(signed.period, prices=prices))
    edit(events_connection)
    invoice = lines().head(1).assign(quantity=quantity, amount=amount)
    finding, *_ = store.validate(
        LATER.replace(**of_calls), prices=prices, invoices=invoice, checks=["reconciliation"]
    ).findings
    assert finding.severity == ("high" if words else "medium")
    assert words in finding.sentence
    assert words or finding.kind == "changed after sign-off"


@pytest.mark.parametrize("change", CHANGES)
def test_a_missing_line_of_a_maximum_is_high_beside_what_changed_of_another_metric(
    store: Store, insert: Insert, events_connection: ddl.Connection, change: str
) -> None:
    """It was what the sign-off has, whose corrections have nothing of it."""
    prices = [PRICES[0], {**PRICES[1], "aggregation": "max", "unit_amount": "10"}]
    signed = store.validate(SIGNED, prices=prices)
    store.sign_off(signed, by="bo", rating=store.rate(signed.period, prices=prices))
    if CHANGES[change] is None:
        insert([event(0, utc(2026, 9, 17, 5, 5), ingested_at=ARRIVED)])
    else:
        edit(events_connection, change)
    invoice = lines()
    invoice.loc[invoice["metric_key"] == "seats", ["quantity", "amount"]] = "1", "10.00"
    found = store.validate(LATER, prices=prices, invoices=invoice.drop(index=1), checks=["reconciliation"]).findings
    assert {(one.kind, one.amounts) for one in found if one.severity == "high"} == {
        ("missing", (("USD", Decimal("10.00")),))
    }


@pytest.mark.parametrize(("metric", "amount"), [("calls", "0.10"), ("seats", "10.00")])
@pytest.mark.parametrize("has_wallets", [False, True])
def test_lines_of_what_was_signed_before_an_event_went_to_another_wallet_name_the_sign_off(
    store: Store, events_connection: ddl.Connection, metric: str, amount: str, has_wallets: bool
) -> None:
    """The quantity of a customer stays, its currencies change; of a maximum the other wallet had nothing signed."""
    each = [PRICES[0], {**PRICES[1], "aggregation": "max", "unit_amount": "10"}]
    prices = [{**price, "currency": code} for price in each for code in ("USD", "EUR")]
    wallets = {"default": "USD"}
    signed = store.validate(SIGNED, prices=prices, wallets=wallets)
    store.sign_off(signed, by="bo", rating=store.rate(signed.period, prices=prices, wallets=wallets))
    where = "customer_id = %s AND metric_key = %s AND timestamp = %s"
    moved = f"UPDATE usage_events SET wallet_currency = 'EUR' WHERE {where}"
    assert events_connection.execute(moved, (CUSTOMERS[0], metric, utc(2026, 9, 17, 5))).rowcount == 1
    events_connection.commit()
    invoice = lines()
    invoice.loc[invoice["metric_key"] == "seats", ["quantity", "amount"]] = "1", "10.00"
    if has_wallets:
        invoice["wallet_currency"] = "USD"
    (finding,) = store.validate(
        LATER, prices=prices, wallets=wallets, invoices=invoice, checks=["reconciliation"]
    ).findings
    assert (finding.kind, finding.severity) == ("changed after sign-off", "medium")
    assert dict(finding.amounts)["EUR"] == Decimal(amount)


def test_another_currency_than_was_signed_is_one_high_beside_what_changed(
    store: Store, events_connection: ddl.Connection
) -> None:
    edit(events_connection)
    invoice = lines()
    invoice.loc[0, "currency"] = "GBP"
    findings = store.validate(LATER, prices=PRICES, invoices=invoice, checks=["reconciliation"]).findings
    assert {(one.kind, one.severity) for one in findings} == {
        ("changed after sign-off", "medium"),
        ("charged in GBP", "high"),
    }


@pytest.mark.parametrize("prices", [PRICES, None])
def test_a_copy_among_what_arrived_late_does_not_hide_what_a_line_has_too_much(
    store: Store, insert: Insert, prices: list[dict[str, str]] | None
) -> None:
    at = utc(2026, 9, 17, 5, 5)
    insert([event(0, at, ingested_at=ARRIVED, quantity=Decimal(10), idempotency_key="twice") for _ in range(2)])
    invoice = lines()
    invoice.loc[0, ["quantity", "amount"]] = "735", "73.50"
    found = store.validate(LATER, prices=prices, invoices=invoice, checks=["reconciliation"]).findings
    (finding,) = (finding for finding in found if finding.severity == "high")
    assert "is invoiced 735 of calls, 1–30 Sep 2026, but used 720: 15 too much" in finding.sentence


@pytest.mark.parametrize("prices", [PRICES, None])
def test_a_charge_without_usage_is_not_what_was_signed(store: Store, prices: list[dict[str, str]] | None) -> None:
    fee = {"customer_id": str(CUSTOMERS[0]), "metric_key": "setup", "quantity": "0", "amount": "13.00"}
    invoice = pd.concat([lines(), pd.DataFrame([{**fee, "currency": "USD"}], dtype="str")])
    (finding,) = store.validate(LATER, prices=prices, invoices=invoice, checks=["reconciliation"]).findings
    assert (finding.kind, finding.severity, finding.amounts) == ("extra", "high", (("USD", Decimal("13.00")),))


def test_an_invoice_that_was_made_again_after_a_change_is_compared_with_the_usage_now(
    store: Store, insert: Insert
) -> None:
    insert([event(who, utc(2026, 9, 17, 5, 5), ingested_at=ARRIVED, quantity=Decimal(10)) for who in range(3)])
    invoice = lines()
    for row in (0, 2, 4):
        invoice.loc[row, ["quantity", "amount"]] = "730", "73.00"
    invoice.loc[0, ["quantity", "amount"]] = "735", "73.50"
    high, low = store.validate(LATER, prices=PRICES, invoices=invoice, checks=["reconciliation"]).findings
    assert "invoiced 735 of calls, 1–30 Sep 2026, but used 730: 5 too much, and 0.50 USD too much" in high.sentence
    assert "have +10 and +1.00 USD, too" in high.sentence
    assert low.sentence.startswith("3 totals of 3 customers, 1–30 Sep 2026, are invoiced or compared with what arrived")


@pytest.mark.parametrize("prices", [PRICES, None])
@pytest.mark.parametrize("wrong", ["too much", "amount alone", "twice"])
def test_a_wrong_line_of_late_usage_says_that_the_corrections_have_this_too(
    store: Store, insert: Insert, wrong: str, prices: list[dict[str, str]] | None
) -> None:
    """Corrected by its own finding, it was charged again by the corrections."""
    insert([event(4, utc(2026, 9, 17, 5, 5), ingested_at=ARRIVED, quantity=Decimal(100))])
    line = {"customer_id": str(CUSTOMERS[4]), "metric_key": "calls", "currency": "USD"}
    line |= {"quantity": "110" if wrong == "too much" else "100", "amount": "20.00" if "amount" in wrong else "10.00"}
    invoice = pd.concat([lines(), pd.DataFrame([line] * (2 if wrong == "twice" else 1), dtype="str")])
    found = store.validate(LATER, prices=prices, invoices=invoice, checks=["reconciliation"]).findings
    (low,) = (finding for finding in found if finding.severity == "low")
    assert "the corrections of `usage-explore signoffs" in low.sentence
    if prices is None and wrong == "amount alone":
        return  # its quantity is right
    (high,) = (finding for finding in found if finding.severity == "high")
    now = f"compared with the usage now: the corrections of the sign-off of {low.sentence.split('sign-off of ')[1][:9]}"
    assert now in high.sentence
    assert f"have +100{' and +10.00 USD' if prices else ''}, too" in high.sentence


@pytest.mark.parametrize(
    ("quantity", "amount", "words"),
    [
        (None, None, "for which 72.00 USD is expected"),
        ("730", "73.00", "10 too much, and 1.00 USD too much"),
        ("720", "82.00", "is charged 82.00 USD for calls, 1–30 Sep 2026, but 72.00 USD is expected for 720"),
    ],
)
def test_a_wrong_line_of_two_wallets_is_compared_with_the_signed_amounts(
    store: Store, events_connection: ddl.Connection, quantity: str | None, amount: str | None, words: str
) -> None:
    """Lines without wallets, and an event that went to another one: its amounts were in the line's difference, too."""
    prices = [{**price, "currency": code} for price in PRICES for code in ("USD", "EUR")]
    wallets = {"default": "USD"}
    signed = store.validate(SIGNED, prices=prices, wallets=wallets)
    store.sign_off(signed, by="bo", rating=store.rate(signed.period, prices=prices, wallets=wallets))
    where = "customer_id = %s AND metric_key = 'calls' AND timestamp = %s"
    events_connection.execute(
        f"UPDATE usage_events SET wallet_currency = 'EUR' WHERE {where}", (CUSTOMERS[0], utc(2026, 9, 17, 5))
    )
    events_connection.commit()
    invoice = lines()
    invoice.loc[0, ["quantity", "amount"]] = quantity, amount
    invoice = invoice.dropna()
    (finding,) = store.validate(
        LATER, prices=prices, wallets=wallets, invoices=invoice, checks=["reconciliation"]
    ).findings
    assert finding.severity == "high"
    assert words in finding.sentence


def test_right_lines_of_an_event_that_went_to_another_wallet_say_that_the_corrections_have_it(
    store: Store, events_connection: ddl.Connection
) -> None:
    """The quantity of both is as signed, so that nothing was found."""
    given: dict[str, Any] = {"prices": [{**one, "currency": code} for one in PRICES for code in ("USD", "EUR")]}
    given["wallets"] = {"default": "USD"}
    signed = store.validate(SIGNED, **given)
    store.sign_off(signed, by="bo", rating=store.rate(signed.period, **given))
    assert not store.validate(LATER, **given, invoices=lines(), checks=["reconciliation"]).findings
    where = "customer_id = %s AND metric_key = 'calls' AND timestamp = %s"
    events_connection.execute(
        f"UPDATE usage_events SET wallet_currency = 'EUR' WHERE {where}", (CUSTOMERS[0], utc(2026, 9, 17, 5))
    )
    events_connection.commit()
    invoice = pd.concat([lines(), lines().head(1).assign(quantity="1", amount="0.10", currency="EUR")])
    invoice.iloc[0, [2, 3]] = "719", "71.90"
    (finding,) = store.validate(LATER, **given, invoices=invoice, checks=["reconciliation"]).findings
    assert (finding.kind, finding.severity, finding.customer_id) == ("billed since sign-off", "low", CUSTOMERS[0])


@pytest.mark.parametrize("prices", [PRICES, None])
@pytest.mark.parametrize("has_late", [False, True])
def test_lines_of_what_was_signed_and_changed_since_name_the_sign_off(
    store: Store, insert: Insert, events_connection: ddl.Connection, prices: list[dict[str, str]] | None, has_late: bool
) -> None:
    """`--replace` or an edit: the corrections had the same difference, which could be credited twice."""
    at = utc(2026, 9, 17, 5)
    edited, removed = (next(iter(steady(who, at, at + HOUR, HOUR, metric="calls"))) for who in (0, 1))
    where = "customer_id = %s AND metric_key = 'calls' AND timestamp = %s"
    for statement, row in (
        (f"UPDATE usage_events SET quantity = 0.25 WHERE {where}", edited),
        (f"DELETE FROM usage_events WHERE {where}", removed),
    ):
        assert events_connection.execute(statement, (row.customer_id, row.timestamp)).rowcount == 1
    events_connection.commit()
    if has_late:
        insert([event(0, at + timedelta(minutes=5), ingested_at=ARRIVED)])
    (signed,) = store.signoffs()
    validation = store.validate(LATER, invoices=lines(), prices=prices, checks=["reconciliation"])
    (finding,) = validation.findings
    assert (finding.kind, finding.severity) == ("changed after sign-off", "medium")
    assert f"signoffs {str(signed.id)[:8]} --csv FILE.csv` has exactly this difference" in finding.sentence
    assert "2 totals of 2 customers" in finding.sentence
    if prices:
        corrected = sum(one.amount or 0 for one in store.changes_since(signed, prices=PRICES).lines)
        assert sum(amount for _, amount in finding.amounts) - 2 * dict(finding.too_high or ())["USD"] == corrected
    store.keep_run(validation)
    more = store.validate(LATER, invoices=lines(calls="700"), prices=prices, checks=["reconciliation"])
    assert "high" in {one.severity for one in more.findings}, "other lines than were signed"


def test_corrections_without_amounts_explain_no_line(
    store: Store, insert: Insert, events_connection: ddl.Connection
) -> None:
    """Signed by a file, rated by the stored book: the difference of prices was said to be in the corrections."""
    insert(late(1))
    other = read_prices([{**price, "unit_amount": "0.20"} for price in PRICES])
    replace_prices(events_connection, store.table, generated_events.ORGANIZATION, other)
    events_connection.commit()
    (signed,) = store.signoffs()
    assert "has other prices" in store.changes_since(signed).amounts_note
    validation = store.validate(LATER, invoices=lines(), checks=["reconciliation"])
    (finding,) = validation.findings
    assert (finding.severity, finding.customer_id) == ("high", None), "that customer's lines as the others'"
    assert "exactly this difference" not in finding.sentence
    whole = store.validate(LATER)
    store.sign_off(whole, by="bo", rating=store.rate(whole.period))
    after = store.validate(LATER, invoices=lines(), checks=["reconciliation"]).findings
    assert {finding.severity for finding in after} == {"high"}, "what changed between the two has no amounts, either"
    assert not [finding for finding in after if "signed again" in finding.sentence]


def totals(events: int = 96) -> pd.DataFrame:
    """What the gateway counted by day and metric when the month was signed."""
    days = [f"2026-09-{day:02}" for day in range(1, 31)]
    return pd.DataFrame([(day, metric, events) for day in days for metric in ("calls", "seats")]).set_axis(
        ["day", "metric_key", "events"], axis=1
    )


def test_control_totals_that_lack_what_came_later_are_the_same_incident(store: Store, insert: Insert) -> None:
    batch = late(3)
    insert([*batch, event(0, utc(2026, 9, 20, 5, 30), ingested_at=ARRIVED)])
    validation = again(store, control=totals())
    (finding,) = validation.findings
    assert finding.kind == "after sign-off"
    assert finding.also_seen_by == ("impossible_times", "control_totals")
    assert finding.severity == "medium"
    sheet = validation.sheet("control_totals")
    assert {*sheet[sheet.status == "surplus"].explained_by} == {"after finalization"}  # type: ignore[index, union-attr]
    (alone,) = {f.severity for f in again(store, checks=["control_totals"], control=totals()).findings}
    assert alone == "medium"
    given = store.validate(LATER.replace(finalized_at=utc(2026, 10, 5)), prices=PRICES, control=totals())
    assert "control_totals" not in {found.check for found in given.findings}


@pytest.mark.parametrize(("number", "customers"), [(1, 1), (5, 2), (50, 4)])
def test_few_and_many_late_events_are_one_finding_with_every_combination_of_files(
    store: Store, insert: Insert, number: int, customers: int
) -> None:
    insert(
        [
            event(n % customers, utc(2026, 9, 3 + n % 17, 5, n), ("calls", "seats")[n // 2 % 2], ingested_at=ARRIVED)
            for n in range(number)
        ]
    )
    for given in ({}, {"invoices": lines()}, {"control": totals()}, {"invoices": lines(), "control": totals()}):
        (finding,) = again(store, **given).findings
        assert (finding.kind, finding.events) == ("after sign-off", number)
        assert finding.amounts == ((("USD", number * Decimal("0.10")),) if "invoices" in given else ())


def test_control_totals_that_lack_more_than_came_later_stay(store: Store, insert: Insert) -> None:
    insert(late(3))
    checks = [finding.check for finding in again(store, control=totals(95)).findings]
    assert {"after_finalization", "control_totals"} == {*checks}


def test_what_is_really_new_stays_beside_the_late_batch(store: Store, insert: Insert) -> None:
    """Copies among the late events are billed twice, and a line is wrong by more than they are."""
    batch = late(3)
    copies = [Row(**{**vars(row), "id": event(0, SINCE).id}) for row in batch if row.customer_id == CUSTOMERS[2]]
    insert([*batch, *copies])
    validation = again(store, invoices=lines(calls="900"))
    finding = sign_off_finding(validation)
    assert finding.events == 24
    others = [(other.check, other.customer_id) for other in validation.findings if other is not finding]
    assert sorted(others, key=str) == [("duplicates", CUSTOMERS[2]), ("reconciliation", CUSTOMERS[0])]


def test_a_sign_off_before_the_period_was_over_and_a_given_finalization_are_not_taken(
    store: Store, insert: Insert
) -> None:
    insert(late(1))
    given = again(store, checks=["after_finalization"])
    assert [finding.kind for finding in given.findings] == ["after sign-off"]
    period = LATER.replace(finalized_at=utc(2026, 10, 5))
    assert all(f.kind != "after sign-off" for f in store.validate(period, checks=["after_finalization"]).findings)
    half = SEPTEMBER.replace(until=utc(2026, 11, 10))
    early = store.validate(half.replace(as_of=utc(2026, 11, 1)), prices=PRICES)
    store.sign_off(early, by="ana")
    (result,) = store.validate(half.replace(as_of=LATER.as_of), checks=["after_finalization"]).results
    assert result.skipped == "finalized_at was not given"


def test_the_same_finding_of_the_next_run_keeps_its_identity(store: Store, insert: Insert) -> None:
    insert(late(2))
    first = again(store)
    store.keep_run(first)
    store.decide(sign_off_finding(first), "acknowledge", by="ana")
    item = of_sign_off(store)
    assert (item.is_new, item.is_open) == (False, False)
    insert([event(3, utc(2026, 9, 17, 6), ingested_at=ARRIVED + HOUR)])
    item = of_sign_off(store)
    assert (item.is_new, item.is_open) == (False, True)


def of_sign_off(store: Store, **given: Any) -> Reviewed:
    review = store.review(again(store, **given))
    return review.of(sign_off_finding(review.validation))


def test_what_comes_after_an_acknowledged_batch_is_open_with_its_events_and_amount(
    store: Store, insert: Insert
) -> None:
    """Up to twice the events were acknowledged with it, though the period had not been signed again."""
    insert(late(2))
    first = again(store, invoices=lines())
    store.keep_run(first)
    store.decide(sign_off_finding(first), "acknowledge", by="ana")
    insert([event(who, utc(2026, 9, 17, 6), ingested_at=ARRIVED + HOUR) for who in (0, 1, 1)])
    item = of_sign_off(store, invoices=lines())
    assert item.lapsed == "3 events, 0.30 USD more than when it was decided on"
    assert item.words(ZoneInfo("UTC")) == f"known, open again: {item.lapsed}"
    assert of_sign_off(store).lapsed == "3 events more than when it was decided on", "no amount without the invoice"
    store.decide(item.finding, "acknowledge", by="ana")
    assert not of_sign_off(store, invoices=lines()).is_open


def test_a_run_whose_invoice_lacks_what_came_later_is_kept_and_signed(store: Store, insert: Insert) -> None:
    """The lines that lack it are a finding of their own, folded or alone, of this sign-off."""
    insert(late(3))
    (signed,) = store.signoffs()
    for checks in (None, ["reconciliation"]):
        validation = again(store, invoices=lines(), **({"checks": checks} if checks else {}))
        every = [one for finding in validation.findings for one in (finding, *finding.folded)]
        (lacking,) = (finding for finding in every if finding.check == "reconciliation")
        assert (lacking.kind, dict(lacking.facts)["sign-off"]) == ("after sign-off", str(signed.id))
        store.keep_run(validation)
        assert store.review(again(store, invoices=lines())).gone == ()
    store.sign_off(again(store, invoices=lines()), by="ben")


def test_what_arrives_after_a_later_sign_off_is_another_finding(store: Store, insert: Insert) -> None:
    """To acknowledge what the second sign-off has does not acknowledge what came after it."""
    insert(late(2))
    first = again(store)
    store.keep_run(first)
    store.decide(sign_off_finding(first), "acknowledge", by="ana")
    second = store.validate(SEPTEMBER.replace(as_of=ARRIVED + HOUR), prices=PRICES)
    store.sign_off(second, by="ben", rating=store.rate(second.period, prices=PRICES))
    insert([event(who, utc(2026, 9, 17, 5, 31), ingested_at=ARRIVED + 2 * HOUR) for who in range(2)])
    review = store.review(again(store))
    item = review.of(sign_off_finding(review.validation))
    assert (item.finding.events, item.is_new, item.is_open) == (2, True, True)


def signed_twice(store: Store, insert: Insert) -> list[Row]:
    """Signed again with what two customers sent late; then one of them and a third send more, which is returned."""
    insert([row for row in late(2) if row.metric_key == "calls"])
    second = store.validate(SEPTEMBER.replace(as_of=ARRIVED + HOUR), prices=PRICES)
    store.sign_off(second, by="ben", rating=store.rate(second.period, prices=PRICES))
    rows = [event(who, utc(2026, 9, 17, 5, 31 + n), ingested_at=ARRIVED + 5 * HOUR) for who in (0, 2) for n in range(3)]
    insert(rows)
    return rows


def test_what_the_second_sign_off_has_is_settled_and_what_came_after_it_is_counted_once(
    store: Store, insert: Insert
) -> None:
    """Batches had events from before and after the second sign-off, so that they were counted there, too."""
    rows = signed_twice(store, insert)
    for as_of, events in ((ARRIVED + 2 * HOUR, ()), (ARRIVED + HOUR, ()), (LATER.as_of, (len(rows),))):
        found = store.validate(SEPTEMBER.replace(as_of=as_of), prices=PRICES).findings
        assert tuple(finding.events for finding in found) == events, [finding.sentence for finding in found]


def test_the_first_invoice_beside_a_second_sign_off_says_which_sign_off_it_is_of(store: Store, insert: Insert) -> None:
    """What came until it was signed again was billed by a supplement: the lines were high without a cause."""
    signed_twice(store, insert)
    first = store.signoffs()[-1]
    for given in ({}, {"prices": PRICES}):
        validation = store.validate(LATER, invoices=lines(), control=totals(), **given)
        checks = {one.check: one for one in validation.findings if one.check in ("reconciliation", "control_totals")}
        finding = checks["reconciliation"]
        assert (finding.kind, finding.severity) == ("earlier sign-off", "medium")
        assert f"signoffs {str(first.id)[:8]} --csv" in finding.sentence
        assert "2 totals of 2 customers" in finding.sentence
        assert finding.amounts == (("USD", Decimal("0.90")),)
        assert {one.severity for one in validation.findings} == {"medium"}
        assert "a part of them after the last one, which lacks it" in checks["control_totals"].sentence
        assert "the differences are both together" in finding.sentence
        before = store.validate(LATER.replace(as_of=ARRIVED + 2 * HOUR), invoices=lines(), control=totals(), **given)
        words = {one.check: one.sentence for one in before.findings}
        assert "after an earlier sign-off, and the last one includes them" in words["control_totals"]
        assert words["reconciliation"].endswith("has what came between.")
