"""Reconciliation finds every difference between lines and usage, and nothing else, as plain Python does."""

from __future__ import annotations

import dataclasses
import random
import uuid
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support import billing_events, demo_database, generated_events
from support.check_results import examine, found, shown
from support.database_servers import fresh_database
from support.query_oracle import EXACT, Row, utc
from usage_explore import EventQuery, Store, connect
from usage_explore.db import ddl
from usage_explore.decimals import plain
from usage_explore.demo import files
from usage_explore.query.queries import Period
from usage_explore.validation import Result
from usage_explore.validation.reconciliation.amounts import decimal
from usage_explore.validation.reconciliation.invoices import read_invoices

NAME = "reconciliation"
SINCE, UNTIL = utc(2026, 3, 1), utc(2026, 11, 10)
FINALIZED = utc(2026, 11, 2, 12)
PERIOD = Period(since=SINCE, until=UNTIL, finalized_at=FINALIZED)
COLUMNS = ("subscription_id", "metric_key", "price_key", "wallet_currency")
SUBSCRIPTIONS = [uuid.UUID(int=0xE0 + number) for number in range(2)]

Key = tuple[Any, ...]


def prepared(generated: list[Row]) -> list[Row]:
    """The generated rows with subscriptions, some sent again: within a key, late, and over the period's edge."""
    draw = random.Random(3)
    found = [dataclasses.replace(row, subscription_id=draw.choice([*SUBSCRIPTIONS, None])) for row in generated]
    within = [
        row for row in found if row.organization_id == generated_events.ORGANIZATION and SINCE <= row.timestamp < UNTIL
    ]
    again = [
        dataclasses.replace(
            row,
            id=uuid.UUID(int=draw.getrandbits(128)),
            ingested_at=min(row.ingested_at + timedelta(days=draw.choice([0, 0, 3])), generated_events.LAST_INGESTED),
        )
        for row in draw.sample(within, 60)
    ]
    edge = [
        dataclasses.replace(row, id=uuid.UUID(int=draw.getrandbits(128)), timestamp=SINCE + timedelta(minutes=number))
        for number, row in enumerate(within[:3])
        for row in (dataclasses.replace(row, timestamp=SINCE - timedelta(minutes=number + 1), quantity=Decimal(7)), row)
    ]
    return [*found, *again, *edge]


@pytest.fixture(scope="module")
def events(generated: list[Row]) -> list[Row]:
    return prepared(generated)


@pytest.fixture(scope="module")
def store(server_url: str, _template: str, events: list[Row]) -> Iterator[Store]:
    with fresh_database(server_url, _template) as url:
        with ddl.connect(url) as connection:
            generated_events.insert(connection, events)
        with connect(url, generated_events.ORGANIZATION) as opened:
            yield opened


@pytest.fixture(scope="module")
def own(events: list[Row]) -> list[Row]:
    return [row for row in events if row.organization_id == generated_events.ORGANIZATION]


def within(own: list[Row]) -> list[Row]:
    return [row for row in own if SINCE <= row.timestamp < UNTIL]


def key_of(row: Row, columns: tuple[str, ...]) -> Key:
    return (row.customer_id, *(getattr(row, name) for name in columns))


def summed(values: Any) -> Decimal:
    total = Decimal(0)
    for value in values:
        total = EXACT.add(total, value)
    return total


def usage_of(own: list[Row], columns: tuple[str, ...]) -> dict[Key, Decimal]:
    by_key = defaultdict(list)
    for row in within(own):
        by_key[key_of(row, columns)].append(row.quantity)
    return {key: summed(quantities) for key, quantities in by_key.items()}


def superfluous(own: list[Row]) -> set[uuid.UUID]:
    by_key = defaultdict(list)
    for row in own:
        by_key[row.customer_id, row.idempotency_key].append(row)
    return {
        row.id
        for group in by_key.values()
        for row in sorted(group, key=lambda row: (row.ingested_at, row.timestamp, row.id.int))[1:]
    }


