"""The findings: the list with its filters, and the open finding in full."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import streamlit as st

from usage_explore import formatting
from usage_explore.app import components, grid, markdown
from usage_explore.app.cache import Source
from usage_explore.app.exports import snippets
from usage_explore.app.grid import counted, events_table
from usage_explore.app.header import Step, closable_heading, headline_number
from usage_explore.app.navigation import Pages, changed, fits, follow, go
from usage_explore.app.page_state import CustomerView, EventsView, ExploreView, ValidateView
from usage_explore.app.problems import sentence, shown
from usage_explore.app.query_edits import named_value
from usage_explore.app.validate import decisions, explanation
from usage_explore.app.validate.absent import absent
from usage_explore.app.validate.explanation import expectation, explained
from usage_explore.app.validate.handover import pairs_download, sent_marks, ticket_text
from usage_explore.charts import expected, theme, undrawable
from usage_explore.formatting import span_in
from usage_explore.pricing.currencies import exact_amount, exact_money, rounded_amount
from usage_explore.query.describe import group_name
from usage_explore.query.filters import ID_COLUMNS
from usage_explore.query.queries import EventQuery, Period
from usage_explore.results.types import Event
from usage_explore.validation import SEVERITIES, Finding, Validation
from usage_explore.validation.checks import duplicates
from usage_explore.validation.handover import sizes
from usage_explore.validation.registry import CHECKS
from usage_explore.validation.report.wording import fact_title
from usage_explore.validation.review import STATES, Review, Reviewed
from usage_explore.validation.similar import Similar, fitting, similar

_ROW_HEIGHT, _NARROW_ROW_HEIGHT = 66, 85  # pixels: three and four lines; Streamlit wraps text in rows of more than 64
_FINDING, _FINDING_BESIDE = (440, 170), (310, 125)
"""Width in pixels of the column of sentences, and characters of one, in three lines: alone, beside an open finding."""

_SEVERITY_PIXELS, _NARROW_SEVERITY_PIXELS, _NARROW_RANK_PIXELS = 90, 80, 34

_TITLE_PIXELS = 260
"""Width of a filter in which most titles of checks are whole."""

_NARROW_PIXELS, _CHARACTERS_PER_PIXEL = 672, 0.55
"""Room below which the sentences do not fit beside the other columns; there, characters of one in four lines, by width.
"""

_AMOUNTS: Mapping[str, Callable[[Similar], Mapping[str, Decimal]]] = {
    "Too much": lambda item: item.too_high,
    "Too little": lambda item: item.too_low,
    "Amount": lambda item: item.amounts,
}
"""The columns of money, each for every currency that it has: what is invoiced too much and too little, and the amounts
affected without such a direction, the cost of events or the amount of invoice lines."""

_MAX_FULL_HEIGHT_ROWS, _MAX_GONE = 12, 50
_SCROLLED_HEIGHT, _SCROLLED_HEIGHT_BESIDE = 728, 860
"""Pixels of a longer list, alone and beside an open finding: half a row more than whole ones."""


def findings(pages: Pages, view: ValidateView, source: Source, validation: Validation, review: Review) -> None:
    """Draw the filters, the list, the open finding, and what is gone."""
    all_findings = validation.findings
    if not all_findings and validation.failed:
        titles = ", ".join(result.check.title for result in validation.failed)
        st.warning(
            markdown.plain(f"{clean(validation)}, but these failed, so the period is not clean: {titles}."),
            icon=":material/warning:",
        )
        return
    if not all_findings:
        unseen = "Without the files of the last run: " if review.unseen_sentence(validation.period.zone) else ""
        icon = ":material/info:" if unseen else ":material/check_circle:"
        (st.info if unseen else st.success)(markdown.plain(f"{unseen}{clean(validation)}."), icon=icon)
        _gone(validation, review)
        return
    _filters(view, validation, review)
    listed = view.listed([item.finding for item in review.items], review)
    opened = review.named(view.finding) if view.finding else None
    one = opened.finding if opened else None
    if one is None:
        decisions.notice()
    if view.finding and one is None:
        sentence(absent(review, view.finding))
    area = st.container(key="beside_finding")
    left, right = area.columns([4, 5], gap="medium") if one else (area, None)
    with left.container(key="finding_list"):  # of which the table takes the focus back, see keep_focus.js
        if listed:
            _list(view, review, listed, one)
            if view.checks and one is None:
                decisions.actions_on_all(validation, map(review.of, listed))
        else:
            sentence(f"None of the {formatting.counted(len(all_findings), 'finding')} is listed with these filters.")
    if right and one:
        with right, shown():
            _open_finding(pages, view, source, validation, review.of(one), _beside(view, review, listed, one))
    _gone(validation, review)


def _gone(validation: Validation, review: Review) -> None:
    """Draw what earlier runs had and this one has not."""
    if not review.gone:
        return
    with st.expander(f"{formatting.counted(len(review.gone), 'finding')} of earlier runs, gone since"):
        for finding in review.gone[:_MAX_GONE]:
            text = formatting.short_ids(validation.names.in_text(finding.sentence))
            st.markdown(f":gray[{finding.severity.capitalize()}] {markdown.plain(text)}")
        if more := max(len(review.gone) - _MAX_GONE, 0):
            st.caption(f"and {more:,} more; the JSON has all of them")


def _filters(view: ValidateView, validation: Validation, review: Review) -> None:
    """The list's filters; their options have the number of findings that match the other filters."""

    def counts(field: str, values: Callable[[Finding], Iterable[Any]]) -> Counter[Any]:
        found = Counter({value: 0 for finding in validation.findings for value in values(finding) if value is not None})
        others = view.replace(**{field: ()}).listed(validation.findings, review)
        found.update(value for finding in others for value in values(finding) if value is not None)
        return found

    with st.container(horizontal=True, vertical_alignment="top", gap="medium", key="finding_filters"):
        severities = counts("severities", lambda finding: (finding.severity,))
        key = follow("severities", list(view.severities))
        st.segmented_control(
            "Severity",
            tuple(SEVERITIES),
            selection_mode="multi",
            key=key,
            format_func=lambda name: f"{name.capitalize()} {severities[name]:,}",
            on_change=changed(key, view, lambda picked: view.replace(severities=tuple(picked), finding=None)),
        )
        states = counts("states", lambda finding: review.of(finding).states)
        _pick(view, "states", "State", {name: name.capitalize() for name in STATES}, states)
        checks = counts("checks", lambda finding: (finding.check,))
        _pick(view, "checks", "Check", {name: check.title for name, check in CHECKS.items()}, checks, _TITLE_PIXELS)
        customers = counts("customers", lambda finding: (finding.customer_id and str(finding.customer_id),))
        names = {
            id_: validation.names.full("customer", id_) for id_ in (*dict(customers.most_common()), *view.customers)
        }
        _pick(view, "customers", "Customer", names, customers)
        metrics = counts("metrics", lambda finding: (finding.metric_key,))
        keys = {key: named_value(key) for key in (*dict(metrics.most_common()), *view.metrics)}
        _pick(view, "metrics", "Metric", keys, metrics)


