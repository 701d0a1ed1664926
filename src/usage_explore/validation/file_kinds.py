"""What a given file is, by its columns: invoice lines, a price book, control totals, preferred currencies, or names.

A column that only one kind has decides; else a kind is possible if the file has the columns that it requires. A file
that may be of several kinds, or of none, is said to be so, never guessed:

    customer_id, metric_key, quantity, amount        invoice lines
    customer_id, metric_key, quantity, period_start  invoice lines or control totals
    customer_id, currency                            preferred currencies
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args
from uuid import UUID

from usage_explore.errors import QueryError
from usage_explore.files.tables import opened
from usage_explore.files.values import InvalidValue, is_blank, uuid_text
from usage_explore.load.column_names import meant_columns
from usage_explore.names import KINDS, Key, Names, made_id
from usage_explore.pricing.read import read_prices
from usage_explore.validation.control.totals import read_control
from usage_explore.validation.inputs import read_preferences
from usage_explore.validation.reconciliation.invoices import read_invoices

FileKind = Literal["invoices", "prices", "control", "wallets", "names"]
FILE_KINDS: tuple[FileKind, ...] = get_args(FileKind)
"""The arguments of `Store.validate` for files; `names` are names of ids, for reading alone."""

FILES_OF_CHECKS: Mapping[str, tuple[FileKind, ...]] = {
    "currencies": ("wallets",),
    "wallets": ("wallets",),
    "unpriced": ("prices", "wallets", "invoices", "names"),
    "reconciliation": ("invoices", "prices", "wallets", "names"),
    "control_totals": ("control", "names"),
}
"""The files that checks read, by name; the first one is what a check is about, the others are read where given."""


def lacked_files(check: str, before: Iterable[str], given: Iterable[str]) -> list[FileKind]:
    """The files that a check was given before, compares, and is not given now; all are `FILE_KINDS`."""
    lacked = {*before} - {*given, "names"}
    return [kind for kind in FILES_OF_CHECKS.get(check, ()) if kind in lacked]


_CUSTOMER = frozenset(("customer_id", "customer"))
_BILLED = frozenset(("metric_key", "metric", "price_key", "price"))
_DAYS = frozenset(("day", "date", "usage_date", "charge_period_start", "chargeperiodstart"))
_STARTS = _DAYS | {"period_start"}
_CONSUMED = frozenset(("consumed_quantity", "consumedquantity"))
_COSTS = frozenset(("cost", "external_cost_amount", "billed_cost", "billedcost"))
_CURRENCY = frozenset(("currency", "wallet_currency", "preferred_currency"))
_PRICES = frozenset(
    (
        "unit_amount",
        "flat_amount",
        "tiers",
        "package_size",
        "included_quantity",
        "included",
        "minimum_amount",
        "minimum",
        "valid_from",
        "valid_to",
        "aggregation",
        "model",
    )
)

_NAMED = ("customer_id", "metric_key", "quantity", "events", "amount", "currency", "day")
_DECIDING: Mapping[FileKind, frozenset[str]] = {
    "invoices": frozenset(("amount", "subscription_id", "subscription")),
    "prices": _PRICES,
    "control": _DAYS | _CONSUMED | _COSTS | {"events", "event_count"},
    "wallets": frozenset(),
    "names": frozenset(("external_id", "name")),
}
"""Columns that only this kind has."""

_REQUIRED: Mapping[FileKind, tuple[frozenset[str], ...]] = {
    "invoices": (_CUSTOMER, _BILLED, frozenset(("quantity",))),
    "prices": (_BILLED | {"product_id", "product"}, frozenset(("currency",)), _PRICES),
    "control": (_STARTS, _CONSUMED | _COSTS | {"events", "count", "event_count", "quantity"}),
    "wallets": (_CUSTOMER, _CURRENCY),
    "names": (frozenset(("id", "external_id")), frozenset(("name",))),
}
"""Of each set a file of the kind has a column."""


@dataclass(frozen=True, slots=True)
class Recognized:
    """The kinds that a file may be of, the likeliest first, none if no kind fits; its rows, None if unread.

    `problem` says why it cannot be read at all.
    """

    kinds: tuple[FileKind, ...]
    rows: int | None = None
    problem: str = ""


def recognized(path: Path, name: str) -> Recognized:
    """What a `.toml`, `.csv`, `.xlsx` or `.parquet` file is; `name` stands for the path in messages."""
    if path.name.lower().endswith(".toml"):
        with suppress(QueryError):
            return Recognized(("prices",), len(read_prices(path, name=name)))
        return Recognized(("prices",))
    try:
        with opened(path, "file") as records:
            kinds = kinds_of(records.names)
            records.only(records.names[:1])
            rows = sum(1 for _ in records.rows)
    except QueryError as error:
        return Recognized((), problem=error.faults[0].message.replace(str(path), name))
    return Recognized(kinds, rows)


def kinds_of(columns: Iterable[str]) -> tuple[FileKind, ...]:
    """The kinds that a file with these columns may be of."""
    columns = tuple(columns)
    words = {re.sub(r"[\s-]+", "_", column.strip().lower()) for column in columns}
    words |= {meant[0] for meant in meant_columns(columns, _NAMED).values()}
    possible = [kind for kind in FILE_KINDS if all(words & columns for columns in _REQUIRED[kind])]
    decided = [kind for kind in possible if words & _DECIDING[kind]]
    if decided:
        return tuple(decided)
    if not possible:  # a column is missing or misspelt: what else it has may say what it is
        return tuple(kind for kind in FILE_KINDS if words & _DECIDING[kind])
    if "wallets" in possible and len(possible) > 1:  # every invoice with a currency has its columns, too
        possible.remove("wallets")
    return tuple(possible)


def read_names(path: Path) -> Names:
    """The names of ids in a file with `id` or `external_id`, `name` and `kind` (default customer).

    Rows without both are left out. Raises `QueryError` for what cannot be read.
    """
    by_id: dict[Key, str] = {}
    with opened(path, "names") as records:
        by_word = {column.strip().lower(): column for column in records.names}
        for _, record, _ in records.rows:
            if record is None:
                continue
            values = {word: record.get(column) for word, column in by_word.items()}
            kind = str(values.get("kind") or "customer").strip().lower()
            given = values.get("id") if not is_blank(values.get("id")) else values.get("external_id")
            if not is_blank(given) and not is_blank(values.get("name")) and kind in KINDS:
                by_id[kind, str(_id(kind, given))] = str(values["name"]).strip()
    return Names(by_id)


READERS: Mapping[FileKind, Callable[[Path], object]] = {
    "invoices": read_invoices,
    "control": read_control,
    "wallets": read_preferences,
    "names": read_names,
}
"""The readers of files other than price books, which raise `QueryError`."""


def _id(kind: str, given: object) -> UUID:
    try:
        return UUID(uuid_text(given))
    except InvalidValue:
        return made_id(kind, str(given).strip())
