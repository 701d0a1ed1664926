"""Invoice lines in another currency than their usage is charged in are found, whatever says which that is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pandas as pd
import pytest

from support.billing_events import CUSTOMERS, SEPTEMBER, SINCE, event, store_of
from support.check_results import examine, shown
from support.database_servers import fresh_database
from support.query_oracle import Row
from support.thoroughness import seeds
from usage_explore import Store
from usage_explore.validation import Finding

Make = Callable[[list[Row]], Store]

PEOPLE, METRICS = 12, ("calls", "seats")


@pytest.fixture(scope="module")
def store(server_url: str, _template: str) -> Iterator[Store]:
    """Ten events of either metric for each of twelve customers; the last one's are pinned to EUR, half of its seats."""
    hour = timedelta(hours=1)
    events = [
        event(who, SINCE + number * hour, metric, wallet_currency=pinned(who, metric, number))
        for who in range(PEOPLE)
        for metric in METRICS
        for number in range(10)
    ]
    with fresh_database(server_url, _template) as url, store_of(url, events) as opened:
        yield opened


def pinned(who: int, metric: str, number: int) -> str | None:
    return "EUR" if who == PEOPLE - 1 and (metric == "calls" or number % 2) else None


def billed(currencies: dict[tuple[int, str], str | None], usual: str | None = "USD", **more: Any) -> pd.DataFrame:
    """The right lines, customer by customer and calls first, in the usual currency, but for those given."""
    keys = [(who, metric) for who in range(PEOPLE) for metric in METRICS]
    return pd.DataFrame(
        {
            "customer_id": [str(CUSTOMERS[who]) for who, _ in keys],
            "metric_key": [metric for _, metric in keys],
            "quantity": ["10"] * len(keys),
            "amount": ["2.50"] * len(keys),
            "currency": [currencies.get(key, usual) for key in keys],
            **more,
        },
        dtype="str",
    )


def told(store: Store, lines: pd.DataFrame, **given: Any) -> list[Finding]:
    outcome = examine(store, "reconciliation", SEPTEMBER, invoices=lines, **given).outcome
    assert outcome is not None
    for finding in outcome.findings:
        assert finding.customer_id is None or shown(store, finding) == finding.events
    return list(outcome.findings)


def in_currencies(store: Store, lines: pd.DataFrame) -> list[Finding]:
    """The findings of currencies among those of all kinds."""
    return [each for each in told(store, lines) if "charged in" in dict(each.facts)]


def facts(finding: Finding) -> tuple[str, str, str, str]:
    given = dict(finding.facts)
    return finding.severity, given["lines"], given["charged in"], given.get("usual currency", "")


EUROS: dict[tuple[int, str], str | None] = {(PEOPLE - 1, metric): "EUR" for metric in METRICS}
"""The lines of the customer whose usage is pinned."""


@pytest.mark.parametrize("wallets", [{"default": "USD"}, {str(each): "USD" for each in CUSTOMERS}])
def test_lines_against_the_preferred_currency_are_found(store: Store, wallets: dict[str, str]) -> None:
    wrong = {**EUROS, (2, "seats"): "EUR", (5, "calls"): "GBP"}
    found = told(store, billed(wrong), wallets=wallets)
    assert sorted(map(facts, found)) == [("high", "11", "GBP", "USD"), ("high", "6", "EUR", "USD")]
    assert {(each.customer_id, each.amounts, each.events) for each in found} == {
        (CUSTOMERS[2], (("EUR", Decimal("2.50")),), 10),
        (CUSTOMERS[5], (("GBP", Decimal("2.50")),), 10),
    }
    said = "the organization's default currency is USD" if len(wallets) == 1 else "the preferred currency is USD"
    assert all(said in each.sentence for each in found)
    assert not told(store, billed(EUROS), wallets=wallets)
    assert not told(store, billed({**EUROS, (3, "calls"): "usd"}), wallets=wallets)


