"""Numbers and times as people write them: decimal commas, currency signs, zones, epochs, day and month."""

from __future__ import annotations

import subprocess
import sys
from datetime import date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from support.small_table import workbook
from support.waiting import PATIENCE
from usage_explore.errors import ConfigurationError, LoadError
from usage_explore.files.decimal_marks import OpenPoints
from usage_explore.files.values import InvalidValue
from usage_explore.load.numbers import number_reader
from usage_explore.load.times import TimeReader

EVENT = "customer_id,metric_key,quantity,timestamp\n"


@pytest.mark.parametrize(
    ("text", "decimal", "number"),
    [
        ("$0.42", None, "0.42"),
        ("-$0.42", None, "-0.42"),
        ("($1.50)", None, "-1.50"),
        ("0.5 €", None, "0.5"),
        ("US$ 3", None, "3"),
        ("1,234.50", ".", "1234.50"),
        ("$1,234,567.8", ".", "1234567.8"),
        ("1.234,50", ",", "1234.50"),
        ("7,25", ",", "7.25"),
        ("-1 234,5", ",", "-1234.5"),
        ("1'234.5", ".", "1234.5"),
        ("12", ",", "12"),
        ("0.12345678901234567890123456789", ".", "0.12345678901234567890123456789"),
    ],
)
def test_a_number_is_read_as_it_is_meant(text, decimal, number):
    assert number_reader(decimal)(text) == number


@pytest.mark.parametrize(
    ("text", "decimal", "reason"),
    [
        ("1,234", None, "name the decimal mark: --decimal . or --decimal ,"),
        ("7,25", None, "name the decimal mark"),
        ("$1,234.50", None, "name the decimal mark"),
        ("7,25", ".", "has a comma"),
        ("1.5", ",", "has a point where the decimal mark is a comma"),
        ("1,2,3", ",", "is not a number with a decimal comma"),
        ("12,34,567.8", ".", "has a comma"),
        ("-", None, "is not a decimal number"),
        ("", None, "is not a decimal number"),
        ("()", None, "is not a decimal number"),
    ],
)
def test_a_number_that_may_mean_two_things_is_refused(text, decimal, reason):
    with pytest.raises(InvalidValue, match=reason):
        number_reader(decimal)(text)


@pytest.mark.parametrize(
    "text",
    [
        "customer_id;metric_key;quantity;timestamp\na;m;1.200;2026-01-01T00:00:00Z\nb;m;12;2026-01-02T00:00:00Z\n",
        "customer_id\tmetric_key\tquantity\ttimestamp\tprice\na\tm\t1.200\t2026-01-01T00:00:00Z\t0,0042\n",
        "customer_id\tmetric_key\tquantity\ttimestamp\na\tm\t1.200\t2026-01-01T00:00:00Z\n",
        "customer_id|metric_key|quantity|timestamp\na|m|1.200|2026-01-01T00:00:00Z\n",
        "customer_id;metric_key;quantity;timestamp;price\na;m;1.200;2026-01-01T00:00:00Z;0,0042\n"
        "b;m;12345;2026-01-02T00:00:00Z;0,5\n",
        workbook({"S": [[*EVENT.strip().split(",")], ["a", "m", "1.200", "2026-01-01T00:00:00Z"]]}),
    ],
)
@pytest.mark.parametrize(("mark", "quantity"), [(",", 1200), (".", Decimal("1.2"))])
def test_a_point_that_may_separate_thousands_is_refused_without_a_decimal_mark(load_again, text, mark, quantity):
    with pytest.raises(LoadError, match=r"quantity: '1.200' \(line 2\) may be 1200 or 1.200, as .* --decimal ,"):
        load_again.csv(text)
    assert load_again.count() == 0
    load_again.csv(text, decimal=mark)
    assert load_again.rows("quantity")[0] == (quantity,)


@pytest.mark.parametrize(
    ("numbers", "is_open"),
    [
        ("1.250 999", True),
        ("1.250 0 012345 - 12a45", True),
        ("198.218 214563", False),
        ("-198.218 -214563", False),
        ("214563 198.218 2.000.000", False),
        ("12.345 1234", True),  # in Spanish and Polish the mark begins with five digits
        ("12.345 1234 1.250", False),
        ("1.250 1250", False),
    ],
)
def test_a_number_without_a_thousands_mark_says_that_points_are_none(numbers: str, is_open: bool) -> None:
    """214563 beside 198.218 was no answer to whether its point separates thousands, and the file was refused."""
    points = OpenPoints(["menge"])
    for line, number in enumerate(numbers.split(), 2):
        points.see("menge", line, number)
    assert bool(points.question("fields are separated by semicolons")) == is_open
    assert points.question("a column has decimal commas", has_commas=True)


