"""The page: whole, inert whatever the data holds, and readable in a browser that may load nothing."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from uuid import UUID

import pandas as pd
import pytest
from playwright.sync_api import sync_playwright

from support import generated_events, hostile_values
from support.known_findings import PERIOD, SINCE, UNTIL, check, finding
from support.query_oracle import utc
from usage_explore import AggregateQuery, EventQuery, Store
from usage_explore.errors import DrawingError
from usage_explore.names import Names
from usage_explore.sql import filters
from usage_explore.validation import Validation, report
from usage_explore.validation.registry import CHECKS
from usage_explore.validation.report import documents as pages
from usage_explore.validation.report import wording

Validate = Callable[..., Validation]

ELEMENTS = {
    *("html", "head", "meta", "title", "style", "body", "main", "header", "section", "article", "nav", "footer", "div"),
    *("h1", "h2", "h3", "p", "a", "dl", "dt", "dd", "ul", "li", "b", "span", "code", "pre", "details", "summary"),
    *("table", "thead", "tbody", "tfoot", "tr", "th", "td", "figure", "figcaption"),
    *("svg", "g", "path", "rect", "line", "text", "tspan"),
}
CHROMIUM = Path("/usr/bin/chromium")


class Read(HTMLParser):
    """What a page holds: its elements, ids, links and words."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name == "href"]

    def handle_data(self, data: str) -> None:
        self.text += data


def page(store: Store, validation: Validation, by: str | None = None) -> str:
    return report.html(store, validation, report.statements(store, validation), by=by)


@pytest.fixture
def hostile(validated: Validate) -> Validation:
    """Everything that comes from data or people holds what programs trip over."""
    strings = [text for text in hostile_values.ENCODABLE if "\0" not in text and len(text) < 10_000]
    asked = [
        EventQuery(
            organization_id=generated_events.ORGANIZATION,
            metric_key=[text or "empty"],
            dimensions={text[:100] or "empty": [text]},
            occurred_after=SINCE,
            occurred_before=UNTIL,
        )
        for text in hostile_values.WORST
        if "\0" not in text
    ]
    found = [
        finding("high", sentence=question.metric_key[0], metric_key=question.metric_key[0], question=question)
        for question in asked
    ]
    found += [
        finding(
            "medium",
            sentence=text,
            metric_key=text,
            price_key=text,
            wallet_currency=text,
            facts=((text, text),),
            amounts=((text, finding().share),),
        )
        for text in strings
    ]
    sheet = pd.DataFrame({text: [text] for text in strings})
    validation = validated(check("own", *found, sheet=sheet), check("skipped", needs="invoices"))
    totals = replace(
        validation.totals,
        metrics={**validation.totals.metrics, **dict.fromkeys(strings, (1, finding().share))},
        costs=dict.fromkeys(strings, finding().share),
    )
    return replace(validation, totals=totals)


def test_whatever_the_data_holds_is_inert(store: Store, hostile: Validation) -> None:
    written = page(store, hostile, by="<script>alert(1)</script>\x1b[31m")
    read = Read(written)
    assert read.elements <= ELEMENTS
    assert not [name for name in read.attributes if name.startswith("on") or name in ("src", "style", "xlink:href")]
    assert {link.partition("?")[0] for link in read.links if not link.startswith("#")} <= {
        f"{hostile.app_url}/{name}" for name in ("", "events", "validate")
    }
    assert all(character.isprintable() or character == "\n" for character in written)
    assert not re.search(
        r"url\(|@import|https?://(?!127\.0\.0\.1|localhost|www\.w3\.org/2000/svg)", written.split("<body>")[0]
    )
    for text in hostile_values.MARKUP:
        assert wording.text(text) in read.text
    assert written.count("<svg") >= 8


def test_the_page_allows_only_its_own_style(store: Store, validated: Validate) -> None:
    written = page(store, validated(check("own", finding())))
    (style,) = re.findall(r"<style>(.*?)</style>", written, re.DOTALL)
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'" in written.replace(
        "&#39;", "'"
    )


def test_everything_is_there(store: Store, validated: Validate) -> None:
    found = [finding(events=number) for number in range(15)]
    sheet = pd.DataFrame({"customer_id": [f"c{number}" for number in range(60)], "events": range(60)})
    validation = validated(check("own", *found, sheet=sheet), check("clean"), check("skipped", needs="invoices"))
    read = Read(page(store, validation, by="Alex Example"))
    assert len(read.ids) == len(set(read.ids))
    assert {f"finding-{number}" for number in range(1, 16)} <= set(read.ids)
    assert all(link[1:] in read.ids for link in read.links if link.startswith("#"))
    for each in validation.findings:
        assert read.links.count(each.url(validation.app_url)) == len(found)
    assert validation.url() in read.links
    said = re.sub(r"\s+", " ", read.text)
    for text in (
        "15 findings: 15 high",
        "by Alex Example, with usage-explore",
        f"{validation.totals.events:,}",
        "skipped: invoices was not given",
        "Meaning of clean.",
        "more than 3 <of> them",
        str(generated_events.ORGANIZATION),
        "c49",
        "10 more rows: the JSON of this validation",
    ):
        assert text in said
    assert "c50" not in said
    assert said.count("SELECT count(*)") == 3


