"""What the Validate page shows in each of its states, with small checks whose answers are known."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID, uuid4

import pandas as pd
import pytest
from sqlalchemy import Select, Table, func, select, text
from streamlit.testing.v1 import AppTest

from support import hostile_values
from support.app_pages import Open, opened, place_of, ran, validate_page
from support.check_results import identity
from support.demo_database import ACME, BIRCH, WINDOW
from support.waiting import PATIENCE
from usage_explore import Store, formatting
from usage_explore.app.uploads import File
from usage_explore.app.validate.files import dropped_key
from usage_explore.db import ddl
from usage_explore.db.schema import events_table
from usage_explore.errors import DatabaseUnavailable, NotExact
from usage_explore.load import load_files
from usage_explore.query.queries import Period
from usage_explore.sql import filters
from usage_explore.sql.later_arrivals import Unexamined
from usage_explore.validation import Finding, Validation, registry
from usage_explore.validation.check import Check, Examination, Outcome
from usage_explore.validation.file_kinds import FILES_OF_CHECKS, FileKind
from usage_explore.validation.registry import CHECKS

LINK = {"organization_id": ACME, **WINDOW, "as_of": "2026-10-05T00:00:00Z"}
BOOK = b'[[prices]]\nmetric_key = "tokens_in"\nunit_amount = "0.001"\ncurrency = "USD"\n'
CHECKS_BEFORE = dict(CHECKS)
HOSTILE = "".join(hostile_values.WORST[2:5])


def statement(table: Table, period: Period) -> Select[tuple[str, int, Decimal]]:
    found = select(table.c.metric_key, func.count().label("events"), func.sum(table.c.quantity).label("quantity"))
    return found.where(*filters.conditions(table, period)).group_by(table.c.metric_key)


def each_metric(examination: Examination) -> Outcome:
    """A finding for each metric, the largest high, and the period split by metric."""
    rows = sorted(
        examination.connection.execute(statement(examination.table, examination.period)), key=lambda row: -row.events
    )
    since, until = examination.period.span
    findings = tuple(
        Finding(
            check="metrics",
            severity="high" if place == 0 else "low",
            sentence=f"There are {row.events:,} events of {row.metric_key}; {HOSTILE}.",
            since=since,
            until=until,
            events=row.events,
            question=examination.aggregate_question(metric_key=row.metric_key, metric="sum_quantity")
            if place % 2
            else examination.events_question(metric_key=row.metric_key),
            quantity=row.quantity,
            amounts=(("EUR", Decimal("0.25")), ("USD", Decimal("1.50")))[place % 2 :],
            share=Decimal("0.25"),
            metric_key=row.metric_key,
            facts=(("said", HOSTILE), ("largest", "12345.50")),
        )
        for place, row in enumerate(rows)
    )
    sheet = pd.DataFrame([row._asdict() for row in rows], columns=["metric_key", "events", "quantity"])
    return Outcome(findings=findings, looked_at=len(rows), sheet=sheet)


def nothing(examination: Examination) -> Outcome:
    return Outcome(looked_at=7)


def lines(examination: Examination) -> Outcome:
    assert examination.inputs.invoices is not None
    return Outcome(looked_at=len(examination.inputs.invoices.lines), sheet=pd.DataFrame({"status": ["matched"]}))


def failing(examination: Examination) -> Outcome:
    examination.connection.execute(text("SELECT 1 / 0"))
    raise AssertionError


def check(name: str, examine: Callable[[Examination], Outcome], needs: str | None = None) -> Check:
    return Check(
        name=name,
        title=f"Check of {name}",
        means="what it means for the invoice",
        parameters={"bound": "at least 1"},
        unit="things",
        statement=statement,
        examine=examine,
        needs=needs,
    )


@pytest.fixture
def checks() -> Iterator[Callable[..., None]]:
    """Let the registry hold these checks; afterwards its own, in their order."""
    registered = dict(CHECKS)

    def let(*made: Check) -> None:
        CHECKS.clear()
        CHECKS.update((each.name, each) for each in made)

    yield let
    let(*registered.values())


@pytest.fixture
def page(use: Callable[..., None], demo_url: str, checks: Callable[..., None]) -> Open:
    """Open the Validate page with these parameters, with a check that finds, one that does not, one that is skipped."""
    checks(check("metrics", each_metric), check("nothing", nothing), check("reconciliation", lines, "invoices"))
    use(demo_url)
    return lambda **parameters: opened(AppTest.from_function(validate_page, default_timeout=PATIENCE), parameters)


def said(app: AppTest) -> str:
    found = [*app.markdown, *app.subheader, *app.caption, *app.info, *app.error, *app.warning, *app.success]
    return "\n".join(each.value.replace("\\", "") for each in found)


def validation(store: Store) -> Validation:
    return store.validate(Period.from_params(LINK))


def listed(app: AppTest) -> list[str]:
    """The sentences of the list of findings."""
    return next((list(table.value["Finding"]) for table in app.dataframe if "Finding" in table.value), [])


def test_nothing_is_examined_before_it_is_wanted(page: Open) -> None:
    app = page(**LINK)
    assert "Checks not run yet" in said(app)
    assert "1–28 Sep 2026" in said(app)
    assert not app.dataframe
    assert not app.tabs


def test_what_was_found_is_shown_by_impact_with_what_was_clean_and_what_was_skipped(page: Open, store: Store) -> None:
    found = validation(store)
    app = ran(page(**LINK))
    told = said(app)
    for severity, number in found.counts().items():
        assert f"[{number:,}]" in told
        assert f"{severity} open" in told
    assert formatting.short(found.totals.events) in told
    assert [sentence.split(";")[0] for sentence in listed(app)] == [
        finding.sentence.split(";")[0] for finding in found.findings
    ]
    app.session_state["validate_tab"] = "Checks"
    table = opened(app, {}).table[0].value
    assert [text.replace("\\", "") for text in table["Result"]] == [
        f"{len(found.findings)} findings",
        "clean",
        "skipped: drop the invoice lines above the tabs",
    ]
    assert table["Among"][1] == "7 things"


def test_what_one_session_examined_another_one_is_shown(page: Open) -> None:
    before = ran(page(**LINK))
    after = page(**LINK)
    assert listed(after) == listed(before)
    assert "Checks not run yet" not in said(after)
    # another question is another examination
    assert "Checks not run yet" in said(page(**{**LINK, "metric_key": "tokens_in"}))
    assert "Findings not shown yet" in said(page(**{**LINK, "finalized_at": "2026-10-02T00:00:00Z"}))


def test_a_shared_link_shows_what_was_examined_when_it_was_made(page: Open) -> None:
    app = ran(page(organization_id=ACME, **WINDOW))
    shared = next(each.value for each in app.code if "as_of=" in each.value)
    pinned = dict(parse_qsl(urlsplit(shared).query))
    assert listed(page(**pinned)) == listed(app)
    assert "Findings not shown yet" in said(page(**{**pinned, "as_of": "2026-10-05T00:00:00Z"}))


def test_a_moving_window_stays_examined_in_its_session(page: Open) -> None:
    app = ran(page(organization_id=ACME, since="-9999d"))
    shown = listed(app)
    assert shown
    assert listed(app.run()) == shown


def test_the_filters_narrow_the_list_and_stand_in_the_link(page: Open, store: Store) -> None:
    found = validation(store).findings
    app = ran(page(**LINK, severity="high"))
    assert len(listed(app)) == 1
    app.multiselect(key="finding_metrics").set_value([found[1].metric_key]).run()
    assert app.query_params["about_metric"] == found[1].metric_key
    assert listed(app) == []
    assert "is listed with these filters" in said(app)


def test_a_link_opens_a_finding_with_its_chart_its_events_and_its_numbers(page: Open, store: Store) -> None:
    for finding in validation(store).findings[:2]:
        app = page(**LINK, finding=identity(finding))
        if "Checks not run yet" in said(app):
            app = ran(app)
        told = said(app)
        assert finding.sentence.split(";")[0] in told
        assert len(app.get("vega_lite_chart")) >= 1
        assert f"**{formatting.counted(finding.events, 'event')}**" in told
        (table,) = (each.value for each in app.table if "quantity affected" in each.value.index)
        cells = {name.replace("\\", ""): value.replace("\\", "") for name, value in table.iloc[:, 0].items()}
        assert cells["quantity affected"] == formatting.exact(finding.quantity or 0)
        assert cells["cost affected, USD"] == "1.50"
        assert cells["largest"] == "12345.50"
        assert "The finding counts" not in told
        assert "<script>" not in told
        assert app.button(key="close_finding")


def test_where_other_events_are_listed_than_counted_it_is_said(
    page: Open, checks: Callable[..., None], store: Store
) -> None:
    def fewer(examination: Examination) -> Outcome:
        outcome = each_metric(examination)
        kept = tuple(replace(finding, events=finding.events - 1) for finding in outcome.findings)
        moved = replace(kept[1], facts=(*kept[1].facts, ("metrics", "tokens_in, tokens_out")))
        return replace(outcome, findings=(kept[0], moved))

    checks(check("metrics", fewer))
    found = validation(store).findings
    ran(page(**LINK))
    for finding, why in zip(
        found, ("also those beside the affected ones", "all the metrics that moved together"), strict=True
    ):
        told = said(page(**LINK, finding=identity(finding)))
        assert f"The finding counts {formatting.counted(finding.events, 'event')}" in told
        assert why in told


def test_a_finding_that_is_not_there_is_said(page: Open) -> None:
    app = ran(page(**LINK, finding="000000000000"))
    assert "The finding of this link is not among these" in said(app)
    assert listed(app)


def test_every_fault_of_a_bad_link_is_told_and_nothing_is_shown(page: Open) -> None:
    app = page(**{**LINK, "custmer_id": "x", "severity": "hihg", "finding": "?", "since": "yesterday"})
    told = app.error[0].value.replace("\\", "")
    for fault in ("custmer_id**: unknown parameter, did you mean customer_id?", "severity**", "finding**", "since**"):
        assert fault in told
    assert not app.dataframe
    assert "Checks not run yet" not in said(app)


def test_a_clean_period_says_among_how_much_nothing_was_found(
    page: Open, checks: Callable[..., None], store: Store
) -> None:
    checks(check("nothing", nothing), check("as_little", nothing))
    app = ran(page(**LINK))
    assert f"2 checks over {formatting.short(validation(store).totals.events)} events found nothing" in said(app)
    assert app.success


def test_a_period_without_events_is_not_clean(page: Open) -> None:
    app = ran(page(organization_id=ACME, since="2020-01-01T00:00:00Z", until="2020-02-01T00:00:00Z"))
    assert {"or another period"} == {box.label for box in app.selectbox if box.label.startswith("or")}, "not a bare or"
    assert "No events match, so nothing was checked" in said(app)
    assert not app.success
    assert not app.dataframe
    assert "Clean" not in said(app)


def test_what_arrived_too_late_to_be_examined_is_counted(page: Open) -> None:
    early = {**LINK, "as_of": "2026-09-10T00:00:00Z"}
    app = ran(page(**early))
    assert "not checked yet" in said(app)
    app = ran(page(**{**early, "as_of": "2026-08-01T00:00:00Z"}))
    assert "Nothing was checked: " in said(app)
    assert "events of the period arrived after 2026-08-01 00:00:00 +00:00 and are not examined." in said(app)
    assert "not checked yet" not in said(ran(page(**LINK)))


def test_a_file_that_cannot_be_read_is_an_error_before_the_checks_run_and_nothing_is_clean_after(
    page: Open, checks: Callable[..., None]
) -> None:
    """It had a chip as if it was used; after the run the headline said "Clean" above the error."""
    app = page(**LINK)
    checks(check("nothing", nothing))
    app = drop(app, days="date,quantity,MeterName\n2026-09-01,5,a\n")
    assert "Checks not run yet" in said(app)
    (error,) = app.error
    words = error.value.replace("\\", "")
    assert "**days.csv** as control totals" in words
    assert "there is no column metric_key; name it so, instead of 'MeterName'" in words
    app = ran(app)
    assert len(app.error) == 1
    assert "Clean" not in said(app)
    assert "but 1 file was not used" in said(app)


LATE_LINK = {"organization_id": str(UUID(int=7)), "since": "2026-09-01T00:00:00Z", "until": "2026-10-01T00:00:00Z"}
LATE_LINES = "customer_id,metric_key,quantity\na,calls,12\n"


@pytest.fixture
def loaded(use: Callable[..., None], events_database_url: str, checks: Callable[..., None], tmp_path: Path) -> Open:
    """Open the Validate page of 12 events of September that have just been loaded."""

    def open_page() -> AppTest:
        file = tmp_path / "usage.csv"
        rows = [f"a,calls,1,2026-09-{day:02}T00:00:00Z" for day in range(1, 13)]
        file.write_text("\n".join(["customer_id,metric_key,quantity,timestamp", *rows]))
        with ddl.connect(events_database_url) as connection:
            load_files(connection, events_table(), [file], organization_id=UUID(int=7))
            connection.commit()
        checks(CHECKS_BEFORE["reconciliation"])
        use(events_database_url)
        return ran(opened(AppTest.from_function(validate_page, default_timeout=PATIENCE), LATE_LINK))

    return open_page


def test_right_after_a_load_files_can_be_dropped_and_the_checks_are_offered_again_in_time(loaded: Open) -> None:
    app = loaded()
    assert "Nothing was checked: 12 events of the period arrived in the last 5 minutes" in said(app)
    app = drop(app, mine=LATE_LINES)
    assert "**mine.csv**" in said(app)
    period, validation = app.session_state["validation"]
    past = replace(validation.unexamined, settled_at=validation.now - timedelta(minutes=1))
    app.session_state["validation"] = period, replace(validation, unexamined=past)
    app.run()
    assert "wait until" not in said(app)
    assert "12 events of the period had not settled then; they can be examined now" in said(app)
    assert not any(button.key == "show_extent" for button in app.button), "the period only has to settle"
    assert "**mine.csv**" in said(app)
    assert app.button(key="run_checks").label == "Run checks again"


def test_the_fields_of_a_sign_off_stay_in_their_place_once_the_usage_is_rated(page: Open) -> None:
    """The bar of the rating was drawn in the run before: the fields moved up, and the browser drew them anew, empty."""
    app = drop(ran(page(**LINK)), book=BOOK.decode())
    app.session_state["validate_tab"] = "Sign-off"
    before = place_of(app.run(), "Note")
    assert place_of(app.run(), "Note") == before


def test_the_page_asks_to_wait_and_not_for_a_parameter_that_it_has_not() -> None:
    """After a load the page offered this step, and then asked its reader to "pass as_of=2026-11-29T21:32:24Z"."""
    arrived = datetime(2026, 10, 1, tzinfo=UTC)
    minutes = timedelta(minutes=5)
    left = Unexamined(events=2, latest=arrived, settled_at=arrived + minutes)
    period = Period(window="2026-09", as_of=arrived - minutes)
    said = "2 events of the period arrived in the last 5 minutes and are not examined; wait until 2026-10-01 00:05:01"
    assert left.sentence(period, arrived, option="").removesuffix(" +00:00.") == said
    assert left.sentence(period, arrived) == f"{said} +00:00 or pass as_of=2026-10-01T00:00:00Z."


def test_a_failure_is_said_and_the_checks_are_offered_again(page: Open, checks: Callable[..., None]) -> None:
    def unanswered(examination: Examination) -> Outcome:
        raise DatabaseUnavailable("The database does not answer: it is gone")

    checks(check("metrics", each_metric), check("failing", unanswered))
    app = ran(page(**LINK))
    assert "it is gone" in app.error[0].value
    assert not app.dataframe
    assert app.button(key="run_checks").label == "Run checks"
    checks(check("metrics", each_metric))
    assert listed(ran(app))


def refusing(examination: Examination) -> Outcome:
    raise NotExact("quantities that are no numbers")


@pytest.mark.parametrize(
    ("examine", "reason"),
    [
        (refusing, "quantities that are no numbers"),
        (failing, "an unexpected error, DivisionByZero; its traceback is in the log"),
    ],
)
def test_a_check_that_fails_alone_is_said_and_nothing_is_called_clean(
    page: Open,
    checks: Callable[..., None],
    unexpected_failures: list[str],
    examine: Callable[[Examination], Outcome],
    reason: str,
) -> None:
    checks(check("nothing", nothing), check("refusing", examine))
    app = ran(page(**LINK))
    unexpected_failures.clear()
    assert "these failed, so the period is not clean: Check of refusing" in said(app)
    assert not app.success
    assert "Clean" not in said(app)
    app.session_state["validate_tab"] = "Checks"
    table = opened(app, {}).table[0].value
    assert [text.replace("\\", "") for text in table["Result"]] == ["clean", f"failed: {reason}"]


def test_another_organization_s_examination_is_never_shown(page: Open) -> None:
    mine = ran(page(**LINK))
    assert listed(mine)
    theirs = page(**{**LINK, "organization_id": BIRCH})
    assert "Checks not run yet" in said(theirs)
    unknown = page(**{**LINK, "organization_id": str(uuid4())})
    assert "not an organization you may see" in said(unknown)
    assert not unknown.dataframe


def test_the_list_has_a_column_for_the_cost_in_each_currency(page: Open) -> None:
    (table,) = (each.value for each in ran(page(**LINK)).dataframe if "Finding" in each.value)
    assert [name for name in table.columns if name.startswith("Amount")] == ["Amount, EUR", "Amount, USD"]
    assert {*table["Amount, USD"]} == {1.5}
    assert 0 < table["Amount, EUR"].notna().sum() < len(table)
    assert {*table["Amount, EUR"].dropna()} == {0.25}


def test_a_period_without_events_offers_the_newest_month_with_some(page: Open) -> None:
    app = ran(page(organization_id=ACME, since="2020-01-01T00:00:00Z", until="2020-02-01T00:00:00Z"))
    assert "nothing was checked" in app.info[0].value
    button = app.button(key="show_extent")
    assert button.label == "Show September 2026"
    button.click().run()
    assert (app.query_params["since"], app.query_params["until"]) == ("2026-09-01T00:00:00Z", "2026-10-01T00:00:00Z")
    same = ran(
        page(organization_id=ACME, metric_key="none", since="2026-09-01T00:00:00Z", until="2026-10-01T00:00:00Z")
    )
    assert [button.key for button in same.button if button.key in ("show_extent", "without_filters")] == [
        "without_filters"
    ]


def test_a_dropped_file_runs_its_check_on_the_same_numbers(page: Open) -> None:
    app = ran(page(**LINK))
    before = listed(app)
    content = f"customer_id,metric_key,quantity\n{uuid4()},tokens_in,1.50\n{uuid4()},tokens_in,2\n"
    app.session_state[dropped_key("invoices", Period.from_params(LINK))] = File("lines.csv", content.encode())
    app.session_state["validate_tab"] = "Reconciliation"
    opened(app, {})
    assert "Nothing wrong among 2 things" in said(app)
    assert "lines.csv" in said(app)
    app.session_state["validate_tab"] = "Findings"
    assert listed(opened(app, {})) == before


def test_a_dropped_file_waits_until_the_events_of_the_period_have_settled(
    page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page runs the check as of the time of its first run: it compared lines with what had settled by then."""
    given = registry.unexamined

    def later(connection: Any, table: Table, period: Period, settle: timedelta | None) -> Unexamined | None:
        arrived = datetime(2026, 10, 1, tzinfo=UTC)
        few = settle and Unexamined(events=900, latest=arrived, settled_at=arrived + settle)
        return few or given(connection, table, period, settle)

    monkeypatch.setattr(registry, "unexamined", later)
    link = {name: value for name, value in LINK.items() if name != "as_of"}
    app = ran(page(**link))
    content = f"customer_id,metric_key,quantity\n{uuid4()},tokens_in,1.50\n".encode()
    app.session_state[dropped_key("invoices", Period.from_params(link))] = File("lines.csv", content)
    app.session_state["validate_tab"] = "Reconciliation"
    assert "Not checked: 900 events of the period arrived within the settle time." in said(opened(app, {}))


