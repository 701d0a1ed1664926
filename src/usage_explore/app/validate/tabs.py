"""What lies under the headline: the findings, what each check looked at, wallets, invoices, code and files."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import streamlit as st

from usage_explore.app.cache import Source
from usage_explore.app.pages import Pages
from usage_explore.app.validate.checks import checks
from usage_explore.app.validate.download import code, download
from usage_explore.app.validate.files import Amended, file_tab, offered
from usage_explore.app.validate.findings import findings
from usage_explore.app.validate.view import ValidateView


def tabs(pages: Pages, view: ValidateView, source: Source, found: Amended) -> None:
    """Draw the tabs; only the open one asks for anything."""
    validation = found.validation
    draw: dict[str, Callable[[], None]] = {
        "Findings": lambda: findings(pages, view, source, validation),
        "Checks": lambda: checks(validation),
        **{reader.title: partial(file_tab, reader, source, found) for reader in offered(validation)},
        "Code": lambda: code(view, validation),
        "Download": lambda: download(source, validation),
    }
    for tab, content in zip(st.tabs(list(draw), key="validate_tab", on_change="rerun"), draw.values(), strict=True):
        if tab.open:
            with tab:
                content()
