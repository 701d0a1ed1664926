"""The Load page: what a dropped file becomes, the pickers, what is loaded, and where files are refused."""

from __future__ import annotations

import io
import stat
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit
from uuid import UUID, uuid4

import openpyxl
import psycopg
import pytest
from psycopg import sql
from streamlit import config as streamlit_config
from streamlit.runtime.caching.cache_utils import CachedFunc
from streamlit.testing.v1 import AppTest

from support.app_pages import opened, place_of
from support.database_servers import drop_role
from support.waiting import PATIENCE
from usage_explore import config
from usage_explore.access.api_keys import Keyring
from usage_explore.app import cache
from usage_explore.app.load import permission
from usage_explore.app.load.result import for_pickers
from usage_explore.app.uploads import File, private_copy
from usage_explore.demo import ORGANIZATIONS
from usage_explore.load import LOCAL_ORGANIZATION, app_links, load_files, loaded_queries
from usage_explore.names import made_id
from usage_explore.query.limits import MAX_UPLOAD_MEGABYTES

SAMPLES = Path(__file__).parents[1] / "load" / "samples"
EXPECTED = tomllib.loads((SAMPLES / "expected.toml").read_text("utf-8"))
SEMICOLONS = """customer;metric;quantity;when
Müller GmbH;seats;1.234,50;01.10.2026 08:00
Société É;seats;7,25;02.10.2026 09:30
"""
PLAIN = """timestamp,customer_id,metric_key,quantity,idempotency_key
2026-10-01T00:00:00Z,acme,calls,1,a
2026-10-02T00:00:00Z,acme,calls,many,b
2026-10-03T00:00:00Z,acme,calls,lots,c
2026-10-04T00:00:00Z,acme,calls,4,d
"""
ORGANIZATION = UUID("00000000-0000-4000-8000-0000000000aa")
OTHER = UUID("00000000-0000-4000-8000-0000000000bb")

OpenLoad = Callable[..., AppTest]


@pytest.fixture
def load(use: Callable[..., None], events_database_url: str, tmp_path: Path) -> OpenLoad:
    """Open the Load page of an empty table in a session of its own; settings are given as keywords in capitals."""

    def open_page(**settings: str) -> AppTest:
        use(events_database_url, HOME=str(tmp_path), **settings)
        return opened(AppTest.from_function(_load_page, default_timeout=PATIENCE), {})

    return open_page


def _load_page() -> None:
    from usage_explore.app.main import run

    run("load")


def drop(app: AppTest, content: str | bytes, name: str = "usage.csv") -> AppTest:
    data = content if isinstance(content, bytes) else content.encode()
    app.file_uploader[0].set_value((name, data, "application/octet-stream")).run()
    return unbroken(app)


def unbroken(app: AppTest) -> AppTest:
    assert not app.exception, [error.value for error in app.exception]
    assert not any("not foreseen" in error.value for error in app.error)
    return app


def picker(app: AppTest, label: str) -> Any:
    return next(widget for widget in (*app.selectbox, *app.multiselect, *app.toggle) if widget.label == label)


def button(app: AppTest, key: str) -> Any:
    return next((widget for widget in app.button if widget.key == key), None)


def click(app: AppTest, key: str = "load_file") -> AppTest:
    button(app, key).click().run()
    return unbroken(app)


def said(app: AppTest) -> str:
    parts = (*app.success, *app.info, *app.warning, *app.error, *app.markdown, *app.caption, *app.subheader)
    return "\n".join(part.value.replace("\\", "") for part in parts)


def links(app: AppTest) -> list[str]:
    return [link.proto.label for link in app.get("page_link")]


def stored(url: str, columns: str = "metric_key, quantity, timestamp") -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        connection.execute("SET timezone = 'UTC'")
        return connection.execute(f"SELECT {columns} FROM usage_events ORDER BY timestamp, metric_key").fetchall()


