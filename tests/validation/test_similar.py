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
from usage_explore.validation.similar import MIN_SIMILAR, Similar, brief, fitting, similar

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
            "quantity of tokens_in in the period. Also seen by: Spikes, drops and new levels; Unit costs.",
            "596 events of customer A, 1 Oct 2026 08:00–20:00: sent twice.",
        ),
        (
            "Customer A is new: 120 events, 6 Oct 2026 12:12 to 31 Oct 2026 22:36, 0.044 % of all events.",
            "Customer A is new: 120 events, 6 Oct 2026 12:12 to 31 Oct 2026 22:36.",
        ),
        ("9 events, < 0.001 % of all events.", "9 events."),
        ("It takes 6,361 off, 16.1 % of what is left to bill.", "It takes 6,361 off, 16.1 % of what is left to bill."),
        ("3 have none, 1.4 % of all that have one.", "3 have none, 1.4 % of all that have one."),
        ("It is charged 17.400 KWD, 0.1254 USD and 1.5001 JPY.", "It is charged 17.400 KWD, 0.13 USD and 2 JPY."),
    ],
)
def test_a_list_repeats_neither_the_share_nor_the_other_checks(sentence: str, short: str) -> None:
    assert brief(sentence) == short


DUPLICATES = (
    f"596 events of customer {UUID(int=7)}, audio, batch_jobs and 1,010 more, 1 Oct 2026 08:00 to 1 Oct 2026 20:00: "
    "their idempotency keys had arrived before with the same content: sent twice, billed twice; 4.8 % of all events."
)
SPIKE = (
    f"audio of customer {UUID(int=7)} spiked, 28–29 Oct 2026: farthest 28 Oct 2026, with a quantity of 313,556.98 "
    "against about 5,413 expected, in a band from 0 to 23,900; images, tokens and 4 more moved with it."
)


@pytest.mark.parametrize(
    ("sentence", "most", "short"),
    [
        (
            DUPLICATES,
            170,
            "596 events of customer A; b: c, 1,012 metrics, 1 Oct 2026 08:00–20:00: their idempotency keys had arrived "
            "before with the same content: sent twice, billed twice.",
        ),
        (
            DUPLICATES,
            150,
            "596 events of customer A; b: c, 1,012 metrics, 1 Oct 2026 08:00–20:00: their idempotency keys had arrived "
            "before with the same content.",
        ),
        (
            DUPLICATES,
            130,
            "596 events of customer A; b: c, 1,012 metrics, 1 Oct 2026: their idempotency keys had arrived before with "
            "the same content.",
        ),
        (
            DUPLICATES,
            110,
            "596 events of customer A; b: c, 1 Oct 2026: their idempotency keys had arrived before with the same "
            "content.",
        ),
        # what is left before the colon says nothing of them: it is cut, and looks so
        (
            DUPLICATES,
            100,
            "596 events of customer A; b: c, 1 Oct 2026: their idempotency keys had arrived before with the same…",
        ),
        (
            "1 event of audio, 25 Oct 2026: the quantity is negative, where fewer than 0.1 such events are usual; they "
            "take 5 off, so that nothing is left to bill.",
            80,
            "1 event of audio, 25 Oct 2026: the quantity is negative.",
        ),
        (
            "9 events, 6 Oct 2026, arrived up to 3 days late, 10 Oct 2026 02:00 to 11 Oct 2026 02:14; 5.5 % of all "
            "events.",
            60,
            "9 events, 6 Oct 2026, arrived up to 3 days late.",
        ),
        ("These cost 5 EUR, 3 USD and 2 GBP more than before.", 30, "These cost 5 EUR, 3 USD and 2…"),
        (
            SPIKE,
            170,
            "audio of customer A; b: c spiked, 28–29 Oct 2026: farthest 28 Oct 2026, with a quantity of 313,556.98 "
            "against about 5,413 expected.",
        ),
        (SPIKE, 20, "audio of customer A…"),
    ],
)
def test_a_row_has_a_whole_sentence_and_whole_names(sentence: str, most: int, short: str) -> None:
    names = Names({("customer", str(UUID(int=7))): "A; b: c"})
    said = fitting(sentence, most, names, {"audio", "batch_jobs", "images", "tokens"})
    assert said == short
    assert len(said) <= most


def test_only_lists_of_metrics_are_counted() -> None:
    sentence = f"9 events of a, b and 2 more arrived late, 1 Oct 2026: {'long ' * 40}."
    assert fitting(sentence, 60, Names({}), {"a"}) == "9 events of a, b and 2 more arrived late, 1 Oct 2026."
