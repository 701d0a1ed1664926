"""Text from data, links and messages as Markdown that shows it unchanged."""

from __future__ import annotations

import re

_SPECIAL = frozenset("\\`*_{}[]()#+-.!|~$:<>")
_NAME_OR_LINK = re.compile(r"\\:(?!\d\d\\:)(?=[^\s:]+\\:)|\\:(?=//)|www(?=\\\.)|(?=@)", re.IGNORECASE)
"""Where Streamlit would read an emoji or icon such as :name:, or GitHub's Markdown a bare address as a link."""

_CODE = re.compile(r"`([^`\n]+)`")


def plain(text: str) -> str:
    """Text from data or a link as Markdown that shows it as it is."""
    escaped = "".join(f"\\{letter}" if letter in _SPECIAL else letter for letter in text)
    # both are looked for after the escapes are resolved; an invisible word joiner prevents that
    return _NAME_OR_LINK.sub("\\g<0>\u2060", escaped)


def prose(text: str) -> str:
    """A message as Markdown: its `commands` as code, all else as it is."""
    parts = _CODE.split(text)
    return "".join(f"`{part}`" if index % 2 else plain(part) for index, part in enumerate(parts))
