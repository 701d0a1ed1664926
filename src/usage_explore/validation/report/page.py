"""A validation as one HTML file that needs nothing else: no network, no script, no other file.

The page refuses by itself whatever it did not bring: its policy lets nothing be loaded or run, and names its one style
by its hash. Every value from the data is escaped.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol

import jinja2
from markupsafe import Markup

from usage_explore import formatting
from usage_explore.answers import AggregateSource
from usage_explore.charts import DARK, LIGHT
from usage_explore.decimals import decimal_context
from usage_explore.query.describe import describe
from usage_explore.sql import filters as statements
from usage_explore.validation.finding import SEVERITIES, SUBJECTS
from usage_explore.validation.report import words
from usage_explore.validation.report.pictures import Picture, picture
from usage_explore.validation.report.reconciled import Statement
from usage_explore.validation.report.sheets import sheets

if TYPE_CHECKING:
    from sqlalchemy import Table

    from usage_explore.validation import Finding, Result, Validation


class ReportSource(AggregateSource, Protocol):
    """What a report asks: the store that was validated."""

    @property
    def table(self) -> Table:
        """The events table."""
        ...


DRAWN = 12
"""How many findings, those of most impact, have a chart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A finding, the name of its place in the page, its link, and its chart where it has one."""

    anchor: str
    finding: Finding
    url: str
    picture: Picture | None


@decimal_context()
def html(
    store: ReportSource,
    validation: Validation,
    reconciled: Sequence[Statement],
    *,
    by: str | None = None,
    progress: Callable[[float], object] = lambda done: None,
) -> str:
    """The page. `by` is who answers for it, `progress` is called with the part that is drawn, 0 to 1.

    Asks the store for the numbers of each chart, and a process of its own for the picture.
    """
    entries = []
    for place, finding in enumerate(validation.findings):
        drawn = picture(store, validation, finding) if place < DRAWN else None
        progress((place + 1) / len(validation.findings))
        url = finding.url(validation.app_url)
        entries.append(Entry(anchor=f"finding-{place + 1}", finding=finding, url=url, picture=drawn))
    environment = _environment(validation)
    style = environment.get_template("report.css").render(light=LIGHT, dark=DARK, colors=_colors())
    return environment.get_template("report.html").render(
        style=Markup(style),  # noqa: S704 - our own file, with our own colours
        style_hash=b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        validation=validation,
        period=validation.period,
        title=describe(validation.period.replace(as_of=None)),
        severities=SEVERITIES,
        entries=entries,
        drawn=DRAWN,
        sql={result.check.name: _sql(store, validation, result) for result in validation.results},
        shares=words.shares_of_time(validation.results),
        costs=words.costs(validation),
        reconciled=reconciled,
        sheets=list(sheets(validation)),
        by=by,
        version=version("usage-explore"),
    )


def subjects(finding: Finding) -> list[tuple[str, str]]:
    """Whom and what a finding concerns, name and value."""
    found = ((name, getattr(finding, name)) for name in SUBJECTS)
    return [
        (name.removesuffix("_id").replace("_", " "), words.text(value)) for name, value in found if value is not None
    ]


def _sql(store: ReportSource, validation: Validation, result: Result) -> str:
    return statements.to_sql(result.check.statement(store.table, validation.period))


def _environment(validation: Validation) -> jinja2.Environment:
    zone = validation.period.zone
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("usage_explore.validation.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def moment(instant: datetime) -> str:
        return formatting.zoned(instant, zone)

    filters: dict[str, Callable[..., Any]] = {
        "amounts": words.amounts,
        "agreement": words.agreement,
        "counted": formatting.counted,
        "number": formatting.exact,
        "moment": moment,
        "outcome": words.outcome,
        "picture": _markup,
        "seconds": formatting.elapsed,
        "share": formatting.percent,
        "subjects": subjects,
        "unexamined": words.unexamined,
        "verdict": words.verdict,
        "words": partial(words.text, max_characters=words.MAX_SENTENCE_CHARACTERS),
    }
    environment.filters |= filters
    return environment


def _markup(drawn: Picture) -> Markup:
    return Markup(drawn.svg)  # noqa: S704 - it holds nothing but shapes and letters


def _colors() -> list[tuple[str, str]]:
    """Each colour of a chart on white, with its counterpart on black."""
    pairs = [
        *zip(LIGHT.hues + LIGHT.shades, DARK.hues + DARK.shades, strict=True),
        *((getattr(LIGHT, name), getattr(DARK, name)) for name in ("text", "soft", "grid", "muted", "missing")),
    ]
    return [(light, dark) for light, dark in pairs if light != dark]
