"""Counts of requests for `GET /api/metrics`, in Prometheus's types; their labels have few values whatever is sent."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, Counter, Histogram, ProcessCollector

from usage_explore.api import problems

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4
PREFIX = "usage_explore_"
"""How the name of each metric begins."""

OTHER = "other"
"""The label of paths without a route, and of unknown methods."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Bounds of the buckets of latencies."""


class RequestMetrics:
    """Counts of the requests of one server. Thread-safe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            f"{PREFIX}http_requests",
            "Requests that were answered.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            f"{PREFIX}http_request_seconds",
            "Time from a request to the end of its response.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._problems = Counter(
            f"{PREFIX}http_problems", "Requests that failed, by type of problem.", ("problem",), registry=self.registry
        )
        ProcessCollector(registry=self.registry)

    def observe(self, route: str | None, method: str, status: int, seconds: float, failure: Exception | None) -> None:
        """Count a request. `route` is a declared path, None if the request's path has none."""
        label = route or OTHER
        self._requests.labels(label, method if method in _METHODS else OTHER, str(status)).inc()
        self._seconds.labels(label).observe(seconds)
        if failure is not None:
            self._problems.labels(problems.from_error(failure).type.name.lower()).inc()
