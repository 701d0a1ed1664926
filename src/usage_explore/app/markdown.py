"""Text from data, links and messages as Markdown that renders as the same text."""

from __future__ import annotations

import re
from typing import Any

_SPECIAL = frozenset("\\`*_{}[]()#+-.!|~$:<>&")
_NAME_OR_LINK = re.compile(r"\\:(?!\d\d\\:)(?=[^\s:]+\\:)|\\:(?=//)|www(?=\\\.)|(?=@)", re.IGNORECASE)
"""Where Streamlit renders an emoji or icon such as :name:, or GitHub's Markdown links a bare address."""

_PERCENT = re.compile(r"(?<=\d) %(?!\w)", re.ASCII)
_TYPOGRAPHIC = re.compile(r"(?<![^\s\ufeff])(?:<->|->|<-|--|[<>~]=)(?![^\s\ufeff])")
"""Marks that Streamlit renders as others where they stand alone, such as -> as an arrow."""

_CORRECTIONS = re.compile(r"`usage-explore signoffs [^`\n]*`")

_CODE = re.compile(r"`([^`\n]+)`")


def plain(text: str) -> str:
    """The text as Markdown that renders as the same text; the % of a number stays on its line."""
    # names, links and marks are looked for after the escapes are resolved; an invisible word joiner prevents that
    text = _TYPOGRAPHIC.sub(lambda mark: f"{mark[0][0]}\u2060{mark[0][1:]}", text)
    text = _PERCENT.sub("\u00a0%", text)
    escaped = "".join(f"\\{letter}" if letter in _SPECIAL else letter for letter in text)
    return _NAME_OR_LINK.sub("\\g<0>\u2060", escaped)


def prose(text: str) -> str:
    """A message as Markdown: `commands` in backquotes as code, the rest as the same text."""
    parts = _CODE.split(text)
    return "".join(f"`{part}`" if index % 2 else plain(part) for index, part in enumerate(parts))


def in_app(text: str) -> str:
    """A message with the tab of the page in place of the command in a terminal that has the same."""
    return _CORRECTIONS.sub("the tab Sign-off of Validate", text)


def chart_title(title: dict[str, Any]) -> str:
    """A chart's Vega-Lite title as Markdown, which wraps on a narrow screen and is read by screen readers."""
    notes = "  \n".join(plain(note) for note in title.get("subtitle", ()))
    return f"**{plain(' '.join(title['text']))}**" + (f"  \n:small[:gray[{notes}]]" if notes else "")
