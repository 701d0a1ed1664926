"""Decimals of currencies: the minor units of ISO 4217, list one (https://www.six-group.com/en/products-services/
financial-information/data-standards.html) of 2026, with those replaced since 2021. Metals and codes without a minor
unit, such as XAU and XXX, are left out.
"""

from __future__ import annotations

_MINOR_UNITS: tuple[tuple[int, tuple[str, ...]], ...] = (
    (
        0,
        (
            *("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG"),
            *("RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"),
        ),
    ),
    (
        2,
        (
            *("AED", "AFN", "ALL", "AMD", "ANG", "AOA", "ARS", "AUD", "AWG", "AZN", "BAM", "BBD", "BDT", "BGN", "BMD"),
            *("BND", "BOB", "BOV", "BRL", "BSD", "BTN", "BWP", "BYN", "BZD", "CAD", "CDF", "CHE", "CHF", "CHW", "CNY"),
            *("COP", "COU", "CRC", "CUC", "CUP", "CVE", "CZK", "DKK", "DOP", "DZD", "EGP", "ERN", "ETB", "EUR", "FJD"),
            *("FKP", "GBP", "GEL", "GHS", "GIP", "GMD", "GTQ", "GYD", "HKD", "HNL", "HRK", "HTG", "HUF", "IDR", "ILS"),
            *("INR", "IRR", "JMD", "KES", "KGS", "KHR", "KPW", "KYD", "KZT", "LAK", "LBP", "LKR", "LRD", "LSL", "MAD"),
            *("MDL", "MGA", "MKD", "MMK", "MNT", "MOP", "MRU", "MUR", "MVR", "MWK", "MXN", "MXV", "MYR", "MZN", "NAD"),
            *("NGN", "NIO", "NOK", "NPR", "NZD", "PAB", "PEN", "PGK", "PHP", "PKR", "PLN", "QAR", "RON", "RSD", "RUB"),
            *("SAR", "SBD", "SCR", "SDG", "SEK", "SGD", "SHP", "SLE", "SLL", "SOS", "SRD", "SSP", "STN", "SVC", "SYP"),
            *("SZL", "THB", "TJS", "TMT", "TOP", "TRY", "TTD", "TWD", "TZS", "UAH", "USD", "USN", "UYU", "UZS", "VED"),
            *("VES", "WST", "XCD", "XCG", "YER", "ZAR", "ZMW", "ZWG", "ZWL"),
        ),
    ),
    (3, ("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND")),
    (4, ("CLF", "UYW")),
)

_SCALES = {code: scale for scale, codes in _MINOR_UNITS for code in codes}


def scale(currency: str) -> int | None:
    """The decimals of an ISO 4217 code, in any case; None for any other text.

    >>> scale("JPY"), scale("usd"), scale("KWD"), scale("credits"), scale("FOO")
    (0, 2, 3, None, None)
    """
    return _SCALES.get(currency.upper())
