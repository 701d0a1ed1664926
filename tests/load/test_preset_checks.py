"""A preset of one's own is checked when it is read: the error names the key and what it accepts."""

from __future__ import annotations

import time

import pytest

from usage_explore.errors import ConfigurationError
from usage_explore.load.mapping import MAX_MATCHED_CHARACTERS, NamePattern, parse_preset


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("title = 7", "title: is not text"),
        ('recognize = ["Time"]', "recognize: is not a list of lists of columns"),
        ("recognize = [[1]]", "recognize: is not a list of lists of columns"),
        ("decimal = 1", "decimal: is not text"),
        ("timezone = true", "timezone: is not text"),
        ("time_format = 1", "time_format: is not text"),
        ("explode = []", "explode: is not text"),
        ("measure_names = []", "measure_names: is not text"),
        ('keep_zero = "yes"', "keep_zero: is not true or false"),
        ("day_first = 1", "day_first: is not true or false"),
        ("null = 0", "null: is not a list of text, or one text"),
        ("ignore = [1]", "ignore: is not a list of text, or one text"),
        ("key = 1", "key: is not a list of columns, or of such lists"),
        ('key = ["a", ["b"]]', "key: is not a list of columns, or of such lists"),
        ("columns = 1", "columns: is not a table of text, or of lists of text"),
        ("[columns]\nquantity = 1", "columns: is not a table of text, or of lists of text"),
        ("[columns.quantity]\nx = 1", "columns: is not a table of text, or of lists of text"),
        ("[constants]\nmetric_key = true", "constants: is not a table of text or numbers"),
        ("[tags]\na = 1", "tags: is not a table of text"),
        ("[measures]\na = 1", "measures: is not a table of metrics"),
        ("[measures.a]\nminus = []", "measures: is not a table of metrics"),
        ('[measures.a]\nmetric_key = "m"\nplus = "b"', "measures: is not a table of metrics"),
        ("stated = []", "unknown key 'stated'"),
        ('colums = "a"', "unknown key 'colums', did you mean columns"),
        ("a = [" * 3_000, "is not TOML"),
        ("title", "is not TOML"),
        ('decimal = ";"', "decimal: ';' is neither"),
        ('[names]\nquantity = "a"', "names: 'quantity' is none of"),
    ],
)
def test_a_value_of_another_kind_is_refused_by_its_key(text, reason):
    with pytest.raises(ConfigurationError, match=f"^preset: mine: ?{reason}|^preset: mine {reason}"):
        parse_preset(text, "mine")


def test_a_single_text_is_a_list_and_a_number_keeps_its_digits():
    preset = parse_preset(
        'ignore = "a"\nkey = "b"\nnull = "-"\n[constants]\nquantity = 0.10000000000000000001\n[columns]\nid = "c"\n'
        '[measures.d]\nmetric_key = "m"\nminus = "e"\n',
        "mine",
    )
    mapping = preset.mapping
    assert (mapping.ignore, mapping.key, mapping.null) == (("a",), (("b",),), frozenset("-"))
    assert mapping.constants["quantity"] == "0.10000000000000000001"
    assert (mapping.columns["id"], mapping.measures["d"].minus) == (("c",), ("e",))


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+b", "(a|a)*b", "(a|aa){9}", "a*a*a*a*b", "a?a?a?a?aaaa", "(a|a)(a|a)(a|a)(a|a)b", "((a|a)|(a|a))(a|a)", "("],
)
def test_a_pattern_that_can_take_long_is_refused(pattern):
    with pytest.raises(ConfigurationError, match=r"^preset: mine: measure_names: "):
        parse_preset(f"measure_names = '{pattern}'", "mine")


@pytest.mark.parametrize("pattern", ["a*a*a*b", "(?i)(a|b)_(tokens|bytes)", r"[*+?]+\*\+\?", ".*_(count|total)"])
def test_a_pattern_that_is_allowed_ends_soon(pattern):
    parse_preset(f"measure_names = '{pattern}'", "mine")
    began = time.process_time()
    assert not NamePattern(pattern).matches("a" * MAX_MATCHED_CHARACTERS)
    assert not NamePattern(pattern).matches("a" * 10**6)
    assert time.process_time() - began < 5
