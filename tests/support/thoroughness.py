"""With how many random cases a law is tried: a third by default, all of them with USAGE_EXPLORE_TEST_THOROUGH=1."""

from __future__ import annotations

import os

THOROUGH = os.environ.get("USAGE_EXPLORE_TEST_THOROUGH") == "1"


def cases(thorough: int) -> int:
    """The number of cases out of so many, at least 5."""
    return thorough if THOROUGH else min(thorough, max(5, thorough // 3))
