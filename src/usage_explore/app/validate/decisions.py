"""What was decided on findings: their states, the actions on an open finding, and its history.

A decision is kept at the click. Every decision checks anew that the organization is visible to the user.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import streamlit as st

from usage_explore import formatting
from usage_explore.app import cache, markdown, sign_in
from usage_explore.app.cache import Source
from usage_explore.app.components import focus, once, popover_form
from usage_explore.errors import RecordError, UsageExploreError
from usage_explore.query import buckets
from usage_explore.query.queries import Period
from usage_explore.records.decisions import MAX_ASSIGNEE_CHARACTERS
from usage_explore.records.texts import LOCAL_AUTHOR, MAX_AUTHOR_CHARACTERS, MAX_NOTE_CHARACTERS, author
from usage_explore.validation import Validation
from usage_explore.validation.report.wording import decision as decision_words
from usage_explore.validation.review import Review, Reviewed, organization_of, review

_NAME = "validate_name"
"""Session state: the name that a user without sign-in gave, for the whole session."""

_REVIEW, _ERROR, _KEPT = "validate_review", "validate_decision_error", "validate_kept_runs"
"""Session state: the last review, the error of the last decision, and the runs that the session has kept."""

_DECIDED = "validate_decided"
"""Session state: True in the run after a decision."""

_FRESH_SECONDS = 60
"""Age up to which the decisions of other people are shown."""

_MAX_DECIDED_AT_ONCE = 100

_MUTES = (("for a week", 7), ("for 30 days", 30), ("for 90 days", 90))
"""Offered ends of a mute, in days from today."""


def current_author() -> str:
    """Who decides: the signed-in user, else the name that was given in this session, else "local"."""
    if user := sign_in.current_user():
        return author(user)  # an address is not refused for its form
    return str(st.session_state.get(_NAME) or "").strip() or LOCAL_AUTHOR


def name_field(place: str, *, is_in_form: bool = False) -> None:
    """Draw the field for the name of a user without sign-in; `place` distinguishes the fields of a page.

    In a form the name is remembered when its button is pressed.
    """
    key = f"{_NAME} {place}"
    if not is_in_form or key not in st.session_state:
        st.session_state[key] = st.session_state.get(_NAME, "")
    remember = None if is_in_form else lambda: _remember_name(place)
    st.text_input("Your name", key=key, max_chars=MAX_AUTHOR_CHARACTERS, on_change=remember)


def _remember_name(place: str) -> None:
    name = st.session_state.get(f"{_NAME} {place}")
    if name is not None:
        st.session_state[_NAME] = str(name).strip()


def _who_decides(place: str, *, is_in_form: bool = False) -> None:
    """Draw the field for the name while it is not known, and what is written without one.

    The field stays until its panel closes: the browser would close the panel with what has the focus.
    """
    is_drawn = f"{_NAME} {place}" in st.session_state
    if current_author() != LOCAL_AUTHOR and (sign_in.current_user() or not is_drawn):
        st.caption(f"Decided by {markdown.plain(formatting.data_value(current_author()))}.")
        return
    name_field(place, is_in_form=is_in_form)
    st.caption(f'Asked for once in a browser session. Without a name the history says "{LOCAL_AUTHOR}".')


def _reason(popover: str, label: str = "Reason, if any") -> None:
    st.text_area(label, key=f"{popover}_text", max_chars=MAX_NOTE_CHARACTERS, height=70)


def keep_run(source: Source, validation: Validation, *, has_files: bool) -> None:
    """Keep the validation as a run, once in a session; if that fails, say so in the findings' tab.

    One that examined nothing, such as right after a load, is not kept: elsewhere it would read as clean.
    What files add to it is found now: a later run knows those findings from now on, not from when the checks ran.
    """
    kept: set[object] = st.session_state.setdefault(_KEPT, set())
    key = validation.now, tuple(id(result) for result in validation.results)
    if key in kept or validation.is_empty:
        return
    kept.add(key)
    try:
        made_at = max(source.store.now(), validation.now) if has_files else None
        source.store.keep_run(validation, by=current_author(), made_at=made_at)
    except UsageExploreError as error:
        st.session_state[_ERROR] = f"This run was not kept: {error}"


def reviewed(source: Source, validation: Validation) -> tuple[Review, str]:
    """The findings with their states, and why the records could not be read, "" if they could."""
    held: tuple[float, Validation, tuple[Review, str]] | None = st.session_state.get(_REVIEW)
    if held is not None and time.monotonic() - held[0] < _FRESH_SECONDS and _is_same(held[1], validation):
        return held[2]
    try:
        with cache.logged_work("review", source.store.organization_id, validation.period):
            result = source.store.review(validation), ""
    except RecordError as error:
        result = review(validation, (), (), source.now), f"Every finding is shown as new and open. {error}"
    st.session_state[_REVIEW] = time.monotonic(), validation, result
    return result


def _is_same(one: Validation, other: Validation) -> bool:
    return one is other or (
        one.period == other.period
        and one.now == other.now
        and one.names == other.names
        and one.files == other.files
        and len(one.results) == len(other.results)
        and all(a is b for a, b in zip(one.results, other.results, strict=True))
    )


def forget() -> None:
    """Read the records again in the next run."""
    st.session_state.pop(_REVIEW, None)


def notice() -> None:
    """Draw the error of the last decision or kept run, once."""
    if text := st.session_state.pop(_ERROR, None):
        st.warning(markdown.plain(text), icon=":material/warning:")


def state_words(item: Reviewed, zone: ZoneInfo) -> str:
    """The state in the list: `New`, `Known`, `Acknowledged`, `Muted to 5 Dec`, with who it is assigned to."""
    settled = item.settled
    if settled is not None and settled.until is not None:
        words = f"Muted to {formatting.date(settled.until.astimezone(zone))}"
    elif settled is not None:
        words = "Acknowledged"
    else:
        words = "New" if item.is_new else "Known"
    return f"{words} · {formatting.data_value(item.assignee, 30)}" if item.assignee else words


def actions(source: Source, validation: Validation, item: Reviewed) -> None:
    """Draw the open finding's state and the buttons that decide on it."""
    zone = validation.period.zone
    st.caption(markdown.plain(_status(item, zone)))
    notice()
    decide = _deciding(organization_of(validation), [item])
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="finding_actions"):
        if item.is_open:
            text = "You have looked at it and answer for it. It no longer counts as open."
            _settle("acknowledge", ":material/check:", text, decide)
        else:
            text = "Make it open again. The history keeps what was decided."
            _settle("reopen", ":material/undo:", text, decide)
        _mute(validation.period, decide)
        _assign(item, decide)
        _note(decide)
        if st.session_state.pop(_DECIDED, False):  # the button that had the focus is gone
            focus(".st-key-finding_actions", f"decided {item.id} {len(item.decisions)}")


