"""Charts of results: pure functions from the data of an aggregate to an Altair chart or a picture.

>>> charts.chart(answer, kind="lines")  # doctest: +SKIP

All times and exact numbers in a chart are text made here, so the browser's time zone and floats change nothing.
"""

from usage_explore.charts.answer import MAX_MARKS, AnswerChart, Kind, chart, mark, spec
from usage_explore.charts.labels import caption, summary, undrawable
from usage_explore.charts.layers import Marked, brushed, marked, picked
from usage_explore.charts.picture import image
from usage_explore.charts.style import DARK, LIGHT, MAX_COLORS, colors, theme

__all__ = [
    "DARK",
    "LIGHT",
    "MAX_COLORS",
    "MAX_MARKS",
    "AnswerChart",
    "Kind",
    "Marked",
    "brushed",
    "caption",
    "chart",
    "colors",
    "image",
    "mark",
    "marked",
    "picked",
    "spec",
    "summary",
    "theme",
    "undrawable",
]
