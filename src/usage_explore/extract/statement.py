"""The statements that DuckDB runs over an extract: text with numbered parameters, built without a connection.

    rows     of summaries, of events, and the sums of the tail from the database
    points   sums of rows by bucket and key

and, where there are too many points for `ranking`, a second statement over them:

    ranked   keys by total, descending; ties by key in code-point order, the missing key last among equals
    series   the first `top` keys, and all others folded into one position
    filled   every series × every bucket, zero where nothing happened

Each value of a query is a parameter, and each instant, so that a text comes again and is parsed once; other numbers and
the names of files, which come from the manifest, are part of the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from functools import lru_cache
from itertools import pairwise
from typing import Any

from usage_explore.extract.connection import quoted
from usage_explore.extract.manifest import IDS, SLOT, json_pointer
from usage_explore.extract.scans import Scan, arrival, instants_of, unit_of
from usage_explore.query.base import EventFilters, Query
from usage_explore.query.filters import DIMENSION, ID_COLUMNS, LOOKED_UP, TEXT_COLUMNS, dimension_group
from usage_explore.query.limits import MAX_DECIMAL_DIGITS, MAX_METRIC_KEYS, MAX_POINTS
from usage_explore.query.queries import AggregateQuery
from usage_explore.sql.aggregate import KEYS

_EXACT = Context(prec=3 * MAX_DECIMAL_DIGITS)

_MAX_LISTED_VALUES = 50
"""Values of a filter that are parameters of their own, which lets DuckDB skip row groups without them."""

_MANY_EVENTS = 100_000
"""Events of a scan from which adding them up takes less time as the file's numbers than as those of all scans."""


@dataclass(frozen=True, slots=True)
class Tail:
    """Sums of the events that are not in the extract, with the columns of `rows_of`; decimals as plain text.

    `scales` has the digits after the point that each sum of decimals needs.
    """

    buckets: Sequence[int] = ()
    keys: Sequence[str | None] = ()
    metric_keys: Sequence[str] = ()
    events: Sequence[int] = ()
    costed: Sequence[int] = ()
    sums: Mapping[str, Sequence[str]] = field(default_factory=dict)
    scales: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Statement:
    """SQL and its parameters, added while the text is made."""

    parameters: list[Any] = field(default_factory=list)

    def bind(self, value: Any, type_: str = "") -> str:
        """The placeholder of a value, cast to a type if one is given."""
        self.parameters.append(value)
        name = f"${len(self.parameters)}"
        return f"{name}::{type_}" if type_ else name


def bucket(column: str, edges: Sequence[int], bind: Callable[[int], str] = str) -> str:
    """The number, from 1, of the bucket that holds a value of the column, which lies between the first and last edge.

    `bind` writes an edge. Edges of equal distance are one division; a binary search chooses among such runs: in a year
    of days in a zone with summer time there are five.

    >>> bucket("h", [0, 24, 48])
    '((h - 0) // 24 + 1)'
    >>> bucket("h", [0, 24, 47])
    'CASE WHEN h < 24 THEN ((h - 0) // 24 + 1) ELSE ((h - 24) // 23 + 2) END'
    """
    return _search(column, _runs(tuple(edges)), bind)


@lru_cache(maxsize=64)  # most scans of a statement have the same ones
def _runs(edges: tuple[int, ...]) -> tuple[tuple[int, int, int], ...]:
    """The first edge of each run of equal distances, the distance, and the number of its bucket."""
    runs: list[tuple[int, int, int]] = []
    for index, (start, end) in enumerate(pairwise(edges)):
        if not runs or runs[-1][1] != end - start:
            runs.append((start, end - start, index + 1))
    return tuple(runs)


def _search(column: str, runs: Sequence[tuple[int, int, int]], bind: Callable[[int], str]) -> str:
    if len(runs) == 1:
        ((start, distance, number),) = runs
        return f"(({column} - {bind(start)}) // {distance} + {number})"
    half = len(runs) // 2
    left, right = _search(column, runs[:half], bind), _search(column, runs[half:], bind)
    return f"CASE WHEN {column} < {bind(runs[half][0])} THEN {left} ELSE {right} END"


