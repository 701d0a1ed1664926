"""Files in TOML: digits are kept, and no file takes more memory or time than its size."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from usage_explore.files.toml import MAX_KEY_PARTS, parsed_toml, read_toml
from usage_explore.files.values import InvalidValue


@pytest.mark.parametrize("part", ["a", '"a b"', "'a.b'", '"\\""'])
@pytest.mark.parametrize("dot", [".", " . ", "\t."])
@pytest.mark.parametrize(
    "around", ["{}=1", "x=1\n[{}]", "x='\"'\n[[{}]]", 'x = {{a = """b"""", {}=1}}', "x=''#'\n{}=1"]
)
def test_keys_of_many_parts_are_refused_before_they_are_read(part: str, dot: str, around: str) -> None:
    with pytest.raises(InvalidValue, match=r"has a key of more than 16 parts"):
        parsed_toml(around.format(dot.join([part] * 20_000)))


def test_keys_of_some_parts_and_dots_elsewhere_are_no_such_keys() -> None:
    dots = "a." * 5_000
    values = ", ".join(f"{{up_to = {number}, unit_amount = 0.1{number}}}" for number in range(500))
    key = ".".join("a" * MAX_KEY_PARTS)
    text = f'# {dots}\nx = "{dots}"\ny = """\n{dots}\n"""\nz = \'{dots}\'\ntiers = [{values}]\n{key} = 1'
    found = parsed_toml(text)
    assert (found["x"], found["y"], found["z"]) == (dots, f"{dots}\n", dots)
    assert found["tiers"][-1] == {"up_to": 499, "unit_amount": Decimal("0.1499")}


def test_a_file_without_a_size_is_read_up_to_the_bound() -> None:
    with pytest.raises(InvalidValue, match=r"is larger than 1,000 bytes; save it as CSV"):
        read_toml(Path("/dev/zero"), 1_000, "; save it as CSV")


@pytest.mark.parametrize(
    "line", ["[a{}]", "[a{}.b]", "[[a.b{}]]", "[1.{}]", "a{}.b = 1", "[a.b.c.d.e.f.g{}]", "x{} = {{a{}.b=1}}"]
)
def test_many_different_tables_are_refused_before_they_are_read(line: str) -> None:
    with pytest.raises(InvalidValue, match=r"has more than 10,000 tables within tables; use lists of tables"):
        parsed_toml("\n".join(line.format(number, number) for number in range(10_001)))


def test_many_entries_of_lists_of_tables_are_read() -> None:
    text = "".join(
        f'[[prices]]\nmetric_key = "m{number}"\n[[prices.tiers]]\nunit_amount = 0.{number}\n'
        for number in range(12_000)
    )
    found = parsed_toml(text)["prices"]
    assert (len(found), found[-1]["tiers"]) == (12_000, [{"unit_amount": Decimal("0.11999")}])


@pytest.mark.parametrize("number", ["1e99999999999999999999", "1e-99999999999999999999", "-1E+1000000000000000000"])
def test_a_number_beyond_decimals_is_refused(number: str) -> None:
    with pytest.raises(InvalidValue, match=r"has a number whose exponent no number here may have"):
        parsed_toml(f"a = {number}")
