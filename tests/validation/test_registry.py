"""The registry is whole: every check is documented, scoped to one organization, and says what it does."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import generated_events
from usage_explore import Period
from usage_explore.db.schema import events_table
from usage_explore.errors import ScopeError
from usage_explore.sql.filters import to_sql
from usage_explore.validation.check import Check
from usage_explore.validation.registry import CHECKS

PERIOD = Period(
    organization_id=generated_events.ORGANIZATION,
    since="2026-09-01T00:00:00Z",
    until="2026-10-01T00:00:00Z",
    finalized_at="2026-10-02T00:00:00Z",
    as_of="2026-10-05T00:00:00Z",
)
EVERY = pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)


@EVERY
def test_a_check_has_words(check: Check) -> None:
    assert check.name.isidentifier()
    assert check.title[0].isupper()
    assert check.means.endswith(".")
    assert check.counted(2) == f"2 {check.unit}"
    assert check.counted(1) != f"1 {check.unit}" or check.unit == "series"
    assert check.words


@EVERY
def test_a_statement_reads_one_organization_as_it_was_known(check: Check) -> None:
    sql = to_sql(check.statement(events_table(), PERIOD))
    assert sql.startswith(("SELECT", "WITH"))
    assert str(generated_events.ORGANIZATION) in sql
    assert "2026-10-05" in sql
    with pytest.raises(ScopeError):
        check.statement(events_table(), PERIOD.replace(organization_id=None))


def test_the_documented_checks_are_the_registered_ones() -> None:
    page = (Path(__file__).parents[2] / "docs" / "validation.md").read_text()
    listed = [line for line in page.splitlines() if line.startswith("| `")]
    assert listed == [f"| `{check.name}` | {check.title} | {check.means} |" for check in CHECKS.values()]
