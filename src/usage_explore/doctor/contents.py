"""Checks of the rows: whose they are, and what in them would spoil an answer."""

from __future__ import annotations

from psycopg import sql

from usage_explore.db.catalog import Relation, documented
from usage_explore.db.schema import events_table
from usage_explore.doctor.finding import Connection, Finding
from usage_explore.query.filters import TEXT_COLUMNS
from usage_explore.sql import filters
from usage_explore.sql.identifiers import quoted

_ODD = "IN ('NaN', 'Infinity', '-Infinity')"
_OUTSIDE = "{0} < '1970-01-01Z' OR {0} >= '2200-01-01Z'"


def organizations(connection: Connection, found: Relation) -> list[Finding]:
    """How many organizations there are, since every question is about one."""
    table = events_table()
    table.name, table.schema = found.name, found.schema
    listing = filters.organizations(table, distributed=found.distributed is not None)
    ids = [str(row[0]) for row in connection.execute(filters.to_sql(listing).encode()).fetchall()]
    hides = "SELECT row_security_active(%s::oid)"
    if not ids and connection.execute(hides, [found.oid]).fetchone() == (True,):
        said = "this role sees no events: the table is empty, or row-level security hides all of them"
        return [Finding("organizations", "warning", said, "Give the role a policy, see SECURITY.md, or load events.")]
    if not ids:
        return [
            Finding(
                "organizations",
                "warning",
                "the table is empty",
                "Load events with `usage-explore load FILE`, or try `usage-explore demo`.",
            )
        ]
    if len(ids) == 1:
        return [Finding("organizations", "ok", f"one, {ids[0]}, chosen without asking")]
    return [
        Finding(
            "organizations",
            "ok",
            f"{len(ids):,}; choose one with --organization-id or USAGE_EXPLORE_ORGANIZATION_ID, or in the app",
        )
    ]


def quality(connection: Connection, found: Relation) -> list[Finding]:
    """One pass over the rows for what would spoil an answer: NaN, NULL, what is no object, the future."""
    required = [name for name, (_, nullable) in documented().items() if not nullable and found.columns[name].nullable]
    looks = {
        "quantity": (
            f"quantity {_ODD}",
            "quantities are NaN or infinite",
            "fault",
            "They cannot be summed; correct them.",
        ),
        "external_cost_amount": (
            f"external_cost_amount {_ODD}",
            "costs are NaN or infinite",
            "fault",
            "They cannot be summed; correct them.",
        ),
        "dimensions": (
            "jsonb_typeof(dimensions) <> 'object'",
            "rows have dimensions that are no JSON object, so they have none",
            "warning",
            "Write {} where there are none.",
        ),
        "ingested_at": (
            "ingested_at > clock_timestamp() + interval '1 minute' AND ingested_at < '2200-01-01Z'",
            "rows say they were ingested in the future, so pinned links gain them later",
            "warning",
            "Set ingested_at to the database's clock when a row is inserted.",
        ),
        **{
            f"{name} out of bounds": (
                _OUTSIDE.format(name),
                f"rows have times outside 1970 to 2200 in {name}, so no question finds them",
                "fault",
                f"Correct or delete the rows of {quoted(found.name, found.schema)} where {_OUTSIDE.format(name)}.",
            )
            for name in ("timestamp", "ingested_at")
        },
        **{
            f"blank {name}": (
                f"{name} = ''",
                f"rows have an empty {name}, which is another value than none",
                "warning",
                f"Fill {name}{'' if name == 'metric_key' else ', or set it to NULL'}.",
            )
            for name in TEXT_COLUMNS
        },
        **{
            f"NULL {name}": (
                f"{name} IS NULL",
                f"rows have no {name}{', so no question finds them' if name in ('timestamp', 'ingested_at') else ''}",
                "fault",
                f"Fill {name}, then SET NOT NULL.",
            )
            for name in required
        },
    }
    columns = [
        f"count(*) FILTER (WHERE {condition}), min(id::text) FILTER (WHERE {condition})"
        for condition, *_ in looks.values()
    ]
    row = connection.execute(
        sql.SQL("SELECT {} FROM {}").format(
            sql.SQL(", ".join(columns)),
            sql.Identifier(found.schema, found.name),
        )
    ).fetchone()
    assert row is not None  # noqa: S101 - an aggregate without GROUP BY has one row
    findings = []
    for (name, (_, words, state, cure)), number, example in zip(looks.items(), row[::2], row[1::2], strict=True):
        if number:
            sample = f", such as id {example}" if example else ""
            findings.append(
                Finding(
                    f"contents: {name}", "fault" if state == "fault" else "warning", f"{number:,} {words}{sample}", cure
                )
            )
    return findings or [Finding("contents", "ok", "every quantity and cost is a number, nothing required is NULL")]