@pytest.mark.parametrize("wallets", [None, {"default": "USD"}])
def test_a_pinned_wallet_decides_before_any_preference(store: Store, wallets: dict[str, str] | None) -> None:
    """Seats are half pinned: with a preference for USD the other half goes there, and either currency is right."""
    found = told(store, billed({}), wallets=wallets)
    (finding,) = found
    lines = "23, 24" if wallets is None else "23"
    assert facts(finding) == ("high", lines, "USD", "EUR")
    assert "usage is pinned to wallet EUR" in finding.sentence
    assert finding.customer_id == CUSTOMERS[PEOPLE - 1]


def test_lines_that_tell_wallets_apart_are_compared_with_their_wallet(store: Store) -> None:
    wallets = [None] * (2 * PEOPLE - 2) + ["EUR"] * 2
    quantities = ["10"] * (2 * PEOPLE - 1) + ["5"]
    lines = billed({(PEOPLE - 1, "seats"): "EUR"}, wallet_currency=wallets, quantity=quantities)
    found = in_currencies(store, lines)
    assert list(map(facts, found)) == [("high", "23", "USD", "EUR")]


def test_without_a_known_wallet_the_other_lines_decide(store: Store) -> None:
    """A customer with lines of both is odd; one whose lines are all in pounds, or whose only one is in francs, may be.

    Where another customer's lines are all in pounds, too, customers have their own currencies.
    """
    wrong = {**EUROS, (2, "seats"): "EUR", (5, "calls"): "GBP", (5, "seats"): "GBP"}
    lines = billed(wrong).drop(index=[2 * 7 + 1])
    lines.loc[2 * 7, "currency"] = "CHF"
    found = in_currencies(store, lines)
    euros, francs = ("high", "6", "EUR", "USD"), ("medium", "15", "CHF", "USD")
    assert list(map(facts, found)) == [euros, ("medium", "11, 12", "GBP", "USD"), francs]
    lines.loc[[2 * 3, 2 * 3 + 1], "currency"] = "GBP"
    found = in_currencies(store, lines)
    assert list(map(facts, found)) == [euros]  # 8 of the 11 other calls in dollars are not nearly all


def test_two_lines_of_a_price_in_two_currencies_are_one_question_that_names_both(make: Make) -> None:
    """Nothing says which is wrong: the one in yen was high, "but most other lines of the customer are in EUR"."""
    usage = [event(who, SINCE + timedelta(hours=1), metric) for who in range(2) for metric in ("calls", "gb", "seats")]
    currencies = {(0, "gb"): "EUR", (1, "gb"): "JPY"}
    rows = [
        {"customer_id": str(row.customer_id), "metric_key": row.metric_key, "quantity": str(row.quantity)}
        for row in usage
    ]
    for row, used in zip(rows, usage, strict=True):
        code = currencies.get((CUSTOMERS.index(used.customer_id), used.metric_key), "EUR")
        row |= {"amount": "7", "currency": code}
    (finding,) = in_currencies(make(usage), pd.DataFrame(rows, dtype="str"))
    assert (finding.severity, finding.customer_id) == ("medium", None)
    assert dict(finding.facts)["lines"] == "2, 5"
    assert "charged in EUR (1) and JPY (1)" in finding.sentence


def test_lines_of_a_known_wallet_say_nothing_of_those_without(store: Store) -> None:
    """Pinned usage is in EUR; a fee, which is no usage, goes to the customer's own wallet, which may be another."""
    lines = billed(EUROS)
    lines = pd.concat([lines, lines.tail(1).assign(metric_key="fee", currency="USD", quantity="0")])
    assert in_currencies(store, lines) == []


def test_many_customers_with_the_same_unusual_currency_are_one_finding(store: Store) -> None:
    (finding,) = told(store, billed(EUROS), wallets={"default": "GBP"})
    assert finding.severity == "high"
    assert finding.share_of == "invoice lines"
    assert finding.customer_id is None
    assert f"22 lines of {PEOPLE - 1} customers" in finding.sentence
    assert finding.amounts == (("USD", Decimal("55.00")),)
    assert finding.events == 220


