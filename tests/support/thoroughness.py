"""How thorough a run is: a third of the random cases by default, and no test marked `thorough`.

USAGE_EXPLORE_TEST_THOROUGH=1 (`make test-thorough`) tries all cases and all tests.
"""

from __future__ import annotations

import os
from typing import TypeVar

THOROUGH = os.environ.get("USAGE_EXPLORE_TEST_THOROUGH") == "1"


T = TypeVar("T")


def further(*values: T) -> tuple[T, ...]:
    """The values if this run is thorough, else none: repetitions inside of a test, such as more widths."""
    return values if THOROUGH else ()


def cases(thorough: int) -> int:
    """The number of cases out of so many, at least 5."""
    return thorough if THOROUGH else min(thorough, max(5, thorough // 3))
