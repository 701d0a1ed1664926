"""Which wallet usage without a pinned currency goes to: the preferred-currency cascade."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    PreferenceSource = Path | str | Mapping[str, str] | pd.DataFrame


@dataclass(frozen=True, slots=True)
class Preferences:
    """The customers' preferred currencies and the organization's default."""


def read_preferences(source: PreferenceSource) -> Preferences:
    """The preferences in a file, a mapping or a frame. Raises `QueryError` naming each faulty one."""
    raise NotImplementedError(source)
