"""The words of findings: exact where they say a number, harmless whatever a value holds, never a share of nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usage_explore import formatting
from usage_explore.access.api_keys import Keyring
from usage_explore.errors import UsageExploreError
from usage_explore.formatting import path_text
from usage_explore.results.whole_file import whole_file
from usage_explore.validation.bounds import read_bounds
from usage_explore.validation.inputs import read_inputs

BERLIN = ZoneInfo("Europe/Berlin")


@given(st.text())
def test_a_value_from_the_data_is_short_and_printable(value: str) -> None:
    assert formatting.data_value(value).isprintable()
    assert formatting.data_value(value) == value or not value.isprintable() or not 0 < len(value) <= 60
    assert formatting.listed([value] * 9).isprintable()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], ""),
        (["b"], "b"),
        (["b", "a"], "a and b"),
        (["c", "b", "a"], "a, b and c"),
        (["d", "c", "b", "a"], "a, b and 2 more"),
    ],
)
def test_values_are_listed_and_beyond_three_counted(values: list[str], words: str) -> None:
    assert formatting.listed(values) == words


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("0", "0 %"),
        ("1", "100 %"),
        ("0.0042", "0.42 %"),
        ("0.123456", "12.3 %"),
        ("25", "2,500 %"),
        ("1E-9", "< 0.000001 %"),
    ],
)
def test_a_share_has_two_digits_that_count(part: str, words: str) -> None:
    assert formatting.percent(Decimal(part)) == words


@given(st.decimals(min_value=Decimal("1e-10"), max_value=Decimal("1e40"), allow_nan=False))
def test_no_share_reads_as_nothing(part: Decimal) -> None:
    assert formatting.percent(part) != "0 %"


def test_names_that_begin_alike_are_cut_in_the_middle() -> None:
    models = [f"anthropic.claude-opus-4-5-eu-central-1-variant-{number:02d}-of-forty" for number in range(40)]
    shown = formatting.cut_apart([*models, "short", "x" * 50, models[7]], 20)
    assert shown[7] == shown[-1] == "anthr…nt-07-of-forty"
    assert shown[40:42] == ["short", "x" * 50]
    assert len({*shown[:40]}) == 40
    assert {len(text) for text in shown[:40]} == {20}


def test_names_that_end_alike_too_show_where_they_differ() -> None:
    models = [f"anthropic.claude-{number}-{'long' * 20}" for number in (1, 2)]
    assert formatting.cut_apart(models, 12) == ["ant…1-longl…", "ant…2-longl…"]


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (timedelta(0), "0 seconds"),
        (timedelta(seconds=1.5), "1.5 seconds"),
        (timedelta(minutes=5), "5 minutes"),
        (timedelta(days=3, hours=4, minutes=5), "3 days 4 hours"),
        (timedelta(days=1), "1 day"),
        (-timedelta(hours=2), "-2 hours"),
    ],
)
def test_a_duration_has_its_two_largest_units(length: timedelta, words: str) -> None:
    assert formatting.duration(length) == words


@pytest.mark.parametrize(
    ("since", "until", "words"),
    [
        ("2026-09-01T10:00:59", "2026-09-01T11:00:00.000001", "1 Sep 2026 12:00 to 1 Sep 2026 13:01"),
        ("2026-09-01T10:00:00", "2026-09-01T11:00:00", "1 Sep 2026 12:00 to 1 Sep 2026 13:00"),
        ("2026-08-31T22:00:30", "2026-09-01T21:59:59", "1 Sep 2026"),
    ],
)
def test_the_time_is_whole_minutes_that_hold_it_on_the_zones_clock(since: str, until: str, words: str) -> None:
    ends = [datetime.fromisoformat(end).replace(tzinfo=UTC) for end in (since, until)]
    assert formatting.span_in(*ends, BERLIN) == words


def test_a_long_number_is_short_in_a_sentence() -> None:
    assert formatting.in_sentence(Decimal("1234567.500")) == "1,234,567.5"
    assert formatting.in_sentence(Decimal("1" * 1_000)) == "111111111111… (1,000 digits)"
    assert formatting.in_sentence(Decimal("1" * 50 + ".5")) == "111111111111… (50 digits and decimals)"
    assert formatting.in_sentence(-(10**400)) == "-100000000000… (401 digits)"
    assert formatting.in_sentence(Decimal("-1e-900")) == "-0.0…01 (900 decimals)"
    assert formatting.in_sentence(Decimal("0." + "3" * 60)) == "0.333333333333… (60 decimals)"
    assert formatting.in_sentence(Decimal("1." + "0" * 40 + "1")) == "1.000000000000… (41 decimals)"
    assert formatting.in_sentence(Decimal("0." + "0" * 40 + "3" * 30)) == "0.0…0333333333333… (70 decimals)"
    assert formatting.in_sentence(Decimal("NaN")) == "NaN"


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        ("20.2340944392", "20.23"),
        ("1234567.125", "1,234,567.13"),  # half up
        ("0.004", "< 0.01"),
        ("-0.001", "> -0.01"),
        ("0", "0.00"),
        ("-5", "-5.00"),
        ("12345678901234567890123456789012345.678", "12,345,678,901,234,567,890,123,456,789,012,345.68"),
        ("NaN", "NaN"),
    ],
)
def test_money_is_shown_to_the_cent(amount: str, shown: str) -> None:
    assert formatting.cents(Decimal(amount)) == shown
    words = {"< 0.01": "less than 0.01", "> -0.01": "more than -0.01"}
    assert formatting.cents_in_sentence(Decimal(amount)) == words.get(shown, shown)


def test_a_path_is_short_and_printable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.chdir(tmp_path)
    assert path_text(tmp_path / "in" / "usage.csv") == "in/usage.csv"
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    assert path_text(tmp_path / "me" / "usage.csv") == "~/usage.csv"
    assert path_text(tmp_path / "other.csv") == str(tmp_path / "other.csv")
    assert path_text("../usage.csv") == "../usage.csv"
    assert path_text("a\nb\x1b[31m\u202e.csv") == "a\\nb\\x1b[31m\\u202e.csv"
    long = tmp_path / ("x" * 150) / ("y" * 90)
    assert (len(path_text(long)), path_text(long)[0], path_text(long)[-90:]) == (200, "…", "y" * 90)
    assert path_text(long, whole=True) == str(long)
    assert path_text(tmp_path / "me" / "a", whole=True) == str(tmp_path / "me" / "a")
    monkeypatch.delenv("HOME")
    assert path_text("/a") == "/a"


def test_messages_name_a_file_by_one_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of readers of files, loads, records, and what is written: a name with control characters stays on its line."""
    monkeypatch.chdir(tmp_path)
    hostile = "evil\n\x1b[2Jrow 7: fine"
    shown = "evil\\n\\x1b[2Jrow 7: fine"
    empty, text, folder = (tmp_path / f"{hostile}{suffix}" for suffix in (".csv", ".parquet", ""))
    empty.write_bytes(b"")
    text.write_text("no parquet")
    folder.write_text("")
    for fails, name in (
        (lambda: read_inputs(invoices=empty), f"{shown}.csv"),
        (lambda: read_inputs(invoices=text), f"{shown}.parquet"),
        (lambda: read_inputs(invoices=folder), shown),
        (lambda: read_bounds(tmp_path / hostile / "x.toml", []), f"{shown}/x.toml"),
        (lambda: whole_file(tmp_path / hostile / "x.csv").__enter__(), shown),
        (lambda: Keyring(folder).listed(), shown),
    ):
        with pytest.raises(UsageExploreError) as caught:
            fails()
        assert name in str(caught.value)
        assert str(tmp_path) not in str(caught.value)
        assert "\x1b" not in str(caught.value)