def actions_on_all(validation: Validation, items: Iterable[Reviewed]) -> None:
    """Draw the buttons that decide the same on every open one of these findings, unless they are too many."""
    still_open = [item for item in items if item.is_open]
    if not 1 < len(still_open) <= _MAX_DECIDED_AT_ONCE:
        return
    decide = _deciding(organization_of(validation), still_open)
    number = formatting.counted(len(still_open), "open finding")
    with st.container(
        horizontal=True, vertical_alignment="center", gap="small", key="all_findings_actions", width="content"
    ):
        st.caption(f"All {number} of this list:", width="content")
        text = f"You have looked at each of the {number} and answer for them. They no longer count as open."
        _settle("acknowledge", ":material/check:", text, decide, f"Acknowledge {number}")
        _mute(validation.period, decide)


def history(item: Reviewed, zone: ZoneInfo) -> None:
    """Draw the decisions on the finding, newest first."""
    if not item.decisions:
        return
    with st.expander(f"History, {formatting.counted(len(item.decisions), 'decision')}", icon=":material/history:"):
        for made in reversed(item.decisions):
            st.markdown(markdown.plain(decision_words(made, zone)).replace("\n", "  \n"))


def _status(item: Reviewed, zone: ZoneInfo) -> str:
    """The state in a sentence."""
    first = item.first_seen
    parts = ["New" if first is None else f"Known since {_minute(first, zone)}"]
    settled = item.settled
    if settled is None:
        parts.append(f"open again: {item.lapsed}" if item.lapsed else "open")
    else:
        until = "" if settled.until is None else f" until {_minute(settled.until, zone)}"
        done = "muted" if settled.action == "mute" else "acknowledged"
        parts.append(f"{done}{until} by {formatting.data_value(settled.author)}, {_minute(settled.made_at, zone)}")
    if item.assignee:
        parts.append(f"assigned to {formatting.data_value(item.assignee)}")
    return " · ".join(parts)


