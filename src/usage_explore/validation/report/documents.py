"""A validation as a document: one self-contained HTML file, or JSON with every sheet whole.

The HTML file needs no script, no network and no other file. Its Content-Security-Policy forbids everything but its one
inline style, which it names by hash. Every value from the data is escaped; charts are SVG of shapes and text only.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import altair as alt
import jinja2
from markupsafe import Markup

from usage_explore import charts, formatting
from usage_explore.answers import AggregateSource
from usage_explore.charts import DARK, LIGHT
from usage_explore.charts.style import millis
from usage_explore.decimals import decimal_context, plain, rfc3339, total
from usage_explore.errors import DrawingError, UsageExploreError
from usage_explore.names import Names
from usage_explore.pricing.currencies import rounded_amount
from usage_explore.query.describe import describe
from usage_explore.query.filters import ID_COLUMNS
from usage_explore.sql import filters as statements
from usage_explore.validation.bounds import in_force
from usage_explore.validation.check import SEVERITIES, SUBJECTS
from usage_explore.validation.handover import sizes
from usage_explore.validation.report import wording
from usage_explore.validation.report.wording import Statement
from usage_explore.validation.similar import Similar, similar

if TYPE_CHECKING:
    import pandas as pd
    from sqlalchemy import Table

    from usage_explore.answers import Aggregate
    from usage_explore.records.signoffs import SignOff
    from usage_explore.validation import Finding, Result, Validation
    from usage_explore.validation.review import Review, Reviewed
    from usage_explore.validation.signed_usage import Changes


class ReportSource(AggregateSource, Protocol):
    """What a report reads from: the validated store."""

    @property
    def table(self) -> Table:
        """The events table."""
        ...


MAX_CHARTS = 12
"""Findings with a chart, those of most impact."""

MAX_SHEET_ROWS = 50
"""Rows of a sheet on the page; JSON has all of them."""

UNKNOWN_WALLET, ALL_WALLETS = "(unknown wallet)", "all wallets"

CHART_WIDTH, CHART_HEIGHT = 640, 190
"""Size of a chart in pixels."""

_MAX_SHADED = 0.8
"""Share of a chart's buckets up to which the buckets of the finding are shaded."""

_SVG = "http://www.w3.org/2000/svg"
_SVG_ELEMENTS = {"svg", "g", "path", "rect", "line", "text", "tspan"}
_REMOVED_ATTRIBUTES = re.compile(r"aria-.*|role|class|pointer-events|cursor")


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A chart as `svg` and its `caption`; without `svg`, the caption says why it was not drawn."""

    svg: str
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A finding on the page: its anchor, its link, its chart if it has one, and its state in a review."""

    anchor: str
    finding: Finding
    url: str
    picture: Picture | None
    state: Reviewed | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Similar findings, or one, with their sentence and their entries."""

    similar: Similar
    sentence: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a sheet; a `numeric` one is aligned to the right."""

    heading: str
    numeric: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """The first `MAX_SHEET_ROWS` rows of a check's sheet as text, and how many `more` there are."""

    anchor: str
    check: str
    title: str
    columns: tuple[Column, ...]
    cells: tuple[tuple[str, ...], ...]
    more: int


@decimal_context()
def html(
    store: ReportSource,
    validation: Validation,
    reconciled: Sequence[Statement],
    *,
    by: str | None = None,
    progress: Callable[[float], object] = lambda done: None,
    review: Review | None = None,
    signoff: SignOff | None = None,
    changes: Changes | None = None,
) -> str:
    """The page. `by` names its author; `progress` is called with the share of findings that are drawn, 0 to 1.

    With a `review` it shows the findings' states and decisions, what is new since the run before, and what is gone;
    with a `signoff` who signed it, and with its `changes` what changed since. Costs one aggregate and one rendered
    picture per chart.
    """
    entries = []
    findings = [item.finding for item in review.items] if review else validation.findings
    for index, finding in enumerate(findings):
        drawn = picture(store, validation, finding) if index < MAX_CHARTS else None
        progress((index + 1) / len(findings))
        url = finding.url(validation.app_url)
        state = review.of(finding) if review else None
        entries.append(Entry(anchor=f"finding-{index + 1}", finding=finding, url=url, picture=drawn, state=state))
    environment = _environment(validation, review)
    style = environment.get_template("report.css").render(light=LIGHT, dark=DARK, colors=_colors())
    return environment.get_template(
        "report.html"
    ).render(
        style=Markup(style),  # noqa: S704 - our own file, with our own colours
        style_hash=b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        validation=validation,
        period=validation.period,
        title=validation.names.in_text(describe(validation.period.replace(as_of=None))),
        organization=validation.names.full("organization", str(validation.period.organization_id)),
        severities=SEVERITIES,
        worst=next((entry.finding.severity for entry in entries if entry.state is None or entry.state.is_open), None),
        entries=entries,
        drawn=MAX_CHARTS,
        folded=_folded(validation, entries[MAX_CHARTS:]),
        sql={result.check.name: _sql(store, validation, result) for result in validation.results},
        shares=wording.shares_of_time(validation.results),
        changed_bounds=wording.changed_bounds(validation),
        costs=wording.costs(validation),
        reconciled=reconciled,
        sheets=list(_sheets(validation)),
        by=by,
        review=review,
        signoff=signoff,
        changes=changes,
        version=version("usage-explore"),
    )