def frame(lines: list[tuple[Key, Decimal]], columns: tuple[str, ...], **more: Any) -> pd.DataFrame:
    """Lines as a biller's file has them, all text."""
    cells = {
        name: [None if key[place] is None else str(key[place]) for key, _ in lines]
        for place, name in enumerate(("customer_id", *columns))
    }
    return pd.DataFrame({**cells, "quantity": [plain(quantity) for _, quantity in lines], **more}, dtype="str")


def reconciled(store: Store, invoices: Any, period: Period = PERIOD, **given: object) -> Result:
    return examine(store, NAME, period, invoices=invoices, **given)


def sheet(result: Result) -> pd.DataFrame:
    assert result.outcome is not None
    assert result.outcome.sheet is not None
    return result.outcome.sheet


def statuses(result: Result, columns: tuple[str, ...]) -> dict[Key, str]:
    found = {}
    for row in sheet(result).to_dict("records"):
        key = tuple(None if pd.isna(row[name]) else row[name] for name in ("customer_id", *columns))
        assert key not in found
        found[key] = row["status"]
    return found


def texts(key: Key) -> Key:
    return tuple(None if part is None else str(part) for part in key)


columns_chosen = st.sampled_from(
    [("metric_key",), ("price_key",), ("subscription_id", "metric_key"), ("metric_key", "wallet_currency"), COLUMNS]
)


@pytest.mark.parametrize("columns", [("metric_key",), ("subscription_id", "metric_key"), COLUMNS])
def test_lines_made_from_the_usage_match_entirely(store: Store, own: list[Row], columns: tuple[str, ...]) -> None:
    result = reconciled(store, frame(list(usage_of(own, columns).items()), columns))
    assert result.is_clean
    table = sheet(result)
    assert set(table["status"]) == {"matched"}
    total = summed(row.quantity for row in within(own))
    assert summed(table["invoiced"]) == summed(table["recomputed"]) == total
    assert table["events"].sum() == len(within(own))
    assert not any(table["difference"])
    assert result.outcome is not None
    assert result.outcome.looked_at == len(table)


@dataclass(frozen=True)
class Tampering:
    kind: str
    place: int
    digit: int


tamperings = st.lists(
    st.builds(
        Tampering,
        kind=st.sampled_from(["drop", "add", "nudge", "double", "split", "negate"]),
        place=st.integers(0, 10_000),
        digit=st.integers(1, 9),
    ),
    max_size=6,
)


def tampered(lines: list[tuple[Key, Decimal]], changes: list[Tampering]) -> list[tuple[Key, Decimal]]:
    found = list(lines)
    for change in changes:
        if not found:
            return found
        at = change.place % len(found)
        key, quantity = found[at]
        nudge = Decimal(change.digit).scaleb(-12)
        match change.kind:
            case "drop":
                del found[at]
            case "add":
                found.append(((uuid.UUID(int=0xF0 + change.digit), *key[1:]), Decimal(change.digit)))
            case "nudge":
                found[at] = key, EXACT.add(quantity, nudge)
            case "double":
                found.append((key, quantity))
            case "split":
                found[at] = key, nudge
                found.append((key, EXACT.subtract(quantity, nudge)))
            case "negate":
                found[at] = key, quantity.copy_negate()
    return found


