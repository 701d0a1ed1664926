"""A view as code to copy and as files to download."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable

import streamlit as st

from usage_explore import formatting
from usage_explore.app import markdown, sign_in
from usage_explore.app.cache import Source
from usage_explore.app.navigation import page_url
from usage_explore.query.base import Query
from usage_explore.query.queries import AggregateQuery, EventQuery
from usage_explore.results import formulas

Download = tuple[str, str, Callable[[], bytes]]
"""A file to download: the button's label, the file name's suffix, and the function that makes the content."""

_MEDIA_TYPES = {
    "csv": "text/csv",
    "html": "text/html",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
    "png": "image/png",
    "svg": "image/svg+xml",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
_API_PATHS = {AggregateQuery: "api/v1/usage-events/aggregate", EventQuery: "api/v1/usage-events"}
_MAX_LINE = 80  # characters of a query's repr on one line


def snippets(query: AggregateQuery | EventQuery, then: str, source: Source) -> None:
    """Draw the query as a notebook cell that ends in `then`, as an HTTP request, and as an SQL statement."""
    name = type(query).__name__
    st.markdown("**Python**")
    st.code(
        f"from usage_explore import {name}, connect\n\nstore = connect()\nquery = {python_code(query)}\n{then}",
        language="python",
        wrap_lines=True,
    )
    st.markdown("**HTTP**")
    url = page_url(_API_PATHS[type(query)], query.to_params(), source.store.app_url)
    st.code(f"curl {shlex.quote(url)}", language="bash", wrap_lines=True)
    st.markdown("**SQL**")
    st.caption("One statement, values written in; times are absolute, as of this minute.")
    st.code(source.sql(query), language="sql", wrap_lines=True)  # a block that scrolls has no keyboard focus


def python_code(query: Query) -> str:
    """The query's repr, with one parameter per line if it is long."""
    text = repr(query)
    if len(text) <= _MAX_LINE:
        return text
    lines = "".join(f"    {name}={value!r},\n" for name, value in query.__repr_args__())
    return f"{type(query).__name__}(\n{lines})"


def escape_checkbox(key: str) -> bool:
    """Draw whether formulas in CSV files are escaped for spreadsheets, by default yes."""
    return st.checkbox("Escape formulas in CSV", True, key=key, help=markdown.plain(formulas.MEANING), width="content")


def made_at_click(content: Callable[[], bytes], source: Source) -> Callable[[], bytes]:
    """The content of a file on the source's organization, made at the click if the user may still see that then.

    The page may be open since before the user's access was taken away.
    """
    check = sign_in.visibility(source.store.organization_id)

    def made() -> bytes:
        check()
        return content()

    return made


def download_buttons(files: Iterable[Download], name: str, key: str, source: Source) -> None:
    """Draw a button per file, whose content is made at the click; `name` is the file name without its suffix."""
    for label, suffix, content in files:
        st.download_button(
            label,
            made_at_click(content, source),
            f"{name}.{suffix}",
            _MEDIA_TYPES[suffix.rpartition(".")[2]],
            key=f"{key} {suffix}",
            on_click="ignore",
            icon=":material/download:",
        )


def prepared_download(label: str, content: bytes, file_name: str, key: str) -> None:
    """Draw the button for a file that is ready, with its size."""
    st.download_button(
        f"{label}, {formatting.size(len(content))}",
        content,
        file_name,
        _MEDIA_TYPES[file_name.rpartition(".")[2]],
        key=key,
        type="primary",
        icon=":material/download:",
        on_click="ignore",
    )