def test_the_reconciliation_reads_the_dropped_preferences_of_the_wallets_too(
    page: Open, checks: Callable[..., None]
) -> None:
    def preferences(examination: Examination) -> Outcome:
        given = examination.inputs.preferences
        return Outcome(looked_at=0 if given is None else len(given.customers))

    checks(check("wallets", preferences), check("reconciliation", preferences, "invoices"))
    app = ran(page(**LINK))
    for argument, content in (
        ("invoices", f"customer_id,metric_key,quantity\n{uuid4()},tokens_in,1\n"),
        ("wallets", f"customer_id,currency\n{uuid4()},EUR\n{uuid4()},USD\n{uuid4()},USD\n"),
    ):
        app.session_state[dropped_key(argument, Period.from_params(LINK))] = File(f"{argument}.csv", content.encode())
    app.session_state["validate_tab"] = "Reconciliation"
    assert "Nothing wrong among 3 things" in said(opened(app, {}))


def test_the_check_of_prices_reads_the_dropped_lines_and_preferences_also_with_stored_prices(
    page: Open, checks: Callable[..., None]
) -> None:
    def given(examination: Examination) -> Outcome:
        lines, preferences = examination.inputs.invoices, examination.inputs.preferences
        return Outcome(looked_at=1 + 2 * bool(lines) + 4 * bool(preferences))

    checks(check("wallets", nothing), check("unpriced", given), check("reconciliation", lines, "invoices"))
    app = ran(page(**LINK))
    for argument, content, among in (
        ("invoices", f"customer_id,metric_key,quantity\n{uuid4()},tokens_in,1\n", "3 things"),
        ("wallets", f"customer_id,currency\n{uuid4()},EUR\n", "7 things"),
        ("invoices", "customer_id,quantity\nx,1\n", "5 things"),
    ):
        app.session_state[dropped_key(argument, Period.from_params(LINK))] = File("a.csv", content.encode())
        app.session_state["validate_tab"] = "Checks"
        assert list(opened(app, {}).table[0].value["Among"])[1] == among
    assert [each.value.count("This file was not used") for each in app.error] == [1]