def expression(statement: Statement, scan: Scan, group: str) -> str:
    """The column of a group in a scan; a rare dimension is read from its document."""
    column = scan.layout.column(group)
    if column is not None:
        return f'"{column}"'
    key = group.removeprefix(DIMENSION)
    if key not in scan.keys:
        return "NULL::VARCHAR"
    return f"(rare ->> {statement.bind(json_pointer(key))})"


def source(scan: Scan) -> str:
    """The files of a scan as a table."""
    return f"read_parquet([{', '.join(map(quoted, scan.files))}])"


def conditions(statement: Statement, scan: Scan, query: Query) -> list[str]:
    """The query's filters, its span and what was ingested."""
    result: list[str] = []

    def column(group: str) -> str:
        return expression(statement, scan, group)

    def any_of(group: str, values: Sequence[str]) -> str:
        type_ = "UUID" if group in IDS else "VARCHAR"
        if len(values) == 1:
            return f"{column(group)} = {statement.bind(values[0], type_)}"
        if len(values) <= _MAX_LISTED_VALUES:
            return f"{column(group)} IN ({', '.join(statement.bind(value, type_) for value in values)})"
        return f"list_contains({statement.bind(list(values), f'{type_}[]')}, {column(group)})"

    result += [any_of(name, [str(value)]) for name in ID_COLUMNS if (value := getattr(query, name)) is not None]
    result += [any_of(name, values) for name in TEXT_COLUMNS if (values := getattr(query, name))]
    if isinstance(query, EventFilters):
        result += [any_of(name, values) for name in LOOKED_UP if (values := getattr(query, name))]
        result += filter(None, [arrival(query).condition("ing")])
        result += _quantities(statement, scan, query)
    result += [any_of(dimension_group(key), values) for key, values in query.dimensions]
    result += [f"{column(group)} IS NULL" for group in query.missing]
    for name, values in query.exclude:
        if name == "missing":
            result += [f"{column(group)} IS NOT NULL" for group in values]
        else:
            result.append(f"({column(name)} IS NULL OR NOT {any_of(name, [str(value) for value in values])})")
    if scan.unit is not None:
        result += scan.within("time", scan.unit, statement.bind)
    elif all(bound is None or bound % SLOT == 0 for span in scan.spans for bound in (span.since, span.until)):
        result += scan.within("slot", SLOT, statement.bind)  # which the buckets read anyway
    else:
        result += scan.within("ts", 1, statement.bind)
    if scan.as_of is not None:
        result.append(f"ing <= {statement.bind(scan.as_of)}")
    return result


