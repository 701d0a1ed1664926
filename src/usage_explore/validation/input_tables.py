"""The tables that a validation reads besides the events: their records, and the wallet preferences among them.

A table is a CSV or Parquet file, a pandas frame or an Arrow table. A record is that of `files.sources`: its line, its
values by column, or the reason why it cannot be read. Columns of floats are named, so that they can be refused: a float
has lost the decimal that it was written as.

Wallet preferences say which wallet usage without a pinned currency goes to, the preferred-currency cascade: first the
customer's preference, then the organization's default, else the wallet is unknown. They may also be a mapping of
customer to currency. A table has the columns

    customer_id   UUID; empty, or the word `default`, for the organization's default
    currency      text, compared as it is written: `eur` is another wallet than `EUR`

Further columns are ignored. In a mapping, `None`, `""` and `"default"` stand for the organization's default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args
from uuid import UUID

from usage_explore.errors import MAX_FAULTS, Fault, LoadError, QueryError
from usage_explore.files.open import SUFFIXES, open_source
from usage_explore.files.sources import Record
from usage_explore.files.values import InvalidValue, uuid_text
from usage_explore.query import validators

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    RecordSource = Path | str | pd.DataFrame | pa.Table


PreferenceSource: TypeAlias = "RecordSource | Mapping[Any, str] | Preferences"

_PARAMETER = "wallets"
"""The argument that faults name."""

_DEFAULT = "default"
"""The word that stands for the organization in place of a customer."""

MAX_PREFERENCES = 1_000_000
"""Preferences of a table, at most."""

How = Literal["pinned", "preference", "default", "unknown"]
"""What decided on a wallet: the event, the customer's preference, the organization's default, nothing."""

HOW: tuple[How, ...] = get_args(How)

_PREFERENCE_COLUMNS = {
    "customer_id": ("customer_id", "customer"),
    "currency": ("currency", "wallet_currency", "preferred_currency"),
}
"""The names of the two columns that are recognized."""

_BATCH_ROWS = 10_000
_MAX_ROWS = 5_000_000


@dataclass(frozen=True, slots=True)
class Records:
    """Columns as the source names them, those of them that are floats, and the rows; `unit` is what a row is called.

    `only`, called before the rows are read, leaves out other columns where the source can.
    """

    unit: str
    names: tuple[str, ...]
    floats: frozenset[str]
    rows: Iterable[Record]
    only: Callable[[Iterable[str]], None] = lambda columns: None


@contextmanager
def opened(source: RecordSource, parameter: str) -> Iterator[Records]:
    """The records of a source, to be read within. Raises `QueryError` on `parameter` for what cannot be read at all."""
    try:
        if isinstance(source, Path | str):
            with _file(Path(source)) as records:
                yield records
        else:
            yield _table(source)
    except LoadError as error:
        message = str(error)
        if isinstance(source, Path | str):  # a file's name may be anything
            message = message.replace(str(source), validators.named(str(source)))
        raise QueryError([Fault(parameter, message)]) from None


@contextmanager
def _file(path: Path) -> Iterator[Records]:
    kinds = {suffix: kind for suffix, kind in SUFFIXES.items() if kind in ("csv", "parquet")}
    kind = next((kind for suffix, kind in kinds.items() if path.name.lower().endswith(suffix)), None)
    if kind is None:
        raise LoadError(f"{path}: is not named as a file that can be read; save it as {', '.join(kinds)}")
    with open_source(path, kind) as file:
        if kind == "parquet" and file.length > _MAX_ROWS:
            raise LoadError(f"{path}: has {file.length:,} rows; at most {_MAX_ROWS:,} can be read")
        yield Records(file.unit, file.names or (), file.floats, file, file.only)


def _table(source: pd.DataFrame | pa.Table) -> Records:
    import pandas as pd
    import pyarrow as pa

    if isinstance(source, pd.DataFrame):
        names = tuple(str(name) for name in source.columns)
        rows = _frame_rows(source, names)
        floats = frozenset(name for index, name in enumerate(names) if _is_float(source.iloc[:, index]))
    elif isinstance(source, pa.Table):
        names = tuple(source.column_names)
        rows = _table_rows(source)
        floats = _floats(source.schema)
    else:
        raise LoadError(f"{validators.shorten(source)} is neither a path nor a frame nor an Arrow table")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise LoadError(f"has {', '.join(map(validators.shorten, twice))} more than once")
    return Records("row", names, floats, rows)


def _frame_rows(frame: pd.DataFrame, names: tuple[str, ...]) -> Iterator[Record]:
    import pandas as pd

    for start in range(0, len(frame), _BATCH_ROWS):
        part = frame.iloc[start : start + _BATCH_ROWS]
        columns = [part.iloc[:, index] for index in range(len(names))]
        present = [pd.notna(column).tolist() for column in columns]
        values = [column.astype(object).tolist() for column in columns]
        for at in range(len(part)):
            row = {name: values[index][at] for index, name in enumerate(names) if present[index][at]}
            yield start + at + 1, row, None


def _table_rows(table: pa.Table) -> Iterator[Record]:
    at = 0
    for batch in table.to_batches(max_chunksize=_BATCH_ROWS):
        for row in batch.to_pylist():
            at += 1
            yield at, row, None


def _floats(schema: pa.Schema) -> frozenset[str]:
    import pyarrow as pa

    return frozenset(field.name for field in schema if pa.types.is_floating(field.type))


def _is_float(column: pd.Series[Any]) -> bool:
    """Whether a column holds floats; not one without any value, which pandas makes float64 by default."""
    import pandas as pd

    return bool(pd.api.types.is_float_dtype(column.dtype) and column.notna().any())


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferences:
    """The customers' preferred currencies and the organization's default, None where it has none."""

    customers: Mapping[UUID, str]
    default: str | None = None

    def wallet(self, customer_id: UUID, pinned: str | None) -> tuple[str | None, How]:
        """The currency of the wallet that usage goes to (None: unknown), and what decided."""
        if pinned is not None:
            return pinned, "pinned"
        if customer_id in self.customers:
            return self.customers[customer_id], "preference"
        return self.default, "unknown" if self.default is None else "default"


NO_PREFERENCES = Preferences(customers={})
"""No preferences at all: only pinned usage has a wallet."""


def read_preferences(source: PreferenceSource) -> Preferences:
    """The preferences in a file, a frame or a mapping; `Preferences` are given back as they are.

    Raises `QueryError` on `wallets`, naming every faulty line, and for more than 1,000,000 of them.

    >>> read_preferences({"default": "EUR"}).default
    'EUR'
    """
    if isinstance(source, Preferences):
        return source
    if isinstance(source, Mapping):
        return _preferences("entry", ((at, owner, currency) for at, (owner, currency) in enumerate(source.items(), 1)))
    with opened(source, _PARAMETER) as records:
        owner, currency = _preference_columns(records.names)
        records.only((owner, currency))
        return _preferences(
            records.unit,
            (
                (line, None, InvalidValue(unreadable or "cannot be read"))
                if record is None
                else (line, record.get(owner), record.get(currency))
                for line, record, unreadable in records.rows
                if record is None or not all(map(_is_blank, record.values()))
            ),
        )


def _preferences(unit: str, entries: Iterable[tuple[int, object, object]]) -> Preferences:
    """The preferences of (line, customer, currency); an `InvalidValue` as currency is why the line cannot be read."""
    currencies: dict[UUID | None, str] = {}
    lines: dict[UUID | None, int] = {}
    faults: list[Fault] = []
    for line, owner, raw in entries:
        if len(currencies) == MAX_PREFERENCES:
            raise QueryError([_fault(f"there are more than {MAX_PREFERENCES:,} of them")])
        try:
            if isinstance(raw, InvalidValue):
                raise raw
            whose = _owner(owner)
            if whose in currencies:
                who = "the organization's default" if whose is None else f"customer {whose}"
                raise InvalidValue(f"{who} is given again, after {unit} {lines[whose]:,}; keep one")
            currencies[whose], lines[whose] = _currency(raw), line
        except InvalidValue as error:
            faults.append(_fault(f"{unit} {line:,}: {error}"))
            if len(faults) == 10 * MAX_FAULTS:
                raise QueryError([_fault(f"nothing after {unit} {line:,} was read"), *faults]) from None
    if faults:
        raise QueryError(faults)
    if not currencies:
        raise QueryError([_fault("there are none; give a customer_id and a currency each, or leave them out")])
    return Preferences(
        customers={whose: currency for whose, currency in currencies.items() if whose is not None},
        default=currencies.get(None),
    )


def _preference_columns(names: Iterable[str]) -> tuple[str, str]:
    """What the source calls the customer's and the currency's column. Raises `QueryError`."""
    given = {name.strip().lower(): name for name in names}
    columns, faults = [], []
    for name, words in _PREFERENCE_COLUMNS.items():
        present = [given[word] for word in words if word in given]
        columns += present[:1]
        if not present:
            near = next(filter(None, (validators.did_you_mean(word, words) for word in given)), "")
            faults.append(_fault(f"there is no column {name}{f'; rename the one that is meant{near}' if near else ''}"))
        elif len(present) > 1:
            faults.append(_fault(f"{' and '.join(map(validators.shorten, present))} both are {name}; keep one"))
    if faults:
        raise QueryError(faults)
    return columns[0], columns[1]


def _owner(raw: object) -> UUID | None:
    """The customer; None is the organization."""
    if _is_blank(raw) or (isinstance(raw, str) and raw.strip().lower() == _DEFAULT):
        return None
    try:
        return UUID(uuid_text(raw))
    except InvalidValue as error:
        raise InvalidValue(f"customer_id {error}") from None


def _currency(raw: object) -> str:
    if _is_blank(raw):
        raise InvalidValue("currency is blank; name the wallet's currency")
    try:
        return validators.text(raw.strip() if isinstance(raw, str) else raw)
    except ValueError as error:
        raise InvalidValue(f"currency {error}") from None


def _is_blank(raw: object) -> bool:
    return raw is None or (isinstance(raw, str) and not raw.strip())


def _fault(message: str) -> Fault:
    return Fault(_PARAMETER, message)
