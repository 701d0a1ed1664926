"""`load --check`: a look at a file that changes nothing, and the options it proposes."""

from __future__ import annotations

import gzip
import json
import shlex
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import openpyxl
import pytest
from click.testing import CliRunner

from usage_explore.cli.main import main
from usage_explore.errors import LoadError
from usage_explore.formatting import listed
from usage_explore.load import LOCAL_ORGANIZATION, LoadOptions, check_file

TIME = "2026-01-31T08:00:00Z"


def check(folder: Path, text: str, name: str = "file.csv", **options):
    path = folder / name
    path.write_text(text)
    return check_file(path, LoadOptions(**options))


def test_what_a_file_would_become(tmp_path):
    rows = "".join(f"c{n % 2},m{n % 3},{n}.10,2026-01-0{n + 1}T00:00:00Z,1,USD\n" for n in range(6))
    found = check(
        tmp_path,
        "customer_id,metric_key,quantity,timestamp,external_cost_amount,external_cost_currency,region\n"
        + rows.replace("USD\n", "USD,eu\n"),
    )
    assert (found.read, found.events, found.rejected, found.customers) == (6, 6, 0, 2)
    assert [(total.name, total.amount, total.events) for total in found.totals] == [
        ("m0", Decimal("3.20"), 2),
        ("m1", Decimal("5.20"), 2),
        ("m2", Decimal("7.20"), 2),
    ]
    assert [(cost.name, cost.amount) for cost in found.costs] == [("USD", Decimal(6))]
    assert (found.first.day, found.last.day) == (1, 6)
    assert found.dimensions == ("region",)
    assert not found.is_proposed
    assert [line for line, _ in found.examples] == [2, 3, 4]
    assert found.examples[0][1]["customer_id"] == "c0"


def test_a_compressed_file_has_progress_while_dates_are_looked_for_and_rows_counted(tmp_path):
    """A small file of millions of rows, whose dates may be of either order, was looked through without a sign."""
    path = tmp_path / "file.csv.gz"
    rows = (f"c{n},m,{n * 7919 % 100003},0{n % 9 + 1}/0{n % 8 + 1}/2026\n" for n in range(20_000))
    path.write_bytes(gzip.compress(f"customer_id,metric_key,quantity,timestamp\n{''.join(rows)}".encode()))
    options, size = LoadOptions(timezone="UTC"), path.stat().st_size
    steps: list[tuple[int, int]] = []
    assert "day or the month" in check_file(path, options, show=lambda *step: steps.append(step)).problem
    assert {total for _, total in steps} == {size}
    assert len({done for done, _ in steps if done < size}) > 5
    before = len(steps)
    check_file(path, replace(options, time_format="%d/%m/%Y"), show=lambda *step: steps.append(step))
    assert len(steps) > before + 10

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_file(path, options, show=interrupt)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        (
            f"Who Pays,Stamp,Bytes Out,Region\na@x.org,{TIME},5,eu\n",
            "--map timestamp=Stamp --measure 'Bytes Out'",
        ),
        (
            f"account_email,created_at,ended_at,meter,units\na,{TIME},{TIME},x,5\n",
            "--map timestamp=created_at --map customer_id=account_email --map quantity=units --map metric_key=meter",
        ),
        (
            f"tenant,at,prompt_tokens,output_tokens,total_tokens,cost_usd\na,{TIME},1,2,3,0.5\n",
            "--map timestamp=at --map customer_id=tenant --map external_cost_amount=cost_usd"
            " --set external_cost_currency=USD --measure prompt_tokens --measure output_tokens",
        ),
        (
            'customer,metric,quantity,when\nMüller,seats,"1.234,50",01.10.2026 08:00\n',
            "--map timestamp=when --map customer_id=customer --map quantity=quantity --map metric_key=metric"
            " --timezone UTC --decimal ,",
        ),
        (
            f"user,event,time\na,login,{TIME}\nb,login,{TIME}\n",
            "--map timestamp=time --map customer_id=user --set quantity=1 --map metric_key=event",
        ),
    ],
)
def test_proposals_rest_on_meaning_and_content(tmp_path, text, command):
    found = check(tmp_path, text)
    words = shlex.split(found.command)[3:]
    options = shlex.split(command)
    pairs = set(zip(options[::2], options[1::2], strict=True)) - {("--map", "quantity=quantity")}
    assert set(zip(words[::2], words[1::2], strict=True)) == pairs
    assert found.is_proposed
    assert found.rejected == 0
    assert not found.missing


def proposed(folder, text, name="file.csv"):
    found = check(folder, text, name)
    return found, {*shlex.split(found.command.partition(name)[2])}


def test_a_cost_is_a_charge_and_no_count_of_billed_seconds(tmp_path):
    rows = "".join(
        f"x{n},+49{n},{start},{start + 3000},{start + 9000},{n}59,{n}.07375,16\n"
        for n, start in enumerate(range(1791813424032, 1791813454032, 10000))
    )
    found, words = proposed(tmp_path, "call_id,a_number,start_ts,answer_ts,end_ts,billed_sec,charge_eur,cause\n" + rows)
    assert {"external_cost_amount=charge_eur", "external_cost_currency=EUR", "timestamp=start_ts"} <= words
    assert [total.name for total in found.totals] == ["billed_sec"]


def test_an_amount_beside_a_currency_is_a_cost(tmp_path):
    text = f'Account,Date,API Calls,Seats,Amount,Currency\na,{TIME},5,2,"$1,234.00",USD\n'
    found, words = proposed(tmp_path, text)
    assert {"external_cost_amount=Amount", "external_cost_currency=Currency"} <= words
    assert [(cost.name, cost.amount) for cost in found.costs] == [("USD", Decimal(1234))]
    assert [total.name for total in found.totals] == ["API Calls", "Seats"]


def test_a_price_has_its_unit_or_total_beside_it(tmp_path):
    _, words = proposed(tmp_path, f"AccountSid,Category,StartDate,Usage,Price,PriceUnit\na,sms,{TIME},3,8.16,usd\n")
    assert {"external_cost_amount=Price", "external_cost_currency=PriceUnit"} <= words
    event = {
        "tenant": {"id": "t-0", "name": "T"}, "sku": "s", "amount": {"value": "8.5"}, "at": TIME,
        "price": {"total": 0.1, "currency": "EUR"},
    }  # fmt: skip
    _, words = proposed(tmp_path, json.dumps(event), "file.jsonl")
    assert {
        "customer_id=tenant.id", "external_cost_amount=price.total", "external_cost_currency=price.currency",
        "quantity=amount.value",
    } <= words  # fmt: skip
    _, words = proposed(tmp_path, f"Customer,SKU,Date,Qty,Price,Currency\na,s,{TIME},3,8.16,USD\n")
    assert "external_cost_amount=Price" not in words