@pytest.mark.parametrize("other", ["0.125", "1.25", "1000.125", "214563"])
def test_a_number_that_only_a_decimal_point_explains_decides_for_its_column(load_again, other):
    rows = f"a;m;1.200;2026-01-01T00:00:00Z\nb;m;{other};2026-01-02T00:00:00Z\n"
    load_again.csv("customer_id;metric_key;quantity;timestamp\n" + rows)
    assert load_again.rows("quantity") == [(Decimal("1.2"),), (Decimal(other),)]


def test_a_point_in_a_file_with_commas_is_a_decimal_mark(load_again):
    load_again.csv(EVENT.strip() + ',note\na,m,1.200,2026-01-01T00:00:00Z,"1,5 or 2"\n')
    assert load_again.rows("quantity") == [(Decimal("1.2"),)]


@pytest.mark.parametrize(
    ("text", "zone", "instant", "counted"),
    [
        ("2026-07-01 10:00", "Europe/Berlin", "2026-07-01T08:00:00+00:00", ["local_times"]),
        ("2026-01-01T10:00:00", "Asia/Kathmandu", "2026-01-01T04:15:00+00:00", ["local_times"]),
        ("2026-01-01T10:00:00+05:45", None, "2026-01-01T04:15:00+00:00", []),
        ("2026-01-01T10:00:00.1234567Z", None, "2026-01-01T10:00:00.123456+00:00", ["truncated"]),
        ("2026-01-01T10:00:00.1234560Z", None, "2026-01-01T10:00:00.123456+00:00", []),
        ("2026-10-01 12:00:00 +0000 UTC", None, "2026-10-01T12:00:00+00:00", []),
        ("2026-07-01", "Europe/Berlin", "2026-06-30T22:00:00+00:00", ["dates"]),
        ("2026/07/01 9:05", "UTC", "2026-07-01T09:05:00+00:00", ["local_times"]),
        ("20260701", "UTC", "2026-07-01T00:00:00+00:00", ["dates"]),
        ("01.07.2026 08:00", "UTC", "2026-07-01T08:00:00+00:00", ["local_times"]),
        ("Jul 1, 2026 12:30 AM", "UTC", "2026-07-01T00:30:00+00:00", ["local_times"]),
        ("1 July 2026", "UTC", "2026-07-01T00:00:00+00:00", ["dates"]),
        ("01-Jul-2026 23:59:59", "UTC", "2026-07-01T23:59:59+00:00", ["local_times"]),
        ("Sat, 03 Oct 2026 10:00:00 GMT", None, "2026-10-03T10:00:00+00:00", []),
        ("Sat, 3 Oct 2026 10:00:00 +0200", None, "2026-10-03T08:00:00+00:00", []),
        ("Sat, 3 Oct 2026 10:00 +0200 (CEST)", None, "2026-10-03T08:00:00+00:00", []),
        ("3. Oktober 2026", "Europe/Berlin", "2026-10-02T22:00:00+00:00", ["dates"]),
        ("Samstag, 3. Oktober 2026 um 10:00 Uhr", "Europe/Berlin", "2026-10-03T08:00:00+00:00", ["local_times"]),
        ("3. März 2026, 8:05", "UTC", "2026-03-03T08:05:00+00:00", ["local_times"]),
        ("3. Ma\u0308rz 2026", "UTC", "2026-03-03T00:00:00+00:00", ["dates"]),
        ("03.Dez.2026", "UTC", "2026-12-03T00:00:00+00:00", ["dates"]),
        ("3 Oct 2026", "UTC", "2026-10-03T00:00:00+00:00", ["dates"]),
        ("2026-10", "UTC", "2026-10-01T00:00:00+00:00", ["months"]),
        ("10/2026", "UTC", "2026-10-01T00:00:00+00:00", ["months"]),
        ("Jul 2026", "Europe/Berlin", "2026-06-30T22:00:00+00:00", ["months"]),
        ("Oktober 2026", "UTC", "2026-10-01T00:00:00+00:00", ["months"]),
        ("Oct-2026", "UTC", "2026-10-01T00:00:00+00:00", ["months"]),
        ("October 3rd, 2026 at 8:00 p.m.", "UTC", "2026-10-03T20:00:00+00:00", ["local_times"]),
        ("03/Oct/2026:10:00:00 +0200", None, "2026-10-03T08:00:00+00:00", []),
        ("2026-07-01 10:00 CEST", "Europe/Berlin", "2026-07-01T08:00:00+00:00", ["local_times"]),
        ("2026-10-25 02:30 CET", "Europe/Berlin", "2026-10-25T01:30:00+00:00", ["local_times"]),
        ("2026-10-25 02:30 CEST", "Europe/Berlin", "2026-10-25T00:30:00+00:00", ["local_times"]),
        ("2026-03-29 02:30", "Europe/Berlin", "2026-03-29T01:30:00+00:00", ["local_times", "ambiguous"]),
        ("2026-10-25 02:30", "Europe/Berlin", "2026-10-25T00:30:00+00:00", ["local_times", "ambiguous"]),
        ("2026-10-25 03:30", "Europe/Berlin", "2026-10-25T02:30:00+00:00", ["local_times"]),
        ("1769846400", None, "2026-01-31T08:00:00+00:00", []),
        ("1769846400123", None, "2026-01-31T08:00:00.123000+00:00", []),
        ("1769846400123456", None, "2026-01-31T08:00:00.123456+00:00", []),
        ("1769846400123456789", None, "2026-01-31T08:00:00.123456+00:00", ["truncated"]),
        ("1769846400.5", None, "2026-01-31T08:00:00.500000+00:00", []),
        (Decimal(1769846400123), None, "2026-01-31T08:00:00.123000+00:00", []),
        (datetime(2026, 7, 1, 10), "Europe/Berlin", "2026-07-01T08:00:00+00:00", ["local_times"]),  # noqa: DTZ001
        (date(2026, 7, 1), "UTC", "2026-07-01T00:00:00+00:00", ["dates"]),
    ],
)
def test_a_time_is_read_in_its_zone(text, zone, instant, counted):
    times = TimeReader(ZoneInfo(zone) if zone else None, None)
    assert times.read(text) == instant
    assert sorted(times.counts) == sorted(counted)


