"""Columns of a file whose values are currencies, and the one that has those of a column of costs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from usage_explore.formatting import counted, listed
from usage_explore.load.column_names import CURRENCY_WORDS, words
from usage_explore.load.numbers import SIGNS
from usage_explore.load.paths import member
from usage_explore.pricing.currencies import scale

if TYPE_CHECKING:
    from usage_explore.load.prepared import Prepared
    from usage_explore.load.row_mapper import RowMapper

MAX_CODES = 20
"""Different codes of a column that are its currencies, whatever its name."""

_MAX_NAME_CHARACTERS = 20
"""Characters of a currency's name, such as US-Dollar, in a column that is named currency."""

COMMON = frozenset(("usd", "eur", "gbp", "chf", "jpy", "cad", "aud", "sek", "nok", "dkk", "pln", "inr"))
"""Codes that are known in small letters, too: "try" and "all" are words."""

_CODES_THAT_ARE_WORDS = frozenset(("ALL", "TOP"))
_NO_CODES = frozenset(("n/a", "na", "none", "null", "-", ""))


def is_named_currency(name: str, texts: Iterable[str]) -> bool:
    """Whether a name says currency and the values are few words or signs; or unit of a price, and they are codes."""
    own, values = {*words(name)}, {*texts}
    if own & CURRENCY_WORDS:
        return len(values) <= MAX_CODES and not any(
            len(text) > _MAX_NAME_CHARACTERS or re.search("[0-9]", text) for text in values
        )
    return {"price", "unit"} <= own and all(re.fullmatch("[A-Za-z]{3}", text) for text in values)


def has_codes(texts: Iterable[str]) -> bool:
    """Whether the values are currency signs, or ISO 4217 codes, all in capitals or common; ALL and TOP alone are words.

    Words for no value may be among them.

    >>> has_codes(["EUR", "USD", "n/a"]), has_codes(["eur", "usd"]), has_codes(["€", "$"]), has_codes(["try"])
    (True, True, True, False)
    >>> has_codes(["EUR", "Berlin"]), has_codes(["ALL"]), has_codes([])
    (False, False, False)
    """
    codes = {text.strip() for text in texts if text.strip().lower() not in _NO_CODES}
    is_few = 0 < len(codes) <= MAX_CODES and not codes <= _CODES_THAT_ARE_WORDS
    return is_few and (
        codes <= {*SIGNS, "US$"}
        or all((code.isupper() or code.lower() in COMMON) and scale(code) is not None for code in codes)
    )


def nearest(cost: str, columns: Mapping[str, Iterable[str]]) -> str | None:
    """The column of currencies, of names with their values, that belongs to a cost; None where several may.

    Nearer is one in the same object of JSON, then one with more words of the cost's name, then one without other words.
    Of equally near ones that have the same single value any is right. A wallet's currency is none of a cost.

    >>> nearest("price.total", {"currency": ["EUR"], "price.currency": ["USD"]})
    'price.currency'
    >>> nearest("Fee", {"ccy": ["EUR", "USD"], "home": ["EUR"]})
    """
    candidates = [name for name in columns if "wallet" not in words(name)]

    def nearness(name: str) -> tuple[bool, int, bool]:
        own = {*words(name)}
        is_beside = name.rpartition(".")[0] == cost.rpartition(".")[0]
        return is_beside, len(own & {*words(cost)}), own <= CURRENCY_WORDS

    near = [name for name in candidates if nearness(name) == max(map(nearness, candidates))]
    values = {text for name in near for text in columns[name]}
    return near[0] if len(near) == 1 or (near and len(values) == 1) else None


def unknown_currency_warning(events: int, file: Prepared, mapper: RowMapper) -> list[str]:
    """The warning that the costs of `events` events have no currency, with the unmapped columns of currency codes."""
    records = file.first_records() if events else []
    found = []
    for name in file.names:
        texts = {raw for record in records if isinstance(raw := member(record, name), str) and raw}
        texts -= mapper.mapping.null_text
        if texts and name not in mapper.taken() and (has_codes(texts) or is_named_currency(name, texts)):
            found.append(f"{name!r} ({listed(texts)})")
    if not found:
        return []
    return [
        f"warning: the costs of {counted(events, 'event')} have no currency and are added up as if they had the same;"
        f" the file has currencies in {', '.join(found)}: choose the column of the costs' currencies with --map"
        " external_cost_currency=COLUMN"
    ]
