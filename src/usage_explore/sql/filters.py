"""Queries as SQL: pure functions from a query to an SQLAlchemy `Select`, and the pages of events that they read.

`conditions` is the one place that restricts a statement to its organization, applies the filters and excludes rows
whose `timestamp` or `ingested_at` is outside 1970 to 2200 (`within_bounds`). Every value is a bound parameter; `to_sql`
writes them inline for reading.

`rows_after` and `rows_before` read a page. No plan suits all filters: scanning the paging index in order is fast if
many events pass, and reads most of the table if few do; fetching all passing events and sorting them is fast if there
are few. So a filtered page first scans a few events of the index, scans more if the first scan promises a full page,
and else fetches and sorts all passing events.

An export reads pages of events as text (`exported_texts`), with the digits of their decimals.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Connection,
    DateTime,
    FromClause,
    Numeric,
    Row,
    Select,
    Subquery,
    Table,
    Text,
    Uuid,
    all_,
    any_,
    case,
    func,
    literal,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy import column as sql_column
from sqlalchemy import table as sql_table
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, OID, aggregate_order_by
from sqlalchemy.types import TypeEngine

from usage_explore.errors import ScopeError
from usage_explore.query.base import EventFilters, Query, Windowed
from usage_explore.query.filters import DIMENSION, ID_COLUMNS, LOOKED_UP, TEXT_COLUMNS, Texts, dimension_group
from usage_explore.query.queries import EventQuery, Position
from usage_explore.query.validators import EARLIEST, LATEST
from usage_explore.sql.identifiers import quoted

_DIALECT = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call] # others double each %

_MAX_INDEXED_VALUES = 20
"""Values of a dimension that the index on `dimensions` is searched for; for more of them it is not used."""

_SCALAR = re.compile(r"true|false|-?(0|[1-9][0-9]{0,131071})(\.[0-9]{1,16383})?")
"""Texts of JSON booleans and numbers, up to the digits that PostgreSQL's numeric holds."""

FIRST_SCAN_EVENTS, LONG_SCAN_EVENTS = 2_000, 10_000
"""Events of the index that the first and the second scan read before all passing events are fetched and sorted."""

_MAX_SHORTFALL = 2
"""The long scan is skipped if the page needs more than this many times the events that it would find."""

_RESOLUTION = timedelta(microseconds=1)
"""Of PostgreSQL's times."""

NEWEST_EVENTS = "newest_events"
"""The subquery of `aggregate.ingested_since`, whose rows are of the organization and within bounds already: comparing
them again takes a sixth of the time of a sum."""

_INDEXED = ("organization_id", "customer_id", "occurred_after", "occurred_before", "as_of")
"""Parameters that an index serves in page order, or that exclude hardly any events."""
_Rows = Sequence[Row[Any]]


def conditions(table: FromClause, query: Query) -> list[ColumnElement[bool]]:
    """The query's organization, filters and window as SQL conditions.

    Raises `ScopeError` if the query names no organization, `ValueError` for a relative window.
    """
    return [*_without_window(table, query), *within_bounds(table.c.timestamp, *_window(query))]


def _without_window(table: FromClause, query: Query) -> list[ColumnElement[bool]]:
    c = table.c
    result = [*filters(partial(expression, table), query)]
    for key, values in query.dimensions:
        result += _containing(c.dimensions, dimension_group(key).removeprefix(DIMENSION), values)
    if not (isinstance(table, Subquery) and table.name == NEWEST_EVENTS):
        result = [scope(c.organization_id, query), *result, *within_bounds(c.ingested_at)]
    if query.as_of is not None:
        result.append(c.ingested_at <= query.as_of)
    return result


