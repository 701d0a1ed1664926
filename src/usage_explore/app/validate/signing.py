"""Sign-off of a period on the Validate page: what is signed, who signed it, and what changed since."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from uuid import UUID
from zoneinfo import ZoneInfo

import streamlit as st

from usage_explore import formatting
from usage_explore.app import cache, grid, markdown, sign_in
from usage_explore.app.cache import Source
from usage_explore.app.components import once
from usage_explore.app.exports import made_at_click
from usage_explore.app.navigation import go
from usage_explore.app.page_state import ValidateView
from usage_explore.app.uploads import File, private_copy
from usage_explore.app.validate import run
from usage_explore.app.validate.amounts import expected
from usage_explore.app.validate.decisions import current_author, forget, name_field
from usage_explore.app.validate.files import ValidationWithFiles, dropped_file, with_cents
from usage_explore.errors import UsageExploreError
from usage_explore.pricing.currencies import rounded_amount, scale
from usage_explore.pricing.rating import Rating
from usage_explore.query.describe import describe
from usage_explore.query.queries import Period
from usage_explore.records.signoffs import SignOff, signed_period
from usage_explore.records.texts import LOCAL_AUTHOR, MAX_NOTE_CHARACTERS
from usage_explore.store import Store
from usage_explore.validation import Validation
from usage_explore.validation.file_kinds import FileKind
from usage_explore.validation.report.wording import (
    amounts,
    days_signed,
    disagreement,
    expected_words,
    left_unsigned,
    signed_amounts,
    statements,
)
from usage_explore.validation.review import Review, organization_of, period_key
from usage_explore.validation.signed_again import lost_inputs, other_inputs
from usage_explore.validation.signed_periods import last_signoff, overlap_warning, signed_otherwise
from usage_explore.validation.signed_usage import Changes
from usage_explore.validation.similar import fitting

_NOTE, _KEPT_NOTE, _ERROR = "validate_sign_note", "validate_sign_note_kept", "validate_sign_error"
_MAX_SHOWN_CHANGES, _MAX_OPEN = 200, 20
_MAX_SENTENCE = 160  # characters of an open finding
_STATEMENT_WIDTH = 760  # pixels
_MAX_FULL_HEIGHT_ROWS, _SCROLLED_HEIGHT = 12, 440
_MINUTE = 60
_SIGNED = ":material/verified:"
_CORRECTIONS = {"supplement": "Supplement", "credit": "Credit", "check": "Check", "none": None}


def signed_line(source: Source, period: Period, validation: Validation | None) -> None:
    """Draw who signed the period last, what changed since, and the way to the corrections, which are in a tab once the
    checks have run on events; if it is not signed, who signed another one that has most of it.
    """
    try:
        last = last_of(source, period)
        if last is None:
            every = _signoffs(source.store, source.store.organization_id)
            if words := signed_otherwise(period.resolve(source.now), every, source.names):
                st.info(markdown.plain(words), icon=_SIGNED)
            return
        changed = changed_since(source, last)
    except UsageExploreError as error:
        st.caption(markdown.plain(f"Sign-offs cannot be read: {error}"))
        return
    zone = period.zone
    who = f"Signed off by {formatting.data_value(last.author)}, {_signed_words(last, zone)}"
    until = formatting.minute(changed.now.astimezone(zone), last.signed_at.astimezone(zone))
    if changed:
        words = formatting.typographic(changed.sentence)
        corrections = " Run the checks; the tab Sign-off then has the corrections."
        if validation is not None:
            corrections = " The tab Sign-off has the corrections." if validation.totals.events else ""
        st.warning(
            f"**{markdown.plain(who)}.** Changed by {until}: {markdown.plain(words)}.{corrections}",
            icon=":material/difference:",
        )
    else:
        is_same = not changed.rows and not changed.taken_over
        words = f"unchanged at {until}" if is_same else formatting.typographic(changed.sentence)
        if changed.amounts_note:
            words += f"; expected amounts are not compared: {changed.amounts_note}"
        st.caption(f"{_SIGNED} {markdown.plain(f'{who}; {words}')}.")


def sign_off(view: ValidateView, source: Source, with_files: ValidationWithFiles, review: Review) -> None:
    """Draw the period's last sign-off with its corrections, then what would be signed now, and the button."""
    validation = with_files.validation
    zone = validation.period.zone
    every = _signoffs(source.store, source.store.organization_id)
    signed = [one for one in every if last_signoff([one], validation.period)]
    if not signed:
        _statement(view, source, with_files, review, None)
        return
    if _signed(source, signed[0], zone):
        st.divider()
        _statement(view, source, with_files, review, signed[0])
    else:
        _error()
        with st.expander("Sign off again", key="sign_again", on_change="rerun") as again:
            if again.open:
                st.caption(
                    "Nothing has changed since the last sign-off, which stays in force. Another one replaces it: sign"
                    " again to change its note, its signer or the findings that it leaves open."
                )
                _statement(view, source, with_files, review, signed[0])
    if len(signed) > 1:
        number = formatting.counted(len(signed) - 1, "earlier sign-off")
        st.caption(
            f"The last sign-off, of {_minute(signed[0].signed_at, zone)}, replaces that of"
            f" {_minute(signed[1].signed_at, zone)} by {markdown.plain(formatting.data_value(signed[1].author))}, and"
            f" includes what was known at {_minute(signed[0].as_of, zone)}. The corrections between the two, if there"
            " are any, are below: billing may not have them yet."
        )
        with st.expander(f"{number} of this period", key="signed_earlier", on_change="rerun") as earlier:
            if earlier.open:
                for following, one in pairwise(signed):
                    _superseded(source, one, following, zone)