def _folded(validation: Validation, entries: Sequence[Entry]) -> list[Row]:
    """The entries without a chart, similar ones without a decision as one row."""
    titles = {result.check.name: result.check.title for result in validation.results}
    by_finding = {id(entry.finding): entry for entry in entries}
    decided = [entry.finding for entry in entries if entry.state and entry.state.decisions]
    return [
        Row(
            similar=item,
            sentence=item.sentence(titles[item.check], validation.names),
            entries=tuple(by_finding[id(finding)] for finding in item.findings),
        )
        for item in similar([entry.finding for entry in entries], decided)
    ]


def _sql(store: ReportSource, validation: Validation, result: Result) -> str:
    with in_force(validation.bounds):
        return statements.to_sql(result.check.statement(store.table, validation.period))


def _environment(validation: Validation, review: Review | None) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("usage_explore.validation.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., Any]] = {
        "amounts": wording.amounts,
        "cents": partial(wording.amounts, number=rounded_amount),
        "agreement": wording.agreement,
        "counted": formatting.counted,
        "number": formatting.exact,
        "moment": partial(formatting.zoned, zone=validation.period.zone),
        "outcome": wording.outcome,
        "picture": lambda drawn: Markup(drawn.svg),  # noqa: S704 - `inert` leaves shapes and text only
        "seconds": formatting.elapsed,
        "sizes": sizes,
        "share": formatting.percent,
        "states": _states,
        "state": lambda state: state.words(validation.period.zone),
        "given_files": wording.given_files,
        "fact_title": wording.fact_title,
        "signed_amounts": partial(wording.signed_amounts, number=rounded_amount),
        "days": lambda signed: wording.days_signed(signed.since, signed.until, signed.as_of, validation.period.zone),
        "unseen": lambda review: review.unseen_sentence(validation.period.zone),
        "files_before": lambda review: review.files_sentence(validation.period.zone),
        "since_before": lambda review: review.sentence(validation.period.zone),
        "decision": partial(wording.decision, zone=validation.period.zone),
        "subjects": partial(_subjects, names=validation.names),
        "named": validation.names.in_text,
        "with_names": partial(validation.names.in_text, ids=True),
        "in_force": lambda bounds: [(bound, bound.words(validation.bounds.value(bound))) for bound in bounds],
        "unexamined": wording.unexamined,
        "verdict": partial(wording.verdict, review=review),
        "words": partial(wording.text, max_characters=wording.MAX_SENTENCE_CHARACTERS),
    }
    environment.filters |= filters
    return environment


def _states(entries: Sequence[Entry]) -> str:
    """How many of several findings are new and known: `3 new, 2 known`."""
    states = [entry.state.is_new for entry in entries if entry.state]
    numbers = ((sum(states), "new"), (len(states) - sum(states), "known"))
    return ", ".join(f"{number:,} {word}" for number, word in numbers if number)


def _subjects(finding: Finding, names: Names) -> list[tuple[str, str]]:
    """The customer, product, subscription, metric, price and wallet of a finding: name and value."""
    values = ((name, getattr(finding, name)) for name in SUBJECTS)
    return [
        (
            name.removesuffix("_id").replace("_", " "),
            wording.text(names.full(name, value) if name in ID_COLUMNS else value),
        )
        for name, value in values
        if value is not None
    ]


