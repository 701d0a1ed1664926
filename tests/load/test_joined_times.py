"""Times that a file has in two columns, of the date and of the time of day: `--map timestamp=Date+Time`."""

from __future__ import annotations

import json
import shlex
from datetime import date, datetime, time
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from usage_explore.app.load.pickers import _Source
from usage_explore.cli.main import main
from usage_explore.errors import LoadError
from usage_explore.load import LoadOptions, check_file

JOINED = {"mapping": {"timestamp": "Date+Time"}, "timezone": "Europe/Berlin"}
HEADER = "customer_id,metric_key,quantity,Date,Time,note\n"


def instants(load) -> list[str]:
    return [moment.isoformat() for (moment,) in load.rows("timestamp")]


def test_two_columns_give_the_time_and_no_dimensions(load_again):
    load_again.csv(HEADER + "a,m,1,2026-10-03,10:00,x\na,m,2,2026-10-25,2:30 PM,y\n", **JOINED)
    assert instants(load_again) == ["2026-10-03T08:00:00+00:00", "2026-10-25T13:30:00+00:00"]
    assert load_again.rows("dimensions") == [({"note": "x"},), ({"note": "y"},)]


def test_case_and_spaces_do_not_matter_and_the_order_of_day_and_month_is_decided(load_again):
    rows = HEADER + "a,m,1,03/04/2026,10:00,\na,m,1,13/04/2026,10:00,\n"
    report = load_again.csv(rows, mapping={"timestamp": "date + TIME"}, timezone="UTC")
    assert instants(load_again) == ["2026-04-03T10:00:00+00:00", "2026-04-13T10:00:00+00:00"]
    assert "timestamp: the day is first, by line 3: '13/04/2026 10:00'" in str(report)


def test_a_column_with_a_plus_in_its_name_is_that_column(load_again):
    text = "customer_id,metric_key,quantity,Date+Time,Date,Time\na,m,1,2026-10-03T10:00:00Z,2026-01-01,00:00\n"
    load_again.csv(text, mapping={"timestamp": "Date+Time"})
    assert instants(load_again) == ["2026-10-03T10:00:00+00:00"]


def test_a_form_is_that_of_the_joined_text(load_again):
    options = {**JOINED, "time_format": "%Y%m%d %H%M"}
    load_again.csv(HEADER + "a,m,1,20261003,1000,\n", **options)
    assert instants(load_again) == ["2026-10-03T08:00:00+00:00"]


def test_a_preset_joins_columns_too(load_again, tmp_path):
    preset = tmp_path / "mine.toml"
    preset.write_text('timezone = "Europe/Berlin"\n[columns]\ntimestamp = ["Date+Time"]\n')
    load_again.csv(HEADER + "a,m,1,2026-10-03,10:00,\n", preset=str(preset))
    assert instants(load_again) == ["2026-10-03T08:00:00+00:00"]


def test_paths_in_json_are_joined(load_again):
    event = {"customer_id": "a", "metric_key": "m", "quantity": 1, "at": {"day": "2026-10-03", "clock": "10:00"}}
    file = load_again.file("events.jsonl", json.dumps(event) + "\n")
    load_again(file, mapping={"timestamp": "at.day+at.clock"}, timezone="UTC")
    assert instants(load_again) == ["2026-10-03T10:00:00+00:00"]
    assert load_again.rows("dimensions") == [({},)]


@pytest.mark.parametrize("suffix", ["xlsx", "parquet"])
def test_typed_dates_and_times_of_day_are_joined(load_again, tmp_path, suffix):
    path = tmp_path / f"events.{suffix}"
    columns = {
        "customer_id": ["a"], "metric_key": ["m"], "quantity": [1], "Date": [date(2026, 10, 3)],
        "Time": [time(10, 0, 5)],
    }  # fmt: skip
    if suffix == "xlsx":
        book = openpyxl.Workbook()
        book.active.append([*columns])
        book.active.append([values[0] for values in columns.values()])
        book.save(path)
    else:
        pq.write_table(pa.table(columns), path)
    load_again(path, **JOINED)
    assert instants(load_again) == ["2026-10-03T08:00:05+00:00"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a,m,1,2026-10-03,,", "has a value in 'Date', but none in 'Time'"),
        ("a,m,1,,10:00,", "has a value in 'Time', but none in 'Date'"),
        ("a,m,1,2026-10-03,25:00,", "'2026-10-03 25:00' is not a time"),
        ("a,m,1,2026-10-03,soon,", "'2026-10-03 soon' is not a time"),
        ("a,m,1,2026-10-03 08:00,10:00,", "'2026-10-03 08:00 10:00' is not a time"),
        ("a,m,1,,,", "is missing"),
    ],
)
def test_errors_name_both_columns(load_again, row, reason):
    with pytest.raises(LoadError) as refused:
        load_again.csv(HEADER + row + "\n", **JOINED)
    assert f"timestamp (from 'Date+Time'): {reason}" in str(refused.value)
    assert load_again.count() == 0