@pytest.mark.parametrize(
    "name",
    [
        "aws-cur_2.csv",
        "stripe-meter-events.jsonl",
        *(
            pytest.param(name, marks=pytest.mark.thorough)  # tests/load recognizes and loads each of them
            for name in ("cursor_team.csv", "litellm.json", "openai-usage_completions.json")
        ),
    ],
)
def test_a_recognized_file_is_loaded_with_one_click(load: OpenLoad, events_database_url: str, name: str) -> None:
    app = drop(load(), (SAMPLES / name).read_bytes(), name)
    assert f"Load {EXPECTED[name]['events']:,} event" in button(app, "load_file").label
    click(app)
    totals: dict[str, Decimal] = {}
    for metric, quantity, _ in stored(events_database_url):
        totals[metric] = totals.get(metric, Decimal(0)) + quantity
    assert totals == {metric: Decimal(text) for metric, text in EXPECTED[name]["quantity"].items()}
    assert f"loaded {EXPECTED[name]['events']:,} event" in app.success[0].value.replace("\\", "")
    assert "Open in Explore" in links(app)
    assert set(stored(events_database_url, "organization_id")) == {(LOCAL_ORGANIZATION,)}


def test_proposals_are_preselected_and_can_be_changed(load: OpenLoad, events_database_url: str) -> None:
    app = drop(load(), SEMICOLONS)
    chosen = {label: picker(app, label).value for label in ("Time", "Customer", "Metric", "Quantity", "Decimal mark")}
    assert chosen == {
        "Time": "when",
        "Customer": "customer",
        "Metric": "metric",
        "Quantity": "quantity",
        "Decimal mark": ",",
    }
    assert "UTC is a guess" in said(app)
    unbroken(picker(app, "Time zone of the times").set_value("Europe/Berlin").run())
    unbroken(picker(app, "Metric").set_value("customer").run())
    command = next(code.value for code in app.code if "--map" in code.value)
    assert "--timezone Europe/Berlin" in command
    assert "--map metric_key=customer" in command
    click(app)
    assert [(metric, quantity, moment.isoformat()) for metric, quantity, moment in stored(events_database_url)] == [
        ("Müller GmbH", Decimal("1234.50"), "2026-10-01T06:00:00+00:00"),
        ("Société É", Decimal("7.25"), "2026-10-02T07:30:00+00:00"),
    ]


