"""The facts of a finding: numbers have separators, values of the data stay as they are."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest

from usage_explore.app.validate import facts


@pytest.mark.parametrize(
    ("name", "text", "shown"),
    [
        ("actual", "642824", "642,824"),
        ("excess", "-1648.50", "−1,648.5"),
        ("usual cost in EUR", "1234.5", "1,234.5"),
        ("affected tokens_in", "51 events, quantity 126959", "51 events, quantity 126,959"),
        ("bucket", "2026-10-28T00:00:00Z", "2026-10-28 00:00:00"),
        ("model", "2024", "2024"),
        ("metric", "-1000", "-1000"),
    ],
)
def test_a_number_has_separators_and_a_value_stays(name: str, text: str, shown: str) -> None:
    assert facts.shown(name, text, ZoneInfo("UTC")) == shown
