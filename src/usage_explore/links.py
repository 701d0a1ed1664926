"""Addresses of the app."""

from __future__ import annotations

from usage_explore.parameters import query_string
from usage_explore.question import Question


def link(app_url: str, page: str, query: Question) -> str:
    """The app's address for a query on a page: "", "events" or "validate"."""
    return f"{app_url}/{page}?{query_string(query.to_params())}"
