"""The largest values of every column and dimension: from the extract in one statement, or from the events.

Each file is read once for all groups, its summary for those that it has. The tail is one statement of the database.
Both paths give the same.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from usage_explore.decimals import Number, exact_sum
from usage_explore.errors import NotExact
from usage_explore.extract import statement
from usage_explore.extract.engine import ExtractUnusable
from usage_explore.extract.manifest import DAY, Segment, micros
from usage_explore.extract.routing import Held, Paths, scale_of
from usage_explore.extract.scans import Scan, fitting_summaries, named_groups, span_of
from usage_explore.extract.statement import Measure, Statement
from usage_explore.query.base import Query
from usage_explore.query.filters import DIMENSION, GROUPS
from usage_explore.query.limits import MAX_LEADERBOARD_DIMENSIONS
from usage_explore.query.queries import COST_METRICS, SUMS, AggregateQuery, LeaderboardQuery
from usage_explore.results.currencies import Currencies, check_currencies
from usage_explore.results.leaders import Leaderboard, leader
from usage_explore.results.types import SeriesKind, Served
from usage_explore.results.units import AddedMetrics
from usage_explore.sql import aggregate as aggregation
from usage_explore.sql import filters
from usage_explore.sql.aggregate import KEYS


class Boards(NamedTuple):
    """The leaderboards of a query: columns first, then dimensions, those of most events first.

    `total` is the query's, `metrics` the different metrics in it, of a cost those that have one, `omitted`
    the number of dimension keys beyond `MAX_LEADERBOARD_DIMENSIONS`, `currencies` that of a cost.
    """

    boards: tuple[Leaderboard, ...]
    total: Number
    metrics: AddedMetrics
    omitted: int
    currencies: Currencies
    served: Served


class _Row(NamedTuple):
    kind: SeriesKind
    key: str | None
    total: Number
    members: int
    with_missing: bool = False


_Rows = dict[str, list[_Row]]
"""The rows of each group, by rank."""


def leaderboards(paths: Paths, query: LeaderboardQuery) -> Boards:
    """The leaderboards of a resolved query. Raises `QueryError` for several currencies, `NotExact`, `DatabaseError`."""
    began = time.perf_counter()
    because = None
    costs = paths.costs(query) if query.metric in COST_METRICS else []
    check_currencies(costs)
    try:
        rows, omitted = _from_extract(paths, query)
    except ExtractUnusable as error:
        because = str(error)
        rows, omitted = _from_events(paths, query)
    since = paths.exists_since(query)
    served = Served(because, timedelta(seconds=time.perf_counter() - began), since)
    totals = [row.total for of_group in rows.values() for row in of_group]
    if query.metric != "count" and not all(total.is_finite() for total in totals if not isinstance(total, int)):
        raise NotExact.not_finite()
    metrics = rows["metric_key"]  # which every event has
    zero: Number = 0 if query.metric == "count" else Decimal(0)
    whole = exact_sum((row.total for row in metrics), zero)
    boards = tuple(
        Leaderboard(
            group,
            sum(row.members for row in of_group),
            tuple(leader(*row, whole) for row in of_group),
        )
        for group, of_group in rows.items()
    )
    currencies = tuple(cost.currency for cost in costs)
    added = sum(row.members for row in metrics)
    if query.metric in COST_METRICS:
        added = len(paths.costs(query, "metric_key"))
    keys = tuple(row.key for row in metrics if row.key is not None)
    return Boards(boards, whole, AddedMetrics(added, keys if len(keys) == added else ()), omitted, currencies, served)


@dataclass(frozen=True, slots=True)
class Match:
    """What `matches` looks for in keys: a text in any case, or one of some ids."""

    text: str
    ids: tuple[str, ...] = ()


def matches(paths: Paths, query: LeaderboardQuery, match: Match) -> dict[str, list[tuple[str, int]]]:
    """The keys of every column and dimension that match, with their number of events: the `top` largest of each.

    Groups without one are left out. Raises `DatabaseError`.
    """
    try:
        rows, _ = _from_extract(paths, query, match)
    except ExtractUnusable:
        rows = _matching_events(paths, query, match)
    found = {
        group: [(row.key, int(row.total)) for row in of_group if row.kind == "value" and row.key is not None]
        for group, of_group in rows.items()
    }
    return {group: of_group for group, of_group in found.items() if of_group}


def _matching_events(paths: Paths, query: LeaderboardQuery, match: Match) -> _Rows:
    keys = [row.value for row in paths.connection.execute(filters.dimension_keys(paths.table, query))]
    groups = [*GROUPS, *(DIMENSION + key for key in keys[:MAX_LEADERBOARD_DIMENSIONS])]
    rows: _Rows = {group: [] for group in groups}
    selected = aggregation.matching_sums(paths.table, query, groups, match.text, match.ids)
    for board, key, events in paths.connection.execute(selected):
        if len(rows[groups[board]]) < query.top:
            rows[groups[board]].append(_Row("value", key, events, 1))
    return rows


def _from_events(paths: Paths, query: LeaderboardQuery) -> tuple[_Rows, int]:
    keys = [row.value for row in paths.connection.execute(filters.dimension_keys(paths.table, query))]
    groups = [*GROUPS, *(DIMENSION + key for key in keys[:MAX_LEADERBOARD_DIMENSIONS])]
    rows = {
        group: [_Row(*row) for row in paths.connection.execute(aggregation.leaders(paths.table, query, group))]
        for group in groups
    }
    return rows, max(len(keys) - MAX_LEADERBOARD_DIMENSIONS, 0)


def _from_extract(paths: Paths, query: LeaderboardQuery, match: Match | None = None) -> tuple[_Rows, int]:
    held = paths.held(query)
    paths.check(held, query)
    keys, omitted = _keys(paths, held, query)
    groups = [*GROUPS, *(DIMENSION + key for key in keys)]
    scanned = list(scans(held, query, groups))
    tail, scale = _tail(paths, held, query, groups)
    if sum_ := _sum(query):
        scale = statement.scale(sum_, (scan for scan, _ in scanned), {sum_: scale})
    rows: _Rows = {group: [] for group in groups}
    present: defaultdict[str, int] = defaultdict(int)
    for board, kind, key, total, members, with_missing, events in paths.run(
        held, *_statement(query, groups, scanned, tail, scale, match)
    ):
        number = int(total) if query.metric == "count" else total
        rows[groups[board]].append(_Row(kind, key, number, members, with_missing))
        present[groups[board]] += int(events or 0)
    dimensions = sorted((group for group in groups if present[group]), key=lambda group: (-present[group], group))
    ordered = [*GROUPS, *(group for group in dimensions if group not in GROUPS)]
    return {group: rows[group] for group in ordered}, omitted


def _keys(paths: Paths, held: Held, query: LeaderboardQuery) -> tuple[list[str], int]:
    """Dimension keys that the query's events may have, and the number of those beyond the limit."""
    keys = {key for scan in held.scans(query, "none", None) for key in scan.keys}
    late = paths.late(held, query, [KEYS])
    if late is not None:
        keys |= {*paths.connection.execute(filters.further_keys(late, query, sorted(keys))).scalars()}
    keys -= {""}  # which no query can name
    if len(keys) <= MAX_LEADERBOARD_DIMENSIONS:
        return sorted(keys), 0
    tail = paths.tail(held, query, Measure(group=KEYS))
    counted = paths.run(held, *statement.choices(query, held.scans(query, KEYS, None), tail, KEYS, None))
    kept = [key for key, _ in counted[:MAX_LEADERBOARD_DIMENSIONS]]
    return kept, max(len(counted) - MAX_LEADERBOARD_DIMENSIONS, 0)


