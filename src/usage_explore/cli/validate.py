"""`usage-explore validate`: examine a billing period, print what is wrong with it, and write it down to sign off."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from usage_explore.cli.options import common, organization, say, settings_in_force
from usage_explore.cli.signals import Signals
from usage_explore.console import progress_bar
from usage_explore.errors import ConfigurationError
from usage_explore.formatting import counted, path_text
from usage_explore.query import url_params
from usage_explore.query.queries import Period
from usage_explore.query.validators import shorten

if TYPE_CHECKING:
    from usage_explore.records.signoffs import SignOff
    from usage_explore.store import Store
    from usage_explore.validation import Validation
    from usage_explore.validation.report.notification import Result
    from usage_explore.validation.review import Review
    from usage_explore.validation.signed_usage import Changes

FOUND = 3
"""The exit code where there are findings as grave as `--fail-on` or graver; 1 is for what could not be examined."""

NOT_NOTIFIED = 4
"""The exit code of a run that would end with 0, but whose notification was not delivered."""

INPUTS = {
    "invoices": "Invoice lines, .csv, .xlsx or .parquet.",
    "wallets": "Preferred currencies, likewise.",
    "control": "Totals by day of a gateway, provider or FOCUS bill, likewise.",
    "bounds": "Bounds of the checks that differ from the defaults, .toml; see --show-bounds.",
    "prices": "Price book for the lines' amounts, .toml, .csv, .xlsx or .parquet; else the table usage_prices.",
}
"""The files of a validation: the option, which is the argument of `Store.validate`, and its help."""

_LEVELS = ("high", "medium", "low")
_GATES = (*_LEVELS, *(f"new-{level}" for level in _LEVELS), "never")
"""Values of `--fail-on`: findings as grave or graver that are open, and with `new-` were in no run before."""

_STDOUT = Path("-")
_WIDTH = 100
"""Characters of a line where there is no terminal."""


def period_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """An option for each parameter that a period declares, in its words and with its values, then `--query`."""
    command = click.option(
        "--query",
        default="",
        show_default=False,
        metavar="QUERY",
        help="The same as in a link: dim:model=large&not:metric_key=tests",
    )(command)
    for name, field in reversed(Period.model_fields.items()):
        if name not in ("organization_id", "dimensions", "exclude"):
            command = click.option(
                f"--{name.replace('_', '-')}",
                multiple=field.default == (),
                metavar="VALUE",
                help=(field.description or "").replace("`", ""),
            )(command)
    return command


def _input_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """An option for each file."""
    for name, words in reversed(INPUTS.items()):
        command = click.option(f"--{name}", type=click.Path(path_type=Path), metavar="FILE", help=words)(command)
    return command


@click.command()
@period_options
@click.option("--check", "checks", multiple=True, metavar="NAME", help="Only this check; repeatable.")
@_input_options
@click.option("--show-bounds", is_flag=True, help="Print the bounds in force as a file for --bounds, and exit.")
@click.option(
    "--tolerance",
    metavar="NUMBER",
    help="Largest difference of invoiced and used quantity that still matches, such as 0.01. Needs --invoices.  "
    "[default: 0]",
)
@click.option("--report", type=click.Path(path_type=Path), metavar="FILE", help="Write a report: one .html file.")
@click.option(
    "--json", "json_", type=click.Path(path_type=Path), metavar="FILE", help="Write it as JSON; - for stdout."
)
@click.option(
    "--fail-on",
    type=click.Choice(_GATES),
    default="high",
    help="For the exit code: open findings as grave as that; new-high counts those that were in no run before.",
)
@click.option("--by", metavar="NAME", help="Who answers for it, for the report, the run and the sign-off.")
@click.option("--keep/--no-keep", default=True, help="Keep this run, so that the next one says what is new.")
@click.option("--sign-off", is_flag=True, help="Sign off the period, if nothing is as grave as --fail-on. Needs --by.")
@click.option(
    "--accept-missing",
    is_flag=True,
    help="Sign off although prices or preferred currencies of the sign-off before are missing now.",
)
@click.option("--note", default="", show_default=False, metavar="TEXT", help="A note on the sign-off.")
@click.option(
    "--notify",
    metavar="URL",
    help="After the run, POST its summary as JSON to this webhook. USAGE_EXPLORE_NOTIFY_URL keeps the address out of"
    " the list of processes.",
)
@click.option("--notify-http", is_flag=True, help="Let --notify send over http to another machine, unencrypted.")
@organization
@common
def validate(
    query: str,
    checks: tuple[str, ...],
    show_bounds: bool,
    tolerance: str | None,
    report: Path | None,
    json_: Path | None,
    fail_on: str,
    by: str | None,
    keep: bool,
    sign_off: bool,
    accept_missing: bool,
    note: str,
    notify: str | None,
    notify_http: bool,
    **given: Any,
) -> None:
    """Examine a billing period before its invoice is finalized: what is wrong, which events are to blame.

    Without --since, --until or --window that is last month. Prints the findings by impact, each with its state and id,
    what was found clean, what was skipped and the totals. Exit code 0 when no open finding is as grave as --fail-on, 3
    when one is; acknowledged and muted ones are not open. 1 and 2 when the period, or a part of it, could not be
    examined, such as a period without any event, or checks without the file that they compare. 4 instead of 0 when the
    notification was not delivered.
    """
    from usage_explore.cli import notify as notifications
    from usage_explore.cli import signing
    from usage_explore.open_store import opened
    from usage_explore.results.whole_file import whole_file
    from usage_explore.validation import registry
    from usage_explore.validation import report as reports
    from usage_explore.validation.inputs import given_files
    from usage_explore.validation.reconciliation.invoices import read_invoices

    inputs = {name: path for name in INPUTS if (path := given.pop(name)) is not None}
    if show_bounds:
        click.echo(_bounds_in_force(inputs.get("bounds")), nl=False)
        return
    period = parsed_period(query, given)
    chosen = len(registry.chosen(checks or None))
    if sign_off and not by:
        raise ConfigurationError("--sign-off: needs who signs; name them with --by NAME")
    if sign_off and not keep:
        raise ConfigurationError("--sign-off: keeps the run that is signed; leave --no-keep out")
    is_remote = settings_in_force().is_remote
    if sign_off and is_remote:
        raise ConfigurationError("--sign-off: a key of a server reads; sign off in the app, or beside the database")
    if accept_missing and not sign_off:
        raise ConfigurationError("--accept-missing: is for a sign-off; add --sign-off")
    if note and not sign_off:
        raise ConfigurationError("--note: is for a sign-off; add --sign-off, or use `usage-explore decide`")
    address = notify or settings_in_force().notify_url
    webhook = notifications.webhook(address, any_http=notify_http) if address else None
    if tolerance is not None and "invoices" not in inputs:
        raise ConfigurationError("--tolerance: is for invoice lines; give them with --invoices FILE")
    _check_paths(report, json_, list(inputs.values()))
    signed: SignOff | None = None

    def failure(error: BaseException) -> dict[str, Any]:
        return _failure(period, error, signed_off=signed is not None)

    failed = notifications.of_failure(webhook, failure)
    signals = Signals.current()
    with failed, signals.raised(), ExitStack() as opened_here:
        files = given_files(**inputs)
        if tolerance is not None:
            inputs["invoices"] = read_invoices(inputs["invoices"], tolerance)
        parts = {
            path: opened_here.enter_context(whole_file(path)) for path in (report, json_) if path and path != _STDOUT
        }
        store = replace(opened_here.enter_context(opened(settings_in_force())), escaped_commas=True)
        with _progress(chosen) as show:
            validation = store.validate(period, checks=checks or None, progress=show, **inputs)
        validation = replace(validation, files={name: files[name] for name in files if name != "bounds"})
        signals.check()  # before the run is kept: a check may have failed by the signal
        review = None
        if is_remote:
            _warn_unreviewed(keep=keep)
        else:
            review = _reviewed(store, validation, keep=keep, by=by)
        reconciled = reports.statements(replace(store, hints=False), validation)  # the validation has given them
        fails, wrong = _fails(validation, review, fail_on), reports.disagreement(reconciled)
        hides = review is not None and _hides(review, fail_on)
        attempt, nothing = None, validation.examined_nothing or not validation.totals.events
        if sign_off and by and not (fails or hides or wrong or nothing or validation.failed):
            attempt = signing.sign(store, validation, inputs, by=by, note=note, accept_missing=accept_missing)
            signed = attempt.signed
        with signing.standing(signed):
            if attempt:
                attempt = attempt.with_superseded(store)
            last = (signed or _signed_before(store, validation)) if (report or json_) and not is_remote else None
            changes = None if last is None else _changed_since(store, last, inputs)
            if report:
                with _progress(1) as show:
                    done = partial(show, "report")
                    page = reports.html(
                        store,
                        validation,
                        reconciled,
                        by=by,
                        progress=done,
                        review=review,
                        signoff=last,
                        changes=changes,
                    )
                parts[report].write_text(page, encoding="utf-8")
            if json_:
                content = reports.document(validation, reconciled, review, last, changes)
                document = json.dumps(content, indent=2, ensure_ascii=False)
            if json_ in parts:
                parts[json_].write_text(document + "\n", encoding="utf-8")
    with notifications.of_interruption(webhook):
        width = shutil.get_terminal_size((_WIDTH, 0)).columns
        for line in reports.lines(validation, reconciled, width, review):
            click.echo(line, err=json_ == _STDOUT)
        if json_ == _STDOUT:
            click.echo(document)
        for path in parts:
            say(f"Wrote {path_text(path)}.", err=True)
        if attempt:
            attempt.report()
        elif sign_off and nothing:
            say("Not signed off: nothing of the period was examined.", err=True)
        elif sign_off and wrong:
            say(
                f"Not signed off: {wrong}. Run it again: events may have been changed meanwhile. If it says so again,"
                " `usage-explore extract --verify --repair` corrects the extract, where there is one.",
                err=True,
            )
        elif sign_off and validation.failed:
            say(
                f"Not signed off: {counted(len(validation.failed), 'check')} failed; the log says why. Run it again.",
                err=True,
            )
        elif sign_off and review and hides and not fails:
            say(
                f"Not signed off: {review.unseen_sentence(validation.period.zone)} Give the files again, decide on the"
                " findings with `usage-explore decide`, or sign with --fail-on never.",
                err=True,
            )
        elif sign_off:
            say(
                f"Not signed off: findings as grave as --fail-on {fail_on} are open. Acknowledge or mute them with"
                " `usage-explore decide`, or sign with --fail-on never.",
                err=True,
            )
        is_incomplete = bool(validation.failed or nothing or wrong)
        code = FOUND if fails or hides or (attempt and signed is None) else int(is_incomplete)
    if webhook is not None:
        result: Result = "findings" if fails or hides else "incomplete" if is_incomplete else "passed"
        message = partial(_message, validation, review, result, signed is not None)
        if reason := notifications.deliver_or_stop(webhook, message):
            say(
                f"Warning: the notification was not delivered to {webhook}: {reason}. The result above stands.",
                err=True,
            )
            code = code or NOT_NOTIFIED
        else:
            say(f"Notified {webhook}.", err=True)
    if code:
        sys.exit(code)


def _message(validation: Validation, review: Review | None, result: Result, is_signed: bool) -> dict[str, Any]:
    """The message of a run that ended by itself."""
    from usage_explore.validation.report.notification import notification

    return notification(validation, review, result, signed_off=is_signed, linked=settings_in_force().has_app_url)


def _failure(period: Period, error: BaseException, *, signed_off: bool) -> dict[str, Any]:
    """The message of a run that failed, perhaps before the organization and the database's clock were known."""
    from usage_explore.validation.report.notification import failure_notification

    own = period.organization_id or settings_in_force().organization_id
    resolved = period.replace(organization_id=own).resolve(datetime.now(UTC))
    return failure_notification(resolved, error, signed_off=signed_off)


