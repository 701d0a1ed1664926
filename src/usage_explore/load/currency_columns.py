"""Columns of a file whose values are currencies, and the one that has those of a column of costs."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from usage_explore.formatting import counted, listed
from usage_explore.load.column_names import COMMON, CURRENCY_WORDS, QUANTITY_WORDS, codes_of_name, is_cost, words
from usage_explore.load.numbers import CODES_BY_SIGN, CODES_OF_SIGNS, SIGNS
from usage_explore.load.paths import member
from usage_explore.load.prepared import MAX_PROFILED_ROWS
from usage_explore.pricing.currencies import scale

if TYPE_CHECKING:
    from usage_explore.load.prepared import Prepared
    from usage_explore.load.row_mapper import RowMapper

MAX_CODES = 20
"""Different values of a column that may be currencies where not all are codes."""

_MAX_NAME_CHARACTERS = 20
"""Characters of a currency's name, such as US-Dollar, in a column that is named currency."""

_CURRENCY_NAMES = frozenset((
    "euro", "euros", "dollar", "dollars", "pound", "pounds", "pfund", "sterling", "franken", "franc", "francs", "yen",
    "yuan", "renminbi", "rupee", "rupees", "krone", "kronen", "krona", "kronor", "zloty", "złoty",
))  # fmt: skip
"""Last words of a currency's name, such as US-Dollar."""

_RATE_WORDS = QUANTITY_WORDS | {"rate", "exchange", "conversion", "factor", "multiplier", "ratio", "kurs", "kurse"}
"""Words beside that of a currency that make it none where the values are numbers."""

_OTHER_WORDS = frozenset(("all", "top", "pound", "pounds", "pfund"))
"""Codes and names that alone may be other words, such as units of weight."""

_NO_CODES = frozenset(("n/a", "na", "none", "null", "-", ""))


def is_named_currency(name: str, texts: Iterable[str]) -> bool:
    """Whether a name says currency and the values are few words or signs; or unit of a price, and they are codes."""
    own, values = {*words(name)}, {*texts}
    is_named = bool(own & CURRENCY_WORDS)
    if is_named and not own & _RATE_WORDS and all(re.fullmatch("[0-9]{2,3}", text) for text in values):
        return True  # the numeric codes of ISO 4217
    if is_named:
        return len(values) <= MAX_CODES and not any(
            len(text) > _MAX_NAME_CHARACTERS or re.search("[0-9]", text) for text in values
        )
    return {"price", "unit"} <= own and all(re.fullmatch("[A-Za-z]{3}", text) for text in values)


def has_codes(texts: Iterable[str]) -> bool:
    """Whether the values are currency signs, ISO 4217 codes in capitals or common, or names; ALL and TOP are words.

    Words for no value may be among them.

    >>> has_codes(["EUR", "USD", "n/a"]), has_codes(["eur", "usd"]), has_codes(["€", "$"]), has_codes(["try"])
    (True, True, True, False)
    >>> has_codes(["EUR", "Berlin"]), has_codes(["ALL"]), has_codes([])
    (False, False, False)
    """
    values = {text.strip() for text in texts if text.strip().lower() not in _NO_CODES}
    is_some = bool(values) and not {value.lower() for value in values} <= _OTHER_WORDS
    return is_some and all(map(_is_currency, values))


def _is_currency(text: str) -> bool:
    is_code = (text.isupper() or text.lower() in COMMON) and scale(text) is not None
    own = words(text) if len(text) <= _MAX_NAME_CHARACTERS and not re.search("[0-9]", text) else []
    return _is_sign(text) or is_code or (0 < len(own) <= 2 and own[-1] in _CURRENCY_NAMES)


def _is_sign(text: str) -> bool:
    return text in SIGNS or re.fullmatch(r"[A-Z]{1,3}\$", text) is not None


def has_several(texts: Iterable[str]) -> bool:
    """Whether two of the values are currency signs or common codes, and they are few, or half of them currencies."""
    values = {text.strip() for text in texts}
    several = {value.lower() for value in values if _is_sign(value) or value.lower() in COMMON}
    return len(several) > 1 and (len(values) <= MAX_CODES or 2 * sum(map(_is_currency, values)) >= len(values))


def nearest(cost: str, columns: Mapping[str, Iterable[str]]) -> str | None:
    """The column of currencies, of names with their values, that belongs to a cost; None where several may.

    Nearer is one in the same object of JSON, then one with more words of the cost's name. Of equally near ones with the
    same single value any is right. A wallet's currency is none of a cost.

    >>> nearest("price.total", {"currency": ["EUR"], "price.currency": ["USD"]})
    'price.currency'
    >>> nearest("Fee", {"ccy": ["EUR", "USD"], "home": ["EUR"]})
    """
    candidates = [name for name in columns if "wallet" not in words(name)]

    def nearness(name: str) -> tuple[bool, int]:
        is_beside = name.rpartition(".")[0] == cost.rpartition(".")[0]
        return is_beside, len({*words(name)} & {*words(cost)})

    near = [name for name in candidates if nearness(name) == max(map(nearness, candidates))]
    values = {text for name in near for text in columns[name]}
    return near[0] if len(near) == 1 or (near and len(values) == 1) else None


