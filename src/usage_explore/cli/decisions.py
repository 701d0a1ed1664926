"""`usage-explore decide`, `decisions` and `signoffs`: what people decided on findings, and what changed since."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID
from zoneinfo import ZoneInfo

import click

from usage_explore.cli.options import common, organization, say, settings_in_force
from usage_explore.console import table
from usage_explore.errors import ConfigurationError, Fault, QueryError
from usage_explore.formatting import counted, path_text, shortened, zoned
from usage_explore.query import validators
from usage_explore.results import formulas

if TYPE_CHECKING:
    from usage_explore.records.signoffs import SignOff
    from usage_explore.store import Store
    from usage_explore.validation.signed_usage import Changes

CHANGED = 3
"""The exit code of `signoffs --fail-on-changes` where something changed."""

_MAX_SENTENCE_CHARACTERS = 90
_STDOUT = Path("-")


@click.command()
@click.argument("findings", metavar="ID...", nargs=-1, required=True)
@click.option("--acknowledge", is_flag=True, help="The finding was examined and needs no change.")
@click.option("--mute-until", metavar="TIME", help="It does not count until this RFC 3339 time.")
@click.option("--assign", metavar="NAME", help='Person or team in charge; "" for none.')
@click.option("--reopen", is_flag=True, help="Take an acknowledgement or a mute back.")
@click.option("--note", default="", show_default=False, metavar="TEXT", help="A note, alone or with a decision.")
@click.option("--by", metavar="NAME", help="Who decides.", show_default="local")
@organization
@common
def decide(
    findings: tuple[str, ...],
    acknowledge: bool,
    mute_until: str | None,
    assign: str | None,
    reopen: bool,
    note: str,
    by: str | None,
) -> None:
    """Decide on the findings of these IDs, which `validate` prints in brackets; earlier decisions stay in the history.

    The decision is kept for all of them or, if one is unknown, for none.
    """
    from usage_explore.open_store import opened
    from usage_explore.records.texts import LOCAL_AUTHOR

    chosen = [
        *(["acknowledge"] if acknowledge else []),
        *(["mute"] if mute_until is not None else []),
        *(["assign"] if assign is not None else []),
        *(["reopen"] if reopen else []),
    ]
    if len(chosen) > 1:
        raise ConfigurationError("--acknowledge, --mute-until, --assign, --reopen: give one of them at a time")
    if not chosen and not note:
        raise ConfigurationError("--acknowledge, --mute-until, --assign, --reopen, --note: give one of them")
    with opened(settings_in_force()) as store:
        decided = store.decide_all(
            list(dict.fromkeys(finding.strip("[]") for finding in findings)),
            chosen[0] if chosen else "note",
            by=LOCAL_AUTHOR if by is None else by,
            note=note,
            until=mute_until,
            assignee=assign,
        )
    from usage_explore.validation.report.wording import decision

    for made in decided:
        say(decision(made, ZoneInfo("UTC")))
        say(f"on {made.finding.identity.check}: {made.finding.sentence}")


@click.command(name="decisions")
@click.argument("finding", metavar="ID", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@organization
@common
def list_decisions(finding: str | None, as_json: bool) -> None:
    """List the decisions on findings, oldest first; those on the finding of this ID."""
    from usage_explore.open_store import opened
    from usage_explore.validation.report.wording import decision

    with opened(settings_in_force()) as store:
        made = store.decisions(finding.strip("[]") if finding else None)
    if as_json:
        click.echo(json.dumps([{**one.to_dict(), "finding": one.finding.sentence} for one in made], indent=2))
        return
    if not made:
        click.echo("No decisions; `usage-explore decide ID` makes one.")
        return
    rows = [
        (
            one.finding.identity.id,
            decision(one, ZoneInfo("UTC")),
            shortened(f"{one.finding.identity.check}: {one.finding.sentence}", _MAX_SENTENCE_CHARACTERS),
        )
        for one in made
    ]
    for line in table([("finding", "left"), ("decision (times in UTC)", "left"), ("what", "left")], rows):
        click.echo(line)


@click.command(name="signoffs")
@click.argument("signoff", metavar="ID", required=False)
@click.option("--csv", "csv_", type=click.Path(path_type=Path), metavar="FILE", help="Write supplements and credits.")
@click.option("--escape-formulas", is_flag=True, help=f"CSV only. {formulas.MEANING}")
@click.option(
    "--json", "json_", type=click.Path(path_type=Path), metavar="FILE", help="Write it all as JSON; - for stdout."
)
@click.option(
    "--prices",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The price book, if amounts were signed by one that is not stored.",
)
@click.option(
    "--wallets",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Preferred currencies for expected amounts.",
    show_default="those that were signed",
)
@click.option("--fail-on-changes", is_flag=True, help="Exit code 3 if something changed since.")
@organization
@common
def list_signoffs(
    signoff: str | None,
    csv_: Path | None,
    escape_formulas: bool,
    json_: Path | None,
    prices: Path | None,
    wallets: Path | None,
    fail_on_changes: bool,
) -> None:
    """List the sign-offs, newest first, with what changed in each period since; the one whose ID begins so.

    --csv writes a row for each customer, metric, wallet and currency that changed, to hand to billing. Of a period that
    was signed several times only the last sign-off counts: what came before it is part of it. With the ID of an earlier
    one, the changes are those that the next one includes.
    """
    from usage_explore.open_store import opened
    from usage_explore.results.whole_file import whole_file
    from usage_explore.validation.signed_periods import latest_of_periods

    if escape_formulas and csv_ is None:
        raise ConfigurationError("--escape-formulas: is for --csv; add it, or leave this out")
    for option, path, suffix in (("--csv", csv_, ".csv"), ("--json", json_, ".json")):
        if path is not None and path != _STDOUT and path.suffix.lower() != suffix:
            raise ConfigurationError(
                f"{option}: {validators.shorten(path.name)} does not end in {suffix}; name it that way"
            )
    with ExitStack() as here:
        parts = {path: here.enter_context(whole_file(path)) for path in (csv_, json_) if path and path != _STDOUT}
        store = here.enter_context(opened(settings_in_force()))
        every = store.signoffs()
        signed = [one for one in every if signoff is None or str(one.id).startswith(signoff)]
        if signoff is not None and not signed:
            raise QueryError([Fault("signoff", f"{validators.shorten(signoff)} is the id of no sign-off")])
        latest = signed if signoff is not None else latest_of_periods(signed)
        others = every if signoff is not None else ()  # without an ID, none of the listed changes is superseded
        changed = {one.id: _changes(store, one, others, prices, wallets) for one in latest}
        found = [item for item in changed.values() if not isinstance(item, str)]
        if csv_ and not found:
            raise ConfigurationError(
                "--csv: there is no sign-off to compare; `validate --sign-off --by NAME` makes one"
            )
        if csv_ in parts:
            parts[csv_].write_bytes(_csv(found, escape_formulas=escape_formulas))
        if json_:
            rows = [{**one.to_dict(), **_json(changed.get(one.id))} for one in signed]
            document = json.dumps(rows, indent=2, ensure_ascii=False)
        if json_ in parts:
            parts[json_].write_text(document + "\n", encoding="utf-8")
    if json_ == _STDOUT:
        click.echo(document)
    else:
        _print(signed, changed)
    for path in parts:
        say(f"Wrote {path_text(path)}.", err=True)
    if fail_on_changes and any(found):
        sys.exit(CHANGED)


def _changes(
    store: Store, signed: SignOff, others: Sequence[SignOff], prices: Path | None, wallets: Path | None
) -> Changes | str:
    """What changed, until the next sign-off of the period if the others have one, or why that cannot be said."""
    from usage_explore.records.signoffs import signed_period
    from usage_explore.validation.signed_again import next_signoff

    try:
        signed_period(signed)
    except QueryError as error:
        return f"this version cannot read the period: {error}"
    return store.changes_since(signed, prices=prices, wallets=wallets, until=next_signoff(signed, others))


def _json(changed: Changes | str | None) -> dict[str, object]:
    if changed is None:
        return {"changes": "superseded by a later sign-off of the period", "rows": []}
    if isinstance(changed, str):
        return {"changes": None, "rows": [], "error": changed}
    return {name: value for name, value in changed.to_dict().items() if name != "sign_off"}


def _csv(changed: Sequence[Changes], *, escape_formulas: bool) -> bytes:
    """The rows of all changes below one heading."""
    import pandas as pd

    from usage_explore.validation.signed_usage import changes_csv

    frames = [item.frame for item in changed]
    whole = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
    return changes_csv(whole, escape_formulas=escape_formulas)


def _print(signed: Sequence[SignOff], changed: dict[UUID, Changes | str]) -> None:
    from usage_explore.records.signoffs import period_words
    from usage_explore.validation.report.wording import days_signed, signed_amounts

    if not signed:
        click.echo("No sign-offs; `usage-explore validate --sign-off --by NAME` makes one.")
        return
    rows = []
    for one in signed:
        zone, item = ZoneInfo(one.timezone), changed.get(one.id)
        since = "superseded" if item is None else item if isinstance(item, str) else _sentence(item)
        days = days_signed(one.since, one.until, one.as_of, zone)
        left = f"; {days}" if days else ""
        left += f"; {counted(len(one.open), 'open high finding')}" if one.open else ""
        expected = signed_amounts(one)
        left += f"; expected {expected}" if expected else ""
        rows.append(
            (
                str(one.id)[:8],
                f"{_second(one.signed_at, zone)}, {one.author}",
                period_words(one),
                f"{counted(one.events, 'event')} as of {_second(one.as_of, zone)}{left}",
                since,
            )
        )
    headings = ("id", "signed", "period", "what", "changed since")
    for line in table([(heading, "left") for heading in headings], rows):
        click.echo(line)


def _sentence(changed: Changes) -> str:
    notes = (("amounts", changed.amounts_note), ("content of events", changed.content_note))
    parts = [changed.sentence, *(f"{what} not compared: {note}" for what, note in notes if note)]
    is_said = changed.taken_over and not changed.uncompared
    return "; ".join([*parts, changed.overlap_note] if changed.overlap_note and not is_said else parts)


def _second(moment: datetime, zone: ZoneInfo) -> str:
    return zoned(moment.replace(microsecond=0), zone)