def test_the_command_on_the_page_loads_the_same(
    load: OpenLoad, events_database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from click.testing import CliRunner

    from usage_explore.cli.main import main

    app = drop(load(), SEMICOLONS)
    command = next(code.value for code in app.code if "--map" in code.value)
    click(app)
    (tmp_path / "usage.csv").write_text(SEMICOLONS)
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(main, command.split()[1:])
    assert ran.exit_code == 0, ran.output
    assert "loaded 0 events (2 already there, 0 rejected)" in ran.output
    assert len(stored(events_database_url)) == 2


def test_text_that_is_not_utf_8_is_read_as_cp1252_and_said(load: OpenLoad, events_database_url: str) -> None:
    """A header that is not UTF-8 was refused, where the command proposes the encoding."""
    app = drop(load(), "when,customer,calls,größe\n2026-10-01,Müller,3,S\n2026-10-02,Zoë,4,L\n".encode("cp1252"))
    assert "Encoding cp1252: the file is not UTF-8" in said(app)
    click(app)
    assert [row[1] for row in stored(events_database_url)] == [3, 4]


def test_a_changed_picker_leaves_the_other_proposals(load: OpenLoad) -> None:
    rows = "".join(f"2026-10-0{n},A-{n},m{n % 2},{n},x,$1.5\n" for n in range(1, 6))
    app = drop(load(), f"Day,Account Number,Service,Minutes,Plan,Charge (USD)\n{rows}")
    picker(app, "Metric").select("Plan").run()
    unbroken(app)
    assert [picker(app, label).value for label in ("Time", "Customer", "Metric", "Quantity", "Cost")] == [
        "Day",
        "Account Number",
        "Plan",
        "Minutes",
        "Charge (USD)",
    ]
    assert "5 customers · 1 metric" in said(app)
    assert "--map 'customer_id=Account Number'" in app.code[-1].value


def test_a_column_that_is_cleared_is_not_proposed_again(load: OpenLoad) -> None:
    app = drop(load(), SEMICOLONS)
    unbroken(picker(app, "Time").set_value(None).run())
    assert "Still missing: Time." in said(app)
    assert button(app, "load_file") is None


def test_a_column_of_codes_is_the_currency_of_the_cost_and_of_two_columns_one_is_asked_for(load: OpenLoad) -> None:
    rows = ("2026-10-24;a;1;1,20;USD;EUR", "2026-10-25;b;2;0,05;EUR;EUR")
    one = "\n".join(("Datum;Kunde;Anz;Kosten;Whg", *(row.rpartition(";")[0] for row in rows)))
    app = drop(load(), one)
    assert picker(app, "Cost currency").value == "Whg"
    assert "cost 0.05 EUR" in said(app)
    assert "cost 1.2 USD" in said(app)
    assert "have no currency" not in said(app)
    app = drop(load(), "\n".join(("Datum;Kunde;Anz;Kosten;Whg;Konzernwhg", *rows)), "two.csv")
    words = "currencies in 'Whg' (EUR and USD), 'Konzernwhg' (EUR): choose the column of the costs' currencies under"
    assert "cost 1.25 without a currency" in said(app)
    assert any(f"{words} “Cost currency”" in plain(warning.value) for warning in app.warning)
    picker(app, "Time zone of the times").set_value("Europe/Berlin").run()
    assert any(words in plain(warning.value) for warning in app.warning), "another choice does not take it away"
    next(toggle for toggle in app.toggle if "cost currency" in toggle.label).set_value(True).run()
    unbroken(picker(app, "Cost currency").set_value("Whg").run())
    assert "cost 0.05 EUR" in said(app)
    assert not any("no currency" in warning.value for warning in app.warning)


def plain(text: str) -> str:
    return text.replace("\\", "")


def test_a_typed_column_is_that_column_also_in_other_upper_and_lower_case(load: OpenLoad) -> None:
    app = typed(drop(load(), SEMICOLONS), "Metric", "CUSTOMER")
    assert "the column customer" in said(app)
    assert "--map metric_key=customer" in app.code[-1].value
    picker(app, "Metric").options.remove("CUSTOMER")
    typed(app, "Metric", "= CUSTOMER")
    assert "--set metric_key=CUSTOMER" in app.code[-1].value


def test_the_pickers_stay_in_their_place_once_the_file_is_checked(load: OpenLoad) -> None:
    """The bar of the check was drawn in the run before: the browser drew the pickers anew, and the focus was lost."""
    app = drop(load(), SEMICOLONS)
    before = place_of(app, "Customer")
    assert place_of(app.run(), "Customer") == before


def test_measures_take_the_place_of_metric_and_quantity(load: OpenLoad, events_database_url: str) -> None:
    app = drop(load(), "when,user,in,out\n2026-10-01T00:00:00Z,a,5,7\n2026-10-02T00:00:00Z,b,6,0\n")
    assert picker(app, "Measures: several quantities in a row").value == ["in", "out"]
    assert not {"Metric", "Quantity"} & {widget.label for widget in app.selectbox}
    unbroken(picker(app, "Measures: several quantities in a row").set_value(["in"]).run())
    click(app)
    assert [row[:2] for row in stored(events_database_url)] == [("in", 5), ("in", 6)]


def test_loading_twice_adds_nothing_and_says_so(load: OpenLoad, events_database_url: str) -> None:
    app = click(drop(load(), SEMICOLONS))
    click(app, "another")
    click(drop(app, SEMICOLONS))
    assert not app.success
    assert "loaded 0 events (2 already there" in said(app)
    assert "nothing was added" in said(app)
    assert len(stored(events_database_url)) == 2


def test_faults_are_shown_once_by_column_and_refuse_the_file(load: OpenLoad, events_database_url: str) -> None:
    app = drop(load(), PLAIN)
    unbroken(picker(app, "Words for no value").set_value([]).run())
    (fault,) = [error.value.replace("\\", "") for error in app.error]
    assert fault.startswith("2 of 4 rows cannot be loaded:")
    assert fault.count("\n- ") == 1
    assert "quantity, 2 of 4 rows: 'many' is not a decimal number (line 3), 'lots' (line 4)" in fault
    assert button(app, "load_file").disabled
    assert stored(events_database_url) == []
    unbroken(app.checkbox[0].set_value(True).run())
    click(app)
    assert [row[1] for row in stored(events_database_url)] == [1, 4]


def test_the_page_speaks_of_its_pickers_and_not_of_options(load: OpenLoad) -> None:
    messages = [
        "belong to the organization 'local'; name another with --organization-id UUID or --set organization_id=NAME",
        "is not a time; write it like 2026-01-31T08:00:00Z, or give its form with --time-format",
        "'1,5' is not a number with a decimal comma (--decimal ,)",
        "belong to the customer 'local'; name a column with --map customer_id=COLUMN",
    ]
    for message, label in zip(messages, ("Organization", "Form of the times", "Decimal mark", "Customer"), strict=True):
        assert f"“{label}”" in for_pickers(message)
        assert "--" not in for_pickers(message)
    assert "terminal, load the file again with --replace" in for_pickers("twice: load the file again with --replace")
    signed = for_pickers(": `usage-explore signoffs 12345678 --csv FILE.csv` lists what is to be billed")
    assert signed == ": the tab Sign-off of Validate lists what is to be billed"
    app = drop(load(), (SAMPLES / "cursor_team.csv").read_bytes(), "team.csv")
    click(app)
    shown = said(app).replace("\\", "")
    assert "--" not in shown, shown
    assert f"organization local ({LOCAL_ORGANIZATION})" in shown


def test_a_command_in_a_warning_is_code() -> None:
    def page() -> None:
        from usage_explore.app.load.result import _warnings

        _warnings(["warning: `usage-explore doctor` lists it"])

    app = AppTest.from_function(page, default_timeout=PATIENCE).run()
    assert "`usage-explore doctor`" in app.warning[0].value


def test_columns_that_the_file_lacks_are_folded(load: OpenLoad, events_database_url: str) -> None:
    app = drop(load(), "day,customer,metric,quantity,cost,currency\n2026-10-13,acme,seats,2,3.5,EUR\n")
    labels = [box.label for box in app.selectbox]
    assert {"Cost", "Cost currency"} <= set(labels)
    assert not {"Product", "Subscription", "Price", "Wallet", "Idempotency key", "Ingested"} & set(labels)
    more = next(toggle for toggle in app.toggle if toggle.label == "More columns: product, subscription, price …")
    unbroken(more.set_value(True).run())
    unbroken(picker(app, "Product").set_value("metric").run())
    click(app)
    columns = "external_cost_amount::text, external_cost_currency, product_id IS NOT NULL"
    assert stored(events_database_url, columns) == [("3.5", "EUR", True)]


def test_the_sheet_of_a_workbook_is_picked(load: OpenLoad, events_database_url: str) -> None:
    book = openpyxl.Workbook()
    book.active.append(["note"])
    book.active.append(["x"])
    sheet = book.create_sheet("October <b>_1_")
    sheet.append(["timestamp", "customer_id", "metric_key", "quantity"])
    sheet.append(["2026-10-01T00:00:00Z", "a", "calls", 3])
    content = io.BytesIO()
    book.save(content)
    app = drop(load(), content.getvalue(), "book.xlsx")
    assert "choose one with “Sheet”" in said(app)
    unbroken(picker(app, "Sheet").set_value("October <b>_1_").run())
    click(app)
    assert [row[:2] for row in stored(events_database_url)] == [("calls", 3)]


def test_the_encoding_and_the_form_of_times_are_picked(load: OpenLoad, events_database_url: str) -> None:
    app = drop(load(), "when,customer,calls\n01/02/2026,Müller,3\n02/03/2026,Zoë,4\n".encode("cp1252"))
    unbroken(picker(app, "Encoding").set_value("cp1252").run())
    assert "is the day or the month first?" in said(app)
    unbroken(picker(app, "Form of the times").set_value("%d/%m/%Y").run())
    click(app)
    assert [moment.date().isoformat() for _, _, moment in stored(events_database_url)] == ["2026-02-01", "2026-03-02"]


@pytest.mark.parametrize("content", [b"", b"\x00\x01", b"PAR1 no parquet", b"PK\x03\x04", b"{", b"a\n", b"%PDF-1"])
def test_a_file_that_cannot_be_read_is_named_by_its_name(load: OpenLoad, content: bytes) -> None:
    app = drop(load(), content, "my file.bin")
    assert app.error
    assert button(app, "load_file") is None
    assert tempfile.gettempdir() not in said(app)
    assert "given" not in said(app)


def test_a_larger_file_is_refused_with_the_command(load: OpenLoad) -> None:
    app = drop(load(), b"x" * (MAX_UPLOAD_MEGABYTES * 2**20 + 1))
    assert "larger than 20 MB; load it with `usage-explore load FILE`" in said(app)


def test_hostile_names_and_values_are_shown_as_text(load: OpenLoad, events_database_url: str) -> None:
    name = "../<script>alert(1) **b** [x](javascript:1) $x$ :bug:\u202e\n.csv"
    header = '"**when**","<img src=x>","[m](javascript:1)","quantity"'
    app = drop(load(), f'{header}\n2026-10-01T00:00:00Z,"=1+1","**bold** :bug:",1\n', name)
    unbroken(picker(app, "Time").set_value("**when**").run())
    unbroken(picker(app, "Customer").set_value("<img src=x>").run())
    unbroken(picker(app, "Metric").set_value("[m](javascript:1)").run())
    click(app)
    assert stored(events_database_url)[0][:2] == ("**bold** :bug:", 1)
    shown = [part.value for part in (*app.markdown, *app.success, *app.caption, *app.info)]
    assert not [text for text in shown if "<script>" in text or "](javascript" in text or "\u202e" in text]
    assert any(r"\<script\>" in text for text in shown)


def test_copies_are_private_and_deleted(load: OpenLoad, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with private_copy(File("../../x.CSV.gz", b"abc")) as path:
        assert path.name == "given.csv.gz"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert path.read_bytes() == b"abc"
    app = drop(load(), SEMICOLONS)
    assert list(folder.iterdir()) == []
    click(app)
    assert list(folder.iterdir()) == []


def test_two_sessions_load_files_of_their_own(load: OpenLoad, events_database_url: str) -> None:
    first = drop(load(), SEMICOLONS)
    second = opened(AppTest.from_function(_load_page, default_timeout=PATIENCE), {})
    drop(second, SEMICOLONS.replace("seats", "desks"))
    click(first)
    assert {row[0] for row in stored(events_database_url)} == {"seats"}
    click(second)
    assert [row[0] for row in stored(events_database_url)].count("desks") == 2


def test_the_checks_are_those_of_the_month_in_the_zone_of_the_times(load: OpenLoad) -> None:
    """The last event is on 1 October in Berlin, and still on 30 September in UTC."""
    app = drop(load(), "timestamp,customer_id,metric_key,quantity\n2026-09-30T22:30:00Z,acme,calls,1\n")
    picker(app, "Time zone of the times").set_value("Europe/Berlin").run()
    assert "Validate October 2026" in links(click(app))
    assert "from 2026-10-01 00:30:00 +02:00 to " in said(app), "in the zone of the check above it"


def test_the_checks_are_those_of_the_month_with_most_of_the_events(load: OpenLoad) -> None:
    rows = [f"{time}:00Z,acme,calls,1" for time in ("2026-10-03T10:00", "2026-10-04T10:00", "2026-11-02T10:00")]
    app = click(drop(load(), "\n".join(["timestamp,customer_id,metric_key,quantity", *rows])))
    assert "Validate October 2026" in links(app)
    click(app, "another")
    again = click(drop(app, "\n".join(["timestamp,customer_id,metric_key,quantity", *rows])))
    assert "Validate November 2026" in links(again), "nothing was loaded: the newest one"


def test_explore_has_the_events_at_once(load: OpenLoad, explore_page: Callable[..., AppTest]) -> None:
    app = load()
    assert "There are no events yet" in said(explore_page())
    click(drop(app, SEMICOLONS))
    shown = explore_page(
        organization_id=str(LOCAL_ORGANIZATION), since="2026-10-01T00:00:00Z", until="2026-10-03T00:00:00Z"
    )
    assert len(shown.get("vega_lite_chart")) == 1


@pytest.fixture
def explore_page() -> Callable[..., AppTest]:
    def open_page(**parameters: str) -> AppTest:
        def page() -> None:
            from usage_explore.app.main import run

            run("explore")

        return opened(AppTest.from_function(page, default_timeout=PATIENCE), parameters)

    return open_page


def test_the_empty_page_leads_to_the_load_page(load: OpenLoad, explore_page: Callable[..., AppTest]) -> None:
    load()
    assert "Load a file" in links(explore_page())
    load(APP_LOAD="false")
    app = explore_page()
    assert "Load a file" not in links(app)
    assert "In a terminal, load yours with `usage-explore load FILE`" in said(app)


def test_the_link_is_that_of_the_report(events_database_url: str, tmp_path: Path) -> None:
    from usage_explore.db import ddl
    from usage_explore.db.schema import events_table

    path = tmp_path / "usage.csv"
    path.write_text(SEMICOLONS)
    options = {"mapping": {"timestamp": "when", "customer_id": "customer", "metric_key": "metric"}}
    with ddl.connect(events_database_url) as connection:
        reports = load_files(connection, events_table(), [path], timezone="UTC", decimal=",", **options)
    (query,) = loaded_queries(reports, "Europe/Berlin")
    (link,) = app_links(reports, "http://127.0.0.1:1", "Europe/Berlin")
    assert tuple(parse_qsl(urlsplit(link).query)) == query.to_params()


# where files are refused


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"APP_URL": "https://usage.example"}, "its address is usage.example"),
        ({"TRUSTED_PROXIES": "10.0.0.1"}, "it is behind a proxy"),
        ({"APP_LOAD": "false"}, "USAGE_EXPLORE_APP_LOAD=false"),
    ],
)
def test_a_shared_server_takes_no_files(load: OpenLoad, settings: dict[str, str], reason: str) -> None:
    app = load(**settings)
    assert reason in said(app)
    assert not app.file_uploader
    assert "Load" not in [link.proto.label for link in app.get("page_link")]


