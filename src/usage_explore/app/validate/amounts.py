"""Tab: the expected amounts of the period by customer, with the lines and the usage without a price behind them."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Callable
from decimal import Decimal

import pandas as pd
import streamlit as st

from usage_explore import formatting
from usage_explore.app import markdown
from usage_explore.app.cache import Source
from usage_explore.app.exports import download_buttons, escape_checkbox
from usage_explore.app.validate import run
from usage_explore.app.validate.files import PRICES, ValidationWithFiles, dropped_file, sheet_table, uses
from usage_explore.decimals import difference, total
from usage_explore.errors import UsageExploreError
from usage_explore.formatting import data_value
from usage_explore.pricing.rating import Margin, Rating, tier_text
from usage_explore.pricing.resolution import WALLET_UNKNOWN
from usage_explore.results import frames


def amounts_tab(source: Source, with_files: ValidationWithFiles, name: str) -> None:
    """Draw the files that are used, the totals, and the tables of a rating; `name` is that of its files."""
    validation = with_files.validation
    uses(PRICES, source, with_files)
    if PRICES.argument in with_files.faults:
        return
    try:
        rating = expected(source, with_files)
    except UsageExploreError as error:
        st.error(markdown.plain(f"The usage was not rated: {error}"), icon=":material/error:")
        return
    if rating is None:
        return
    _totals(rating)
    views: dict[str, Callable[[], pd.DataFrame]] = {
        "Customers": lambda: _by_customer(rating),
        "Lines": lambda: _lines(rating),
        "Margins": lambda: rating.margin_frame,
        "Without a price": lambda: rating.unpriced_frame,
    }
    if not rating.unpriced:
        del views["Without a price"]
    shown = st.segmented_control(
        "Table",
        list(views),
        default="Customers",
        key="amounts_table",
        required=True,
        label_visibility="collapsed",
    )
    sheet_table(views[shown or "Customers"](), validation.period.zone, rating.names, f"Expected amounts, {shown}")
    if shown != "Lines" and any(margin.margin is None for margin in rating.margins):
        st.caption(
            "There is a margin only where all revenue and all cost of a customer's metric are in one currency and all "
            "of its usage has a price."
        )
    escape = escape_checkbox("amounts escape_formulas")
    with st.container(horizontal=True, gap="small"):
        files = (
            ("Lines, CSV", "csv", lambda: BOM_UTF8 + rating.csv(escape_formulas=escape)),
            ("Everything, JSON", "json", lambda: json.dumps(rating.to_dict(), ensure_ascii=False, indent=2).encode()),
        )
        download_buttons(files, name, "amounts", source)


def expected(source: Source, with_files: ValidationWithFiles) -> Rating | None:
    """The rating by the dropped price book, else the stored one; None without a book. Raises `UsageExploreError`."""
    validation, faults = with_files.validation, with_files.faults
    if PRICES.argument in faults:
        raise faults[PRICES.argument]
    file = dropped_file(PRICES.argument, validation.period)
    book = run.price_book(file) if file else source.store.prices()
    if book is None:
        return None
    wallets = None if "wallets" in faults else dropped_file("wallets", validation.period)
    directory = None if "names" in faults else dropped_file("names", validation.period)
    return run.rating(source, validation, book, wallets, directory)


def _totals(rating: Rating) -> None:
    amounts = ", ".join(f"{formatting.money(amount)} {data_value(code)}" for code, amount in rating.totals.items())
    words = f"**{markdown.plain(amounts or 'No amount')}** expected on {formatting.counted(len(rating.lines), 'line')}"
    words += f", by {markdown.plain(formatting.shortened(rating.source, 60))}."
    if rating.unpriced:
        without = formatting.counted(rating.unpriced_events, "event")
        words += f" :orange[{without} without a price]: no amount, which is not an amount of 0."
        if any(usage.wallet_currency is None and WALLET_UNKNOWN in usage.reason for usage in rating.unpriced):
            words += " Drop the customers' preferred currencies above to know which currency applies."
    st.markdown(words)


def _by_customer(rating: Rating) -> pd.DataFrame:
    """Expected amount of each customer and currency, the currency of most lines and the largest amount first.

    Cost and margin where all metrics of the customer have one.
    """
    sums: dict[tuple[str, str], list[Decimal]] = {}
    for line in rating.lines:
        sums.setdefault((str(line.customer_id), line.currency), []).append(line.amount)
    margins: dict[str, list[Margin]] = {}
    for margin in rating.margins:
        margins.setdefault(str(margin.customer_id), []).append(margin)
    rows = []
    for (customer, currency), amounts in sums.items():
        own = margins.get(customer, [])
        is_comparable = all(margin.margin is not None and margin.currency == currency for margin in own)
        cost = total(margin.cost or Decimal(0) for margin in own) if is_comparable else None
        margin_of_all = None if cost is None else difference(total(amounts), cost)
        rows.append((customer, currency, len(amounts), total(amounts), cost, margin_of_all))
    place = _currencies(rating)
    rows.sort(key=lambda row: (place[row[1]], -row[3], row[0]))
    names = ("customer_id", "currency", "lines", "expected_amount", "cost", "margin")
    columns = {name: pd.Series([row[index] for row in rows], dtype="object") for index, name in enumerate(names)}
    return frames.with_names(pd.DataFrame(columns), rating.names)


def _currencies(rating: Rating) -> dict[str, int]:
    """The place of each currency: that of most lines is first. Amounts in two currencies have no order."""
    lines = Counter(line.currency for line in rating.lines)
    return {code: place for place, code in enumerate(sorted(lines, key=lambda code: (-lines[code], code)))}


def _lines(rating: Rating) -> pd.DataFrame:
    """The lines, the currency of most lines and the largest amounts first, with their tiers as text."""
    frame = rating.frame.assign(tiers=["; ".join(map(tier_text, line.tiers)) for line in rating.lines])
    first = [
        "customer_id",
        "customer_name",
        "metric_key",
        "price_key",
        "wallet_currency",
        "billable_quantity",
        "amount",
    ]
    first = [name for name in [*first, "currency", "tiers"] if name in frame]
    rest = [name for name in frame.columns if name not in first]
    place = _currencies(rating)
    order = sorted(range(len(frame)), key=lambda row: (place[rating.lines[row].currency], -rating.lines[row].amount))
    return frame.iloc[order][[*first, *rest]]
