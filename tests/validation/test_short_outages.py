"""Outages of less than a whole day of large customers are drops by the hour, as docs/validation.md says."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from usage_explore.validation.anomalies.deviations import deviations
from usage_explore.validation.anomalies.series import Block, grid_of_edges

DAYS, FIRST_DAY, HOUR = 93, 63, timedelta(hours=1)
SINCE = datetime.fromisoformat("2026-06-30T00:00Z")


@pytest.mark.parametrize(("hours", "is_seen"), [(20, True), (6, True), (0, False)])
def test_twenty_hours_without_events_over_two_days_are_a_drop(hours: int, is_seen: bool) -> None:
    grid = grid_of_edges("hour", tuple(SINCE + hour * HOUR for hour in range(DAYS * 24 + 1)), ZoneInfo("UTC"))
    events = np.random.default_rng(1).poisson(40, (1, DAYS * 24)).astype(float)
    gone = 75 * 24 + 10  # from 10:00 on
    events[0, gone : gone + hours] = 0
    block = Block((UUID(int=1),), ("m",), {"count": events, "sum_quantity": events})
    drops = [one for one in deviations(block, grid, FIRST_DAY * 24) if one.measure == "count"]
    spans = [(one.shape, one.since, one.until) for one in drops]
    assert spans == [("drop", SINCE + gone * HOUR, SINCE + (gone + hours) * HOUR)] * is_seen
