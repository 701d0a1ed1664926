"""Decisions, sign-off and expected amounts on the Validate page, as the signed-in user makes them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from uuid import uuid4

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from support import generated_events
from support.app_pages import Open, opened, ran, validate_page
from support.generated_events import NEIGHBOUR, ORGANIZATION
from support.plain_events import JUNE, LARGE, beside, event, store_of
from support.query_oracle import Row
from support.waiting import PATIENCE
from usage_explore import Period, Store, formatting
from usage_explore.access.allow_list import Grant
from usage_explore.app import kept_runs
from usage_explore.app.cache import Source
from usage_explore.app.uploads import File
from usage_explore.app.validate import signing
from usage_explore.app.validate.files import dropped_key
from usage_explore.db import ddl
from usage_explore.errors import RecordError
from usage_explore.names import Names
from usage_explore.validation import Finding, report

pytestmark = pytest.mark.usefixtures("brief_checks")

WINDOW = {"since": "2026-09-01T00:00:00Z", "until": "2026-10-01T00:00:00Z"}
LINK = {"organization_id": str(ORGANIZATION), **WINDOW}
DAY = datetime(2026, 9, 10, 12, tzinfo=UTC)
PRICES = b"metric_key,model,unit_amount,currency\ntokens,per_unit,0.10,USD\n"
OTHER_PRICES = PRICES.replace(b"tokens", b"none")


def twice() -> list[Row]:
    """40 events that were sent twice, and one at the end of the month."""
    rows = [event(datetime(2026, 9, 30, 23, 59, tzinfo=UTC))]
    for index in range(40):
        first = event(DAY + timedelta(minutes=index), customer_id=JUNE)
        again = {"id": uuid4(), "ingested_at": first.ingested_at + timedelta(hours=1)}
        rows += [first, Row(**{**vars(first), **again})]
    return rows


@pytest.fixture
def store(
    events_connection: ddl.Connection, events_database_url: str, use: Callable[..., None], tmp_path: Path
) -> Iterator[Store]:
    rows = twice()
    with store_of(events_connection, events_database_url, [*rows, *beside(rows)]) as made:
        events_connection.commit()
        use(events_database_url, HOME=str(tmp_path))
        yield made


@pytest.fixture
def page(store: Store) -> Open:
    return lambda **parameters: opened(AppTest.from_function(validate_page, default_timeout=PATIENCE), parameters)


def home_page() -> None:
    from usage_explore.app.main import run

    run("home")


def said(app: AppTest) -> str:
    found = [*app.markdown, *app.subheader, *app.caption, *app.info, *app.error, *app.warning, *app.success]
    return "\n".join(each.value.replace("\\", "").replace("\u2060", "").replace("\u00a0", " ") for each in found)


def in_tab(app: AppTest, tab: str) -> AppTest:
    app.session_state["validate_tab"] = tab
    return app.run()


def acknowledge(app: AppTest, reason: str = "", name: str = "") -> None:
    """Open the form, fill it in and save it."""
    app.session_state["decide_acknowledge"] = True
    app.run()
    if name:
        app.text_input(key="validate_name decide_acknowledge").input(name)
    app.text_area(key="decide_acknowledge_text").input(reason)
    app.button(key="decide_acknowledge_save").click().run()


def duplicates(store: Store) -> str:
    """The id of the finding on the copies."""
    review = store.review(store.validate(Period(**LINK)))
    return next(item.id for item in review.items if item.identity.check == "duplicates")


def test_a_second_note_right_after_the_first_is_saved_too(page: Open, store: Store) -> None:
    app = ran(page(**LINK, finding=duplicates(store)))
    for note in ("Asked ACME.", "ACME agrees."):
        app.session_state["decide_note"] = True
        app.run()
        app.text_area(key="decide_note_text").input(note)
        app.button(key="decide_note_save").click().run()
    assert [made.note for made in store.decisions()] == ["Asked ACME.", "ACME agrees."]


def test_the_file_of_corrections_has_the_first_day_in_the_zone_of_the_period(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    period = Period(organization_id=ORGANIZATION, since="2026-09-01", until="2026-10-01", timezone="Europe/Berlin")
    signed = store.sign_off(store.validate(period), by="ana")
    names: list[str] = []
    monkeypatch.setattr(signing.st, "download_button", lambda label, data, name, *_, **__: names.append(name))
    signing._download(Source(store, store.now()), store.changes_since(signed), "")
    assert names == [f"corrections-2026-09-01-{str(signed.id)[:8]}.csv"]


@pytest.fixture
def another_customers_copies(store: Store, events_connection: ddl.Connection) -> None:
    """The events that are there twice, of another customer as well: a second finding of their check."""
    other = [replace(row, id=uuid4(), customer_id=LARGE, idempotency_key=f"l{row.idempotency_key}") for row in twice()]
    generated_events.insert(events_connection, other)
    events_connection.commit()


def test_all_open_findings_of_a_check_are_acknowledged_at_once(
    page: Open, store: Store, another_customers_copies: None
) -> None:
    assert "open findings of this list" not in said(ran(page(**LINK))), "without a check in the filter"
    app = ran(page(**LINK, check="duplicates"))
    assert "All 2 open findings of this list:" in said(app)
    acknowledge(app, "Credited.")
    made = store.decisions()
    assert [(one.action, one.author, one.note) for one in made] == [
        ("acknowledge", "test@example.com", "Credited.")
    ] * 2
    assert len({one.finding.identity.id for one in made}) == 2
    assert "open findings of this list" not in said(app)


def test_open_findings_come_first_and_the_counts_follow_the_filters(
    page: Open, store: Store, another_customers_copies: None
) -> None:
    review = store.review(store.validate(Period(**LINK)))
    high = [item for item in review.items if item.finding.severity == "high"]
    first = next(item for item in high if item.identity.check == "duplicates")
    store.decide(first.finding, "acknowledge", by="ana")
    app = ran(page(**LINK))
    words = said(app)
    assert f"[{len(high) - 1:,}]" in words
    assert "high open" in words
    assert next(iter(app.dataframe)).value["State"].iloc[-1].startswith("Acknowledged")
    app = ran(page(**LINK, check="duplicates", state="acknowledged"))
    (severity,) = (one for one in app.get("button_group") if one.label == "Severity")
    assert list(severity.options) == ["High 1", "Medium 0", "Low 0"]


def test_after_a_decision_the_list_marks_the_finding_that_is_open_and_leads_on(
    page: Open, store: Store, another_customers_copies: None
) -> None:
    """The finding goes to the end of the list; the browser kept the tick on its old row, beside another finding."""
    items = store.review(store.validate(Period(**LINK))).items
    app = ran(page(**LINK, finding=items[0].id))
    number, before = len(app.dataframe[0].value), app.dataframe[0].proto
    assert number > 1
    acknowledge(app, "A retry, credited.")
    listed, after = app.dataframe[0].value, app.dataframe[0].proto
    assert listed["State"].iloc[-1].startswith("Acknowledged")
    assert before.id != after.id
    app.button(key="close_finding Next").click().run()
    assert app.query_params["finding"] == items[1].id


def test_a_period_that_is_not_over_is_signed_with_a_warning(page: Open) -> None:
    app = in_tab(ran(page(**LINK, as_of="2026-09-15T06:00:00Z")), "Sign-off")
    assert "Only 14 of 30 days are signed: the period was not over at 15 Sep 2026 06:00" in said(app)
    assert "arrived later and are not part of it." in said(app)
    app.button(key="sign_off").click().run()
    assert ", 14 of 30 days" in said(app)
    assert "days are signed" not in said(in_tab(ran(page(**LINK)), "Sign-off"))


def test_the_rows_of_duplicates_are_in_pairs_with_the_copy_marked(page: Open, store: Store) -> None:
    app = ran(page(**LINK, finding=duplicates(store)))
    (rows,) = (table.value for table in app.dataframe if "Sent" in table.value)
    pairs = list(zip(rows["Sent"], rows["Idempotency key"], rows["Id"], strict=True))
    assert len(pairs) > 10
    superfluous = set(store.duplicate_pairs(store.validate(Period(**LINK)), _finding(store))["copy_id"].astype(str))
    for (first, key, _), (again, same, copy) in zip(pairs[:-1:2], pairs[1::2], strict=False):
        assert (first, again, key) == ("first", "again", same)
        assert copy in superfluous


def test_a_run_that_examined_nothing_is_not_kept(page: Open, store: Store) -> None:
    """Right after a load no event has settled: the home page called the run of it "Nothing found"."""
    assert "Nothing was checked" in said(ran(page(**LINK, as_of="2026-09-01T00:00:00Z")))
    assert store.runs() == []


def test_a_kept_run_is_named_where_the_checks_have_not_run_in_this_session(
    page: Open, store: Store, tmp_path: Path
) -> None:
    before = said(page(**LINK))
    assert "Checks not run yet" in before
    assert "The validation of" not in before
    book = tmp_path / "prices.csv"
    book.write_bytes(PRICES)
    validation = store.validate(Period(**LINK), prices=book)
    store.keep_run(validation)

    def kept(**more: str) -> str:
        (words,) = (line for line in said(page(**LINK, **more)).split("\n") if line.startswith("The validation of"))
        return words

    number = validation.counts()["high"]
    assert kept().startswith("The validation of 1–30 Sep 2026, as of ")
    assert f": {number} high" in kept()
    assert "with prices.csv. To open its findings, drop prices.csv below and press “Run checks”." in kept()
    again = said(page(**LINK, finding=duplicates(store)))
    assert "Checks not run yet" not in again
    assert "The finding of this link: **High** :gray[" in again
    store.decide(_finding(store), "acknowledge")
    left = f"{number - 1} high" if number > 1 else ""
    assert f"{left} open, 1 acknowledged" in kept()


def test_an_older_state_that_is_examined_later_is_not_the_newest_validation(store: Store) -> None:
    """A page left open kept its run after another user's: the home page said 1 high where that one had found 2."""
    newer, older = (store.validate(Period(**LINK, as_of=f"2026-{day}T00:00:00Z")) for day in ("10-20", "09-12"))
    kept = store.keep_run(newer)
    store.keep_run(older)
    source = Source(store, store.now())
    whole, narrowed = kept_runs.newest(source)
    assert (whole and whole.id, narrowed) == (kept.id, None)
    # its last arrivals were removed since, as by `load --replace`: no later run is as of their time
    earlier = store.validate(Period(**LINK, as_of="2026-10-10T00:00:00Z"), checks=["duplicates"])
    last = store.keep_run(earlier)
    whole, _ = kept_runs.newest(source)
    assert whole
    assert whole.id == last.id