def _quantities(statement: Statement, scan: Scan, query: EventFilters) -> list[str]:
    """The bounds of the quantity as decimals of the column's scale: least is rounded up, most down, which is exact."""
    result = []
    for operator, bound, rounding in (
        (">=", query.quantity_min, ROUND_CEILING),
        ("<=", query.quantity_max, ROUND_FLOOR),
    ):
        if bound is None:
            continue
        scale = scan.layout.quantity[1]
        rounded = bound.quantize(Decimal(1).scaleb(-scale), rounding, _EXACT)
        if rounded.adjusted() + 1 > 38 - scale:  # beyond every value of the column
            result.append("true" if (bound < 0) == (operator == ">=") else "false")
        else:
            result.append(f"quantity {operator} {statement.bind(format(rounded, 'f'), f'DECIMAL(38, {scale})')}")
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What rows have beside `events`: buckets of `edges`, a key of `group`, the metric key, and `sums`.

    `sums` are names of `queries.SUMS`, `scales` their digits after the point; `costed` counts events with a cost.
    """

    group: str = "none"
    edges: tuple[datetime, ...] | None = None
    metrics: bool = False
    sums: tuple[str, ...] = ()
    scales: tuple[int, ...] = ()
    costed: bool = False

    @property
    def measured(self) -> list[tuple[str, str]]:
        """The sums and their types."""
        return [(name, f"DECIMAL(38, {scale})") for name, scale in zip(self.sums, self.scales, strict=True)]

    @property
    def grouped(self) -> bool:
        """Whether rows have a key."""
        return self.group != "none"

    @property
    def columns(self) -> list[str]:
        """The names of the columns that rows are summed by."""
        has = {"bucket": self.edges is not None, "key": self.grouped, "metric_key": self.metrics}
        return [name for name, there in has.items() if there]


def rows_of(statement: Statement, query: Query, scanned: Sequence[Scan], tail: Tail, measure: Measure) -> str:
    """The rows of all scans and the sums of the tail, with the columns of the measure.

    Only many events are added up for themselves, as narrow numbers: of few, another grouping costs more than it saves.
    """
    parts = [_rows(statement, query, scan, measure) for scan in scanned]
    if tail.events or not parts:
        parts.append(_tail(statement, tail, measure))
    return " UNION ALL ".join(parts)


def _rows(statement: Statement, query: Query, scan: Scan, measure: Measure) -> str:
    if measure.group == KEYS:
        return _key_counts(statement, query, scan, source(scan))
    selected: list[str] = []
    if measure.edges is not None:
        if scan.unit is not None:
            column, unit = "time", scan.unit
        else:
            column, unit = ("slot", SLOT) if unit_of(measure.edges) % SLOT == 0 else ("ts", 1)
        edges = [instant // unit for instant in instants_of(measure.edges)]
        selected.append(f"{bucket(column, edges, statement.bind)} AS bucket")
    if measure.grouped:
        selected.append(f"{expression(statement, scan, measure.group)} AS key")
    if measure.metrics:
        selected.append("metric_key")
    by = ", ".join(str(number + 1) for number in range(len(selected)))
    is_summed = scan.unit is None and scan.rows >= _MANY_EVENTS
    if scan.unit is not None:
        events, costed = "events", "costed"
    elif is_summed:
        events, costed = "count(*)", "count(external_cost_amount)"
    else:
        events, costed = "1", "(external_cost_amount IS NOT NULL)"
    selected.append(f"{events}::BIGINT AS events")
    if measure.costed:
        selected.append(f"{costed}::BIGINT AS costed")
    value = sum_of if is_summed else _value
    selected += [f"{value(name, scan)}::{type_} AS {name}" for name, type_ in measure.measured]
    where = " AND ".join(conditions(statement, scan, query)) or "true"
    grouping = f" GROUP BY {by}" if is_summed and by else ""
    return f"SELECT {', '.join(selected)} FROM {source(scan)} WHERE {where}{grouping}"


def _value(name: str, scan: Scan) -> str:
    """What is added up for a sum of `queries.SUMS` over a scan."""
    if name == "costed_quantity" and scan.unit is None:
        return "(CASE WHEN external_cost_amount IS NOT NULL THEN quantity END)"
    return {"cost": "external_cost_amount"}.get(name, name)


def sum_of(name: str, scan: Scan) -> str:
    """A sum of `queries.SUMS` over a scan."""
    return f"sum({_value(name, scan)})"


def scale(name: str, scanned: Iterable[Scan], tail: Mapping[str, int]) -> int:
    """The digits after the point of a sum over scans and a tail, whose own are given by the sum's name."""
    scales = (scan.layout.cost[1] if name == "cost" else scan.layout.quantity[1] for scan in scanned)
    return max((tail.get(name, 0), *scales))


def _key_counts(statement: Statement, query: Query, scan: Scan, files: str) -> str:
    """How many events have each dimension key with a value."""
    parts = []
    if dimensions := scan.layout.dimensions:
        counts = ", ".join(f"count(d{index})" for index in range(len(dimensions)))
        names = statement.bind(list(dimensions), "VARCHAR[]")
        where = " AND ".join(conditions(statement, scan, query)) or "true"
        parts.append(f"SELECT unnest({names}) AS key, unnest([{counts}])::HUGEINT AS events FROM {files} WHERE {where}")
    where = " AND ".join(conditions(statement, scan, query)) or "true"
    parts.append(
        "SELECT key, count(*)::HUGEINT AS events FROM (SELECT rare, unnest(json_keys(rare)) AS key"
        f" FROM {files} WHERE rare IS NOT NULL AND {where})"
        " WHERE NOT contains(rare, 'null') OR (rare ->> ('/' || replace(replace(key, '~', '~0'), '/', '~1')))"
        " IS NOT NULL GROUP BY 1"
    )
    return " UNION ALL ".join(parts)