def _pick(
    view: ValidateView, field: str, label: str, options: dict[str, str], counts: Counter[str], pixels: int = 140
) -> None:
    """Draw a filter of the list; of `options`, by value their names, are offered what is in `counts` or picked."""
    picked: tuple[str, ...] = getattr(view, field)
    offered = {
        value: f"{name}  ·  {counts[value]:,}" for value, name in options.items() if value in counts or value in picked
    }
    key = follow(f"finding_{field}", list(picked))
    # the browser sends the labels that it drew, with the counts of then, and Streamlit passes on those it does not know
    drawn: dict[str, str] = st.session_state.setdefault(f"{key} drawn", {})
    drawn |= {words: value for value, words in offered.items()}

    def pick() -> None:
        values = (value if value in offered else drawn.get(value) for value in st.session_state[key])
        now = tuple(dict.fromkeys(value for value in values if value is not None))
        if now != picked:
            go(view, lambda: view.replace(**{field: now, "finding": None}))

    st.multiselect(
        label,
        list(offered),
        key=key,
        format_func=lambda value: offered.get(value, value),
        on_change=pick,
        filter_mode="contains",
        select_all=False,
        placeholder="any",
        width=pixels,
    )


def _list(view: ValidateView, review: Review, listed: Sequence[Finding], one: Finding | None) -> None:
    # a click on similar findings filters to their check, where each has a row; one that was decided on has its own
    apart = [item.finding for item in review.items if item.decisions or item.finding is one]
    folded = similar(listed, apart) if not view.checks else tuple(Similar((item,)) for item in listed)
    is_dark = st.context.theme.type == "dark"
    look = theme(is_dark)
    inks = {"high": (look.hues if is_dark else look.shades)[7], "medium": look.hues[1], "low": look.soft}
    narrow = pixels if (pixels := components.room_pixels()) and pixels < _NARROW_PIXELS else None
    rows = [index for index, item in enumerate(folded) if item.is_one and item.first is one]
    # a decision moves the open finding to another row: the browser would keep the tick on the old one
    key = f"findings {hash((review.validation.period, view, narrow, *rows))}"
    selecting: dict[str, Any] = {"selection_mode": "single-cell"}
    if not narrow:  # a column of boxes
        boxes = {"selection": {"rows": rows}}
        selecting = {"selection_mode": ("single-row", "single-cell"), "selection_default": boxes}
    grid.draw(
        _narrow_columns(folded, review, narrow) if narrow else _columns(folded, review, bool(one)),
        inks={"Severity": [inks[item.severity] for item in folded]},
        marked=[grid.SELECTED_CELL if place in rows else "" for place in range(len(folded))] if narrow and rows else (),
        row_height=_NARROW_ROW_HEIGHT if narrow else _ROW_HEIGHT,
        height="content"
        if len(folded) <= _MAX_FULL_HEIGHT_ROWS
        else _SCROLLED_HEIGHT_BESIDE
        if one
        else _SCROLLED_HEIGHT,
        key=key,
        **selecting,
        on_select=lambda: _select(view, review, folded, grid.clicked(st.session_state[key], rows, boxes=not narrow)),
        alt="Findings, open ones first, by impact",
    )
    st.caption(
        "Open findings first, by impact: severity, then the affected part. "
        + ("" if one else f"Click a row, or press {'→' if narrow else 'Shift+Space'} in it, to see what is behind it.")
        + ("" if len(folded) == len(listed) else " Similar findings share a row; a click lists them.")
    )


