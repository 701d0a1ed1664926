"""Wallet preferences, read from a table, a frame or a mapping.

They say which wallet usage without a pinned currency goes to, the preferred-currency cascade: first the
customer's preference, then the organization's default, else the wallet is unknown. They may also be a mapping of
customer to currency. A table has the columns

    customer_id   UUID; empty, or the word `default`, for the organization's default
    currency      text, compared as it is written: `eur` is another wallet than `EUR`

Further columns are ignored. In a mapping, `None`, `""` and `"default"` stand for the organization's default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args
from uuid import UUID

from usage_explore.errors import MAX_FAULTS, Fault, QueryError
from usage_explore.files.tables import opened
from usage_explore.files.values import InvalidValue, is_blank, uuid_text
from usage_explore.query import validators

if TYPE_CHECKING:
    from usage_explore.files.tables import RecordSource


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

    def destination(self, customer_id: UUID, pinned: str | None) -> str | None:
        """The currency of the wallet that usage goes to, None if unknown."""
        return self.wallet(customer_id, pinned)[0]

    @property
    def currencies(self) -> Mapping[UUID | None, str]:
        """The currencies by customer; that of None is the organization's default."""
        currencies: dict[UUID | None, str] = dict(self.customers.items())
        return currencies if self.default is None else {**currencies, None: self.default}

    @classmethod
    def of_directory(cls, currencies: Mapping[UUID | None, str]) -> Preferences:
        """The preferred currencies in the directory of names; that of None is the organization's."""
        customers = {customer: currency for customer, currency in currencies.items() if customer is not None}
        return cls(customers=customers, default=currencies.get(None))


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
    if is_blank(raw) or (isinstance(raw, str) and raw.strip().lower() == _DEFAULT):
        return None
    try:
        return UUID(uuid_text(raw))
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