@pytest.mark.parametrize("argument", ["wallets", "prices", "invoices", "control"])
def test_a_dropped_file_is_read_by_every_check_that_reads_it(
    page: Open, checks: Callable[..., None], argument: FileKind
) -> None:
    def given(examination: Examination) -> Outcome:
        inputs = examination.inputs
        read = {"wallets": inputs.preferences, "prices": inputs.prices}
        return Outcome(looked_at=1 + bool(read.get(argument) or getattr(inputs, argument, None)))

    content = {
        "wallets": f"customer_id,currency\n{uuid4()},EUR\n".encode(),
        "prices": BOOK,
        "invoices": f"customer_id,metric_key,quantity\n{uuid4()},tokens_in,1\n".encode(),
        "control": b"day,metric_key,events\n2026-09-02,tokens_in,1\n",
    }
    names = [name for name, check in CHECKS_BEFORE.items() if name in FILES_OF_CHECKS]
    checks(*(check(name, given) for name in names))
    app = ran(page(**LINK))
    name = "a.toml" if argument == "prices" else "a.csv"
    app.session_state[dropped_key(argument, Period.from_params(LINK))] = File(name, content[argument])
    app.session_state["validate_tab"] = "Checks"
    among = list(opened(app, {}).table[0].value["Among"])
    assert among == [f"{1 + (argument in FILES_OF_CHECKS[name])} things" for name in names]