def _tail(statement: Statement, tail: Tail, measure: Measure) -> str:
    lists: dict[str, tuple[Sequence[Any], str]] = {
        "bucket": (tail.buckets, "BIGINT"),
        "key": (tail.keys, "UUID" if measure.group in IDS else "VARCHAR"),
        "metric_key": (tail.metric_keys, "VARCHAR"),
        "events": (tail.events, "HUGEINT"),
        "costed": (tail.costed, "HUGEINT"),
        **{name: (tail.sums.get(name, ()), type_) for name, type_ in measure.measured},
    }
    names = [*measure.columns, "events", *(["costed"] if measure.costed else []), *measure.sums]
    selected = [_unnested(statement, *lists[name], name) for name in names]
    return f"SELECT {', '.join(selected)}"


def _unnested(statement: Statement, values: Sequence[Any], type_: str, name: str) -> str:
    if type_.startswith("DECIMAL"):
        return f"unnest({statement.bind(list(values), 'VARCHAR[]')})::{type_} AS {name}"
    return f"unnest({statement.bind(list(values), f'{type_}[]')}) AS {name}"


def points(
    scanned: Sequence[Scan], query: Query, tail: Tail, measure: Measure, with_metrics: Sequence[Scan] = ()
) -> tuple[str, list[Any]]:
    """The statement of the points of scans and a tail, and its parameters.

    `with_metrics`: scans of the same events that find the metric keys with less work than grouping points by them.

    Columns: `bucket` from 1, `key` text, NULL without a group, `value`, of a ratio also its `divisor`; and, where the
    rows have metric keys, each of them as the `key` of a row without a bucket; only those with a cost, if it counts
    the costed events.
    """
    statement = Statement()
    key = "key::VARCHAR" if measure.grouped else "NULL::VARCHAR"
    values = [f"coalesce(sum({name}), 0::{type_})" for name, type_ in measure.measured] or ["sum(events)::BIGINT"]
    columns = [f"{value} AS {label}" for value, label in zip(values, ("value", "divisor"), strict=False)]
    # by the columns of the rows, as grouping by `key::VARCHAR` makes a text of each row's UUID
    by = ", ".join(name for name in measure.columns if name != "metric_key")
    text = f"SELECT bucket::BIGINT AS bucket, {key} AS key, {', '.join(columns)} FROM {{}} GROUP BY {by}"
    of_points = replace(measure, metrics=False, costed=False) if with_metrics else measure
    rows = f"({rows_of(statement, query, scanned, tail, of_points)})"
    if not measure.metrics:
        return text.format(rows), statement.parameters
    if with_metrics:
        only = Measure(metrics=True, costed=measure.costed)
        text, found = text.format(rows), f"({rows_of(statement, query, with_metrics, tail, only)})"
    else:
        added = [*measure.sums, *(["costed"] if measure.costed else [])] or ["events"]
        sums = ", ".join(f"sum({name}) AS {name}" for name in added)
        summed = f"SELECT {by}, metric_key, {sums} FROM {rows} GROUP BY {by}, metric_key"
        text, found = f"WITH summed AS MATERIALIZED ({summed}) {text.format('summed')}", "summed"
    where = "metric_key IS NOT NULL" + (" AND costed > 0" if measure.costed else "")
    nulls = ", NULL" * len(values)
    text += f" UNION ALL SELECT DISTINCT NULL::BIGINT, metric_key{nulls} FROM {found} WHERE {where}"
    return text, statement.parameters