def _finding(store: Store) -> Finding:
    findings = store.validate(Period(**LINK)).findings
    return next(finding for finding in findings if finding.check == "duplicates")


def test_who_is_signed_in_decides_and_signs(page: Open, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made_reports: list[str] = []

    def downloaded(label: str, content: bytes, *_: object) -> None:
        made_reports.append(content.decode())

    monkeypatch.setattr("usage_explore.app.validate.page.prepared_download", downloaded)
    app = ran(page(**LINK, finding=duplicates(store)))
    assert [run.author for run in store.runs()] == ["test@example.com"]
    acknowledge(app, "A retry, credited.")
    (made,) = store.decisions()
    assert (made.author, made.action, made.note) == ("test@example.com", "acknowledge", "A retry, credited.")
    assert "A retry, credited." in said(app)
    assert "acknowledged by test@example.com" in said(app)
    in_tab(app, "Sign-off")
    assert not [field for field in app.text_input if field.label == "Your name"]
    assert "0 open" in said(app) or any("0 open" in str(table.value) for table in app.table)
    app.text_area(key="validate_sign_note").input("September")
    in_tab(in_tab(app, "Findings"), "Sign-off")
    assert app.text_area(key="validate_sign_note").value == "September", "a look at another tab keeps what was typed"
    app.button(key="sign_off").click().run()
    (signed,) = store.signoffs()
    assert (signed.author, signed.note, signed.open) == ("test@example.com", "September", ())
    assert "Signed off by test@example.com" in said(app)
    assert "Sign off again" in [each.label for each in app.expander]
    assert not [button for button in app.button if button.key == "sign_off"], "nothing changed"
    app.session_state["sign_again"] = True
    app.run()
    assert "Nothing has changed since the last sign-off" in said(app)
    assert app.button(key="sign_off")
    in_tab(app, "Download")
    app.button(key="prepare report").click().run()
    (report,) = made_reports
    assert "<dt>By</dt><dd>test@example.com</dd>" in report
    assert len(store.runs()) == 1, "the run that was signed is the one that was kept"


def test_a_period_that_overlaps_a_sign_off_warns_before_and_the_earlier_page_names_the_later(
    page: Open, store: Store, events_connection: ddl.Connection
) -> None:
    month = store.sign_off(store.validate(Period(**LINK)), by="ana")
    berlin = {"since": "2026-08-31T22:00:00Z", "until": "2026-09-30T22:00:00Z", "timezone": "Europe/Berlin"}
    app = in_tab(ran(page(**{**LINK, **berlin})), "Sign-off")
    for link in (berlin, {"customer_id": str(JUNE)}, {"since": "2026-09-20T00:00:00Z"}):
        words = said(page(**{**LINK, **link}))
        assert "it has events of signed periods: 1–30 Sep 2026, UTC, was signed off by ana, " in words, link
    assert "signed periods" not in said(page(**{**LINK, "until": "2026-12-01T00:00:00Z", "since": "2026-09-30"}))
    assert f"has events in common with sign-off {str(month.id)[:8]} (" in said(app)
    app.button(key="sign_off").click().run()
    later, _ = store.signoffs()
    generated_events.insert(events_connection, [event(DAY, ingested_at=store.now())])
    events_connection.commit()
    words = f"1 correction (+1 event) is in sign-off {str(later.id)[:8]} ("
    assert words in said(page(**LINK))
    told = said(in_tab(ran(page(**LINK)), "Sign-off"))
    assert words in told
    assert "Nothing to bill here" in told
    assert "Nothing had changed" not in told


def test_a_sign_off_that_the_page_had_not_shown_is_named_before_it_is_replaced(page: Open, store: Store) -> None:
    """Bob's open page signed an older state over Ana's: an event that hers had billed was a supplement once more."""
    app = in_tab(ran(page(**LINK, as_of="2026-09-15T06:00:00Z")), "Sign-off")
    hers = store.sign_off(store.validate(Period(**LINK)), by="ana")
    app.button(key="sign_off").click().run()
    assert [one.id for one in store.signoffs()] == [hers.id]
    assert "Not signed off: since this page was drawn, ana signed the period, as known at" in said(app)
    assert "That is later than the 15 Sep 2026 06:00 of this page: run the checks again as of now." in said(app)
    app.session_state["sign_again"] = True
    app.run()
    assert "knows more than this page" in said(app)
    app.button(key="sign_off").click().run()
    assert [one.id for one in store.signoffs()] == [hers.id], "an older state is not signed at all"
    assert "Not signed off: validation: is older than the last sign-off: ana signed this period on" in said(app)


def test_the_corrections_of_a_signed_period_are_in_a_tab_only_once_the_checks_have_run(
    page: Open, store: Store, events_connection: ddl.Connection
) -> None:
    store.sign_off(store.validate(Period(**LINK)), by="ana")
    generated_events.insert(events_connection, [event(DAY, ingested_at=store.now())])
    events_connection.commit()
    before, words = page(**LINK), "The tab Sign-off has the corrections."
    assert not before.tabs
    assert "+1 event, arrived late. Run the checks; the tab Sign-off then has the corrections." in said(before)
    assert words not in said(before)
    after = ran(before)
    assert "Sign-off" in [tab.label for tab in after.tabs]
    assert f"+1 event, arrived late. {words}" in said(after)
    assert "Run the checks;" not in said(after)


@pytest.mark.parametrize("is_changed_after", [True, False])
def test_what_cannot_be_told_from_removed_events_is_for_billing_to_check(
    page: Open,
    store: Store,
    events_connection: ddl.Connection,
    monkeypatch: pytest.MonkeyPatch,
    is_changed_after: bool,
) -> None:
    """12:00 to 12:15 were removed by retention or deleted, and an event of the same customer at 12:30 otherwise."""
    store.sign_off(store.validate(Period(**LINK)), by="ana")
    first, later = DAY + timedelta(minutes=15), DAY + timedelta(minutes=30)
    monkeypatch.setattr("usage_explore.extract.routing.Paths.exists_since", lambda *_: first)
    removed = "DELETE FROM usage_events WHERE customer_id = %s AND timestamp >= %s AND timestamp < %s"
    for start, end in ((DAY, first), *([(later, later + timedelta(minutes=1))] if is_changed_after else [])):
        events_connection.execute(removed.encode(), [JUNE, start, end])
    events_connection.commit()
    told = said(in_tab(ran(page(**LINK)), "Sign-off"))
    assert "1 row for billing to check" in told
    assert "−30 events before 2026-09-10 12:15:00 +00:00" in told
    assert ("−2 events after that time, changed or removed" in told) == is_changed_after
    assert ("removed by retention, or deleted, which is a credit: billing has to check" in told) != is_changed_after
    assert "Nothing to bill" not in told
    home = opened(AppTest.from_function(home_page, default_timeout=PATIENCE), {"organization_id": str(ORGANIZATION)})
    assert "**Signed off by ana, " in said(home)
    assert "−30 events before 2026-09-10 12:15:00" in said(home)


def test_the_page_names_the_files_of_the_last_run_in_another_session(page: Open, store: Store) -> None:
    app = ran(page(**LINK))
    assert "Last validated with" not in said(app)
    app.session_state[dropped_key("prices", Period(**LINK))] = File("p.csv", PRICES)
    app.run()
    words = f"Last validated with p.csv (sha256 {hashlib.sha256(PRICES).hexdigest()[:12]}) by test@example.com"
    assert words not in said(app), "it is there"
    text = said(ran(page(**LINK)))
    assert words in text
    assert "drop it again to compare. A price book need not be dropped once an administrator has stored it" in text
    assert "`" not in text
    _, with_file, first = store.runs()  # newest first, within one minute too
    assert with_file.files["prices"]["name"] == "p.csv"
    assert with_file.made_at > first.made_at


def test_texts_that_the_directory_lacks_are_warned_of_below_the_dropped_file(
    page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "unknown_texts", lambda *_, **given: f"customer cus_0S of {next(iter(given))}")
    app = page(**LINK)
    assert not app.warning
    app.session_state[dropped_key("prices", Period(**LINK))] = File("p.csv", PRICES)
    (warning,) = app.run().warning
    assert warning.value.replace("\\", "") == "**p.csv** as price book: customer cus_0S of prices."


def test_a_link_to_a_finding_from_a_file_asks_for_the_file(page: Open, store: Store) -> None:
    link = {**LINK, "as_of": "2026-10-05T00:00:00Z"}
    lines = f"customer_id,metric_key,quantity\n{JUNE},tokens,7\n".encode()
    of_file = store.review(store.validate(Period(**link), invoices=_frame(lines)))
    wanted = next(item.id for item in of_file.items if item.identity.check == "reconciliation")
    unknown = said(ran(page(**link, finding=wanted)))
    assert "It may come from a check that compares a file that is not given here: " in unknown
    every = (
        "the price book, the invoice lines, the control totals and the preferred currencies. Drop them above to see."
    )
    assert f"{every} Else events that" in unknown
    app = ran(page(**link))
    app.session_state[dropped_key("invoices", Period(**link))] = File("inv.csv", lines)
    app.run()
    app = ran(page(**link, finding=wanted))
    reason = (
        "comes from the check Reconciliation, which compares the invoice lines inv.csv. Drop this file above to see"
    )
    assert reason in said(app)
    assert "may have resolved it" not in said(app)
    assert "the price book, the invoice lines inv.csv, the control" in said(page(**link, finding="0" * 12))
    app.session_state[dropped_key("invoices", Period(**link))] = File("inv.csv", lines + b"\n")
    text = said(app.run())
    assert "The finding of this link" not in text
    assert app.button(key="close_finding")


def test_the_chart_of_a_finding_has_the_names_of_dropped_files(page: Open, store: Store) -> None:
    link = {**LINK, "as_of": "2026-10-05T00:00:00Z"}
    names = File("names.csv", f"id,name,kind\n{JUNE},June Ltd,customer\n".encode())
    app = ran(page(**link, finding=duplicates(store)))
    app.session_state[dropped_key("names", Period(**link))] = names
    app.run()
    titles = [each.value for each in app.markdown if each.value.startswith("**")]
    assert any("customer is June Ltd" in title for title in titles), titles
    assert str(JUNE) not in "".join(titles).replace("\\", "")
    named = replace(store.validate(Period(**link)), names=Names({("customer", str(JUNE)): "June Ltd"}))
    assert "customer is June Ltd" in report.html(store, named, ())


def _frame(content: bytes) -> pd.DataFrame:
    return pd.read_csv(BytesIO(content), dtype=str)


def test_a_user_without_sign_in_gives_a_name_once(page: Open, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usage_explore.app.sign_in.current_user", lambda: None)
    app = ran(page(**LINK, finding=duplicates(store)))
    app.session_state["decide_note"] = True
    app.run()
    assert 'Without a name the history says "local".' in said(app)
    app.session_state["decide_note"] = False
    acknowledge(app, name="Ana")
    app.session_state["decide_reopen"] = True
    app.run()
    assert "Decided by Ana." in said(app)
    assert not [field for field in app.text_input if field.label == "Your name"]
    app.button(key="decide_reopen_save").click().run()
    assert [(made.author, made.action) for made in store.decisions()] == [("Ana", "acknowledge"), ("Ana", "reopen")]
    in_tab(app, "Sign-off")
    assert app.text_input(key="validate_name sign").value == "Ana"


def test_a_user_who_lost_the_organization_decides_and_signs_nothing(
    page: Open, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = ran(page(**LINK, finding=duplicates(store)))
    app.session_state["decide_acknowledge"] = True
    app.run()
    refused = Grant(every=False, organizations=frozenset({NEIGHBOUR}))
    monkeypatch.setattr("usage_explore.app.sign_in.grant", lambda: refused)
    app.button(key="decide_acknowledge_save").click().run()
    assert store.decisions() == []
    monkeypatch.undo()


def test_records_that_cannot_be_read_are_said_and_the_findings_shown(
    page: Open, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*_: object, **__: object) -> None:
        raise RecordError("the file is damaged")

    for name in ("review", "keep_run", "signoffs"):
        monkeypatch.setattr(Store, name, damaged)
    app = ran(page(**LINK))
    told = said(app)
    assert "Every finding is shown as new and open. the file is damaged" in told
    assert "Sign-offs cannot be read: the file is damaged" in told
    assert [table for table in app.dataframe if "Finding" in table.value]


def test_a_failed_decision_is_said_and_the_page_stays(
    page: Open, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = ran(page(**LINK, finding=duplicates(store)))

    def damaged(*_: object, **__: object) -> None:
        raise RecordError("Nothing was saved: no room")

    monkeypatch.setattr(Store, "decide_all", damaged)
    acknowledge(app)
    assert "Nothing was saved: no room" in said(app)
    assert "New · open" in said(app)


def test_signing_again_says_what_is_lost_and_what_the_earlier_sign_off_still_has(
    page: Open, store: Store, events_connection: ddl.Connection, tmp_path: Path
) -> None:
    period, book = Period(**LINK), tmp_path / "b.csv"
    book.write_bytes(PRICES)
    validation = store.validate(period)
    first = store.sign_off(validation, by="ana", rating=store.rate(validation.period, prices=book))
    app = in_tab(ran(page(**LINK)), "Sign-off")
    app.session_state["sign_again"] = True
    app.run()
    assert "by a price book, which is missing now: nothing would be expected." in said(app)
    app.session_state[dropped_key("prices", period)] = File("book.csv", PRICES)
    app.run()
    assert "which is missing now" not in said(app)
    late = store.now()
    generated_events.insert(events_connection, [event(DAY, quantity=Decimal("4.2"), ingested_at=late)])
    events_connection.commit()
    (table,) = in_tab(ran(page(**LINK)), "Sign-off").table
    replaces = str(table.value.to_dict())
    assert f"{str(first.id)[:8]} by ana; of its 1 correction, none was known at " in replaces, "it came after both"
    (table,) = in_tab(ran(page(**LINK, as_of=store.now().isoformat())), "Sign-off").table
    assert "of its 1 correction, what was known at " in str(table.value.to_dict())
    second = store.validate(period.replace(as_of=store.now()))
    store.sign_off(second, by="ben", rating=store.rate(second.period, prices=book))
    app = in_tab(ran(page(**LINK)), "Sign-off")
    assert "1 earlier sign-off of this period" in [each.label for each in app.expander]
    assert any("and includes what was known at" in each.value for each in app.caption)
    app.session_state["signed_earlier"] = True
    app.run()
    words = "Until the next sign-off: +1 event, included when it was signed again; expected amounts +0.42 USD."
    assert words in said(app)
    assert [button for button in app.get("download_button") if str(first.id) in button.proto.id]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (PRICES, "** expected"),
        (OTHER_PRICES, "without a price]"),
        (b"metric,price\nx,1\n", "book.csv line 2: currency: is missing"),
    ],
)
def test_a_dropped_price_book_rates_the_usage_and_is_signed(
    page: Open, store: Store, content: bytes, words: str
) -> None:
    app = ran(page(**LINK))
    app.session_state[dropped_key("prices", Period(**LINK))] = File("book.csv", content)
    in_tab(app, "Expected amounts")
    told = said(app)
    assert words in told
    assert "given.csv" not in told
    rated = content == PRICES
    if rated:
        _, used = store.validate(Period(**LINK)).totals.metrics["tokens"]
        assert f"{formatting.money(round(used / 10, 2))} USD** expected" in told
    in_tab(app, "Sign-off")
    app.button(key="sign_off").click().run()
    (signed,) = store.signoffs()
    assert bool(signed.amounts) == rated
    assert "; unchanged at " in said(app)
    if content == OTHER_PRICES:
        number = formatting.counted(signed.events, "event")
        assert f"Signed with expected amounts of nothing, {number} without a price." in said(app)


def test_prices_that_come_after_a_sign_off_without_any_say_what_they_make_of_it(page: Open, store: Store) -> None:
    """The page went on to say that nothing had changed, while amounts were expected that nobody signed."""
    store.sign_off(store.validate(Period(**LINK)), by="ana")
    app = page(**LINK)
    assert "not compared" not in said(app)
    app.session_state[dropped_key("prices", Period(**LINK))] = File("p.csv", PRICES)
    app = in_tab(ran(app), "Sign-off")
    words = re.findall(r"none were signed, [0-9.,]+ USD would be expected now", said(app))
    assert len(words) == 2, "the page's line, and the tab"


def test_checks_that_run_again_rate_reconcile_and_sign_what_was_edited_since(
    page: Open, store: Store, events_connection: ddl.Connection
) -> None:
    """One event's quantity is edited, and `as_of` stays: all numbers are those of the new run."""
    link = {**LINK, "as_of": "2026-10-05T00:00:00Z"}
    period = Period(**link)
    app = ran(page(**link))
    used = store.validate(period).totals.metrics["tokens"][1]
    lines = f"customer_id,metric_key,quantity\n{JUNE},tokens,{used}\n"
    days = f"day,metric_key,quantity\n2026-09-30,tokens,{used}\n"
    for kind, content in (("prices", PRICES), ("invoices", lines.encode()), ("control", days.encode())):
        app.session_state[dropped_key(kind, period)] = File(f"{kind}.csv", content)
    for tab in ("Expected amounts", "Reconciliation", "Control totals", "Sign-off"):
        in_tab(app, tab)
    tables = [_table(app, tab) for tab in ("Reconciliation", "Control totals")]
    events_connection.execute(
        "UPDATE usage_events SET quantity = quantity + 1000 WHERE organization_id = %s AND timestamp >= %s",
        (ORGANIZATION, datetime(2026, 9, 30, 23, tzinfo=UTC)),
    )
    events_connection.commit()
    ran(app)
    expected = formatting.money(round((used + 1000) / 10, 2))
    assert f"{expected} USD** expected" in said(in_tab(app, "Expected amounts"))
    for tab, before in zip(("Reconciliation", "Control totals"), tables, strict=True):
        assert _table(app, tab) != before, tab
    in_tab(app, "Sign-off")
    app.button(key="sign_off").click().run()
    (signed,) = store.signoffs()
    assert sum(signed.amount_totals.values()) == (used + 1000) / 10
    assert sum(line.quantity for line in signed.usage) == used + 1000


def _table(app: AppTest, tab: str) -> str:
    return str(in_tab(app, tab).dataframe[0].value.to_dict())


def test_a_finding_of_an_earlier_id_is_still_opened_by_its_link(page: Open, store: Store) -> None:
    """The run before had the same finding from the day before on: its id was another one."""
    validation = store.validate(Period(**LINK))
    (found,) = (finding for finding in validation.findings if finding.check == "duplicates")
    moved = replace(found, since=found.since - timedelta(days=1))
    store.decide(moved, "note", by="ana", note="Seen.")
    (made,) = store.decisions()
    assert made.finding.identity.id != duplicates(store)
    app = ran(page(**LINK, finding=made.finding.identity.id))
    assert app.button(key="close_finding")
    assert "History, 1 decision" in [each.label for each in app.expander]


def test_a_period_is_not_clean_without_the_files_of_its_last_run(page: Open, store: Store) -> None:
    """The page said "Clean" in green beside a warning of open findings that only the file can show."""
    link = {**LINK, "since": "2026-09-11T00:00:00Z", "as_of": "2026-10-05T00:00:00Z"}
    lines = f"customer_id,metric_key,quantity\n{JUNE},tokens,7000\n".encode()
    app = ran(page(**link))
    assert "Clean" in said(app)
    app.session_state[dropped_key("invoices", Period(**link))] = File("inv.csv", lines)
    app.run()
    without = page(**link)
    assert "Clean" not in said(without)
    assert "Without the files of the last run: " in said(without)
    signed = store.sign_off(store.validate(Period(**link)), by="ana")
    assert [finding.identity.check for finding in signed.open] == ["reconciliation"]


def test_open_findings_of_the_last_run_with_files_are_named_where_the_files_are_not_given(
    page: Open, store: Store
) -> None:
    link = {**LINK, "as_of": "2026-10-05T00:00:00Z"}
    lines = f"customer_id,metric_key,quantity\n{JUNE},tokens,7000\n".encode()
    app = ran(page(**link))
    app.session_state[dropped_key("invoices", Period(**link))] = File("inv.csv", lines)
    app.run()
    assert "cannot be shown" not in said(app), "the file is there"
    words = "open finding cannot be shown without inv.csv: the run by test@example.com, "
    without = page(**link)  # another session, which has the checks from the cache: they began before that run
    assert "First run of this period" not in said(without)
    assert "No run of this period from before these checks is kept; the run of " in said(without)
    assert said(without).count(words) == 1
    assert "**High** :gray[Reconciliation]" in said(without)
    assert ":red[2] :small[:gray[high open, 1 not shown]]" in said(without)
    source = Source(store, store.now())
    for filters in ({}, {"customer_id": str(JUNE)}):  # elsewhere the run without the file read as one that found less
        store.keep_run(store.validate(Period(**link, **filters)))
        kept = kept_runs.closest(source, Period(**link).resolve(source.now).span, tuple(filters.items()))
        assert kept
        assert (kept.files, "customer_id" in kept.period) == ({}, bool(filters))
        assert [one.identity.check for _, one in kept_runs.read(kept, source, str(JUNE)).unseen] == ["reconciliation"]
    whole, _ = kept_runs.newest(source)
    assert whole
    assert kept_runs.read(whole, source).found().startswith("2 high open, 1 of them not shown")
    home = opened(AppTest.from_function(home_page, default_timeout=PATIENCE), {"organization_id": str(ORGANIZATION)})
    assert said(home).count(words) == 1
    signing = in_tab(without, "Sign-off")
    assert said(signing).count(words) == 2
    berlin = {**LINK, "since": "2026-08-31T22:00:00Z", "until": "2026-09-30T22:00:00Z", "timezone": "Europe/Berlin"}
    other = store.keep_run(store.validate(Period(**berlin)))
    assert kept_runs.read(other, source).found().startswith("2 high open, 1 of them not shown")
    assert kept_runs.needed_files(kept_runs.read(other, source)) == "", "another period's"
    home = opened(AppTest.from_function(home_page, default_timeout=PATIENCE), {"organization_id": str(ORGANIZATION)})
    assert "The validation of 1–30 Sep 2026, as of " in said(home), "by its own days"
    assert "timezone=Europe" in next(one.query_string for one in home.get("page_link") if "2 high" in one.label)
    for app in (home, ran(page(**berlin))):
        assert "inv.csv" in said(app)
        (words,) = (
            one.label for one in app.get("page_link") if one.label.startswith("Open the validation of 1–30 Sep")
        )
        assert words.replace("\\", "") == "Open the validation of 1–30 Sep 2026, UTC, with inv.csv"
    assert signing.button(key="sign_off").label == "Sign off with 2 high findings open", "as it leaves them"
    assert "open finding cannot be shown without" in signing.table[0].value.to_string()
    again = store.validate(Period(**link))
    sentence = store.review(again).unseen_sentence(again.period.zone)
    assert "1 high open finding cannot be shown without inv.csv" in sentence
    assert sentence in " ".join(report.lines(again, (), 2_000, store.review(again)))
    ((run, finding),) = store.review(again).unseen
    twice = replace(store.review(again), unseen=((run, finding), (replace(run, id=uuid4()), finding)))
    assert twice.unseen_sentence(again.period.zone).count(run.author) == 1, "of two runs within a minute"
    with_file = store.validate(Period(**link), invoices=_frame(lines))
    (item,) = [one for one in store.review(with_file).items if one.id == finding.identity.id]
    assert store.review(with_file).unseen == ()
    store.decide(item.finding, "acknowledge", by="ana")
    assert store.review(again).unseen == ()
    assert store.review(again).unseen_sentence(again.period.zone) == ""
