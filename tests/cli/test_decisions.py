"""`decide`, `decisions`, `signoffs` and the states in `validate`: a billing manager's month by command."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pytest
from click.testing import CliRunner, Result

from support.generated_events import ORGANIZATION, Insert
from support.plain_events import JUNE, LARGE, event
from support.query_oracle import Row
from usage_explore import Store
from usage_explore.cli.decisions import CHANGED
from usage_explore.cli.main import main
from usage_explore.cli.validate import FOUND
from usage_explore.db import ddl
from usage_explore.errors import RecordError

pytestmark = pytest.mark.usefixtures("brief_checks")

Run = Callable[..., Result]

SEPTEMBER = ("--since", "2026-09-01T00:00:00Z", "--until", "2026-10-01T00:00:00Z")
DAY = datetime(2026, 9, 10, 12, tzinfo=UTC)
COST = {"external_cost_amount": Decimal("0.14"), "external_cost_currency": "USD"}


@pytest.fixture
def run(events_database_url: str, insert: Insert, tmp_path: Path) -> Run:
    """Run a command on a batch that was sent twice."""
    insert([*twice(), event(datetime(2026, 9, 30, 23, 59, tzinfo=UTC))])  # the data does not end before the period

    def run(command: str, *arguments: str) -> Result:
        home = ["--database-url", events_database_url, "--home", str(tmp_path)]
        return CliRunner().invoke(main, [command, *home, "--organization-id", str(ORGANIZATION), *arguments])

    return run


def twice(customer: object = JUNE, number: int = 40) -> list[Row]:
    rows = []
    for index in range(number):
        first = event(DAY + timedelta(minutes=index), customer_id=customer, **COST)
        again = {"id": uuid4(), "ingested_at": first.ingested_at + timedelta(hours=1)}
        rows += [first, Row(**{**vars(first), **again})]
    return rows


def listed_id(result: Result, check: str = "duplicates") -> str:
    words = " ".join(result.stdout.split())
    match = re.search(rf"high .*?{check}: .*?\[([0-9a-f]{{12}})\]", words)
    assert match, words
    return match[1]


def test_several_findings_are_decided_on_at_once_or_none(run: Run, insert: Insert) -> None:
    insert([*twice(LARGE, 60)])
    words = " ".join(run("validate", *SEPTEMBER, "--check", "duplicates").stdout.split())
    ids = re.findall(r"\[([0-9a-f]{12})\]", words)
    assert len(ids) == 2
    refused = run("decide", ids[0], "ffffffffffff", "--acknowledge", "--by", "ana")
    assert (refused.exit_code, "ffffffffffff' is the id of no finding" in refused.stderr) == (2, True), refused.output
    assert "No decisions" in run("decisions").stdout
    made = run("decide", *ids, ids[0], "--acknowledge", "--by", "ana", "--note", "Credited.")
    assert made.stdout.count("ana: acknowledged. Credited.") == 2
    assert run("decisions").stdout.count("ana: acknowledged. Credited.") == 2
    assert run("validate", *SEPTEMBER, "--check", "duplicates").exit_code == 0


def test_open_findings_come_first_and_alone_count_by_severity(run: Run, insert: Insert, tmp_path: Path) -> None:
    insert([*twice(LARGE, 60)])
    only = (*SEPTEMBER, "--check", "duplicates")
    first, second = re.findall(r"\[([0-9a-f]{12})\]", " ".join(run("validate", *only).stdout.split()))
    run("decide", first, "--acknowledge", "--by", "ana")
    page, document = tmp_path / "r.html", tmp_path / "r.json"
    text = " ".join(run("validate", *only, "--report", str(page), "--json", str(document)).stdout.split())
    assert "2 findings: 1 high open, 1 acknowledged" in text
    assert re.findall(r"\[([0-9a-f]{12})\]", text) == [second, first]
    content, html = json.loads(document.read_text()), page.read_text()
    assert [row["finding_id"] for row in content["findings"]] == [second, first]
    assert {row["finding_id"]: row["sentence"] in text for row in content["findings"]} == {first: True, second: True}
    assert content["findings_by_severity"] == {"high": 2, "medium": 0, "low": 0}
    assert content["review"]["open_by_severity"] == {"high": 1, "medium": 0, "low": 0}
    assert ">2 findings: 1 high open, 1 acknowledged</p>" in html
    assert html.index("known, acknowledged") > html.index('<span class="state">known</span>')
    run("decide", second, "--mute-until", "2100-01-01T00:00:00Z", "--by", "ana")
    text = run("validate", *only, "--report", str(page)).stdout
    assert "2 findings: none open, 1 acknowledged, 1 muted" in text
    assert "Every finding is acknowledged or muted." in page.read_text()


def test_a_sign_off_says_which_events_it_leaves_out(run: Run) -> None:
    as_of = ("--as-of", (DAY + timedelta(minutes=50)).isoformat(), "--fail-on", "never")
    signed = run("validate", *SEPTEMBER, *as_of, "--sign-off", "--by", "ana")
    assert "without 41 events of the period that arrived later" in " ".join(signed.stdout.split())
    words = " ".join(signed.stderr.split())
    assert "Warning: only 9 of 30 days are signed: the period was not over at 10 Sep 2026 12:50;" in words
    assert "41 events of the period, 50.6 % of all, arrived later and are not part of it." in words
    assert "Signed off by ana: 9 of 30 days, 40 events," in signed.stdout
    assert "; 9 of 30 days" in " ".join(run("signoffs").stdout.split())
    whole = run("validate", *SEPTEMBER, "--fail-on", "never", "--sign-off", "--by", "ana")
    assert (whole.exit_code, "Warning: only" in whole.stderr, "30 days" in whole.stdout) == (0, False, False)


def test_a_run_without_the_files_of_an_open_high_finding_is_not_signed(run: Run, tmp_path: Path) -> None:
    """It was signed, or passed, at `--fail-on high`, while the output said that the finding cannot be shown."""
    invoice = tmp_path / "inv.csv"
    invoice.write_text("customer_id,metric_key,quantity\n" + f"{JUNE},calls,1\n")
    found = run("validate", *SEPTEMBER, "--invoices", str(invoice))
    ids = re.findall(r"\[([0-9a-f]{12})\]", found.stdout)
    run("decide", listed_id(found), "--acknowledge", "--by", "ana", "--note", "Credited.")
    sign = ("validate", *SEPTEMBER, "--sign-off", "--by", "ana")
    without = run(*sign)
    words = " ".join(without.stderr.split())
    assert without.exit_code == FOUND
    assert re.search(r"Not signed off: .* cannot be shown without inv\.csv", words), words
    assert "No sign-offs" in run("signoffs").stdout
    assert run("validate", *SEPTEMBER).exit_code == FOUND, "it is open, though not shown"
    assert run("validate", *SEPTEMBER, "--fail-on", "new-high").exit_code == 0
    run("decide", *ids, "--acknowledge", "--by", "ana", "--note", "Another invoice.")
    signed = run(*sign)
    assert (signed.exit_code, "Signed off by ana" in signed.stdout) == (0, True)


def test_a_month_is_signed_off_and_a_late_batch_is_seen_afterwards(run: Run, insert: Insert, tmp_path: Path) -> None:
    first = run("validate", *SEPTEMBER)
    assert first.exit_code == FOUND
    assert "First run of this period that is kept: every finding is new." in first.stdout
    finding = listed_id(first)
    assert run("validate", *SEPTEMBER, "--fail-on", "new-high").exit_code == 0, "it is known"
    unsigned = run("validate", *SEPTEMBER, "--sign-off", "--by", "ana")
    assert unsigned.exit_code == FOUND
    assert "Not signed off" in unsigned.stderr
    assert "No sign-offs" in run("signoffs").stdout
    made = run("decide", finding, "--acknowledge", "--by", "ana", "--note", "Credited.")
    assert "ana: acknowledged. Credited." in made.stdout
    page, document = tmp_path / "r.html", tmp_path / "r.json"
    signed = run("validate", *SEPTEMBER, "--sign-off", "--by", "ana", "--report", str(page), "--json", str(document))
    assert signed.exit_code == 0, signed.output
    assert "Signed off by ana: 81 events" in signed.stdout
    content = json.loads(document.read_text())
    (row,) = (row for row in content["findings"] if row["check"] == "duplicates")
    assert (row["finding_id"], row["states"]) == (finding, ["known", "acknowledged"])
    assert [decision["note"] for decision in row["decisions"]] == ["Credited."]
    assert content["sign_off"]["report_hash"] == content["review"]["report_hash"]
    html = page.read_text()
    for words in (
        "known, acknowledged",
        "ana: acknowledged. Credited.",
        content["review"]["report_hash"],
        "Signed off",
    ):
        assert words in html
    assert "nothing changed since" in run("signoffs").stdout
    assert "of another state" not in html
    run("validate", *SEPTEMBER, "--check", "duplicates", "--report", str(page), "--json", str(document))
    assert json.loads(document.read_text())["sign_off"] == content["sign_off"], "a later run says who has signed"
    assert "This report is of another state than the one that was signed" in page.read_text()
    assert run("signoffs", "--fail-on-changes").exit_code == 0
    late = {
        "customer_id": LARGE,
        "metric_key": "=cmd",
        "quantity": Decimal("2"),
        "ingested_at": datetime.now(UTC),
        **COST,
    }
    insert([event(DAY + timedelta(days=day), **late) for day in range(3)])
    changed = run("signoffs", "--csv", str(tmp_path / "c.csv"), "--escape-formulas", "--fail-on-changes")
    assert changed.exit_code == CHANGED
    assert "+3 events, external cost +0.42 USD, arrived late" in " ".join(changed.stdout.split())
    (line,) = csv.DictReader(io.StringIO((tmp_path / "c.csv").read_text()))
    assert (line["correction"], line["metric_key"], line["customer_id"], line["quantity"], line["cost"]) == (
        "supplement",
        "'=cmd",
        str(LARGE),
        "6",
        "0.42",
    )
    (listed,) = json.loads(run("signoffs", "--json", "-").stdout)
    assert listed["changes"] == "+3 events, external cost +0.42 USD, arrived late"
    as_of = ("--as-of", "2100-01-01T00:00:00Z", "--report", str(page), "--json", str(document))
    run("validate", *SEPTEMBER, *as_of)
    content, html = json.loads(document.read_text()), page.read_text()
    assert content["review"]["sentence"].startswith("Since the run of ")
    ids = {row["finding_id"]: "new" if "new" in row["states"] else "known" for row in content["findings"]}
    assert {word: content["review"][word] for word in ("new", "known")} == {
        word: [id_ for id_, state in ids.items() if state == word] for word in ("new", "known")
    }
    assert content["review"]["new"]
    assert f"<p>{content['review']['sentence']}</p>" in html
    assert html.count('<li><span class="state">new</span>') == len(content["review"]["new"])
    assert content["changed_since_sign_off"]["changes"] == listed["changes"]
    assert "external cost +0.42 USD, arrived late.</p>" in html
    again = run(
        "validate", *SEPTEMBER, "--as-of", "2100-01-01T00:00:00Z", "--sign-off", "--by", "bob", "--fail-on", "never"
    )
    assert again.exit_code == 0
    after = json.loads(run("signoffs", "--json", "-").stdout)
    assert [one["changes"] for one in after] == [
        "nothing changed since",
        "superseded by a later sign-off of the period",
    ]
    one_of_them = run("signoffs", after[1]["id"][:8])
    assert "included when it was signed again" in " ".join(one_of_them.stdout.split()), "named, it is compared"


def test_what_a_sign_off_left_open_is_listed_before_what_changed_since(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    run("validate", *SEPTEMBER, "--sign-off", "--by", "ana", "--fail-on", "never")
    run("validate", *SEPTEMBER, "--check", "duplicates", "--report", str(page))
    html = page.read_text()
    assert re.search(r"1 finding of high severity:</dd>\s*</dl>\s*<ul", html)
    assert html.index("of high severity:</dd>") < html.index("of another state") < html.index("Changed since")


def test_wallets_are_signed_and_an_event_of_two_sign_offs_is_billed_once(
    run: Run, insert: Insert, tmp_path: Path
) -> None:
    prices, wallets, corrections = (tmp_path / name for name in ("b.csv", "w.csv", "c.csv"))
    prices.write_text("metric_key,unit_amount,currency\ntokens,1,USD\ntokens,3,EUR\n")
    wallets.write_text(f"customer_id,currency\n{JUNE},EUR\n")
    sign = ("validate", *SEPTEMBER, "--sign-off", "--by", "ana", "--fail-on", "never")
    assert run(*sign, "--prices", str(prices), "--wallets", str(wallets)).exit_code == 0
    same = run("signoffs", "--prices", str(prices), "--fail-on-changes")
    assert (same.exit_code, "nothing changed since" in " ".join(same.stdout.split())) == (0, True)
    again = run(*sign, "--prices", str(prices), "--wallets", str(wallets))
    assert "Warning: this period has events" not in again.stderr, "it replaces the sign-off of the same period"
    gate = ("--fail-on", "new-high", "--prices", str(prices))
    run("validate", *SEPTEMBER, *gate)  # its findings are known afterwards
    lost = run(*sign, *gate)
    assert (lost.exit_code, lost.stdout.count("Signed off by")) == (FOUND, 0)
    words = " ".join(lost.stderr.split())
    assert "with preferred currencies of 1 customer, which are missing now" in words
    assert "Give the file again (--prices, --wallets), or sign with --accept-missing" in words
    insert([event(DAY, customer_id=JUNE, quantity=Decimal(2), ingested_at=datetime.now(UTC))])
    late = ("--as-of", "2100-01-01T00:00:00Z", "--wallets", str(wallets))
    more = run(*sign, *gate, *late)
    words = " ".join(more.stdout.split())
    assert re.search(r"; expected [\d,]+\.00 EUR\. It includes 1 correction of the sign-off", words), words
    assert "+1 event, included when it was signed again; expected amounts +6.00 EUR" in words
    before = json.loads(run("signoffs", "--json", "-").stdout)[1]["id"]
    assert run("signoffs", before, "--csv", str(corrections)).exit_code == 0
    (row,) = csv.DictReader(io.StringIO(corrections.read_text()))
    assert [row[name] for name in ("correction", "reason", "events", "amount")] == [
        "supplement",
        "until signed again",
        "1",
        "6",
    ]
    narrow = run(*sign, *late[:2], "--customer-id", str(JUNE))
    assert narrow.exit_code == 0, "without a price book"
    assert "Warning: this period has events in common with sign-off" in narrow.stderr
    insert([event(DAY, customer_id=JUNE, quantity=Decimal(1), ingested_at=datetime.now(UTC))])
    changed = run("signoffs", "--prices", str(prices), "--csv", str(corrections))
    words = " ".join(changed.stdout.split())
    assert "it has events in common with" not in words, "said already"
    assert "1 correction (+1 event) is in sign-off" in words
    rows = csv.DictReader(io.StringIO(corrections.read_text()))
    assert sorted((row["reason"], row["customer_id"], row["events"], row["amount"]) for row in rows) == [
        ("arrived late", str(JUNE), "1", ""),
        ("expected amount", str(JUNE), "0", "3"),
    ], "the usage of the later sign-off, the amount of the one that has amounts"
    priced = (*sign, *late[:2], "--prices", str(prices))
    unsigned, accepted = (run(*priced, *more) for more in ((), ("--accept-missing",)))
    assert (unsigned.exit_code, "Signed off by" in unsigned.stdout) == (FOUND, False), "though findings never fail"
    assert (accepted.exit_code, "Signed off by" in accepted.stdout) == (0, True)
    assert "Warning: the sign-off" in accepted.stderr
    assert "so bill each event once" in accepted.stderr, "the narrower sign-off has this event, too"


@pytest.mark.parametrize(("metric", "expected"), [("tokens", "2.00 USD, 1 event"), ("none", "nothing, 2 events")])
def test_a_sign_off_says_how_many_events_have_no_price(
    run: Run, insert: Insert, tmp_path: Path, metric: str, expected: str
) -> None:
    prices, page, document = (tmp_path / name for name in ("b.csv", "r.html", "r.json"))
    prices.write_text(f"metric_key,unit_amount,currency\n{metric},1,USD\n")
    customer = uuid4()
    insert([event(DAY, customer_id=customer, quantity=Decimal(2)), event(DAY, customer_id=customer, metric_key="free")])
    files = ("--prices", str(prices), "--report", str(page), "--json", str(document))
    one = ("--customer-id", str(customer), "--fail-on", "never", "--sign-off", "--by", "ana")
    signed = run("validate", *SEPTEMBER, *one, *files)
    assert signed.exit_code == 0
    assert f"; expected {expected} without a price" in " ".join(run("signoffs").stdout.split())
    content = page.read_text()
    assert "<dt>Files given</dt><dd>price book (b.csv, 1 row)</dd>" in content
    assert "Files: price book (b.csv, 1 row)" in signed.stdout
    given = json.loads(document.read_text())["files"]["prices"]
    assert (given["name"], given["rows"]) == ("b.csv", 1)
    assert f"<dt>Expected amounts</dt><dd>{expected} without a price</dd>" in content
    assert json.loads(document.read_text())["sign_off"]["unpriced_events"] == int(expected.split()[-2])
    if "of high severity:" in content:
        assert re.search(r'of high severity:</dd>\s*</dl>\s*<ul class="gone">', content), "what it left open follows"


def test_corrections_have_the_same_columns_whichever_sign_off_has_rows(
    run: Run, insert: Insert, events_database_url: str, tmp_path: Path
) -> None:
    """A name of a later sign-off alone was the last column, and without a row of a named customer there was none."""
    names = tmp_path / "names.csv"
    names.write_text(f"id,name\n{LARGE},Acme\n")
    loaded = CliRunner().invoke(main, ["names", "load", str(names), "--database-url", events_database_url])
    assert loaded.exit_code == 0, loaded.output
    sign = ("validate", *SEPTEMBER, "--sign-off", "--by", "ana", "--fail-on", "never")
    for narrowed in ((), ("--customer-id", str(JUNE))):  # the last is listed first
        assert run(*sign, *narrowed).exit_code == 0

    def written() -> list[list[str]]:
        assert run("signoffs", "--csv", str(tmp_path / "c.csv")).exit_code == 0
        return list(csv.reader(io.StringIO((tmp_path / "c.csv").read_text())))

    (nothing,) = written()
    assert nothing[:5] == ["correction", "reason", "customer_id", "customer_name", "metric_key"]
    insert([event(DAY, customer_id=LARGE, ingested_at=datetime.now(UTC))])
    heading, row = written()
    assert heading == nothing
    assert row[2:4] == [str(LARGE), "Acme"]


def test_a_sign_off_is_said_to_be_kept_where_the_one_before_cannot_be_compared(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*_: object, **__: object) -> None:
        raise RecordError("damaged")

    sign = ("validate", *SEPTEMBER, "--sign-off", "--fail-on", "never", "--by")
    assert run(*sign, "ana").exit_code == 0
    monkeypatch.setattr(Store, "changes_since", damaged)
    failed = run(*sign, "ben")
    assert failed.exit_code == 1
    assert "Signed off by ben: this is kept, only its report was not written." in failed.stderr


def test_the_files_of_the_last_run_are_named_with_their_hashes(run: Run, tmp_path: Path) -> None:
    prices, lines, document = (tmp_path / name for name in ("p.csv", "lines.csv", "r.json"))
    prices.write_text("metric_key,unit_amount,currency\ntokens,1,USD\n")
    lines.write_text(f"customer_id,metric_key,quantity\n{JUNE},tokens,80.004\n")
    of = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in (prices, lines)}
    with_files = ("--prices", str(prices), "--invoices", str(lines), "--tolerance", "0.01")
    first = run("validate", *SEPTEMBER, "--by", "ana", *with_files)
    assert "Last validated with" not in first.stdout
    report = tmp_path / "r.html"
    words = " ".join(
        run("validate", *SEPTEMBER, "--no-keep", "--json", str(document), "--report", str(report)).stdout.split()
    )
    for path in (prices, lines):
        assert f"{path.name} (sha256 {of[path][:12]})" in words
    assert re.search(r"Last validated with .* by ana, .*; give them again to compare\.", words)
    assert "Last validated with" in report.read_text()
    assert json.loads(document.read_text())["review"]["previous_run_with_files"]["files"] == {
        "invoices": {"name": "lines.csv", "sha256": of[lines]},
        "prices": {"name": "p.csv", "sha256": of[prices]},
    }
    assert "validated with" not in " ".join(run("validate", *SEPTEMBER, "--no-keep", *with_files).stdout.split())
    prices.write_text("metric_key,unit_amount,currency\ntokens,2,USD\n")
    changed = " ".join(run("validate", *SEPTEMBER, "--no-keep", *with_files).stdout.split())
    now = hashlib.sha256(prices.read_bytes()).hexdigest()[:12]
    assert f"p.csv (sha256 {now}) is not p.csv (sha256 {of[prices][:12]})." in changed


@pytest.mark.parametrize(
    ("fail_on", "first", "second"),
    [
        ("new-high", FOUND, 0),
        pytest.param("new-low", FOUND, 0, marks=pytest.mark.thorough),
        ("high", FOUND, FOUND),
        pytest.param("never", 0, 0, marks=pytest.mark.thorough),
    ],
)
def test_new_gates_count_what_no_run_had_before(run: Run, fail_on: str, first: int, second: int) -> None:
    assert run("validate", *SEPTEMBER, "--fail-on", fail_on).exit_code == first
    assert run("validate", *SEPTEMBER, "--fail-on", fail_on).exit_code == second


def test_a_run_that_is_not_kept_leaves_the_next_one_new(run: Run) -> None:
    for _ in range(2):
        assert run("validate", *SEPTEMBER, "--fail-on", "new-high", "--no-keep").exit_code == FOUND


def test_a_mute_is_in_json_and_list_and_the_finding_stays(run: Run) -> None:
    finding = listed_id(run("validate", *SEPTEMBER))
    assert run("decide", finding, "--mute-until", "2100-01-01T00:00:00Z").exit_code == 0
    result = run("validate", *SEPTEMBER)
    assert result.exit_code == 0
    assert finding in result.stdout
    assert "muted" in result.stdout
    assert run("decide", finding, "--reopen", "--by", "bob").exit_code == 0
    assert run("validate", *SEPTEMBER).exit_code == FOUND
    history = json.loads(run("decisions", finding, "--json").stdout)
    assert [(one["action"], one["by"]) for one in history] == [("mute", "local"), ("reopen", "bob")]
    assert "muted until 1 Jan 2100 00:00" in run("decisions").stdout


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("decide", "0" * 12, "--acknowledge"), "is the id of no finding of a kept run"),
        (("decide", "0" * 12), "give one of them"),
        (("decide", "0" * 12, "--acknowledge", "--reopen"), "give one of them at a time"),
        (("validate", *SEPTEMBER, "--sign-off"), "name them with --by NAME"),
        (("validate", *SEPTEMBER, "--sign-off", "--by", "a", "--no-keep"), "leave --no-keep out"),
        (("validate", *SEPTEMBER, "--note", "x"), "--note: is for a sign-off"),
        (
            ("validate", *SEPTEMBER, "--check", "duplicates", "--fail-on", "never", "--sign-off", "--by", "a"),
            "run without",
        ),
        (("signoffs", "12345678"), "is the id of no sign-off"),
        (("signoffs", "--csv", "x.txt"), "does not end in .csv"),
        (("signoffs", "--csv", "x.csv"), "there is no sign-off to compare"),
    ],
)
def test_a_faulty_command_says_why(run: Run, command: tuple[str, ...], words: str) -> None:
    result = run(*command)
    assert result.exit_code in (1, 2)
    assert words in " ".join(result.stderr.split())


def test_records_that_cannot_be_read_make_every_finding_count(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from usage_explore import Store

    def damaged(*_: object) -> None:
        raise RecordError("the file is damaged")

    monkeypatch.setattr(Store, "review", damaged)
    result = run("validate", *SEPTEMBER, "--fail-on", "new-high")
    assert result.exit_code == FOUND
    assert "every finding counts as new and open. the file is damaged" in result.stderr


def test_a_period_whose_totals_do_not_agree_is_not_signed(run: Run, events_connection: ddl.Connection) -> None:
    assert run("extract").exit_code == 0
    events_connection.execute("UPDATE usage_events SET quantity = quantity + 1 WHERE timestamp >= '2026-09-30'")
    events_connection.commit()
    signing = ("validate", *SEPTEMBER, "--fail-on", "never", "--by", "ana", "--sign-off")
    refused = run(*signing)
    assert refused.exit_code == 1, refused.output
    assert "Not signed off: its totals do not agree with a second count" in refused.stderr
    assert run("extract", "--verify", "--repair").exit_code == 1
    signed = run(*signing)
    assert (signed.exit_code, "Signed off by ana" in signed.stdout) == (0, True), signed.output


def test_a_load_into_a_signed_period_says_so(run: Run, tmp_path: Path) -> None:
    head = f"customer_id,metric_key,quantity,timestamp,idempotency_key,source\n{JUNE},tokens,"
    late, other, month = (tmp_path / name for name in ("late.csv", "other.csv", "month.csv"))
    late.write_text(f"{head}5,2026-09-11T00:00:00Z,a,api\n{JUNE},tokens,6,2026-09-12T00:00:00Z,b,api\n")
    other.write_text(f"{head}7,2026-10-01T00:00:00Z,c,api\n")
    assert "ana signed" not in run("load", str(late)).stdout
    run("validate", *SEPTEMBER, "--as-of", "2100-01-01T00:00:00Z", "--sign-off", "--by", "ana", "--fail-on", "never")
    late.write_text(late.read_text() + f"{JUNE},tokens,8,2026-09-30T23:59:59Z,d,api\n")
    words = " ".join(run("load", str(late)).stdout.split())
    assert re.search(
        r"warning: 1 event is in a period that ana signed on .* \(Usage, 1–30 Sep 2026, UTC\): `usage-explore signoffs",
        words,
    ), words
    month.write_text(f"{head}5,2026-09-11T00:00:00Z,a,api\n")
    words = " ".join(run("load", str(month), "--replace-by", "source").stdout.split())
    assert "warning: superseded events may be in a period that ana signed on" in words, words
    assert "ana signed" not in run("load", str(other)).stdout


def test_the_commands_for_corrections_run_where_the_table_holds_several_organizations(
    run: Run, insert: Insert, events_database_url: str, tmp_path: Path
) -> None:
    insert([event(DAY, organization_id=uuid4())])
    late, corrections = tmp_path / "late.csv", tmp_path / "corrections.csv"
    signing = ("validate", *SEPTEMBER, "--as-of", "2100-01-01T00:00:00Z", "--by", "ana", "--fail-on", "never")
    run(*signing, "--sign-off")
    late.write_text(f"customer_id,metric_key,quantity,timestamp\n{JUNE},tokens,5,2026-09-11T00:00:00Z\n")
    outputs = [run("load", str(late)).stdout, run(*signing[:-4]).stdout, run(*signing, "--sign-off").stdout]
    for output in outputs:
        command = re.search(r"`(usage-explore signoffs [^`]*)`", " ".join(output.split()))
        assert command, output
        _, *words = command[1].replace("FILE.csv", str(corrections)).split()
        home = ["--database-url", events_database_url, "--home", str(tmp_path)]
        done = CliRunner().invoke(main, [*words, *home])
        assert (done.exit_code, corrections.exists()) == (0, True), (command[1], done.output)
        corrections.unlink()
