"""Why a total changed: the few values, and combinations of values, that account for the change, and everything else.

`spans` has the two windows, `run` their SQL; `model` and `search` find the cells, `single_values` adds those that a
sample misses, `result` has their exact amounts and the explanation, `chart` its picture.
"""

from usage_explore.explain.result import Cell, Explanation, Part
from usage_explore.explain.spans import Baseline, Span

__all__ = ["Baseline", "Cell", "Explanation", "Part", "Span"]
