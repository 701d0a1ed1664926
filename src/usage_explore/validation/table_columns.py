"""The columns of a table that a validation reads: found by name, each value checked, every fault named with its line.

A kind of table, such as invoice lines, declares its columns by name: how a value is read, its other names, whether the
values must be exact. Names are in any order, in upper or lower case, with spaces or hyphens for underscores. So are
their names in other languages that `load` proposes (Kunde, Menge, Betrag, Währung), alone. Unknown
columns are ignored and listed; one that looks like a misspelt known column is an error where that column is missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from typing import Any, NamedTuple

from usage_explore.errors import MAX_FAULTS, Fault, QueryError
from usage_explore.files.decimal_marks import DecimalMarks
from usage_explore.files.tables import Records, counted_commas
from usage_explore.files.values import MAX_KEY_BYTES, InvalidValue, code_text, is_blank, quoted
from usage_explore.formatting import listed
from usage_explore.load.column_names import COST_WORDS, NO_MEASURE_WORDS, meant_columns, words
from usage_explore.load.numbers import number_reader
from usage_explore.query import validators
from usage_explore.validation.periods import currency_code

MAX_FAULTY_LINES = 1_000
"""Faulty lines after which reading stops."""

_MIN_SIMILARITY = 0.85
"""Similarity from which an unknown column is a misspelling of a known one; customer_name and customer_id have 0.75."""


class Column(NamedTuple):
    """The reader of a column's values, its other names, and whether floats are refused."""

    read: Callable[[object], Any]
    aliases: tuple[str, ...] = ()
    is_exact: bool = False