def _bounds_in_force(path: Path | None) -> str:
    """The file with every bound, at the values of the file, else of the configured one, else the defaults."""
    from usage_explore.validation import registry
    from usage_explore.validation.bounds import NO_BOUNDS, in_force, read_bounds, toml

    known, given = registry.all_bounds(), path or settings_in_force().bounds
    with in_force(NO_BOUNDS if given is None else read_bounds(given, known)):
        return toml(known)


def parsed_period(query: str, given: dict[str, Any]) -> Period:
    """The period that the options and a link ask for; last month where they name no window. Raises `QueryError`."""
    pairs = url_params.pairs(query)
    url_params.check_path(query, Period.__name__, [pair for pair in pairs if pair[0] != "organization_id"])
    for name, value in given.items():
        pairs += [(name, item) for item in (value if isinstance(value, tuple) else [value]) if item is not None]
    if not {"since", "until", "window"} & {name for name, _ in pairs}:
        pairs.append(("window", "last_month"))
    return Period.from_params(pairs)


def _check_paths(report: Path | None, json_: Path | None, read: list[Path]) -> None:
    """Raises `ConfigurationError` for a file to write that is no such file, or one that is to be read."""
    for option, path, suffixes in (("--report", report, (".html", ".htm")), ("--json", json_, (".json",))):
        if path is None or (path == _STDOUT and option == "--json"):
            continue
        if path.suffix.lower() not in suffixes:
            raise ConfigurationError(f"{option}: {shorten(path.name)} does not end in {suffixes[0]}; name it that way")
        if os.path.isdir(path):  # noqa: PTH112 - no error for a long name
            raise ConfigurationError(f"{option}: {shorten(path.name)} is a folder; name a file in it")
        if any(path.resolve() == other.resolve() for other in read):
            raise ConfigurationError(f"{option}: {shorten(path.name)} is a file to read; name another to write")


