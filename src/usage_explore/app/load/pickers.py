"""The pickers that map a file: what a check proposes is preselected, and what they hold becomes `LoadOptions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import streamlit as st

from usage_explore import formatting
from usage_explore.app import cache, markdown, sign_in
from usage_explore.app.header import offered_timezones
from usage_explore.app.load.work import Look
from usage_explore.app.uploads import File
from usage_explore.config import Settings
from usage_explore.demo import ORGANIZATIONS
from usage_explore.errors import ScopeError, UsageExploreError
from usage_explore.load import FileCheck, LoadOptions
from usage_explore.load.mapping import presets
from usage_explore.names import LOCAL_NAME, LOCAL_ORGANIZATION, NO_NAMES

IN_A_ROW = 4
"""Pickers side by side on a wide screen."""

NO_PRESET = "none"

_AS_IN_FILE = "as in the file"
_CONSTANT = "= "
"""Start of a choice that is one value for all rows."""

SHEET, ENCODING, TIME_ZONE, FORM_OF_TIMES = "Sheet", "Encoding", "Time zone of the times", "Form of the times"
DECIMAL_MARK, NO_VALUE = "Decimal mark", "Words for no value"

IN_PLACE_OF = {
    # option of the command in messages -> the picker's label
    "--sheet": SHEET,
    "--encoding": ENCODING,
    "--timezone": TIME_ZONE,
    "--time-format": FORM_OF_TIMES,
    "--decimal": DECIMAL_MARK,
    "--null": NO_VALUE,
}

_ENCODINGS = ("cp1252", "latin-1", "cp1250", "cp1251", "shift_jis", "gb18030", "utf-16-le")
_TIME_FORMATS = ("%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y %H:%M", "%Y-%m-%d %H:%M:%S")
_DECIMALS = {".": "point: 1,234.50", ",": "comma: 1.234,50"}

_PARQUET = b"PAR1"

_MAX_LABEL_CHARACTERS = 200

_LAST = "organization of the last load"
"""The session state's key of the organization that the last file went to."""

_MAX_LIKE = 5
"""Organizations with a typed text in their name that are offered."""

_MAX_COLUMNS_IN_LABEL = 3
"""Further columns that the label of their toggle names."""


@dataclass(frozen=True)
class Field:
    """A column of the events: its name, its label, and what it means."""

    column: str
    label: str
    meaning: str


REQUIRED = (
    Field("timestamp", "Time", "When the usage occurred."),
    Field("customer_id", "Customer", "Whose usage it is: any id or name."),
    Field("metric_key", "Metric", "What was metered, such as tokens_in."),
    Field("quantity", "Quantity", "How much was used."),
)
OPTIONAL = (
    Field("external_cost_amount", "Cost", "What the event cost you."),
    Field("external_cost_currency", "Cost currency", "Its currency, such as USD."),
    Field("product_id", "Product", "The product that was used: any id or name."),
    Field("subscription_id", "Subscription", "The customer's subscription: any id or name."),
    Field("price_key", "Price", "The price that will rate the event."),
    Field("wallet_currency", "Wallet", "Currency of the wallet that pays for the event."),
    Field("idempotency_key", "Idempotency key", "Identifies a row, so that it is loaded once."),
    Field("ingested_at", "Ingested", "When the event was recorded; without it, now."),
)
LABELS = {one.column: one.label for one in (*REQUIRED, *OPTIONAL)} | {
    "organization_id": "Organization",
    "id": "Event id",
}


