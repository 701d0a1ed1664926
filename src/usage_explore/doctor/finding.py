"""The result of one check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing examined: `ok`, a `warning` (works, but slower or less safely) or a `fault` (wrong or no results).

    `fix` says what to do, as SQL where possible; empty if nothing is to be done.
    """

    name: str
    state: Literal["ok", "warning", "fault"]
    message: str
    fix: str = ""
