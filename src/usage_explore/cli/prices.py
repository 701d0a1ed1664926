"""`usage-explore prices`: the price book by which usage is rated. `usage-explore rate`: the expected amounts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from usage_explore import formatting
from usage_explore.cli.options import common, connected, organization, say, settings_in_force
from usage_explore.cli.signals import Signals
from usage_explore.cli.validate import parsed_period, period_options
from usage_explore.console import table
from usage_explore.decimals import plain, total
from usage_explore.errors import ConfigurationError
from usage_explore.formatting import MAX_VALUE_CHARACTERS, counted, data_value, exact, path_text, shortened
from usage_explore.results import formulas

if TYPE_CHECKING:
    from usage_explore.pricing.rating import RatedLine, Rating

_MAX_LISTED = 40
"""Lines that are printed; --csv and --json have all."""

_MAX_MARGINS = 40
"""Margins that are printed, the lowest first."""

_WIDTH = 120
"""Characters of a line, at least."""

_MAX_NAME_CHARACTERS = 28
"""Characters of a customer, and of a metric with its price key, in the table; --csv and --json have all."""

_STDOUT = Path("-")


@click.group()
def prices() -> None:
    """Prices by which usage is rated, kept in the table usage_prices beside the events."""


@prices.command(name="load")
@click.argument("file", type=click.Path(path_type=Path))
@organization
@common
def load_prices(file: Path) -> None:
    """Load the price book in FILE (.toml, .csv, .xlsx or .parquet); it replaces the organization's whole book.

    Creates the table usage_prices beside the events if there is none.
    """
    from usage_explore.db import ddl, schema
    from usage_explore.db.names import ids_by_external_id, unknown_texts
    from usage_explore.files.values import directory_ids, made_ids
    from usage_explore.load.names import only_organization, without_events
    from usage_explore.pricing.read import read_prices
    from usage_explore.pricing.table import replace_prices

    book, unknown = read_prices(file), ""
    with connected() as (connection, settings):
        ddl.ensure_schema(connection, settings.table, names_table_name=settings.names_table)
        events = schema.events_table(settings.table)
        own = settings.organization_id or only_organization(connection, events)
        if made := made_ids(book.ids):
            directory = schema.names_table(settings.names_table, events)
            found = ids_by_external_id(connection, directory, own, made)
            book = book.with_ids(directory_ids(made, found))
            unknown = unknown_texts(connection, directory, own, made, found)
        former = replace_prices(connection, events, own, book)
        connection.commit()
        warning = without_events(connection, events, own)
    replaced = f" instead of {counted(former, 'price')}" if former else ""
    say(f"{file}: {counted(len(book), 'price')}{replaced}, of organization {own}.")
    for text in filter(None, (warning, unknown and f"Warning: {unknown}.")):
        say(text, err=True)


@prices.command(name="list")
@organization
@common
def list_prices() -> None:
    """List the organization's price book."""
    from usage_explore.open_store import opened
    from usage_explore.pricing import fields

    with opened(settings_in_force()) as store:
        book = store.prices()
    if book is None:
        click.echo("No prices; load some with `usage-explore prices load FILE`.")
        return
    names = [name for name in fields.FIELDS if name != "scale"]
    rows = [[_cell(fields.row(price)[name]) for name in names] for price in book.prices]
    shown = [index for index in range(len(names)) if any(row[index] for row in rows)]
    headings: list[Any] = [(names[index], "left") for index in shown]
    for line in table(headings, [[row[index] for index in shown] for row in rows]):
        click.echo(line)