def test_the_id_of_a_customer_comes_before_its_name(tmp_path):
    _, words = proposed(tmp_path, f"Customer Name,Customer ID,Date,Seats\nFoo,1000,{TIME},5\n")
    assert "customer_id=Customer ID" in words


def test_german_names_of_columns(tmp_path):
    text = "Kunde;Leistung;Menge;Stückpreis;Betrag (EUR);Datum\n"
    text += "a;Anrufe;5;0,20;1,00;01.10.2026\nb;SMS;2;0,10;0,20;02.10.2026\n"
    found, words = proposed(tmp_path, text)
    assert {
        "customer_id=Kunde", "metric_key=Leistung", "quantity=Menge", "external_cost_amount=Betrag (EUR)",
        "external_cost_currency=EUR", "timestamp=Datum",
    } <= words  # fmt: skip
    assert found.is_loadable


def test_a_sum_of_other_columns_is_no_measure(tmp_path):
    text = f"account,at,used_a,used_b,used\nx,{TIME},0.1,0.2,0.3\nx,{TIME},0.4,0.25,0.65\n"
    found, _ = proposed(tmp_path, text)
    assert [total.name for total in found.totals] == ["used_a", "used_b"]
    assert "used is the sum of used_a and used_b, so it is no measure" in str(found)
    other, _ = proposed(tmp_path, text.replace("0.65", "0.66"))
    assert [total.name for total in other.totals] == ["used_a", "used_b", "used"]


def test_amounts_in_a_list_are_not_counted_as_one(tmp_path):
    event = {"type": "usage", "at": TIME, "attributes": {"measurements": [{"usage_type": "hosts", "value": 3}]}}
    found, words = proposed(tmp_path, json.dumps(event), "file.jsonl")
    assert "quantity" in found.missing
    assert "quantity=1" not in words
    assert 'explode = "attributes.measurements"' in str(found)


def test_events_with_a_sparse_property_count_as_one(tmp_path):
    rows = [{"event": "view", "timestamp": TIME, "team_id": 7, "distinct_id": f"u{n}", "tokens": None} for n in "abc"]
    text = "\n".join(map(json.dumps, [*rows, {**rows[0], "tokens": 5}]))
    found, words = proposed(tmp_path, text, "file.jsonl")
    assert {"quantity=1", "customer_id=distinct_id"} <= words
    assert "tokens: 1 of 4" in str(found)
    assert found.is_loadable


def test_metrics_that_are_totals_are_noted(tmp_path):
    found, _ = proposed(tmp_path, f"account,Category,at,Usage\na,sms,{TIME},3\na,totalprice,{TIME},8\n")
    assert "rows of Category totalprice may be totals" in str(found)


def test_a_similar_spelling_is_no_proposal(tmp_path):
    found = check(tmp_path, "timestomp,quantily\nred,blue\ngreen,blue\n")
    assert found.missing == ("metric_key", "timestamp") or "timestamp" in found.missing
    assert "timestomp" not in found.command.replace(str(tmp_path), "")
    assert "--map timestamp=COLUMN" in found.command


def test_the_key_of_a_foreign_file_is_its_id(tmp_path):
    event = {"id": "ev-1", "time": TIME, "subject": "a", "data": {"duration": "1.5"}}
    found = check(tmp_path, json.dumps(event), "events.jsonl")
    assert "--map idempotency_key=id" in found.command
    assert (found.events, found.rejected) == (1, 0)
    assert found.totals[0].amount == Decimal("1.5")


@pytest.mark.parametrize(
    ("name", "ids", "is_key"),
    [
        ("event_id", ("e1", "e2"), True),
        ("Event ID", ("11", "12"), True),
        ("eventUuid", ("0b1c5bd2-54c6-4f0c-9c0e-7c3d5b8a0001", "0b1c5bd2-54c6-4f0c-9c0e-7c3d5b8a0002"), True),
        ("event_id", ("e1", "e1"), False),
        ("event_id", ("e1", ""), False),
        ("event_type_id", ("e1", "e2"), False),
    ],
)
def test_the_id_of_an_event_whose_values_differ_is_the_key(tmp_path, name, ids, is_key):
    """It became a dimension, so that the file with another option or column counted twice."""
    rows = "".join(f"c,calls,{n},{TIME},{id_}\n" for n, id_ in enumerate(ids))
    found = check(tmp_path, f"customer,metric,quantity,time,{name}\n{rows}")
    assert found.options.mapping.get("idempotency_key") == (name if is_key else None)
    assert (found.events, found.rejected, found.options.mapping["customer_id"]) == (2, 0, "customer")


def test_faults_are_shown_once_by_column(tmp_path):
    rows = "".join(f"c,m,x{n},{TIME}\n" for n in range(50))
    found = check(tmp_path, "customer_id,metric_key,quantity,timestamp\n" + rows)
    assert (found.rejected, found.events) == (50, 0)
    assert [str(fault) for fault in found.faults] == [
        f"{tmp_path}/file.csv, quantity, all 50 rows: 'x0' is not a decimal number (line 2), 'x1' (line 3),"
        " 'x2' (line 4)"
    ]


def test_an_open_order_of_day_and_month_is_a_problem(tmp_path):
    found = check(tmp_path, "customer_id,metric_key,quantity,timestamp\nc,m,1,03/04/2026\n")
    assert "is the day or the month first?" in found.problem
    assert "is the day or the month first?" in str(found)
    assert found.events == 0


def shown_by_command(path, *options):
    result = CliRunner().invoke(main, ["load", "--check", *options, "--", str(path)])
    return result.exit_code, result.stdout