def test_amounts_without_a_currency_among_others_are_one_finding(store: Store) -> None:
    """An amount of zero needs no currency."""
    lines = billed({**EUROS, (2, "seats"): None, (5, "calls"): None, (5, "seats"): None})
    lines.loc[2 * 5 + 1, "amount"] = "0.00"
    finding = next(each for each in told(store, lines) if each.kind == "amount without a currency")
    assert (finding.severity, dict(finding.facts), finding.events) == ("medium", {"lines": "6, 11"}, 20)
    assert "2 lines of 24" in finding.sentence
    assert "charge amounts without a currency, which other lines have: line 6 and others" in finding.sentence


def test_lines_without_a_currency_are_not_compared_and_counted(store: Store) -> None:
    result = examine(store, "reconciliation", SEPTEMBER, invoices=billed({}, None), wallets={"default": "USD"})
    assert result.is_clean
    assert result.outcome is not None
    assert "currency of 24 lines with an amount not checked: none is given" in result.outcome.unchecked


def priced(**wrong: str) -> pd.DataFrame:
    """A line of each of six metrics for each of seven customers, in the metric's currency but for `wrong`: `x3_gb`."""
    lines = [(who, metric, wrong.get(f"x{who}_{metric}", code)) for who in range(7) for metric, code in SIX.items()]
    columns = ["customer_id", "metric_key", "currency"]
    frame = pd.DataFrame([(str(CUSTOMERS[who]), *rest) for who, *rest in lines], columns=columns, dtype="str")
    return frame.assign(quantity="1", amount=[str(200 + number) for number in range(len(frame))])


SIX = {"cnt": "EUR", "gb": "USD", "mn": "KWD", "req": "USD", "tok": "EUR", "vol": "JPY"}
"""The currency of each metric's price."""


def told_of(make: Make, lines: pd.DataFrame) -> list[Finding]:
    store = make([event(who, SINCE, metric) for who in range(7) for metric in SIX])
    return in_currencies(store, lines)


def test_metrics_that_all_customers_are_charged_for_in_a_currency_of_their_own_are_no_finding(make: Make) -> None:
    """Each line in JPY and KWD was high: "most other lines of the customer are in EUR", which were two of five."""
    assert told_of(make, priced()) == []


@pytest.mark.parametrize("charged", ["EUR", "CHF"])
def test_a_line_in_another_currency_than_all_others_of_its_metric_stays_high(make: Make, charged: str) -> None:
    """Most lines of the customer in EUR are no reason to charge in EUR what all others are charged in KWD."""
    (finding,) = told_of(make, priced(x4_mn=charged))
    assert facts(finding) == ("high", "27", charged, "KWD")
    assert "most other lines of the price are in KWD" in finding.sentence


def test_a_metric_in_another_currency_than_nearly_all_lines_is_one_medium_finding(make: Make) -> None:
    """Is it the price's own currency, or wrong for all? Nothing here says that."""
    lines = priced().replace({"currency": {"USD": "EUR", "KWD": "EUR"}})
    (finding,) = told_of(make, lines)
    assert facts(finding) == ("medium", "6, 12, 18, 24, 30, 36, 42", "JPY", "EUR")
    assert "7 lines of 7 customers" in finding.sentence
    words = "but most other lines of these customers are in EUR; others' lines of the price are charged alike: line 6"
    assert words in finding.sentence


def test_the_currency_of_other_customers_excuses_no_line_where_customers_have_their_own(make: Make) -> None:
    """All lines of two customers are in dollars, those of the others in euros: one of gb in euros is wrong for each."""
    lines = priced().assign(currency=["EUR"] * 30 + ["USD"] * 12)
    lines.loc[[31, 37], "currency"] = "EUR"
    assert sorted(map(facts, told_of(make, lines))) == [("high", "32", "EUR", "USD"), ("high", "38", "EUR", "USD")]


