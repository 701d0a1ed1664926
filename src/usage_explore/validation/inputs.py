"""What a validation is given beside the events: files, frames and mappings, read before the database is queried.

A further input is a field of `Inputs`, an argument of `read_inputs` and `Store.validate`, an option of the command
(`cli.validate.INPUTS`) and a file of the page (`app.validate.files.FILES`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from usage_explore.pricing.book import PriceBook
from usage_explore.pricing.read import read_prices
from usage_explore.validation.control.totals import ControlTotals, read_control
from usage_explore.validation.input_tables import Preferences, read_preferences
from usage_explore.validation.reconciliation.invoices import Invoices, read_invoices

if TYPE_CHECKING:
    from usage_explore.pricing.read import PriceSource
    from usage_explore.validation.control.totals import ControlSource
    from usage_explore.validation.input_tables import PreferenceSource
    from usage_explore.validation.reconciliation.invoices import InvoiceSource


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