@pytest.mark.parametrize(
    ("rows", "says", "is_offered"),
    [
        (f"c,m,x,{TIME}\nc,m,1,{TIME}\n", "1 of 2 rows is rejected", True),
        (f"c,m,x,{TIME}\n", "1 row of 1 rejected, none becomes an event", False),
    ],
)
def test_a_command_that_fails_is_not_recommended(tmp_path, rows, says, is_offered):
    path = tmp_path / "file.csv"
    path.write_text("customer_id,metric_key,quantity,timestamp\n" + rows)
    code, shown = shown_by_command(path)
    assert code == 1
    assert "Load it with" not in shown
    assert says in shown
    assert (f"Or leave 1 rejected row out:\n  usage-explore load {path} --skip-bad" in shown) is is_offered


def test_reading_stops_at_10_000_rejected_rows_as_loading_does(tmp_path):
    path = tmp_path / "file.csv"
    path.write_text("customer_id,metric_key,quantity,timestamp\n" + f"c,m,1,{TIME}\n" + f"c,m,x,{TIME}\n" * 10_500)
    found = check_file(path)
    assert (found.read, found.events, found.rejected, found.is_cut) == (10_001, 1, 10_000, True)
    code, shown = shown_by_command(path)
    assert code == 1
    assert "The rest of the file is not read after 10,000 rejected rows" in shown
    assert "Or leave all rejected rows out:" in shown
    code, shown = shown_by_command(path, "--skip-bad")
    assert code == 0
    assert "10,501 rows, 1 event, 10,500 rejected" in shown
    assert "not read" not in shown
    assert f"Load it without 10,500 rejected rows with:\n  usage-explore load {path} --skip-bad\n" in shown


def test_no_load_is_recommended_without_the_rows_that_skip_bad_would_leave_out(tmp_path):
    path = tmp_path / "file.csv"
    path.write_text(f"customer_id,metric_key,quantity,timestamp\nc,m,x,{TIME}\n")
    code, shown = shown_by_command(path, "--skip-bad")
    assert code == 1
    assert "none becomes an event" in shown
    assert "Load it" not in shown


def test_a_file_without_events_is_said_to_add_nothing(tmp_path, load):
    header = "customer_id,metric_key,quantity,timestamp\n"
    for text, says in (
        (header, "Loading it would add nothing: the file has no rows.\n"),
        ("customer_id,timestamp,calls\n" + f"c,{TIME},0\n" * 2, "its rows become no event.\n"),
    ):
        path = load.file("file.csv", text)
        options = ("--measure", "calls") if "calls" in text else ()
        code, shown = shown_by_command(path, *options)
        report = load(path, measures=["calls"] if options else [])
        assert (code, report.loaded, report.rejected) == (0, 0, 0)
        assert shown.endswith(says)
        assert "Load it" not in shown


def test_numbers_are_written_without_an_exponent_and_long_ones_short(tmp_path):
    rows = f"c,m,1E-7,{TIME},1E2,USD\nc,n,1E400,{TIME},2.50,USD\n"
    shown = str(
        check(
            tmp_path,
            "customer_id,metric_key,quantity,timestamp,external_cost_amount,external_cost_currency\n" + rows,
        )
    )
    lines = [line for line in shown.splitlines() if line.endswith("USD") and TIME[:10] in line]
    for line, quantity, cost in zip(lines, ("0.0000001", "100000000000… (401 digits)"), ("100", "2.5"), strict=True):
        assert f" {quantity} " in line
        assert line.split()[-2] == cost
    assert "  n: 100000000000… (401 digits) in 1 event\n" in shown
    assert "  cost: 102.5 USD\n" in shown


def test_names_of_metrics_and_currencies_add_no_lines(tmp_path):
    event = {"timestamp": TIME, "customer_id": "c", "quantity": "1", "external_cost_amount": "1"}
    named = {"metric_key": "a\nforged: 1", "external_cost_currency": "USD\nforged: 2"}
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(event | named))
    lines = shown_by_command(path)[1].splitlines()
    assert not [line for line in lines if line.startswith("forged")]
    assert "  a\\nforged: 1: 1 in 1 event" in lines


def test_the_command_repeats_every_option_that_was_given(tmp_path, monkeypatch):
    """Without `--organization-id` the copied command would load the events to the organization "local"."""
    path = tmp_path / "file.csv"
    path.write_text(f"customer_id,metric_key,quantity,timestamp,account\nc,m,1,{TIME},a\n")
    organization = "00000000-0000-4000-8000-000000000007"
    given = ["--replace", "--replace-by", "account", "--organization-id", organization, "--table", "public.usage"]
    code, shown = shown_by_command(path, *given)
    line = f"--replace --replace-by account --organization-id {organization} --table public.usage"
    assert code == 0
    assert f"Load it with:\n  usage-explore load {path} {line}\n" in shown
    assert "without an organization" not in shown
    assert "--database-url URL\n" in shown_by_command(path, "--database-url", "postgresql://u:secret@h/d")[1]
    monkeypatch.setenv("USAGE_EXPLORE_ORGANIZATION_ID", organization)
    assert f"{path} --organization-id {organization}\n" in shown_by_command(path)[1]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--replace"], "which stored events does the file supersede?"),
        (["--replace-by", "nothing"], "has no column 'nothing' to replace by"),
        (["--replace-by", "account"], "1 row without a value in account, which --replace needs in every row"),
        (["--replace-by", "price_key"], "2 rows without a value in price_key, which --replace needs in every row"),
        (["--organization-id", "foo"], "organization_id: 'foo' is not a UUID"),
    ],
)
def test_options_that_load_refuses_end_the_check(tmp_path, options, reason):
    path = tmp_path / "file.csv"
    path.write_text(f"customer_id,metric_key,quantity,timestamp,account\nc,m,1,{TIME},a\nc,m,2,{TIME},\n")
    done = CliRunner().invoke(main, ["load", "--check", *options, str(path)])
    assert done.exit_code == 1
    assert reason in done.output
    assert "Load it with" not in done.output


def test_missing_columns_are_an_exit_code(tmp_path):
    path = tmp_path / "file.csv"
    path.write_text("red,blue\ngreen,blue\n")
    code, shown = shown_by_command(path)
    assert code == 1
    assert "Load it with" not in shown
    assert "put the file's columns in place of COLUMN" in shown


