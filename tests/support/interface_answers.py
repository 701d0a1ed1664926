"""What every door says about the generated rows, to be compared before and after something that must not matter."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet

from support.api_server import AGGREGATE, EVENTS, EXPORT
from usage_explore import AggregateQuery, EventQuery, Store

WHOLE = {"since": datetime(2026, 1, 1, tzinfo=UTC), "until": datetime(2027, 1, 1, tzinfo=UTC)}
"""The window of most generated rows."""


def doors(store: Store, folder: Path) -> dict[str, Any]:
    """What every door says: pages, counts, sums, choices, files."""
    found: dict[str, Any] = {"pages": [event.id for event in store.events(EventQuery(limit=100))]}
    for as_of in (None, datetime(2026, 7, 1, tzinfo=UTC)):
        for group in ("none", "metric_key", "dim:model"):
            for metric in ("count", "sum_quantity"):
                query = AggregateQuery(**WHOLE, metric=metric, group_by=group, as_of=as_of, bucket="week")
                found[f"{metric} by {group} as of {as_of}"] = store.aggregate(query).series
        found[f"count as of {as_of}"] = store.count(EventQuery(as_of=as_of))
        found[f"metrics as of {as_of}"] = store.metric_keys(EventQuery(as_of=as_of))
    found["customers"], found["keys"] = store.customers(), store.dimension_keys()
    found["extent"] = store.extent()
    for suffix in ("csv", "parquet"):
        store.export(EventQuery(), folder / f"all.{suffix}", progress=False)
    found["csv"] = (folder / "all.csv").read_text()
    found["parquet"] = pyarrow.parquet.read_table(folder / "all.parquet").to_pylist()
    return found


def over_http(client: httpx.Client) -> list[bytes]:
    """The same questions over HTTP."""
    window = {name: edge.isoformat() for name, edge in WHOLE.items()}
    answers = [
        client.get(EVENTS, params={"limit": "100"}),
        client.get(EVENTS, params={"limit": "100"}, headers={"Accept": "text/csv"}),
        client.get(EXPORT),
        client.get(AGGREGATE, params={**window, "metric": "sum_quantity", "group_by": "metric_key"}),
    ]
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    return [answer.content for answer in answers]
