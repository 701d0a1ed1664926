"""The head of a page for programs that show a link as a card: title, description and picture, by Open Graph."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from usage_explore.formatting import printable, shortened

PRODUCT = "usage-explore"

MAX_TITLE_CHARACTERS = 200
MAX_DESCRIPTION_CHARACTERS = 400

_PICTURE_PIXELS = 1_920
"""Width of a chart's PNG."""


@dataclass(frozen=True, slots=True)
class Card:
    """What a link shows of its page. `image` and `url` are absolute addresses, "" without one."""

    title: str = PRODUCT
    description: str = ""
    image: str = ""
    url: str = ""

    def html(self) -> str:
        """The elements `title` and `meta`; every text is escaped, on one line and bounded."""
        title = _text(self.title, MAX_TITLE_CHARACTERS)
        description = _text(self.description, MAX_DESCRIPTION_CHARACTERS)
        values = {
            "og:site_name": PRODUCT,
            "og:type": "website",
            "og:title": title,
            "og:description": description,
            "og:url": escape(self.url),
            "og:image": escape(self.image),
            "og:image:type": "image/png" if self.image else "",
            "og:image:width": str(_PICTURE_PIXELS) if self.image else "",
        }
        named = {
            "description": description,
            "twitter:card": "summary_large_image" if self.image else "summary",
            "twitter:title": title,
            "twitter:description": description,
            "twitter:image": escape(self.image),
        }
        page_title = title if self.title == PRODUCT else f"{title} · {PRODUCT}"
        return "\n".join(
            [
                f"<title>{page_title}</title>",
                *(f'<meta property="{name}" content="{value}">' for name, value in values.items() if value),
                *(f'<meta name="{name}" content="{value}">' for name, value in named.items() if value),
            ]
        )


def _text(text: str, most: int) -> str:
    return escape(shortened(printable(text), most))
