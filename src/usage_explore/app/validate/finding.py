"""One finding in full: what it says, its chart against what was expected, its events, its link and its code."""

from __future__ import annotations

import re
from typing import Any
from zoneinfo import ZoneInfo

import streamlit as st

from usage_explore import formatting
from usage_explore.app import markdown, url
from usage_explore.app.cache import Source
from usage_explore.app.code import snippets
from usage_explore.app.events.table import counted, events_table
from usage_explore.app.navigation import fits, go
from usage_explore.app.page_state import EventsView, ExploreView, shared_filters
from usage_explore.app.pages import Pages
from usage_explore.app.problems import sentence, shown
from usage_explore.app.query_edits import named_value
from usage_explore.app.validate.expectation import expectation
from usage_explore.app.validate.explanation import explained
from usage_explore.app.validate.view import ValidateView
from usage_explore.charts import expected, undrawable
from usage_explore.decimals import plain
from usage_explore.formatting import span_in
from usage_explore.query.describe import group_name
from usage_explore.query.queries import EventQuery
from usage_explore.query.validators import instant
from usage_explore.validation import SEVERITIES, Finding, Validation
from usage_explore.validation.registry import CHECKS

_TIME = re.compile(r"[12]\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)


def opened(pages: Pages, view: ValidateView, source: Source, validation: Validation, finding: Finding) -> None:
    """Draw it; each part that fails says so in its own place."""
    check = CHECKS[finding.check]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"**{markdown.plain(check.title)}** :gray[{finding.severity}]", width="content")
        st.space("stretch")
        st.button(
            "Close",
            type="tertiary",
            icon=":material/close:",
            key="close_finding",
            on_click=lambda: go(lambda: view.replace(finding=None)),
        )
    st.markdown(markdown.plain(finding.sentence))
    st.caption(
        markdown.plain(f"{_upper(check.means)} {finding.severity.capitalize()}: {SEVERITIES[finding.severity]}.")
    )
    with shown():
        _chart(source, validation, finding)
    reasons = st.container()
    with shown():
        _events(pages, source, validation, finding)
    st.table(_told(validation, finding), border="horizontal")
    link = st.expander("Link to this finding", key="finding_link", on_change="rerun", icon=":material/share:")
    if link.open:
        with link:
            _link(view, source, validation)
    code = st.expander("Open in a notebook", key="finding_code", on_change="rerun", icon=":material/code:")
    if code.open:
        with code:
            _code(source, finding)
    # explaining may take longer than all the rest: that is there first
    with reasons, shown():
        explained(source, validation, finding)


def _chart(source: Source, validation: Validation, finding: Finding) -> None:
    answer = source.aggregate(finding.chart_query(validation.period, validation.now))
    if why := undrawable(answer):
        sentence(f"There is no chart: {why}.")
        return
    dark = st.context.theme.type == "dark"
    drawn = expected.chart(
        answer, finding.since, finding.until, expected=expectation(source, validation, finding, answer), dark=dark
    )
    spec = drawn.to_dict(validate=False)
    title = spec.pop("title")
    notes = "  \n".join(markdown.plain(note) for note in title.get("subtitle", ()))
    st.markdown(f"**{markdown.plain(' '.join(title['text']))}**" + (f"  \n:small[:gray[{notes}]]" if notes else ""))
    st.vega_lite_chart(spec=spec, theme=None, key="finding_chart")


def _events(pages: Pages, source: Source, validation: Validation, finding: Finding) -> None:
    query, timezone = _listed_events(finding), validation.period.timezone
    page = source.page(query)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        heading = st.empty()
        _page_links(pages, finding, query, timezone)
    if page.events:
        events_table(page.events, timezone, height=250, key="finding_events")
        number = counted(query, source)
        more = f", the newest {len(page.events)} shown" if page.cursor else ""
        heading.markdown(f"**{number}**{markdown.plain(more)}", width="content")
        if number != formatting.counted(finding.events, "event"):
            st.caption(markdown.plain(_apart(finding)))
    else:
        why = "this question finds none of the finding's events" if finding.events else "that is the finding"
        heading.markdown(f"**No events** here: {why}.", width="content")


def _listed_events(finding: Finding) -> EventQuery:
    """The finding's own query, else the events in its window that its chart counts."""
    if isinstance(finding.question, EventQuery):
        return finding.question
    return EventQuery(**shared_filters(finding.question), occurred_after=finding.since, occurred_before=finding.until)


def _apart(finding: Finding) -> str:
    """Why other events are listed than the finding counts."""
    counts = f"The finding counts {formatting.counted(finding.events, 'event')}"
    if "metrics" in dict(finding.facts):
        return f"{counts}, of all the metrics that moved together; listed are those of the one in the chart."
    return f"{counts}; listed is all that its question finds, which is wider: those and what stands beside them."


def _page_links(pages: Pages, finding: Finding, query: EventQuery, timezone: str) -> None:
    target = EventsView(query, timezone).to_params()
    if fits(target):
        st.page_link(pages.events, label="Open in Events", icon=":material/open_in_new:", query_params=target)
    if not isinstance(finding.question, EventQuery):
        chart = ExploreView(finding.question).to_params()
        st.page_link(pages.explore, label="Open in Explore", icon=":material/open_in_new:", query_params=chart)


def _told(validation: Validation, finding: Finding) -> dict[str, str]:
    """What else is known, by name."""
    zone = validation.period.zone
    found: dict[str, Any] = {"when": f"{span_in(finding.since, finding.until, zone)}, {validation.period.timezone}"}
    for name in ("customer_id", "subscription_id", "product_id", "metric_key", "price_key", "wallet_currency"):
        if (value := getattr(finding, name)) is not None:
            found[group_name(name)] = named_value(str(value))
    found["events"] = plain(finding.events)
    if finding.quantity is not None:
        found["quantity affected"] = plain(finding.quantity)
    for currency, amount in finding.amounts:
        found[f"cost affected, {currency}"] = plain(amount)
    of = f" of {finding.share_of}" if finding.share_of else ""
    found["affected part"] = f"{formatting.percent(finding.share, 1)}{of}"
    found |= {name: _fact(text, zone) for name, text in finding.facts}
    return {markdown.plain(name): markdown.plain(text) for name, text in found.items()}


def _fact(text: str, zone: ZoneInfo) -> str:
    """A fact as the table holds it: times on the zone's clock, all else as it is."""
    return formatting.timestamp(instant(text), zone) if _TIME.fullmatch(text) else text


def _link(view: ValidateView, source: Source, validation: Validation) -> None:
    pinned = view.replace(query=validation.period, severities=(), checks=(), customers=(), metrics=())
    st.code(url.address("validate", pinned.to_params(), source.store.app_url), language=None, wrap_lines=True)
    st.caption("Pinned: the same period as it was known when it was examined here, opened at this finding.")


def _code(source: Source, finding: Finding) -> None:
    question = finding.question
    if isinstance(question, EventQuery):
        snippets(question, "page = store.events(query)\npage.frame", source)
    else:
        snippets(question, "answer = store.aggregate(query)\nanswer.chart()", source)


def _upper(text: str) -> str:
    """A sentence of its own."""
    return f"{text[:1].upper()}{text[1:]}".rstrip(".") + "."
