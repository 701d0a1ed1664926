"""Why a total changed: the few values, and combinations of values, that account for the change, and everything else.

`spans` has the two windows, `statements` their SQL, `model` and `search` find the cells, `cells` has their exact
amounts, `result` the explanation, `chart` its picture; `run` puts them together.
"""

from usage_explore.explain.cells import Cell, Part
from usage_explore.explain.result import Explanation
from usage_explore.explain.spans import Baseline, Span

__all__ = ["Baseline", "Cell", "Explanation", "Part", "Span"]