def _signed_before(store: Store, validation: Validation) -> SignOff | None:
    """The last sign-off of the period and filters; None without one, or where the records cannot be read."""
    from usage_explore.errors import RecordError
    from usage_explore.validation.signed_periods import last_signoff

    try:
        return last_signoff(store.signoffs(), validation.period)
    except RecordError:  # `_reviewed` has warned of it
        return None


def _changed_since(store: Store, signed: SignOff, inputs: Mapping[str, Any]) -> Changes | None:
    """What changed since the sign-off, by the price book that was given or is stored; None if that cannot be read."""
    from usage_explore.errors import QueryError, RecordError

    try:
        return store.changes_since(signed, prices=inputs.get("prices"))
    except (QueryError, RecordError) as error:
        say(f"Warning: the report does not say what changed since the sign-off. {error}", err=True)
        return None


def _reviewed(store: Store, validation: Validation, *, keep: bool, by: str | None) -> Review | None:
    """The findings' states, after which the run is kept; None, with a warning, where the records cannot be read."""
    from usage_explore.errors import RecordError
    from usage_explore.records.texts import LOCAL_AUTHOR

    try:
        review = store.review(validation)
    except RecordError as error:
        say(f"Warning: every finding counts as new and open. {error}", err=True)
        return None
    try:
        if keep and not validation.is_empty:
            store.keep_run(validation, by=LOCAL_AUTHOR if by is None else by)
    except RecordError as error:
        say(f"Warning: this run was not kept. {error}", err=True)
    return review


