"""Why did it change: the few values, and combinations of them, that account for a change, and everything else."""

from usage_explore.explain.cells import Cell, Part
from usage_explore.explain.result import Explanation
from usage_explore.explain.spans import Baseline, Span

__all__ = ["Baseline", "Cell", "Explanation", "Part", "Span"]