@dataclass(frozen=True)
class _Source:
    """The choices of one picker. `automatic` is that of the preset, or of a column of the same name; "" for none."""

    automatic: str
    chosen: str | None
    names: tuple[str, ...]

    @classmethod
    def of(cls, base: FileCheck, column: str) -> _Source:
        """The choices for a column of the events; what the check proposes or found is chosen."""
        if source := base.options.mapping.get(column):
            return cls("", source, tuple(dict.fromkeys((*base.names, source))))  # "Date+Time" is no column
        if column in base.options.constants:
            return cls("", f"{_CONSTANT}{base.options.constants[column]}", base.names)
        sources = [mapped.source for mapped in base.mapping if mapped.column == column]
        automatic = "" if base.options.measures and column == "quantity" else ", ".join(sources)
        return cls(automatic, automatic or None, base.names)

    @property
    def options(self) -> tuple[str, ...]:
        """What can be picked, each once."""
        return tuple(dict.fromkeys([*filter(None, (self.automatic, self.chosen)), *self.names]))

    def meant(self, picked: str | None) -> tuple[str, str] | None:
        """What a choice means, ("map", column of the file) or ("set", text); None for the automatic one and none.

        A typed column may be in other upper and lower case; "= text" is always a text.
        """
        if picked is None or not picked.strip() or picked == self.automatic:
            return None
        if picked in self.names:
            return "map", picked
        if len(same := [name for name in self.names if name.casefold() == picked.strip().casefold()]) == 1:
            return "map", same[0]
        return "set", picked.removeprefix(_CONSTANT).strip()


def clearable(key: str, value: str | None) -> str:
    """Preselect a value, once, in a picker that can be cleared: one with an `index` cannot; returns the key."""
    if value is not None:
        st.session_state.setdefault(key, value)
    return key


def sheet(names: Sequence[str], key: str) -> str | None:
    """Draw the picker of the sheet where a workbook has several; None takes the only one with values."""
    if len(names) < 2:
        return None
    words = "Without a choice the only sheet with values is read."
    return st.selectbox(SHEET, names, index=None, placeholder="automatic", help=words, key=f"sheet {key}", width=240)


def encoding_key(key: str) -> str:
    """The session state's key of the encoding, None where it is detected."""
    return f"encoding {key}"


def encoding(file: File, look: Look, key: str) -> None:
    """Draw the picker of the encoding, of files that are text."""
    if look.sheets or file.content.startswith(_PARQUET):
        return
    st.selectbox(
        ENCODING,
        _ENCODINGS,
        index=None,
        placeholder="detected",
        key=encoding_key(key),
        accept_new_options=True,
        width=160,
        help="Of text that is not UTF-8: cp1252 is Windows in Western Europe.",
    )


def preset(look: Look, key: str) -> str | None:
    """Draw the picker of the preset; None recognizes it by the columns."""
    known = {one.name: one.title for one in presets()}
    recognized = f"recognized: {known[look.preset]}" if look.preset in known else "none is recognized"
    labels = {"": recognized, **known, NO_PRESET: "use none"}
    picked = st.selectbox(
        "Preset",
        tuple(labels),
        format_func=labels.__getitem__,
        key=f"preset {key}",
        width=320,
        help="The columns of a known export. Without one, columns are proposed from their names and values.",
    )
    return picked or None


@dataclass(frozen=True)
class Owner:
    """Whose events a file has: the text for `organization_id`, None where its rows name their own.

    `label` names it on the page, `known` are the labels of the organizations that are offered, by their texts.
    `is_new` says whether it has neither events nor a name yet.
    """

    text: str | None
    label: str
    known: Mapping[str, str]
    is_new: bool

    @property
    def like(self) -> tuple[str, ...]:
        """Of a typed one that is not offered, the offered organizations that have the text in their name or id."""
        if not self.text or self.text in self.known:
            return ()
        typed = self.label.casefold()
        return tuple(text for text, label in self.known.items() if typed in label.casefold() or typed in text)


