"""A chart as a picture, made without a browser and without a network, in a process of its own."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

import altair as alt

from usage_explore.charts.drawer import drawer

_UNDRAWABLE = re.compile(r"[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_ESCAPED = re.compile(r"(?<!\\)((?:\\\\)*)(\\(?:u00(?:0[0-8bcef]|1[0-9a-f])|ufff[ef]|[bf]))", re.IGNORECASE)


WIDTH = 960
"""Pixels of a chart in a file, where it would fill its container: there is none."""


class Drawn(alt.LayerChart):
    """A chart that fills its container, and has a width of its own where it is saved."""

    def save(self, *given: Any, **options: Any) -> None:
        """As Altair's `save`, in any format; a chart that fills its container is made 960 pixels wide."""
        chart = self.properties(width=WIDTH) if self["width"] == "container" else self
        super(Drawn, chart).save(*given, **options)


def image(chart: Any, form: Literal["png", "svg"]) -> bytes:
    """The chart as PNG (twice the pixels) or SVG; one that fills its container is made 960 wide.

    Control characters, which no SVG can hold, are drawn as their symbols. Raises `ValueError` for another form and
    `DrawingError` when it cannot be drawn or takes longer than 30 s.
    """
    if form not in ("png", "svg"):
        raise ValueError(f"form: {form!r} is not a picture; choose png or svg")
    return drawer.draw(json.dumps(_drawable(sized(chart.to_dict()))), form)


def sized(spec: dict[str, Any]) -> dict[str, Any]:
    """The specification with a width in pixels."""
    return {**spec, "width": WIDTH} if spec.get("width") == "container" else spec


def _drawable(value: Any, *, encoded: bool = False) -> Any:
    """The specification without characters on which vl-convert ends the whole process; `encoded`: JSON in a string."""
    if isinstance(value, dict):
        return {key: _drawable(item, encoded=key == "values") for key, item in value.items()}
    if isinstance(value, list):
        return [_drawable(item) for item in value]
    if isinstance(value, str):
        if encoded:
            value = _ESCAPED.sub(lambda found: found[1] + _symbol(json.loads(f'"{found[2]}"')), value)
        return _UNDRAWABLE.sub(lambda found: _symbol(found[0]), value)
    return value


def _symbol(character: str) -> str:
    """The picture Unicode has for a control character: others stay others."""
    return chr(0x2400 + ord(character)) if ord(character) < 32 else "\ufffd"