def _columns(listed: Sequence[Similar], review: Review, beside: bool) -> dict[str, grid.Column]:
    """The columns of the list; only rank, severity, state and finding `beside` one."""
    titles = [_title(item) for item in listed]
    columns = {
        grid.RANK: grid.ranks(len(listed)),
        "Severity": _severities(listed, _SEVERITY_PIXELS),
        "State": grid.texts("State", [_state(item, review) for item in listed], width=110),
        "Finding": _sentences(listed, review, *(_FINDING_BESIDE if beside else _FINDING)),
        "Affected": grid.ratios(
            "Affected",
            [float(item.first.share) if item.is_one else None for item in listed],
            lambda share: formatting.typographic(formatting.percent(Decimal(repr(share)), 1)),
            help="The affected part of what the column Affected of names, in the period.",
        ),
    }
    if beside:
        return {name: column for name, column in columns.items() if name != "Affected"}
    wholes = [(item.is_one and item.first.share_of) or None for item in listed]
    columns["Affected of"] = grid.texts("Affected of", wholes, width=grid.width("Affected of", wholes))
    columns["Events"] = grid.numbers("Events", [item.events for item in listed])
    for label, amounts_of in _AMOUNTS.items():  # over and under are never added
        amounts = [amounts_of(item) for item in listed]
        for currency in sorted({currency for of_item in amounts for currency in of_item}):  # nor several currencies
            heading = f"{label}, {named_value(currency)}"
            columns[heading] = grid.money(heading, [of_item.get(currency) for of_item in amounts])
    columns["Quantity"] = grid.numbers("Quantity", [item.quantity for item in listed])
    columns["Check"] = grid.texts("Check", titles)
    return columns