def within_bounds(
    instant: ColumnElement[datetime], since: datetime | None = None, until: datetime | None = None
) -> list[ColumnElement[bool]]:
    """The half-open window `[since, until)`; 1970 and 2200 for an end that is None.

    PostgreSQL has times that Python cannot represent: before year 1, after 9999, infinite. One such row, for example
    from a sender that passed milliseconds to `to_timestamp` (year 57837), must not fail every page that includes it.
    """
    return [instant >= (since or EARLIEST), instant < (until or LATEST)]


def outside_bounds(table: Table) -> ColumnElement[bool]:
    """The rows that no query returns: with a time outside 1970 to 2200, or without one, which only a view can have."""
    times = (table.c.timestamp, table.c.ingested_at)
    return or_(*(or_(time < EARLIEST, time >= LATEST, time.is_(None)) for time in times))


def scope(organization: ColumnElement[UUID], query: Query) -> ColumnElement[bool]:
    """The condition that restricts a statement to the query's organization. Raises `ScopeError` if it names none."""
    if query.organization_id is None:
        raise ScopeError("organization_id: a query needs an organization; name one")
    return organization == query.organization_id


def filters(column: Callable[[str], ColumnElement[Any]], query: Query) -> list[ColumnElement[bool]]:
    """The query's filters without its window and `as_of`; `column` gives the SQL column of a group or other column."""
    result: list[ColumnElement[bool]] = []
    for name in ID_COLUMNS:
        if (value := getattr(query, name)) is not None:
            owner = column(name)
            result.append(owner == (value if isinstance(owner.type, Uuid) else str(value)))
    result += [_any_of(column(name), values) for name in TEXT_COLUMNS if (values := getattr(query, name))]
    if isinstance(query, EventFilters):
        result += _own_filters(column, query)
    result += [_any_of(column(dimension_group(key)), values) for key, values in query.dimensions]
    result += [column(group).is_(None) for group in query.missing]
    for name, values in query.exclude:
        if name == "missing":
            result += [column(group).is_not(None) for group in values]
        else:
            excluded = column(name)
            result.append(or_(excluded.is_(None), excluded != all_(array(values, excluded.type))))
    return result


def _own_filters(column: Callable[[str], ColumnElement[Any]], query: EventFilters) -> list[ColumnElement[bool]]:
    """The filters on ids, keys, arrival and quantities. NaN, which PostgreSQL orders last, is in no range."""
    result = [_any_of(column(name), values) for name in LOOKED_UP if (values := getattr(query, name))]
    if query.ingested_after is not None:
        result.append(column("ingested_at") >= query.ingested_after)
    if query.ingested_before is not None:
        result.append(column("ingested_at") < query.ingested_before)
    least, most = query.quantity_min, query.quantity_max
    if least is not None:
        quantity = column("quantity")
        result += [quantity >= least, quantity < literal(Decimal("NaN"), Numeric)]
    if most is not None:
        result.append(column("quantity") <= most)
    return result


def expression(table: FromClause, group: str) -> ColumnElement[Any]:
    """The column of a group, or its dimension as text."""
    return dimension(table, group.removeprefix(DIMENSION)) if group.startswith(DIMENSION) else table.c[group]


def dimension(table: FromClause, key: str) -> ColumnElement[str]:
    """A dimension as text, NULL if it is absent or null."""
    return table.c.dimensions.op("->>", return_type=Text())(literal(key, Text))


def array(values: Iterable[Any], kind: TypeEngine[Any]) -> ColumnElement[Any]:
    """The values, of this type, as one bound parameter: there may be more than a statement may have parameters."""
    return literal(list(values), ARRAY(kind)).cast(ARRAY(kind))


def page(
    table: FromClause,
    query: EventQuery,
    rows: int | None,
    after: Position | None = None,
    times: Sequence[datetime] | None = None,
) -> Select[Any]:
    """Up to `rows` events after a position, newest first; None for all. `times` are all that the events may have.

    The position is the only upper bound of the time: beside a later one PostgreSQL begins to read the index at that.
    """
    c = table.c
    since, until = _window(query)
    if after is not None:
        until = min(until or LATEST, min(after.timestamp, LATEST) + _RESOLUTION)
    statement = select(table).where(*_without_window(table, query), *within_bounds(c.timestamp, since, until))
    if times is not None:
        statement = statement.where(_one_of(c.timestamp, times))
    if after is not None:
        statement = statement.where(_keyset(table) < _bound(table, after))
    return statement.order_by(c.timestamp.desc(), c.id.desc()).limit(rows)