def organization(look: Look, settings: Settings, linked: UUID | None, key: str) -> Owner | None:
    """Draw the picker of the organization; None while none is chosen.

    Organizations are shown by name and id, those of the demo last. That of the last load is chosen, else the linked one
    if it is none of the demo, else the local one unless there are only others, those of the demo left out. The typed
    name of exactly one is that one, also in other upper and lower case. A person who may see only some organizations
    loads into one of these. Raises `ScopeError`.
    """
    granted = sign_in.grant()
    own = settings.organization_id
    try:
        visible, names = cache.organizations(), cache.organization_names()
    except UsageExploreError:  # without a table, or without events that the person may see
        visible, names = (), NO_NAMES
    named = [UUID(id_) for kind, id_ in names.by_id if kind == "organization"]  # also those without events yet
    ids = [one for one in (linked, *visible, *named) if one and one != LOCAL_ORGANIZATION]
    ids.sort(key=lambda one: one in ORGANIZATIONS)
    is_free = granted.every and own is None
    has_local = LOCAL_ORGANIZATION in (*visible, *named)
    if own is not None:
        ids = [own]
    elif not granted.every:
        ids = sorted(granted.organizations)
    choices = tuple(dict.fromkeys([*([LOCAL_NAME] if is_free else []), *map(str, ids)]))
    known = {text: names.known("organization", text) or text for text in choices}
    if is_free and look.names_organization:
        choices = (_AS_IN_FILE, *choices)
    index: int | None = 0
    if (last := st.session_state.get(_LAST)) in choices:
        index = choices.index(last)
    elif is_free and linked in ids and linked not in ORGANIZATIONS and not look.names_organization:
        index = choices.index(str(linked))
    elif not is_free and (len(choices) > 1 or look.names_organization):
        index = None
    elif is_free and not look.names_organization and not has_local and any(one not in ORGANIZATIONS for one in ids):
        index = None  # as the command: the local one would be a guess
    picked = st.selectbox(
        "Organization",
        choices,
        index=index,
        format_func=lambda text: "  ·  ".join(filter(None, (names.known("organization", text), text))),
        filter_mode="contains",
        placeholder="Choose whose events these are",
        key=_organization_key(key),
        accept_new_options=is_free,
        width=320,
        help="Whose events these are. " + ("Type any name or id for another one." if is_free else ""),
    )
    if not is_free and picked is not None and picked not in choices:
        raise ScopeError("organization_id: choose an organization that you may see")
    if picked is None or not (typed := picked.strip()):
        return None
    if picked == _AS_IN_FILE:
        return Owner(None, "", known, is_new=False)
    for same in (str, str.casefold):
        its_names = {text: {text, names.name("organization", text) or text} for text in known}
        meant = [text for text, spelled in its_names.items() if same(typed) in map(same, spelled)]
        if len(meant) == 1:
            is_new = meant[0] == LOCAL_NAME and not has_local
            return Owner(meant[0], known[meant[0]], known, is_new)
    return Owner(typed, formatting.shortened(typed, _MAX_LABEL_CHARACTERS), known, is_new=True)


def keep_owner(organizations: Sequence[UUID]) -> None:
    """Choose the organization of a load for the next file, too."""
    if len(organizations) == 1:
        st.session_state[_LAST] = str(organizations[0])


def _organization_key(key: str) -> str:
    return f"organization of {key}"


def is_meant(owner: Owner, key: str) -> bool:
    """Whether a typed organization is meant to be a new one; if known ones are like it, draw the question until then.

    Enter takes the typed text, not the organization that the picker lists below it.
    """
    new = f"new organization of {key}"
    if not owner.like or st.session_state.get(new) == owner.text:
        return True
    label = markdown.plain(owner.label)
    with st.container(border=True, key="like_organizations"):
        st.markdown(
            f":orange[:material/help:] **{label}** is none of the organizations, but a part of the name or id of"
            f" {'one' if len(owner.like) == 1 else 'some'}. Whose events are these?"
        )
        with st.container(horizontal=True, gap="small"):
            for number, text in enumerate(owner.like[:_MAX_LIKE]):
                st.button(
                    markdown.plain(owner.known[text]),
                    key=f"like {number}",
                    on_click=st.session_state.update,
                    args=({_organization_key(key): text},),
                )
            st.button(
                f"New organization {label}", key="like new", on_click=st.session_state.update, args=({new: owner.text},)
            )
        if (more := len(owner.like) - _MAX_LIKE) > 0:
            st.caption(f"{more:,} more have it: type more of the name, or pick it from the list.")
    return False


