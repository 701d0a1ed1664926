"""The demo's price book: what its invoices charge for a unit of each metric, the same number in every currency."""

from __future__ import annotations

from decimal import Decimal

from usage_explore.decimals import plain
from usage_explore.demo import business

MARKUP = 3
"""Price of a unit divided by its external cost."""

DEFAULT_PRICE = Decimal("0.0004")
"""Price of a unit without external cost."""

DEFAULT_CURRENCY = "USD"
"""Currency of customers whose usage has no wallet currency."""


def unit_amount(metric_key: str) -> Decimal:
    """The price of a unit of a metric."""
    rate = next(metric.rate for metric in business.METRICS if metric.key == metric_key)
    return Decimal(rate * MARKUP).scaleb(-10) if rate else DEFAULT_PRICE


def rows() -> list[dict[str, str]]:
    """The prices as `Store.rate` takes them: one for each metric and currency."""
    return [
        {"metric_key": metric.key, "currency": currency, "unit_amount": plain(unit_amount(metric.key))}
        for metric in business.METRICS
        for currency in business.CURRENCIES
    ]


def toml() -> str:
    """The price book as a TOML file."""
    tables = ("\n".join(f'{name} = "{value}"' for name, value in row.items()) for row in rows())
    return "# The demo's price book; docs/pricing.md describes the fields.\n" + "".join(
        f"\n[[prices]]\n{table}\n" for table in tables
    )