@pytest.mark.parametrize(
    ("text", "format", "reason"),
    [
        ("2026-07-01 10:00", None, "has no offset; name its zone with --timezone"),
        ("03/04/2026 10:00", None, "may have the day or the month first"),
        ("13/04/2026", None, "has the day first; .* %d/%m/%Y$"),
        ("4/13/2026 8:05 AM", None, "has the month first; .* '%m/%d/%Y %I:%M %p'$"),
        ("13:00 PM", None, "is not a time"),
        ("Jul 1, 2026 13:00 PM", None, "the hour must be 1 to 12 before AM or PM"),
        ("2026-07-01T10:00:00+24:00", None, "is not a time"),
        ("2026-W01-1", None, "is not a time"),
        ("2026-10-03-10", None, "is not a time"),
        ("01.02.2026-05", None, "is not a time"),
        ("Fri, 03 Oct 2026 10:00:00 GMT", None, "has a weekday that is not that of its date"),
        ("Xyz, 03 Oct 2026 10:00:00 GMT", None, "is not a time"),
        ("Xyz 2026", None, "is not a time"),
        ("2026-13", None, "is not a time"),
        ("13/2026", None, "is not a time"),
        ("3 Marvel 2026", None, "is not a time"),
        ("Oct 3 10:00:00", None, "is not a time"),
        ("31 Feb 2026 10:00 GMT", None, "is not a time: day is out of range"),
        ("2026-11-20T00:00:00+99:99", None, "is not a time: the offset is out of range"),
        ("2026-11-20T00:00:00+2400", None, "is not a time: the offset is out of range"),
        ("2026-11-20T00:00:00+00:99", None, "is not a time: the offset is out of range"),
        ("2026-10-03 10:00 CET", None, "the abbreviation CET, .* such as --timezone Europe/Berlin$"),
        ("Sat, 03 Oct 2026 10:00:00 EST", None, "the abbreviation EST, .* such as --timezone Europe/Berlin$"),
        ("03.10.26", None, "has a year of two digits; .* --time-format %d.%m.%y or --time-format %y.%m.%d$"),
        ("3-Oct-26 10:00", None, "has a year of two digits; .* '%d-%b-%y %H:%M'"),
        ("7/1/2026", "%d.%m.%Y", "does not have the form %d.%m.%Y"),
    ],
)
def test_a_time_that_is_none_or_may_be_several_is_refused(text, format, reason):
    with pytest.raises(InvalidValue, match=reason):
        TimeReader(None, format).read(text)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("2026040310", "--time-format %Y%m%d%H$"),
        ("202604031011", "--time-format %Y%m%d%H%M$"),
        ("261003101112", "--time-format %y%m%d%H%M%S$"),
        ("20260403101112", "--time-format %Y%m%d%H%M%S$"),
        ("20260403101112123", "--time-format %Y%m%d%H%M%S%f$"),
        (202604031011, "--time-format %Y%m%d%H%M$"),
        ("638950000000000000", "not an epoch time between 2000 and"),
        ("134200000000000000", "not an epoch time between 2000 and"),
        ("3000000000", "not an epoch time between 2000 and"),
        ("900000000", "not an epoch time between 2000 and"),
    ],
)
def test_a_number_that_is_no_epoch_time_is_refused(text, hint):
    with pytest.raises(InvalidValue, match=hint):
        TimeReader(ZoneInfo("UTC"), None).read(text)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), Decimal("-Infinity"), Decimal("sNaN")])