def test_what_is_wrong_with_a_dropped_file_is_said_and_the_rest_stays(page: Open) -> None:
    app = ran(page(**LINK))
    before = listed(app)
    app.session_state[dropped_key("invoices", Period.from_params(LINK))] = File(
        "lines.csv", b"customer_id,quantity\nx,1\n"
    )
    app.session_state["validate_tab"] = "Reconciliation"
    opened(app, {})
    assert "This file was not used" in said(app)
    assert "metric_key" in said(app)
    app.session_state["validate_tab"] = "Findings"
    assert listed(opened(app, {})) == before
    app.session_state["validate_tab"] = "Reconciliation"
    opened(app, {}).button(key="remove invoices").click().run()
    assert not app.error
    assert "CSV, Excel or Parquet" in app.file_uploader[0].label, "the browser refuses others without visible words"
    assert "No invoice lines yet: nothing is reconciled" in said(app)


def drop(app: AppTest, **files: str) -> AppTest:
    """Drop files into the one upload of the page, all at once: name of a .csv or .toml file -> content."""
    given = [
        (f"{name}.toml" if "[[" in content else f"{name}.csv", content.encode(), "") for name, content in files.items()
    ]
    return app.file_uploader[0].set_value(given).run()


@pytest.mark.parametrize("window", [WINDOW, {"since": "-9999d"}])
def test_files_are_dropped_before_the_checks_run(page: Open, window: dict[str, str]) -> None:
    """A window that moves with the clock keeps its files until its checks have run."""
    link = {**LINK, **window, "until": window.get("until", "now")}
    app = drop(page(**link), mine=LINES, book=BOOK.decode())
    assert "Checks not run yet" in said(app)
    assert "**mine.csv**" in said(app.run())
    app = ran(app)
    assert "Checks not run yet" not in said(app)
    assert "**mine.csv**" in said(app)
    assert "**book.toml**" in said(app)
    app.session_state["validate_tab"] = "Reconciliation"
    assert "Nothing wrong among 2 things" in said(opened(app, {}))


