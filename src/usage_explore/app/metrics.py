"""The app's sessions and page runs for `GET /api/metrics`; their labels have few values whatever is sent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from streamlit import runtime
from streamlit.runtime.stats import CounterStat, GaugeStat

from usage_explore.api.request_metrics import PREFIX, SECONDS

_ACTIVE, _EVENTS = "active_sessions", "session_events"
"""Streamlit's names of its statistics."""

_RUNS = Histogram(
    f"{PREFIX}app_run_seconds",
    "Time in which a page of the app was drawn, by page.",
    ("page",),
    buckets=SECONDS,
    registry=None,
)


@contextmanager
def counted_run(page: str) -> Iterator[None]:
    """Count a run of the script for a page, also one that is stopped or fails, and its time."""
    began = time.perf_counter()
    try:
        yield
    finally:
        _RUNS.labels(page).observe(time.perf_counter() - began)


class _Sessions(Collector):
    """The sessions of browsers, as Streamlit counts them."""

    def collect(self) -> Iterator[Metric]:
        """The metrics; none before the app has started."""
        if not runtime.exists():
            return
        stats = runtime.get_instance().stats_mgr.get_stats([_ACTIVE, _EVENTS])
        active = sum(stat.value for stat in stats.get(_ACTIVE, ()) if isinstance(stat, GaugeStat))
        yield GaugeMetricFamily(f"{PREFIX}app_sessions", "Browser sessions that are connected.", value=active)
        events = CounterMetricFamily(
            f"{PREFIX}app_session_events", "Sessions that connected, came back or left.", labels=["event"]
        )
        for stat in stats.get(_EVENTS, ()):
            if isinstance(stat, CounterStat):
                events.add_metric([(stat.labels or {}).get("type", "")], stat.value)
        yield events


def register(registry: CollectorRegistry) -> None:
    """Add the app's metrics to those of a server."""
    registry.register(_RUNS)
    registry.register(_Sessions())
