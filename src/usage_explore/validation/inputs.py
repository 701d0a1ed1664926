"""What a validation is given beside the events: files, frames and mappings, read before the database is queried.

A further input is a field of `Inputs`, an argument of `read_inputs` and `Store.validate`, an option of the command
(`cli.validate.INPUTS`) and a file of the page (`app.validate.files.FILES`).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args
from uuid import UUID

from usage_explore.errors import MAX_FAULTS, Fault, QueryError
from usage_explore.files.tables import opened
from usage_explore.files.values import InvalidValue, MadeId, id_reader, is_blank, made_ids, quoted
from usage_explore.load.column_names import meant_columns
from usage_explore.names import Key
from usage_explore.pricing.book import PriceBook
from usage_explore.pricing.read import read_prices
from usage_explore.query import validators
from usage_explore.validation.control.totals import ControlTotals, read_control
from usage_explore.validation.reconciliation.invoices import Invoices, read_invoices

if TYPE_CHECKING:
    from usage_explore.files.tables import RecordSource
    from usage_explore.pricing.read import PriceSource
    from usage_explore.validation.control.totals import ControlSource
    from usage_explore.validation.reconciliation.invoices import InvoiceSource

PreferenceSource: TypeAlias = "RecordSource | Mapping[Any, str] | Preferences"

_PARAMETER = "wallets"
"""The argument that faults name."""

_ISO_CODE = re.compile("[A-Z]{3}")

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferences:
    """The customers' preferred currencies and the organization's default, None where it has none.

    They say which wallet usage without a pinned currency goes to: first the customer's preference, then the
    organization's default, else the wallet is unknown.
    """

    customers: Mapping[UUID, str]
    default: str | None = None

    def wallet(self, customer_id: UUID, pinned: str | None) -> tuple[str | None, How]:
        """The currency of the wallet that usage goes to (None: unknown), and what decided."""
        if pinned is not None:
            return pinned, "pinned"
        if customer_id in self.customers:
            return self.customers[customer_id], "preference"
        return self.default, "unknown" if self.default is None else "default"

    def destination(self, customer_id: UUID, pinned: str | None) -> str | None:
        """The currency of the wallet that usage goes to, None if unknown."""
        return self.wallet(customer_id, pinned)[0]

    @property
    def currencies(self) -> Mapping[UUID | None, str]:
        """The currencies by customer; that of None is the organization's default."""
        currencies: dict[UUID | None, str] = dict(self.customers.items())
        return currencies if self.default is None else {**currencies, None: self.default}

    def with_ids(self, ids: Mapping[UUID, UUID]) -> Preferences:
        """The same preferences with other ids. Raises `QueryError` if two are then of one customer."""
        customers: dict[UUID, str] = {}
        for customer, currency in self.customers.items():
            if (whose := ids.get(customer, customer)) in customers:
                text = quoted(customer.text) if isinstance(customer, MadeId) else customer
                raise QueryError([_fault(f"customer {whose} is given again, as {text}; keep one")])
            customers[whose] = currency
        return replace(self, customers=customers)

    @classmethod
    def of_directory(cls, currencies: Mapping[UUID | None, str]) -> Preferences:
        """The preferred currencies in the directory of names; that of None is the organization's."""
        customers = {customer: currency for customer, currency in currencies.items() if customer is not None}
        return cls(customers=customers, default=currencies.get(None))


NO_PREFERENCES = Preferences(customers={})
"""No preferences at all: only pinned usage has a wallet."""


