"""Decimals of currencies: the minor units of ISO 4217, list one (https://www.six-group.com/en/products-services/
financial-information/data-standards.html) of 2026, with those replaced since 2021. Metals and codes without a minor
unit, such as XAU and XXX, are left out. And amounts with these decimals, as text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from usage_explore.formatting import cents, data_value, in_sentence

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


def exact_amount(amount: Decimal, currency: str | None) -> str:
    """`in_sentence` with at least the decimals of the currency: 17.40 and 0.125 in USD, 17 in JPY.

    >>> exact_amount(Decimal("17.4"), "USD"), exact_amount(Decimal("0.125"), "USD"), exact_amount(Decimal(17), "JPY")
    ('17.40', '0.125', '17')
    >>> exact_amount(Decimal("1017.4"), "KWD"), exact_amount(Decimal("17.4"), "credits")
    ('1,017.400', '17.4')
    """
    text = in_sentence(amount)
    whole, _, fraction = text.partition(".")
    if not (places := scale(currency or "")) or not amount.is_finite() or "…" in text:
        return text
    return f"{whole}.{fraction.ljust(places, '0')}"


def exact_money(amount: Decimal, currency: str | None) -> str:
    """`exact_amount` with the currency, if there is one: `17.40 USD`."""
    return " ".join([exact_amount(amount, currency), *([data_value(currency)] if currency else [])])


def exact_sums(amounts: Mapping[str, Decimal]) -> str:
    """Amounts by currency: `12.50 USD and 3 JPY`."""
    return " and ".join(exact_money(amount, currency) for currency, amount in sorted(amounts.items()))


def rounded_amount(amount: Decimal, currency: str | None) -> str:
    """`cents`, to the last decimal of the currency, to the cent of one that is unknown.

    >>> rounded_amount(Decimal("7.405"), "USD"), rounded_amount(Decimal("17.4"), "JPY")
    ('7.41', '17')
    """
    places = scale(currency or "")
    return cents(amount, 2 if places is None else places)


def rounded_in_sentence(amount: Decimal, currency: str | None) -> str:
    """`rounded_amount` with words for less than its last decimal: `less than 0.01`."""
    return rounded_amount(amount, currency).replace("< ", "less than ").replace("> ", "more than ")


def signed_sums(amounts: Iterable[tuple[str | None, Decimal]]) -> list[str]:
    """`rounded_sums` with their signs.

    >>> signed_sums([("EUR", Decimal("12.39")), ("USD", Decimal("-0.62")), ("JPY", Decimal(0))])
    ['+12.39 EUR', '-0.62 USD', '0 JPY']
    """
    amounts = list(amounts)
    words = zip(amounts, rounded_sums(amounts), strict=True)
    return [f"+{text}" if amount > 0 else text for (_, amount), text in words]


def rounded_sums(amounts: Iterable[tuple[str | None, Decimal]]) -> list[str]:
    """Amounts by currency: `12.50 USD`, `less than 0.001 KWD`."""
    return [f"{rounded_in_sentence(amount, currency)} {data_value(currency)}" for currency, amount in amounts]
