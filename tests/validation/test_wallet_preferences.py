"""The preferred-currency cascade, and reading it: every source gives the same, every faulty line is named."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pandas as pd
import pytest

from usage_explore.errors import QueryError
from usage_explore.validation.inputs import Preferences, read_preferences

ONE, TWO = UUID(int=1), UUID(int=2)
NEARLY = str(ONE)[:-1]
"""A UUID with a typing error; any other text is an id."""


def test_the_event_decides_before_the_customer_and_the_customer_before_the_organization() -> None:
    given = Preferences(customers={ONE: "EUR"}, default="USD")
    assert given.wallet(ONE, "GBP") == ("GBP", "pinned")
    assert given.wallet(ONE, None) == ("EUR", "preference")
    assert given.wallet(TWO, None) == ("USD", "default")
    assert Preferences(customers={ONE: "EUR"}).wallet(TWO, None) == (None, "unknown")


@pytest.mark.parametrize("word", ["", "default", "Default"])
def test_every_source_gives_the_same(tmp_path: Path, word: str) -> None:
    rows = pd.DataFrame({"customer_id": [str(ONE), word], "note": ["x", "y"], "currency": ["EUR", " USD "]})
    rows.to_csv(tmp_path / "w.csv", index=False)
    rows.to_parquet(tmp_path / "w.parquet")
    expected = Preferences(customers={ONE: "EUR"}, default="USD")
    mapping = {ONE: "EUR", word: "USD"}
    for source in (tmp_path / "w.csv", str(tmp_path / "w.parquet"), rows, mapping, expected):
        assert read_preferences(source) == expected


def test_a_currency_keeps_its_letters() -> None:
    assert read_preferences({str(ONE): "eur"}).customers == {ONE: "eur"}


def test_every_faulty_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "wallets.csv"
    path.write_text(f"customer_id,currency\n{ONE},EUR\n{NEARLY},EUR\n{TWO},\n{ONE},USD\n,USD\ndefault,EUR\n")
    with pytest.raises(QueryError) as caught:
        read_preferences(path)
    said = [str(fault) for fault in caught.value.faults]
    assert len(said) == 4
    assert all(words.startswith("wallets: line ") for words in said)
    for line, words in zip((3, 4, 5, 7), said, strict=True):
        assert f"line {line}: " in words
    for word, words in zip((NEARLY, "blank", "line 2", "default"), said, strict=True):
        assert word in words


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({}, "there are none"),
        ({ONE: 7}, "currency"),
        ({7.5: "EUR"}, "customer_id"),
        (pd.DataFrame({"custmer_id": [str(ONE)], "currency": ["EUR"]}), "did you mean customer_id"),
        (pd.DataFrame({"customer_id": [str(ONE)], "currency": ["E"], "wallet_currency": ["E"]}), "keep one"),
        ("nowhere.csv", "nowhere.csv"),
        ("wallets.txt", "wallets.txt"),
    ],
)
def test_what_cannot_be_read_says_why(source: object, said: str) -> None:
    with pytest.raises(QueryError) as caught:
        read_preferences(source)  # type: ignore[arg-type]
    assert all(fault.parameter == "wallets" for fault in caught.value.faults)
    assert said in str(caught.value)