def _superseded(source: Source, one: SignOff, following: SignOff, zone: ZoneInfo) -> None:
    """Draw an earlier sign-off of the period, and as a file what the next one includes."""
    words = f"{_minute(one.signed_at, zone)}, {one.author}: {formatting.counted(one.events, 'event')}"
    words += f", as of {_minute(one.as_of, zone)}"
    changed = _changes(source.store, source.store.organization_id, one, source.now, (), None, None, following)
    if changed.rows:
        words += f". Until the next sign-off: {formatting.typographic(changed.sentence)}"
    if changed.amounts_note:
        words += f". Expected amounts are not compared: {changed.amounts_note}"
    if changed.overlap_note:
        words += f". {changed.overlap_note[0].upper()}{changed.overlap_note[1:]}"
    st.caption(markdown.plain(f"{words}."))
    if changed.corrections or changed.to_check:
        _download(
            source, changed, "The later sign-off includes them. Hand them to billing, if it does not have them yet."
        )


def _download(source: Source, changed: Changes, help_: str) -> None:
    """Draw the button that downloads corrections."""
    one = changed.signoff
    st.download_button(
        "Supplements and credits, CSV",
        made_at_click(lambda: BOM_UTF8 + changed.to_csv(escape_formulas=True), source),
        f"corrections-{one.since.astimezone(ZoneInfo(one.timezone)):%Y-%m-%d}-{str(one.id)[:8]}.csv",
        "text/csv",
        key=f"signed_csv {one.id}",
        on_click="ignore",
        icon=":material/download:",
        help=f"A row for each customer, metric, wallet and currency, exact, to hand to billing. {help_}",
    )