def test_a_part_that_the_file_lacks_is_named(load_again):
    with pytest.raises(LoadError, match=r"no column 'Tme' of 'Date\+Tme' to map to timestamp \(did you mean Time\?\)"):
        load_again.csv(HEADER + "a,m,1,2026-10-03,10:00,\n", mapping={"timestamp": "Date+Tme"}, timezone="UTC")


def test_numbers_are_not_joined(load_again):
    with pytest.raises(LoadError, match=r"has no column 'Date\+Time' to map to price_key"):
        load_again.csv(HEADER + "a,m,1,2026-10-03,10:00,\n", mapping={"price_key": "Date+Time"}, timezone="UTC")


@pytest.mark.parametrize(
    ("header", "source"),
    [
        ("Datum,Uhrzeit,Dauer", "Datum+Uhrzeit"),
        ("Call Date,Call Time,Talk Time", "'timestamp=Call Date+Call Time'"),
        ("timestamp,time,duration", "timestamp+time"),
    ],
)
def test_a_check_proposes_the_time_of_day_and_its_command_loads_it(tmp_path, header, source):
    path = tmp_path / "calls.csv"
    path.write_text(f"{header},customer_id,metric_key,quantity\n13.10.2026,10:00,00:05:00,a,m,5\n")
    checked = check_file(path)
    assert checked.is_loadable
    assert source in checked.command
    assert checked.examples[0][1]["timestamp"] == "2026-10-13T10:00:00+00:00"
    assert checked.reasons["timestamp"] == "dates, and their times of day"
    arguments = shlex.split(checked.command)[1:]
    run = CliRunner().invoke(main, [*arguments, "--check"])
    assert run.exit_code == 0, run.output
    assert "2026-10-13T10:00:00+00:00" in run.output


def test_a_duration_is_no_time_of_day(tmp_path):
    path = tmp_path / "calls.csv"
    path.write_text("Date,Talk Time,customer_id,metric_key,quantity\n2026-10-13,00:05:00,a,m,5\n")
    assert "--map timestamp=Date " in check_file(path).command


def test_a_stated_column_is_kept_and_the_time_of_day_named(tmp_path):
    path = tmp_path / "calls.csv"
    path.write_text("Date,Time,customer_id,metric_key,quantity\n2026-10-13,10:00,a,m,5\n")
    checked = check_file(path, LoadOptions(mapping={"timestamp": "Date"}, timezone="UTC"))
    assert "join it with --map timestamp=Date+Time" in "".join(checked.notes)
    assert checked.first == datetime.fromisoformat("2026-10-13T00:00:00+00:00")


def test_open_dates_of_two_columns_are_asked_for_with_the_form_of_both(tmp_path: Path):
    path = tmp_path / "calls.csv"
    path.write_text("Date,Time,customer_id,metric_key,quantity\n3/4/2026,10:00,a,m,5\n")
    checked = check_file(path)
    assert [meaning for meaning, _ in checked.alternatives] == ["the day is first", "the month is first"]
    assert "'%m/%d/%Y %H:%M'" in checked.alternatives[1][1]


def test_a_row_with_one_part_does_not_end_the_search_for_the_order(load_again):
    rows = "a,m,1,03/04/2026,,\na,m,1,13/04/2026,10:00,\n"
    load_again.csv(HEADER + rows, **JOINED, skip_bad=True)
    assert instants(load_again) == ["2026-04-13T08:00:00+00:00"]


def test_a_file_is_opened_four_times_by_a_check_and_three_times_by_a_load(load_again, monkeypatch):
    opened = []
    original = LoadOptions.open
    monkeypatch.setattr(LoadOptions, "open", lambda self, file: opened.append(file) or original(self, file))
    text = "customer_id,metric_key,quantity,timestamp,ingested_at\na,m,1,13/04/2026,14/04/2026\n"
    load_again.csv(text, timezone="UTC")
    assert len(opened) == 3
    opened.clear()
    assert check_file(load_again.folder / "events.csv", LoadOptions(timezone="UTC")).is_loadable
    assert len(opened) == 4


def test_the_picker_of_the_app_keeps_joined_columns(tmp_path):
    path = tmp_path / "calls.csv"
    path.write_text("Date,Time,customer_id,metric_key,quantity\n2026-10-13,10:00,a,m,5\n")
    source = _Source.of(check_file(path), "timestamp")
    assert source.chosen == "Date+Time"
    assert [source.meant(picked) for picked in ("Date+Time", "Date")] == [("map", "Date+Time"), ("map", "Date")]