def ranked(query: AggregateQuery, measure: Measure, kept: Sequence[str | None] | None = None) -> tuple[str, list[Any]]:
    """The statement of a resolved query over a table `points` that may repeat a point, and its parameters.

    `kept`: the keys of the series (None for missing) beside Other, by default the `top` largest; see `ranking.ranked`.
    Columns: `series_count`, `metrics`, `metric_keys` list (empty beyond `MAX_METRIC_KEYS`), then NULL or `kind`, `key`,
    `total`, `members`, `with_missing`, `points` list; of a ratio, whose `total` and `points` are the dividends, also
    `total_divisor` and `divisors` list; by rank.
    """
    statement = Statement()
    size = len(query.edges()) - 1
    parts = [
        {"zero": f"0::{type_}", "value": value, "total": total, "list": points}
        for (_, type_), (value, total, points) in zip(
            measure.measured or [("events", "HUGEINT")],
            (("value", "total", "points"), ("divisor", "total_divisor", "divisors")),
            strict=False,
        )
    ]

    def sums(template: str) -> str:
        """The template for each sum, by its name in points (`value`), in series (`total`) and as a list."""
        return ", ".join(template.format(**part) for part in parts)

    divisors = ", total_divisor, divisors" if len(parts) > 1 else ""
    of_key, of_series = sums("sum({value}) AS {total}"), sums("sum({total}) AS {total}")
    of_cell, of_all = sums("sum({value}) AS {value}"), sums("coalesce(sum({value}), {zero}) AS {total}")
    lists = sums("list(coalesce(cells.{value}, {zero}) ORDER BY number) AS {list}")
    if measure.metrics:
        metric_keys = "SELECT DISTINCT key FROM points WHERE bucket IS NULL"
    elif query.group_by == "metric_key":
        metric_keys = "SELECT DISTINCT key FROM points"
    else:
        metric_keys = f"SELECT {statement.bind(query.metric_key[0], 'VARCHAR')} AS key FROM points LIMIT 1"
    if measure.grouped:
        top = query.top
        rank = "row_number() OVER (ORDER BY sum(value) DESC, key IS NULL, key)"
        folded = f"position > {top}" if top else "false"
        position = f"least({rank}, {top + 1})" if top else rank
        if kept is not None:
            top = len(kept)
            values = [key for key in kept if key is not None]  # a bound list has no NULL
            missing = top if None in kept else top + 1
            keys = statement.bind(values, "VARCHAR[]")
            at = f"list_position({keys}, key::VARCHAR)"
            position = f"CASE WHEN key IS NULL THEN {missing} ELSE coalesce({at}, {top + 1}) END"
            folded = f"position > {top}"
        series = f"""
ranked AS MATERIALIZED (SELECT key, {of_key}, {position} AS position FROM found GROUP BY key),
series AS MATERIALIZED (
    SELECT position, CASE WHEN {folded} THEN 'other' WHEN max(key) IS NULL THEN 'missing' ELSE 'value' END AS kind,
           CASE WHEN NOT ({folded}) THEN max(key) END AS key, {of_series}, count(key) AS members,
           {folded} AND bool_or(key IS NULL) AS with_missing
    FROM ranked GROUP BY position
),
cells AS (
    SELECT position, bucket, {of_cell} FROM found JOIN ranked ON found.key IS NOT DISTINCT FROM ranked.key
    GROUP BY position, bucket
),"""
    else:
        series = f"""
series AS MATERIALIZED (
    SELECT 1 AS position, 'all' AS kind, NULL::VARCHAR AS key, {of_all}, 1 AS members, false AS with_missing FROM found
),
cells AS (SELECT 1 AS position, bucket, {sums("{value}")} FROM found),"""
    text = f"""
WITH found AS MATERIALIZED (
    SELECT bucket, key, {of_cell} FROM points WHERE bucket IS NOT NULL GROUP BY bucket, key
),{series}
counted AS (SELECT count(*) AS series_count FROM series),
added AS (
    SELECT count(*) AS metrics,
           CASE WHEN count(*) BETWEEN 1 AND {MAX_METRIC_KEYS} THEN list(key ORDER BY key) ELSE [] END AS metric_keys
    FROM ({metric_keys}) WHERE key IS NOT NULL
),
filled AS (
    SELECT series.position, {lists}
    FROM series CROSS JOIN generate_series(1, {size}) AS numbered(number)
    LEFT JOIN cells ON cells.position = series.position AND cells.bucket = number
    WHERE (SELECT series_count FROM counted) * {size} <= {MAX_POINTS}
    GROUP BY series.position
)
SELECT series_count, metrics, metric_keys, kind, key, total, members, with_missing, points{divisors}
FROM counted, added LEFT JOIN (
    SELECT position, kind, key, total, members, with_missing, points{divisors} FROM series JOIN filled USING (position)
) AS body ON true
ORDER BY position"""
    return text, statement.parameters