def expected(
    usage: dict[Key, Decimal], lines: list[tuple[Key, Decimal]], tolerance: Fraction = Fraction(0)
) -> dict[Key, str]:
    """The status of each key, in fractions."""
    billed: dict[Key, Fraction] = defaultdict(Fraction)
    for key, quantity in lines:
        billed[key] += Fraction(quantity)
    found = {}
    for key in {*usage, *billed}:
        difference = billed.get(key, Fraction(0)) - Fraction(usage.get(key, 0))
        if abs(difference) <= tolerance:
            status = "matched"
        elif key not in billed:
            status = "missing"
        elif key not in usage:
            status = "extra"
        else:
            status = "over-billed" if difference > 0 else "under-billed"
        found[texts(key)] = status
    return found


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(columns=columns_chosen, changes=tamperings, tolerance=st.sampled_from(["0", "0", "0.000000000004", "2"]))
def test_every_tampering_is_found_with_its_status(
    store: Store, own: list[Row], columns: tuple[str, ...], changes: list[Tampering], tolerance: str
) -> None:
    usage = usage_of(own, columns)
    if columns == ("price_key",):  # a line has to say what it bills
        usage = {key: quantity for key, quantity in usage.items() if key[1] is not None}
    period = PERIOD if columns != ("price_key",) else PERIOD.replace(exclude={"missing": ["price_key"]})
    lines = tampered(list(usage.items()), changes)
    result = reconciled(store, read_invoices(frame(lines, columns), tolerance=tolerance), period)
    assert statuses(result, columns) == expected(usage, lines, Fraction(tolerance))
    table = sheet(result)
    assert summed(value for value in table["invoiced"] if value is not None) == summed(each for _, each in lines)
    assert summed(value for value in table["recomputed"] if value is not None) == summed(usage.values())
    assert summed(table["difference"]) == EXACT.subtract(summed(each for _, each in lines), summed(usage.values()))
    assert result.outcome is not None
    differing = table[table["status"] != "matched"]
    assert bool(result.outcome.findings) == bool(len(differing))
    assert sum(finding.events for finding in result.outcome.findings) == differing["events"].sum()
    for finding in result.outcome.findings:
        # of several customers, or of several totals with one factor: there is no filter on pairs of values
        if finding.customer_id is None or finding.kind.startswith("factor"):
            assert shown(store, finding) >= finding.events, finding
        elif "wallet_currency" not in columns or finding.wallet_currency or finding.events:
            assert shown(store, finding) == finding.events, finding


@pytest.mark.parametrize("columns", [("metric_key",), COLUMNS])
def test_late_events_and_duplicates_explain_exactly_what_they_account_for(
    store: Store, own: list[Row], columns: tuple[str, ...]
) -> None:
    """Bill what was known at finalization, without duplicates, or both: the sheet says which, where it can tell."""
    usage, again = usage_of(own, columns), superfluous(own)
    billers = {
        "late events": lambda row: row.ingested_at <= FINALIZED,
        "duplicates": lambda row: row.id not in again,
        "late events and duplicates": lambda row: row.ingested_at <= FINALIZED and row.id not in again,
    }
    by_key: dict[Key, list[Row]] = defaultdict(list)
    for row in within(own):
        by_key[key_of(row, columns)].append(row)
    explained = set()
    for billed in billers.values():
        lines = [(key, summed(row.quantity for row in group if billed(row))) for key, group in by_key.items()]
        result = reconciled(store, frame(lines, columns))
        invoiced = dict(lines)
        for told in sheet(result).to_dict("records"):
            key = next(each for each in by_key if texts(each) == texts_of(told, columns))
            if told["status"] == "matched":
                assert told["explained_by"] == ""
                continue
            accounts = [
                name
                for name, counted in billers.items()
                if summed(row.quantity for row in by_key[key] if counted(row)) == invoiced[key] != usage[key]
            ]
            assert told["explained_by"] == accounts[0]
            explained.add(told["explained_by"])
        assert result.outcome is not None
        assert {finding.severity for finding in result.outcome.findings} <= {"medium"}
    assert explained == set(billers) if columns == ("metric_key",) else explained


def texts_of(told: dict[str, Any], columns: tuple[str, ...]) -> Key:
    return tuple(None if pd.isna(told[name]) else told[name] for name in ("customer_id", *columns))