def _tail(paths: Paths, held: Held, query: LeaderboardQuery, groups: Sequence[str]) -> tuple[list[Any], int]:
    """(board, key, events, sum) of what was ingested at the watermark or later, and the sums' scale."""
    late = paths.late(held, query, groups)
    if late is None:
        return [], 0
    sums = SUMS[query.metric]
    rows = list(paths.connection.execute(aggregation.sums_of_groups(late, query, groups, sums)))
    return rows, scale_of(getattr(row, name) for row in rows for name in sums)


def _sum(query: LeaderboardQuery) -> str | None:
    """The sum that is ranked, None for counts."""
    return next(iter(SUMS[query.metric]), None)


def scans(
    held: Held, query: Query, groups: Sequence[str], named: Iterable[str] = ()
) -> Iterator[tuple[Scan, list[int]]]:
    """Scans, and the indexes of the groups that each of them counts: every event once for every group.

    `named` are further groups whose columns each scan has.
    """
    filtered = named_groups(query, "none")
    as_of = None if query.as_of is None else micros(query.as_of)
    alike: defaultdict[tuple[Any, ...], list[Segment]] = defaultdict(list)
    for segment in held.manifest.segments:
        is_summarized = as_of is None or segment.last_ingested <= as_of
        shapes = [(summary.unit, summary.columns) for summary in segment.summaries] if is_summarized else []
        alike[segment.layout, tuple(shapes)].append(segment)
    for (_, shapes), segments in alike.items():
        absent = {*groups} - {*GROUPS} - {DIMENSION + key for segment in segments for key in segment.keys}
        needed = {index: filtered | ({group, *named} - absent) for index, group in enumerate(groups)}
        for chosen in _shared(segments[0] if shapes else None, needed):
            named = set[str]().union(*(needed[index] for index in chosen))
            for scan in held.scans_of(segments, query, span_of(query), DAY, named):
                yield scan, chosen


def _shared(segment: Segment | None, needed: dict[int, set[str]]) -> Iterator[list[int]]:
    """The indexes of groups in few parts that each one summary of a segment can serve, and a part of the others."""
    fitting = {
        index: [] if segment is None else fitting_summaries(segment, DAY, named) for index, named in needed.items()
    }
    while summaries := [summary for each in fitting.values() for summary in each]:
        summary, _ = Counter(summaries).most_common(1)[0]
        yield [index for index, each in fitting.items() if summary in each]
        fitting = {index: each for index, each in fitting.items() if summary not in each}
    if fitting:
        yield list(fitting)