def _signed(source: Source, one: SignOff, zone: ZoneInfo) -> bool:
    """Draw the last sign-off, and what changed since as a table and a file; whether anything did."""
    changed = changed_since(source, one)
    who = f"**Signed off by {markdown.plain(formatting.data_value(one.author))}**, {_signed_words(one, zone)}"
    st.markdown(f"{who}  \n{formatting.counted(one.events, 'event')}")
    if one.note:
        st.caption(f"Note: {markdown.plain(one.note)}".replace("\n", "  \n"))
    left = f"{formatting.counted(len(one.open), 'finding')} of high severity stayed open. " if one.open else ""
    if totals := signed_amounts(one, rounded_amount):
        left += f"Signed with expected amounts of {totals}. "
    if changed.amounts_note:
        left += f"Expected amounts are not compared now: {changed.amounts_note}. "
    if changed.content_note:
        left += f"Edits that leave all sums as they were are not seen: {changed.content_note}. "
    if changed.overlap_note and (changed.uncompared or not changed.taken_over):
        left += f"Not all of it is counted here: {changed.overlap_note}. "
    left = markdown.plain(left)
    parts = [markdown.plain(formatting.typographic(f"{part[0].upper()}{part[1:]}")) for part in changed.own_parts]
    if not changed and not changed.rows and not changed.taken_over:
        until = formatting.minute(changed.now.astimezone(zone), one.signed_at.astimezone(zone))
        st.caption(f"{left}Nothing had changed in this period at {until}.")
        return False
    if left:
        st.caption(left)
    corrections = len(changed.corrections)
    to_check = formatting.counted(len(changed.to_check), "row") if changed.to_check else ""
    number = "" if to_check else "Nothing to bill"
    if changed.removals and changed.removals.boundary_words() and not to_check:
        number = "No correction is known"
    if corrections:
        number = f"{formatting.counted(corrections, 'correction')} to hand to billing"
    if to_check:
        number = ", ".join(filter(None, [number, f"{to_check} for billing to check"]))
    if changed.taken_over:
        number += " here"
        taken = formatting.typographic("; ".join(one.sentence for one in changed.taken_over))
        st.info(
            f"**{markdown.plain(taken)}.** They changed after it was signed, and are among its corrections: bill them"
            " with that sign-off. Amounts are as this period rates them.",
            icon=":material/move_down:",
        )
    st.markdown("\n".join([f"**{number}**", "", *(f"- {part}" for part in parts)]))
    if not changed.lines:
        return bool(changed)
    lines = changed.lines[:_MAX_SHOWN_CHANGES]
    customers = [changed.names.known("customer", line.customer_id) or str(line.customer_id) for line in lines]
    columns = {
        "Correction": grid.texts("Correction", [_CORRECTIONS[line.correction] for line in lines]),
        "Customer": grid.texts("Customer", customers, formatting.short_ids),
        "Amount": _money("Amount", [(line.amount, line.amount_currency) for line in lines]),
        "Amount currency": grid.texts("Amount currency", [line.amount_currency for line in lines]),
        "Metric": grid.texts("Metric", [line.metric_key for line in lines]),
        "Quantity": grid.numbers("Quantity", [line.quantity for line in lines]),
        "Events": grid.numbers("Events", [line.events for line in lines]),
        "Cost": _money("Cost", [(line.cost, line.cost_currency) for line in lines]),
        "Cost currency": grid.texts("Cost currency", [line.cost_currency for line in lines]),
        "Wallet": grid.texts("Wallet", [line.wallet_currency for line in lines]),
        "Why": grid.texts("Why", [line.reason.capitalize() for line in lines]),
    }
    if not one.amounts and all(line.amount is None for line in lines):
        del columns["Amount"], columns["Amount currency"]
    height = "content" if len(lines) <= _MAX_FULL_HEIGHT_ROWS else _SCROLLED_HEIGHT
    grid.draw(columns, height=height, key="signed_changes", alt="What changed since the sign-off")
    if more := len(changed.lines) - len(lines):
        st.caption(f"and {more:,} more; the file has all of them")
    _download(source, changed, "Sign again when they are billed: the next sign-off includes them.")
    return bool(changed)


def _money(heading: str, amounts: Sequence[tuple[Decimal | None, str | None]]) -> grid.Column:
    """Amounts with every digit; with at least two decimals if any is of a currency that has some, or has some itself.

    `amounts` are each with its currency.
    """
    known = [(amount, currency) for amount, currency in amounts if amount is not None and amount.is_finite()]
    has_cents = any(scale(currency or "") or amount != int(amount) for amount, currency in known)
    return grid.numbers(heading, [amount for amount, _ in amounts], with_cents if has_cents else formatting.exact)