def test_nothing_less_than_the_whole_difference_explains_it(store: Store, own: list[Row]) -> None:
    columns = ("metric_key",)
    known = [row for row in own if row.ingested_at <= FINALIZED]
    lines = [(key, EXACT.add(quantity, Decimal("1e-12"))) for key, quantity in usage_of(known, columns).items()]
    result = reconciled(store, frame(lines, columns))
    assert set(sheet(result)["explained_by"]) == {""}
    assert result.outcome is not None
    assert {finding.severity for finding in result.outcome.findings} == {"high"}
    near = reconciled(store, read_invoices(frame(lines, columns), tolerance="1e-12"))
    assert set(sheet(near)["explained_by"]) == {"late events"}
    assert near.outcome is not None
    assert {finding.severity for finding in near.outcome.findings} == {"medium"}


@pytest.mark.parametrize("rounding", [ROUND_FLOOR, ROUND_HALF_EVEN])
def test_findings_say_that_all_lines_may_merely_be_rounded(store: Store, own: list[Row], rounding: str) -> None:
    columns = ("metric_key",)
    cent = Decimal("0.01")
    lines = [
        (key, quantity.quantize(cent, rounding=rounding, context=EXACT))
        for key, quantity in usage_of(own, columns).items()
    ]
    places = max(len(plain(quantity).partition(".")[2]) for _, quantity in lines)
    unit = plain(Decimal(1).scaleb(-places))
    hint = f"no total of lines differs from its usage by {unit}, one unit of the invoices' last decimal per line, or"
    rounded = reconciled(store, frame(lines, columns)).outcome
    assert rounded is not None
    assert rounded.findings
    assert [finding.sentence for finding in rounded.findings if hint not in finding.sentence] == []
    assert reconciled(store, read_invoices(frame(lines, columns), tolerance=cent)).is_clean
    (key, quantity), *others = lines
    wrong = reconciled(store, frame([(key, EXACT.add(quantity, 2 * cent)), *others], columns)).outcome
    assert wrong is not None
    assert not any("last decimal" in finding.sentence for finding in wrong.findings)


def test_usage_without_a_wallet_goes_where_the_preferences_send_it(store: Store, own: list[Row]) -> None:
    columns = ("metric_key", "wallet_currency")
    preferences = {
        str(generated_events.CUSTOMERS[0]): "EUR",
        str(generated_events.CUSTOMERS[1]): "GBP",
        "default": "USD",
    }
    billed: dict[Key, Decimal] = {}
    for (customer, metric, wallet), quantity in usage_of(own, columns).items():
        key = customer, metric, wallet or preferences.get(str(customer), "USD")
        billed[key] = EXACT.add(billed.get(key, Decimal(0)), quantity)
    lines = frame(list(billed.items()), columns)
    assert reconciled(store, lines, wallets=preferences).is_clean
    unsent = reconciled(store, lines)
    assert not unsent.is_clean
    assert unsent.outcome is not None
    assert "without a wallet" in unsent.outcome.note


def test_lines_of_other_periods_are_left_aside_and_said(store: Store, own: list[Row]) -> None:
    columns = ("metric_key",)
    usage = list(usage_of(own, columns).items())
    ends = [(SINCE.isoformat(), UNTIL.isoformat())] * len(usage)
    other = (generated_events.CUSTOMERS[0], "tokens_in"), Decimal(5)
    lines = frame(
        [*usage, other, other],
        columns,
        period_start=[start for start, _ in ends] + ["2026-11-10T00:00:00Z", "2026-11-01T00:00:00Z"],
        period_end=[end for _, end in ends] + ["2026-11-11T00:00:00Z", "2026-11-11T00:00:00Z"],
    )
    result = reconciled(store, lines)
    assert result.is_clean
    assert result.outcome is not None
    assert "1 line of other periods, quantity 5, was not compared." in result.outcome.note
    assert "1 line of periods that reach beyond this one, quantity 5, was not compared." in result.outcome.note
    elsewhere = reconciled(store, lines, Period(since="2026-11-11T00:00:00Z", until="2026-11-12T00:00:00Z"))
    assert elsewhere.outcome is not None
    (finding,) = elsewhere.outcome.findings
    assert finding.severity == "high"
    assert "of other periods" in finding.sentence