def page_before(
    table: Table, query: EventQuery, rows: int | None, before: Position, times: Sequence[datetime] | None = None
) -> Select[Any]:
    """Up to `rows` events at or before a position, nearest first, which is oldest first; None for all.

    The position is the only lower bound of the time, as the upper one of `page`.
    """
    c = table.c
    since, until = _window(query)
    bounds = within_bounds(c.timestamp, max(since or EARLIEST, before.timestamp), until)
    if times is not None:
        bounds.append(_one_of(c.timestamp, times))
    return (
        select(table)
        .where(*_without_window(table, query), *bounds)
        .where(_keyset(table) >= _bound(table, before))
        .order_by(c.timestamp, c.id)
        .limit(rows)
    )


def count(table: Table, query: Query) -> Select[int]:
    """The number of events of a query."""
    return select(func.count()).select_from(table).where(*conditions(table, query))


def extent(table: Table, query: EventQuery) -> Select[datetime, datetime]:
    """The times of the first and the last event, read from the two ends of the index."""
    timestamp = table.c.timestamp
    return select(func.min(timestamp), func.max(timestamp)).where(*conditions(table, query))


def first(table: Table, query: EventQuery) -> Select[datetime | None]:
    """The time of the first event, read from the start of the index."""
    return select(func.min(table.c.timestamp)).where(*conditions(table, query))


def known(table: Table, query: Query, since: datetime | None, until: datetime) -> Select[datetime]:
    """The latest `ingested_at` of the organization from `since` to `until`, both inclusive."""
    arrived = table.c.ingested_at
    arrivals = [*within_bounds(arrived, since), arrived <= until]
    return select(func.max(arrived)).where(scope(table.c.organization_id, query), *arrivals)


def values(table: Table, query: Query, group: str, max_values: int) -> Select[str, int]:
    """The values of a group with their number of events, most frequent first, without absent ones.

    Columns: `value` text, `events` bigint.
    """
    value = expression(table, group).cast(Text)
    events = func.count()
    return (
        select(value.label("value"), events.label("events"))
        .where(*conditions(table, query), value.is_not(None))
        .group_by(value)
        .order_by(events.desc(), value.collate("C"))
        .limit(max_values)
    )


def dimension_keys(table: Table, query: Query) -> Select[Any]:
    """The dimension keys with their number of events that have a value, most frequent first, without the empty key.

    Columns: `value` text, `events` bigint.
    """
    keys = object_keys(table)
    events = func.count()
    return (
        select(keys.c.key.label("value"), events.label("events"))
        .join_from(table, keys, keys.c.value.is_not(None))
        .where(*conditions(table, query), keys.c.key != "")
        .group_by(keys.c.key)
        .order_by(events.desc(), keys.c.key.collate("C"))
    )


def object_keys(table: FromClause) -> Any:
    """A table function: one row per event and dimension key, with the columns `key` and `value`, NULL for null."""
    return func.jsonb_each_text(_objects(table)).table_valued("key", "value").render_derived(name="keys")


def further_keys(table: FromClause, query: Query, known: Iterable[str]) -> Select[str]:
    """The dimension keys beside the known ones of the query's events."""
    further = _objects(table).op("-", return_type=JSONB())(array(known, Text()))
    keys = func.jsonb_object_keys(further).table_valued("key").render_derived(name="keys")
    return (
        select(keys.c.key)
        .join_from(table, keys, true())
        .where(*conditions(table, query), further != literal("{}").cast(JSONB))
        .distinct()
    )