@pytest.fixture(scope="module")
def of_metrics(server_url: str, _template: str) -> Iterator[Store]:
    """An event of each of six metrics for each of seven customers."""
    events = [event(who, SINCE, metric) for who in range(7) for metric in SIX]
    with fresh_database(server_url, _template) as url, store_of(url, events) as opened:
        yield opened


ALL = range(7)
EURUSD = {**dict.fromkeys(SIX, "EUR"), "gb": "USD", "req": "USD"}

CASES: dict[str, tuple[dict[str, str], dict[int, str], dict[str, str | None], list[tuple[str, ...]]]] = {
    "right, two own": (SIX, dict.fromkeys((5, 6), "INR"), {}, []),
    "right, three own": (SIX, dict.fromkeys((0, 3, 6), "INR"), {}, []),
    "right, most own": (SIX, dict.fromkeys(range(2, 7), "INR"), {}, []),
    "right, own in a metric's": (SIX, dict.fromkeys((5, 6), "EUR"), {}, []),
    "right, own of two kinds": (SIX, {3: "GBP", 4: "GBP", 5: "INR", 6: "INR"}, {}, []),
    "right, two metrics": ({"cnt": "USD", "gb": "EUR"}, dict.fromkeys((3, 4), "GBP"), {}, []),
    "right, two metrics, most own": (
        {"cnt": "USD", "gb": "EUR"},
        dict.fromkeys(range(2, 7), "GBP"),
        {},
        [("medium", "1, 2, 3, 4", "EUR (2) and USD (2)", "")],
    ),
    "right, three metrics, most own": (
        {"cnt": "USD", "gb": "EUR", "mn": "EUR"},
        dict.fromkeys(range(2, 7), "GBP"),
        {},
        [("medium", "1, 4", "USD", "")],
    ),
    "right, nearly all in one": (
        EURUSD,
        dict.fromkeys((5, 6), "INR"),
        {},
        [("medium", "2, 4, 8, 10, 14, 16, 20, 22, 26, 28", "USD", "EUR")],
    ),
    "one alone": (
        SIX,
        {6: "INR"},
        {},
        [("medium", "37, 38, 39, 40, 41, 42", "INR", "EUR, JPY, KWD and USD")],
    ),
    "wrong, a metric's": (
        SIX,
        dict.fromkeys((5, 6), "INR"),
        {"x2_mn": "EUR"},
        [("high", "15", "EUR", "KWD")],
    ),
    "wrong, in that of the own": (
        SIX,
        dict.fromkeys((5, 6), "INR"),
        {"x2_mn": "INR"},
        [("high", "15", "INR", "KWD")],
    ),
    "wrong, own in its metric's": (
        SIX,
        dict.fromkeys((5, 6), "INR"),
        {"x5_req": "USD"},
        [("high", "34", "USD", "INR")],
    ),
    "wrong, own in another": (
        SIX,
        dict.fromkeys((5, 6), "INR"),
        {"x5_req": "CHF"},
        [("high", "34", "CHF", "INR")],
    ),
    "wrong, a small customer's": (
        SIX,
        dict.fromkeys((5, 6), "INR"),
        {"x4_cnt": None, "x4_gb": None, "x4_req": None, "x4_tok": None, "x4_mn": "EUR"},
        [("high", "25", "EUR", "KWD")],
    ),
    "right, a small customer's": (
        SIX,
        dict.fromkeys((5, 6), "INR"),
        {"x6_cnt": None, "x6_gb": None, "x6_req": None, "x6_tok": None},
        [],
    ),
    "wrong, nearly all in one": (
        EURUSD,
        dict.fromkeys((5, 6), "INR"),
        {"x0_req": "EUR"},
        [("high", "4", "EUR", "USD"), ("medium", "2, 8, 10, 14, 16, 20, 22, 26, 28", "USD", "EUR")],
    ),
    "wrong, two metrics": (
        {"cnt": "USD", "gb": "EUR"},
        dict.fromkeys((3, 4), "GBP"),
        {"x3_gb": "EUR"},
        [("medium", "7, 8", "EUR (1) and GBP (1)", "")],
    ),
    "two customers alone": (
        SIX,
        {},
        {f"x{who}_{metric}": None for who in range(2, 7) for metric in SIX} | {"x1_mn": "EUR"},
        [("medium", "3, 9", "EUR (1) and KWD (1)", "")],
    ),
    "right, a line missing, three alone in a metric's": (
        {"cnt": "KWD", "gb": "EUR"},
        {0: "GBP", 2: "USD"},
        {"x3_cnt": None} | {f"x{who}_{metric}": None for who in range(4, 7) for metric in ("cnt", "gb")},
        [("medium", "3", "KWD", "")],
    ),
    "right, a metric of one line": (
        {"cnt": "EUR", "gb": "KWD"},
        {},
        {f"x{who}_gb": None for who in range(6)},
        [("medium", "8", "KWD", "")],
    ),
    "wrong, in that of an own: with it, or without, one line is left": (
        {"cnt": "KWD", "gb": "EUR"},
        {0: "GBP", 2: "USD"},
        {"x1_gb": "USD"} | {f"x{who}_{metric}": None for who in range(4, 7) for metric in ("cnt", "gb")},
        [("medium", "4, 8", "EUR (1) and USD (1)", "")],
    ),
    "wrong, one of a metric's two lines": (
        {"cnt": "KWD", "gb": "USD", "mn": "KWD", "req": "USD"},
        {1: "CHF"},
        {"x2_gb": "KWD"} | {f"x{who}_{metric}": None for who in range(3, 7) for metric in SIX},
        [("medium", "12", "USD", "KWD"), ("medium", "2, 10", "KWD (1) and USD (1)", "")],
    ),
}