@pytest.mark.parametrize(
    ("start", "end", "compared"),
    [
        (date(2026, 9, 1), date(2026, 10, 1), True),
        (date(2026, 9, 1), date(2026, 9, 30), True),
        (date(2026, 9, 30), date(2026, 9, 30), True),
        (date(2026, 8, 1), date(2026, 9, 1), False),
        (date(2026, 8, 1), date(2026, 8, 31), False),
        (date(2026, 10, 1), date(2026, 10, 31), False),
        (date(2026, 8, 31), date(2026, 9, 30), False),
    ],
)
def test_dates_are_midnights_of_the_periods_zone(store: Store, start: date, end: date, compared: bool) -> None:
    period = Period(since="2026-08-31T22:00:00Z", until="2026-09-30T22:00:00Z", timezone="Europe/Berlin")
    line = frame(
        [((generated_events.CUSTOMERS[0], "m"), Decimal(1))], ("metric_key",), period_start=start, period_end=end
    )
    result = reconciled(store, line, period)
    assert result.outcome is not None
    assert (result.outcome.sheet is not None and list(sheet(result)["lines"]) == [1]) == compared


def test_a_filtered_period_compares_the_lines_that_pass_it(store: Store, own: list[Row]) -> None:
    columns = ("metric_key", "price_key")
    lines = frame(list(usage_of(own, columns).items()), columns)
    for filters in (
        {"customer_id": generated_events.CUSTOMERS[1]},
        {"metric_key": ["tokens_in", "Other"]},
        {"missing": ["price_key"]},
        {"exclude": {"price_key": ["p1"], "metric_key": ["a,b"]}},
        {"exclude": {"missing": ["price_key"]}, "price_key": "p2"},
    ):
        result = reconciled(store, lines, PERIOD.replace(**filters))
        assert result.is_clean, filters
        assert len(sheet(result)) > 0
        assert result.outcome is not None
        assert "excluded by the period's filters" in result.outcome.note
    untold = reconciled(store, lines, PERIOD.replace(dimensions={"model": "Other"}))
    assert untold.outcome is not None
    (finding,) = untold.outcome.findings
    assert (finding.severity, untold.outcome.sheet) == ("high", None)
    assert "model" in finding.sentence


def test_nothing_is_high_while_the_period_is_not_over(store: Store) -> None:
    until = store.now() + timedelta(days=2)
    result = reconciled(
        store,
        frame([((generated_events.CUSTOMERS[0], "m"), Decimal(1))], ("metric_key",)),
        Period(since=SINCE, until=until),
    )
    assert result.outcome is not None
    assert {finding.severity for finding in result.outcome.findings} == {"medium"}
    assert "The period is not over" in result.outcome.note


def test_a_difference_is_worth_its_quantity_at_the_lines_own_price(store: Store, own: list[Row]) -> None:
    columns = ("metric_key",)
    usage = {key: quantity for key, quantity in usage_of(own, columns).items() if key[1] == "tokens_in"}
    lines = [(key, EXACT.add(quantity, Decimal("0.25"))) for key, quantity in usage.items()]
    amounts = [plain(EXACT.multiply(quantity, Decimal("0.003"))) for _, quantity in lines]
    period = PERIOD.replace(metric_key="tokens_in")
    table = sheet(reconciled(store, frame(lines, columns, amount=amounts, currency="EUR"), period))
    assert set(table["amount_difference"]) == {Decimal("0.00075")}
    assert set(table["currency"]) == {"EUR"}
    dropped = reconciled(store, frame(lines[1:], columns, amount=amounts[1:], currency="EUR"), period)
    (missing,) = [row for row in sheet(dropped).to_dict("records") if row["status"] == "missing"]
    assert missing["amount_difference"] == EXACT.multiply(usage[lines[0][0]], Decimal("-0.003"))
    assert dropped.outcome is not None
    (told,) = [finding for finding in dropped.outcome.findings if "no invoice line" in finding.sentence]
    assert told.amounts == (("EUR", missing["amount_difference"].copy_abs()),)
    assert told.quantity == usage[lines[0][0]].copy_abs()