def _objects(table: FromClause) -> ColumnElement[Any]:
    """The dimensions, an empty object where they are another kind of JSON."""
    dimensions = table.c.dimensions
    return case((func.jsonb_typeof(dimensions) == "object", dimensions), else_=literal("{}").cast(JSONB))


def organizations(table: Table, *, distributed: bool = False) -> Select[Any]:
    """The ids of all organizations in the table, by a loose index scan: each step finds the next larger id.

    Citus does not support that recursion; for a `distributed` table all of the index is read, on all nodes at once.
    """
    owner = table.c.organization_id
    if distributed:
        return select(owner.label("id")).distinct()
    nearest = select(owner.label("id")).order_by(owner).limit(1)
    ids = select(nearest.subquery().c.id).cte("ids", recursive=True)
    following = select(nearest.where(owner > ids.c.id).scalar_subquery()).where(ids.c.id.is_not(None))
    ids = ids.union_all(following)
    return select(ids.c.id).where(ids.c.id.is_not(None))


def holds(table: Table, organization_id: UUID) -> Select[bool]:
    """Whether the table has an event of the organization."""
    return select(select(table.c.id).where(table.c.organization_id == organization_id).exists())


def is_empty(table: Table) -> Select[bool]:
    """Whether a table has no events of any organization.

    Never true for a view, nor under row-level security: rows that they hide cannot be distinguished
    from rows that do not exist.
    """
    catalog = sql_table("pg_class", sql_column("oid"), sql_column("relkind"))
    return select(
        catalog.c.relkind.cast(Text).in_(("r", "p"))
        & ~func.row_security_active(catalog.c.oid, type_=Boolean)
        & ~select(table.c.id).exists()
    ).where(catalog.c.oid == func.to_regclass(quoted(table.name, table.schema)).cast(OID))


def now() -> Select[datetime]:
    """The database's clock, the same for a whole transaction."""
    return select(func.transaction_timestamp())


def to_sql(statement: Select[Any]) -> str:
    """The statement as SQL for psql, with inline values."""
    return str(statement.compile(dialect=_DIALECT, compile_kwargs={"literal_binds": True}))


def _window(query: Query) -> tuple[datetime | None, datetime | None]:
    match query:
        case Windowed():
            return query.span
        case EventQuery():
            return query.occurred_after, query.occurred_before
        case _:
            return None, None


def _containing(dimensions: ColumnElement[Any], key: str, values: Texts) -> list[ColumnElement[bool]]:
    """A condition that the index on `dimensions` supports, true for every row whose dimension has one of the values.

    It only speeds up the filter on the dimension's text, so there is none for many values, objects and arrays.
    """
    if len(values) > _MAX_INDEXED_VALUES or any(value.startswith(("{", "[")) for value in values):
        return []
    name = json.dumps(key, ensure_ascii=False)
    texts = [f"{{{name}: {json.dumps(value, ensure_ascii=False)}}}" for value in values]
    scalars = [f"{{{name}: {value}}}" for value in values if _SCALAR.fullmatch(value)]
    return [or_(*(dimensions.contains(literal(document, Text).cast(JSONB)) for document in texts + scalars))]


def _any_of(column: ColumnElement[Any], values: tuple[str, ...]) -> ColumnElement[bool]:
    return column == values[0] if len(values) == 1 else column == any_(array(values, column.type))


def _one_of(instant: ColumnElement[datetime], times: Sequence[datetime]) -> ColumnElement[bool]:
    return instant == any_(array(times, instant.type))


def _keyset(table: FromClause) -> Any:
    return tuple_(table.c.timestamp, table.c.id)


def _bound(table: FromClause, position: Position) -> Any:
    return tuple_(literal(position.timestamp, table.c.timestamp.type), literal(position.id, table.c.id.type))