def test_a_server_with_api_keys_takes_no_files_unless_it_is_allowed(load: OpenLoad, tmp_path: Path) -> None:
    Keyring(tmp_path / "keys.json").create(ORGANIZATION, "bot")
    assert "it has API keys" in said(load())
    assert load(APP_LOAD="true").file_uploader


def test_a_server_that_others_reach_takes_no_files(
    use: Callable[..., None], events_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(events_database_url, HOME=str(tmp_path))
    assert permission.refusal() == ""
    before = streamlit_config.get_option("server.address")
    streamlit_config.set_option("server.address", "0.0.0.0")
    try:
        assert "it listens at 0.0.0.0" in permission.refusal()
    finally:
        streamlit_config.set_option("server.address", before)


@pytest.fixture
def reader(events_database_url: str) -> Iterator[str]:
    """The URL for a role that may SELECT from the events, and nothing more."""
    role = f"reader_{uuid4().hex[:8]}"
    with psycopg.connect(events_database_url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
        admin.execute(sql.SQL("GRANT SELECT ON usage_events TO {}").format(sql.Identifier(role)))
    parts = urlsplit(events_database_url)
    yield urlunsplit(parts._replace(netloc=f"{role}@{parts.netloc.rpartition('@')[2]}"))
    drop_role(events_database_url, role)


def test_a_role_that_only_reads_gets_a_sentence(use: Callable[..., None], reader: str, tmp_path: Path) -> None:
    use(reader, HOME=str(tmp_path))
    app = opened(AppTest.from_function(_load_page, default_timeout=PATIENCE), {})
    assert "this database role may only read; loading needs SELECT and INSERT on the table" in said(app)
    assert not app.file_uploader
    assert "Load" not in [link.proto.label for link in app.get("page_link")]


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("ALTER TABLE usage_events RENAME TO old; CREATE VIEW usage_events AS SELECT * FROM old", "is a view"),
        ("ALTER TABLE usage_events DROP COLUMN quantity", "exists with other columns"),
    ],
)
def test_a_table_that_does_not_fit_is_named(
    load: OpenLoad, events_database_url: str, statement: str, reason: str
) -> None:
    with psycopg.connect(events_database_url, autocommit=True) as admin:
        admin.execute(statement)
    assert reason in said(load())