@pytest.mark.parametrize(
    ("times", "formats"),
    [
        (("03/04/2026", "5/6/2026"), ("%d/%m/%Y", "%m/%d/%Y")),
        (("9/1/2026 12:00 AM",), ("%d/%m/%Y %I:%M %p", "%m/%d/%Y %I:%M %p")),
        (("03-04-2026 20:15:01",), ("%d-%m-%Y %H:%M:%S", "%m-%d-%Y %H:%M:%S")),
        (("03/13/2026", "13/03/2026"), ()),
    ],
)
def test_both_orders_of_day_and_month_are_offered(tmp_path, times, formats):
    path = tmp_path / "file.csv"
    path.write_text(
        "customer_id,metric_key,quantity,timestamp\n" + "".join(f"c,m{n},1,{time}\n" for n, time in enumerate(times))
    )
    code, shown = shown_by_command(path)
    assert code == 1
    assert "Load it with" not in shown
    assert [
        f"usage-explore load {path} --timezone UTC --time-format {shlex.quote(form)}\n" in shown for form in formats
    ] == [True for _ in formats]
    assert shown.count("\n  usage-explore load") == max(len(formats), 1)
    for form in formats:
        assert check_file(path, LoadOptions(time_format=form, timezone="UTC")).is_loadable


def test_a_file_named_like_an_option_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("--check").write_text(f"customer_id,metric_key,quantity,timestamp\nc,m,1,{TIME}\n")
    code, shown = shown_by_command("--check")
    assert code == 0
    assert "usage-explore load ./--check\n" in shown


def test_the_last_line_of_a_key_counts_as_it_is_loaded(tmp_path):
    preset = tmp_path / "mine.toml"
    preset.write_text(
        'last_line_wins = true\n[columns]\ntimestamp="at"\ncustomer_id="who"\nidempotency_key="id"\n[measures]\nn="n"\n'
    )
    found = check(tmp_path, f"id,at,who,n\nr,{TIME},a,1\nr,{TIME},a,10\n", preset=str(preset))
    assert [(total.name, total.amount) for total in found.totals] == [("n", Decimal(10))]


def test_the_numbers_are_those_of_the_load(tmp_path, load):
    path = load.file("file.csv", f"who,at,a,b,cost\nx,{TIME},1,2,0.5\ny,{TIME},0,3,0.25\nz,{TIME},1x,1,1\n")
    options = {
        "mapping": {"customer_id": "who", "timestamp": "at", "external_cost_amount": "cost"},
        "measures": ["a", "b"],
    }
    found = check_file(path, LoadOptions(**options))
    report = load(path, skip_bad=True, organization_id=None, **options)
    assert (report.loaded, report.rejected, report.read) == (found.events, found.rejected, found.read) == (3, 1, 3)
    stored = load.connection.execute("SELECT metric_key, sum(quantity) FROM usage_events GROUP BY 1").fetchall()
    assert dict(stored) == {total.name: total.amount for total in found.totals}
    assert load.connection.execute("SELECT sum(external_cost_amount) FROM usage_events").fetchone() == (
        found.costs[0].amount,
    )
    assert report.faults == found.faults


