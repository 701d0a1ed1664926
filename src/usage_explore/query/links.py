"""Addresses of the app."""

from __future__ import annotations

from usage_explore.query.base import Question
from usage_explore.query.url_params import query_string


def link(app_url: str, page: str, query: Question) -> str:
    """The app's address for a query on a page: "", "events" or "validate"."""
    return f"{app_url}/{page}?{query_string(query.to_params())}"
