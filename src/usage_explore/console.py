"""Progress bars and tables on a terminal, by rich. Text from data is inert: no markup, control characters escaped."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from usage_explore.formatting import on_one_line, printable

ShowProgress = Callable[..., None]
"""Called as `show(done, total)` or `show(done, total, title)`; `done` may fall back, where work begins anew."""

Justify = Literal["left", "right"]

_UNLIMITED_COLUMNS = 10_000
_BAR_COLUMNS = 20
_LINE_SECONDS = 4.0
"""Time between two lines of progress, where stderr is no terminal."""


@contextmanager
def progress_bar(
    title: str, unit: str = "", *, shown: bool | ShowProgress, transient: bool = False
) -> Iterator[ShowProgress]:
    """A progress bar on stderr, a widget in a notebook. Where stderr is no terminal, a plain line every few seconds.

    With a `unit`, the amounts are shown too: "1,500 of 2,000 rows". A transient bar disappears at the end, and has no
    lines where stderr is no terminal. A function given as `shown` is called in place of a bar.
    """
    if callable(shown):
        yield shown
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not (console.file.isatty() or console.is_jupyter):
        yield _lines(title, unit) if shown and not transient else _nothing
        return
    console = Console(stderr=True, force_terminal=console.file.isatty())  # FORCE_COLOR makes no terminal of a file
    text = TextColumn("{task.description}", markup=False)
    amount = TextColumn("{task.fields[amount]}", markup=False)
    columns = (text, BarColumn(_BAR_COLUMNS), TaskProgressColumn(), amount, TimeElapsedColumn())
    with Progress(
        *columns,
        console=console,
        transient=transient,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=not shown,
    ) as progress:
        task = progress.add_task(printable(title), total=None, amount="")

        def show(done: float, total: float, title: str = title) -> None:
            amount = f"{done:,.0f} of {total:,.0f} {unit}" if unit else ""
            progress.update(task, completed=done, total=total, amount=amount, description=printable(title))

        yield show


def _lines(title: str, unit: str) -> ShowProgress:
    """Print the first progress, the last, and one every few seconds between, as lines on stderr; no line twice."""
    printed = float("-inf")
    lines: set[str] = set()

    def show(done: float, total: float, title: str = title) -> None:
        nonlocal printed
        now = time.monotonic()
        amount = f"{done:,.0f} of {total:,.0f} {unit}" if unit else f"{done / total if total else 1:.0%}"
        line = f"{printable(title)}: {amount}\n"
        if (done >= total or now >= printed + _LINE_SECONDS) and line not in lines:
            printed = now
            lines.add(line)
            sys.stderr.write(line)
            sys.stderr.flush()

    return show


def _nothing(done: float, total: float, title: str = "") -> None:
    """Show no progress."""


def table(
    columns: Sequence[tuple[str, Justify]],
    rows: Iterable[Sequence[str]],
    *,
    width: int = _UNLIMITED_COLUMNS,
    colors: Sequence[str] = (),
) -> list[str]:
    """The lines of a table without borders. The last column wraps where a line would be wider than `width`.

    The first line is the heading, unless no column has one. `colors` are ANSI color names for the first cells.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=any(name for name, _ in columns))
    for name, justify in columns[:-1]:
        grid.add_column(name, justify=justify, no_wrap=True, header_style="not bold")
    name, justify = columns[-1]
    grid.add_column(name, justify=justify, overflow="fold", header_style="not bold")
    for number, row in enumerate(rows):
        cells = [Text(on_one_line(cell)) for cell in row]
        if colors:
            cells[0].stylize(colors[number])
        grid.add_row(*cells)
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=True,
        force_jupyter=False,
        legacy_windows=False,
        color_system="standard",
        no_color=False,
    )
    with console.capture() as capture:
        console.print(grid)
    return [line.rstrip() for line in capture.get().splitlines()]