def _warn_unreviewed(*, keep: bool) -> None:
    """Say what a store on a server, which reads no runs and decisions, leaves out."""
    kept = " This run was not kept." if keep else ""
    say(f"Warning: every finding counts as new and open: a server does not send runs and decisions.{kept}", err=True)


def _grave(fail_on: str) -> Sequence[str]:
    """The severities from which `--fail-on` fails."""
    return () if fail_on == "never" else _LEVELS[: _LEVELS.index(fail_on.removeprefix("new-")) + 1]


def _hides(review: Review, fail_on: str) -> bool:
    """Whether findings of earlier runs' files, which this run lacks, are open and as grave as that or graver."""
    is_new = fail_on.startswith("new-")  # these are known
    return not is_new and any(finding.severity in _grave(fail_on) for _, finding in review.unseen)


def _fails(validation: Validation, review: Review | None, fail_on: str) -> bool:
    """Whether an open finding, with `new-` one that was in no run before, is as grave as that or graver."""
    is_new, grave = fail_on.startswith("new-"), _grave(fail_on)
    if review is None:
        return any(finding.severity in grave for finding in validation.findings)
    return any(item.finding.severity in grave and item.is_open and (item.is_new or not is_new) for item in review.items)


@contextmanager
def _progress(checks: int) -> Iterator[Callable[[str, float], object]]:
    """A bar on a terminal over a number of checks, of which each reports its name and the part of it that is done.

    A report raises KeyboardInterrupt for a signal that a library made another exception of.
    """
    signals = Signals.current()
    with progress_bar("", shown=sys.stderr.isatty(), transient=True) as show:
        parts: dict[str, float] = {}

        def report(name: str, done: float) -> None:
            signals.check()
            parts[name] = done
            show(sum(parts.values()), checks, name)

        yield report