def metric_series(
    query: AggregateQuery, scanned: Sequence[Scan], tail: Tail, measure: Measure
) -> tuple[str, list[Any]]:
    """The sums of each key and metric key, only where there are events.

    Columns: `key`, NULL without a group, `metric_key`, `buckets` list (from 1), `counts` list, `quantities` list of
    plain text.
    """
    statement = Statement()
    key = "key::VARCHAR" if measure.grouped else "NULL::VARCHAR"
    text = f"""
WITH points AS (
    SELECT bucket, {key} AS key, metric_key, sum(events)::BIGINT AS events, sum(quantity)::VARCHAR AS quantity
    FROM ({rows_of(statement, query, scanned, tail, measure)}) GROUP BY {", ".join(measure.columns)}
)
SELECT key, metric_key, list(bucket) AS buckets, list(events) AS counts, list(quantity) AS quantities
FROM points GROUP BY key, metric_key"""
    return text, statement.parameters


def choices(query: Query, scanned: Sequence[Scan], tail: Tail, group: str, most: int | None) -> tuple[str, list[Any]]:
    """(value, events) of a group, most frequent first, without absent ones; of `KEYS` without the empty key."""
    statement = Statement()
    offered = "key <> ''" if group == KEYS else "key IS NOT NULL"
    text = (
        f"SELECT key::VARCHAR AS value, sum(events) AS events"
        f" FROM ({rows_of(statement, query, scanned, tail, Measure(group=group))})"
        f" WHERE {offered} GROUP BY key HAVING sum(events) > 0 ORDER BY 2 DESC, 1"
        + (f" LIMIT {most}" if most is not None else "")
    )
    return text, statement.parameters


def currencies(query: Query, scanned: Sequence[Scan], tail: Tail, measure: Measure) -> tuple[str, list[Any]]:
    """The currencies of costs: `key`, `costed` (their events), `cost`; without those that no event with a cost has."""
    statement = Statement()
    return (
        f"SELECT key, sum(costed)::BIGINT AS costed, sum(cost) AS cost"
        f" FROM ({rows_of(statement, query, scanned, tail, measure)}) GROUP BY key HAVING sum(costed) > 0"
    ), statement.parameters


def count(query: Query, scanned: Sequence[Scan], tail: Tail) -> tuple[str, list[Any]]:
    """The number of events."""
    statement = Statement()
    return f"SELECT coalesce(sum(events), 0) FROM ({rows_of(statement, query, scanned, tail, Measure())})", (
        statement.parameters
    )


def times(query: Query, scanned: Sequence[Scan], most: int) -> tuple[str, list[Any]]:
    """The distinct times of the events, in microseconds, at most `most`."""
    statement = Statement()
    parts = []
    for scan in scanned:
        where = " AND ".join(conditions(statement, scan, query)) or "true"
        parts.append(f"SELECT ts FROM {source(scan)} WHERE {where}")
    return f"SELECT DISTINCT ts FROM ({' UNION ALL '.join(parts)}) LIMIT {most}", statement.parameters


def texts(values: Iterable[Decimal]) -> Iterator[str]:
    """Decimals as plain text, without an exponent."""
    return (format(value, "f") for value in values)
