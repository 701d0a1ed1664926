"""The HTML of a shared link and of an embedded chart: one answer, no script, nothing to load from elsewhere.

The package of charts is imported with the first answer, not with this module: a start of the app needs none.

`Card` is the head of a page for programs that show a link as a card: title, description and picture, by Open Graph.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from usage_explore import formatting
from usage_explore.answers import Aggregate
from usage_explore.api.endpoints import View, check_picture
from usage_explore.errors import DrawingError, QueryError
from usage_explore.formatting import printable, shortened
from usage_explore.query.describe import describe
from usage_explore.query.queries import RATIOS

if TYPE_CHECKING:
    from usage_explore import charts
    from usage_explore.selection import Selection

_WIDTH_PIXELS, _NARROW_PIXELS = 960, 400
_MAX_NARROW_PIXELS = 600
"""Width of a page up to which the narrow picture is shown, as the wide one's text would be illegible."""

_DARK = "color-scheme: dark; --ink: #e8eaf0; --soft: #a3aab8; --line: #3a4150; --paper: #0e1117; --link: #7cbcf5;"
_STYLE = """
:root { color-scheme: light; --ink: #1f2430; --soft: #5f6675; --line: #d9dce3; --paper: #ffffff; --link: #0b5cad; }
.dark { %s }
@media (prefers-color-scheme: dark) { .either { %s } }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1rem; }
.embedded main { padding: 0.5rem; }
h1 { font-size: 1.25rem; line-height: 1.3; margin: 0 0 0.25rem; overflow-wrap: anywhere; }
p { margin: 0.25rem 0; overflow-wrap: anywhere; }
.soft { color: var(--soft); font-size: 0.875rem; }
img { display: block; width: 100%; height: auto; margin: 0.75rem 0; }
table { border-collapse: collapse; margin: 0.75rem 0; }
th, td { border-bottom: 1px solid var(--line); padding: 0.25rem 0.75rem; text-align: left; overflow-wrap: anywhere; }
td:last-child, th:last-child { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
a { color: var(--link); }
p.selected { font-weight: 600; }
tr.selected { background: var(--line); }
""".replace("%s", _DARK)


@dataclass(frozen=True, slots=True)
class Shown:
    """An answer with what stands around it: the name and id of its organization, and its most frequent values.

    With a `selection`, `part` is the answer to `whole_of(selection)`: its total.
    """

    answer: Aggregate
    organization: str
    frequent: tuple[str, ...]
    view: View
    selection: Selection | None = None
    part: Aggregate | None = None

    @property
    def title(self) -> str:
        """The query in words, with names for ids."""
        return self.answer.names.in_text(describe(self.answer.query.replace(as_of=None), whole_seconds=True))

    @property
    def known(self) -> str:
        """As of when the numbers are: "as of 1 Oct 2026 12:00:00, UTC"."""
        query = self.answer.query
        known = (query.as_of or self.answer.now).astimezone(ZoneInfo(query.timezone)).replace(microsecond=0)
        return f"as of {formatting.date_and_time(known)}, {query.timezone}"

    @property
    def selected(self) -> str:
        """What is selected, "Selected: 3 Sep 2026, model large: 120 events, 12 % of the window.", else ""."""
        from usage_explore import ticket

        part, answer = self.part, self.answer
        if self.selection is None or part is None:
            return ""
        words = f"Selected: {self.selection.words(answer)}: {ticket.measured(part, part.total)}"
        share = ""
        if part.adds_up and part.total is not None and answer.total is not None and part.query.metric not in RATIOS:
            share = f"{formatting.percent(part.total, answer.total)} of the window"
        return ", ".join(filter(None, (words, part.adds, share))) + "."

    def card(self, url: str = "", image: str = "") -> Card:
        """What a link to the page shows."""
        parts = (self.organization, self.known, self.selected)
        return Card(self.title, " · ".join(filter(None, parts)), image, url)


def shared_page(shown: Shown, url: str, csv: str, png: str) -> bytes:
    """The page of a shared link: title, sentence, chart and the series' totals; `csv` and `png` are its files."""
    from usage_explore import charts

    answer = shown.answer
    files = f'<p><a href="{escape(csv)}">Data as CSV</a> · <a href="{escape(png)}">Chart as PNG</a></p>'
    body = [
        _heading(shown),
        _chart(shown, (False, True)),
        f"<p>{_text(charts.summary(answer))}</p>",
        _totals(shown),
        files,
        '<p class="soft">A pinned view, read-only: it shows these numbers whatever arrives later.</p>',
    ]
    return _document(shown.card(url, f"{url}.png").html(), "\n".join(body), "either")


def embedded_page(shown: Shown) -> bytes:
    """The page for a frame: title, as-of and chart."""
    dark = shown.view.theme == "dark"
    chart = _chart(shown, (dark,))
    return _document(Card(shown.title).html(), f"{_heading(shown)}\n{chart}", "embedded dark" if dark else "embedded")