def _minute(moment: datetime, zone: ZoneInfo) -> str:
    return formatting.date_and_time(moment.astimezone(zone).replace(second=0, microsecond=0))


_Decide = Callable[..., None]


def _settle(action: str, icon: str, text: str, decide: _Decide, label: str = "") -> None:
    """The form of an action that needs no more than a reason; `label` is that of its button, by default the action."""
    key = f"decide_{action}"
    form = popover_form(action.capitalize(), icon, key)
    if form is None:
        return
    with form, st.form(f"{key}_fields", border=False):
        st.caption(text)
        _reason(key)
        _who_decides(key, is_in_form=True)
        st.form_submit_button(
            label or action.capitalize(), key=f"{key}_save", type="primary", on_click=lambda: decide(action, key)
        )


def _mute(period: Period, decide: _Decide) -> None:
    form = popover_form("Mute", ":material/notifications_off:", "decide_mute")
    if form is None:
        return
    today = datetime.now(period.zone).date()
    day: date | None = st.session_state.get("decide_mute_date")
    with form:
        st.caption("Until then it does not count as open. It stays in the list, the report and JSON, marked.")
        _reason("decide_mute")
        _who_decides("decide_mute")
        with st.container(horizontal=True, gap="small"):
            for label, days in _MUTES:
                until = buckets.day_start(today + timedelta(days=days + 1), period.zone)  # not some hours less
                st.button(
                    label.capitalize(),
                    key=f"decide_mute_{days}",
                    on_click=lambda until=until: decide("mute", "decide_mute", until=until),
                )
        st.date_input(
            "Or until",
            value=None,
            min_value=today + timedelta(days=1),
            key="decide_mute_date",
            format="YYYY-MM-DD",
        )
        st.button(
            "Mute until this day",
            key="decide_mute_until",
            type="primary",
            disabled=day is None,
            on_click=lambda: decide("mute", "decide_mute", until=day and buckets.day_start(day, period.zone)),
        )


def _assign(item: Reviewed, decide: _Decide) -> None:
    form = popover_form("Assign", ":material/person_add:", "decide_assign")
    if form is None:
        return
    key = f"decide_assignee {item.id} {len(item.decisions)}"
    with form, st.form("decide_assign_fields", border=False):
        st.text_input(
            "Person or team",
            value=item.assignee,
            key=key,
            max_chars=MAX_ASSIGNEE_CHARACTERS,
            placeholder="A name or an e-mail address",
        )
        _who_decides("decide_assign", is_in_form=True)
        st.form_submit_button(
            "Assign",
            key="decide_assign_save",
            type="primary",
            on_click=lambda: decide("assign", "decide_assign", assignee=st.session_state.get(key, item.assignee)),
        )


def _note(decide: _Decide) -> None:
    form = popover_form("Note", ":material/edit_note:", "decide_note")
    if form is None:
        return
    with form, st.form("decide_note_fields", border=False):
        _reason("decide_note", "Note")
        _who_decides("decide_note", is_in_form=True)
        st.form_submit_button(
            "Save note", key="decide_note_save", type="primary", on_click=lambda: decide("note", "decide_note")
        )


def _deciding(organization_id: UUID, items: Sequence[Reviewed]) -> _Decide:
    """A function that decides on the findings by the form in a popover, and closes it if that succeeded."""
    findings = [item.finding for item in items]

    def decide(action: str, popover: str, **given: object) -> None:
        ids = [item.id for item in items]
        note = st.session_state.get(f"{popover}_text", "")
        once(f"{action} {ids} {given} {note}", lambda: written(action, popover, note, given))
        st.session_state[_DECIDED] = _ERROR not in st.session_state

    def written(action: str, popover: str, note: str, given: dict[str, object]) -> bool:
        _remember_name(popover)
        try:
            store = cache.source(organization_id).store
            store.decide_all(findings, action, by=current_author(), note=note, **given)  # type: ignore[arg-type]
        except UsageExploreError as error:
            st.session_state[_ERROR] = str(error)
            return False
        finally:
            forget()
        st.session_state[popover] = False
        if note:
            st.session_state[f"{popover}_text"] = ""
        return True

    return decide