LINES = f"customer_id,metric_key,quantity,amount,currency\n{uuid4()},tokens_in,1,2,USD\n{uuid4()},tokens_in,1,2,USD\n"


def test_files_are_dropped_once_and_recognized_by_their_columns(page: Open) -> None:
    app = ran(page(**LINK))
    drop(app, mine=LINES, book=BOOK.decode(), customers=f"customer_id,currency\n{uuid4()},EUR\n")
    told = said(app)
    for chip in (
        "Price book **book.toml** :gray[1 price · ",
        "Invoice lines **mine.csv** :gray[2 lines · ",
        "Preferred currencies **customers.csv** :gray[1 currency · ",
    ):
        assert chip in told
    app.session_state["validate_tab"] = "Reconciliation"
    told = said(opened(app, {}))
    assert "Uses invoice lines **mine.csv**, price book **book.toml**, preferred currencies **customers.csv**." in told
    app.button(key="remove prices").click().run()
    app.session_state["validate_tab"] = "Reconciliation"
    told = said(opened(app, {}))
    assert "Uses invoice lines **mine.csv**, preferred currencies **customers.csv**." in told
    assert "No price book: nothing is rated, and amounts are not checked" in told
    drop(app, newer=LINES)
    assert "newer.csv is used as invoice lines now, instead of mine.csv." in said(app)