def rows_after(
    connection: Connection,
    table: Table,
    query: EventQuery,
    rows: int,
    after: Position | None = None,
    times: Sequence[datetime] | None = None,
) -> _Rows:
    """Up to `rows` events after a position, newest first; `times` are all that the events may have."""
    statement = partial(page, table, after=after, times=times)
    return _rows(connection, query, rows, lambda query, limit: statement(query, limit), newest_first=True)


def rows_before(
    connection: Connection,
    table: Table,
    query: EventQuery,
    rows: int,
    before: Position,
    times: Sequence[datetime] | None = None,
) -> _Rows:
    """Up to `rows` events at or before a position, nearest first, which is oldest first; `times` as in `rows_after`."""
    statement = partial(page_before, table, before=before, times=times)
    return _rows(connection, query, rows, lambda query, limit: statement(query, limit))


def _rows(
    connection: Connection,
    query: EventQuery,
    rows: int,
    statement: Callable[[EventQuery, int | None], Select[Any]],
    *,
    newest_first: bool = False,
) -> _Rows:
    given = query.given()
    if not given.keys() - {*_INDEXED, "limit", "cursor"}:
        return connection.execute(statement(query, rows)).all()
    plain = EventQuery(**{name: value for name, value in given.items() if name in _INDEXED})
    for scanned in () if given.keys() & {*LOOKED_UP} else (FIRST_SCAN_EVENTS, LONG_SCAN_EVENTS):
        scan = statement(plain, scanned).subquery("scan")
        passing = select(scan).where(*filters(partial(expression, scan), query))
        page_rows = connection.execute(_ordered(passing, scan, newest_first).limit(rows)).all()
        if len(page_rows) == rows:
            return page_rows
        if len(page_rows) * (LONG_SCAN_EVENTS // FIRST_SCAN_EVENTS) * _MAX_SHORTFALL < rows:
            break
    passing_rows = statement(query, None).cte("passing").prefix_with("MATERIALIZED", dialect="postgresql")
    return connection.execute(_ordered(select(passing_rows), passing_rows, newest_first).limit(rows)).all()


def _ordered(statement: Select[Any], source: FromClause, newest_first: bool) -> Select[Any]:
    columns = (source.c.timestamp, source.c.id)
    return statement.order_by(*(column.desc() if newest_first else column for column in columns))


_RFC3339 = 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'


def exported_texts(page: Select[Any], *, as_csv: bool) -> Select[Any]:
    """A page of events, newest first: `at` and `row_id` (the position), then the columns of the page as in a file.

    Decimals are plain text, times RFC 3339 in UTC for CSV, ids and JSON text.
    """
    rows = page.subquery()
    return select(
        rows.c.timestamp.label("at"), rows.c.id.label("row_id"), *(_written(column, as_csv) for column in rows.c)
    ).order_by(rows.c.timestamp.desc(), rows.c.id.desc())


def exported_digits(page: Select[Any], decimals: tuple[str, ...]) -> Select[Any]:
    """Number of events, time and id of the last, then scale and largest amount of each of the decimals."""
    rows = page.subquery()
    last = func.array_agg(aggregate_order_by(rows.c.id, rows.c.timestamp, rows.c.id))[1]
    return select(func.count(), func.min(rows.c.timestamp), last, *_measures(rows, decimals))


def _measures(rows: Subquery, decimals: tuple[str, ...]) -> Iterator[ColumnElement[Any]]:
    for name in decimals:
        yield func.max(func.scale(func.trim_scale(rows.c[name])))
        yield func.max(func.abs(rows.c[name].cast(Numeric)))


def _written(column: ColumnElement[Any], as_csv: bool) -> ColumnElement[Any]:
    if isinstance(column.type, Numeric):
        return func.trim_scale(column).cast(Text)
    if isinstance(column.type, DateTime):
        return func.to_char(func.timezone("UTC", column), _RFC3339) if as_csv else column
    return column if isinstance(column.type, Text) else column.cast(Text)
