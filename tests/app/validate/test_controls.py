"""Another window for the same period: what was said about the first one's invoice stays only where it can be true."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from usage_explore import Period
from usage_explore.app.validate.page import with_window

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
FINALIZED = datetime(2026, 11, 2, 9, tzinfo=UTC)
OCTOBER = Period(window="last_month", metric_key="tokens_in", finalized_at=FINALIZED)


@pytest.mark.parametrize(
    "window",
    [{"window": "this_month"}, {"window": None, "since": "-30d/d", "until": None}, {"since": "2026-11-01T00:00:00Z"}],
)
def test_a_finalization_stays_with_a_window_that_had_begun(window: dict[str, object]) -> None:
    found = with_window(OCTOBER, NOW, **window)
    assert found == OCTOBER.replace(**window)
    assert found.finalized_at == FINALIZED


def test_a_finalization_before_the_window_began_goes() -> None:
    found = with_window(OCTOBER, NOW, window=None, since="2026-11-05T00:00:00Z", until="2026-11-20T00:00:00Z")
    assert found.finalized_at is None
    assert found.metric_key == ("tokens_in",)
    december = datetime(2026, 12, 5, tzinfo=UTC)
    assert with_window(OCTOBER.replace(window="last_month"), december, window="this_month").finalized_at is None
