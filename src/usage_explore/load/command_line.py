"""The command line that loads a file with the options of a check."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from usage_explore.files.open import STANDARD_INPUT
from usage_explore.load.prepared import LoadOptions


def command(
    path: Path,
    options: LoadOptions,
    missing: Iterable[str] = (),
    *,
    replace: bool = False,
    replace_by: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
) -> str:
    """The command line that loads the file with the options, and with placeholders for the `missing` columns.

    `settings` are the values of options such as `organization_id`; those that are None are left out.
    """
    is_like_option = str(path).startswith("-") and path != STANDARD_INPUT
    arguments: list[str] = ["usage-explore", "load", f"./{path}" if is_like_option else str(path)]
    arguments += [f"--map {shlex.quote(f'{column}={source}')}" for column, source in options.mapping.items()]
    arguments += [f"--set {shlex.quote(f'{column}={text}')}" for column, text in options.constants.items()]
    arguments += [f"--measure {shlex.quote(text)}" for text in options.measures]
    arguments += [f"--null {shlex.quote(word)}" for word in options.null]
    for name in ("format", "preset", "timezone", "time_format", "decimal", "delimiter", "encoding", "sheet"):
        if (value := getattr(options, name)) is not None:
            arguments.append(f"--{name.replace('_', '-')} {shlex.quote(value)}")
    arguments += ["--keep-zero"] * options.keep_zero + ["--no-dimensions"] * (not options.dimensions)
    arguments += ["--replace"] * replace + [f"--replace-by {shlex.quote(column)}" for column in replace_by]
    arguments += [
        f"--{name.replace('_', '-')} {shlex.quote(str(value))}"
        for name, value in (settings or {}).items()
        if value is not None
    ]
    arguments += [f"--map {column}=COLUMN" for column in missing]
    return " ".join([*arguments[:2], shlex.quote(arguments[2]), *arguments[3:]])
