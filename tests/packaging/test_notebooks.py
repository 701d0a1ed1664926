"""Notebooks run from top to bottom on a small demo, and say what to run where there are no events."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from support import generated_events
from support.api_server import asking
from support.waiting import PATIENCE
from usage_explore import EventQuery, connect, demo
from usage_explore.access.api_keys import Keyring
from usage_explore.api.auth import Access
from usage_explore.db import ddl
from usage_explore.db.schema import events_table

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))


PREPARE = """\
%reset -f
__import__("os").chdir({folder!r})
__import__("os").environ["USAGE_EXPLORE_DATABASE_URL"] = {database_url!r}
__import__("os").environ["USAGE_EXPLORE_KEY"] = {key!r}
with __import__("warnings").catch_warnings():
    pass  # from here on Python gives every warning anew
"""

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def kernel() -> Iterator[NotebookClient]:
    """One kernel for all notebooks: what it has imported stays, the names of a notebook do not."""
    client = NotebookClient(
        nbformat.v4.new_notebook(),
        timeout=5 * PATIENCE,
        kernel_name="python3",
        shutdown_kernel="immediate",
        coalesce_streams=True,
    )
    with client.setup_kernel():
        yield client


@pytest.fixture
def run(kernel: NotebookClient, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Execute a notebook on a database, in a folder of its own, in which the kernel is after the test."""
    folder = str(tmp_path_factory.mktemp("notebook"))

    def execute(path: Path, database_url: str, key: str = "") -> Any:
        notebook = nbformat.read(path, as_version=4)
        prepare = nbformat.v4.new_code_cell(PREPARE.format(folder=folder, database_url=database_url, key=key))
        kernel.nb = nbformat.v4.new_notebook(cells=[prepare, *notebook.cells], metadata=notebook.metadata)
        kernel.execute(cleanup_kc=False)
        assert not prepare.outputs
        return notebook

    return execute


