"""Demo data: realistic usage of three made-up organizations, each day a pure function of (seed, day).

`append` adds the events that are missing, `incidents` lists what was planted in them.
"""

from __future__ import annotations

from usage_explore.demo.business import ORGANIZATIONS
from usage_explore.demo.events import EVENTS_PER_DAY
from usage_explore.demo.loading import DEFAULT_DAYS, DEFAULT_SEED, DemoReport, append, incidents, started
from usage_explore.demo.planted_incidents import Incident

__all__ = [
    "DEFAULT_DAYS",
    "DEFAULT_SEED",
    "EVENTS_PER_DAY",
    "ORGANIZATIONS",
    "DemoReport",
    "Incident",
    "append",
    "incidents",
    "started",
]
