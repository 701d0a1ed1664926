"""The sums that an explanation needs, from the extract; of what was ingested since, from the events. See `from_events`.

Raises `ExtractUnusable` where the events must be read instead.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from usage_explore.decimals import exact_sum
from usage_explore.explain.from_events import NO_BOARD, CellSum, Condition, EventSums, sample_bound
from usage_explore.explain.leaf_sums import LeafColumns, Texts
from usage_explore.explain.model import Codes
from usage_explore.explain.result import Where
from usage_explore.extract import leaderboards, statement
from usage_explore.extract.manifest import DAY, IDS
from usage_explore.extract.routing import Held, Paths
from usage_explore.extract.scans import Scan, named_groups, span_of
from usage_explore.extract.statement import Statement
from usage_explore.query.filters import GROUPS
from usage_explore.query.queries import SUMS, AggregateQuery
from usage_explore.sql import filters
from usage_explore.sql.aggregate import KEYS

if TYPE_CHECKING:
    import pyarrow as pa

_Row = TypeVar("_Row")


@dataclass(frozen=True, slots=True)
class ExtractSums:
    """The sums of the events of two resolved queries, `sides`; the methods are those of `EventSums`."""

    paths: Paths
    held: Held
    sides: Sequence[AggregateQuery]

    @classmethod
    def of(cls, paths: Paths, sides: Sequence[AggregateQuery]) -> ExtractSums:
        """The sums of an extract whose files are whole."""
        held = paths.held(sides[0])
        for side in sides:
            paths.check(held, side)
        return cls(paths, held, sides)

    def keys(self, share: int, most: int) -> list[str]:
        """The `most` most frequent dimension keys, most frequent first."""
        found: Counter[str] = Counter()
        for side in self.sides:
            found.update(dict(self.paths.choices(side, KEYS, None, filters.dimension_keys)))
        return sorted(found, key=lambda key: (-found[key], key))[:most]

    def leaves(self, groups: Sequence[str], share: int) -> LeafColumns:
        """All combinations of values of at least one group."""
        late = self._late(lambda late: [late.leaves(groups, share)], [*groups, "id"])
        made, names = Statement(), [f"g{index}" for index in range(len(groups))]
        scans = [*self._scans(groups, rows=share > 1)]
        sums = SUMS[self.sides[0].metric]
        scale = statement.scale(sums[0], (scan for _, scan in scans), {}) if sums else 0
        parts = []
        for side, scan in scans:
            keys = [f"{statement.expression(made, scan, group)} AS g{index}" for index, group in enumerate(groups)]
            where = statement.conditions(made, scan, self.sides[side])
            if share > 1:
                where.append(f"md5(id::VARCHAR) < '{sample_bound(share)}'")
            events = f"{'count(*)' if scan.unit is None else 'sum(events)'}::HUGEINT"
            value = f"coalesce({statement.sum_of(sums[0], scan)}, 0)::DECIMAL(38, {scale})" if sums else events
            selected = ", ".join([f"{side} AS side", f"{events} AS events", f"{value} AS value", *keys])
            parts.append(
                f"SELECT {selected} FROM {statement.source(scan)} WHERE {' AND '.join(where) or 'true'}"
                f" GROUP BY {', '.join(names)}"
            )
        leaves = LeafColumns.none(len(groups))
        if parts:
            texts = "".join(f", {name}::VARCHAR AS {name}" for name in names)
            value = f"sum(value){'' if sums else '::BIGINT'}"
            text = (
                f"SELECT side, sum(events)::BIGINT, {value}{texts} FROM ({' UNION ALL '.join(parts)})"
                f" GROUP BY side, {', '.join(names)}"
            )
            assert self.paths.extracts is not None  # noqa: S101 - `held` raises without
            table = self.paths.extracts.arrow(text, made.parameters, self.held.timeout)
            sides, counts, amounts, *found = table.columns
            numbers: list[Any] = amounts.to_pylist()
            leaves = LeafColumns(_integers(sides), _integers(counts), numbers, [*map(_texts, found)])
        for more in late:
            leaves = leaves.with_late(more)
        return leaves

    def sums(self, cells: Sequence[Condition], groups: Sequence[str]) -> list[CellSum]:
        """The exact sums of all events, by cell, and by cell and value of each group."""
        boards = groups or GROUPS[:1]
        named = {group for condition in cells for pairs in condition for group, _ in pairs}
        scanned = [
            (side, scan, chosen)
            for side, query in enumerate(self.sides)
            for scan, chosen in leaderboards.scans(self.held, query, boards, named)
        ]
        made, sums = Statement(), SUMS[self.sides[0].metric]
        scale = statement.scale(sums[0], (scan for _, scan, _ in scanned), {}) if sums else 0
        parts = []
        for side, scan, chosen in scanned:
            tests = [f"WHEN {_has(made, scan, condition)} THEN {index}" for index, condition in enumerate(cells)]
            cell = f"CASE {' '.join(tests)} ELSE {len(cells)} END" if tests else "0"
            piece = leaderboards.piece(made, self.sides[side], scan, boards, chosen, scale, cell)
            parts.append(f"SELECT {side} AS side, * FROM ({piece})")
        found: list[CellSum] = []
        if parts:
            value = f"coalesce(sum({sums[0]}), 0)" if sums else "sum(events)"
            text = (
                f"SELECT side, cell, board, key, sum(events), {value} FROM ({' UNION ALL '.join(parts)}) GROUP BY ALL"
            )
            for side, cell_, board, key, events, amount in self.paths.run(self.held, text, made.parameters):
                found.append(CellSum(side, cell_, board, key, int(events), amount if sums else int(amount)))
        needed = {*boards, *named}
        found += (row for row in self._late(lambda late: late.sums(cells, boards), needed) if row.board != NO_BOARD)
        whole = [row._replace(board=NO_BOARD, key=None) for row in found if row.board == 0]
        return [*_merged(whole), *(_merged(found) if groups else ())]

    def overlaps(self, excluded: Sequence[tuple[Where, tuple[str, str | None]]]) -> list[bool]:
        """For each excluded value whether an event with the values before it has it, too."""
        conditions = [((*where, pair), ()) for where, pair in excluded]
        named = {group for where, _ in conditions for group, _ in where}
        made, parts = Statement(), []
        for side, scan in self._scans(named):
            tests = ", ".join(f"coalesce(bool_or({_has(made, scan, each)}), false)" for each in conditions)
            where = " AND ".join(statement.conditions(made, scan, self.sides[side])) or "true"
            parts.append(f"SELECT {tests} FROM {statement.source(scan)} WHERE {where}")
        rows = self.paths.run(self.held, " UNION ALL ".join(parts), made.parameters) if parts else []
        late = self._late(lambda late: [late.overlaps(excluded)], named)
        return [any(row[index] for row in [*rows, *late]) for index in range(len(excluded))]

    def _scans(self, groups: Iterable[str], *, rows: bool = False) -> Iterator[tuple[int, Scan]]:
        """The index of each side with its scans; never of summaries, if `rows`."""
        for side, query in enumerate(self.sides):
            named = {*groups} | named_groups(query, "none")
            unit = 1 if rows else DAY
            for scan in self.held.scans_of(self.held.manifest.segments, query, span_of(query), unit, named):
                yield side, scan

    def _late(self, read: Callable[[EventSums], Iterable[_Row]], groups: Iterable[str]) -> Iterable[_Row]:
        """What `read` finds in the events that were ingested at the watermark or later."""
        sources = [self.paths.late(self.held, side, groups) for side in self.sides]
        late = [source for source in sources if source is not None]
        return read(EventSums(self.paths.connection, late, self.sides)) if len(late) == len(sources) else ()


def _has(made: Statement, scan: Scan, condition: Condition) -> str:
    """Whether an event has the values of a condition."""

    def test(operator: str, group: str, value: str | None) -> str:
        column = statement.expression(made, scan, group)
        type_ = "UUID" if group in IDS else "VARCHAR"
        return f"{column} IS {operator} {'NULL' if value is None else made.bind(value, type_)}"

    where, without = condition
    tests = [test("NOT DISTINCT FROM", *pair) for pair in where] + [test("DISTINCT FROM", *pair) for pair in without]
    return " AND ".join(tests) or "true"


def _integers(column: pa.Array[Any] | pa.ChunkedArray[Any]) -> Codes:
    return np.asarray(column.to_numpy(), dtype=np.int64)


def _texts(column: pa.ChunkedArray[Any]) -> Texts:
    encoded: Any = column.dictionary_encode().combine_chunks()
    values = encoded.dictionary.to_pylist()
    codes = _integers(encoded.indices.fill_null(len(values)))
    return Texts(codes, [*values, None] if encoded.null_count else values)


def _merged(rows: Iterable[CellSum]) -> list[CellSum]:
    """The rows without repetitions of a cell, board and key of a side."""
    found: defaultdict[tuple[int, int, int, str | None], list[CellSum]] = defaultdict(list)
    for row in rows:
        found[row.side, row.cell, row.board, row.key].append(row)
    return [
        CellSum(*key, sum(row.events for row in of_key), exact_sum([row.value for row in of_key], 0))
        for key, of_key in found.items()
    ]
