"""What a check has to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import psycopg

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: `ok`, a `warning` (works, but slower or less surely) or a `fault` (wrong or no answers).

    `cure` is what to do, SQL where SQL does it; empty when there is nothing to do.
    """

    name: str
    state: Literal["ok", "warning", "fault"]
    message: str
    cure: str = ""
