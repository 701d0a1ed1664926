"""Sentences for the report of a load on what was decided for the rows of the file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from usage_explore.formatting import counted, listed
from usage_explore.load.identifiers import LOCAL_NAME

if TYPE_CHECKING:
    from usage_explore.load.row_mapper import RowMapper


def notes(mapper: RowMapper) -> Iterator[str]:
    """The sentences, after the rows were read."""
    counts, mapping = mapper.counts, mapper.mapping
    for column, times in mapper.times.items():
        if times.decided_by:
            yield f"{column}: the {'day' if times.day_first else 'month'} is first, by {times.decided_by}"
        if number := times.counts["dates"]:
            yield f"{counted(number, 'date')} in {column} read as midnight in {times.timezone}"
        if number := times.counts["local_times"]:
            yield f"{counted(number, 'time')} in {column} without an offset read in {times.timezone}"
        if number := times.counts["ambiguous"]:
            yield (
                f"{counted(number, 'time')} in {column} that the clock of {times.timezone} shows twice or skips, read"
                " with the offset before the change"
            )
        if number := times.counts["truncated"]:
            yield f"{counted(number, 'time')} in {column} finer than a microsecond; further digits are left out"
    for column, text in mapping.defaults.items():
        if column in ("product_id", "metric_key") and not mapper.sources.get(column):
            continue  # the same for all rows of the file
        if rows := counts[f"default {column}"]:
            sources = " or ".join(mapping.columns.get(column, (column,)))
            yield f"{counted(rows, 'row')} without a value in {sources}: {column} {text}"
    if rows := counts["skipped"]:
        yield f"{counted(rows, 'row')} without {listed(mapping.only_with)} skipped, as no usage"
    if rows := counts["nothing measured"]:
        yield f"{counted(rows, 'row')} in which every measure is empty or zero"
    if rows := counts["without organization"]:
        yield (
            f"{counted(rows, 'row')} without an organization belong to the organization {LOCAL_NAME!r}; name another"
            " with --organization-id UUID or --set organization_id=NAME"
        )
    if rows := counts["without customer"]:
        yield (
            f"{counted(rows, 'row')} without a customer belong to the customer {LOCAL_NAME!r}; name a column with"
            " --map customer_id=COLUMN"
        )