def test_a_cell_that_is_no_number_is_no_time(number):
    with pytest.raises(InvalidValue, match="is not a time"):
        TimeReader(ZoneInfo("UTC"), None).read(number)


@pytest.mark.parametrize("text", ["2026-10-03 10:00 CET", "Sat, 03 Oct 2026 10:00:00 PST", "03.10.2026 10:00 MSZ"])
def test_an_abbreviation_that_the_zone_does_not_have_then_is_refused(text):
    with pytest.raises(InvalidValue, match="but the clock of Europe/Berlin has CEST then"):
        TimeReader(ZoneInfo("Europe/Berlin"), None).read(text)


@pytest.mark.parametrize(
    ("texts", "last", "decided"),
    [
        (["03.10.26 08:00", "24.10.26 08:00"], "2026-10-24T08:00:00+00:00", "the day is first, by line 2"),
        (["10/3/26", "10/23/26"], "2026-10-23T00:00:00+00:00", "the month is first, by line 3"),
        (["23/10/26", "3/10/26"], "2026-10-03T00:00:00+00:00", "the day is first, by line 2: '23/10/26' and line 3"),
        (["3-Oct-26", "24-Oct-26"], "2026-10-24T00:00:00+00:00", "the day is first, by line 2"),
    ],
)
def test_two_digit_years_are_read_where_the_rows_decide_their_order(load_again, texts, last, decided):
    report = load_again.csv(EVENT + "".join(f"a,m,1,{text}\n" for text in texts), timezone="UTC")
    assert last in [time.isoformat() for (time,) in load_again.rows("timestamp")]
    assert f"timestamp: {decided}" in str(report)
    assert "years of two digits are 2000 to 2099" in str(report)


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (["23.10.26"], "line 2: '23.10.26'; name the form: --time-format %d.%m.%y for 23 Oct 2026 or --time-format"),
        (["26/10/03"], "line 2: '26/10/03'; name the form: --time-format %y/%m/%d for 3 Oct 2026"),
        (["11/10/12", "12/10/11"], "--time-format %m/%d/%y for 10 Nov 2012 or --time-format %y/%m/%d for 12 Oct 2011"),
        (["05/10/03"], "'05/10/03'"),
    ],
)
def test_two_digit_years_whose_order_is_open_are_refused_with_the_forms_of_the_file(load_again, texts, reason):
    with pytest.raises(LoadError) as refused:
        load_again.csv(EVENT + "".join(f"a,m,1,{text}\n" for text in texts), timezone="UTC")
    assert reason in str(refused.value)
    assert "--time-format" in str(refused.value)
    assert load_again.count() == 0


@pytest.mark.parametrize(("year", "instant"), [("00", "2000-10-03"), ("68", "2068-10-03"), ("99", "2099-10-03")])
def test_a_two_digit_year_of_a_stated_form_is_of_this_century(year, instant):
    assert TimeReader(ZoneInfo("UTC"), "%d.%m.%y").read(f"03.10.{year}") == f"{instant}T00:00:00+00:00"