def read_preferences(source: PreferenceSource) -> Preferences:
    """The preferences in a file, a frame or a mapping; `Preferences` are given back as they are.

    They are a mapping of customer to currency, or a table with the columns

        customer_id   UUID, or its text in files that were loaded; empty, or the word `default`, for the organization's
                      default
        currency      text, compared as it is written: `eur` is another wallet than `EUR`

    Further columns are ignored. In a mapping, `None`, `""` and `"default"` stand for the organization's default.

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
                if record is None or not all(map(is_blank, record.values()))
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
    names = tuple(names)
    given = {column: name for name, (column, *_) in meant_columns(names, _PREFERENCE_COLUMNS).items()}
    given |= {name.strip().lower(): name for name in names}
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


_customer = id_reader("customer")


def _owner(raw: object) -> UUID | None:
    """The customer; None is the organization."""
    if is_blank(raw) or (isinstance(raw, str) and raw.strip().lower() == _DEFAULT):
        return None
    try:
        return _customer(raw)
    except InvalidValue as error:
        raise InvalidValue(f"customer_id {error}") from None


def _currency(raw: object) -> str:
    if is_blank(raw):
        raise InvalidValue("currency is blank; name the wallet's currency")
    try:
        return validators.text(raw.strip() if isinstance(raw, str) else raw)
    except ValueError as error:
        raise InvalidValue(f"currency {error}") from None


def _fault(message: str) -> Fault:
    return Fault(_PARAMETER, message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Invoice lines, preferred currencies, control totals and a price book; None for what was not given.

    `no_prices` says why the stored price book is not used, such as a missing grant; blank if there is none.
    """

    invoices: Invoices | None = None
    preferences: Preferences | None = None
    control: ControlTotals | None = None
    prices: PriceBook | None = None
    no_prices: str = ""

    @property
    def rows(self) -> dict[str, int]:
        """How many lines, currencies, totals and prices were given, by argument of `Store.validate`."""
        rows = {}
        if self.invoices is not None:
            rows["invoices"] = len(self.invoices.lines)
        if self.preferences is not None:
            rows["wallets"] = len(self.preferences.customers) + (self.preferences.default is not None)
        if self.control is not None:
            rows["control"] = len(self.control.lines)
        if self.prices is not None:
            rows["prices"] = len(self.prices.prices)
        return rows

    def check_currencies(self) -> None:
        """Refuse invoice lines in what is no currency: neither of three letters, as ISO 4217 has them, nor known.

        Known are the currencies of the price book, of preferences, and the wallets of the lines. Raises `QueryError`.
        """
        lines = self.invoices.lines if self.invoices else ()
        known = {line.wallet_currency for line in lines}
        known |= {price.currency for price in self.prices.prices} if self.prices else set()
        known |= {*self.preferences.customers.values(), self.preferences.default} if self.preferences else set()
        codes = {currency.strip().upper() for currency in known if currency}
        first: dict[str, int] = {}
        for line in lines:
            if line.currency and line.currency not in codes and not _ISO_CODE.fullmatch(line.currency):
                first.setdefault(line.currency, line.line)
        if first:
            words = "is no ISO 4217 code of three letters, nor the currency of a price, a preference or a wallet"
            faults = (f"line {number:,}: currency: {quoted(text)} {words}" for text, number in first.items())
            raise QueryError([Fault("invoices", fault) for fault in faults])

    @property
    def made_ids(self) -> dict[Key, MadeId]:
        """The ids in them that are made of texts, by kind and text."""
        customers = self.preferences.customers if self.preferences else ()
        sources = (self.invoices, self.control, self.prices)
        return made_ids(chain(customers, *(source.ids for source in sources if source)))

    def with_ids(self, ids: Mapping[UUID, UUID]) -> Inputs:
        """The same with other ids. Raises `QueryError` for two prices or preferences of one."""
        return replace(
            self,
            invoices=self.invoices and self.invoices.with_ids(ids),
            preferences=self.preferences and self.preferences.with_ids(ids),
            control=self.control and self.control.with_ids(ids),
            prices=self.prices and self.prices.with_ids(ids),
        )


def given_files(**sources: object) -> dict[str, dict[str, str]]:
    """The `name` and the `sha256` of the content of each source that is a file, by argument of `Store.validate`."""
    files = {}
    for argument, source in sources.items():
        if isinstance(source, str | os.PathLike) and os.path.isfile(source):  # noqa: PTH113 - no error for a long name
            with Path(source).open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
            files[argument] = {"name": Path(source).name, "sha256": digest}
    return files


def read_inputs(
    *,
    invoices: InvoiceSource | None = None,
    wallets: PreferenceSource | None = None,
    control: ControlSource | None = None,
    prices: PriceSource | None = None,
) -> Inputs:
    """The inputs in these files, frames or mappings. Raises `QueryError` that names the line and a fix."""
    return Inputs(
        invoices=None if invoices is None else read_invoices(invoices),
        preferences=None if wallets is None else read_preferences(wallets),
        control=None if control is None else read_control(control),
        prices=None if prices is None else read_prices(prices),
    )
