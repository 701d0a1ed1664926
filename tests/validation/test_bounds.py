"""Bounds of the checks: every one can be overridden, by name and within its range, and the result says which were."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from support.plain_events import event, september
from support.query_oracle import Row, utc
from usage_explore import Store
from usage_explore.cli.main import main
from usage_explore.db.schema import events_table
from usage_explore.errors import QueryError
from usage_explore.validation import report
from usage_explore.validation.bounds import NO_BOUNDS, Bound, in_force, read_bounds, toml
from usage_explore.validation.check import Check
from usage_explore.validation.checks import new_usage
from usage_explore.validation.registry import CHECKS, all_bounds

EVERY = pytest.mark.parametrize("bound", all_bounds(), ids=lambda bound: bound.key)


@EVERY
def test_a_bound_says_what_it_bounds_and_takes_its_range(bound: Bound[Any]) -> None:
    assert bound.meaning.endswith(".")
    assert bound.meaning[0].isupper()
    assert bound.name.islower()
    assert bound.check in {"common", *CHECKS}
    for number in (bound.minimum, bound.maximum, Decimal(bound.number(bound.default))):
        value = bound.parsed(number)
        assert type(value) is type(bound.default)
        assert bound.parsed(Decimal(bound.number(value))) == value
    assert bound.parsed(Decimal(bound.number(bound.default))) == bound.default
    for beyond in (bound.minimum - 1, bound.maximum + 1, "3", True, None, float("nan")):
        with pytest.raises(ValueError, match="give"):
            bound.parsed(beyond)


def test_names_are_unique() -> None:
    keys = [bound.key for bound in all_bounds()]
    assert sorted(set(keys)) == sorted(keys)


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_a_checks_bounds_are_its_own_or_shared(check: Check) -> None:
    assert {bound.check for bound in check.bounds} <= {check.name, "common"}


def test_the_printed_file_is_the_defaults_and_can_be_read() -> None:
    text = toml(all_bounds())
    tables = tomllib.loads(text, parse_float=Decimal)
    assert {f"{check}.{name}" for check, table in tables.items() for name in table} == {
        bound.key for bound in all_bounds()
    }
    assert read_bounds(tables, all_bounds()) == NO_BOUNDS
    assert max(map(len, text.splitlines())) <= 120


def test_unknown_names_and_values_are_errors_with_a_hint() -> None:
    given = {"new_usage": {"min_event": 3, "high_share": 2, "history": "90"}, "new_usag": {}, "quantities": 4}
    with pytest.raises(QueryError) as caught:
        read_bounds(given, all_bounds())  # type: ignore[arg-type]
    assert [fault.message for fault in caught.value.faults] == [
        "[new_usage] 'min_event' is no bound, did you mean min_events?",
        "[new_usage] high_share is 2; give 0 to 1 (share)",
        "[new_usage] history is '90', no number; give one of 1 to 4000 days",
        "['new_usag'] is no check with bounds, did you mean new_usage?",
        "quantities is a value; write a table [quantities] with a line for each bound",
    ]
    assert {fault.parameter for fault in caught.value.faults} == {"bounds"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[new_usage", "is not TOML"),
        (b"\xff\xfe", "is not UTF-8"),
        (None, "cannot be read"),
        (b"[new_usage]\nmin_events = " + b"9" * 5_000, "an integer of more than 4,300 digits"),
        (b"[common]\nlarge_share = 1E-999999", r"large_share is Decimal\('1E-999999'\), of more than 30 decimals"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "bounds.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(QueryError, match=message):
        read_bounds(path, all_bounds())


def test_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "bounds.toml"
    path.write_text("[new_usage]\nmin_events = 3\n", encoding="utf-8-sig")
    assert read_bounds(path, all_bounds()) == read_bounds({"new_usage": {"min_events": 3}}, all_bounds())


def test_an_integer_of_python_of_thousands_of_digits_is_refused() -> None:
    with pytest.raises(QueryError, match="min_events has more than 4,300 digits"):
        read_bounds({"new_usage": {"min_events": 10**5_000}}, all_bounds())


def test_bounds_are_in_force_within_and_nowhere_else() -> None:
    bounds = read_bounds({"new_usage": {"min_events": 3, "history": 30}}, all_bounds())
    with in_force(bounds):
        assert new_usage.MIN_EVENTS() == 3
        assert new_usage.HISTORY() == timedelta(days=30)
        with in_force(NO_BOUNDS):
            assert new_usage.MIN_EVENTS() == 10
    assert new_usage.MIN_EVENTS() == 10
    assert bounds == read_bounds({"new_usage": {"history": Decimal("30"), "min_events": 3}}, all_bounds())
    assert bounds != NO_BOUNDS


@pytest.fixture
def store(make: Callable[[list[Row]], Store]) -> Store:
    """Events whose keys had arrived ten days before the month."""
    first = [event(utc(2026, 8, 21, hour)) for hour in range(18)]
    again = [
        event(utc(2026, 9, 1, hour), idempotency_key=row.idempotency_key, quantity=row.quantity)
        for hour, row in enumerate(first)
    ]
    return make([*first, *again, *(event(utc(2026, 9, day)) for day in range(2, 20))])


def test_a_bound_changes_what_is_found_and_travels_with_the_result(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "bounds.toml"
    path.write_text("[quantities]\nmin_other_events = 5\n\n[duplicates]\nkey_margin = 11.5\n")
    usual = store.validate(september(), checks=["duplicates"])
    changed = store.validate(september(), checks=["duplicates"], bounds=path)
    assert usual.findings == ()
    assert sum(finding.events for finding in changed.findings) == 18
    assert dict(changed.bounds.texts) == {
        "duplicates.key_margin": "11.5 days, by default 7",
        "quantities.min_other_events": "5 events, by default 1000",
    }
    assert usual.bounds == NO_BOUNDS
    assert store.validate(september(), checks=["duplicates"]).findings == ()
    (finding,) = changed.findings
    assert len(store.duplicate_pairs(changed, finding)) == 18


def test_the_report_and_json_say_the_bounds(store: Store) -> None:
    bounds = {"new_usage": {"min_events": 3}}
    validation = store.validate(september(), checks=["new_usage"], bounds=bounds)
    reconciled = report.statements(store, validation)
    page = report.html(store, validation, reconciled)
    assert "new_usage.min_events 3 events, by default 10" in page
    assert "<dt>new_usage.min_events = 3 events</dt>" in page
    assert "3 events at least" in page
    assert any("new_usage.min_events 3 events" in line for line in report.lines(validation, reconciled, 160))
    document = report.document(validation, reconciled)
    assert document["changed_bounds"] == {"new_usage.min_events": "3 events, by default 10"}
    assert document["checks"][0]["bounds"]["new_usage.min_events"] == {"value": "3", "unit": "events"}
    assert json.dumps(document)


def test_the_configured_bounds_hold_unless_others_are_given(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bounds.toml"
    path.write_text("[new_usage]\nmin_events = 7\n")
    monkeypatch.setenv("USAGE_EXPLORE_BOUNDS", str(path))
    result = CliRunner().invoke(main, ["validate", "--show-bounds"])
    assert result.exit_code == 0, result.output
    assert "min_events = 7  # 1 to 1000000 events" in result.output
    other = tmp_path / "other.toml"
    other.write_text("[new_usage]\nmin_events = 8\n")
    result = CliRunner().invoke(main, ["validate", "--show-bounds", "--bounds", str(other)])
    assert "min_events = 8  #" in result.output


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_the_statement_and_words_of_a_check_are_made_with_the_bounds_in_force(check: Check) -> None:
    """At the ends of every range no statement and no word fails."""
    period = september(organization_id="11111111-1111-4111-8111-111111111111", finalized_at=utc(2026, 10, 2))
    for end in ("minimum", "maximum"):
        tables: dict[str, dict[str, float]] = {}
        for bound in check.bounds:
            tables.setdefault(bound.check, {})[bound.name] = getattr(bound, end)
        with in_force(read_bounds(tables, all_bounds())):
            assert check.words
            assert not any("Bound(" in words for words in check.words.values())
            assert check.statement(events_table(), period) is not None
