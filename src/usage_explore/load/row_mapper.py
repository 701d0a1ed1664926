"""Rows of the events table from the records of a file, by a `ColumnMapping`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import chain, repeat
from typing import Any
from uuid import UUID

from usage_explore.db.schema import COLUMNS
from usage_explore.decimals import difference, plain
from usage_explore.errors import LoadError
from usage_explore.files.decimal_marks import is_number
from usage_explore.files.exact_json import loads_object
from usage_explore.files.values import InvalidValue, metric_key_text, number_text, plain_text
from usage_explore.load.column_names import ColumnNames, other_costs
from usage_explore.load.doubtful_ids import doubtful_words
from usage_explore.load.fields import KINDS, READERS, REQUIRED, Field
from usage_explore.load.identifiers import Identifiers
from usage_explore.load.joined_columns import CostReader, DimensionReader
from usage_explore.load.mapping import ID_COLUMNS, ColumnMapping, Measure, NamePattern, zone
from usage_explore.load.numbers import number_reader, of_one_currency
from usage_explore.load.paths import exploded, is_total, member
from usage_explore.load.report import notes
from usage_explore.load.times import TimeReader
from usage_explore.names import LOCAL_NAME, kind_of

Row = list[str | None]
"""Text for every documented column in order; None is null, in id, ingested_at and idempotency_key the default."""

Problems = list[tuple[str, str]]
"""(column, reason) for every value of a record that cannot be loaded."""

_MAX_METRICS = 100_000
"""Metrics that are remembered."""

_PLACES = {column: place for place, column in enumerate(COLUMNS)}
_METRIC, _QUANTITY, _KEY, _COST, _CURRENCY, _DIMENSIONS, _CUSTOMER, _ORGANIZATION = (
    _PLACES[column]
    for column in (
        "metric_key",
        "quantity",
        "idempotency_key",
        "external_cost_amount",
        "external_cost_currency",
        "dimensions",
        "customer_id",
        "organization_id",
    )
)


class RowMapper(ColumnNames):
    """Makes rows of the records of a file that has the columns `names` (paths for nested JSON).

    `sampled` is that of `ColumnNames`. `organization` is the id for rows that name none; `is_local` says that it is the
    default, so a row of a file with a column for it must name one. After the rows, `ids.texts` has the text of ids that
    are made, `metrics` the metrics, `readable` the readable name by (organization, kind, id).
    """

    def __init__(
        self,
        mapping: ColumnMapping,
        names: Sequence[str],
        organization: UUID | None,
        *,
        is_local: bool = False,
        sampled: bool = False,
    ) -> None:
        super().__init__(mapping, names, sampled=sampled)
        self.ids = Identifiers(by_column=mapping.ids_by_column)
        self.readable: dict[tuple[str, str, str], str] = {}
        self.metrics: dict[str, None] = {}
        self.counts: Counter[str] = Counter()
        self.times: dict[str, TimeReader] = {}
        self._organization = str(organization) if organization else None
        self._is_local = is_local
        self._number = number_reader(mapping.decimal)
        self.sources = {column: self._sources(column) for column in KINDS if column not in mapping.constants}
        self.fields = [self._field(column, sources) for column, sources in self.sources.items() if sources]
        self.is_measured = any(
            source in mapping.stated or self.has(source) for source in (*mapping.measures, *mapping.measure_members)
        )
        """Whether a record becomes several events, each with the row's key and its metric as key."""
        self.measures = {
            self.resolve(source) or source: replace(
                measure, minus=self.resolved(measure.minus), without=self.resolve(measure.without) or ""
            )
            for source, measure in mapping.measures.items()
            if self.is_measured and self.resolve(source)
        }
        self._measure_members = self.resolved(mapping.measure_members) if self.is_measured else ()
        self._measure_name = NamePattern(mapping.measure_names)
        self._key = next((self.resolved(key) for key in mapping.key if all(map(self.has, key))), ())
        # the names of an export of ours, which are names again and no dimensions
        own = {column: name for column in ID_COLUMNS if (name := f"{kind_of(column)}_name") in names}
        self.own_names = {
            column: name for column, name in own.items() if column not in mapping.names and not mapping.keep
        }
        self._readable = {column: (name,) for column, name in self.own_names.items()} | {
            column: self.resolved(sources) for column, sources in mapping.names.items()
        }
        self._only_with = [self.resolve(source) or source for source in mapping.only_with]
        factors = [factor if is_number(factor) else self.resolve(factor) or factor for factor in mapping.cost_factors]
        self._costs = CostReader(
            [factor if factor in names else Decimal(factor) if is_number(factor) else factor for factor in factors],
            self.resolved(mapping.cost_plus),
            self._number_or_none,
        )
        self.constant = self._row_of(mapping.constants, "set")
        self._defaults = [
            (column, _PLACES[column], self._row_of({column: text}, "defaults")[_PLACES[column]])
            for column, text in mapping.defaults.items()
            if not (self.is_measured and column in ("quantity", "metric_key"))
        ]
        self.dimensions = self._dimension_reader()
        self._required = [
            (column, _PLACES[column])
            for column in REQUIRED
            if not (self.is_measured and column in ("quantity", "metric_key"))
        ]
        costs = self.sources.get("external_cost_amount", ())
        self.other_costs = other_costs(costs, {*names} - self.taken() - {*mapping.ignore}) if costs else []
        """Columns of costs in other currencies than the mapped one's, which are no costs of the events."""
        self._is_simple = not (
            self._defaults
            or self._key
            or self._readable
            or mapping.cost_factors
            or mapping.cost_plus
            or self._only_with
            or mapping.explode
            or "external_cost_currency" in mapping.constants
        )
        self._has_customers = self._must_name("customer_id") or "customer_id" in mapping.constants

    def _sources(self, column: str) -> tuple[str, ...]:
        mapping = self.mapping
        if column in mapping.columns:
            sources = tuple(
                spelled
                for source in mapping.columns[column]
                if (spelled := (KINDS[column] == "time" and self.join(source)) or self.resolve(source))
            )
            if sources or column in mapping.stated:
                return sources
        taken = {source for sources in mapping.columns.values() for source in sources} | mapping.measures.keys()
        taken |= {*chain.from_iterable(mapping.key), *mapping.keep, *mapping.ignore}
        return (column,) if column not in taken and (column in self.names or self.sampled) else ()

    def _field(self, column: str, sources: tuple[str, ...]) -> Field:
        mapping, kind = self.mapping, KINDS[column]
        if kind == "id":
            readers = tuple((source, self.ids.reader(column, source)) for source in sources)
        else:
            readers = tuple(zip(sources, repeat(self._reader(column)), strict=False))
        null = mapping.null_text | mapping.null if kind in ("number", "id") else mapping.null_text
        is_chain = len(mapping.columns.get(column, ())) > 1 or bool(mapping.null_text)
        return Field(column, _PLACES[column], readers, kind == "text" and not is_chain, null, self.joined)

    def _reader(self, column: str) -> Callable[[object], str]:
        mapping = self.mapping
        if KINDS[column] == "time":
            timezone = zone(mapping.timezone) if mapping.timezone else None
            self.times[column] = TimeReader(timezone, mapping.time_format)
            self.times[column].day_first = mapping.day_first
            self.times[column].has_short_years = mapping.day_first is not None
            return self.times[column].read
        if column == "external_cost_amount" and not self.sources.get("external_cost_currency"):
            return of_one_currency(self._number)
        if KINDS[column] == "number":
            return self._number
        return self._metric if column == "metric_key" else READERS[column]

    def _metric(self, raw: object) -> str:
        text = metric_key_text(raw)
        if len(self.metrics) < _MAX_METRICS:
            self.metrics[text] = None
        return text

    def _row_of(self, constants: Mapping[str, str], option: str) -> Row:
        row: Row = [None] * len(COLUMNS)
        for column, text in constants.items():
            try:
                if column in ID_COLUMNS:
                    row[_PLACES[column]] = self.ids.made(column, column, text)
                elif KINDS[column] == "time":
                    timezone = zone(self.mapping.timezone) if self.mapping.timezone else None
                    row[_PLACES[column]] = TimeReader(timezone, None).read(text)
                else:
                    row[_PLACES[column]] = READERS[column](text)
            except InvalidValue as error:
                raise LoadError(f"{option}: {column}: {error}") from None
        return row

    def _dimension_reader(self) -> DimensionReader:
        mapping = self.mapping
        tags = {self.resolve(source) or source: prefix for source, prefix in mapping.tags.items()}
        first = {column: self._first_present(sources) for column, sources in self.sources.items() if sources}
        used = self.columns_of(first.values())  # fallbacks are dimensions too
        used |= {*self.measures, *tags, *self._only_with, *mapping.constants}
        for measure in self.measures.values():
            used.update(measure.minus)
        paths = [source for source in used if "." in source] + [f"{source}." for source in self._measure_members]
        flattened = {top for path in paths if (top := path.split(".", 1)[0]) in self.names or self.sampled}
        texts_of_ids = {
            source
            for column, source in first.items()
            if column in ID_COLUMNS and column in mapping.columns and source != column
        }
        if mapping.dimensions:
            used -= texts_of_ids
        used |= {self.resolve(name) or name for name in mapping.ignore}
        used |= {*self.own_names.values()} | ({mapping.explode} if mapping.explode else set())
        if not mapping.dimensions and not tags:
            used |= set(self.names)
        return DimensionReader(
            frozenset(used),
            frozenset(flattened),
            tags=tags,
            tag_columns=mapping.tag_columns,
            measured=self._measure_members,
            measure_name=self._measure_name,
            all_columns=mapping.dimensions and not mapping.keep,
            keep=self.resolved(mapping.keep) if mapping.dimensions else (),
            flatten=mapping.flatten,
            null=mapping.null_text,
        )

    def _first_present(self, sources: Sequence[str]) -> str:
        """The first source that the file has; of sampled rows some source may come only later."""
        return next((source for source in sources if self.has(source)), sources[0])

    def _must_name(self, column: str) -> bool:
        """Whether every row has to name an id, as the file has a column of that name or an option names one."""
        return bool(self.sources.get(column)) and (
            column in self.mapping.stated or (column not in self.mapping.columns and column in self.names)
        )

    def is_present(self, column: str, sources: Iterable[str]) -> bool:
        """Whether the file has one of the sources; later rows of a sampled file may have optional ones."""
        if self.sampled and column not in REQUIRED:
            return True
        return any(self.has(source) for source in sources)

    def measures_member(self, path: str) -> bool:
        """Whether a number at the path is a measure, as its object's members are."""
        source, _, name = path.rpartition(".")
        return source in self._measure_members and self._measure_name.matches(name)

    def taken(self) -> set[str]:
        """The columns of the file that are mapped, measured, or set to one value for all rows."""
        sources = self.columns_of(source for sources in self.sources.values() for source in sources)
        return (sources | self.measures.keys() | self.mapping.constants.keys()).intersection(self.names)

    @property
    def names_organization(self) -> bool:
        """Whether a column of the file, of a sampled one in its first rows, or an option names the organization."""
        column = "organization_id"
        has_column = any(self.has(source) for source in self.sources.get(column, ()))
        return has_column or column in self.mapping.constants or column in self.mapping.defaults

    def missing(self) -> list[str]:
        """The required columns that nothing gives."""
        return [column for column in REQUIRED if not self._is_given(column)]

    def _is_given(self, column: str) -> bool:
        mapping = self.mapping
        if column in mapping.constants or column in mapping.defaults:
            return True
        if any(self.has(source) for source in self.sources.get(column, ())):
            return True
        if column in ("quantity", "metric_key") and self.is_measured:
            return True
        if column == "organization_id":
            return self._organization is not None
        return column == "customer_id" and (self.is_measured or bool(mapping.columns))

    def kinds(self) -> dict[str, str]:
        """Column of the file -> kind of value that it has to give, for sources with types."""
        kinds = {source: KINDS[field.column] for field in self.fields for source, _ in field.readers}
        kinds |= dict.fromkeys(self.measures, "number")
        kinds |= {name: "part of a time" for columns in self.joined.values() for name in columns}
        return {source: kind for source, kind in kinds.items() if source in self.names}

    @property
    def is_plain(self) -> bool:
        """Whether each row of the file is an event whose columns come from one column of the file at most."""
        plain_sources = all(len(field.readers) == 1 and field.readers[0][0] in self.names for field in self.fields)
        return self._is_simple and not self.is_measured and not self.sampled and plain_sources and not self.other_costs

    def fill(self, columns: list[Sequence[str | None]]) -> bool:
        """Set the organization of rows without one, as `rows` does; False where a row lacks a required value."""
        for column, place in self._required:
            if None not in columns[place]:
                continue
            if column != "organization_id" or self._organization is None or not self._has_fallback(column):
                return False
            self.counts["without organization"] += columns[place].count(None) * self._is_local
            columns[place] = [value or self._organization for value in columns[place]]
        return True

    def rows(self, record: Mapping[str, Any]) -> list[Row]:
        """The events of a record; none for a record that is not usage. Raises `InvalidValue`."""
        if self._is_simple and not self.is_measured:
            return [self._row(record)]
        rows: list[Row] = []
        for single in exploded(record, self.mapping.explode):
            if self._only_with and all(self._is_empty(member(single, source)) for source in self._only_with):
                self.counts["skipped"] += 1
            elif self.is_measured:
                rows.extend(self._measured(single, self._row(single)))
            else:
                rows.append(self._row(single))
        return rows

    def _is_empty(self, raw: object) -> bool:
        return raw is None or raw == "" or (type(raw) is str and raw in self.mapping.null_text)

    def _row(self, record: Mapping[str, Any]) -> Row:
        row = self.constant.copy()
        for field in self.fields:
            value = field.first(record)
            if value is not None:
                row[field.place] = value[1](value[2])
        if not self._is_simple:
            self._complete(record, row)
        if row[_ORGANIZATION] is None and not (self._is_local and self._must_name("organization_id")):
            row[_ORGANIZATION] = self._organization
            self.counts["without organization"] += self._is_local
        if row[_CUSTOMER] is None and not self._has_customers and (self.mapping.columns or self.is_measured):
            row[_CUSTOMER] = self.ids.made("customer_id", "customer_id", LOCAL_NAME)
            self.counts["without customer"] += 1
        for _, place in self._required:
            if row[place] is None:
                raise InvalidValue("is missing")
        row[_DIMENSIONS] = self.dimensions.text(record, row[_DIMENSIONS])
        for name in self.other_costs:
            self._count_other_cost(record, name, Decimal(row[_COST] or 0))
        return row

    def has_amount(self, record: Mapping[str, Any], name: str) -> bool:
        """Whether a record has a number other than 0 in a column."""
        try:
            return Decimal(self._number_or_none(member(record, name)) or 0) != 0
        except InvalidValue:
            return False

    def _count_other_cost(self, record: Mapping[str, Any], name: str, cost: Decimal) -> None:
        """Count a row that has a cost in a column that is not loaded as one, by whether it has its own, too."""
        if self.has_amount(record, name):
            self.counts[f"cost {'beside' if cost else 'alone'}: {name}"] += 1

    def _complete(self, record: Mapping[str, Any], row: Row) -> None:
        """Set what needs several columns: defaults, key, cost and readable names."""
        for column, place, text in self._defaults:
            if row[place] is None and place != _CURRENCY:
                row[place] = text
                self.counts[f"default {column}"] += 1
        if self._key and row[_KEY] is None:
            parts = [member(record, source) for source in self._key]
            if not any(map(self._is_empty, parts)):
                row[_KEY] = "/".join(plain_text(part) for part in parts)
        row[_COST] = self._costs.cost(row[_COST], record)
        self._set_currency(row)
        for column, sources in self._readable.items():
            id_ = row[_PLACES[column]]
            name = next((raw for source in sources if not self._is_empty(raw := member(record, source))), None)
            if id_ is not None and isinstance(name, str):
                organization = row[_ORGANIZATION] or self._organization or ""
                self.readable[organization, kind_of(column), id_] = name

    def _set_currency(self, row: Row) -> None:
        """Leave out a constant currency of a row without a cost, and set the default one of a row with a cost."""
        if row[_COST] is None:
            if "external_cost_currency" in self.mapping.constants:
                row[_CURRENCY] = None
        elif row[_CURRENCY] is None and (currency := self.mapping.defaults.get("external_cost_currency")):
            row[_CURRENCY] = currency
            self.counts["default external_cost_currency"] += 1

    def _measured(self, record: Mapping[str, Any], row: Row) -> Iterator[Row]:
        """An event for each measure of the row; the first carries the cost, with quantity 0 where all are zero."""
        measures = list(self._members(record, row))
        if not measures:
            measures = [
                (measure.metric_key, self._measure(record, source, measure))
                for source, measure in self.measures.items()
                if not (measure.without and self._number_or_none(member(record, measure.without)))
            ]
        kept = [(metric, text) for metric, text in measures if text and (self.mapping.keep_zero or Decimal(text) != 0)]
        if not kept and measures and Decimal(row[_COST] or 0) != 0:
            kept = [(measures[0][0], "0")]
        if not kept:
            self.counts["nothing measured"] += 1
        for number, (metric, text) in enumerate(kept):
            event = row.copy()
            event[_METRIC], event[_QUANTITY] = self._metric(metric), text
            if row[_KEY] is not None:
                event[_KEY] = f"{row[_KEY]}:{metric}"
            if number:
                event[_COST] = event[_CURRENCY] = None
            yield event

    def _measure(self, record: Mapping[str, Any], source: str, measure: Measure) -> str | None:
        try:
            text = self._number_or_none(member(record, source))
            for other in measure.minus if text else ():
                if less := self._number_or_none(member(record, other)):
                    text = plain(Decimal(difference(Decimal(text or 0), Decimal(less))))
        except InvalidValue as error:
            raise InvalidValue(f"(from {source!r}) {error}") from None
        return text

    def _members(self, record: Mapping[str, Any], row: Row) -> Iterator[tuple[str, str | None]]:
        """(metric, number) of the measured members of the record's objects, or a count of 1 of its metric_key."""
        metric, is_measured = row[_METRIC], False
        for source in self._measure_members:
            members = member(record, source)
            if isinstance(members, str) and members.lstrip().startswith("{"):
                members = loads_object(members)
            if not isinstance(members, Mapping):
                continue
            numbers = {
                name: number_text(raw)
                for name, raw in members.items()
                if self._measure_name.matches(name) and is_number(raw)
            }
            for name, number in numbers.items():
                is_measured = True
                if not is_total(name, numbers):
                    yield (f"{metric}.{name}" if metric else name, number)
        if self._measure_members and metric and not is_measured:
            yield metric, "1"

    def _number_or_none(self, raw: object) -> str | None:
        if self._is_empty(raw) or (type(raw) is str and raw.strip() in self.mapping.null):
            return None
        return self._number(raw)

    def problems(self, record: Mapping[str, Any]) -> Problems:
        """All problems of a record for which `rows` raised. Counts for the report do not change."""
        counted = [self.counts, *(times.counts for times in self.times.values())]
        before = [counts.copy() for counts in counted]
        try:
            problems: Problems = []
            for single in exploded(record, self.mapping.explode):
                problems += self._problems(single)
        except InvalidValue as error:
            problems = [("", str(error))]
        for counts, earlier in zip(counted, before, strict=True):
            counts.clear()
            counts.update(earlier)
        return problems

    def _problems(self, record: Mapping[str, Any]) -> Problems:
        problems: Problems = []
        values = {field.column: field.first(record) for field in self.fields}
        for column, value in values.items():
            try:
                if value is not None:
                    value[1](value[2])
            except InvalidValue as error:
                problems.append((_label(column, value[0] if value else ""), str(error)))
        for column, _ in self._required:
            if values.get(column) is None and not self._has_fallback(column):
                problems.append((_label(column, (*self.sources.get(column, ()), "")[0]), "is missing"))
        for source, measure in self.measures.items():
            try:
                self._measure(record, source, measure)
            except InvalidValue as error:
                problems.append((_label("quantity", source), str(error).removeprefix(f"(from {source!r}) ")))
        if not problems:
            try:
                row = self._row(record)
                if self.is_measured:
                    list(self._measured(record, row))
            except InvalidValue as error:
                problems.append(("dimensions", str(error)))
        return problems

    def _has_fallback(self, column: str) -> bool:
        if column in self.mapping.constants or column in self.mapping.defaults:
            return True
        if column == "organization_id":
            return self._organization is not None and not (self._is_local and self._must_name(column))
        mapped = bool(self.mapping.columns or self.mapping.measures)
        return column == "customer_id" and not self._has_customers and mapped

    def notes(self) -> list[str]:
        """Sentences for the report on what was decided for the rows read."""
        return [*notes(self), *doubtful_words(self)]


def _label(column: str, source: str) -> str:
    return f"{column} (from {source!r})" if source and source != column else column