def _statement(
    view: ValidateView, source: Source, with_files: ValidationWithFiles, review: Review, last: SignOff | None
) -> None:
    """What is signed, which sign-off it replaces, what stays open, and the button."""
    validation = with_files.validation
    rating = _rating(source, with_files)
    period, zone = validation.period, validation.period.zone
    as_of = _minute(period.as_of or validation.now, zone)
    what = validation.names.in_text(describe(period.replace(as_of=None)))
    st.markdown(f"**{'Sign off again' if last else 'Sign off this period'}**")
    organization = validation.names.full("organization", str(period.organization_id))
    days = days_signed(*period.span, period.as_of or validation.now, zone)
    usage = f"{f'{days}, ' if days else ''}{formatting.counted(validation.totals.events, 'event')}, as of {as_of}"
    if later := validation.unexamined:
        usage += f"; without {formatting.counted(later.events, 'event')} that arrived later"
    cost = amounts(sorted(validation.totals.costs.items(), key=lambda item: item[0] or ""), rounded_amount)
    details = {
        "Organization": organization,
        "Period": what,
        "Usage": usage,
        "External cost": cost or "none",
        "Expected amounts": rating
        if isinstance(rating, str)
        else expected_words(rating.totals, rating.unpriced_events, rounded_amount),
        "Findings": "; ".join(filter(None, [_findings_words(review), review.unseen_sentence(zone)])),
        "Not checked": _unchecked(validation) or "nothing: every check ran",
    }
    if last:
        details["Replaces"] = _replaced_words(source, last, as_of, validation.totals.events)
    with st.container(width=_STATEMENT_WIDTH):
        st.table({name: markdown.plain(text) for name, text in details.items()}, border="horizontal")
        st.caption(f"Report hash {review.report_hash}: the same checks on the same data give it again.")
    left_open = review.open("high")
    if left_open:
        number = formatting.counted(len(left_open), "finding")
        st.warning(
            f"**{number} of high severity {'is' if len(left_open) == 1 else 'are'} open.** Acknowledge or mute each "
            f"and note the reason, or sign with {'it' if len(left_open) == 1 else 'them'} open: the sign-off names"
            f" {'it' if len(left_open) == 1 else 'them'}.",
            icon=":material/warning:",
        )
        for item in left_open[:_MAX_OPEN]:
            text = fitting(item.finding.sentence, _MAX_SENTENCE, validation.names, validation.totals.metrics.keys())
            st.button(
                markdown.plain(text),
                key=f"sign_open {item.id}",
                type="tertiary",
                icon=":material/arrow_forward:",
                on_click=lambda item=item: _open(view, item.id),
            )
        if more := max(len(left_open) - _MAX_OPEN, 0):
            st.caption(f"and {more:,} more in the list of findings")
    _error()
    every = _signoffs(source.store, source.store.organization_id)
    before = last_signoff([one for one in every if one.amounts], period)
    rated = None if isinstance(rating, str) else rating
    inputs = lost_inputs(before, rated) or other_inputs(before, rated)
    for warning, icon in (
        (review.unseen_sentence(zone), ":material/warning:"),
        (left_unsigned(validation), ":material/hourglass_bottom:"),
        (_later_words(last, validation), ":material/history:"),
        (inputs, ":material/money_off:"),
        (overlap_warning(period, every), ":material/event_repeat:"),
    ):
        if warning:
            st.warning(markdown.plain(f"{warning[0].upper()}{warning[1:].removesuffix('.')}."), icon=icon)
    with st.container(width=520, gap="small"):
        if sign_in.current_user() is None:
            name_field("sign")
        _note_field(period_key(period))
        number_open = len(left_open) + sum(finding.severity == "high" for _, finding in review.unseen)
        label = f"Sign off with {formatting.counted(number_open, 'high finding')} open" if number_open else "Sign off"
        st.button(
            label,
            key="sign_off",
            type="primary",
            icon=":material/draw:",
            disabled=current_author() == LOCAL_AUTHOR,
            on_click=once,
            args=(
                f"sign_off {review.report_hash}",
                lambda: _sign(validation, None if isinstance(rating, str) else rating, last),
            ),
            help="Name who signs first." if current_author() == LOCAL_AUTHOR else None,
        )
        st.caption(
            f"{markdown.plain(current_author())} signs. Kept are the numbers above, by customer, metric, wallet and "
            "currency. Later this page says what changed since, with credits and supplements."
            if current_author() != LOCAL_AUTHOR
            else "Your name stands under the sign-off and in every report of it."
        )