def test_a_file_of_several_or_no_kinds_asks_what_it_is(page: Open) -> None:
    app = ran(page(**LINK))
    drop(
        app,
        unclear=f"customer_id,metric_key,quantity,period_start,period_end\n{uuid4()},tokens_in,1,2026-09-01,2026-09-30\n",
        unknown="a,b\n1,2\n",
    )
    told = said(app)
    assert "**unclear.csv** may be invoice lines or control totals. What is it?" in told
    assert "**unknown.csv** has columns of none of these. What is it?" in told
    button = next(one for one in app.button if one.key.startswith("unclear 0") and one.label == "Invoice lines")
    button.click().run()
    assert "Invoice lines **unclear.csv** :gray[1 line · " in said(app)
    next(one for one in app.button if one.key.endswith("remove") and one.key.startswith("unclear 0")).click().run()
    assert "unknown.csv" not in said(app)
    # what it is can be changed
    app.radio[0].set_value("prices").run()
    told = said(app)
    assert "Price book **unclear.csv**" in told
    assert "This file was not used, **unclear.csv** as price book" in told


def test_a_price_book_holds_for_all_periods_and_lines_for_their_own(page: Open) -> None:
    app = ran(page(**LINK))
    drop(app, mine=LINES, book=BOOK.decode())
    month = {**LINK, "since": "2026-09-02T00:00:00Z"}
    other = ran(opened(app, month))
    assert "Price book **book.toml**" in said(other)
    assert "mine.csv" not in said(other)
    assert "Invoice lines **mine.csv**" in said(opened(other, LINK))


