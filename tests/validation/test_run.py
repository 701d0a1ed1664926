"""A check that cannot be run to its end says so, and the others run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pandas as pd
import pytest
from sqlalchemy import text

from support import generated_events
from usage_explore import Period, QueryError, Store
from usage_explore.errors import DatabaseUnavailable, NotExact
from usage_explore.validation import registry
from usage_explore.validation.check import Check, Examination, Outcome

PERIOD = Period(since="2020-01-01T00:00:00Z", until="2030-01-01T00:00:00Z")


def check(name: str, examine: object) -> Check:
    duplicates = registry.CHECKS["duplicates"]
    return replace(duplicates, name=name, examine=examine, needs=None)  # type: ignore[arg-type]


def slow(examination: Examination) -> Outcome:
    examination.connection.execute(text("SELECT pg_sleep(600)"))
    return Outcome()


def inexact(examination: Examination) -> Outcome:
    raise NotExact("NaN cannot be added up")


def counting(examination: Examination) -> Outcome:
    return Outcome(looked_at=examination.connection.execute(text("SELECT 7")).scalar_one())


def cancelled(examination: Examination) -> Outcome:
    examination.connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    return Outcome()


def tabular(examination: Examination) -> Outcome:
    return Outcome(looked_at=2, sheet=pd.DataFrame({"customer_id": ["a", "b"]}))


def test_validations_of_the_same_data_are_equal_also_with_sheets(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.CHECKS, "tabular", check("tabular", tabular))
    first = store.validate(PERIOD, checks=["tabular"])
    second = store.validate(first.period, checks=["tabular"])
    assert first.sheet("tabular") is not second.sheet("tabular")
    assert first == second
    other = replace(second, results=(replace(second.results[0], outcome=Outcome(looked_at=3)),))
    assert first != other


def test_what_one_check_cannot_do_leaves_the_others_alone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = {"slow": slow, "inexact": inexact, "counting": counting}
    for name, examine in checks.items():
        monkeypatch.setitem(registry.CHECKS, name, check(name, examine))
    hasty = replace(store, long_statement_timeout=timedelta(seconds=1))
    validation = hasty.validate(PERIOD, checks=list(checks))
    slow_one, inexact_one, counted = validation.results
    assert "USAGE_EXPLORE_LONG_STATEMENT_TIMEOUT" in slow_one.failed
    assert inexact_one.failed == "NaN cannot be added up"
    assert not slow_one.is_clean
    assert not inexact_one.is_clean
    assert counted.is_clean
    assert counted.outcome is not None
    assert counted.outcome.looked_at == 7
    assert [result.check.name for result in validation.failed] == ["slow", "inexact"]
    assert [each["failed"] is not None for each in validation.to_dict()["checks"]] == [True, True, False]


def divided(examination: Examination) -> Outcome:
    examination.connection.execute(text("SELECT 1 / 0"))
    return Outcome()


def mistaken(examination: Examination) -> Outcome:
    raise ValueError("/secret/path")


@pytest.mark.parametrize(("examine", "name"), [(mistaken, "ValueError"), (divided, "DivisionByZero")])
def test_an_unexpected_error_of_a_check_is_logged_and_leaves_the_others_alone(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    unexpected_failures: list[str],
    examine: Callable[[Examination], Outcome],
    name: str,
) -> None:
    for each in (check("mistaken", examine), check("counting", counting)):
        monkeypatch.setitem(registry.CHECKS, each.name, each)
    validation = store.validate(PERIOD, checks=["mistaken", "counting"])
    (traceback,) = unexpected_failures
    unexpected_failures.clear()
    assert "The check mistaken failed unexpectedly\nTraceback" in traceback
    assert name in traceback
    failed, counted = validation.results
    assert failed.failed == f"an unexpected error, {name}; its traceback is in the log"
    assert counted.is_clean
    assert "of 2 checks, 1 of which failed, among" in repr(validation)
    with pytest.raises(QueryError, match="these checks failed: mistaken"):
        store.sign_off(validation, by="ana")


def test_an_error_of_the_listener_to_progress_is_not_the_checks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def announcing(examination: Examination) -> Outcome:
        examination.progress(0.5)
        return Outcome()

    def leave(_: str, done: float) -> None:
        if done == 0.5:
            raise ValueError("the user left")

    monkeypatch.setitem(registry.CHECKS, "announcing", check("announcing", announcing))
    with pytest.raises(ValueError, match="the user left"):
        store.validate(PERIOD, checks=["announcing"], progress=leave)


def test_a_database_that_is_gone_ends_the_validation(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.CHECKS, "cancelled", check("cancelled", cancelled))
    with pytest.raises(DatabaseUnavailable):
        store.validate(PERIOD, checks=["cancelled"])


def test_unknown_checks_are_named(store: Store) -> None:
    with pytest.raises(QueryError, match="did you mean duplicates"):
        store.validate(PERIOD, checks=["duplicate"])
    with pytest.raises(QueryError, match="names no check"):
        store.validate(PERIOD, checks=[])


def test_a_check_that_lacks_what_it_needs_says_what(store: Store) -> None:
    (result,) = store.validate(PERIOD, checks=["after_finalization"]).results
    assert result.outcome is None
    assert result.skipped == "finalized_at was not given"
    assert not result.failed


def test_a_validation_is_pinned(store: Store) -> None:
    validation = store.validate(PERIOD, checks=["quantities"])
    assert validation.period.as_of == validation.now - store.settle  # the period is not over yet
    over = PERIOD.replace(until="2026-07-01T00:00:00Z")
    assert store.validate(over, checks=["quantities"]).period.as_of == store.known()
    assert validation.period.organization_id == generated_events.ORGANIZATION
    earlier = validation.now - timedelta(days=3)
    assert store.validate(PERIOD.replace(as_of=earlier), checks=["quantities"]).period.as_of == earlier


@pytest.mark.parametrize("as_of", [None, "1970-01-02T01:00:00Z"])
def test_at_the_beginning_of_time_every_check_runs(store: Store, as_of: str | None) -> None:
    period = Period(since="1970-01-02T00:00:00Z", until="1970-02-01T00:00:00Z", as_of=as_of)
    assert store.validate(period).failed == ()