def columns_and_values(base: FileCheck, key: str) -> LoadOptions:
    """Draw the pickers of columns and values; the options they hold, those of the check where nothing was changed."""
    names = _shown_names(base.names)
    required = st.container()  # drawn last, above the measures, which decide about two of its pickers
    measures = _measures(base, key)
    with required:
        fields = [one for one in REQUIRED if not (measures and one.column in ("metric_key", "quantity"))]
        used = [one for one in OPTIONAL if _Source.of(base, one.column).chosen]
        meant = _pickers([*fields, *used], base, names, key)
    others = [one for one in OPTIONAL if one not in used]
    with st.container(horizontal=True, gap="medium", key="toggles"):
        is_open = bool(others) and st.toggle(_more(others), key=f"more {key}")
        dimensions = st.toggle("Keep the other columns as dimensions", value=True, key=f"dimensions {key}")
    meant |= _pickers(others, base, names, key) if is_open else dict.fromkeys(one.column for one in others)
    kept = [column for column in ("organization_id", "id") if column not in meant]
    return replace(
        base.options,
        mapping={column: base.options.mapping[column] for column in kept if column in base.options.mapping}
        | {column: one[1] for column, one in meant.items() if one and one[0] == "map"},
        constants={column: base.options.constants[column] for column in kept if column in base.options.constants}
        | {column: one[1] for column, one in meant.items() if one and one[0] == "set"},
        measures=measures,
        dimensions=dimensions,
        **_values(base, key),
    )


def _more(fields: Sequence[Field]) -> str:
    """The label of the toggle of further columns.

    >>> _more([Field("price_key", "Price", ""), Field("ingested_at", "Ingested", "")])
    'More columns: price, ingested'
    """
    shown = ", ".join(one.label.lower() for one in fields[:_MAX_COLUMNS_IN_LABEL])
    return f"More columns: {shown}{' …' * (len(fields) > _MAX_COLUMNS_IN_LABEL)}"


def _measures(base: FileCheck, key: str) -> tuple[str, ...]:
    proposed = tuple(base.options.measures)
    by_preset = [mapped.source for mapped in base.mapping if mapped.column == "quantity"]
    picked = st.multiselect(
        "Measures: several quantities in a row",
        tuple(dict.fromkeys([*proposed, *base.names])),
        default=proposed,
        key=f"measures {key}",
        accept_new_options=True,
        placeholder=f"by the preset: {', '.join(by_preset)}" if len(by_preset) > 1 and not proposed else "none",
        help="Each becomes an event of its own, with the column's name as its metric. Type COLUMN=METRIC for another"
        " metric. They take the place of Metric and Quantity.",
    )
    if proposed and tuple(picked) == proposed:
        st.caption(markdown.plain(f"Proposed: {base.reasons.get('measures')}."))
    return tuple(picked)


def _pickers(
    fields: Sequence[Field], base: FileCheck, names: Mapping[str, str], key: str
) -> dict[str, tuple[str, str] | None]:
    """Draw the pickers; what each of them means by its column."""
    taken: dict[str, tuple[str, str] | None] = {}
    for start in range(0, len(fields), IN_A_ROW):
        for place, one in zip(st.columns(IN_A_ROW), fields[start : start + IN_A_ROW], strict=False):
            source = _Source.of(base, one.column)
            is_measured = one.column == "metric_key" and not source.chosen and _is_measured(base)
            with place:
                picked = st.selectbox(
                    one.label,
                    source.options,
                    index=0 if source.automatic else None,
                    key=clearable(f"{one.column} {key}", None if source.automatic else source.chosen),
                    format_func=lambda text: names.get(text, formatting.shortened(text, _MAX_LABEL_CHARACTERS)),
                    placeholder="by the measures" if is_measured else "not in the file",
                    accept_new_options=True,
                    help=f"{one.meaning} A column of the file, or type a value for all rows.",
                )
                taken[one.column] = meant = source.meant(picked)
                _because(base, one.column, bool(picked) and picked == source.chosen)
                if picked and picked not in source.options:
                    column = f"the column {names.get(meant[1], meant[1])}" if meant and meant[0] == "map" else ""
                    st.caption(markdown.plain(column or _value_words(picked.strip(), base.names)))
    return taken


