"""Tab: Python code that runs the validation again, with the files that the page was given, by their names."""

from __future__ import annotations

import streamlit as st

from usage_explore.app.exports import python_code
from usage_explore.app.page_state import ValidateView
from usage_explore.app.validate.files import ValidationWithFiles, dropped_files
from usage_explore.query.queries import Period
from usage_explore.validation.file_kinds import FileKind


def code_tab(view: ValidateView, with_files: ValidationWithFiles) -> None:
    """Draw notebook cells that run the validation again: with the live window, and pinned."""
    period = with_files.validation.period
    given = {kind: file.name for kind, file in dropped_files(period).items()}
    used = {kind: name for kind, name in given.items() if kind not in with_files.faults}
    where = " The files are read from the folder in which it runs." if used else ""
    for title, wanted, caption in (
        ("Python", view.query, "The period in the address bar: a relative window moves with the clock."),
        ("Python, pinned", period, "The numbers on this page, whenever it runs."),
    ):
        st.markdown(f"**{title}**")
        st.caption(f"{caption}{where}")
        st.code(validation_code(wanted, used), language="python")


def validation_code(period: Period, files: dict[FileKind, str]) -> str:
    """The code of a validation; `files` are the names of the files that it is given, by what they are.

    Names of ids are no argument of `Store.validate`: a comment says how they are stored.
    """
    comments = []
    if names := files.get("names"):
        comments.append(
            f"# {names!r} is not among the files: names of ids are stored first, by `usage-explore names load`."
        )
    arguments = {kind: name for kind, name in files.items() if kind != "names"}
    if len(set(arguments.values())) < len(arguments):
        comments.append("# Several files have the same name: give the path of each.")
    call = "store.validate(period)"
    if arguments:
        lines = "".join(f"    {kind}={name!r},\n" for kind, name in arguments.items())
        call = f"store.validate(\n    period,\n{lines})"
    parts = ["from usage_explore import Period, connect\n", "store = connect()", f"period = {python_code(period)}"]
    return "\n".join([*parts, *comments, f"validation = {call}", "validation.frame"])
