"""The label of an id: a name, told apart from others, in sentences too."""

from __future__ import annotations

from uuid import UUID

import pytest

from usage_explore.formatting import short_ids
from usage_explore.names import MAX_LABEL_CHARACTERS, NO_NAMES, Names, ids_in

A, B, C = (str(UUID(int=number << 96 | 7)) for number in (0x1A2B3C4D, 0x5F0C2A91, 0x99))


def test_a_label_is_the_name_else_the_first_digits_of_the_id() -> None:
    names = Names({("customer", A): "Acme"})
    assert names.label("customer_id", UUID(A)) == names.label("customer", A) == "Acme"
    assert names.label("customer_id", B) == "5f0c2a91…"
    assert names.label("product_id", A) == "1a2b3c4d…"
    assert names.name("customer_id", B) is names.name("customer_id", None) is names.known("customer_id", B) is None
    assert names.full("customer_id", A) == f"Acme ({A})"
    assert names.full("customer_id", B) == B


def test_two_ids_of_one_name_stay_apart_and_kinds_do_not_mix() -> None:
    names = Names({("customer", A): "Acme", ("customer", B): "Acme", ("product", A): "Acme"})
    assert [names.label("customer", id_) for id_ in (A, B)] == ["Acme (1a2b3c4d)", "Acme (5f0c2a91)"]
    assert names.label("product", A) == "Acme"
    alone = Names({("customer", A): "Acme"}, frozenset({("customer", A)}))
    assert alone.label("customer", A) == "Acme (1a2b3c4d)"


def test_ids_with_the_same_first_digits_and_name_have_whole_ids() -> None:
    first, second = (str(UUID(int=number)) for number in (1, 2))
    names = Names({("customer", first): "Acme", ("customer", second): "Acme"})
    assert names.label("customer", first) == f"Acme ({first})"
    assert names.label("customer", second) == f"Acme ({second})"


@pytest.mark.parametrize(
    ("name", "label"),
    [("two\nlines", "two\\nlines"), ("\u202eevil", "\\u202eevil"), ("x" * 200, "x" * (MAX_LABEL_CHARACTERS - 1) + "…")],
)
def test_a_label_is_one_short_printable_line(name: str, label: str) -> None:
    names = Names({("customer", A): name})
    assert names.label("customer", A) == label
    assert names.name("customer", A) == name


def test_names_that_differ_only_where_they_are_cut_stay_apart() -> None:
    names = Names({("customer", A): "x" * 80 + "a", ("customer", B): "x" * 80 + "b"})
    assert names.label("customer", A) != names.label("customer", B)


def test_ids_in_a_sentence_are_replaced_by_names() -> None:
    names = Names({("customer", A): "Acme", ("product", B): "Search"})
    assert (
        names.in_text(f"3 events of customer {A}, product {B}, {C}")
        == f"3 events of customer Acme, product Search, {C}"
    )
    command = f"`usage-explore signoffs 1a2b3c4d --organization-id {A} --csv FILE.csv`"
    assert short_ids(names.in_text(command)) == names.in_text(command, ids=True) == command, "it is to run"
    assert names.in_text(f"customer {A}", ids=True) == f"customer Acme ({A})"
    assert NO_NAMES.in_text(f"customer {A}") == f"customer {A}"
    assert ids_in([f"{A} and {B}", A, "none"]) == {A, B}


def test_an_id_of_two_kinds_with_different_names_stays_in_a_sentence() -> None:
    names = Names({("customer", A): "Acme", ("product", A): "Search"})
    assert names.in_text(f"of {A}") == f"of {A}"
    assert names.in_text(f"of {A}", ids=True) == f"of {A}"