def test_without_a_table_the_first_file_makes_it(use: Callable[..., None], database_url: str, tmp_path: Path) -> None:
    use(database_url, HOME=str(tmp_path))
    app = opened(AppTest.from_function(_load_page, default_timeout=PATIENCE), {})
    click(drop(app, SEMICOLONS))
    assert len(stored(database_url)) == 2


def test_a_person_loads_only_into_organizations_they_may_see(
    use: Callable[..., None], events_database_url: str, tmp_path: Path
) -> None:
    secrets = {
        "redirect_uri": "https://usage.example/oauth2callback",
        "cookie_secret": "c" * 32,
        "client_id": "usage",
        "client_secret": "shared",
        "server_metadata_url": "https://login.example/.well-known/openid-configuration",
    }
    people = tmp_path / "people.toml"
    people.write_text(f'["ana@example.com"]\norganizations = ["{ORGANIZATION}"]\n')
    use(events_database_url, HOME=str(tmp_path), PEOPLE=str(people), APP_LOAD="true")
    app = AppTest.from_function(_load_page, default_timeout=PATIENCE)
    app.secrets = {"auth": secrets}
    app.user = {"is_logged_in": True, "email": "ana@example.com", "email_verified": True}
    opened(app, {})
    header, *rows = PLAIN.replace("many", "2").replace("lots", "3").splitlines()
    content = "\n".join([f"organization_id,{header}", *(f"{OTHER},{row}" for row in rows)])
    drop(app, content)
    assert picker(app, "Organization").options == [str(ORGANIZATION)]
    assert picker(app, "Organization").value is None
    assert button(app, "load_file") is None
    unbroken(picker(app, "Organization").set_value(str(ORGANIZATION)).run())
    click(app)
    assert set(stored(events_database_url, "organization_id")) == {(ORGANIZATION,)}


