"""`usage-explore load`: files into the events table, or a look at what they would become."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from usage_explore.cli.extract import refresh_extract
from usage_explore.cli.options import common, connected, organization, say, settings_in_force
from usage_explore.errors import ConfigurationError

FORMATS = ("auto", "csv", "parquet", "jsonl", "json", "xlsx", "focus")

_GROUPS = ("Columns", "Values", "File", "Loading", "Database")
"""Headings of the options in the help text, in order."""

_AT_DEFAULT = ", once `usage-explore app` runs at its default address (USAGE_EXPLORE_APP_URL names another one)"
"""After a link, where no setting says where the app is."""


class _Option(click.Option):
    """An option that is listed under a heading."""

    def __init__(self, *arguments: Any, group: str = "Database", **parameters: Any) -> None:
        super().__init__(*arguments, **parameters)
        self.group = group


class _Command(click.Command):
    """A command whose help text lists the options under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options by group."""
        for heading in _GROUPS:
            options = [
                parameter
                for parameter in self.get_params(ctx)
                if isinstance(parameter, click.Option) and getattr(parameter, "group", _GROUPS[-1]) == heading
            ]
            if rows := [row for option in options if (row := option.get_help_record(ctx))]:
                with formatter.section(heading):
                    formatter.write_dl(rows)


def _option(group: str, *names: str, **parameters: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(*names, cls=_Option, group=group, **parameters)


def _list_presets(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from usage_explore.load.mapping import presets

        known = presets()
        width = max(len(preset.name) for preset in known)
        for preset in known:
            say(f"{preset.name:<{width}}  {preset.title}")
        ctx.exit()


@click.command(cls=_Command)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@_option(
    "Columns",
    "--map",
    "pairs",
    multiple=True,
    metavar="COLUMN=SOURCE",
    help="The file's column, or path in its JSON such as data.duration, for a column of the events; repeatable.",
)
@_option(
    "Columns",
    "--set",
    "constants",
    multiple=True,
    metavar="COLUMN=VALUE",
    help="A value for all rows, such as organization_id=acme; repeatable.",
)
@_option(
    "Columns",
    "--measure",
    "measures",
    multiple=True,
    metavar="SOURCE[=METRIC]",
    help="A column of numbers that becomes an event of its own per row, with its name as the metric; repeatable.",
)
@_option("Columns", "--keep-zero", is_flag=True, help="Load measures that are zero too.")
@_option(
    "Columns",
    "--dimensions/--no-dimensions",
    default=True,
    show_default=True,
    help="Keep the file's other columns as dimensions.",
)
@_option(
    "Columns",
    "--preset",
    metavar="NAME|FILE",
    show_default="recognized by the columns",
    help="The columns and values of a known export, ./mine.toml for your own, or none.",
)
@_option(
    "Columns",
    "--list-presets",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_presets,
    help="List the presets and exit.",
)
@_option("Values", "--timezone", metavar="ZONE", help="Zone of dates and of times without an offset.")
@_option("Values", "--time-format", metavar="FORMAT", help="Form of times as in Python's strptime: '%d.%m.%Y %H:%M'.")
@_option("Values", "--decimal", metavar="MARK", help="Decimal mark, . or , (1.234,50); allows thousands separators.")
@_option(
    "Values",
    "--null",
    multiple=True,
    metavar="WORD",
    help="Word for no value in a column of numbers or ids, such as - or n/a; repeatable.",
)
@_option(
    "File",
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    default="auto",
    show_default=True,
    help="What the file is; focus is also a preset.",
)
@_option("File", "--delimiter", metavar="CHARACTER", show_default="detected", help="Separator of the columns of a CSV.")
@_option("File", "--encoding", metavar="NAME", show_default="detected", help="Encoding of a text file, such as cp1252.")
@_option("File", "--sheet", metavar="NAME", show_default="the only one", help="Sheet of a spreadsheet.")
@_option(
    "Loading",
    "--check",
    is_flag=True,
    help="Change nothing; show mapping, rows as events, totals, faults (exit 1 if it would be refused). No database.",
)
@_option("Loading", "--skip-bad", is_flag=True, help="Load the other rows of a file with rejected ones.")
@_option(
    "Loading",
    "--replace",
    is_flag=True,
    help="Supersede stored events of the file's source and period that it no longer holds.",
)
@_option(
    "Loading",
    "--replace-by",
    multiple=True,
    metavar="COLUMN",
    help="Column whose values identify the source to replace; repeatable, implies --replace.",
)
@organization
@common
def load(
    files: tuple[str, ...], check: bool, skip_bad: bool, replace: bool, replace_by: tuple[str, ...], **given: Any
) -> None:
    """Load events from CSV, Parquet, JSON, Excel or FOCUS files; all rows of a file or none.

    FILE is a path, a pattern such as 'exports/*.csv', or - for standard input. Exports of known products are recognized
    by their columns; for others name the columns with --map, or let --check propose the options.
    Loading the same file twice with the same options adds nothing the second time.
    """
    options = _options(**given)
    paths = _expanded(files)
    if check:
        _check(paths, options, skip_bad=skip_bad, replace=replace, replace_by=replace_by)
        return
    from usage_explore.db.schema import events_table
    from usage_explore.load import app_links, load_files
    from usage_explore.open_store import opened

    with connected() as (connection, settings), opened(settings) as store:
        reports = load_files(
            connection,
            events_table(settings.table),
            paths,
            names_table_name=settings.names_table,
            organization_id=settings.organization_id,
            skip_bad=skip_bad,
            replace=replace,
            replace_by=replace_by,
            progress=sys.stderr.isatty(),
            settle=settings.settle_time,
            home=settings.home,
            signoffs=store.signed,
            **options,
        )
        for report in reports:  # before the extract, which may take long: the events are there
            say(report)
        refresh_extract(connection, settings, {one for report in reports for one in report.organizations})
    for url in app_links(reports, settings.app_url, options["timezone"] or "UTC"):
        say(f"In the app{'' if settings.has_app_url else _AT_DEFAULT}: {url}")


def _options(format_: str, pairs: tuple[str, ...], constants: tuple[str, ...], **others: Any) -> dict[str, Any]:
    """The options of `load.LoadOptions`."""
    return {
        "format": None if format_ == "auto" else format_,
        "mapping": _pairs("--map", pairs, "COLUMN=SOURCE, such as timestamp=occurred_at"),
        "constants": _pairs("--set", constants, "COLUMN=VALUE, such as metric_key=requests"),
        **others,
    }


def _pairs(option: str, pairs: tuple[str, ...], form: str) -> dict[str, str]:
    mapping: dict[str, str] = {}
    for pair in pairs:
        column, equals, source = pair.partition("=")
        if not (column and equals and source):
            raise ConfigurationError(f"{option}: {pair!r} is not {form}")
        if column in mapping:
            raise ConfigurationError(f"{option}: {column} is given twice; keep one")
        mapping[column] = source
    return mapping


def _expanded(files: tuple[str, ...]) -> list[Path]:
    """The files, with patterns that are no file's name replaced by the files they match, in the order of names.

    Raises `ConfigurationError` for a pattern that matches none.
    """
    paths: list[Path] = []
    for file in files:
        if file == "-" or not glob.has_magic(file) or os.path.exists(file):  # noqa: PTH110 - no error for a long name
            paths.append(Path(file))
            continue
        found = glob.glob(file, recursive=True)  # noqa: PTH207 - the pattern may be absolute
        matches = sorted(path for match in found if (path := Path(match)).is_file())
        if not matches:
            raise ConfigurationError(f"FILE: no file matches {file!r}")
        paths += matches
    return list(dict.fromkeys(paths))


def _copied_settings() -> dict[str, Any]:
    """The settings of the command line that the command to copy repeats; no password."""
    given = dict(click.get_current_context().find_root().ensure_object(dict))
    given.pop("organization_id", None)  # also in the environment
    if (url := given.get("database_url")) and (urlsplit(url).password or "password=" in url):
        given["database_url"] = "URL"
    return given


def _check(
    paths: list[Path], options: dict[str, Any], *, skip_bad: bool, replace: bool, replace_by: tuple[str, ...]
) -> None:
    from usage_explore.console import progress_bar
    from usage_explore.load import LoadOptions, check_file
    from usage_explore.load.run import check_single

    settings = settings_in_force()
    given = LoadOptions(**options)
    if replace or replace_by:
        check_single(paths)
    is_loadable = True
    for number, path in enumerate(paths):
        if number:
            click.echo()
        with progress_bar(path.name, shown=sys.stderr.isatty(), transient=True) as show:
            checked = check_file(
                path,
                given,
                skip_bad=skip_bad,
                organization_id=settings.organization_id,
                replace=replace,
                replace_by=replace_by,
                settings=_copied_settings(),
                show=show,
            )
        say(checked)
        is_loadable &= checked.is_loadable
    if not is_loadable:
        sys.exit(1)