def message_page(title: str, text: str, app: str = "") -> bytes:
    """A page that says why there is nothing to show, with a link to the app if its address is given."""
    way = f'\n<p><a href="{_text(app)}">Open usage-explore</a></p>' if app else ""
    return _document(Card().html(), f"<h1>{_text(title)}</h1>\n<p>{_text(text)}</p>{way}", "either")


def chart_of(shown: Shown, *, title: bool, dark: bool = False, width: int = _WIDTH_PIXELS) -> charts.AnswerChart:
    """The chart for a picture. Raises `QueryError` where it cannot be drawn."""
    from usage_explore import charts

    check_picture(shown.answer)
    captions = charts.caption(shown.answer, shown.organization), shown.selected
    drawn = charts.chart(
        shown.answer,
        kind=shown.view.chart,
        dark=dark,
        width=width,
        interactive=False,
        frequent=shown.frequent,
        caption=" · ".join(filter(None, captions)) if title else "",
        selected=_marked(shown),
    )
    return drawn if title else drawn.properties(title="")


def _marked(shown: Shown) -> charts.Marked | None:
    from usage_explore import charts

    if shown.selection is None:
        return None
    series = shown.selection.series
    return charts.marked(shown.answer, (series.kind, series.key) if series else None, shown.selection.span)


def _heading(shown: Shown) -> str:
    from usage_explore.charts import labels

    lines = [
        f"<h1>{_text(shown.title)}</h1>",
        f'<p class="soft">{_text(shown.organization)} · {_text(shown.known)}</p>',
    ]
    lines += [f'<p class="soft">{_text(note)}</p>' for note in labels.notes(shown.answer)]
    if shown.selected:
        lines.append(f'<p class="selected">{_text(shown.selected)}</p>')
    return "\n".join(lines)


def _chart(shown: Shown, themes: tuple[bool, ...]) -> str:
    """The chart as images inside the page, in which no script runs; a sentence if it cannot be drawn.

    `themes` are the dark one (True) or the light one, or both, of which the browser chooses; so it does the width.
    """
    from usage_explore import charts

    pictures: list[tuple[str, str]] = []
    try:
        for width in (_NARROW_PIXELS, _WIDTH_PIXELS):
            for dark in sorted(themes, reverse=True):
                conditions = [f"(max-width: {_MAX_NARROW_PIXELS}px)"] if width == _NARROW_PIXELS else []
                conditions += ["(prefers-color-scheme: dark)"] if dark and len(themes) > 1 else []
                picture = charts.image(chart_of(shown, title=False, dark=dark, width=width), "svg")
                data = f"data:image/svg+xml;base64,{b64encode(picture).decode()}"
                pictures.append((" and ".join(conditions), data))
    except QueryError as error:
        return f"<p>No chart: {_text(error.faults[0].message)}</p>"
    except DrawingError as error:
        return f"<p>{_text(str(error))}</p>"
    *others, (_, last) = pictures
    lines = [f'<source media="{media}" srcset="{data}">' for media, data in others]
    words = " ".join(filter(None, (charts.summary(shown.answer), shown.selected)))
    lines.append(f'<img alt="{escape(words)}" src="{last}">')
    return "<picture>{}</picture>".format("\n".join(lines))


def _totals(shown: Shown) -> str:
    """The series with their exact totals, by rank; the selected one stands out."""
    from usage_explore.charts import labels

    answer, chosen = shown.answer, shown.selection.series if shown.selection else None
    marks = [' class="selected"' if series is chosen else "" for series in answer.series]
    rows = "\n".join(
        f"<tr{mark}><td>{_text(name)}</td><td>{_text(_number(series.total))}</td></tr>"
        for mark, name, series in zip(marks, labels.names(answer), answer.series, strict=True)
    )
    total = f"<tr><td>Total</td><td>{_text(_number(answer.total))}</td></tr>" if len(answer.series) > 1 else ""
    return (
        f"<table><thead><tr><th>Series</th><th>{_text(labels.heading(answer))}</th></tr></thead>"
        f"<tbody>{rows}{total}</tbody></table>"
    )


def _number(value: object) -> str:
    return formatting.NO_VALUE if value is None else formatting.exact(value)  # type: ignore[arg-type]


def _text(text: str) -> str:
    return escape(formatting.printable(text))


def _document(head: str, body: str, kind: str = "") -> bytes:
    return f"""<!doctype html>
<html lang="en" class="{kind}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<meta name="referrer" content="no-referrer">
{head}
<style>{_STYLE}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
""".encode()


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
        title = _head_text(self.title, MAX_TITLE_CHARACTERS)
        description = _head_text(self.description, MAX_DESCRIPTION_CHARACTERS)
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


def _head_text(text: str, most: int) -> str:
    return escape(shortened(printable(text), most))