def _note_field(period: str) -> None:
    """Draw the field for the note on a period; what was typed is there again after a look at another tab."""
    kept = st.session_state.get(_KEPT_NOTE, {})
    if _NOTE not in st.session_state:
        st.session_state[_NOTE] = kept.get(period, "")

    def keep() -> None:
        st.session_state[_KEPT_NOTE] = {period: st.session_state.get(_NOTE, "")}

    st.text_area("Note", key=_NOTE, max_chars=MAX_NOTE_CHARACTERS, height=70, on_change=keep)


def _rating(source: Source, with_files: ValidationWithFiles) -> Rating | str:
    """The expected amounts, or why there are none."""
    try:
        return expected(source, with_files) or "not computed: there is no price book"
    except UsageExploreError as error:
        return f"not computed: {error}"


def _replaced_words(source: Source, last: SignOff, as_of: str, events: int) -> str:
    """The sign-off that the next one, of these events as of a time, replaces, and what becomes of its corrections."""
    words, changed = f"sign-off {str(last.id)[:8]} by {formatting.data_value(last.author)}", changed_since(source, last)
    number = len(changed.corrections) + len(changed.to_check)
    if not number:
        return f"{words}, which has no corrections"
    becomes = f"what was known at {as_of} becomes part of this one: hand that to billing first"
    becomes = f"none was known at {as_of}" if changed.is_late and events == last.events else becomes
    words = f"{words}; of its {formatting.counted(number, 'correction')}, {becomes}"
    return f"{words}. Run the checks again to include what came later"


def _findings_words(review: Review) -> str:
    """The findings by severity, and how many of each are open."""
    if not review.items:
        return "none"
    parts = []
    for severity, number in review.validation.counts().items():
        if number:
            still = len(review.open(severity))
            parts.append(f"{number:,} {severity} ({'all' if still == number else f'{still:,}'} open)")
    return ", ".join(parts)


def _unchecked(validation: Validation) -> str:
    """The checks that were skipped or failed, and what the others could not compare."""
    titles = ", ".join(result.check.title for result in validation.results if result.skipped or result.failed)
    return "; ".join(filter(None, [titles, *validation.unchecked]))


def _open(view: ValidateView, finding_id: str) -> None:
    st.session_state["validate_tab"] = "Findings"
    go(view, lambda: view.replace(finding=finding_id))


def _error() -> None:
    """Draw why the last press signed nothing, once."""
    if text := st.session_state.pop(_ERROR, None):
        st.error(markdown.plain(text), icon=":material/error:")


def _later_words(last: SignOff | None, validation: Validation) -> str:
    """A warning that the last sign-off knows later events than the validation; blank if it does not."""
    if last is None or last.as_of <= (validation.period.as_of or validation.now):
        return ""
    known = _minute(last.as_of, validation.period.zone)
    return f"the last sign-off, as known at {known}, knows more than this page: run the checks again as of now first"


