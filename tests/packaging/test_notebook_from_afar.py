"""A notebook that only has an address and a key answers a billing analyst's questions as the store on the database."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from support.api_server import asking
from support.waiting import PATIENCE
from usage_explore import Period, Store, connect, demo
from usage_explore.access.api_keys import Keyring
from usage_explore.api.auth import Access
from usage_explore.db import ddl
from usage_explore.db.schema import events_table
from usage_explore.demo import files

ACME = next(iter(demo.ORGANIZATIONS))

CONNECT = """\
import os
from usage_explore import AggregateQuery, EventQuery, Period, connect

assert not [name for name in os.environ if name.startswith(("USAGE_EXPLORE_", "PG"))]
store = connect({address!r}, key={key!r}, statement_timeout=300)
"""

COMMON = """\
month, folder = {month!r}, {folder!r}
def shown(value):
    print(value.to_csv(index=False) if hasattr(value, "to_csv") and hasattr(value, "columns") else value)
"""

QUESTIONS = {
    "who grew most since last month, and why": """
        tokens = AggregateQuery(window=month, metric="sum_quantity", metric_key="tokens_in")
        query = tokens.replace(group_by="customer_id", top=0)
        grown = store.aggregate(query.replace(compare="previous"))
        known = [item for item in grown.comparison.series if item.absolute is not None]
        most = max(known, key=lambda item: item.absolute)
        why = store.explain(query.replace(group_by=None, customer_id=most.key), baseline="before")
        shown((most.name, most.before, most.now, most.absolute, most.ratio))
        shown(why.sentence)
        shown([(cell.where, cell.contribution) for cell in why.cells])
        shown(why.rest.contribution + sum(cell.contribution for cell in why.cells) == why.change == most.absolute)
    """,
    "the tokens and the cost of one customer by model, in days of Berlin": """
        days = AggregateQuery(
            window=month, timezone="Europe/Berlin", customer_id=most.key, group_by="dim:model", metric_key="tokens_in"
        )
        main = store.currencies(days)[0].currency
        for metric, currency in (("sum_quantity", None), ("sum_cost", main)):
            answer = store.aggregate(days.replace(metric=metric, external_cost_currency=currency))
            shown((answer.total, answer.currency))
            shown(answer.frame)
    """,
    "the raw events behind the highest hour": """
        hours = store.aggregate(days.replace(bucket="hour", metric="count", group_by="none"))
        (series,) = hours.series
        highest = max(series.points, key=lambda point: (point.value, point.start))
        behind = hours.events_at(series, highest.start, highest.end)
        events = store.read(behind)
        shown((highest.start, highest.value, len(events) == highest.value == store.count(behind)))
        shown(events.to_pandas())
        shown([str(event.id) for event in store.events(behind)] == events.table["id"].to_pylist())
    """,
    "the high findings of the month": """
        validation = store.validate(Period(window=month, timezone="Europe/Berlin"))
        frame = validation.frame
        shown(validation.counts())
        shown(frame[frame["severity"] == "high"])
    """,
    "the expected amounts beside the invoice": """
        period = Period(window=month)
        expected = store.rate(period, prices=f"{folder}/prices.toml", wallets=f"{folder}/wallets.csv")
        shown(dict(expected.totals))
        shown(expected.frame)
        billed = store.validate(
            period,
            checks=["reconciliation"],
            invoices=f"{folder}/invoices.csv",
            prices=f"{folder}/prices.toml",
            wallets=f"{folder}/wallets.csv",
        )
        sheet = billed.sheet("reconciliation")
        shown(sheet["status"].value_counts().to_dict())
        shown(sheet)
    """,
}


def code(text: str) -> str:
    """A question's code without its indentation."""
    return "\n".join(line.removeprefix(" " * 8) for line in text.strip("\n").splitlines())


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[NotebookClient]:
    """A kernel whose environment names no database."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("USAGE_EXPLORE_", "PG"))}
    client = NotebookClient(
        nbformat.v4.new_notebook(),
        timeout=5 * PATIENCE,
        kernel_name="python3",
        shutdown_kernel="immediate",
        coalesce_streams=True,
    )
    with client.setup_kernel(env={**kept, "HOME": str(tmp_path / "nobody")}, cwd=str(tmp_path)):
        yield client


def locally(store: Store, common: str) -> dict[str, str]:
    """What each question shows on the database's own store."""
    names: dict[str, Any] = {"store": store}
    exec(f"from usage_explore import AggregateQuery, EventQuery, Period\n{common}", names)
    said = {}
    for question, text in QUESTIONS.items():
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(code(text), names)
        said[question] = out.getvalue()
    return said


def test_five_questions_are_answered_with_an_address_and_a_key_alone(
    events_connection: ddl.Connection, events_database_url: str, kernel: NotebookClient, tmp_path: Path
) -> None:
    # a day ago: what arrives within the settle time would move the validation's `as_of` between the two answers
    until = datetime.now(UTC) - timedelta(days=1)
    demo.append(events_connection, events_table(), days=95, per_day=300, until=until)
    last = (until - timedelta(hours=6)).replace(day=1) - timedelta(days=1)  # events arrived after the end of its month
    month = f"{last:%Y-%m}"
    ring = Keyring(tmp_path / "keys.json")
    folder = tmp_path / "files"
    with (
        connect(events_database_url) as everyone,
        asking(everyone, access=Access(ring), request_line=262_144) as client,
    ):
        store = everyone.scoped(ACME)
        files.write(store, Period(window=month), folder)
        key = ring.create(ACME, "notebook")
        assert client.get("/v1/usage-events").status_code == 401
        common = COMMON.format(month=month, folder=str(folder))
        address = str(client.base_url).removesuffix("/api/")
        cells = [CONNECT.format(address=address, key=key), common, *map(code, QUESTIONS.values())]
        kernel.nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
        kernel.execute(cleanup_kc=False)
        here = locally(store, common)
    there = {}
    for question, cell in zip(QUESTIONS, kernel.nb.cells[2:], strict=True):
        assert {output["name"] for output in cell.outputs} == {"stdout"}, (question, cell.outputs)
        there[question] = "".join(output["text"] for output in cell.outputs)
    for question, answer in here.items():
        assert there[question] == answer, question
    assert key not in json.dumps(kernel.nb.cells[2:])
    grew, tokens, raw, high, billed = there.values()
    assert "False" not in grew + raw.splitlines()[0] + raw.splitlines()[-1]
    assert "largest" in grew or "more" in grew or "of" in grew
    assert "+01:00" in tokens or "+02:00" in tokens
    assert len(high.splitlines()) > 2
    assert "matched" in billed
    # one number by other means
    (total,) = events_connection.execute(
        "SELECT sum(quantity) FROM usage_events WHERE organization_id = %s AND metric_key = 'tokens_in'"
        " AND customer_id = (SELECT id FROM usage_names WHERE kind = 'customer' AND name = %s)"
        " AND timestamp >= (%s || '-01')::timestamp AT TIME ZONE 'Europe/Berlin'"
        " AND timestamp < ((%s || '-01')::date + interval '1 month') AT TIME ZONE 'Europe/Berlin'",
        [ACME, grew.split("'")[1], month, month],
    ).fetchone() or (None,)
    assert Decimal(tokens.split("'")[1]) == total
