"""Usage exports of cloud and AI providers are recognized and loaded to the last digit, without any option."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from datetime import datetime
from decimal import Decimal
from importlib import resources
from itertools import chain
from pathlib import Path
from uuid import UUID, uuid5

import pytest

from usage_explore.errors import ConfigurationError
from usage_explore.load.mapping import parse_preset, preset_named, presets
from usage_explore.load.prepared import LoadOptions, prepare
from usage_explore.names import NAMESPACE

SAMPLES = Path(__file__).parent / "samples"
EXPECTED = tomllib.loads((SAMPLES / "expected.toml").read_text("utf-8"))
CUSTOMER_COLUMNS = ("customer", "SubAccountId", "BillingAccountId")
"""What the UUID of a customer is made of, with its text; FOCUS has always had its own column."""

NOT_IN_SAMPLES = {
    "aws-cur": {"pricing/RateId", "pricing_rate_id", "pricing_rate_code", "lineItem/RateCode", "product.product_name"},
    "gcp-billing": {"service.id", "service_id", "sku.id", "sku_id", "usage.amount", "usage_amount", "tags"},
    "github-usage": {"usage_at"},  # the name of `date` in reports of early 2025
    "cursor": {"Cost to you"},  # in exports before 2025
    "focus": {"Id"},  # of the FinOps Foundation's sample; it is no column of the specification
}
"""Columns of presets that no sample has: other versions of the export, which the vendors document."""


def columns_of(name: str) -> tuple[str, ...]:
    """The columns by which a sample is recognized."""
    with LoadOptions().open(SAMPLES / name) as source:
        return source.sample_names()


def text_by_id(texts: list[str]) -> dict[UUID, str]:
    """Every id that a customer of these texts may have."""
    made = {uuid5(NAMESPACE, f"{column}={text}"): text for column in CUSTOMER_COLUMNS for text in texts}
    return made | {UUID(text): text for text in texts if len(text) == 36}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_sample_is_loaded_to_the_last_digit(load_again, name):
    expected = EXPECTED[name]
    report = load_again(SAMPLES / name, organization_id=None)
    assert any(
        note.startswith(f"preset {expected['preset']} (") and "recognized by its columns" in note
        for note in report.notes
    )
    assert (report.loaded, report.already_there, report.rejected) == (expected["events"], 0, 0)
    assert (report.first, report.last) == tuple(map(datetime.fromisoformat, (expected["first"], expected["last"])))

    events = load_again.rows(
        "metric_key", "quantity", "external_cost_amount", "external_cost_currency", "customer_id", "product_id"
    )
    quantities: Counter[str] = Counter()
    costs: Counter[str] = Counter()
    for metric, quantity, cost, currency, _, _ in events:
        quantities[metric] += quantity
        if cost is not None:
            costs[currency or ""] += cost
        else:
            assert currency is None
    assert dict(quantities) == {metric: Decimal(text) for metric, text in expected["quantity"].items()}
    assert Counter(event[0] for event in events) == expected["events_by_metric"]
    assert dict(costs) == {currency: Decimal(text) for currency, text in expected["cost"].items()}

    text_of = {**text_by_id(expected["customers"]), uuid5(NAMESPACE, "customer=local"): "local"}
    assert {text_of[event[4]] for event in events} - {"local"} == set(expected["customers"])

    again = load_again(SAMPLES / name, organization_id=None)
    assert (again.loaded, again.already_there) == (0, expected["events"])


@pytest.mark.parametrize("name", EXPECTED)
def test_a_sample_is_recognized_as_one_product_only(name):
    columns = columns_of(name)
    fits = Counter({preset.name: preset.fit(columns) for preset in presets()})
    (best, most), (_, second) = fits.most_common(2)
    assert best == expected_preset(name)
    assert second < most


def expected_preset(name: str) -> str:
    return str(EXPECTED[name]["preset"])


def test_every_preset_has_samples():
    assert {preset.name for preset in presets()} == {expected["preset"] for expected in EXPECTED.values()}


@pytest.mark.parametrize("preset", presets(), ids=lambda preset: preset.name)
def test_a_preset_begins_with_its_product_and_documentation(preset):
    folder = resources.files("usage_explore.load") / "presets"
    text = (folder / f"{preset.name}.toml").read_text("utf-8")
    comment = text[: text.index("\ntitle")]
    assert all(line.startswith("#") for line in comment.splitlines())
    assert "https://" in comment or preset.name == "usage-explore-workbook"
    assert parse_preset(text, preset.name) == preset


@pytest.mark.parametrize("preset", presets(), ids=lambda preset: preset.name)
def test_a_preset_names_columns_that_its_product_exports(preset):
    mapping = preset.mapping
    there: set[str] = set()
    for name in EXPECTED:
        if expected_preset(name) == preset.name:
            names = (*columns_of(name), *prepare(SAMPLES / name, LoadOptions()).names)
            there.update(column.lower() for column in names)
    named = {
        *chain.from_iterable(preset.recognize),
        *chain.from_iterable(mapping.columns.values()),
        *chain.from_iterable(mapping.names.values()),
        *chain.from_iterable(mapping.key),
        *mapping.measures,
        *chain.from_iterable(measure.minus for measure in mapping.measures.values()),
        *(measure.without for measure in mapping.measures.values() if measure.without),
        *mapping.measure_members,
        *mapping.only_with,
        *mapping.tags,
        *(factor for factor in mapping.cost_factors if not factor[0].isdigit()),
        *mapping.cost_plus,
    }
    unknown = {column for column in named if "*" not in column and column.lower() not in there}
    assert unknown <= NOT_IN_SAMPLES.get(preset.name, set())


def test_readable_names_come_with_the_ids():
    prepared = prepare(SAMPLES / "azure-cost_ea.csv", LoadOptions())
    mapper = prepared.ready(prepared.mapper(UUID(int=1)))
    with prepared.options.open(prepared.path) as source:
        for _, record, _ in source:
            mapper.rows(record)
    assert mapper.readable[str(UUID(int=1)), "customer", "1caaa5a3-2b66-438e-8ab4-bce37d518c5d"] == "Research"


def test_a_cost_in_cents_becomes_dollars(load_again):
    load_again(SAMPLES / "anthropic-usage_cost_report.json", organization_id=None)
    assert sorted(load_again.rows("metric_key", "external_cost_amount", "external_cost_currency")) == [
        ("uncached_input_tokens", Decimal("1.2378912"), "USD"),
        ("web_search", Decimal("0.5"), "USD"),
    ]


def test_credits_are_part_of_the_cost(load_again):
    record = {
        "usage_start_time": "2026-10-03 00:00:00 UTC",
        "service": {"id": "S1", "description": "Compute"},
        "sku": {"id": "K1", "description": "Core"},
        "usage": {"amount": 3600, "amount_in_pricing_units": 1},
        "project": {"id": "shop", "name": "Shop"},
        "labels": [{"key": "team", "value": "search"}],
        "cost": 1.25,
        "currency": "EUR",
        "credits": [{"name": "a", "amount": -0.5}, {"name": "b", "amount": -0.25}],
    }
    load_again(load_again.file("gcp.jsonl", json.dumps(record)), organization_id=None)
    [(cost, currency, dimensions)] = load_again.rows("external_cost_amount", "external_cost_currency", "dimensions")
    assert (cost, currency) == (Decimal("0.5"), "EUR")
    assert dimensions["label:team"] == "search"
    assert dimensions["project.id"] == "shop"


def test_the_last_line_of_a_message_counts_with_all_its_tokens(load_again):
    lines = [
        {"input_tokens": 3, "cache_read_input_tokens": 9, "output_tokens": 1},
        {"input_tokens": 3, "cache_read_input_tokens": 0, "output_tokens": 527},
    ]
    text = "\n".join(
        json.dumps(
            {
                "timestamp": f"2026-10-09T10:00:0{second}Z",
                "sessionId": "s1",
                "message": {"id": "m1", "model": "large", "content": [{"text": "secret"}], "usage": usage},
            }
        )
        for second, usage in enumerate(lines)
    )
    load_again(load_again.file("session.jsonl", text), organization_id=None)
    assert sorted(load_again.rows("metric_key", "quantity")) == [("input_tokens", 3), ("output_tokens", 527)]
    assert "secret" not in str(load_again.rows("dimensions"))


PROMPTS = [
    ("litellm.csv", {"messages": "secret", "response": "secret", "metadata": '{"prompt": "secret"}'}),
    ("langfuse_ui.json", {"input": "secret", "output": {"text": "secret"}, "metadata": {"prompt": "secret"}}),
    ("helicone.jsonl", {"request_body": {"messages": "secret"}, "response_body": "secret", "prompt": "secret"}),
    ("claude-code.jsonl", {"toolUseResult": "secret", "summary": "secret"}),
]


@pytest.mark.parametrize(("name", "prompts"), PROMPTS)
def test_prompts_and_answers_become_no_dimensions(load_again, name, prompts):
    prepared = prepare(SAMPLES / name, LoadOptions())
    with prepared.options.open(prepared.path) as source:
        records = [{**record, **prompts} for _, record, _ in source]
    path = load_again.file("prompts.jsonl", "\n".join(json.dumps(record, default=str) for record in records))
    report = load_again(path, organization_id=None)
    assert report.loaded == EXPECTED[name]["events"]
    assert "secret" not in str(load_again.rows("dimensions"))


def test_totals_are_neither_measured_nor_dimensions(load_again):
    data = {"prompt_tokens": 120, "completion_tokens": 30, "total_tokens": 150, "status": 200}
    event = {"specversion": "1.0", "type": "prompt", "id": "1", "source": "api", "subject": "ann", "data": data}
    load_again(load_again.file("ce.jsonl", json.dumps({**event, "time": "2026-10-02T08:30:00Z"})), organization_id=None)
    rows = load_again.rows("metric_key", "quantity", "dimensions")
    assert sorted(row[:2] for row in rows) == [("prompt.completion_tokens", 30), ("prompt.prompt_tokens", 120)]
    assert rows[0][2] == {"subject": "ann", "source": "api", "data.status": 200}


def test_a_total_alone_is_measured(load_again):
    event = {"specversion": "1.0", "type": "prompt", "id": "1", "source": "api", "subject": "ann"}
    event |= {"time": "2026-10-02T08:30:00Z", "data": {"total_tokens": 150, "duration_ms": 7}}
    load_again(load_again.file("ce.jsonl", json.dumps(event)), organization_id=None)
    assert sorted(load_again.rows("metric_key", "quantity")) == [
        ("prompt.duration_ms", 7),
        ("prompt.total_tokens", 150),
    ]


def test_an_organization_column_of_an_export_is_a_dimension(load_again):
    header = "request_id,call_type,spend,prompt_tokens,completion_tokens,startTime,end_user,organization_id"
    row = "r1,acompletion,1.5,1,2,2026-10-02 08:30:00,ann,org-1"
    load_again(load_again.file("litellm.csv", f"{header}\n{row}\n"), organization_id=None)
    assert len(set(load_again.rows("organization_id", "1 AS timestamp", "1 AS id"))) == 1
    assert load_again.rows("dimensions")[0][0]["organization_id"] == "org-1"


def test_a_measure_that_only_later_rows_have_is_loaded(load_again):
    first = {"request_id": "r", "call_type": "a", "spend": 0, "prompt_tokens": 1, "completion_tokens": 1}
    first |= {"startTime": "2026-10-02T08:30:00Z", "user": "bob"}
    records = [{**first, "request_id": f"r{number}"} for number in range(150)]
    records.append({**first, "request_id": "last", "end_user": "ann"})
    path = load_again.file("litellm.jsonl", "\n".join(map(json.dumps, records)))
    load_again(path, organization_id=None)
    assert {row[0] for row in load_again.rows("customer_id")} == {
        uuid5(NAMESPACE, "customer=ann"),
        uuid5(NAMESPACE, "customer=bob"),
    }


@pytest.mark.parametrize("date", ["10/04/2026", "2026-10-04"])
def test_azure_dates_have_the_month_first(load_again, date):
    text = (SAMPLES / "azure-cost_ea_2024.csv").read_text("utf-8-sig")
    header, row = text.splitlines()[:2]
    load_again(load_again.file("azure.csv", f"{header}\n{row.replace('10/04/2026', date)}\n"), organization_id=None)
    assert load_again.rows("timestamp::date::text AS timestamp, 1 AS id")[0][0] == "2026-10-04"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('titel = "x"', "unknown key 'titel'"),
        ('[columns]\ncost = ["Cost"]', "'cost' is not a column of the events table"),
        ('measure_names = "("', "is no pattern"),
        ("[measures]\na = { metric = 'b' }", "measures: is not a table of metrics, or of tables with metric_key"),
    ],
)
def test_a_wrong_preset_is_refused_by_its_key(text, said):
    with pytest.raises(ConfigurationError, match=said):
        parse_preset(text, "mine")


def test_the_documented_preset_of_ones_own_works(load_again):
    text = (Path(__file__).parents[2] / "docs" / "loading.md").read_text("utf-8")
    example = text[text.index("## A preset of your own") :]
    blocks = {kind: example.split(f"```{kind}\n", 1)[1].split("```", 1)[0] for kind in ("text", "toml")}
    preset = load_again.file("mine.toml", blocks["toml"])
    path = load_again.file("gateway.csv", blocks["text"])
    for loaded in (3, 0):
        assert load_again(path, organization_id=None, preset=str(preset)).loaded == loaded
    assert preset_named(str(preset)).title == "Our gateway"
    rows = load_again.rows("metric_key", "quantity", "external_cost_amount", "timestamp", "dimensions")
    assert {row[:3] for row in rows} == {
        ("output_tokens", 300, Decimal("0.0042")),
        ("cached_tokens", 200, None),
        ("uncached_tokens", 1000, None),
    }
    assert {row[3] for row in rows} == {datetime.fromisoformat("2026-10-01T06:00:00Z")}
    assert rows[0][4]["tag:team"] == "search"
    assert "Summe" not in rows[0][4]