def test_the_command_checks_without_a_database(tmp_path, monkeypatch):
    monkeypatch.setenv("USAGE_EXPLORE_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    (tmp_path / "b.csv").write_text(f"customer_id,metric_key,quantity,timestamp\nc,m,1,{TIME}\n")
    (tmp_path / "a.csv").write_text(f"customer_id,metric_key,quantity,timestamp\nc,m,2,{TIME}\n")
    result = CliRunner().invoke(main, ["load", "--check", str(tmp_path / "*.csv")])
    assert result.exit_code == 0, result.output
    assert result.stdout.index("a.csv") < result.stdout.index("b.csv")
    assert result.stdout.count("1 row, 1 event, 0 rejected") == 2
    assert f"usage-explore load {tmp_path}/a.csv" in result.stdout
    nothing = CliRunner().invoke(main, ["load", "--check", str(tmp_path / "*.tsv")])
    assert nothing.exit_code == 1
    assert "no file matches" in nothing.stderr


def test_options_and_presets_are_listed():
    shown = CliRunner().invoke(main, ["load", "--help"]).stdout
    assert [shown.index(heading) for heading in ("Columns:", "Values:", "File:", "Loading:", "Database:")] == sorted(
        shown.index(heading) for heading in ("Columns:", "Values:", "File:", "Loading:", "Database:")
    )
    assert "focus" in CliRunner().invoke(main, ["load", "--list-presets"]).stdout
    wrong = CliRunner().invoke(main, ["load", "x.csv", "--set", "metric_key"])
    assert "--set: 'metric_key' is not COLUMN=VALUE" in wrong.stderr


@pytest.mark.parametrize(
    ("text", "options", "command"),
    [
        (
            "Day,Account Number,Service,Minutes,Charge (USD)\n2026-10-01,A-1,Voice,5,$1.5\n2026-10-02,A-2,SMS,6,$0.5\n",
            {"mapping": {"metric_key": "Service"}},
            "--map metric_key=Service --map timestamp=Day --map 'customer_id=Account Number'"
            " --map 'external_cost_amount=Charge (USD)' --map quantity=Minutes --set external_cost_currency=USD",
        ),
        (
            "Date,Customer,Metric,Qty,Currency,Cost\n2026-10-01,a,m,1,EUR,1\n2026-10-02,b,m,2,EUR,2\n",
            {"mapping": {"external_cost_amount": "Cost"}},
            "--map external_cost_amount=Cost --map timestamp=Date --map customer_id=Customer"
            " --map external_cost_currency=Currency --map quantity=Qty --map metric_key=Metric",
        ),
        (
            "Date,Customer,Metric,Qty,Cost,List Cost\n2026-10-01,a,m,1,1,2\n2026-10-02,b,n,2,3,4\n",
            {"mapping": {"external_cost_amount": "List Cost", "metric_key": "Metric", "quantity": "Qty"}},
            "--map 'external_cost_amount=List Cost' --map metric_key=Metric --map quantity=Qty --map timestamp=Date"
            " --map customer_id=Customer",
        ),
        (
            "Date,Customer,In,Out,Fee EUR\n2026-10-01,a,1,4,0.5\n2026-10-02,b,2,5,0.5\n",
            {"measures": ["In"]},
            "--map timestamp=Date --map customer_id=Customer --map 'external_cost_amount=Fee EUR'"
            " --set external_cost_currency=EUR --measure In",
        ),
        (
            "Date,Customer,Metric,Qty,Fee EUR\n2026-10-01,a,m,4,0.5\n2026-10-02,b,m,5,0.5\n",
            {"mapping": {"timestamp": "Date", "customer_id": "Customer", "metric_key": "Metric", "quantity": "Qty"}},
            "--map timestamp=Date --map customer_id=Customer --map metric_key=Metric --map quantity=Qty"
            " --map 'external_cost_amount=Fee EUR' --set external_cost_currency=EUR",
        ),
    ],
)
def test_an_option_replaces_the_proposal_of_its_own_column_alone(tmp_path, text, options, command):
    found = check(tmp_path, text, **options)
    assert found.command.partition("file.csv ")[2] == f"{command} --timezone UTC"
    assert found.rejected == 0


@pytest.mark.parametrize("column", ["Service", "Größe"])
def test_text_that_is_not_utf_8_is_read_as_cp1252_and_said(tmp_path, column):
    path = tmp_path / "file.csv"
    rows = "".join(f"2026-10-{n:02},Müller,ä,5 €\n" for n in range(1, 31))
    path.write_bytes(f"Date,Customer,{column},Qty\n{rows}x,é,ä,1\n".encode("cp1252"))
    found = check_file(path)
    assert (found.events, found.rejected) == (30, 1)
    assert found.examples[0][1]["customer_id"] == "Müller"
    assert column in found.names
    assert "the file is not UTF-8" in str(found)
    commands = [line for line in str(found).splitlines() if line.startswith("  usage-explore load")]
    assert len(commands) == 2
    assert all("--encoding cp1252" in line for line in commands)


def test_damaged_utf_8_is_not_read_as_cp1252(tmp_path):
    path = tmp_path / "file.csv"
    path.write_bytes(
        "Date,Customer,Metric,Qty\n2026-10-01,Müller,m,5\n2026-10-02,x�,m,6\n".encode().replace(
            b"\xef\xbf\xbd", b"\xfc"
        )
    )
    found = check_file(path)
    assert (found.events, found.rejected, found.options.encoding) == (1, 1, None)


def test_a_load_without_columns_says_that_the_text_is_not_utf_8(tmp_path, load):
    path = tmp_path / "file.csv"
    path.write_bytes("Datum;Kunde\n2026-10-01;Müller\n".encode("cp1252"))
    with pytest.raises(LoadError, match=r"is not UTF-8 text; .*--encoding cp1252"):
        load(path)


@pytest.mark.parametrize(
    "name", ["Kundennr", "Kundennummer", "Kunden-Nr.", "Customer No.", "accountid", "AccountNumber"]
)
def test_a_number_of_a_customer_is_no_measure(tmp_path, name):
    rows = "A;10000;x;1,5;01.10.2026\nB;10001;y;2,5;02.10.2026\nA;10000;y;2,5;13.10.2026\n"
    found, words = proposed(tmp_path, f"Kunde;{name};Artikel;Menge;Datum\n{rows}")
    assert {"metric_key=Artikel", "quantity=Menge"} <= words
    assert (f"customer_id={name}" in words) == (name != "accountid" and name != "AccountNumber")
    assert [(total.name, total.amount) for total in found.totals] == [("y", Decimal(5)), ("x", Decimal("1.5"))]


@pytest.mark.parametrize("name", ["customer", "Kunde", "client", "Customer Code", "tenant", "user", "project"])
@pytest.mark.parametrize("texts", [("cus_7", "newco 9", "4711", "4711"), ("1", "2", "3", "3")])
def test_a_customer_of_digits_is_the_customer(tmp_path, name, texts):
    """Where half of them were digits, the column was passed over, and the rows went to the customer "local"."""
    rows = "".join(f"{text},calls,{number},{TIME}\n" for number, text in enumerate(texts))
    found, words = proposed(tmp_path, f"{name},metric,qty,at\n{rows}")
    assert {f"customer_id={name}", "quantity=qty", "metric_key=metric"} <= words
    assert found.customers == 3


@pytest.mark.parametrize("name", ["Kunden", "users", "customer_total", "per customer", "user", "project"])
def test_an_amount_of_customers_is_no_customer(tmp_path, name):
    _, words = proposed(tmp_path, f"{name},metric,at\n1.5,calls,{TIME}\n2.25,calls,{TIME}\n7,calls,{TIME}\n")
    assert not any(word.startswith("customer_id=") for word in words)


@pytest.mark.parametrize("name", ["Metrik", "metrik", "Metrik-Name"])
def test_a_metric_in_german(tmp_path, name):
    text = f"Datum;Kunde;{name};Menge\n01.10.2026 08:00;Müller;aufrufe;3\n13.10.2026;Maier;speicher;4\n"
    _, words = proposed(tmp_path, text)
    assert {f"metric_key={name}", "quantity=Menge", "customer_id=Kunde"} <= words


@pytest.mark.parametrize(
    "name", ["Artikelnr", "Rechnungsnummer", "zipcode", "Error Code", "orderid", "Phone No", "MwSt"]
)
def test_columns_of_numbers_that_name_something_are_no_measures(tmp_path, name):
    found, _ = proposed(tmp_path, f"Customer,Date,{name},Calls\na,{TIME},5,2\n")
    assert [total.name for total in found.totals] == ["Calls"]
    found, _ = proposed(tmp_path, f"Customer,Date,Number of Calls\na,{TIME},5\n")
    assert [total.name for total in found.totals] == ["Number of Calls"]


@pytest.mark.parametrize(("sign", "currency"), [("£", "GBP"), ("€", "EUR"), ("₹", "INR"), ("$", None), ("¥", None)])
def test_a_sign_that_means_one_currency_names_it(tmp_path, sign, currency):
    found = check(tmp_path, f"Date,Customer,Metric,Qty,Fee\n{TIME},a,m,1,{sign}1.10\n{TIME},b,m,2,{sign}2.20\n")
    assert [(cost.name, cost.amount) for cost in found.costs] == [(currency, Decimal("3.3"))]


TWO_CURRENCIES = (("a", 1, "1.20", "EUR"), ("b", 2, "0.05", "USD"), ("a", 3, "2.10", "EUR"))
BY_CURRENCY = [("EUR", Decimal("3.3")), ("USD", Decimal("0.05"))]


def costs_of(found):
    return [(cost.name, cost.amount) for cost in found.costs]


@pytest.mark.parametrize(
    "header",
    [
        "Customer,Anz,Kosten,Whg,Date",
        "customer,calls,spend,ccy,when",
        "account,n,Amount,ccy,when",
        "customer_id,quantity,external_cost_amount,ccy,timestamp",
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "xlsx"])
def test_a_column_of_currency_codes_beside_a_cost_is_its_currency_whatever_its_name(tmp_path, header, suffix):
    """The costs of two currencies were added up, as 3.35 without a currency."""
    names = [*header.split(","), "metric_key"]
    rows = [(customer, n, cost, code, TIME, "calls") for customer, n, cost, code in TWO_CURRENCIES]
    path = tmp_path / f"file.{suffix}"
    if suffix == "csv":
        path.write_text("\n".join(",".join(map(str, row)) for row in (names, *rows)))
    else:
        book = openpyxl.Workbook()
        for row in (names, *((*row[:2], float(row[2]), *row[3:]) for row in rows)):
            book.active.append(row)
        book.save(path)
    found = check_file(path)
    assert costs_of(found) == BY_CURRENCY
    assert found.dimensions == ()
    assert f"--map external_cost_currency={names[3]}" in found.command
    assert not [note for note in found.notes if note.startswith("warning")]


def test_an_option_for_the_currency_wins_over_a_column_of_codes(tmp_path):
    text = f"Date,Customer,Calls,Cost,ccy,home\n{TIME},a,1,1.20,USD,EUR\n{TIME},b,1,0.05,EUR,EUR\n"
    found = check(tmp_path, text, constants={"external_cost_currency": "CHF"})
    assert costs_of(found) == [("CHF", Decimal("1.25"))]
    found = check(tmp_path, text, mapping={"external_cost_currency": "home"})
    assert costs_of(found) == [("EUR", Decimal("1.25"))]
    assert found.dimensions == ("ccy",)


@pytest.mark.parametrize(
    ("columns", "rows"),
    [
        ("ccy,home", ("USD,EUR", "EUR,EUR")),
        ("Local Currency,Billing Currency", ("USD,EUR", "EUR,EUR")),
        ("local currency,billing currency", ("usd,eur", "eur,eur")),
        ("Wallet,Note", ("USD,x", "EUR,y")),
        ("currency,billing_currency", ("USD,EUR", "USD,USD")),
        ("ccy,Note", ("EUR,x", "USD,y", "unknown,z")),
    ],
)
@pytest.mark.parametrize("proposals", [True, False])
def test_costs_are_not_added_up_silently_where_their_currency_is_ambiguous(tmp_path, columns, rows, proposals):
    text = f"timestamp,customer_id,metric_key,quantity,external_cost_amount,{columns}\n"
    path = tmp_path / "file.csv"
    path.write_text(text + "".join(f"{TIME},a,calls,{n},1.20,{row}\n" for n, row in enumerate(rows)))
    found = check_file(path, proposals=proposals)
    assert costs_of(found) == [(None, len(rows) * Decimal("1.2"))]
    begin = f"warning: the costs of {len(rows)} events have no currency"
    (warning,) = [note for note in found.notes if note.startswith(begin)]
    first, second = columns.split(",")
    assert f"{first!r} ({listed({row.split(',')[0] for row in rows})})" in warning
    assert (repr(second) in warning) == (second != "Note")
    assert warning in str(found)


@pytest.mark.parametrize(
    ("name", "values", "currencies"),
    [
        ("Group", ("EUR", "n/a"), ("EUR", "N/A")),
        ("Group", ("eur", "USD"), ("EUR", "USD")),
        ("Group", ("€", "$"), ("EUR", "$")),
        ("Group", ("€", "EUR", "$"), ("EUR", "$")),
        ("Group", ("EUR", "USD", "Euro"), ("EUR", "USD", "EURO")),
        ("Group", ("Euro", "US-Dollar"), ("EURO", "US-DOLLAR")),
        ("Group", ("€", "Schweizer Franken", "usd"), ("EUR", "SCHWEIZER FRANKEN", "USD")),
        ("currency", ("Euro", "US-Dollar"), ("EURO", "US-DOLLAR")),
    ],
)
def test_currencies_in_small_letters_signs_or_words_are_kept_apart(tmp_path, name, values, currencies):
    """They were one sum, without a warning."""
    rows = "".join(f"{TIME},a,1,1.20,{value}\n" for value in values)
    found = check(tmp_path, f"Date,Customer,Calls,Cost,{name}\n{rows}")
    rows_of = [sum(currency == {"€": "EUR"}.get(value, value.upper()) for value in values) for currency in currencies]
    assert costs_of(found) == [(name, n * Decimal("1.2")) for name, n in zip(currencies, rows_of, strict=True)]


@pytest.mark.parametrize("name", ["Cost (EUR)", "Cost (€)"])
def test_a_currency_in_the_name_of_the_costs_and_others_beside_it_are_said(tmp_path, name):
    """Half of the rows say dollars: all were euros without a word."""
    text = f"Date,Customer,Calls,{name},ccy,home\n{TIME},a,1,1.20,USD,EUR\n{TIME},b,1,0.05,EUR,EUR\n"
    found = check(tmp_path, text)
    assert costs_of(found) == [("EUR", Decimal("1.25"))]
    assert [note for note in found.notes if note.startswith("warning")] == [
        f"warning: {name!r} has the currency of the costs, and 'ccy' has EUR and USD: if that is theirs, choose it with"
        " --map external_cost_currency=ccy"
    ]


@pytest.mark.parametrize("currency", ["USD", "US-Dollar"])
def test_a_column_of_currencies_that_has_none_of_the_name_of_the_costs_is_said(tmp_path, currency):
    """The name says euros, and all were dollars without a word."""
    text = f"Date,Customer,Calls,Cost (EUR),currency\n{TIME},a,1,1.20,{currency}\n{TIME},b,1,0.05,{currency}\n"
    found = check(tmp_path, text)
    assert costs_of(found) == [(currency.upper(), Decimal("1.25"))]
    assert [note for note in found.notes if note.startswith("warning")] == [
        f"warning: 'currency' has {currency}, and the name 'Cost (EUR)' has EUR: if that is the currency of the costs, "
        "set it with --set external_cost_currency=EUR"
    ]
    found = check(tmp_path, text.replace(currency, "EUR"))
    assert not [note for note in found.notes if note.startswith("warning")]


@pytest.mark.parametrize(
    ("columns", "amount", "codes"),
    [
        ("Cost (EUR)", "$76.85", "EUR"),
        ("Cost (USD)", "€76.85", "USD"),
        ("Cost (GBP)", "¥7", "GBP"),
        ("Cost,ccy", "€1.5,USD", "USD"),
    ],
)
def test_a_sign_of_another_currency_than_the_costs_have_is_said(tmp_path, columns, amount, codes):
    found = check(tmp_path, f"Date,Customer,Calls,{columns}\n{TIME},a,1,{amount}\n{TIME},b,1,{amount}\n")
    assert [name for name, _ in costs_of(found)] == [codes]
    (warning,) = [note for note in found.notes if note.startswith("warning")]
    sign = next(letter for letter in amount if letter in "$€¥")
    assert warning.startswith(f"warning: costs have the sign {sign} beside {codes} in 2 rows of the first 1,000")


@pytest.mark.parametrize(("columns", "amount"), [("Cost (CAD)", "$1"), ("Cost (EUR)", "€1"), ("Cost,ccy", "US$1,USD")])
def test_a_sign_of_the_currency_that_the_costs_have_is_not_said(tmp_path, columns, amount):
    found = check(tmp_path, f"Date,Customer,Calls,{columns}\n{TIME},a,1,{amount}\n{TIME},b,1,{amount}\n")
    assert len(costs_of(found)) == 1
    assert not [note for note in found.notes if note.startswith("warning")]


def test_amounts_with_signs_of_several_currencies_are_refused(tmp_path):
    header = "timestamp,customer_id,metric_key,quantity,external_cost_amount"
    rows = f"{TIME},a,m,1,€22.36\n{TIME},b,m,1,78.66\n{TIME},c,m,1,-$1.5\n{TIME},d,m,1,3 €\n"
    found = check(tmp_path, f"{header}\n{rows}")
    assert found.rejected == 1
    assert "'-$1.5' has another currency sign than '€22.36': name the column of the currencies" in str(found)
    coded = rows.replace("\n", ",EUR\n").replace("$1.5,EUR", "$1.5,USD")
    found = check(tmp_path, f"{header},external_cost_currency\n{coded}")
    assert costs_of(found) == [("EUR", Decimal("104.02")), ("USD", Decimal("-1.5"))]


@pytest.mark.parametrize(
    "values", [("ALL", "TOP"), ("XYZ", "EUR"), ("EUR ltd", "USD"), ("try", "all"), ("pound", "pounds")]
)
def test_other_values_are_no_currency_of_a_cost(tmp_path, values):
    rows = "".join(f"{TIME},a,1,1.20,{value}\n" for value in values)
    found = check(tmp_path, f"Date,Customer,Calls,Cost,Group\n{rows}")
    assert costs_of(found) == [(None, Decimal("2.4"))]
    assert found.dimensions == ("Group",)
    assert not [note for note in found.notes if note.startswith("warning")]


def test_of_several_columns_of_currencies_the_one_of_the_cost_is_proposed(tmp_path):
    rows = f"{TIME},a,1,1.20,USD,EUR\n{TIME},b,1,0.05,EUR,EUR\n"
    for columns in ("Price Currency,Cost Currency", "Wallet Currency,ccy"):
        found = check(tmp_path, f"Date,Customer,Calls,Cost,{columns}\n{rows}")
        assert costs_of(found) == [("EUR", Decimal("1.25"))], columns
    found = check(tmp_path, f"Date,Customer,Calls,Cost USD,ccy,x\n{rows}")
    assert costs_of(found) == [("USD", Decimal("1.25"))], "the name of the cost has the currency"


def test_a_price_of_a_row_of_several_amounts_is_a_cost(tmp_path):
    _, words = proposed(
        tmp_path, f"created,team,deployment,tokens_in,tokens_out,price,currency\n{TIME},a,x,5,6,0.5,USD\n"
    )
    assert {"external_cost_amount=price", "external_cost_currency=currency"} <= words
    _, words = proposed(tmp_path, f"created,team,seats,price,currency\n{TIME},a,5,0.5,USD\n")
    assert "external_cost_amount=price" not in words


@pytest.mark.parametrize(
    "months", [("Jul 2026", "Aug 2026"), ("October 2026", "November 2026"), ("2026-10", "2026-11")]
)
@pytest.mark.parametrize("column", ["Month", "Period"])
def test_whole_months_are_times(tmp_path, months, column):
    found, words = proposed(tmp_path, f"{column},Client,Units\n{months[0]},a,1\n{months[1]},b,2\n")
    assert {f"timestamp={column}", "customer_id=Client", "Units"} <= words
    assert (found.first.day, found.last.day, found.last.month - found.first.month) == (1, 1, 1)
    assert "2 whole months in timestamp read as midnight of its first day in UTC" in found.notes


def test_a_list_of_events_deep_in_a_response_is_named(tmp_path):
    item = {"account": {"id": "c0"}, "meter": "gb", "usage": {"value": 5, "recordedAt": TIME}}
    response = {"ok": True, "meta": {"page": 1, "links": [{"rel": "self"}]}, "result": {"usage": [item, item]}}
    found = check(tmp_path, json.dumps(response), "file.json")
    assert "timestamp" in found.missing
    assert "in the list 'result.usage'" in str(found)
    assert 'explode = "result.usage"' in str(found)
    assert "meta.page" not in found.command


def test_an_option_names_a_column_in_any_case(tmp_path):
    text = 'Date,Customer,Metric,Qty,Currency,Cost\n01.10.2026,a,m,1,EUR,"1,5"\n02.10.2026,b,m,2,EUR,"2,5"\n'
    found = check(tmp_path, text, mapping={"external_cost_amount": "cost", "timestamp": "date"})
    assert found.options.mapping["external_cost_currency"] == "Currency"
    assert (found.options.timezone, found.options.decimal) == ("UTC", ",")
    assert [(cost.name, cost.amount) for cost in found.costs] == [("EUR", Decimal(4))]


@pytest.mark.parametrize("name", ["Subscriber", "Mandant"])
def test_subscribers_and_mandants_are_customers(tmp_path, name):
    _, words = proposed(tmp_path, f"Bill Date,{name},Qty\n{TIME},a,5\n{TIME},b,6\n")
    assert f"customer_id={name}" in words


def test_events_in_the_future_are_warned_of_before_and_after_loading(tmp_path, load):
    """Local times of Kathmandu, read as UTC, were 5 hours 24 minutes ahead without a word."""
    now = datetime.now(UTC)
    moments = [now - timedelta(hours=1), now + timedelta(minutes=2), now + timedelta(hours=5, minutes=24)]
    text = "customer_id,metric_key,quantity,timestamp\n" + "".join(f"a,x,1,{moment:%F %T}\n" for moment in moments)
    checked = check(tmp_path, text, timezone="UTC")
    report = load.csv(text, timezone="UTC")
    assert checked.future == report.future == 1
    warning = "warning: 1 event is 5 hours 24 minutes in the future: is the time zone right?"
    assert warning in str(checked)
    assert warning in str(report)
    earlier = check(tmp_path, text, timezone="Asia/Kathmandu")
    assert earlier.future == 0
    assert "warning" not in str(earlier)


def test_the_browsers_zone_is_proposed_where_it_is_known(tmp_path):
    path = tmp_path / "file.csv"
    path.write_text("customer_id,metric_key,quantity,timestamp\na,x,1,2026-01-31 08:00:00\n")
    assert check_file(path).options.timezone == "UTC"
    found = check_file(path, browser_timezone="Asia/Kathmandu")
    assert found.options.timezone == "Asia/Kathmandu"
    assert "Asia/Kathmandu, the browser's zone, is a guess" in found.reasons["timezone"]


def test_names_of_an_own_export_are_shown_as_names_and_no_dimensions(tmp_path):
    found = check(tmp_path, f"customer_id,customer_name,metric_key,quantity,timestamp,region\nc,C,m,1,{TIME},eu\n")
    assert found.dimensions == ("region",)
    assert ("name of customer_id", "customer_name") in [(one.column, one.source) for one in found.mapping]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("plan.csv", "User,Model,Tokens,Date\n", "a header and no rows; its columns are User, Model, Tokens, Date"),
        ("plan.csv", "timestamp,quantity\n\n", "a header and no rows; its columns are timestamp, quantity"),
    ],
)
def test_a_file_with_other_columns_and_no_rows_is_said_to_have_no_rows(load, name, text, words):
    """Options for the columns were proposed, though there was nothing to load."""
    path = load.file(name, text)
    for refuse in (lambda: check_file(path), lambda: load(path), lambda: load(path, organization_id=None)):
        with pytest.raises(LoadError, match=f"the file has {words}; there is nothing to load"):
            refuse()


