"""A chart as a picture, made without a browser and without a network."""

from __future__ import annotations

import json
from typing import Any, Literal

import vl_convert as vlc


def image(chart: Any, form: Literal["png", "svg"]) -> bytes:
    """The chart as PNG (twice the pixels) or SVG; one that fills its container is made 960 wide.

    Raises `ValueError` for another form.
    """
    spec = json.dumps(sized(chart.to_dict()))
    if form == "svg":
        return vlc.vegalite_to_svg(spec).encode()
    if form == "png":
        return vlc.vegalite_to_png(spec, scale=2)
    raise ValueError(f"form: {form!r} is not a picture; choose png or svg")


def sized(spec: dict[str, Any]) -> dict[str, Any]:
    """The specification with a width in pixels."""
    return {**spec, "width": 960} if spec.get("width") == "container" else spec