def one_event_each(url: str, organizations: dict[UUID, str | None]) -> None:
    """Write an event for each organization, and its name if it has one."""
    with psycopg.connect(url) as connection:
        for organization, name in organizations.items():
            connection.execute(
                "INSERT INTO usage_events (id, organization_id, customer_id, metric_key, quantity, timestamp,"
                " ingested_at, idempotency_key) VALUES (%s, %s, %s, 'calls', 1, '2026-09-01Z', '2026-09-01Z', 'first')",
                (uuid4(), organization, uuid4()),
            )
            if name:
                connection.execute(
                    "INSERT INTO usage_names (organization_id, kind, id, name) VALUES (%s, 'organization', %s, %s)",
                    (organization, organization, name),
                )


def typed(app: AppTest, label: str, text: str) -> AppTest:
    """Type a text that is no option into a picker. AppTest sends only what is an option, in the next run too."""
    picker(app, label).options.append(text)
    unbroken(picker(app, label).set_value(text).run())
    if text not in picker(app, label).options:
        picker(app, label).options.append(text)
    return app


NAMED = {ORGANIZATION: "Acme *Corp*", OTHER: None}


@pytest.mark.parametrize(
    ("text", "into"),
    [
        ("Acme *Corp*", ORGANIZATION),
        (" acme *CORP*", ORGANIZATION),
        (str(OTHER).upper(), OTHER),
        ("LOCAL", LOCAL_ORGANIZATION),
    ],
)
def test_organizations_are_shown_by_name_and_the_typed_name_is_that_organization(
    load: OpenLoad, events_database_url: str, text: str, into: UUID
) -> None:
    one_event_each(events_database_url, NAMED)
    app = drop(load(), PLAIN.replace("many", "2").replace("lots", "3"))
    assert picker(app, "Organization").options == ["local", f"Acme *Corp*  ·  {ORGANIZATION}", str(OTHER)]
    assert picker(app, "Organization").value is None
    typed(app, "Organization", text)
    assert ("new organization" in said(app)) is (into == LOCAL_ORGANIZATION)
    click(app)
    assert sorted(stored(events_database_url, "organization_id")) == sorted([(ORGANIZATION,), (OTHER,), *[(into,)] * 4])


