"""Similar findings share a row, in the place of the first, and their sizes are added only where no event is in two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from usage_explore.names import Names
from usage_explore.query.queries import EventQuery
from usage_explore.validation import Finding
from usage_explore.validation.similar import MIN_SIMILAR, Similar, brief, similar

SINCE = datetime(2026, 9, 1, tzinfo=UTC)
BIG = Decimal("12345678901234567890.000000000000001")


def finding(number: int, **fields: object) -> Finding:
    customer = UUID(int=number)
    base = Finding(
        check="silence",
        severity="low",
        sentence=f"Usage of customer {customer} stopped.",
        since=SINCE,
        until=SINCE + timedelta(days=1),
        events=number,
        question=EventQuery(customer_id=customer),
        customer_id=customer,
    )
    return replace(base, **fields)  # type: ignore[arg-type]


def numbers(folded: Sequence[Similar]) -> list[list[int]]:
    return [[each.events for each in item.findings] for item in folded]


def test_a_kind_of_several_findings_is_one_row_where_its_first_was() -> None:
    findings = [
        finding(1, severity="high"),
        finding(2),
        finding(3, check="shifts"),
        finding(4),
        finding(5, customer_id=None),
        finding(6),
        finding(7, is_general=True),
    ]
    assert numbers(similar(findings)) == [[1], [2, 4, 6], [3], [5], [7]]
    assert numbers(similar(findings, [findings[3]])) == [[1], [2], [3], [4], [5], [6], [7]]
    assert MIN_SIMILAR == 3


def test_no_finding_is_lost_or_twice() -> None:
    findings = [finding(n, severity=("high", "medium", "low")[n % 3], customer_id=UUID(int=n // 2)) for n in range(40)]
    folded = similar(findings)
    assert sorted(number for item in numbers(folded) for number in item) == list(range(40))
    assert len(folded) == 3


def test_sizes_are_exact_sums_of_different_customers() -> None:
    (folded,) = similar(
        [finding(n, metric_key="calls", quantity=BIG, amounts=(("EUR", BIG), ("USD", Decimal(n)))) for n in range(1, 4)]
    )
    assert folded.events == 6
    assert folded.quantity == Decimal("37037036703703703670.000000000000003")
    assert folded.amounts == {"EUR": Decimal("37037036703703703670.000000000000003"), "USD": Decimal(6)}


def test_sizes_that_may_share_events_or_units_are_not_added() -> None:
    one_customer = [finding(n, customer_id=UUID(int=9), quantity=BIG, amounts=(("EUR", BIG),)) for n in range(3)]
    (folded,) = similar(one_customer)
    assert (folded.events, folded.quantity, folded.amounts) == (None, None, {})
    (folded,) = similar([finding(n, metric_key=f"m{n}", quantity=BIG) for n in range(3)])
    assert (folded.events, folded.quantity) == (3, None)


@pytest.mark.parametrize("ids", [False, True])
def test_the_sentence_names_customers_and_a_copy_all_of_them(ids: bool) -> None:
    names = Names({("customer", str(UUID(int=n))): f"Acme {n}" for n in range(30)})
    (folded,) = similar([finding(n) for n in range(25)])
    said = folded.sentence("Silence", names, ids=ids)
    assert said.startswith("Silence: 25 findings on 25 customers: Acme 0")
    assert ("and 22 more" in said) != ids
    assert all(str(UUID(int=n)) in said for n in range(25)) == ids
    (alone,) = similar([finding(3)])
    assert alone.sentence("Silence", names) == "Usage of customer Acme 3 stopped."


@pytest.mark.parametrize(
    ("sentence", "short"),
    [
        (
            "596 events of customer A, 1 Oct 2026 08:00 to 1 Oct 2026 20:00: sent twice; 4.8 % of the customer's "
            "quantity of tokens_in in the period. Also seen by: shifts, quantities.",
            "596 events of customer A, 1 Oct 2026 08:00–20:00: sent twice.",
        ),
        (
            "Customer A is new: 120 events, 6 Oct 2026 12:12 to 31 Oct 2026 22:36, 0.044 % of all events.",
            "Customer A is new: 120 events, 6 Oct 2026 12:12 to 31 Oct 2026 22:36.",
        ),
        ("9 events, < 0.001 % of all events.", "9 events."),
        ("It takes 6,361 off, 16.1 % of what is left to bill.", "It takes 6,361 off, 16.1 % of what is left to bill."),
        ("3 have none, 1.4 % of all that have one.", "3 have none, 1.4 % of all that have one."),
    ],
)
def test_a_list_repeats_neither_the_share_nor_the_other_checks(sentence: str, short: str) -> None:
    assert brief(sentence) == short
