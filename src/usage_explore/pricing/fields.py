"""The fields of a price, from a row of a file, a table of TOML, a mapping or a database row; each fault is named.

    field              value                                                                     default
    customer_id        UUID or text: the price is this customer's alone                          all customers
    product_id         UUID or text┐
    metric_key         text        │ what it covers: at least one of the three                   any
    price_key          text        ┘
    aggregation        sum, count, max, latest, unique:<column>, unique:dim:<key>                sum
    model              per_unit, volume, staircase (or graduated), package                       per_unit; with tiers
                                                                                                 it must be given
    unit_amount        decimal from 0: per unit, per package of a package price                  0
    flat_amount        decimal from 0: once per line that has a quantity to charge               0
    tiers              the tiers of volume and staircase prices                                  none
    package_size       decimal above 0: units of a package
    included_quantity  decimal: units of each line that are not charged                          0
    minimum_amount     decimal: least amount of a line                                           0
    currency           ISO 4217, or any text with a scale; upper and lower case are one          required
    scale              0 to 12: decimals of amounts                                              of the currency
    valid_from         a time with an offset, or a date: its midnight in the period's zone       always
    valid_to           the same; the price is no longer valid from then on                       always

`customer`, `product`, `metric`, `price`, `included` and `minimum` are other names of their fields. A blank value is an
absent one. An unknown field is an error: a misspelt one would change amounts unnoticed. `name`, `description` and
`note` are for people, and ignored.

Tiers are ordered; each has `up_to` (inclusive, the last one none), `unit_amount` and `flat_amount`. In TOML and Python
they are tables: `[{up_to = 1000, unit_amount = "0.10"}, {unit_amount = "0.08", flat_amount = 5}]`; in a cell of a file
`1000:0.10;:0.08:5`, that is up_to:unit_amount:flat_amount, tiers separated by semicolons.

Numbers are exact: text, integers and decimals, in TOML also 0.10. Floats of Python and of frames are refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from usage_explore.decimals import plain
from usage_explore.files.values import (
    Edge,
    InvalidValue,
    code_text,
    edge,
    exact_decimal,
    id_reader,
    is_blank,
    metric_key_text,
    quoted,
)
from usage_explore.pricing import currencies
from usage_explore.pricing.book import AGGREGATIONS, MODELS, UNIQUE, Model, Price, Tier
from usage_explore.query import filters, validators

MAX_TIERS = 1_000
"""Tiers of a price."""

MAX_SCALE = 12
"""Decimals of an amount, at most."""

UNIQUE_COLUMNS = (*filters.GROUPS, *filters.LOOKED_UP)
"""Columns whose different values can be counted, beside `dim:<key>`."""

_ALIASES = {
    "customer": "customer_id",
    "product": "product_id",
    "metric": "metric_key",
    "price": "price_key",
    "included": "included_quantity",
    "minimum": "minimum_amount",
}
NUMBERS = ("unit_amount", "flat_amount", "package_size", "included_quantity", "minimum_amount")
"""Fields of one decimal."""

IGNORED = ("name", "description", "note")
"""Fields for people."""

_TIER_FIELDS = ("up_to", "unit_amount", "flat_amount")
_TIERED: tuple[Model, ...] = ("volume", "staircase")


def _number(raw: object) -> Decimal:
    return exact_decimal(raw.strip() if isinstance(raw, str) else raw)


def _price_amount(raw: object) -> Decimal:
    number = _number(raw)
    if number < 0:
        raise InvalidValue(
            f"{plain(number)} is negative; give 0 or more: a discount is a lower price, a credit has"
            " a negative quantity"
        )
    return number


def not_negative(raw: object) -> Decimal:
    """A decimal from 0. Raises `InvalidValue`."""
    number = _number(raw)
    if number < 0:
        raise InvalidValue(f"{plain(number)} is negative; give 0 or more")
    return number


def _positive(raw: object) -> Decimal:
    number = _number(raw)
    if number <= 0:
        raise InvalidValue(f"{plain(number)} is not above 0")
    return number


def _word(raw: object) -> str:
    return validators.text(raw.strip() if isinstance(raw, str) else raw)


def _aggregation(raw: object) -> str:
    word = _word(raw)
    if word.lower() in AGGREGATIONS:
        return word.lower()
    if not word.startswith(UNIQUE):
        known = (*AGGREGATIONS, f"{UNIQUE}<column>")
        near = validators.did_you_mean(word, known)
        raise InvalidValue(f"{quoted(word)} is not one of {', '.join(known)}{near}")
    name = word.removeprefix(UNIQUE)
    if name not in UNIQUE_COLUMNS:
        try:
            filters.group(name)
        except ValueError as error:
            raise InvalidValue(f"{UNIQUE} counts the values of a column or of dim:<key>; {error}") from None
    return word


def _model(raw: object) -> Model:
    word = re.sub(r"[\s-]+", "_", _word(raw).lower())
    word = {"graduated": "staircase", "tiered": "staircase", "flat": "per_unit"}.get(word, word)
    if word not in MODELS:
        near = validators.did_you_mean(word, (*MODELS, "graduated"))
        raise InvalidValue(f"{quoted(raw)} is not one of {', '.join(MODELS)}{near}")
    return word


def _currency(raw: object) -> str:
    return code_text(raw.strip() if isinstance(raw, str) else raw).upper()


def _scale(raw: object) -> int:
    return validators.integer(int(raw) if isinstance(raw, Decimal) and raw == raw.to_integral() else raw, 0, MAX_SCALE)


def _tiers(raw: object) -> tuple[Tier, ...]:
    """The tiers of a list of tables, or of a cell."""
    if isinstance(raw, str):
        rows: list[Any] = [_tier_of_text(part) for part in raw.strip().rstrip(";").split(";")]
    elif isinstance(raw, list | tuple):
        rows = list(raw)
    else:
        raise InvalidValue(f"{quoted(raw)} is no list of tiers; write [{{up_to, unit_amount}}, …] or 1000:0.10;:0.08")
    if not rows:
        raise InvalidValue("has no tier; give one or more")
    if len(rows) > MAX_TIERS:
        raise InvalidValue(f"has {len(rows):,} tiers, more than {MAX_TIERS:,}")
    tiers = tuple(_tier(number, row) for number, row in enumerate(rows, 1))
    below = Decimal(0)
    for number, tier in enumerate(tiers[:-1], 1):
        if tier.up_to is None:
            raise InvalidValue(f"tier {number} has no up_to, but is not the last one")
        if tier.up_to <= below:
            raise InvalidValue(f"tier {number} ends at {plain(tier.up_to)}, not above {plain(below)} where it begins")
        below = tier.up_to
    if tiers[-1].up_to is not None:
        raise InvalidValue(
            f"the last tier ends at {plain(tiers[-1].up_to)}, so that more has no price; leave its up_to out"
        )
    return tiers


def _tier_of_text(part: str) -> dict[str, str]:
    values = part.split(":")
    if not 2 <= len(values) <= len(_TIER_FIELDS):
        raise InvalidValue(f"{quoted(part)} is no tier; write up_to:unit_amount or up_to:unit_amount:flat_amount")
    return dict(zip(_TIER_FIELDS, values, strict=False))


def _tier(number: int, row: object) -> Tier:
    if isinstance(row, Tier):
        row = {name: getattr(row, name) for name in _TIER_FIELDS}
    if not isinstance(row, Mapping):
        raise InvalidValue(f"tier {number}, {quoted(row)}, is no table with up_to, unit_amount and flat_amount")
    for name in row:
        if name not in _TIER_FIELDS:
            near = validators.did_you_mean(str(name), _TIER_FIELDS) or f"; they are {', '.join(_TIER_FIELDS)}"
            raise InvalidValue(f"tier {number} has an unknown field {validators.shorten(name)}{near}")
    given = {name: value for name, value in row.items() if not is_blank(value)}
    if str(given.get("up_to")).strip().lower() in ("inf", "infinity", "∞"):
        del given["up_to"]
    if not {"unit_amount", "flat_amount"} & set(given):
        raise InvalidValue(f"tier {number} has neither unit_amount nor flat_amount; write 0 where it is free")
    values: dict[str, Decimal] = {}
    for name, value in given.items():
        try:
            values[name] = (_number if name == "up_to" else _price_amount)(value)
        except InvalidValue as error:
            raise InvalidValue(f"tier {number}, {name}: {error}") from None
    return Tier(values.pop("up_to", None), **values)


_READERS: Mapping[str, Callable[[object], Any]] = {
    "customer_id": id_reader("customer"),
    "product_id": id_reader("product"),
    "metric_key": metric_key_text,
    "price_key": code_text,
    "aggregation": _aggregation,
    "model": _model,
    "unit_amount": _price_amount,
    "flat_amount": _price_amount,
    "tiers": _tiers,
    "package_size": _positive,
    "included_quantity": not_negative,
    "minimum_amount": not_negative,
    "currency": _currency,
    "scale": _scale,
    "valid_from": edge,
    "valid_to": edge,
}

FIELDS = tuple(_READERS)
"""The fields of a price, in the order of the documentation and of the table."""


def field_name(name: object) -> str:
    """The field that a column or a key names: `Price Key` is `price_key`. Raises `InvalidValue` for an unknown one."""
    word = re.sub(r"[\s-]+", "_", str(name).strip().lower())
    word = _ALIASES.get(word, word)
    if word not in _READERS and word not in IGNORED:
        near = validators.did_you_mean(word, (*_READERS, *_ALIASES))
        raise InvalidValue(f"{validators.shorten(name)} is not a field of a price{near or '; remove it'}")
    return word


def price(place: str, row: Mapping[str, Any]) -> tuple[Price | None, list[str]]:
    """The price of a row whose names are `FIELDS`, or all its faults; each begins with its field."""
    values: dict[str, Any] = {}
    faults: list[str] = []
    for name, raw in row.items():
        if name in IGNORED or is_blank(raw):
            continue
        try:
            values[name] = _READERS[name](raw)
        except ValueError as error:  # InvalidValue is one
            faults.append(f"{name}: {error}")
    faults += _contradictions(row, values)
    if faults:
        return None, faults
    scale = values.pop("scale", None)
    if "tiers" not in values:
        values["tiers"] = (Tier(None, values.get("unit_amount", Decimal(0)), values.get("flat_amount", Decimal(0))),)
    values = {name: value for name, value in values.items() if name not in ("unit_amount", "flat_amount")}
    known = currencies.scale(values["currency"])
    return Price(place=place, scale=known if scale is None else scale, **values), []  # type: ignore[arg-type]


def _contradictions(row: Mapping[str, Any], values: Mapping[str, Any]) -> Iterable[str]:
    """What several fields together lack or contradict; a faulty field counts as given."""
    given = {name for name, raw in row.items() if not is_blank(raw)}
    if not {"product_id", "metric_key", "price_key"} & given:
        yield "metric_key: is missing, as are product_id and price_key; say what the price is for"
    if "currency" not in given:
        yield "currency: is missing; write a code such as USD"
    elif "scale" not in given and "currency" in values and currencies.scale(values["currency"]) is None:
        yield f"currency: {quoted(values['currency'])} is no ISO 4217 code; correct it, or give its scale"
    yield from _model_contradictions(given, values.get("model"))
    edges = [values.get(name) for name in ("valid_from", "valid_to")]
    if all(type(edge) is type(edges[0]) for edge in edges) and edges[0] is not None and edges[0] >= edges[1]:
        yield "valid_to: is not after valid_from; swap them"


def _model_contradictions(given: set[str], model: Model | None) -> Iterable[str]:
    is_known = model is not None or "model" not in given
    amounts = {"unit_amount", "flat_amount"} & given
    if "tiers" in given and is_known and model not in _TIERED:
        yield (
            "model: is missing; with tiers it is volume (one tier's price for all units) or staircase (graduated: each"
            " tier's units at its price)"
            if model is None
            else f"tiers: a {model} price has none; the model is volume or staircase, or leave them out"
        )
    if "tiers" in given and amounts:
        yield f"{min(amounts)}: is given beside tiers; put it into the tiers"
    if "tiers" not in given and model in _TIERED:
        yield f"tiers: are missing; a {model} price has them"
    elif "tiers" not in given and not amounts and "minimum_amount" not in given:
        yield "unit_amount: is missing; write 0 for a price that is free"
    if model == "package" and "package_size" not in given:
        yield "package_size: is missing; give the units of a package"
    if "package_size" in given and is_known and model != "package":
        yield "package_size: is for package prices; write model package, or leave it out"


def tiers_text(tiers: Iterable[Tier]) -> str:
    """The tiers as a cell has them: `1000:0.1;:0.08:5`."""
    return ";".join(
        f"{'' if tier.up_to is None else plain(tier.up_to)}:{plain(tier.unit_amount)}"
        + (f":{plain(tier.flat_amount)}" if tier.flat_amount else "")
        for tier in tiers
    )


def row(price: Price) -> dict[str, Any]:
    """The fields of a price as text and decimals, None for absent ones: a row that reads as the same price."""
    is_tiered = price.model in _TIERED
    only = price.tiers[0]
    return {
        "customer_id": price.customer_id,
        "product_id": price.product_id,
        "metric_key": price.metric_key,
        "price_key": price.price_key,
        "aggregation": price.aggregation,
        "model": price.model,
        "unit_amount": None if is_tiered else only.unit_amount,
        "flat_amount": None if is_tiered else only.flat_amount,
        "tiers": tiers_text(price.tiers) if is_tiered else None,
        "package_size": price.package_size,
        "included_quantity": price.included_quantity,
        "minimum_amount": price.minimum_amount,
        "currency": price.currency,
        "scale": price.scale,
        "valid_from": _edge_text(price.valid_from),
        "valid_to": _edge_text(price.valid_to),
    }


def prices_hash(prices: Iterable[Price]) -> str:
    """The SHA-256 of prices in any order: equal for books that rate all usage alike, field by field."""
    rows = sorted(
        json.dumps({name: None if value is None else _hashed(value) for name, value in row(price).items()})
        for price in prices
    )
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def _hashed(value: object) -> str:
    return plain(value) if isinstance(value, Decimal) else str(value)


def _edge_text(edge: Edge | None) -> str | None:
    return None if edge is None else edge.isoformat()