def currency_warnings(events: int, file: Prepared, mapper: RowMapper) -> list[str]:
    """The warnings of `events` events with costs and no currency, of costs with signs of other currencies, and of
    columns of costs that are loaded as something else.
    """
    other = [*_other_signs(file, mapper), *_other_costs(mapper), *_no_costs(file, mapper)]
    return [*_unknown_currencies(events, file, mapper), *other]


def _no_costs(file: Prepared, mapper: RowMapper) -> Iterator[str]:
    """The warning that a file without a mapped cost has columns that mean one and have amounts in the first rows."""
    mapped = mapper.columns_of(mapper.sources.get("external_cost_amount", ())).intersection(mapper.names)
    if mapped or "external_cost_amount" in mapper.mapping.constants:
        return
    others = {*file.names} - mapper.taken() - {*mapper.mapping.ignore}
    columns = [name for name in file.names if name in others and is_cost(name)]
    records = file.first_records() if columns else []
    costs = [name for name in columns if any(mapper.has_amount(record, name) for record in records)]
    if costs:
        yield (
            f"warning: {listed(map(repr, costs))} {'means a cost' if len(costs) == 1 else 'mean costs'}, and no cost is"
            f" loaded: choose its column with --map external_cost_amount={shlex.quote(costs[0])}, and the one of its"
            " currency with --map external_cost_currency=COLUMN"
        )


def _other_costs(mapper: RowMapper) -> Iterator[str]:
    """What the rows read have in other columns of costs than the mapped one: a warning where they have no other."""
    mapped = listed(map(repr, mapper.sources.get("external_cost_amount", ())))
    for name in mapper.other_costs:
        if rows := mapper.counts[f"cost alone: {name}"]:
            yield (
                f"warning: {_have(rows)} a cost in the column {name!r} that is not loaded as a cost, and none in"
                f" {mapped}: put both into one column, and their currencies into another, and map these"
            )
        if rows := mapper.counts[f"cost beside: {name}"]:
            yield (
                f"{_have(rows)} a cost in {name!r} beside the one in {mapped}, which alone is loaded as their cost; if"
                " they are two costs, write a row for each"
            )


def _have(rows: int) -> str:
    return f"{counted(rows, 'row')} {'has' if rows == 1 else 'have'}"


def _other_signs(file: Prepared, mapper: RowMapper) -> Iterator[str]:
    """The warning that amounts of the first rows have the sign of another currency than the row."""
    amounts = mapper.sources.get("external_cost_amount", ())
    currencies = mapper.sources.get("external_cost_currency", ())
    constant = mapper.mapping.constants.get("external_cost_currency")
    found: Counter[tuple[str, str]] = Counter()
    for record in file.first_records() if amounts and (currencies or constant) else ():
        amount, text = _text(record, amounts), (constant or _text(record, currencies)).strip().upper()
        code = CODES_OF_SIGNS.get(text, text)
        if (sign := re.search(f"[{SIGNS}]", amount)) and scale(code) is not None:
            found[sign[0], code] += code not in CODES_BY_SIGN[sign[0]]
    beside = [f"{sign} beside {code} in {counted(rows, 'row')}" for (sign, code), rows in found.items() if rows]
    if beside:
        yield (
            f"warning: costs have the sign {', '.join(beside)} of the first {MAX_PROFILED_ROWS:,}: is"
            " external_cost_currency right? Name its column with --map, or set it with --set"
        )


def _text(record: Mapping[str, Any], names: Iterable[str]) -> str:
    """The first text of the columns in the record."""
    return next((raw for name in names if isinstance(raw := member(record, name), str) and raw.strip()), "")


def _unknown_currencies(events: int, file: Prepared, mapper: RowMapper) -> list[str]:
    """The warning that the costs of `events` events have no currency, with the unmapped columns of currency codes."""
    records = file.first_records() if events else []
    found = []
    for name in file.names:
        values = (member(record, name) for record in records)
        texts = {str(raw) for raw in values if isinstance(raw, (str, int)) and raw != ""} - mapper.mapping.null_text
        pairs = {code for text in texts for code in text.split("/")}
        is_currency = has_codes(texts) or has_codes(pairs) or has_several(texts) or is_named_currency(name, texts)
        if texts and name not in mapper.taken() and is_currency:
            found.append(f"{name!r} ({listed(texts)})")
    if not found:
        return _signs_of_several(events, mapper)
    return [
        f"warning: the costs of {counted(events, 'event')} have no currency and are added up as if they had the same;"
        f" the file has currencies in {', '.join(found)}: choose the column of the costs' currencies with --map"
        " external_cost_currency=COLUMN"
    ]


def _signs_of_several(events: int, mapper: RowMapper) -> list[str]:
    """The warning that the name of the costs has a sign or word that means several currencies."""
    names = mapper.sources.get("external_cost_amount", ()) if events else ()
    means = {"dollar": "$", "dollars": "$", "yen": "¥"}
    for name in names:
        signs = [sign for sign in (*name, *(means.get(word, "") for word in words(name))) if sign in CODES_BY_SIGN]
        if signs and not codes_of_name(name):
            codes = CODES_BY_SIGN[signs[0]]
            costs = "the cost of 1 event has" if events == 1 else f"the costs of {counted(events, 'event')} have"
            return [
                f"warning: {costs} no currency, and the name {name!r} may mean several, such as {listed(codes[:3])}:"
                f" set theirs with --set external_cost_currency={codes[0]}"
            ]
    return []
