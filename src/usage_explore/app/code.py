"""The code that asks a view's question again, to copy."""

from __future__ import annotations

import shlex

import streamlit as st

from usage_explore.app import url
from usage_explore.app.cache import Source
from usage_explore.query.base import Question
from usage_explore.query.queries import AggregateQuery, EventQuery

_DOORS = {AggregateQuery: "api/v1/usage-events/aggregate", EventQuery: "api/v1/usage-events"}


def snippets(query: AggregateQuery | EventQuery, then: str, source: Source) -> None:
    """Draw a notebook cell that runs as it is, ending in `then`, the HTTP request, and the SQL statement."""
    name = type(query).__name__
    st.markdown("**Python**")
    st.code(
        f"from usage_explore import {name}, connect\n\nstore = connect()\nquery = {written(query)}\n{then}",
        language="python",
        wrap_lines=True,
    )
    st.markdown("**HTTP**")
    address = url.address(_DOORS[type(query)], query.to_params(), source.store.app_url)
    st.code(f"curl {shlex.quote(address)}", language="bash", wrap_lines=True)
    st.markdown("**SQL**")
    st.caption("One statement, values written in; times are absolute, as of this minute.")
    st.code(source.sql(query), language="sql", wrap_lines=True)  # what scrolls in itself has no keyboard focus


def written(query: Question) -> str:
    """The question's repr, a parameter a line where it is long."""
    text = repr(query)
    if len(text) <= 80:
        return text
    lines = "".join(f"    {name}={value!r},\n" for name, value in query.__repr_args__())
    return f"{type(query).__name__}(\n{lines})"