@pytest.mark.parametrize("is_new", [False, True])
def test_a_part_of_an_organization_s_name_asks_whether_it_is_a_new_one(
    load: OpenLoad, events_database_url: str, is_new: bool
) -> None:
    one_event_each(events_database_url, NAMED)
    app = typed(drop(load(), PLAIN.replace("many", "2").replace("lots", "3")), "Organization", "acme")
    assert button(app, "load_file") is None
    labels = [button(app, key).label for key in ("like 0", "like new")]
    assert labels == ["Acme \\*Corp\\*", "New organization acme"]
    if is_new:
        click(app, "like new")
        picker(app, "Organization").options.append("acme")
        assert "Into a new organization acme" in said(app)
    else:
        click(app, "like 0")
        assert picker(app, "Organization").value == str(ORGANIZATION)
        assert "Into Acme *Corp*" in said(app)
    click(app)
    assert ("acme is a new organization" in said(app)) is is_new
    into = made_id("organization", "acme") if is_new else ORGANIZATION
    assert stored(events_database_url, "organization_id").count((into,)) == 5 - is_new
    click(app, "another")
    assert picker(drop(app, SEMICOLONS), "Organization").value == str(into), "the next file is hardly another one's"


def test_an_organization_of_the_demo_is_no_new_one(load: OpenLoad, events_database_url: str) -> None:
    """Its typed name made a second one with this name, its typed id was "a new organization" with events."""
    demo = next(iter(ORGANIZATIONS))
    one_event_each(events_database_url, {OTHER: None, demo: "Acme AI"})
    app = drop(load(), PLAIN.replace("many", "2").replace("lots", "3"))
    assert picker(app, "Organization").options == ["local", str(OTHER), f"Acme AI  ·  {demo}"]
    typed(app, "Organization", "acme ai")
    assert "Into Acme AI" in said(app)