def outputs(notebook: Any, cell_id: str) -> str:
    """Everything a cell shows, as text."""
    cell = next(cell for cell in notebook.cells if cell.id == cell_id)
    texts = []
    for output in cell.outputs:
        texts.append(output.get("text", ""))
        texts += [str(value) for value in output.get("data", {}).values()]
    return "\n".join(texts)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_notebook_is_prose_and_clean_code(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.cells[0].cell_type == "markdown"
    for before, cell in zip(notebook.cells, notebook.cells[1:], strict=False):
        if cell.cell_type == "code":
            assert before.cell_type == "markdown", f"{cell.id} has no words before it"
            assert not cell.outputs
            assert cell.execution_count is None


def test_the_explore_notebook_answers_on_demo_data(
    events_connection: ddl.Connection, events_database_url: str, run: Run
) -> None:
    demo.append(events_connection, events_table(), days=33, per_day=400)
    shown = run(NOTEBOOKS / "01-explore.ipynb", events_database_url)
    for cell in shown.cells:
        for output in cell.get("outputs", []):
            assert output.get("name") != "stderr" or "export" in output["text"], output["text"]
    checks = "".join(outputs(shown, name) for name in ("exact", "compare", "leaders", "cost", "filters", "zones"))
    assert len(re.findall(r": +True", checks)) == 8
    assert "dim:model" in outputs(shown, "leaders")
    assert "unit cost" in outputs(shown, "cost")
    assert "False" not in checks
    assert "No events in this window" not in outputs(shown, "chart")
    assert "application/vnd.jupyter.widget-view+json" in str(
        next(cell for cell in shown.cells if cell.id == "brush").outputs
    )
    assert "events." in outputs(shown, "events")
    assert 'href="http://127.0.0.1:8501/?' in outputs(shown, "link")
    assert "events in" in outputs(shown, "export")
    assert "tokens_in" in outputs(shown, "sql")


def test_the_validation_notebook_walks_from_the_bill_to_the_batch(
    events_connection: ddl.Connection, events_database_url: str, run: Run
) -> None:
    demo.append(events_connection, events_table(), days=84, per_day=1_000)
    shown = run(NOTEBOOKS / "02-validate-billing.ipynb", events_database_url)
    for cell in shown.cells:
        assert not [output for output in cell.get("outputs", []) if output.get("name") == "stderr"], cell.id
    assert "high" in outputs(shown, "validate")
    assert "not run" in outputs(shown, "checks")  # without an invoice there is nothing to reconcile
    assert "expected" in outputs(shown, "high")
    assert "api_key is key_" in outputs(shown, "explain")
    assert "the parts make the change: True" in outputs(shown, "explain")
    assert outputs(shown, "batch").count("evt_") > 2
    assert "the wallets' lines make the period: True" in outputs(shown, "wallets")
    assert "lines and unpriced usage make the period: True" in outputs(shown, "rate")
    assert re.search(r"expected: [\d,.]+ EUR, [\d,.]+ GBP, [\d,.]+ USD", outputs(shown, "rate"))
    for status in ("matched", "missing", "extra", "over-billed", "wrong amount", "factor 10"):
        assert status in outputs(shown, "reconcile")
    assert "amounts are compared with the price book" in outputs(shown, "reconcile")
    assert "of tokens_in is missing" in outputs(shown, "control")
    assert "signed off by notebook" in outputs(shown, "sign")
    assert re.search(r"\+[\d,]+ events, .*arrived late", outputs(shown, "late"))
    assert "supplement" in outputs(shown, "late")
    assert 'href="http://127.0.0.1:8501/validate?' in outputs(shown, "report")
    (folder,) = {Path(found) for found in re.findall(r"corrections? in (\S+)", outputs(shown, "late"))}
    assert "<dt>By</dt><dd>notebook</dd>" in (folder.parent / "report.html").read_text()


@pytest.mark.thorough
def test_both_notebooks_run_on_an_address_and_a_key(
    events_connection: ddl.Connection, events_database_url: str, run: Run, tmp_path: Path
) -> None:
    demo.append(events_connection, events_table(), days=84, per_day=400)
    ring = Keyring(tmp_path / "keys.json")
    with connect(events_database_url) as store:
        organization = max(store.organizations(), key=lambda one: store.scoped(one).count(EventQuery()))
        key = ring.create(organization, "notebooks")
        with asking(store, access=Access(ring), request_line=262_144) as client:
            address = str(client.base_url).removesuffix("/api/")
            explored, validated = (run(path, address, key) for path in PATHS)
    for shown in (explored, validated):
        for cell in shown.cells:
            for output in cell.get("outputs", []):
                assert output.get("name") != "stderr" or "export" in output["text"], output["text"]
                assert key not in str(output)
    checks = "".join(outputs(explored, name) for name in ("exact", "compare", "leaders", "cost", "filters", "zones"))
    assert len(re.findall(r": +True", checks)) == 8
    assert "False" not in checks
    assert 'href="http://127.0.0.1:8501/?' in outputs(explored, "link")
    assert "events in" in outputs(explored, "export")
    assert "median" in outputs(explored, "sql")
    assert "high" in outputs(validated, "validate")
    assert "the parts make the change: True" in outputs(validated, "explain")
    assert "the wallets' lines make the period: True" in outputs(validated, "wallets")
    assert "matched" in outputs(validated, "reconcile")
    assert "lines and unpriced usage make the period: True" in outputs(validated, "rate")
    assert "Nothing is signed: store: a store over HTTP does not offer this" in outputs(validated, "sign")
    assert 'href="http://127.0.0.1:8501/validate?' in outputs(validated, "report")


@pytest.mark.each_value
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    ("dimensions", "age", "said"),
    [
        ("{}", timedelta(days=400), "the newest event, "),
        ('{"tier": "gold"}', timedelta(days=15), "No event has the dimension `model`; grouped by dim:tier"),
        (
            '{"model": null, "region": "eu"}',
            timedelta(days=15),
            "No event has the dimension `model`; grouped by dim:region",
        ),
    ],
)
def test_a_notebook_runs_on_ten_events_and_says_what_is_missing(
    events_connection: ddl.Connection,
    events_database_url: str,
    run: Run,
    path: Path,
    dimensions: str,
    age: timedelta,
    said: str,
) -> None:
    newest = datetime.now(UTC) - age
    made = [
        replace(
            row,
            organization_id=generated_events.ORGANIZATION,
            timestamp=newest - timedelta(hours=number // 2, weeks=number % 2),
            ingested_at=newest,
            metric_key="calls",
            quantity=Decimal(number + 1),
            external_cost_amount=None if dimensions == "{}" else Decimal("0.1") * number,
            external_cost_currency=None if dimensions == "{}" else "usd" if number % 3 else None,
            dimensions=dimensions,
        )
        for number, row in enumerate(generated_events.generate(per_scene=1)[:10])
    ]
    generated_events.insert(events_connection, made)
    shown = run(path, events_database_url)
    text = "\n".join(outputs(shown, cell.id) for cell in shown.cells if cell.cell_type == "code")
    errors = [out["text"] for cell in shown.cells for out in cell.get("outputs", []) if out.get("name") == "stderr"]
    assert not [line for line in errors if "export" not in line], errors
    assert "False" not in re.sub(r"complete.*", "", outputs(shown, "exact") if path.stem == "01-explore" else text)
    if path.stem == "01-explore" or "newest event" in said:
        assert said in text
    if path.stem == "01-explore":
        assert len(re.findall(r": +True", outputs(shown, "leaders"))) == 2
        assert ("No event of this window has a dimension" in outputs(shown, "leaders")) == (dimensions == "{}")
        costed = sum(row.external_cost_amount is not None for row in made)
        assert ("No event of this window has a cost" in outputs(shown, "cost")) == (not costed)
        assert len(re.findall(r": +True", outputs(shown, "cost"))) == bool(costed)
    if path.stem == "02-validate-billing":
        assert "No event of this period was sent twice" in text
        assert "knows none of these metrics" in text
        assert "The usage is not rated: prices: there is no price book; give one" in text
        assert "gateway counted none of this" in text
        assert "Nothing is signed: set sign = True" in text
        assert "Without a sign-off there is nothing to compare with" in text


def test_sums_of_long_quantities_are_exact(
    events_connection: ddl.Connection, events_database_url: str, run: Run
) -> None:
    """Of 28 digits, as many as Python's decimal arithmetic keeps: their sums have more."""
    newest = datetime.now(UTC) - timedelta(days=15)
    made = [
        replace(
            row,
            organization_id=generated_events.ORGANIZATION,
            timestamp=newest - timedelta(hours=number),
            ingested_at=newest,
            metric_key="calls",
            quantity=Decimal(f"{9876543210987654321 - number}.{123456789 + number}"),
            external_cost_amount=None,
            external_cost_currency=None,
            dimensions=json.dumps({"model": "ab"[number % 2]} if number % 3 else {}),
        )
        for number, row in enumerate(generated_events.generate(per_scene=3)[:30])
    ]
    generated_events.insert(events_connection, made)
    explored, validated = (run(path, events_database_url) for path in PATHS)
    checks = "".join(outputs(explored, name) for name in ("exact", "compare", "leaders", "filters", "zones"))
    checks += "".join(outputs(validated, name) for name in ("explain", "wallets"))
    assert len(re.findall(r": +True", checks)) == 9
    assert "False" not in checks
    assert "0E" not in "".join(outputs(explored, cell.id) for cell in explored.cells if cell.cell_type == "code")


def test_notebooks_run_on_events_of_the_future_alone(
    events_connection: ddl.Connection, events_database_url: str, run: Run
) -> None:
    now = datetime.now(UTC)
    row = generated_events.generate(per_scene=1)[0]
    made = [
        replace(
            row,
            id=UUID(int=number + 1),
            idempotency_key=f"key {number}",
            organization_id=generated_events.ORGANIZATION,
            timestamp=now + timedelta(days=10, hours=number),
            ingested_at=now - timedelta(minutes=10),
        )
        for number in range(50)
    ]
    generated_events.insert(events_connection, made)
    _, validated = (run(path, events_database_url) for path in PATHS)
    assert "The period has not begun, so there is no change to explain." in outputs(validated, "explain")
    assert "50 events" in outputs(validated, "rows")


@pytest.mark.parametrize(("events", "minutes"), [(8, 0), (1, 10), pytest.param(8, 10, marks=pytest.mark.thorough)])
def test_notebooks_say_what_a_load_a_moment_ago_leaves_unknown(
    events_connection: ddl.Connection, events_database_url: str, run: Run, events: int, minutes: int
) -> None:
    """Nothing is examined within the settle time; when the events arrived is not known at any time."""
    now = datetime.now(UTC)
    made = [
        replace(
            generated_events.generate(per_scene=1)[0],
            id=UUID(int=number + 1),
            idempotency_key=f"key {number}",
            organization_id=generated_events.ORGANIZATION,
            timestamp=now - timedelta(days=12 + number),
            ingested_at=now - timedelta(minutes=minutes),
            metric_key="calls",
            quantity=Decimal(number + 1),
            external_cost_amount=Decimal(1),
            external_cost_currency="USD",
        )
        for number in range(events)
    ]
    generated_events.insert(events_connection, made)
    explored, validated = (run(path, events_database_url) for path in PATHS)
    texts = [
        "\n".join(outputs(shown, cell.id) for cell in shown.cells if cell.cell_type == "code")
        for shown in (explored, validated)
    ]
    joined = "".join(texts)
    assert not [joined[m.start() - 200 : m.end() + 100] for m in re.finditer(r"\b1 (events|corrections)\b", joined)]
    assert re.search(r"arrived late is not known: arrival times unknown, lateness not judged: \d events? of", texts[0])
    is_examined = minutes > 0
    left = "8 events of the period arrived in the last 5 minutes and are not examined; wait until "
    assert texts[1].count(left) == (0 if is_examined else 2)
    assert ("No event of this period was examined" in texts[1]) == (not is_examined)
    assert ("No customer's usage stands out" in texts[1]) == is_examined
    assert ("No event of this period was sent twice" in texts[1]) == is_examined
    assert ("findings: {'high': " in outputs(validated, "sign")) == is_examined
    assert ("findings: none, as no event was examined" in texts[1]) == (not is_examined)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_notebook_without_events_says_what_to_run(path: Path, database_url: str, run: Run) -> None:
    with pytest.raises(CellExecutionError, match="usage-explore demo"):
        run(path, database_url)
