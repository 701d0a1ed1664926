"""What is asked: by people and programs that look at the last hours, days and months, sometimes wrongly."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from soak_writer import mark
from usage_explore.decimals import rfc3339

EVENTS = "/api/v1/usage-events"
AGGREGATE = f"{EVENTS}/aggregate"
EXPORT = f"{EVENTS}/export"

CSV, JSON, SVG, PNG = "text/csv", "application/json", "image/svg+xml", "image/png"

Parameters = dict[str, str]

_SPANS = (
    ("hour", "-24h/h"),
    ("hour", "-7d/h"),
    ("day", "-30d/d"),
    ("day", "-30d"),
    ("week", "-90d/w"),
    ("day", "-90d/d"),
)
_GROUPS = ("none", "metric_key", "dim:model", "dim:region", "customer_id", "wallet_currency")
_ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu")
METRICS = ("tokens_in", "tokens_out", "images")


def live(draw: random.Random) -> Parameters:
    """An aggregate up to now."""
    bucket, since = draw.choice(_SPANS)
    asked = {"bucket": bucket, "since": since, "group_by": draw.choice(_GROUPS), "timezone": draw.choice(_ZONES)}
    if draw.random() < 0.5:
        asked["metric"] = "sum_quantity"
    if draw.random() < 0.2:
        asked["metric_key"] = draw.choice(METRICS)
    return asked


def listing(draw: random.Random, now: datetime) -> Parameters:
    """A list of raw events."""
    asked = {"limit": draw.choice(("25", "50", "100"))}
    if draw.random() < 0.4:
        asked["metric_key"] = draw.choice(METRICS)
    if draw.random() < 0.5:
        asked["occurred_after"] = rfc3339(now - timedelta(hours=draw.choice((6, 48, 240))))
    return asked


def pinned(as_of: datetime) -> list[Parameters]:
    """Aggregates whose answers never change again."""
    until = as_of.replace(minute=0, second=0, microsecond=0)
    window = {"until": rfc3339(until), "as_of": rfc3339(as_of)}
    spans = (("hour", 3), ("day", 30), ("week", 84))
    return [
        {
            **window,
            "bucket": bucket,
            "since": rfc3339(until - timedelta(days=days)),
            "group_by": group,
            "metric": metric,
        }
        for bucket, days in spans
        for group in ("metric_key", "dim:model", "customer_id")
        for metric in ("count", "sum_quantity")
    ]


def app_link(draw: random.Random, organization_id: UUID) -> tuple[str, Parameters]:
    """A link into the app: the page's name and the parameters."""
    asked = {"organization_id": str(organization_id)}
    if draw.random() < 0.3:
        return "events", asked | ({"metric_key": draw.choice(METRICS)} if draw.random() < 0.5 else {})
    return "", asked | live(draw)


@dataclass(frozen=True)
class Wrong:
    """A request that must be refused, and how."""

    path: str
    parameters: Parameters
    status: int
    accept: str = "*/*"
    keyed: bool = True


def wrong(draw: random.Random, neighbour: UUID, neighbours_cursor: str | None) -> Wrong:
    """A request with a mistake, or for what is somebody else's."""
    page = str(draw.randrange(101, 10_000))
    choices = [
        Wrong(AGGREGATE, {"custmer_id": str(uuid4())}, 400),
        Wrong(AGGREGATE, {"since": "2026-09-01T00:00:00"}, 400),
        Wrong(AGGREGATE, {"group_by": "nothing"}, 400),
        Wrong(EVENTS, {"limit": page}, 400),
        Wrong(EVENTS, {"customer_id": f"x{page}"}, 400),
        Wrong(EVENTS, {"cursor": f"bm90aGluZw{page}"}, 400),
        Wrong(EXPORT, {"limit": "10"}, 400),
        Wrong(f"{AGGREGATE}.svg", {"theme": "neon"}, 400),
        Wrong(draw.choice((EVENTS, AGGREGATE, EXPORT, f"{AGGREGATE}.png")), {"organization_id": str(neighbour)}, 403),
        Wrong(draw.choice((EVENTS, AGGREGATE, EXPORT, f"{AGGREGATE}.png")), {"organization_id": str(uuid4())}, 403),
        Wrong(draw.choice((EVENTS, AGGREGATE, EXPORT)), {}, 401, keyed=False),
        Wrong(f"{EVENTS}/nothing", {}, 404),
        Wrong(AGGREGATE, {}, 406, accept="application/xml"),
    ]
    if neighbours_cursor:
        choices += [Wrong(path, {"cursor": neighbours_cursor}, 400) for path in (EVENTS, EXPORT)] * 2
    return draw.choice(choices)


def written(organization_id: UUID) -> Parameters:
    """The events that were written for an organization while the soak ran, counted."""
    return {"dim:soak": mark(organization_id), "since": "-10d", "bucket": "day"}