def test_an_open_order_is_refused_with_the_forms_of_the_file(load_again):
    with pytest.raises(LoadError) as refused:
        load_again.csv(EVENT + "a,m,1,3/4/2026 8:00:01 PM\n", timezone="UTC")
    assert (
        "line 2: '3/4/2026 8:00:01 PM'; a number above 12 would; name the form: --time-format '%d/%m/%Y %I:%M:%S %p'"
        " for 3 Apr 2026 or --time-format '%m/%d/%Y %I:%M:%S %p' for 4 Mar 2026"
    ) in str(refused.value)
    load_again.csv(EVENT + "a,m,1,3/4/2026 8:00:01 PM\n", timezone="UTC", time_format="%m/%d/%Y %I:%M:%S %p")
    assert load_again.rows("timestamp")[0][0].isoformat() == "2026-03-04T20:00:01+00:00"


def test_a_form_decides(load):
    load.csv(EVENT + "a,m,1,03/04/2026 10h\n", time_format="%d/%m/%Y %Hh", timezone="UTC")
    assert load.rows("timestamp")[0][0].isoformat() == "2026-04-03T10:00:00+00:00"


@pytest.mark.parametrize(
    ("text", "form", "instant"),
    [
        ("2026-07-01 10:00 UTC", "%Y-%m-%d %H:%M %Z", "2026-07-01T10:00:00+00:00"),
        ("2026-07-01 10:00Z", "%Y-%m-%d %H:%M%Z", "2026-07-01T10:00:00+00:00"),
        ("2026-07-01 10:00 EDT", "%Y-%m-%d %H:%M %Z", "2026-07-01T14:00:00+00:00"),
        ("2026-11-01 01:30 EST", "%Y-%m-%d %H:%M %Z", "2026-11-01T06:30:00+00:00"),
        ("07/01/2026 08:00 PM EDT", "%m/%d/%Y %I:%M %p %Z", "2026-07-02T00:00:00+00:00"),
        ("Wed 2026-07-01", "%a %Y-%m-%d", "2026-07-01T04:00:00+00:00"),
        ("2026 182", "%Y %j", "2026-07-01T04:00:00+00:00"),
        ("2028 366", "%Y %j", "2028-12-31T05:00:00+00:00"),
        ("2026 27 3", "%G %V %u", "2026-07-01T04:00:00+00:00"),
        ("20260701100000050", "%Y%m%d%H%M%S%f", "2026-07-01T14:00:00.050000+00:00"),
        ("1.7.26 at 10.00.5 +0200", "%d.%m.%y at %H.%M.%f %z", "2026-07-01T08:00:00.500000+00:00"),
    ],
)
def test_a_form_forgets_no_part_of_a_time(load_again, text, form, instant):
    """strptime takes any abbreviation for nothing, and any weekday for right."""
    load_again.csv(EVENT + f"a,m,1,{text}\n", time_format=form, timezone="America/New_York")
    assert load_again.rows("timestamp")[0][0].isoformat() == instant


@pytest.mark.parametrize(
    ("text", "form", "problem"),
    [
        (
            "2026-07-01 10:00 EST",
            "%Y-%m-%d %H:%M %Z",
            "the abbreviation EST, but the clock of America/New_York has EDT",
        ),
        ("2026-07-01 10:00", "%Y-%m-%d %H:%M %Z", "does not have the form"),
        ("Tue 2026-07-01", "%a %Y-%m-%d", "its parts contradict each other"),
        ("2 2026-07-01", "%w %Y-%m-%d", "its parts contradict each other"),
        ("2026 366", "%Y %j", "its parts contradict each other"),
        ("2026-07-01 183", "%Y-%m-%d %j", "its parts contradict each other"),
        ("2025 53 1", "%G %V %u", "its parts contradict each other"),
        ("2026-07-01 Jun", "%Y-%m-%d %b", "its parts contradict each other"),
        ("2026-07-01 01", "%Y-%m-%d %d", "time_format: .* %d may stand once"),
        ("01/07/2026 07/01/26", "%d/%m/%Y %x", "time_format: .* %d may stand once"),
        ("00:00:00 00 2026-07-01", "%X %H %Y-%m-%d", "time_format: .* %H may stand once"),
        ("Wed Jul  1 00:00:00 2026 1", "%c %d", "time_format: .* %d may stand once"),
        ("2026-02-29", "%Y-%m-%d", "does not have the form"),
        ("2026-07-01 24", "%Y-%m-%d %H", "does not have the form"),
        ("07/01/2026 08:00 PM", "%m/%d/%Y %H:%M %p", "time_format: .* counts only with %I; write %I in place of %H"),
        ("07/01/2026 08:00", "%m/%d/%Y %I:%M", "time_format: .* %I is an hour of half a day"),
        ("UTC 2026-07-01", "%Z %Y-%m-%d", "time_format: .* must be last"),
        ("2026 27", "%Y %W", "time_format: .* weeks .* are not read"),
    ],
)
def test_a_form_that_would_forget_a_part_of_a_time_is_refused(load_again, text, form, problem):
    with pytest.raises((LoadError, ConfigurationError), match=problem):
        load_again.csv(EVENT + f"a,m,1,{text}\n", time_format=form, timezone="America/New_York")
    assert load_again.count() == 0