def _statement(
    query: LeaderboardQuery,
    groups: Sequence[str],
    scanned: Sequence[tuple[Scan, list[int]]],
    tail: Sequence[Any],
    scale: int,
    match: Match | None,
) -> tuple[str, list[Any]]:
    """Columns: `board`, `kind`, `key`, `total`, `members`, `with_missing`, `present` (events with a value); by rank.

    With a `match` only of the keys that match it.
    """
    made = Statement()
    sum_ = _sum(query)
    parts = [piece(made, query, scan, groups, chosen, scale) for scan, chosen in scanned]
    if tail or not parts:
        lists = [
            f"unnest({made.bind([row.board for row in tail], 'BIGINT[]')}) AS board",
            f"unnest({made.bind([row.key for row in tail], 'VARCHAR[]')}) AS key",
            f"unnest({made.bind([row.events for row in tail], 'HUGEINT[]')}) AS events",
        ]
        if sum_:
            texts = made.bind(list(statement.texts(getattr(row, sum_) for row in tail)), "VARCHAR[]")
            lists.append(f"unnest({texts})::DECIMAL(38, {scale}) AS {sum_}")
        parts.append(f"SELECT {', '.join(lists)}")
    value = f"coalesce(sum({sum_}), 0::DECIMAL(38, {scale}))" if sum_ else "sum(events)"
    where = ""
    if match is not None:
        text_, ids = made.bind(match.text.lower(), "VARCHAR"), made.bind(list(match.ids), "VARCHAR[]")
        where = f"WHERE contains(lower(key), {text_}) OR list_contains({ids}, key)"
    text = f"""
WITH sums AS (
    SELECT board, key, sum(events) AS events, {value} AS value FROM ({" UNION ALL ".join(parts)}) {where}
    GROUP BY board, key
),
ranked AS (
    SELECT board, key, events, value,
           row_number() OVER (PARTITION BY board ORDER BY value DESC, key IS NULL, key) AS rank
    FROM sums
)
SELECT board, CASE WHEN rank > {query.top} THEN 'other' WHEN max(key) IS NULL THEN 'missing' ELSE 'value' END AS kind,
       CASE WHEN rank <= {query.top} THEN max(key) END AS key, sum(value) AS total, count(key) AS members,
       rank > {query.top} AND bool_or(key IS NULL) AS with_missing,
       sum(events) FILTER (WHERE key IS NOT NULL) AS present
FROM (SELECT board, key, events, value, least(rank, {query.top + 1}) AS rank FROM ranked)
GROUP BY board, rank
ORDER BY board, rank"""
    return text, made.parameters


def piece(
    made: Statement,
    query: AggregateQuery | LeaderboardQuery,
    scan: Scan,
    groups: Sequence[str],
    chosen: list[int],
    scale: int,
    cell: str = "",
) -> str:
    """The sums of one scan by each of the chosen groups, and by `cell`, a number as SQL, if there is one.

    Columns: `cell` if there is one, `board` (the group's index), `key`, `events`, and the sum of the query's metric.
    """
    names = [f"g{index}" for index in chosen]
    columns = [
        f"{statement.expression(made, scan, groups[index])} AS {name}"
        for index, name in zip(chosen, names, strict=True)
    ]
    if cell:
        columns.append(f"{cell} AS cell")
    where = " AND ".join(statement.conditions(made, scan, query)) or "true"
    measures = [*([] if scan.unit is None else ["events"]), *_columns(SUMS[query.metric], scan)]
    # a bit of `grouping` is 0 for the column that a set groups by, the first column's bit is the highest
    all_bits = (1 << len(names)) - 1
    cases = " ".join(
        f"WHEN {all_bits ^ (1 << (len(names) - 1 - place))} THEN {index}" for place, index in enumerate(chosen)
    )
    sums = [f"{'count(*)' if scan.unit is None else 'sum(events)'}::HUGEINT AS events"]
    sums += [f"{statement.sum_of(name, scan)}::DECIMAL(38, {scale}) AS {name}" for name in SUMS[query.metric]]
    by_cell = "cell, " if cell else ""
    return (
        f"SELECT {by_cell}CASE grouping({', '.join(names)}) {cases} END::BIGINT AS board,"
        f" coalesce({', '.join(f'{name}::VARCHAR' for name in names)}) AS key, {', '.join(sums)}"
        f" FROM (SELECT {', '.join([*columns, *measures])} FROM {statement.source(scan)} WHERE {where})"
        f" GROUP BY GROUPING SETS ({', '.join(f'({by_cell}{name})' for name in names)})"
    )


def _columns(sums: Sequence[str], scan: Scan) -> list[str]:
    """The columns that `statement.sum_of` reads."""
    read = {"quantity": ["quantity"], "cost": ["external_cost_amount"]}
    read["costed_quantity"] = ["quantity", "external_cost_amount"] if scan.unit is None else ["costed_quantity"]
    return list(dict.fromkeys(column for name in sums for column in read[name]))
