"""The filters that lead from a finding to its events."""

from __future__ import annotations

from usage_explore.validation.usage_sums import valid_filters


def test_a_filter_is_what_a_query_accepts() -> None:
    """The empty text is a value of a column that another program fills; it is given within a list."""
    values = {"metric_key": "", "price_key": "p1", "customer_id": None, "wallet_currency": "x" * 70_000}
    assert valid_filters(**values) == {"metric_key": [""], "price_key": "p1"}