def test_a_fact_of_a_folded_finding_has_the_title_of_its_check(store: Store, validated: Validate) -> None:
    facts = (("also seen by shifts", "One."), ("also seen by shifts (2)", "Two."), ("also seen by own", "Three."))
    written = page(store, validated(check("own", finding(facts=facts))))
    assert [name for name in re.findall(r"<dt>(.*?)</dt>", written) if name.startswith("also")] == [
        "also seen by Spikes, drops and new levels",
        "also seen by Spikes, drops and new levels (2)",
        "also seen by own",
    ]


def test_a_customer_in_the_name_of_a_fact_has_its_name(store: Store, validated: Validate) -> None:
    customer = str(UUID(int=7))
    validation = validated(check("own", finding(facts=((f"customer {customer}", "3 events"),))))
    assert ("customer_id", customer) in set(validation.ids()), "its name is looked up"
    named = replace(validation, names=Names({("customer", customer): "Acme"}))
    assert f"<dt>customer Acme ({customer})</dt>" in page(store, named)


def test_a_chart_shows_the_question_around_the_window(store: Store, validated: Validate) -> None:
    validation = validated(check("own"))
    short = finding(quantity=None)
    asked = short.chart_query(validation.period, validation.now)
    assert (asked.bucket, asked.metric, asked.timezone) == ("hour", "count", "Europe/Berlin")
    assert asked.span == (utc(2026, 5, 31, 3), utc(2026, 6, 2, 4))
    long = finding(until=short.since + timedelta(days=30)).chart_query(validation.period, validation.now)
    assert (long.bucket, long.metric) == ("day", "sum_quantity")
    assert long.span[0] <= short.since - timedelta(days=7)
    own = AggregateQuery(organization_id=generated_events.ORGANIZATION, since=SINCE, until=UNTIL, bucket="week")
    assert finding(question=own).chart_query(validation.period, validation.now) == own
    drawn = pages.picture(store, validation, short)
    assert drawn.svg.startswith("<svg")
    assert "Shaded: the hours of the finding." in drawn.caption
    assert "Shaded" not in pages.picture(store, validation, finding(since=SINCE, until=UNTIL, question=own)).caption


def test_a_chart_that_cannot_be_drawn_is_said(
    store: Store, validated: Validate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bytes:
        raise DrawingError("The chart was not drawn: <why>")

    monkeypatch.setattr("usage_explore.charts.image", refuse)
    written = page(store, validated(check("own", finding())))
    assert "No chart: The chart was not drawn: &lt;why&gt;" in written
    assert "<svg" not in written


def test_the_statement_of_every_check_can_be_shown(store: Store) -> None:
    period = PERIOD.replace(
        organization_id=generated_events.ORGANIZATION,
        finalized_at="2026-10-01T00:00:00Z",
        as_of="2026-11-01T00:00:00Z",
        customer_id=str(generated_events.CUSTOMERS[0]),
        metric_key=hostile_values.WORST[2:4],
        dimensions={hostile_values.WORST[3]: hostile_values.WORST[2:6]},
        missing="dim:region",
        exclude={"price_key": hostile_values.WORST[2:4], "dim:a%b": "'"},
    )
    for each in CHECKS.values():
        assert str(generated_events.ORGANIZATION) in filters.to_sql(each.statement(store.table, period))


@pytest.mark.parametrize(
    "svg",
    [
        '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        '<svg xmlns="http://www.w3.org/2000/svg"><a href="javascript:alert(1)"/></svg>',
        '<svg xmlns="http://www.w3.org/2000/svg"><foreignObject/></svg>',
        '<html xmlns="http://www.w3.org/1999/xhtml"/>',
        "<svg",
    ],
)
def test_a_picture_with_more_than_shapes_is_refused(svg: str) -> None:
    with pytest.raises(DrawingError, match="was not drawn"):
        pages.inert(svg.encode(), "")


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason="no browser: apt-get install chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_without_asking_for_anything(
    store: Store, hostile: Validation, tmp_path: Path, scheme: str
) -> None:
    (tmp_path / "report.html").write_text(page(store, hostile), encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(color_scheme=scheme)  # type: ignore[arg-type]
        asked, said = [], []
        opened = context.new_page()
        opened.on("request", lambda request: asked.append(request.url))
        opened.on("console", lambda message: said.append(message.text))
        opened.on("dialog", lambda dialog: said.append(dialog.message))
        opened.goto((tmp_path / "report.html").as_uri())
        for width in (360, 820, 1400):
            opened.set_viewport_size({"width": width, "height": 900})
            assert opened.evaluate("document.documentElement.scrollWidth") <= width
        ground = opened.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        drawn = opened.evaluate("getComputedStyle(document.querySelector('figure svg rect')).fill")
        browser.close()
    assert (asked, said) == ([(tmp_path / "report.html").as_uri()], [])
    assert ground == drawn == {"light": "rgb(255, 255, 255)", "dark": "rgb(14, 17, 23)"}[scheme]