def _file_option(name: str, words: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(f"--{name}", f"{name}_", type=click.Path(path_type=Path), metavar="FILE", help=words)


@click.command()
@period_options
@_file_option("prices", "Price book, .toml, .csv, .xlsx or .parquet.  [default: the table usage_prices]")
@_file_option("wallets", "Preferred currencies, .csv, .xlsx or .parquet.")
@click.option("--margins", is_flag=True, help="List revenue, external cost and margin by customer and metric, too.")
@_file_option("csv", "Write all lines as CSV; - for stdout.")
@click.option("--escape-formulas", is_flag=True, help=f"CSV only. {formulas.MEANING}")
@_file_option("json", "Write it as JSON; - for stdout.")
@organization
@common
def rate(
    query: str,
    prices_: Path | None,
    wallets_: Path | None,
    margins: bool,
    csv_: Path | None,
    escape_formulas: bool,
    json_: Path | None,
    **given: Any,
) -> None:
    """Rate a period's usage by a price book: the expected amount of each customer, metric, price and wallet.

    Without --since, --until or --window that is last month. Usage without a price is listed with its quantity; it has
    no amount, which is not an amount of 0. Events that arrived within the settle time are not rated, and counted.

    Exit codes: 0 rated, 1 no event of the period was rated or an error, 2 a question that cannot be answered.
    """
    from usage_explore.open_store import opened
    from usage_explore.results.whole_file import whole_file

    if escape_formulas and csv_ is None:
        raise ConfigurationError("--escape-formulas: is for --csv; add it, or leave this out")
    if csv_ == json_ and csv_ is not None:
        raise ConfigurationError("--json: is the same as --csv; name another file")
    period = parsed_period(query, given)
    with Signals.current().raised(), opened(settings_in_force()) as opened_store:
        store = replace(opened_store, escaped_commas=True)
        rating = store.rate(period, prices=prices_, wallets=wallets_)
    contents: tuple[tuple[Path | None, Callable[[], bytes]], ...] = (
        (csv_, lambda: rating.csv(escape_formulas=escape_formulas)),
        (json_, lambda: _json(rating)),
    )
    for path, content in contents:
        if path is None:
            continue
        if path == _STDOUT:
            click.echo(content().decode(), nl=False)
            continue
        with whole_file(path) as part:
            part.write_bytes(content())
        say(f"Wrote {path_text(path)}.", err=True)
    for line in _lines(rating, margins):
        click.echo(line, err=_STDOUT in (csv_, json_))
    if rating.unexamined:
        later = rating.unexamined.sentence(rating.period, rating.now, "rated", "--as-of ")
        say(f"Warning: {later}", err=True)
    if not rating.events:
        raise SystemExit(1)


def _json(rating: Rating) -> bytes:
    return json.dumps(rating.to_dict(), indent=2, ensure_ascii=False).encode() + b"\n"


def _lines(rating: Rating, margins: bool) -> Iterator[str]:
    from usage_explore.pricing.resolution import WALLET_UNKNOWN
    from usage_explore.query.describe import describe

    width = max(shutil.get_terminal_size((_WIDTH, 0)).columns, _WIDTH)  # narrower, numbers would be cut
    period = rating.names.in_text(describe(rating.period.replace(as_of=None)), ids=True)
    yield shortened(f"Expected amounts: {period}", 1_000)
    as_of = formatting.zoned(rating.period.as_of or rating.now, rating.period.zone)
    yield f"Prices of {shortened(rating.source, MAX_VALUE_CHARACTERS)}, data as of {as_of}"
    yield ""
    if rating.lines:
        yield from _amounts(rating, width)
        totals = ", ".join(
            f"{formatting.money(amount)} {data_value(currency)}" for currency, amount in rating.totals.items()
        )
        yield f"Total of {counted(len(rating.lines), 'line')}: {totals}"
    elif rating.events:
        yield "No usage of the period has a price."
    else:
        yield "No event of the period is known."
    if rating.unpriced:
        yield ""
        yield click.style(f"{counted(rating.unpriced_events, 'event')} without a price, on no invoice:", bold=True)
        yield from _unpriced(rating, width)
        if any(WALLET_UNKNOWN in usage.reason for usage in rating.unpriced):
            yield "Give the customers' preferred currencies with --wallets FILE to know which currency applies."
    if margins and rating.margins:
        yield ""
        yield from _margins(rating, width)


def _amounts(rating: Rating, width: int) -> Iterable[str]:
    from usage_explore.pricing.rating import tier_text

    lines = sorted(rating.lines, key=lambda line: (line.currency, -line.amount))
    since, until = rating.period.span
    is_split = any((line.since, line.until) != (since, until) for line in lines[:_MAX_LISTED])

    def row(line: RatedLine) -> list[str]:
        is_whole = (line.since, line.until) == (since, until)
        span = "" if is_whole else formatting.span_in(line.since, line.until, rating.period.zone)
        tiers = [tier_text(tier) for tier in line.tiers]
        used = line.metric_key if line.price_key is None else f"{line.metric_key}, {line.price_key}"
        return [
            shortened(rating.names.label("customer_id", line.customer_id), _MAX_NAME_CHARACTERS),
            shortened(used, _MAX_NAME_CHARACTERS),
            *([span] if is_split else []),
            exact(line.billable_quantity),
            f"{formatting.money(line.amount)} {data_value(line.currency)}",
            "; ".join(tiers if len(tiers) <= 3 else [*tiers[:2], f"{len(tiers) - 2} more tiers"]),
        ]

    columns: list[Any] = [("customer", "left"), ("metric, price", "left")]
    columns += [("part", "left")] if is_split else []
    columns += [("billable", "right"), ("amount", "right"), ("tiers", "left")]
    yield from _table(columns, [row(line) for line in lines[:_MAX_LISTED]], width)
    if len(lines) > _MAX_LISTED:
        yield f"and {len(lines) - _MAX_LISTED:,} more; --csv and --json have them all"


def _unpriced(rating: Rating, width: int) -> Iterable[str]:
    """Usage without a price by metric, price key and reason: customers are counted."""
    groups: dict[tuple[str, str, str], list[Any]] = {}
    for usage in rating.unpriced:
        groups.setdefault((usage.metric_key, usage.price_key or "", usage.reason), []).append(usage)
    rows = [
        (
            shortened(metric, MAX_VALUE_CHARACTERS),
            shortened(price, MAX_VALUE_CHARACTERS),
            counted(len({item.customer_id for item in items}), "customer"),
            f"{sum(item.events for item in items):,}",
            exact(total(item.quantity for item in items)),
            reason,
        )
        for (metric, price, reason), items in sorted(groups.items())
    ]
    headings = ("metric", "price", "of", "events", "quantity", "why")
    columns: list[Any] = [(name, "right" if name in ("events", "quantity") else "left") for name in headings]
    yield from _table(columns, rows[:_MAX_LISTED], width)
    if len(rows) > _MAX_LISTED:
        yield f"and {len(rows) - _MAX_LISTED:,} more; --json has them all"


def _margins(rating: Rating, width: int) -> Iterable[str]:
    ranked = sorted(rating.margins, key=lambda item: (item.margin is None, item.margin_ratio or 0))
    rows = [
        (
            rating.names.label("customer_id", item.customer_id),
            shortened(item.metric_key, MAX_VALUE_CHARACTERS),
            *(exact(value) for value in (item.revenue, item.cost, item.margin)),
            formatting.NO_VALUE if item.margin_ratio is None else formatting.percent(item.margin_ratio),
            data_value(item.currency),
        )
        for item in ranked[:_MAX_MARGINS]
    ]
    columns: list[Any] = [("customer", "left"), ("metric", "left")]
    columns += [(name, "right") for name in ("revenue", "cost", "margin", "share")]
    yield from _table([*columns, ("", "left")], rows, width)
    if len(ranked) > _MAX_MARGINS:
        yield f"and {len(ranked) - _MAX_MARGINS:,} more; --json has them all"


def _table(columns: Any, rows: Any, width: int) -> Iterator[str]:
    heading, *lines = table(columns, rows, width=width)
    yield click.style(heading, dim=True)
    yield from lines


def _cell(value: object) -> str:
    if isinstance(value, Decimal):
        return plain(value) if value else ""
    return "" if value is None else shortened(str(value), MAX_VALUE_CHARACTERS)
