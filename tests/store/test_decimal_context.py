"""Numbers do not depend on the decimal context of the program that asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import ROUND_UP, Context, Decimal, Inexact, Rounded, getcontext, localcontext
from typing import Any

import pytest

from support.demo_database import ACME
from usage_explore import AggregateQuery, Store, connect
from usage_explore.charts import summary
from usage_explore.comparison import compare
from usage_explore.query.queries import Period
from usage_explore.results.types import Change
from usage_explore.validation import Validation, report

CONTEXTS = {
    "short": Context(prec=3, rounding=ROUND_UP),
    "long": Context(prec=80),
    "strict": Context(prec=5, traps=[Inexact, Rounded]),
}
PERIOD = Period(since="2026-09-08T00:00:00Z", until="2026-09-29T00:00:00Z")
AGGREGATE = AggregateQuery(
    since="2026-09-15T00:00:00Z", until="2026-09-22T00:00:00Z", metric="sum_quantity", group_by="metric_key"
)


@pytest.fixture(scope="module")
def demo_store(demo_url: str) -> Iterator[Store]:
    with connect(demo_url, organization_id=ACME) as store:
        yield store


def answers(store: Store, validation: Validation) -> list[Any]:
    """Everything that is computed with decimals, as values and as text; the checks' times left out."""
    query = AGGREGATE.replace(as_of=validation.period.as_of)
    answer = store.aggregate(query)
    comparison = compare(store, answer)
    assert comparison is not None
    explanation = store.explain(query.replace(group_by="none"))
    told = report.document(validation, report.statements(store, validation))
    return [
        answer.to_dict(),
        summary(answer),
        [(each.now, each.before, each.ratio) for each in (comparison.total, *comparison.series)],
        explanation.to_dict(),
        explanation.sentence,
        {**told, "checks": [{**each, "milliseconds": None} for each in told["checks"]]},
        [line for line in report.lines(validation, (), 100) if " ms " not in line and " s " not in line],
    ]


@pytest.fixture(scope="module")
def expected(demo_store: Store) -> tuple[Validation, list[Any]]:
    """A validation and the answers in Python's own context."""
    validation = demo_store.validate(PERIOD, wallets={"default": "EUR"})
    assert validation.findings
    return validation, answers(demo_store, validation)


@pytest.mark.parametrize("name", CONTEXTS)
def test_answers_are_the_same_in_every_decimal_context(
    demo_store: Store, expected: tuple[Validation, list[Any]], name: str
) -> None:
    expected_validation, expected_answers = expected
    with localcontext(CONTEXTS[name]):
        validation = demo_store.validate(expected_validation.period, wallets={"default": "EUR"})
        found = answers(demo_store, validation)
        assert getcontext().prec == CONTEXTS[name].prec  # the caller's context is back
    for one, other in zip(found, expected_answers, strict=True):
        assert one == other
    assert [each.share for each in validation.findings] == [each.share for each in expected_validation.findings]


def test_a_change_is_exact_before_it_is_divided() -> None:
    one = Decimal("1000000000000000000000000000000")
    change = Change(Decimal("1000000000000000000000000000001"), one)
    with localcontext(Context(prec=3)):
        assert change.ratio == Decimal("1E-30")
        assert Change(Decimal(-3), Decimal(-2)).ratio == Decimal("-0.5")
