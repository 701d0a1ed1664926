"""Text from data, links and messages as Markdown that shows it unchanged."""

from __future__ import annotations

import re

_SPECIAL = frozenset("\\`*_{}[]()#+-.!|~$:<>")
_NAMED = re.compile(r"\\:(?!\d\d\\:)(?=[^\s:]+\\:)")
_CODE = re.compile(r"`([^`\n]+)`")


def plain(text: str) -> str:
    """Text from data or a link as Markdown that shows it as it is."""
    escaped = "".join(f"\\{letter}" if letter in _SPECIAL else letter for letter in text)
    # Streamlit replaces :names: of emoji and icons after it has read the Markdown; a word joiner prevents that
    return _NAMED.sub("\\\\:\u2060", escaped)


def prose(text: str) -> str:
    """A message as Markdown: its `commands` as code, all else as it is."""
    parts = _CODE.split(text)
    return "".join(f"`{part}`" if index % 2 else plain(part) for index, part in enumerate(parts))
