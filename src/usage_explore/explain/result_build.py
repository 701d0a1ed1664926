"""From the database's exact sums to the cells that are told, whose contributions sum exactly to the change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any, NamedTuple

from usage_explore.decimals import Number, difference, exact_sum
from usage_explore.errors import NotExact
from usage_explore.explain.cells import Cell, Part, Where
from usage_explore.query.queries import AggregateQuery

_SHARE = Context(prec=6)
"""A share is told to six digits; the contributions are exact."""


class Told(NamedTuple):
    """The whole change, the cells ranked by size, and everything else."""

    total: Part
    cells: tuple[Cell, ...]
    rest: Part


@dataclass(frozen=True, slots=True)
class _Sum:
    """What one region had in one window; `row` is None where it had no events."""

    events: int
    value: Number
    row: Any


def tell(
    rows: Sequence[Any],
    asked: AggregateQuery,
    regions: Sequence[tuple[Where, Where]],
    groups: Sequence[str],
    expected: Decimal | None,
) -> Told:
    """The rows of `statements.cells`, told. Raises `NotExact` for sums that are NaN or infinite."""
    zero: Number = 0 if asked.metric == "count" else Decimal(0)
    found = {(row.side, row.cell): _Sum(row.events, row.value, row) for row in rows}
    if not all(Decimal(each.value).is_finite() for each in found.values()):
        raise not_exact()
    nothing = _Sum(0, zero, None)
    before, after = ([found.get((side, number), nothing) for number in range(len(regions) + 1)] for side in (0, 1))
    earlier = _spread([each.value for each in before], expected, zero)
    whole = _part(exact_sum(earlier, zero), exact_sum((each.value for each in after), zero), None)
    change = whole.contribution
    cells = []
    rest_before, rest_after = [earlier[-1]], [after[-1].value]
    for number, (where, without) in enumerate(regions):
        then, now = before[number], after[number]
        if not difference(now.value, earlier[number]):
            rest_before.append(earlier[number])
            rest_after.append(now.value)
            continue
        cells.append(
            Cell(
                where=where,
                without=without,
                always=_always(then, now, groups, {group for group, _ in where}),
                before=earlier[number],
                after=now.value,
                share=_share(difference(now.value, earlier[number]), change),
                is_new=not then.events and bool(now.events),
                is_gone=bool(then.events) and not now.events,
                asked=asked,
            )
        )
    return Told(
        total=_part(whole.before, whole.after, change),
        cells=tuple(sorted(cells, key=lambda cell: Decimal(cell.contribution).copy_abs(), reverse=True)),
        rest=_part(exact_sum(rest_before, zero), exact_sum(rest_after, zero), change),
    )


def not_exact() -> NotExact:
    """The error for quantities that have no sum."""
    return NotExact(
        "Some quantities are NaN or infinite, so they have no exact sum; `usage-explore doctor` names them. "
        "Counting (metric=count) still works."
    )


def _spread(values: list[Number], expected: Decimal | None, zero: Number) -> list[Number]:
    """What was before in each region, the last one everything else; an expected number is spread in proportion.

    Rounded to the digits that the expected number and the values have, and the last takes what that leaves.
    """
    total = exact_sum(values, zero)
    if expected is None:
        return values
    parts: list[Number] = [Decimal(0)] * (len(values) - 1)
    if total > 0:
        digits = Decimal(1).scaleb(min(_exponent(expected), *(_exponent(Decimal(value)) for value in values), 0))
        context = Context(prec=max(28, _length(expected) + _length(Decimal(total)) + 10))
        parts = [
            context.quantize(context.divide(context.multiply(expected, Decimal(value)), Decimal(total)), digits)
            for value in values[:-1]
        ]
    return [*parts, difference(expected, exact_sum(parts, Decimal(0)))]


def _exponent(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0


def _length(value: Decimal) -> int:
    return len(value.as_tuple().digits) + abs(_exponent(value))


def _part(before: Number, after: Number, change: Number | None) -> Part:
    return Part(before=before, after=after, share=None if change is None else _share(difference(after, before), change))


def _share(contribution: Number, change: Number) -> Decimal | None:
    if not change:
        return None
    return _SHARE.add(_SHARE.divide(Decimal(contribution), Decimal(change)), 0)  # 0 divided by a decrease is -0


def _always(before: _Sum, after: _Sum, groups: Sequence[str], known: set[str]) -> Where:
    """The further values that all events of a region have, before and after."""
    there = [each for each in (before, after) if each.row is not None]
    found = []
    for place, group in enumerate(groups):
        values = {(each.row._mapping[f"low{place}"], each.row._mapping[f"high{place}"]) for each in there}
        complete = all(each.row._mapping[f"there{place}"] == each.events for each in there)
        if group not in known and complete and len(values) == 1:
            low, high = values.pop()
            if low == high:
                found.append((group, low))
    return tuple(found)
