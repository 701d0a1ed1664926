"""How long the app takes to draw Explore anew after a filter is changed: its script, from the change to the chart."""

from __future__ import annotations

import itertools
import logging
import statistics
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.rows import Rows, organization
from benchmarks.worker import Worker

_REGIONS = ("eu-central", "eu-west", "us-east", "us-west", "ap-south")
_METRICS = ("tokens_in", "tokens_out", "requests", "storage_gb_hours", "images")


def redraws(url: str, home: Path, rows: Rows) -> dict[str, Any]:
    """Median and 95th percentile in ms of filter changes that nobody made before, in a process that is warm."""
    with Worker("app", App, url, home, rows) as app:
        first, *took = [app.ask(None).took for _ in range(1 + len(_REGIONS) * 4)]
    return {
        "first_ms": round(first),
        "p50_ms": round(statistics.median(took)),
        "p95_ms": round(statistics.quantiles(took, n=20, method="inclusive")[18]),
        "changes": len(took),
    }


class App:
    """The Explore page, run by Streamlit without a browser: 30 days by model, one region and metric after the other."""

    def __init__(self, url: str, home: Path, rows: Rows) -> None:
        import os

        os.environ["USAGE_EXPLORE_DATABASE_URL"] = url
        os.environ["USAGE_EXPLORE_HOME"] = str(home)
        logging.disable(logging.WARNING)
        warnings.simplefilter("ignore")
        from streamlit.testing.v1 import AppTest

        import usage_explore.app

        main = Path(usage_explore.app.__file__).with_name("main.py")
        self.app = AppTest.from_file(str(main), default_timeout=600)
        window = {"since": rows.until - timedelta(days=30), "until": rows.until}
        for name, value in {"organization_id": organization(), "group_by": "dim:model"}.items():
            self.app.query_params[name] = str(value)
        for name, instant in window.items():
            self.app.query_params[name] = instant.isoformat()
        self.app.run()
        self.filters = itertools.product(_METRICS, _REGIONS)

    def before(self, question: None) -> None:
        metric, region = next(self.filters)
        self.app.query_params["dim:region"] = region
        self.app.query_params["metric_key"] = metric

    def ask(self, question: None) -> Any:
        return self.app.run()

    def after(self) -> None:
        assert not self.app.exception
        assert len(self.app.get("vega_lite_chart")) == 1

    def read(self, question: None, found: Any) -> None:
        return None

    def how(self, found: Any) -> None:
        return None

    def close(self) -> None:
        pass