@given(st.fractions(max_denominator=10**6))
def test_a_decimal_is_exact_where_there_is_one_and_else_to_twelve_decimals(value: Fraction) -> None:
    error = abs(Fraction(decimal(value)) - value)
    rest = value.denominator
    for factor in (2, 5):
        while rest % factor == 0:
            rest //= factor
    assert error == 0 if rest == 1 else error <= Fraction(1, 2 * 10**12)


def test_lines_of_one_price_with_other_unit_prices_are_found(store: Store) -> None:
    """Rounded to cents they agree; one that does not is named, with the usual one."""
    quantities = [Decimal(number) for number in (3, 7, 10, 101, 999)]
    amounts = ["0.33", "0.78", "1.11", "11.21", "110.89"]
    lines = [((generated_events.CUSTOMERS[place % 4], "gone"), quantity) for place, quantity in enumerate(quantities)]
    clean = reconciled(store, frame(lines, ("price_key",), amount=amounts, currency="EUR"))
    assert clean.outcome is not None
    assert not any("unit price" in finding.sentence for finding in clean.outcome.findings)
    amounts[3] = "11.31"
    odd = reconciled(store, frame(lines, ("price_key",), amount=amounts, currency="EUR"))
    assert odd.outcome is not None
    (told,) = [finding for finding in odd.outcome.findings if "unit price" in finding.sentence]
    assert (told.severity, told.price_key, told.customer_id) == ("medium", "gone", generated_events.CUSTOMERS[3])
    assert "1 line of 5 of price gone" in told.sentence
    assert told.facts == (("deviating lines", "4"),)
    assert (told.share, told.share_of) == (Decimal("0.2"), "lines of price gone")
    amounts[3] = "22.42"
    doubled = reconciled(store, frame(lines, ("price_key",), amount=amounts, currency="EUR"))
    assert doubled.outcome is not None
    (told,) = [finding for finding in doubled.outcome.findings if "unit price" in finding.sentence]
    assert (told.severity, told.facts) == (
        "high",
        (("deviating lines", "4"), ("charged twice or more, or with the other sign", "4")),
    )
    two = reconciled(store, frame(lines[:2], ("price_key",), amount=["0.33", "7.80"], currency="EUR"))
    assert two.outcome is not None
    (told,) = [finding for finding in two.outcome.findings if finding.kind == "unit price"]
    assert (told.severity, told.customer_id, told.facts) == ("medium", None, (("deviating lines", "1, 2"),))
    words = "0.11 EUR (line 1) and 1.11428571429 EUR (line 2) a unit: which is right, the lines do not tell."
    assert told.sentence.endswith(f"are charged at about {words}")
    assert told.sentence.startswith("2 lines of price gone, ")


def test_many_differences_are_findings_up_to_a_hundred_and_all_in_the_sheet(store: Store) -> None:
    lines = [((uuid.UUID(int=10_000 + number), "x"), Decimal(number + 1)) for number in range(300)]  # unknown customers
    amounts = [f"{quantity}.00" for _, quantity in lines]
    result = reconciled(store, frame(lines, ("metric_key",), amount=amounts, currency="EUR"), PERIOD)
    assert result.outcome is not None
    (further,) = (finding for finding in result.outcome.findings if finding.kind == "further totals")
    omitted = [finding for finding in result.outcome.findings if finding.kind == "metric without a line"]
    listed = [finding for finding in result.outcome.findings if finding not in (further, *omitted)]
    assert len(listed) == 100
    assert further.severity == "high"
    assert further.sentence.startswith("200 further totals of 200 customers, ")
    assert "0 events, 40,100.00 EUR too much" in further.sentence
    events = [finding.events for finding in omitted]
    late = store.count(EventQuery(occurred_after=SINCE, occurred_before=UNTIL, ingested_after=FINALIZED))
    assert sum(events) == sheet(result)["events"].sum() + late, "the sheet has those of the compared quantity"
    assert further.amounts == further.too_high == (("EUR", Decimal(40_100)),)
    assert "200 more differences, see the sheet, 0 events, 40,100.00 EUR too much." in result.outcome.note
    assert {finding.share_of for finding in listed} == {"quantity of x"}
    assert (sheet(result)["status"] == "extra").sum() == 300