def _narrow_columns(listed: Sequence[Similar], review: Review, pixels: int) -> dict[str, grid.Column]:
    """The columns of the list on a narrow screen: the sentence has most of it, and names a state other than open."""
    sentence = pixels - _NARROW_RANK_PIXELS - _NARROW_SEVERITY_PIXELS - grid.BORDER_PIXELS
    most = min(int(sentence * _CHARACTERS_PER_PIXEL), _FINDING[1])
    states = [_state(item, review) if item.is_one and not review.of(item.first).is_open else "" for item in listed]
    return {
        grid.RANK: grid.ranks(len(listed)),
        "Severity": _severities(listed, _NARROW_SEVERITY_PIXELS),
        "Finding": _sentences(listed, review, sentence, most, states),
    }


def _title(item: Similar) -> str:
    return CHECKS[item.check].title if item.check in CHECKS else item.check


def _severities(listed: Sequence[Similar], pixels: int) -> grid.Column:
    return grid.texts(
        "Severity", [item.severity for item in listed], lambda severity: f"● {severity.capitalize()}", width=pixels
    )


def _sentences(
    listed: Sequence[Similar], review: Review, pixels: int, most: int, states: Sequence[str] = ()
) -> grid.Column:
    """The findings in at most so many characters, after their `states`; a copy has the whole text and ids."""
    names, metrics = review.validation.names, review.validation.totals.metrics.keys()
    copied, shown = [], {}
    for item, state in zip(listed, states or ("",) * len(listed), strict=True):
        before = f"{state} · " if state else ""
        short = (
            fitting(item.first.sentence, most - len(before), names, metrics)
            if item.is_one
            else formatting.cut_at_word(item.sentence(_title(item), names), most)
        )
        copied.append(item.sentence(_title(item), names, ids=True))
        shown[copied[-1]] = before + short
    return grid.texts("Finding", copied, lambda text: shown.get(text, text), width=pixels)


def _state(item: Similar, review: Review) -> str:
    """The state of a finding; of similar ones, which are all open, whether they are new."""
    if item.is_one:
        return decisions.state_words(review.of(item.first), review.validation.period.zone)
    new = sum(review.of(finding).is_new for finding in item.findings)
    return "New" if new == len(item.findings) else f"{new:,} new" if new else "Known"


def _select(view: ValidateView, review: Review, listed: Sequence[Similar], row: int | None) -> None:
    """Open the row's finding; of similar findings, list each, by their check and severity."""
    item = None if row is None else listed[row]
    if item is None or item.is_one:
        go(view, lambda: view.replace(finding=item and review.of(item.first).id))
    else:
        go(view, lambda: view.replace(finding=None, checks=(item.check,), severities=(item.severity,)))


def clean(validation: Validation) -> str:
    """The result without findings: `12 checks over 1.1 M events found nothing`."""
    ran = formatting.counted(sum(result.is_clean for result in validation.results), "check")
    partial = ", ".join(result.check.title for result in validation.results if result.is_partial)
    left = f"; some usage could not be judged by {partial}" if partial else ""
    return f"{ran} over {formatting.short(validation.totals.events)} events found nothing{left}"


def _beside(view: ValidateView, review: Review, listed: Sequence[Finding], one: Finding) -> list[Step]:
    """The steps to the findings before and after the opened one in the list; none if that is not in it.

    After the last one, which may have been decided on just now, the first open one follows.
    """
    place = next((place for place, finding in enumerate(listed) if finding is one), None)
    if place is None:
        return []

    def step(to: int) -> Callable[[], ValidateView] | None:
        return (lambda: view.replace(finding=review.of(listed[to]).id)) if 0 <= to < len(listed) else None

    first = next((at for at, finding in enumerate(listed) if review.of(finding).is_open), place)
    following = first if place == len(listed) - 1 and not review.of(one).is_open else place + 1
    return [
        ("Previous", ":material/chevron_left:", step(place - 1)),
        ("Next", ":material/chevron_right:", step(following) if following != place else None),
    ]


