"""`GET /api/metrics`: the server's state in Prometheus's text format, without a name or a value of the data.

Counts are those of this process since its start. Labels have few values, whatever clients send: a route is the path as
declared, such as `/api/v1/links/{token}`, a path without one is `other`, and so is an unknown method. Organizations are
named by their ids, at most `MAX_ORGANIZATIONS` of them, and only to a reader who may see all (`Access.metrics`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

from prometheus_client import generate_latest as as_text
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from usage_explore.api.jobs import Jobs
from usage_explore.api.problems import Problem
from usage_explore.api.request_metrics import MEDIA_TYPE, PREFIX
from usage_explore.api.service import Service, run_in_thread
from usage_explore.db import engine as db_engine
from usage_explore.db import timeouts
from usage_explore.errors import UsageExploreError
from usage_explore.extract import folder
from usage_explore.extract.manifest import Manifest
from usage_explore.store import Store

MAX_ORGANIZATIONS = 500
"""Organizations whose extract has series of its own; the totals are over all."""

_EXTRACTS_SECONDS = 3.0
"""Time after which a response is sent without the extracts."""


class MetricsEndpoint:
    """The endpoint of one service; `jobs` are its validations and ratings."""

    def __init__(self, service: Service, jobs: Sequence[Jobs]) -> None:
        self._service = service
        self._jobs = jobs
        self._source: folder.Source | None = None

    async def metrics(self, request: Request) -> Response:
        """The metrics of this process, for a reader who may see them."""
        sees_organizations = self._service.access.metrics(request)
        held: list[Manifest] | None
        try:
            held = await run_in_thread(
                request, lambda: list(self._extracts(self._service.store())), timeout_seconds=_EXTRACTS_SECONDS
            )
        except (UsageExploreError, Problem):  # the database does not answer; the other numbers say more then
            held = None
        families = [*self._state(), *([] if held is None else _extract_families(held, sees_organizations))]
        content = as_text(self._service.requests.registry) + as_text(_Families(families))
        return Response(content, headers={"Cache-Control": "no-store"}, media_type=MEDIA_TYPE)

    def _state(self) -> Iterator[Metric]:
        yield _gauge("info", "The version that runs.", {"version": version("usage-explore")}, 1)
        pools = timeouts.pools()
        connections = GaugeMetricFamily(
            f"{PREFIX}database_connections", "Connections of the pools to the database.", labels=["state"]
        )
        connections.add_metric(["in_use"], sum(pool.checkedout() for pool in pools))
        connections.add_metric(["idle"], sum(pool.checkedin() for pool in pools))
        yield connections
        yield _gauge(
            "database_connections_max", "Connections that the pools may hold.", {}, sum(pool.size() for pool in pools)
        )
        work = {
            "queries": self._service.queries.load,
            "exports": self._service.exports.load,
            "pictures": self._service.pictures.load,
            **{f"{jobs.kind.noun}s": jobs.load for jobs in self._jobs},
        }
        for position, name, text in (
            (0, "work_running", "What runs."),
            (1, "work_waiting", "What waits for its turn."),
            (2, "work_running_max", "What may run at the same time."),
        ):
            family = GaugeMetricFamily(PREFIX + name, text, labels=["work"])
            for kind, load in work.items():
                family.add_metric([kind], load[position])
            yield family

    def _extracts(self, store: Store) -> Iterator[Manifest]:
        """The extracts of the organizations that the server shows."""
        extracts = store.extracts
        if extracts is None:
            return
        if self._source is None:
            with db_engine.transaction(store.engine) as connection:
                driver: Any = connection.connection.driver_connection
                self._source = folder.source(driver, extracts.url, store.table)
        for held in folder.held(self._source, extracts.home):
            own = store.organization_id in (None, held.organization_id)
            if own and (store.allowed is None or held.organization_id in store.allowed):
                yield held


class _Families(Collector):
    """Metrics that were computed for one response."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        """The metrics."""
        return self._families


def _gauge(name: str, text: str, labels: dict[str, str], value: float) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, text, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family


def _extract_families(held: list[Manifest], sees_organizations: bool) -> Iterator[Metric]:
    """Age and size of the extracts: of all, and of each organization if the reader may see the ids."""
    now = time.time()
    ages = {one.organization_id: now - one.watermark / 1e6 for one in held if one.watermark is not None}
    yield _gauge("extracts", "Organizations with an extract.", {}, len(ages))
    yield _gauge("extracts_bytes", "Size of all extracts.", {}, sum(one.bytes for one in held))
    if ages:
        text = "Time since the watermark of the oldest extract: what was ingested later is read from the database."
        yield _gauge("extracts_max_age_seconds", text, {}, max(ages.values()))
    if not sees_organizations:
        return
    age = GaugeMetricFamily(
        f"{PREFIX}extract_age_seconds", "Time since the extract's watermark.", labels=["organization_id"]
    )
    size = GaugeMetricFamily(f"{PREFIX}extract_bytes", "Size of the extract.", labels=["organization_id"])
    for one in sorted(held, key=lambda one: one.organization_id)[:MAX_ORGANIZATIONS]:
        label = [str(one.organization_id)]
        if one.organization_id in ages:
            age.add_metric(label, ages[one.organization_id])
        size.add_metric(label, one.bytes)
    yield from (age, size)