def test_what_lines_and_metrics_hold_breaks_no_sentence(store: Store) -> None:
    hostile = ["\x1b[2J", "\u202e", "a\nb", "<script>", "x" * 1_024, "'; DROP TABLE usage_events; --"]
    lines = [((generated_events.CUSTOMERS[0], text), Decimal(1)) for text in hostile]
    result = reconciled(store, frame(lines, ("metric_key",)))
    assert result.outcome is not None
    for finding in result.outcome.findings:
        assert finding.sentence.isprintable()
        assert len(finding.sentence) < 600
        assert len(finding.metric_key or "") > 1_000 or shown(store, finding) == finding.events


def test_usage_that_has_no_exact_sum_cannot_be_compared(events_database_url: str, own: list[Row]) -> None:
    odd = dataclasses.replace(within(own)[0], quantity=Decimal("NaN"))
    with ddl.connect(events_database_url) as connection:
        generated_events.insert(connection, [odd])
    with connect(events_database_url, generated_events.ORGANIZATION) as store:
        lines = frame([((odd.customer_id, odd.metric_key), Decimal(1))], ("metric_key",))
        result = reconciled(store, lines)
        assert list(sheet(result)["status"]) == ["not comparable"]
        assert result.outcome is not None
        (finding,) = result.outcome.findings
        assert (finding.severity, shown(store, finding)) == ("high", 1)


def test_what_is_late_and_repeats_a_key_is_told_once(events_database_url: str) -> None:
    hour, late = timedelta(hours=1), {"ingested_at": billing_events.UNTIL + timedelta(days=2)}
    first = [billing_events.event(0, billing_events.SINCE + number * hour) for number in range(100)]
    copies = [dataclasses.replace(row, id=uuid.uuid4(), ingested_at=row.ingested_at + hour) for row in first[:25]]
    both = [dataclasses.replace(row, id=uuid.uuid4(), **late) for row in first[:20]]
    late_ones = [billing_events.event(0, billing_events.SINCE + number * hour, **late) for number in range(7)]
    with billing_events.store_of(events_database_url, [*first, *copies, *both, *late_ones]) as store:
        lines = frame([((billing_events.CUSTOMERS[0], "calls"), Decimal(100))], ("metric_key",))
        period = billing_events.SEPTEMBER.replace(finalized_at=billing_events.UNTIL + timedelta(days=1))
        (finding,) = store.validate(period, checks=[NAME], invoices=lines).findings
        assert finding.quantity == 52
        assert "27 events that arrived after finalization and 25 events before that repeated" in finding.sentence


def test_usage_without_a_line_that_has_no_exact_sum_is_not_called_invoiced(events_database_url: str) -> None:
    odd, other = (
        billing_events.event(who, billing_events.SINCE, quantity=Decimal(number))
        for who, number in ((0, "NaN"), (1, "1"))
    )
    with billing_events.store_of(events_database_url, [odd, other]) as store:
        lines = frame([((other.customer_id, other.metric_key), Decimal(1))], ("metric_key",))
        result = reconciled(store, lines, billing_events.SEPTEMBER)
        assert result.outcome is not None
        (finding,) = result.outcome.findings
        assert "has no invoice line for calls" in finding.sentence
        assert "invoiced" not in finding.sentence
        assert "NaN or infinite" in finding.sentence


