"""The Validate page's link: what it carries, and what is wrong with it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from support.check_results import identity
from support.demo_database import ACME
from usage_explore import EventQuery, QueryError
from usage_explore.app.page_state import ValidateView
from usage_explore.query.queries import Period
from usage_explore.validation import Finding
from usage_explore.validation.registry import CHECKS

START = datetime(2026, 9, 1, tzinfo=UTC)
CUSTOMER = UUID("0a7f3c52-5f0e-4c57-9a35-8d1f2f0c6b11")


def finding(**changes: object) -> Finding:
    told = Finding(
        check=next(iter(CHECKS)),
        severity="high",
        sentence="Something is wrong.",
        since=START,
        until=START + timedelta(days=1),
        events=3,
        question=EventQuery(customer_id=CUSTOMER, occurred_after=START),
        quantity=Decimal("1.5"),
        customer_id=CUSTOMER,
        metric_key="tokens_in",
    )
    return replace(told, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "view",
    [
        ValidateView(Period(window="last_month", timezone="Europe/Berlin")),
        ValidateView(
            Period(since=START, until=START + timedelta(days=30), finalized_at=START + timedelta(days=31)),
            finding="0123456789ab",
        ),
        ValidateView(
            Period(organization_id=ACME, since="-7d/d", metric_key=["a,b", "c"], dimensions={"model": [""]}),
            severities=("high", "low"),
            checks=tuple(CHECKS)[:2],
            customers=(str(CUSTOMER),),
            metrics=("", "tokens_in", "a,b"),
        ),
    ],
)
def test_a_view_is_read_from_the_link_it_writes(view: ValidateView) -> None:
    assert ValidateView.from_params(view.to_params()) == view


def test_without_parameters_it_is_last_month() -> None:
    assert ValidateView.from_params(()).query == Period(window="last_month")


def test_every_fault_is_told_at_once() -> None:
    given = (
        ("custmer_id", "x"),
        ("window", "yesterday"),
        ("finalized_at", "noon"),
        ("severity", "hihg"),
        ("check", next(iter(CHECKS))[:-1]),
        ("about_customer", "x"),
        ("finding", "F00"),
        ("finding", "000000000000"),
        ("finding", "000000000001"),
    )
    with pytest.raises(QueryError) as caught:
        ValidateView.from_params(given)
    told = {fault.parameter: fault.message for fault in caught.value.faults}
    assert told.keys() == {name for name, _ in given}
    assert "did you mean customer_id?" in told["custmer_id"]
    assert "did you mean high?" in told["severity"]
    assert f"did you mean {next(iter(CHECKS))}?" in told["check"]
    assert "more than once" in told["finding"]


def test_another_period_lets_go_of_whom_the_old_findings_concerned() -> None:
    view = ValidateView(Period(window="last_month"), ("high",), tuple(CHECKS)[:1], (str(CUSTOMER),), ("m",), "0" * 12)
    other = view.with_query(Period(window="this_month"))
    assert other == ValidateView(Period(window="this_month"), ("high",), tuple(CHECKS)[:1])


def test_the_list_holds_what_every_filter_keeps() -> None:
    found = (
        finding(),
        finding(severity="low"),
        finding(metric_key=None),
        finding(customer_id=None, metric_key=""),
        finding(check="another"),
    )
    view = ValidateView(Period())
    assert view.listed(found) == found
    assert view.replace(severities=("low",)).listed(found) == (found[1],)
    assert view.replace(metrics=("",)).listed(found) == (found[3],)
    assert view.replace(metrics=("tokens_in", "")).listed(found) == (found[0], found[1], found[3], found[4])
    assert view.replace(customers=(str(CUSTOMER),), checks=("another",)).listed(found) == (found[4],)


def test_a_finding_keeps_its_name_whatever_arrives_later_and_shares_it_with_no_other() -> None:
    one = finding()
    later = finding(
        severity="medium",
        events=4,
        quantity=Decimal(2),
        question=one.question.replace(as_of=START + timedelta(days=40)),
    )
    assert identity(one) == identity(later)
    others = [
        finding(check="another"),
        finding(kind="another"),
        finding(since=START + timedelta(days=1), until=START + timedelta(days=2)),
        finding(customer_id=None),
        finding(metric_key=None),
    ]
    names = {identity(each) for each in (one, *others)}
    assert len(names) == 6
    assert ValidateView.from_params((("finding", identity(one)),)).finding == identity(one)