@pytest.mark.parametrize(
    ("others", "proposed", "is_new"),
    [
        ([OTHER], None, True),
        ([ORGANIZATION, OTHER], None, True),
        ([OTHER, LOCAL_ORGANIZATION], "local", False),
        ([next(iter(ORGANIZATIONS))], "local", True),
        ([], "local", True),
    ],
)
def test_the_local_organization_is_proposed_unless_there_are_only_others_and_said_to_be_new(
    load: OpenLoad, events_database_url: str, others: list[UUID], proposed: str | None, is_new: bool
) -> None:
    """The events went to a third organization without a word; the command asks whose they are."""
    one_event_each(events_database_url, dict.fromkeys(others))
    app = drop(load(), PLAIN.replace("many", "2").replace("lots", "3"))
    assert picker(app, "Organization").value == proposed
    if proposed is None:
        assert button(app, "load_file") is None
        assert "Choose whose events these are" in said(app)
        unbroken(picker(app, "Organization").set_value("local").run())
    assert f"Into {'a new organization ' * is_new}local" in said(app)
    click(app)
    assert ("local is a new organization: these are its first events" in said(app)) is is_new


def test_each_organization_of_a_file_is_opened_by_name(load: OpenLoad) -> None:
    header, first, *_, last = PLAIN.splitlines()
    app = drop(load(), f"organization_id,{header}\nNorth *1*,{first}\n{OTHER},{last}\n")
    click(app)
    labels = sorted(label.replace("\\", "") for label in links(app) if label.startswith("Open"))
    assert labels == [f"Open in Explore ({OTHER})", "Open in Explore (North *1*)"]


def test_the_setting_is_a_switch() -> None:
    assert config.settings(app_load="true").environment()["USAGE_EXPLORE_APP_LOAD"] == "true"
    assert config.settings(app_load=False).environment()["USAGE_EXPLORE_APP_LOAD"] == "false"
    assert "USAGE_EXPLORE_APP_LOAD" not in config.settings().environment()
    with pytest.raises(Exception, match="app_load: 'maybe' is neither true nor false"):
        config.settings(app_load="maybe")


def test_an_interrupted_load_leaves_nothing(events_database_url: str, tmp_path: Path) -> None:
    from usage_explore.db import ddl
    from usage_explore.db.schema import events_table

    path = tmp_path / "usage.csv"
    path.write_text(PLAIN.replace("many", "2").replace("lots", "3"))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with ddl.connect(events_database_url) as connection, pytest.raises(KeyboardInterrupt):
        load_files(connection, events_table(), [path], progress=interrupt)
    assert stored(events_database_url) == []


def test_a_load_forgets_all_that_was_read_of_the_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """A picker's number of events without a value would be up to ten minutes old beside the new values."""
    kept = {name for name, cached in vars(cache).items() if isinstance(cached, CachedFunc)}
    kept -= {"store", "_scoped", "_views"}
    assert {"_aggregate", "_missing", "_extract"} <= kept
    for name in sorted(kept):
        monkeypatch.setattr(getattr(cache, name), "clear", partial(kept.discard, name))
    cache.forget()
    assert kept == set()


def test_a_file_that_is_stored_in_another_zone_is_loaded_beside_it_only_on_request(
    load: OpenLoad, events_database_url: str
) -> None:
    """Its rows counted twice after one click, and the page had no way to undo that."""
    rows = [f"acme,calls,{100 + hour}.5,2026-10-{day:02} {hour:02}:07" for day in (5, 6) for hour in range(8, 20)]
    text = "\n".join(["customer,metric,quantity,when", *rows])

    def dropped(zone: str) -> AppTest:
        app = drop(load(), text)
        return picker(app, "Time zone of the times").set_value(zone).run()

    assert "loaded 24 events" in said(click(dropped("Europe/Berlin")))
    before = stored(events_database_url)
    app = click(dropped("Asia/Kolkata"))
    words = "Nothing was loaded: the file repeats stored events, 24 rows at times that another time zone gives."
    assert words in said(app)
    assert "choose the zone in which it is stored" in said(app)
    assert button(app, "load_file").disabled
    assert stored(events_database_url) == before
    same = picker(app, "Time zone of the times").set_value("Europe/Berlin").run()
    assert words not in said(same)
    assert "nothing was added" in said(click(same))
    app = click(dropped("Asia/Kolkata"))
    (beside,) = (box for box in app.checkbox if box.label == "Load all rows beside the stored events")
    beside.check().run()
    assert "loaded 24 events" in said(click(app))
    assert len(stored(events_database_url)) == 48