def _colors() -> list[tuple[str, str]]:
    """Each colour of a light chart with its counterpart on a dark page."""
    pairs = [
        *zip(LIGHT.hues + LIGHT.shades, DARK.hues + DARK.shades, strict=True),
        *((getattr(LIGHT, name), getattr(DARK, name)) for name in ("text", "soft", "grid", "muted", "missing")),
    ]
    return [(light, dark) for light, dark in pairs if light != dark]


def picture(store: AggregateSource, validation: Validation, finding: Finding) -> Picture:
    """The finding's chart with its buckets shaded. Costs one aggregate and one rendered picture."""
    try:
        answer = store.aggregate(finding.chart_query(validation.period, validation.now))
        answer = replace(answer, names=answer.names | validation.names)
        chart = charts.chart(answer, width=CHART_WIDTH, height=CHART_HEIGHT, interactive=False)
        words = answer.names.in_text(describe(answer.query.replace(as_of=None)))
        caption = [f"{words}.", *(chart.title.to_dict().get("subtitle", []))]
        chart.title = alt.Undefined
        if shaded := _shaded(answer, finding):
            chart.layer.insert(0, _band(chart, shaded))
            caption.append(f"Shaded: the {answer.query.bucket}s of the finding.")
        svg = inert(charts.image(chart, "svg"), charts.summary(answer))
    except UsageExploreError as error:
        return Picture(svg="", caption=f"No chart: {wording.text(error, wording.MAX_SENTENCE_CHARACTERS)}")
    return Picture(svg=svg, caption=wording.text(" ".join(caption), wording.MAX_SENTENCE_CHARACTERS))


def inert(svg: bytes, description: str) -> str:
    """The picture without anything but shapes and text, in colours that the page's style can replace.

    `description` is read by screen readers. Raises `DrawingError` for any other element.
    """
    ElementTree.register_namespace("", _SVG)
    try:
        root = ElementTree.fromstring(svg)  # noqa: S314 - our own drawing, without a document type
    except ElementTree.ParseError as error:
        raise DrawingError(f"The chart was not drawn: its picture cannot be read ({error})") from None
    for element in root.iter():
        name = element.tag.removeprefix(f"{{{_SVG}}}")
        if name not in _SVG_ELEMENTS:
            raise DrawingError(f"The chart was not drawn: its picture holds the element {name!r}")
        for attribute in filter(_REMOVED_ATTRIBUTES.fullmatch, list(element.attrib)):
            del element.attrib[attribute]
    root.attrib |= {"role": "img", "aria-label": wording.text(description, wording.MAX_SENTENCE_CHARACTERS)}
    return ElementTree.tostring(root, encoding="unicode")


def _shaded(answer: Aggregate, finding: Finding) -> tuple[datetime, datetime] | None:
    """Start and end of the buckets that overlap the finding; None without any, or if they are nearly all."""
    overlapping = [
        (start, end) for start, end in pairwise(answer.edges) if start < finding.until and end > finding.since
    ]
    if not overlapping or len(overlapping) > _MAX_SHADED * (len(answer.edges) - 1):
        return None
    return overlapping[0][0], overlapping[-1][1]


def _band(chart: alt.LayerChart, span: tuple[datetime, datetime]) -> alt.Chart:
    """A band over the span, on the chart's time axis."""
    row = {"start": millis(span[0]), "end": millis(span[1])}
    axes = (layer.encoding["x"] for layer in chart.layer)
    axis = next(axis for axis in axes if axis is not alt.Undefined)  # the legend's layer has none
    band: alt.Chart = (
        alt.Chart(alt.InlineData(values=[row]))
        .mark_rect(color=charts.LIGHT.text, opacity=0.1)
        .encode(x=axis, x2="end:Q")
    )
    return band


def _sheets(validation: Validation) -> Iterator[Sheet]:
    """The sheets of the validation's checks; before the wallets' one, its quantities by metric and wallet."""
    zone = validation.period.zone
    for result in validation.results:
        name, title = result.check.name, result.check.title
        frame = validation.sheet(name)
        if frame is None:
            continue
        if {"wallet", "metric_key", "quantity"} <= set(frame.columns):
            yield _sheet(f"together-{name}", name, f"{title}: quantity by metric", by_wallet(frame), zone)
        yield _sheet(f"sheet-{name}", name, title, frame, zone)


