"""The sentence on what another time zone does to the page's window."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from support.app_pages import Open
from support.demo_database import ACME
from usage_explore import AggregateQuery, EventQuery, Period
from usage_explore.app.header import zone_sentence
from usage_explore.app.page_state import EventsView, ExploreView, ValidateView

NOW = datetime(2026, 11, 5, 20, tzinfo=UTC)
INSTANTS = {"since": "2026-10-01T00:00:00Z", "until": "2026-11-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("window", "before", "after", "words"),
    [
        (
            {"window": "2026-10"},
            "UTC",
            "Asia/Kolkata",
            "The window follows the clock of Asia/Kolkata, 1–31 Oct 2026: it begins and ends 5 hours 30 minutes "
            "earlier than in UTC.",
        ),
        (
            {"window": "2026-10"},
            "Europe/Berlin",
            "America/New_York",
            "The window follows the clock of America/New_York, 1–31 Oct 2026: it begins 6 hours later and ends 5 hours "
            "later than in Europe/Berlin.",
        ),
        (
            {"since": "-6d/d"},
            "UTC",
            "Asia/Kolkata",
            "The window follows the clock of Asia/Kolkata, 31 Oct 2026 00:00 to 6 Nov 2026 01:30: it begins 18 hours "
            "30 minutes later than in UTC.",
        ),
        (
            INSTANTS,
            "UTC",
            "Asia/Kolkata",
            "The window is the same time as before, on the clock of Asia/Kolkata: 1 Oct 2026 05:30 to "
            "1 Nov 2026 05:30.",
        ),
        (INSTANTS, "Europe/Berlin", "Europe/Paris", ""),
        ({"window": "2026-10"}, "Europe/Berlin", "Europe/Paris", ""),
    ],
)
def test_the_window_follows_the_clock_or_stays(window: dict[str, Any], before: str, after: str, words: str) -> None:
    for view in (
        ExploreView(AggregateQuery(**window, timezone=before)),
        ValidateView(Period(**window, timezone=before)),
    ):
        assert zone_sentence(view, view.in_timezone(after), NOW) == words


def test_the_times_of_events_stay() -> None:
    view = EventsView(EventQuery(occurred_after=INSTANTS["since"], occurred_before=INSTANTS["until"]), "UTC")
    assert "the same time as before" in zone_sentence(view, view.in_timezone("Asia/Kolkata"), NOW)
    assert zone_sentence(EventsView(EventQuery(), "UTC"), EventsView(EventQuery(), "Asia/Kolkata"), NOW) == ""


def test_the_page_says_it_until_the_window_is_another_one(explore: Open) -> None:
    app = explore(organization_id=ACME, window="2026-09")

    def is_said() -> bool:
        return any("The window follows the clock of Asia/Kolkata" in each.value for each in app.caption)

    assert not is_said()
    app.selectbox(key="timezone").select("Asia/Kolkata").run()
    assert is_said()
    app.segmented_control(key="metric").select("sum_quantity").run()
    assert is_said()
    app.segmented_control(key="preset").select("7d").run()
    assert not is_said()