def test_names_in_a_file_are_shown(page: Open, checks: Callable[..., None]) -> None:
    customer = uuid4()

    def sheet(examination: Examination) -> Outcome:
        rows = pd.DataFrame({"customer_id": [str(customer)], "status": ["missing"]}, dtype="str")
        return Outcome(looked_at=1, sheet=rows)

    checks(check("reconciliation", sheet, "invoices"))
    app = ran(page(**LINK))
    drop(app, mine=LINES, names=f"id,name\n{customer},Zebra Ltd\n")
    assert "Names **names.csv** :gray[1 name · " in said(app)
    app.session_state["validate_tab"] = "Reconciliation"
    assert list(opened(app, {}).dataframe[0].value["customer_id"]) == ["Zebra Ltd"]


@pytest.mark.parametrize("kind", ["reconciliation", "control_totals"])
def test_a_customer_whose_name_is_in_a_file_is_not_unknown(page: Open, checks: Callable[..., None], kind: str) -> None:
    customer, real = uuid4(), CHECKS_BEFORE[kind]
    sentences: list[str] = []

    def noted(examination: Examination) -> Outcome:
        outcome = real.examine(examination)
        sentences[:] = [found.sentence for found in outcome.findings if found.customer_id == customer]
        return outcome

    checks(replace(real, examine=noted))
    app = ran(page(**LINK))
    drop(
        app,
        mine={
            "reconciliation": f"customer_id,metric_key,quantity\n{customer},tokens_in,1\n",
            "control_totals": f"day,customer_id,metric_key,events\n2026-09-03,{customer},tokens_in,1\n",
        }[kind],
    )
    assert "is not known" in sentences[0]
    drop(app, names=f"id,name\n{customer},Zebra Ltd\n")
    assert len(sentences) == 1
    assert "is not known" not in sentences[0]


@pytest.mark.parametrize("argument", ["invoices", "wallets"])
def test_a_dropped_file_that_cannot_be_read_is_named_as_it_was_dropped(
    validate: Open, caplog: pytest.LogCaptureFixture, argument: str
) -> None:
    caplog.set_level("INFO")
    app = ran(validate(**LINK))
    app.session_state[dropped_key(argument, Period.from_params(LINK))] = File("my lines.csv", b"\xff\xfe\x00")
    app.session_state["validate_tab"] = "Reconciliation" if argument == "invoices" else "Wallets"
    opened(app, {})
    assert "This file was not used" in said(app)
    # not the records' own places: the checkout may lie in the temporary folder
    logged = "\n".join(f"{record.getMessage()} {vars(record).get('fields')}" for record in caplog.records)
    said_ones = " ".join(each.value for each in app.error)
    assert "my lines" in said_ones
    for found in (said_ones, logged):
        assert "given" not in found
        assert tempfile.gettempdir() not in found


def test_a_table_that_splits_the_period_says_whether_it_adds_up(page: Open, checks: Callable[..., None]) -> None:
    def short(examination: Examination) -> Outcome:
        sheet = each_metric(examination).sheet
        assert sheet is not None
        return Outcome(sheet=sheet.iloc[1:])

    for examine, told in ((each_metric, "add up to the period's"), (short, "do not add up to the period's usage")):
        checks(check("wallets", examine))
        app = ran(page(**LINK, metric_key=[] if examine is each_metric else ["tokens_in", "tokens_out"]))
        app.session_state["validate_tab"] = "Wallets"
        assert told in said(opened(app, {}))


