"""The wallets, subscriptions, products and prices of a customer as small tables in HTML."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from html import escape

from usage_explore import formatting
from usage_explore.app import query_edits
from usage_explore.app.cache import Key
from usage_explore.app.customer.story import Story
from usage_explore.charts.style import Palette
from usage_explore.decimals import Number, difference, exact_sum
from usage_explore.names import Names
from usage_explore.query.describe import group_name
from usage_explore.results.currencies import CurrencyCost
from usage_explore.results.leaders import Leader, Leaderboard

MAX_ROWS = 5
"""Values of a table; one more if that is the last one."""

_TABLES = {
    "wallet_currency": ("Wallets", "wallet"),
    "subscription_id": ("Subscriptions", "subscription"),
    "product_id": ("Products", "product"),
    "price_key": ("Prices", "price"),
}
"""The columns that have a table, with its title and the noun of a value."""

_STYLE = """<style>
.boards {{ display: grid; grid-template-columns: minmax(0, 1fr); gap: 1.2rem 2rem; align-items: start;
  padding-top: 0.8rem; }}
@media (min-width: 700px) {{ .boards {{ grid-template-columns: repeat(2, minmax(0, 1fr)); }} }}
@media (min-width: 1350px) {{ .boards {{ grid-template-columns: repeat(4, minmax(0, 1fr)); }} }}
.boards table {{ width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.87rem; }}
.boards caption {{ text-align: left; font-size: 1rem; font-weight: 600; padding-bottom: 0.25rem; }}
.boards th, .boards td {{ padding: 0.2rem 0.4rem; border: 0; border-bottom: 1px solid {grid}; text-align: right;
  white-space: nowrap; font-weight: normal; }}
.boards thead th {{ color: {soft}; font-size: 0.8rem; }}
.boards th:first-child {{ text-align: left; padding-left: 0; max-width: 0; width: 46%; overflow: hidden;
  text-overflow: ellipsis; }}
.boards .none {{ color: {soft}; }}
</style>"""


def drawn(story: Story, look: Palette) -> str:
    """The tables side by side, as HTML: the values of most events, with their share and their cost in one currency."""
    html = "".join(_table(story, group, *words) for group, words in _TABLES.items())
    return f'{_STYLE.format(grid=look.grid, soft=look.soft)}<div class="boards">{html}</div>'


def _table(story: Story, group: str, title: str, noun: str) -> str:
    board = story.boards[group]
    rows = _shown(board)
    costs = None if story.by_cost is None else _Costs(story.by_cost[group], story.by_cost.total)
    body = [
        _row(*_name(row, story.names, group), row.total, story, None if costs is None else costs.of(row))
        for row in rows
    ]
    events = difference(story.boards.total, exact_sum((row.total for row in rows), 0))
    if events:
        label = f"Other ({board.values - sum(row.kind == 'value' for row in rows):,})"
        body.append(_row(label, "", events, story, None if costs is None else costs.beside(rows)))
    headings = [noun.capitalize(), "Events", "Share", *([] if story.currency is None else [_heading(story.currency)])]
    columns = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    return f"<table><caption>{title}</caption><thead><tr>{columns}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _shown(board: Leaderboard) -> list[Leader]:
    """The rows of a table; a row for Other is added if there are more values."""
    rows = [row for row in board.leaders if row.kind != "other"]
    return rows if len(rows) == len(board.leaders) <= MAX_ROWS + 1 else rows[:MAX_ROWS]


class _Costs:
    """The costs of a group's values as text: a dash for no cost in the currency, blank for one that is not known."""

    def __init__(self, board: Leaderboard, total: Number) -> None:
        self._known: dict[Key, Number] = {
            (row.kind, row.key): row.total for row in board.leaders if row.kind != "other"
        }
        self._folded = len(self._known) < len(board.leaders)
        self._total = total

    def of(self, row: Leader) -> str:
        known = self._known.get((row.kind, row.key))
        return "" if known is None and self._folded else formatting.short(known)

    def beside(self, rows: Sequence[Leader]) -> str:
        """The cost of all other values."""
        totals = [self._known.get((row.kind, row.key)) for row in rows]
        if self._folded and None in totals:
            return ""
        return formatting.short(difference(self._total, exact_sum((one for one in totals if one), Decimal(0))))


def _heading(cost: CurrencyCost) -> str:
    return "Cost" if cost.currency is None else f"Cost, {formatting.data_value(cost.currency)}"


def _name(row: Leader, names: Names, group: str) -> tuple[str, str]:
    """The text of a value, and the whole id or value for its tooltip."""
    if row.key is None:
        return row.label, f"events without a {group_name(group)}"
    return query_edits.short_value(group, row.key, names), row.key


def _row(label: str, tooltip: str, events: Number, story: Story, cost: str | None) -> str:
    title = f' title="{escape(tooltip)}"' if tooltip else ""
    share = formatting.percent(events, story.boards.total)
    cells = [formatting.exact(events), share, *([] if cost is None else [cost])]
    texts = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f'<tr><th scope="row"{title}>{escape(label)}</th>{texts}</tr>'