def test_one_line_shows_whether_the_day_is_first(load):
    report = load.csv(EVENT + "a,m,1,03/04/2026 10:00\na,m,1,13/04/2026 10:00\n", timezone="UTC")
    assert [time.isoformat() for (time,) in load.rows("timestamp")] == [
        "2026-04-03T10:00:00+00:00",
        "2026-04-13T10:00:00+00:00",
    ]
    assert "timestamp: the day is first, by line 3: '13/04/2026 10:00'" in str(report)
    again = load.csv(EVENT + "a,m,1,4/13/2026\n", timezone="UTC")
    assert "the month is first, by line 2: '4/13/2026'" in str(again)


def test_an_order_that_no_line_shows_or_two_contradict_is_refused(load):
    with pytest.raises(LoadError) as refused:
        load.csv(EVENT + "a,m,1,03/04/2026\na,m,1,05/06/2026\n", timezone="UTC")
    assert "no line decides, like line 2: '03/04/2026'" in str(refused.value)
    assert "--time-format" in str(refused.value)
    with pytest.raises(LoadError) as refused:
        load.csv(EVENT + "a,m,1,13/04/2026\na,m,1,04/14/2026\n", timezone="UTC")
    assert "line 2: '13/04/2026' has the day first; line 3: '04/14/2026' has the month first" in str(refused.value)
    assert load.count() == 0


def test_what_was_decided_for_times_is_said(load):
    text = EVENT + "a,m,1,2026-10-25 02:30\na,m,1,2026-10-25 12:00\na,m,2,2026-10-26\n"
    report = load.csv(text, timezone="Europe/Berlin")
    assert "1 date in timestamp read as midnight in Europe/Berlin" in str(report)
    assert "1 time in timestamp that the clock of Europe/Berlin shows twice or skips" in str(report)
    assert load.csv(text, timezone="Europe/Berlin").already_there == 3


def test_a_column_with_the_time_of_day_of_dates_is_named(load):
    report = load.csv(EVENT.strip() + ",Hour\na,m,1,2026-10-01,7\n", timezone="UTC")
    assert "the column 'Hour' may have the time of day of timestamp, but is not read; join" in str(report)
    again = load.csv(
        EVENT.strip() + ",Hour\na,m,1,2026-10-01,7\n",
        mapping={"timestamp": "timestamp+Hour"},
        time_format="%Y-%m-%d %H",
        timezone="UTC",
    )
    assert again.first.hour == 7


def test_words_for_no_value_are_none(load):
    text = (
        EVENT.strip() + ",external_cost_amount\na,m,1,2026-01-01T00:00:00Z,Included\nb,m,1,2026-01-01T00:00:00Z, - \n"
    )
    load.csv(text, null=["Included", "-"])
    assert load.rows("external_cost_amount") == [(None,), (None,)]
    with pytest.raises(LoadError, match="quantity: is missing"):
        load.csv(EVENT + "a,m,-,2026-01-01T00:00:00Z\n", null=["-"])


def test_a_long_cell_takes_no_time():
    """Patterns tried each of 60,000 spaces as the beginning of what follows: a row took a minute."""
    code = """if True:
        from zoneinfo import ZoneInfo
        from usage_explore.load.numbers import bare_number
        from usage_explore.load.times import TimeReader, has_abbreviation, open_date, reads, time_formats
        for text in ("2026-01-01~x", "1~Oct 2026", "Mon,~x", "10/11/2026~x", "1~x"):
            text = text.replace("~", " " * 60_000)
            for form in (None, "%Y-%m-%d %Z", "%d %b %Y"):
                assert not reads(TimeReader(ZoneInfo("UTC"), form).read, text)
            assert (open_date(text), time_formats([text]), has_abbreviation(text)) == (None, {}, False)
            assert bare_number(text) == text
        """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE)