def test_the_files_hold_every_finding_exactly(page: Open, store: Store) -> None:
    from io import BytesIO

    from usage_explore.app.validate.page import to_csv, to_json

    page(**LINK)
    found = validation(store)
    document = json.loads(to_json(store, found))
    assert {name: document[name] for name in found.to_dict()} == found.to_dict()
    assert document["reconciled"]
    assert document["sheets"].keys() == {name for name in CHECKS if found.sheet(name) is not None}
    frame = pd.read_csv(BytesIO(to_csv(found)), dtype=str, keep_default_na=False)
    assert list(frame["sentence"]) == [finding.sentence for finding in found.findings]
    assert [Decimal(value) for value in frame["quantity"]] == [finding.quantity for finding in found.findings]
    assert [json.loads(value) for value in frame["amounts"]] == [
        {currency: {"EUR": "0.25", "USD": "1.5"}[currency] for currency, _ in each.amounts} for each in found.findings
    ]
    assert list(frame["url"]) == [finding.url(found.app_url) for finding in found.findings]


def test_a_formula_in_a_finding_is_escaped_where_that_is_wanted(page: Open, store: Store) -> None:
    from io import BytesIO

    from usage_explore.app.validate.page import to_csv

    found = validation(store)
    formula = replace(found.findings[0], sentence="=1+1", metric_key="@SUM(A1)", quantity=Decimal(-60))
    outcome = Outcome(findings=(formula,), looked_at=1)
    made = replace(found, results=(replace(found.results[0], outcome=outcome),))
    for escaped, before in ((False, ""), (True, "'")):
        frame = pd.read_csv(BytesIO(to_csv(made, escape_formulas=escaped)), dtype=str)
        assert list(frame["sentence"]) == [f"{before}=1+1"]
        assert list(frame["metric_key"]) == [f"{before}@SUM(A1)"]
        assert list(frame["quantity"]) == ["-60"]


def test_a_dropped_price_book_rates_the_period(page: Open, store: Store) -> None:
    app = ran(page(**LINK))
    app.session_state["validate_tab"] = "Expected amounts"
    assert "No price book yet" in said(opened(app, {}))
    app.session_state[dropped_key("prices", Period.from_params(LINK))] = File("book.toml", BOOK)
    opened(app, {})
    prices = [{"metric_key": "tokens_in", "unit_amount": "0.001", "currency": "USD"}]
    rating = store.rate(Period.from_params(LINK), prices=prices)
    total = formatting.money(rating.totals["USD"])
    assert f"**{total} USD** expected on {len(rating.lines):,} lines, by book.toml." in said(app)
    assert f"{rating.unpriced_events:,} events without a price" in said(app)
    table = app.dataframe[0].value
    assert set(table["customer_id"]) == {rating.names.known("customer", line.customer_id) for line in rating.lines}
    assert set(table["customer_id id"]) == {str(line.customer_id) for line in rating.lines}
    app.segmented_control(key="amounts_table").set_value("Without a price").run()
    assert len(app.dataframe[0].value) == len(rating.unpriced)


def test_what_is_wrong_with_a_dropped_price_book_is_said_and_other_files_are_used(page: Open) -> None:
    app = ran(page(**LINK))
    lines = f"customer_id,metric_key,quantity\n{uuid4()},tokens_in,1\n"
    for argument, file in (
        ("prices", File("book.toml", BOOK.replace(b"0.001", b"free"))),
        ("invoices", File("lines.csv", lines.encode())),
    ):
        app.session_state[dropped_key(argument, Period.from_params(LINK))] = file
    app.session_state["validate_tab"] = "Expected amounts"
    opened(app, {})
    assert "This file was not used" in said(app)
    assert "book.toml, price 1: unit_amount: 'free' is not a decimal number" in said(app)
    app.session_state["validate_tab"] = "Reconciliation"
    assert "Nothing wrong among 1 things" in said(opened(app, {}))


def test_the_headline_says_what_is_not_checked_and_the_reconciliation_reads_the_price_book(
    page: Open, checks: Callable[..., None]
) -> None:
    def reconcile(examination: Examination) -> Outcome:
        prices = examination.inputs.prices
        return Outcome(looked_at=1 if prices else 2, unchecked="" if prices else "amounts not checked: no price book")

    checks(check("reconciliation", reconcile, "invoices"))
    app = ran(page(**LINK))
    lines = f"customer_id,metric_key,quantity\n{uuid4()},tokens_in,1\n"
    app.session_state[dropped_key("invoices", Period.from_params(LINK))] = File("lines.csv", lines.encode())
    assert ":orange[Not checked]" in said(opened(app, {}))
    app.session_state["validate_tab"] = "Reconciliation"
    opened(app, {})
    (warning,) = [warning.value for warning in app.warning if "Nothing wrong among 2 things" in warning.value]
    assert "Amounts not checked" in warning
    app.session_state[dropped_key("prices", Period.from_params(LINK))] = File("book.toml", BOOK)
    opened(app, {})
    assert "Nothing wrong among 1 things" in said(app)
    assert ":orange[Not checked]" not in said(app)