def by_wallet(frame: pd.DataFrame) -> pd.DataFrame:
    """The exact quantity of each `metric_key` (a row) in each wallet and in `ALL_WALLETS` (columns); None without any.

    A wallet with the name of `UNKNOWN_WALLET` or `ALL_WALLETS` is quoted.
    """
    import pandas as pd

    quantities: dict[tuple[str, tuple[int, str]], list[Decimal]] = {}
    for metric, wallet, quantity in zip(frame["metric_key"], frame["wallet"], frame["quantity"], strict=True):
        for column in ((1, UNKNOWN_WALLET) if wording.is_missing(wallet) else (0, str(wallet)), (2, ALL_WALLETS)):
            quantities.setdefault((metric, column), []).append(quantity)
    sums = {cell: total(values) for cell, values in quantities.items()}
    metrics = sorted({metric for metric, _ in sums})
    columns = sorted({column for _, column in sums})
    table = pd.DataFrame(
        {column: pd.Series([sums.get((metric, column)) for metric in metrics], dtype="object") for column in columns}
    )
    table.columns = pd.Index(
        [f'"{name}"' if not rank and name in (UNKNOWN_WALLET, ALL_WALLETS) else name for rank, name in columns]
    )
    table.insert(0, "metric_key", pd.Series(metrics, dtype="str"), allow_duplicates=True)
    return table


def _sheet(anchor: str, check: str, title: str, frame: pd.DataFrame, zone: ZoneInfo) -> Sheet:
    rows = list(frame.head(MAX_SHEET_ROWS).itertuples(index=False, name=None))
    columns = tuple(
        Column(
            heading=wording.text(str(name).replace("_", " ")),
            numeric=all(wording.is_missing(row[index]) or _is_number(row[index]) for row in rows),
        )
        for index, name in enumerate(frame.columns)
    )
    return Sheet(
        anchor=anchor,
        check=check,
        title=title,
        columns=columns,
        cells=tuple(tuple(wording.cell(value, zone) for value in row) for row in rows),
        more=len(frame) - len(rows),
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def document(
    validation: Validation,
    reconciled: Sequence[Statement],
    review: Review | None = None,
    signoff: SignOff | None = None,
    changes: Changes | None = None,
) -> dict[str, Any]:
    """`Validation.to_dict` with `files`, `reconciled` and `sheets` (rows by check); values are text.

    With a `review`, each finding has its id, states and decisions, and `review` has what changed since the run before;
    with `changes`, `changed_since_sign_off` has what changed since the `signoff`.
    """
    return {
        **reviewed(validation, review),
        **({"sign_off": signoff.to_dict()} if signoff else {}),
        **({} if changes is None else {"changed_since_sign_off": changes.to_dict()}),
        "files": {
            argument: {**file, "rows": validation.rows.get(argument)} for argument, file in validation.files.items()
        },
        "reconciled": [{"agrees": statement.agrees, "sentence": statement.sentence} for statement in reconciled],
        "sheets": {
            result.check.name: [
                {name: _json(value) for name, value in zip(sheet.columns.astype(str), row, strict=True)}
                for row in sheet.itertuples(index=False, name=None)
            ]
            for result in validation.results
            if (sheet := validation.sheet(result.check.name)) is not None
        },
    }


def reviewed(validation: Validation, review: Review | None) -> dict[str, Any]:
    """`Validation.to_dict` with the findings' states."""
    content = validation.to_dict()
    if review is None:
        return content
    rows = {id(finding): row for finding, row in zip(validation.findings, content["findings"], strict=True)}
    return {
        **content,
        "review": {**review.to_dict(), "sentence": review.sentence(validation.period.zone)},
        "findings": [{**rows[id(item.finding)], **item.to_dict()} for item in review.items],
    }


def _json(value: Any) -> Any:
    if wording.is_missing(value):
        return None
    match value:
        case bool() | int() | str():
            return value
        case Decimal():
            return plain(value) if value.is_finite() else str(value)
        case datetime():
            return rfc3339(value)
        case dict():
            return {str(key): _json(member) for key, member in value.items()}
        case list() | tuple():
            return [_json(member) for member in value]
        case _:
            return str(value)