class LeftOut:
    """Of the columns that a table ignores, those of numbers that may be one that it lacks.

    Without a quantity that is any number, without a number of events any whole one from 0, without a cost or an amount
    one that the column's name says to be one.
    """

    def __init__(self, ignored: Iterable[str], lacking: AbstractSet[str]) -> None:
        self._is_any, self._is_whole = "quantity" in lacking, "events" in lacking
        self._costs = {name for name in ignored if lacking & {"cost", "amount"} and _is_cost(name)}
        measures = {name for name in ignored if not {*words(name)} & NO_MEASURE_WORDS}
        self._has_numbers = dict.fromkeys(measures if self._is_any or self._is_whole else self._costs, False)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that may be such ones, or are."""
        return tuple(self._has_numbers)

    def see(self, record: Mapping[str, Any]) -> None:
        """Look at a line of the table."""
        for name in self.columns:
            if is_blank(raw := record.get(name)):
                continue
            if self._fits(name, raw):
                self._has_numbers[name] = True
            else:
                del self._has_numbers[name]

    def _fits(self, name: str, raw: object) -> bool:
        for read in _NUMBERS:
            with suppress(InvalidValue):
                number = Decimal(read(raw))
                return self._is_any or name in self._costs or (number >= 0 and number == number.to_integral_value())
        return False

    def note(self) -> str:
        """That they were not compared; blank without any."""
        left = [validators.shorten(name) for name, has_numbers in self._has_numbers.items() if has_numbers]
        return f"{'columns' if left[1:] else 'column'} {listed(left, most=20)} not compared" if left else ""


_NUMBERS = (number_reader(None), number_reader("."), number_reader(","))


def _is_cost(name: str) -> bool:
    own = words(name)
    return any(word.endswith(tuple(COST_WORDS)) for word in own) and not {*own} & NO_MEASURE_WORDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The columns of a kind of table by name, in the order of a line's values.

    `required` are columns that a table must have: of each tuple at least one. `blanks` names the values that a line
    must not leave blank, `errors` what is wrong with the values of a line together. Faults name `parameter`.
    """

    parameter: str
    columns: Mapping[str, Column]
    required: Sequence[tuple[str, ...]]
    blanks: Callable[[Mapping[str, Any]], list[str]]
    errors: Callable[[Mapping[str, Any]], list[str]]

    def known(self, records: Records) -> tuple[dict[str, str], tuple[str, ...]]:
        """The source's name of each known column, and its unknown columns. Raises `QueryError`."""
        names = {alias: name for name, column in self.columns.items() for alias in (name, *column.aliases)}
        known: dict[str, str] = {}
        ignored: list[str] = []
        faults: list[Fault] = []
        spelled = [(name, re.sub(r"[\s-]+", "_", name.strip().lower())) for name in records.names]
        given = {names[word] for _, word in spelled if word in names}
        others = [name for name, word in spelled if word not in names]
        meant = meant_columns(others, (column for column in self.columns if column not in given))
        for name, word in spelled:
            column = names.get(word)
            if column in known:
                faults.append(
                    self._fault(
                        f"column {validators.shorten(name)} is {column}, as is {validators.shorten(known[column])}"
                    )
                )
            elif column is not None:
                known[column] = name
            elif name in meant and len(meant[name]) > 1:
                faults.append(
                    self._fault(f"column {validators.shorten(name)} may be {' or '.join(meant[name])}; name it so")
                )
            elif name in meant:
                known[meant[name][0]] = name
            elif (near := get_close_matches(word[:100], names, n=1, cutoff=_MIN_SIMILARITY)) and names[
                near[0]
            ] not in given:
                faults.append(self._fault(f"column {validators.shorten(name)} is unknown, did you mean {near[0]}?"))
            else:
                ignored.append(name)
        found = {*known, *(column for columns in meant.values() for column in columns)}
        lacking = [any_of for any_of in self.required if not {*any_of} & found]
        faults += [self.missing(any_of, ignored if any_of is lacking[-1] else None) for any_of in lacking]
        faults += [
            self._fault(
                f"column {validators.shorten(known[name])} holds floats, which are not exact; make it decimals or text "
                '(pandas: read_csv(…, dtype="str"))'
            )
            for name, column in self.columns.items()
            if column.is_exact and known.get(name) in records.floats
        ]
        if faults:
            raise QueryError(faults)
        return known, tuple(ignored)

    def left_out(self, known: Iterable[str], ignored: Iterable[str]) -> LeftOut:
        """The columns of those `ignored` that may be one of exact numbers that is not `known`."""
        return LeftOut(ignored, {name for name, column in self.columns.items() if column.is_exact} - {*known})

    def lines(
        self,
        records: Records,
        known: Mapping[str, str],
        most: int,
        chains: Mapping[str, Sequence[str]] | None = None,
        left_out: LeftOut | None = None,
    ) -> list[tuple[Any, ...]]:
        """The number and the values of all lines but blank ones; None for a blank value.

        `chains` are by name the source's columns of which the first that is not blank has the value, in place of the
        one of `known`. Raises `QueryError` for faulty lines, and for more than `most` lines. `left_out` sees the lines.
        """
        sources = {name: (source,) for name, source in known.items()} | {**(chains or {})}
        left_out = left_out or LeftOut((), set())
        records.only(dict.fromkeys((*(column for chain in sources.values() for column in chain), *left_out.columns)))
        readers = [(sources.get(name, ()), name, _interned(column.read)) for name, column in self.columns.items()]
        lines: list[tuple[Any, ...]] = []
        faults: list[Fault] = []
        faulty = 0
        exact = [column for name in self.columns if self.columns[name].is_exact for column in sources.get(name, ())]
        marks = DecimalMarks(records.unit, exact, records.why_thousands)
        for number, record, unreadable in marks.rows(records.rows):
            if record is not None and all(map(is_blank, record.values())):
                continue
            left_out.see(record or {})
            values, errors = ((), [unreadable or ""]) if record is None else self._values(record, readers)
            if errors:
                faulty += 1
                faults += [self._fault(f"{records.unit} {number:,}: {error}") for error in errors]
                if faulty == MAX_FAULTY_LINES:
                    stopped = f"{faulty:,} lines are faulty; nothing after {records.unit} {number:,} was read"
                    raise QueryError([self._fault(stopped), *counted_commas(faults)[: MAX_FAULTS - 1]])
            elif len(lines) == most:
                raise QueryError([self._fault(f"there are more than {most:,} lines; give them in several validations")])
            elif not faults:
                lines.append((number, *values))
        faults += map(self._fault, marks.question())
        if faults:
            raise QueryError(counted_commas(faults))
        return lines

    def _values(
        self, record: Mapping[str, Any], readers: Iterable[tuple[Sequence[str], str, Callable[[object], Any]]]
    ) -> tuple[tuple[Any, ...], list[str]]:
        """A line's values in the order of the columns, and all their errors."""
        values: dict[str, Any] = {}
        errors: list[str] = []
        for chain, name, read in readers:
            raw = next((record[source] for source in chain if not is_blank(record.get(source))), None)
            try:
                values[name] = None if raw is None else read(raw)
            except InvalidValue as error:
                errors.append(f"{name}: {error}")
                values[name] = raw
        errors += self.blanks(values)
        return tuple(values.values()), errors or self.errors(values)

    def missing(self, any_of: Sequence[str], ignored: Iterable[str] | None) -> Fault:
        """The fault of a source without any of these columns, with the fix if those that it ignores are given."""
        hint = "" if ignored is None else _rename_hint(any_of[0], ignored)
        return self._fault(f"there is no column {' nor '.join(any_of)}{hint}")

    def _fault(self, message: str) -> Fault:
        return Fault(self.parameter, message)


def key(raw: object) -> str:
    """A price key or a currency; `InvalidValue` if blank or longer than 4,096 bytes."""
    text = code_text(raw)
    if len(text) > MAX_KEY_BYTES // 4 and len(text.encode()) > MAX_KEY_BYTES:
        raise InvalidValue(f"{quoted(text)} is longer than {MAX_KEY_BYTES:,} bytes")
    return text


def currency(raw: object) -> str:
    """A currency in upper case without spaces around it: ` usd ` and `USD` are one."""
    return currency_code(key(raw.strip() if isinstance(raw, str) else raw)) or ""


def _rename_hint(name: str, ignored: Iterable[str]) -> str:
    """The fix for a missing required column."""
    unknown = [validators.shorten(column, 30) for column in list(ignored)[:5]]
    return f"; name it so, instead of {' or '.join(unknown)}" if unknown else f"; add {name}"


def _interned(read: Callable[[object], Any]) -> Callable[[object], Any]:
    """The reader, with one object for equal texts: many lines share few customers, metrics and times."""
    values: dict[str, Any] = {}

    def interned(raw: object) -> Any:
        if type(raw) is not str:
            return read(raw)
        if raw not in values:
            value = read(raw)
            if isinstance(value, Decimal):
                return value
            values[raw] = value
        return values[raw]

    return interned
