"""Demo data: realistic usage of three fictional organizations; each day is a pure function of (seed, day).

`create` makes an events table of them, `append` adds missing ones, and `fill` shows how far that is; `incidents` lists
the incidents planted in them, `prices` has their price book, `invoice` writes an invoice by it and `control` the
control totals for them, `files` writes these to try a validation with.
"""

from __future__ import annotations

from usage_explore.demo.business import ORGANIZATIONS
from usage_explore.demo.events import EVENTS_PER_DAY
from usage_explore.demo.loading import DEFAULT_DAYS, DEFAULT_SEED, DemoReport, append, create, incidents, started
from usage_explore.demo.planted_incidents import Incident

__all__ = [
    "DEFAULT_DAYS",
    "DEFAULT_SEED",
    "EVENTS_PER_DAY",
    "ORGANIZATIONS",
    "DemoReport",
    "Incident",
    "append",
    "create",
    "incidents",
    "started",
]