"""The currencies of metrics, those of customers with their own, lines that differ (None: no line), what is found."""


@pytest.mark.parametrize("case", CASES)
def test_prices_and_customers_may_both_have_currencies_of_their_own(of_metrics: Store, case: str) -> None:
    """A line is in the currency of its customer, if that one has its own, else of its price."""
    metrics, own, wrong, expected = CASES[case]
    assert sorted(map(facts, of_own(of_metrics, metrics, own, wrong))) == expected


@pytest.mark.parametrize("seed", seeds(range(6)))
def test_of_prices_and_customers_of_any_currency_the_one_wrong_line_alone_is_high(of_metrics: Store, seed: int) -> None:
    random = Random(seed)
    metrics = {metric: random.choice(["EUR", "JPY", "USD"]) for metric in SIX}
    own = dict.fromkeys(random.sample(ALL, random.choice([0, 2, 3])), "GBP")
    assert {each.severity for each in of_own(of_metrics, metrics, own, {})} <= {"medium"}
    who, number = random.choice(ALL), random.randrange(len(SIX))
    found = of_own(of_metrics, metrics, own, {f"x{who}_{[*SIX][number]}": "CHF"})
    (high,) = (facts(each) for each in found if each.severity == "high")
    assert high[1:3] == (str(who * len(SIX) + number + 1), "CHF")


def of_own(store: Store, metrics: dict[str, str], own: dict[int, str], wrong: dict[str, str | None]) -> list[Finding]:
    lines = [
        (str(CUSTOMERS[who]), metric, wrong.get(f"x{who}_{metric}", own.get(who, code)))
        for who in ALL
        for metric, code in metrics.items()
    ]
    columns = ["customer_id", "metric_key", "currency"]
    frame = pd.DataFrame([line for line in lines if line[2]], columns=columns, dtype="str")
    frame = frame.assign(quantity="1", amount=[str(200 + number) for number in range(len(frame))])
    return in_currencies(store, frame)