def _value_words(text: str, names: Sequence[str]) -> str:
    """What a typed value does: Enter takes the text, not the columns that the picker lists below it.

    >>> _value_words("Wa", ["Kunde", "Was"])
    'Wa in all rows; for the column Was pick it from the list'
    >>> _value_words("tokens", ["Kunde", "Was"])
    'tokens in all rows'
    """
    words = f"{formatting.shortened(text, _MAX_LABEL_CHARACTERS)} in all rows"
    like = [name for name in names if text.casefold() in name.casefold()]
    if not like:
        return words
    return f"{words}; for the column {formatting.shortened(like[0], _MAX_LABEL_CHARACTERS)} pick it from the list"


def _because(base: FileCheck, name: str, is_proposed: bool) -> None:
    """Say why a column or an option is proposed, as long as it is the one that is picked."""
    if is_proposed and (reason := base.reasons.get(name)):
        st.caption(markdown.plain(reason))


def _values(base: FileCheck, key: str) -> dict[str, Any]:
    """Draw the pickers of the zone, the decimal mark and the words for no value."""
    mapping = base.preset.mapping if base.preset else None
    zone, form, mark, words = st.columns(IN_A_ROW)
    options, proposed = offered_timezones(), base.options
    with zone:
        timezone = st.selectbox(
            TIME_ZONE,
            options,
            index=None,
            placeholder=f"{mapping.timezone}, by the preset" if mapping and mapping.timezone else "in each time",
            key=clearable(f"timezone of {key}", proposed.timezone),
            help="Zone of dates, and of times without an offset.",
        )
        _because(base, "timezone", timezone == proposed.timezone)
    with form:
        time_format = st.selectbox(
            FORM_OF_TIMES,
            _TIME_FORMATS,
            index=None,
            placeholder="recognized",
            key=f"time_format {key}",
            accept_new_options=True,
            help="As in Python's strptime; %d is the day, %m the month. Type another form.",
        )
    with mark:
        decimal = st.selectbox(
            DECIMAL_MARK,
            tuple(_DECIMALS),
            index=None,
            format_func=_DECIMALS.__getitem__,
            placeholder="plain numbers",
            key=clearable(f"decimal {key}", proposed.decimal),
            help="Allows thousands separators.",
        )
        _because(base, "decimal", decimal == proposed.decimal)
    with words:
        null = st.multiselect(
            NO_VALUE,
            tuple(proposed.null),
            default=tuple(proposed.null),
            key=f"null {key}",
            accept_new_options=True,
            placeholder="none",
            help="In columns of numbers, such as - or n/a.",
        )
    return {"timezone": timezone, "time_format": time_format or None, "decimal": decimal, "null": tuple(null)}


def _is_measured(base: FileCheck) -> bool:
    """Whether the file has measures, each with its metric, by the preset or as proposed."""
    return sum(mapped.column == "quantity" for mapped in base.mapping) > 1


def _shown_names(names: Sequence[str]) -> dict[str, str]:
    """The columns' names as printable lines, where these are different from each other."""
    lines = {name: formatting.shortened(name, _MAX_LABEL_CHARACTERS) for name in names}
    return lines if len(set(lines.values())) == len(lines) else {name: name for name in names}
