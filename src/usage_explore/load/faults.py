"""The faults of a file's values, each kind once: column, reason, number of rows, examples."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

MAX_EXAMPLES_PER_FAULT = 3
"""Values that a fault shows."""

MAX_KEPT_FAULTS = 200
"""Kinds of faults of a file that are kept apart; further ones count as rejected rows only."""

MAX_LISTED_FAULTS = 20
"""Kinds of faults that a report or an error message lists."""

_VALUE = re.compile(r"""'(?:\\.|[^'\\])*(?:'|…)|"(?:\\.|[^"\\])*(?:"|…)|-?\d[\d.eE+-]*""")
"""The value at the start of a reason, as `files.values.quoted` writes it."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault: `rows` of the `read` rows have it. `examples` are (line, reason), one for each of a few values.

    `unit` is "line" or "row"; `column` is empty where a whole row cannot be read. `str()` is one sentence.
    """

    path: Path
    unit: str
    column: str
    rows: int
    read: int
    examples: tuple[tuple[int, str], ...]

    def __str__(self) -> str:
        line, reason = self.examples[0]
        column = f", {self.column}" if self.column else ""
        if self.rows == 1:
            return f"{self.path}, {self.unit} {line:,}{column}: {reason}"
        amount = f"all {self.rows:,}" if self.rows == self.read else f"{self.rows:,} of {self.read:,}"
        values = [(line, value[0]) for line, reason in self.examples[1:] if (value := _VALUE.match(reason))]
        also = f", {', '.join(f'{value} ({self.unit} {line:,})' for line, value in values)}" if values else ""
        return f"{self.path}{column}, {amount} rows: {reason} ({self.unit} {line:,}){also}"


class FaultCounter:
    """Counts the faults of a file by column and kind of reason."""

    def __init__(self, path: Path, unit: str) -> None:
        self._path = path
        self._unit = unit
        self._rows: dict[tuple[str, str], int] = {}
        self._examples: dict[tuple[str, str], dict[str, int]] = {}

    def add(self, line: int, column: str, reason: str) -> None:
        """Count a fault of a row."""
        value = _VALUE.match(reason)
        kind = column, re.sub(r"\d[\d,]*", "0", reason[value.end() :] if value else reason)
        if kind not in self._rows and len(self._rows) >= MAX_KEPT_FAULTS:
            return
        self._rows[kind] = self._rows.get(kind, 0) + 1
        examples = self._examples.setdefault(kind, {})
        if len(examples) < MAX_EXAMPLES_PER_FAULT:
            examples.setdefault(reason, line)

    def faults(self, read: int) -> tuple[Fault, ...]:
        """The faults in the order of their first rows; `read` is the number of rows that were read."""
        return tuple(
            Fault(
                self._path,
                self._unit,
                column,
                rows,
                read,
                tuple((line, reason) for reason, line in self._examples[column, kind].items()),
            )
            for (column, kind), rows in self._rows.items()
        )


def fault_lines(faults: Sequence[Fault], rows: int) -> Iterator[str]:
    """The first faults, one in a line, and how many `rows` are rejected where not all faults are listed."""
    yield from map(str, faults[:MAX_LISTED_FAULTS])
    if len(faults) > MAX_LISTED_FAULTS:
        yield f"… the first {MAX_LISTED_FAULTS} kinds of faults are shown; {rows:,} rows are rejected in all"
