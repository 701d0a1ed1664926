"""Decimals of currencies: the minor units of ISO 4217, list one (https://www.six-group.com/en/products-services/
financial-information/data-standards.html). Only currencies with other than two decimals are listed.
"""

from __future__ import annotations

import re

_MINOR_UNITS: tuple[tuple[int, tuple[str, ...]], ...] = (
    (
        0,
        (
            *("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG"),
            *("RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"),
        ),
    ),
    (3, ("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND")),
    (4, ("CLF", "UYW")),
)

_SCALES = {code: scale for scale, codes in _MINOR_UNITS for code in codes}
_CODE = re.compile("[A-Z]{3}", re.ASCII)

_DEFAULT_SCALE = 2


def scale(currency: str) -> int | None:
    """The decimals of an ISO 4217 code, in any case; None for a text that is not of three letters.

    >>> scale("JPY"), scale("usd"), scale("KWD"), scale("credits")
    (0, 2, 3, None)
    """
    code = currency.upper()
    return _SCALES.get(code, _DEFAULT_SCALE) if _CODE.fullmatch(code) else None