@pytest.mark.parametrize(("customers", "together"), [(10, False), (11, True), (30, True)])
def test_an_invoice_that_lacks_most_customers_is_one_finding(
    events_database_url: str, customers: int, together: bool
) -> None:
    hour, draw = timedelta(hours=1), random.Random(customers)
    events = [
        billing_events.event(
            who,
            billing_events.SINCE + number * hour,
            draw.choice(["calls", "seats"]),
            quantity=Decimal(number),
            subscription_id=draw.choice(SUBSCRIPTIONS),
        )
        for who in range(customers + 2)
        for number in range(20)
    ]
    columns = ("subscription_id", "metric_key")
    used: dict[Key, Decimal] = defaultdict(Decimal)
    for row in events:
        used[key_of(row, columns)] += row.quantity
    lines = [item for item in used.items() if item[0][0] in billing_events.CUSTOMERS[:2]]
    with billing_events.store_of(events_database_url, events) as store:
        result = reconciled(store, frame(lines, columns), billing_events.SEPTEMBER)
        assert result.outcome is not None
        findings = result.outcome.findings
        assert sum(each.events for each in findings) == customers * 20
        assert (sheet(result)["status"] == "missing").sum() == len(used) - len(lines)
        if not together:
            assert len({each.customer_id for each in findings}) == customers
            return
        (finding,) = findings
        assert (finding.severity, finding.events, shown(store, finding)) == ("high", customers * 20, customers * 20)
        assert f"{customers} of {customers + 2} customers with usage" in finding.sentence
        assert f"in {len(used) - len(lines)} totals" in finding.sentence
        lacking = {
            metric: sum(
                each for key, each in used.items() if key[2] == metric and key[0] not in billing_events.CUSTOMERS[:2]
            )
            / sum(each for key, each in used.items() if key[2] == metric)
            for metric in ("calls", "seats")
        }
        assert finding.share == max(lacking.values())
        assert finding.share_of == f"quantity of {max(lacking, key=lambda metric: lacking[metric])}"
        half = billing_events.SEPTEMBER.replace(
            metric_key="seats", exclude={"customer_id": str(billing_events.CUSTOMERS[0])}
        )
        (other,) = reconciled(store, frame(lines, columns), half).outcome.findings  # type: ignore[union-attr]
        assert shown(store, other) == other.events
        assert other.quantity == store.aggregate(other.question).total  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def demo_store(demo_url: str) -> Iterator[Store]:
    with connect(demo_url, demo_database.ACME) as opened:
        yield opened


def test_the_demo_invoice_survives_a_file(demo_store: Store, tmp_path: Path) -> None:
    lines = files.invoice_lines(demo_store, Period(**demo_database.WINDOW, finalized_at="2026-09-29T02:00:00Z"))
    lines.to_csv(tmp_path / "invoice.csv", index=False)
    of_file, of_frame = read_invoices(tmp_path / "invoice.csv"), read_invoices(lines)
    assert [line[1:] for line in of_file.lines] == [line[1:] for line in of_frame.lines]
    assert of_file.ignored == ()


def test_the_demo_invoice_differs_by_its_mistakes_and_what_arrived_late(demo_store: Store) -> None:
    period = Period(**demo_database.WINDOW, finalized_at="2026-09-29T02:00:00Z")
    right = demo_store.validate(period, checks=[NAME], invoices=files.invoice_lines(demo_store, period, mistakes=False))
    assert right.counts()["high"] == 0
    table = right.sheet(NAME)
    assert table is not None
    assert set(table["explained_by"]) == {"", "late events"}
    assert set(table[table["status"] != "matched"]["explained_by"]) == {"late events"}
    wrong = demo_store.validate(period, checks=[NAME], invoices=files.invoice_lines(demo_store, period))
    high = [finding for finding in found(wrong, NAME) if finding.severity == "high"]
    assert len(high) == len(files.MISTAKES) == 4
    words = ("has no invoice line", "too much", "but has no usage of it")
    assert all(any(word in finding.sentence for finding in high) for word in words)
    for finding in found(wrong, NAME):
        assert shown(demo_store, finding) == finding.events
