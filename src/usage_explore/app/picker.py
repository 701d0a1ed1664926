"""The component of the filter picker: a searchable list of rows to pick from, several at once with the boxes.

The search works in the browser, without a run of the page; `draw` calls back for what is picked. Boxes take effect one
by one, and stay ticked while the page follows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from usage_explore.app.components import clicked, component
from usage_explore.app.query_edits import Action


@dataclass(frozen=True, slots=True)
class Choice:
    """A row: the search looks into `find`, `count` is the text at the right, `tickable` ones have boxes."""

    id: str
    name: str
    title: str
    find: str
    count: str = ""
    tickable: bool = True


def draw(
    rows: Sequence[Choice],
    *,
    key: str,
    label: str,
    placeholder: str,
    none: str,
    act: Callable[[Sequence[str], Action, bool], None],
    typed: Callable[[str, Action], None] | None = None,
    field: str = "",
    single: bool = False,
    ticked: Sequence[str] = (),
    action: Action = "only",
    refused: bool = False,
    current: str | None = None,
) -> None:
    """Draw the list. `act(ids, action, ticked)` is called for a row, or for all ticked ones after each tick.

    The rows are values of a `field`, with boxes and the buttons "not", or without one fields to choose, of which
    `current` is chosen. The `ticked` ones are those that the page is filtered to, or by `action` "not" the ones that it
    is without. A `single` field has "only" for one value at a time. `refused` says that the last ticks did not take
    effect. `typed(text, action)` is called for text. `none` is shown without a row.
    """

    def write(event: Any) -> None:
        if typed is not None:
            typed(event["text"], event["action"])

    component("picker")(
        key=key,
        data={
            "epoch": key,
            "rows": [asdict(row) for row in rows],
            "label": label,
            "placeholder": placeholder,
            "none": none,
            "field": field,
            "multiple": bool(field),
            "single": single,
            "typable": typed is not None,
            "ticked": list(ticked),
            "action": action,
            "refused": refused,
            "current": current,
        },
        on_act_change=clicked(key, "act", lambda event: act(event["ids"], event["action"], event["ticked"])),
        on_typed_change=clicked(key, "typed", write),
    )