@pytest.mark.parametrize(("name", "text"), [("a.json", "[]"), ("a.ndjson", "\n"), ("a.jsonl", "")])
@pytest.mark.parametrize("organization_id", [None, LOCAL_ORGANIZATION])
def test_json_without_rows_loads_nothing_as_a_header_alone_does(load, name, text, organization_id):
    """A nightly export without an event ended with code 1."""
    path = load.file(name, text)
    code, shown = shown_by_command(path)
    report = load(path, organization_id=organization_id)
    assert (code, report.loaded, report.rejected) == (0, 0, 0)
    assert shown.endswith("Loading it would add nothing: the file has no rows.\n")
    assert "the file has no rows" in str(report)


@pytest.mark.parametrize(
    ("names", "mapping"),
    [
        (
            ("Zeitstempel", "Kunde", "Zähler", "Menge", "Kosten", "Währung"),
            ("Kunde", "Zähler", "Menge", "Zeitstempel", "Kosten", "Währung"),
        ),
        (
            ("Date", "Client", "Compteur", "Quantité", "Montant", "Devise"),
            ("Client", "Compteur", "Quantité", "Date", "Montant", "Devise"),
        ),
        (
            ("Fecha", "Cliente", "Contador", "Cantidad", "Importe", "Moneda"),
            ("Cliente", "Contador", "Cantidad", "Fecha", "Importe", "Moneda"),
        ),
        (
            ("Fecha", "Cliente", "Medidor", "Cantidad", "Importe", "Divisa"),
            ("Cliente", "Medidor", "Cantidad", "Fecha", "Importe", "Divisa"),
        ),
        (
            ("Horodatage", "Compte", "Metrique", "Quantite", "Cout", "Monnaie"),
            ("Compte", "Metrique", "Quantite", "Horodatage", "Cout", "Monnaie"),
        ),
        (
            ("Data", "Cliente", "Contatore", "Quantità", "Importo", "Valuta"),
            ("Cliente", "Contatore", "Quantità", "Data", "Importo", "Valuta"),
        ),
        (
            ("Datum", "Klantnummer", "Dienst", "Aantal", "Bedrag", "Valuta"),
            ("Klantnummer", "Dienst", "Aantal", "Datum", "Bedrag", "Valuta"),
        ),
        (
            ("Datum", "Benutzer", "Zaehler", "Verbrauch", "Gebuehr", "Waehrung"),
            ("Benutzer", "Zaehler", "Verbrauch", "Datum", "Gebuehr", "Waehrung"),
        ),
    ],
)
def test_headings_in_other_languages_are_understood(tmp_path, names, mapping):
    """The meter was a dimension and the name of the amount the metric; costs were a quantity, customers "local"."""
    rows = [f"0{day}.10.2026;C{day % 2};{meter};{day},5;2,1;EUR" for day in range(1, 5) for meter in ("gas", "kWh")]
    found = check(tmp_path, "\n".join([";".join(names), *rows]))
    columns = ("customer_id", "metric_key", "quantity", "timestamp", "external_cost_amount", "external_cost_currency")
    assert {one.column: one.source for one in found.mapping if one.column in columns} == dict(
        zip(columns, mapping, strict=True)
    )


def test_the_number_of_a_meter_is_no_metric(tmp_path):
    rows = [f"0{day}.10.2026;{day % 2};Z{day % 2};{day},5" for day in range(1, 5)]
    found = check(tmp_path, "\n".join(["Datum;Kundennummer;Zählernummer;Verbrauch", *rows]))
    assert [(total.name, total.amount) for total in found.totals] == [("Verbrauch", Decimal(12))]
