"""The one reader and the one writer of the address bar."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from urllib.parse import urlsplit, urlunsplit

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from usage_explore.app.pages import Pages
from usage_explore.query import url_params
from usage_explore.query.url_params import query_string

Pairs = tuple[tuple[str, str], ...]


def read() -> Pairs:
    """The parameters in the address bar, repeated ones and blank values kept.

    Raises `QueryError` when it is not valid UTF-8: Streamlit reads such a text as another one.
    """
    context = get_script_run_ctx()
    if context is not None:
        url_params.pairs(context.query_string)
    return tuple((name, value) for name in st.query_params for value in st.query_params.get_all(name))


def write(pairs: Iterable[tuple[str, str]]) -> None:
    """Put the parameters into the address bar: one new entry in the browser's history, if they differ."""
    values: defaultdict[str, list[str]] = defaultdict(list)
    for name, value in pairs:
        values[name].append(value)
    if {name: sorted(found) for name, found in values.items()} != _shown():
        st.query_params.from_dict(values)


def address(page: str, pairs: Iterable[tuple[str, str]], otherwise: str) -> str:
    """A full link to a page, on the host this browser uses; `otherwise` is the app's configured address."""
    parts = urlsplit(st.context.url or otherwise)
    path = parts.path.removesuffix("/")
    for name in Pages._fields:
        path = path.removesuffix(f"/{name}")
    return urlunsplit(parts._replace(path=f"{path}/{page}", query=query_string(pairs), fragment=""))


def _shown() -> dict[str, list[str]]:
    return {name: sorted(st.query_params.get_all(name)) for name in st.query_params}
