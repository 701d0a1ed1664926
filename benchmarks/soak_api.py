"""Clients of the HTTP API: each a program with a key, a kept-open connection, and time to think."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import json
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx

import soak_questions as questions
from soak_log import Failed, Log, Marks
from soak_questions import AGGREGATE, CSV, EVENTS, EXPORT, JSON, PNG, SVG, Parameters
from usage_explore.decimals import rfc3339

PAGES = 5
"""Pages that one reads in a row."""

KNOWN = timedelta(seconds=30)
"""How old an event is when it is surely committed: the writer's transactions take less."""

_PROBLEM = "application/problem+json"


@dataclass
class Shared:
    """What clients know together: the pinned questions and their first answers, each organization's last cursor."""

    log: Log
    marks: Marks
    pinned: list[Parameters]
    first: dict[tuple[UUID, str, str], tuple[str, str]] = field(default_factory=dict)
    cursors: dict[UUID, str] = field(default_factory=dict)


@dataclass
class Client:
    """One client: it thinks, asks one thing, looks at the answer, and again."""

    shared: Shared
    http: httpx.AsyncClient
    organization_id: UUID
    neighbour: UUID
    key: str
    draw: random.Random
    think: float

    async def live(self) -> None:
        """Ask until cancelled."""
        share: dict[Callable[[], Awaitable[None]], int] = {
            self.aggregate: 26,
            self.picture: 8,
            self.pinned: 18,
            self.sums: 6,
            self.read: 18,
            self.walk: 4,
            self.export: 4,
            self.wrong: 13,
            self.ready: 3,
        }
        await self._pause(self.think)
        while True:
            action = self.draw.choices(list(share), list(share.values()))[0]
            try:
                await action()
            except Failed:
                pass
            except Exception as error:  # an answer of another form is a finding, not the end of the soak
                self.shared.log.law("answers have their form", False, f"{action.__name__}: {error!r}")
            await self._pause(self.think)

    async def aggregate(self) -> None:
        """A live aggregate, as JSON or CSV."""
        form = self.draw.choices((JSON, CSV), (3, 1))[0]
        asked = questions.live(self.draw)
        answer = await self._get(f"aggregate {form.partition('/')[2]}", AGGREGATE, asked, accept=form)
        if form == JSON:
            for series in answer.json()["series"]:
                total = sum(_exact(point["value"]) for point in series["points"])
                self._law("a series' total is the sum of its points", total == _exact(series["total"]), str(asked))

    async def picture(self) -> None:
        """A live chart."""
        form = self.draw.choice(("svg", "png"))
        asked = {**questions.live(self.draw), "theme": self.draw.choice(("light", "dark"))}
        answer = await self._get(f"picture {form}", f"{AGGREGATE}.{form}", asked, accept={"svg": SVG, "png": PNG}[form])
        whole = answer.content.startswith(b"\x89PNG") if form == "png" else answer.content.endswith(b"</svg>")
        self._law("a picture is whole", whole, str(asked))

    async def pinned(self) -> None:
        """A pinned question: the same bytes whenever and by whomever it is asked, and not sent twice."""
        asked = self.draw.choice(self.shared.pinned)
        path, form = self.draw.choices(((AGGREGATE, JSON), (AGGREGATE, CSV), (f"{AGGREGATE}.svg", SVG)), (6, 2, 1))[0]
        place = (self.organization_id, form, json.dumps(asked))
        known = self.shared.first.get(place)
        conditional = known is not None and self.draw.random() < 0.5
        headers = {"If-None-Match": known[1]} if known and conditional else {}
        answer = await self._get(
            "pinned, unchanged" if conditional else f"pinned {form.rpartition('/')[2].partition('+')[0]}",
            path,
            asked,
            accept=form,
            headers=headers,
            status=304 if conditional else 200,
        )
        tag = answer.headers.get("etag", "")
        found = (hashlib.sha256(answer.content).hexdigest(), tag)
        if known is None:
            self.shared.first.setdefault(place, found)
        self._law("a pinned answer keeps its tag", tag == (known or found)[1] and tag != "", str(asked))
        if not conditional:
            self._law("a pinned question gives identical bytes", found == self.shared.first[place], str(asked))
        others = self.shared.first.get((self.neighbour, form, json.dumps(asked)))
        self._law("no tag is two organizations'", others is None or others[1] != tag, str(asked))

    async def sums(self) -> None:
        """The sum over the series is the ungrouped answer, bucket by bucket, to the last digit."""
        asked = self.draw.choice(self.shared.pinned) | {"top": self.draw.choice(("0", "3", "8"))}
        whole = await self._get("aggregate json", AGGREGATE, asked | {"group_by": "none"})
        await self._pause(1)
        parts = await self._get("aggregate json", AGGREGATE, asked)
        added: defaultdict[str, Decimal] = defaultdict(Decimal)
        for series in parts.json()["series"]:
            for point in series["points"]:
                added[point["start"]] += _exact(point["value"])
        expected = {point["start"]: _exact(point["value"]) for point in whole.json()["series"][0]["points"]}
        self._law("the series sum to the ungrouped answer", dict(added) == expected, str(asked))

    async def read(self) -> None:
        """Some pages, one after the other, while events come in."""
        await self._pages(questions.listing(self.draw, datetime.now(UTC)), self.draw.randint(1, PAGES))

    async def walk(self) -> None:
        """Pages hold what an export of the same span holds that was known before the first of them."""
        known = datetime.now(UTC) - KNOWN
        asked = {"metric_key": self.draw.choice(questions.METRICS), "limit": "100"}
        events = await self._pages(asked, PAGES)
        if not events:
            return
        last = datetime.fromisoformat(events[-1]["timestamp"])
        span = {"occurred_after": rfc3339(last + timedelta(microseconds=1)), "as_of": rfc3339(known)}
        lines = await self._export({"metric_key": asked["metric_key"], **span})
        walked = [
            event["id"]
            for event in events
            if datetime.fromisoformat(event["timestamp"]) > last
            and datetime.fromisoformat(event["ingested_at"]) <= known
        ]
        self._law("pages hold what the export holds", walked == [line["id"] for line in lines], str(asked))

    async def export(self) -> None:
        """A day of events in one stream, as many as the aggregate counts."""
        as_of = datetime.fromisoformat(self.shared.pinned[0]["as_of"])
        end = as_of.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=self.draw.randrange(30))
        start, known = rfc3339(end - timedelta(days=1)), {"as_of": rfc3339(as_of)}
        lines = await self._export({"occurred_after": start, "occurred_before": rfc3339(end), **known})
        counted = await self._get("aggregate json", AGGREGATE, {"since": start, "until": rfc3339(end), **known})
        self._law("an export is as long as its count", len(lines) == counted.json()["series"][0]["total"], start)

    async def wrong(self) -> None:
        """A mistake is refused in words that are nobody else's."""
        asked = questions.wrong(self.draw, self.neighbour, self.shared.cursors.get(self.neighbour))
        answer = await self._get(
            "refused", asked.path, asked.parameters, accept=asked.accept, status=asked.status, keyed=asked.keyed
        )
        self._law("a refusal is a problem", answer.headers["content-type"] == _PROBLEM, str(asked))

    async def ready(self) -> None:
        """Whoever watches the server asks, too."""
        await self._get("readyz", "/api/readyz", {})

    async def _pages(self, asked: Parameters, most: int) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        cursor: Parameters = {}
        for _ in range(most):
            page = (await self._get("page", EVENTS, asked | cursor)).json()
            events += page["data"]
            if not page["pagination"]["has_more"]:
                break
            cursor = {"cursor": page["pagination"]["cursor"]}
            self.shared.cursors[self.organization_id] = cursor["cursor"]
            await self._pause(1)
        places = [(datetime.fromisoformat(event["timestamp"]), UUID(event["id"])) for event in events]
        self._law("pages are in order, without repeats", places == sorted(set(places), reverse=True), str(asked))
        own = {event["organization_id"] for event in events} <= {str(self.organization_id)}
        self._law("every row is the asker's", own, str(asked))
        return events

    async def _export(self, asked: Parameters) -> list[dict[str, str]]:
        answer = await self._get("export", EXPORT, asked, accept=CSV)
        self._law("an export ends whole", b"\n# error" not in answer.content, str(asked))
        lines = list(csv.DictReader(io.StringIO(answer.text)))
        own = {line["organization_id"] for line in lines} <= {str(self.organization_id)}
        self._law("every row is the asker's", own, str(asked))
        return lines

    async def _get(
        self,
        kind: str,
        path: str,
        parameters: Parameters,
        *,
        accept: str = JSON,
        headers: Parameters | None = None,
        status: int = 200,
        keyed: bool = True,
    ) -> httpx.Response:
        """The answer, timed to its last byte and searched for what is another organization's."""
        sent = {"Accept": accept, **({"Authorization": f"Bearer {self.key}"} if keyed else {}), **(headers or {})}
        with self.shared.log.timed(kind) as one:
            answer = await self.http.get(path, params=parameters, headers=sent)
            one.status = str(answer.status_code)
        strangers = self.shared.marks.strangers(answer.content + str(answer.headers).encode(), self.organization_id)
        self._law("nothing of another organization", not strangers, f"{kind} {parameters} {sorted(strangers)[:3]}")
        if answer.status_code == 503:
            self.shared.log.busy += 1
            raise Failed
        if answer.status_code != status:
            self.shared.log.error(kind, f"{answer.status_code} instead of {status}: {answer.text[:200]}")
            raise Failed
        return answer

    def _law(self, name: str, holds: bool, otherwise: str) -> None:
        self.shared.log.law(name, holds, otherwise)

    async def _pause(self, mean: float) -> None:
        await asyncio.sleep(self.draw.uniform(0.5, 1.5) * mean)


def connection(address: str) -> httpx.AsyncClient:
    """A client's own connection, kept open for 4 seconds: the server closes those that were idle for 5."""
    limits = httpx.Limits(max_connections=1, keepalive_expiry=4)
    return httpx.AsyncClient(base_url=address, timeout=60, limits=limits)


async def count(http: httpx.AsyncClient, key: str, organization_id: UUID) -> int:
    """How many events that were written for an organization the key's holder can see."""
    headers = {"Authorization": f"Bearer {key}"}
    answer = await http.get(AGGREGATE, params=questions.written(organization_id), headers=headers)
    return int(answer.raise_for_status().json()["series"][0]["total"])


def _exact(value: int | str) -> Decimal:
    return Decimal(value)