def _open_finding(
    pages: Pages, view: ValidateView, source: Source, validation: Validation, item: Reviewed, beside: Sequence[Step]
) -> None:
    """Draw the finding; a part that fails shows its error in its place."""
    finding = item.finding
    check = CHECKS[finding.check]
    heading = f"**{markdown.plain(check.title)}** :gray[{finding.severity}]"
    closable_heading(heading, "close_finding", view, lambda: view.replace(finding=None), beside)
    with shown():
        decisions.actions(source, validation, item)
    st.markdown(markdown.plain(validation.names.in_text(markdown.in_app(finding.sentence))))
    st.caption(
        markdown.plain(f"{_upper(check.means)} {finding.severity.capitalize()}: {SEVERITIES[finding.severity]}.")
    )
    _size(finding)
    with shown():
        _chart(source, validation, finding)
    reasons = st.container()
    with shown():
        _events(pages, source, validation, item)
    if finding.check == duplicates.NAME:
        pairs_download(source, validation, item)
    st.table(_details(validation, finding), border="horizontal")
    decisions.history(item, validation.period.zone)
    link = st.expander("Text for a ticket, and link", key="finding_link", on_change="rerun", icon=":material/share:")
    if link.open:
        with link:
            ticket_text(view, source, validation, item)
    code = st.expander("Open in a notebook", key="finding_code", on_change="rerun", icon=":material/code:")
    if code.open:
        with code:
            _code(source, finding)
    # drawn last, as the explanation may take longer than all the rest
    with reasons, shown():
        explained(source, validation, finding)


def _size(finding: Finding) -> None:
    """The events and the cost to the cent, exact in their tooltips."""
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        if finding.events:
            number = markdown.plain(formatting.typographic(formatting.short(finding.events)))
            headline_number(number, "event" if finding.events == 1 else "events", f"Exactly {finding.events:,}.")
        for label, amounts in sizes(finding):
            for currency, amount in amounts:
                rounded = markdown.plain(formatting.typographic(rounded_amount(amount, currency)))
                exactly = markdown.plain(f"Exactly {exact_money(amount, currency)}.")
                headline_number(rounded, f"{named_value(currency)} {label}", exactly)


def _chart(source: Source, validation: Validation, finding: Finding) -> None:
    answer = source.aggregate(finding.chart_query(validation.period, validation.now))
    answer = replace(answer, names=answer.names | validation.names)
    if reason := undrawable(answer):
        sentence(f"There is no chart: {reason}.")
        return
    dark = st.context.theme.type == "dark"
    drawn = expected.chart(
        answer, finding.since, finding.until, expected=expectation(source, validation, finding, answer), dark=dark
    )
    spec = drawn.to_dict(validate=False)
    st.markdown(markdown.chart_title(spec.pop("title")))
    st.vega_lite_chart(spec=spec, theme=None, key="finding_chart")


def _events(pages: Pages, source: Source, validation: Validation, item: Reviewed) -> None:
    finding = item.finding
    query, timezone = _listed_events(finding), validation.period.timezone
    page = source.page(query)
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="finding_links"):
        heading = st.empty()
        _page_links(pages, finding, query, validation.period)
    if page.events:
        events, marks = page.events, {}
        if finding.check == duplicates.NAME:
            events = _in_pairs(events)
            sent = sent_marks(source, validation, item, events)
            help_ = "first: the event that counts; again: a copy of it, which is billed, too"
            marks = {"Sent": grid.texts("Sent", sent, width=70, help=help_)}
        events_table(events, timezone, page.names, before=marks, height=250, key="finding_events")
        number = counted(query, source)
        more = markdown.plain(f", the newest {len(page.events)} shown" if page.cursor else "")
        heading.markdown(f"**{number}**{more}", width="content")
        if number != formatting.counted(finding.events, "event"):
            st.caption(markdown.plain(_apart(finding)))
    else:
        reason = "the finding's query matches none of its events" if finding.events else "that is the finding"
        heading.markdown(f"**No events** here: {reason}.", width="content")