def _unseen_words(store: Store, validation: Validation, shown: SignOff | None) -> str:
    """The last sign-off of the period, if the page has not shown it; else blank."""
    last = last_signoff(store.signoffs(), validation.period)
    if last is None or (shown is not None and shown.id == last.id):
        return ""
    zone = validation.period.zone
    known, here = (_minute(at, zone) for at in (last.as_of, validation.period.as_of or validation.now))
    words = f"since this page was drawn, {formatting.data_value(last.author)} signed the period, as known at {known}."
    if _later_words(last, validation):
        return f"{words} That is later than the {here} of this page: run the checks again as of now"
    return f"{words} Look at what it has before you replace it"


def _sign(validation: Validation, rating: Rating | None, shown: SignOff | None) -> bool:
    """Sign off, in the place of the last sign-off that the page has shown; whether it was signed."""
    try:
        store = cache.source(organization_of(validation)).store
        if reason := disagreement(statements(store, validation)) or _unseen_words(store, validation, shown):
            st.session_state[_ERROR] = f"Not signed off: {reason}."
            return False
        store.sign_off(validation, by=current_author(), note=st.session_state.get(_NOTE, ""), rating=rating)
    except UsageExploreError as error:
        st.session_state[_ERROR] = f"Not signed off: {error}"
        return False
    finally:
        forget_signoffs()
    st.session_state[_NOTE], st.session_state[_KEPT_NOTE] = "", {}
    return True


def forget_signoffs() -> None:
    """Read sign-offs, decisions and changes again in the next run."""
    forget()
    _signoffs.clear()
    _changes.clear()


def last_of(source: Source, period: Period) -> SignOff | None:
    """The last sign-off of the period and filters; None without one. Raises `UsageExploreError`."""
    return last_signoff(_signoffs(source.store, source.store.organization_id), period.resolve(source.now))


def _minute(moment: datetime, zone: ZoneInfo) -> str:
    return formatting.minute(moment.astimezone(zone))


def _signed_words(one: SignOff, zone: ZoneInfo) -> str:
    """When it was signed, and as of when: "5 Nov 2026 14:30, as known at 14:25". Changes count from the latter.

    Where the period was not over: "…, 14 of 31 days".
    """
    signed_at = one.signed_at.astimezone(zone)
    known = f"as known at {formatting.minute(one.as_of.astimezone(zone), signed_at)}"
    days = days_signed(one.since, one.until, one.as_of, zone)
    return ", ".join(filter(None, (formatting.minute(signed_at), known, days)))


@st.cache_resource(ttl=_MINUTE, max_entries=100, show_spinner=False)
def _signoffs(_store: Store, organization_id: UUID | None) -> tuple[SignOff, ...]:
    with cache.logged_work("sign-offs", organization_id):
        return tuple(_store.signoffs())


def changed_since(source: Source, signed: SignOff) -> Changes:
    """What changed since a sign-off; its amounts by the session's price book, else by the stored one, and by the
    preferred currencies that were signed.
    """
    period = signed_period(signed)
    kinds: tuple[FileKind, ...] = ("prices", "wallets")
    book, wallets = (dropped_file(kind, period) for kind in kinds)
    wallets = wallets if signed.basis is None else None
    if book and not signed.amounts and signed.basis is None:
        try:
            run.price_book(book)
        except UsageExploreError:  # said beside the file; what was signed without any book does not need it
            book = None
    digests = tuple(file.digest if file else "" for file in (book, wallets))
    return _changes(source.store, source.store.organization_id, signed, source.now, digests, book, wallets)


@st.cache_resource(
    ttl=_MINUTE, max_entries=100, show_spinner=False, hash_funcs={SignOff: lambda one: (str(one.id), one.place)}
)
def _changes(
    _store: Store,
    organization_id: UUID | None,
    signoff: SignOff,
    now: datetime,
    digests: tuple[str, ...],
    _book: File | None,
    _wallets: File | None,
    until: SignOff | None = None,
) -> Changes:
    with cache.logged_work("changes since a sign-off", organization_id), ExitStack() as copies:
        path = copies.enter_context(private_copy(_wallets)) if _wallets else None
        return _store.changes_since(signoff, prices=run.price_book(_book) if _book else None, wallets=path, until=until)