def _in_pairs(events: Sequence[Event]) -> tuple[Event, ...]:
    """The events with those of one idempotency key beside each other, in the order in which they arrived."""
    places: dict[object, int] = {}
    for first, event in enumerate(events):
        places.setdefault((event.customer_id, event.idempotency_key), first)

    def place(event: Event) -> tuple[int, datetime, str]:
        return places[event.customer_id, event.idempotency_key], event.ingested_at, str(event.id)

    return tuple(sorted(events, key=place))


def _listed_events(finding: Finding) -> EventQuery:
    """The finding's own event query, else the chart's filters within the finding's time."""
    query = finding.question
    if isinstance(query, EventQuery):
        return query
    return EventQuery(**query.shared_with(EventQuery), occurred_after=finding.since, occurred_before=finding.until)


def _apart(finding: Finding) -> str:
    """Why the list has another number of events than the finding."""
    counts = f"The finding counts {formatting.counted(finding.events, 'event')}"
    if "metrics" in dict(finding.facts):
        return f"{counts}, of all the metrics that moved together; listed are those of the one in the chart."
    return f"{counts}; the list has all events of its query, also those beside the affected ones."


def _page_links(pages: Pages, finding: Finding, query: EventQuery, period: Period) -> None:
    target = EventsView(query, period.timezone).to_params()
    if fits(target):
        st.page_link(pages.events, label="Open in Events", icon=":material/open_in_new:", query_params=target)
    if finding.customer_id is not None:
        page = CustomerView.of(period, finding.customer_id)
        st.page_link(pages.customer, label="Customer page", icon=":material/person:", query_params=page.to_params())
    if not isinstance(finding.question, EventQuery):
        chart = ExploreView(finding.question).to_params()
        st.page_link(pages.explore, label="Open in Explore", icon=":material/open_in_new:", query_params=chart)


def _details(validation: Validation, finding: Finding) -> dict[str, str]:
    """The finding's fields and facts by name."""
    zone = validation.period.zone
    details: dict[str, str] = {"when": f"{span_in(finding.since, finding.until, zone)}, {validation.period.timezone}"}
    for name in ("customer_id", "subscription_id", "product_id", "metric_key", "price_key", "wallet_currency"):
        if (value := getattr(finding, name)) is not None:
            details[group_name(name)] = validation.names.full(name, value) if name in ID_COLUMNS else named_value(value)
    details["events"] = formatting.exact(finding.events)
    if finding.quantity is not None:
        details["quantity affected"] = explanation.exact_text(finding.quantity)
    for label, amounts in sizes(finding):
        for currency, amount in amounts:
            details[f"{label}, {currency}"] = formatting.typographic(exact_amount(amount, currency))
    whole = f" of {finding.share_of}" if finding.share_of else ""
    details["affected part"] = f"{formatting.percent(finding.share, 1)}{whole}"
    named = validation.names.in_text
    details |= {
        named(fact_title(name, text), ids=True): named(explanation.fact_text(name, text, zone), ids=True)
        for name, text in finding.facts
    }
    return {markdown.plain(name): markdown.plain(text) for name, text in details.items()}


def _code(source: Source, finding: Finding) -> None:
    question = finding.question
    if isinstance(question, EventQuery):
        snippets(question, "page = store.events(query)\npage.frame", source)
    else:
        snippets(question, "answer = store.aggregate(query)\nanswer.chart()", source)


def _upper(text: str) -> str:
    """The text as a sentence, with a capital letter and a period."""
    return f"{text[:1].upper()}{text[1:]}".rstrip(".") + "."
