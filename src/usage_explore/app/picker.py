"""The component of the filter picker: a searchable list of rows to pick from, several at once with the boxes.

The search and the boxes work in the browser, without a run of the page; `draw` calls back for what is picked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from usage_explore.app.boards import Action
from usage_explore.app.components import clicked, component


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
) -> None:
    """Draw the list. `act(ids, action, ticked)` is called for a row or all ticked ones, `typed(text, action)` for text.

    The rows are values of a `field`, with boxes and the buttons "not", or without one fields to choose. A `single`
    field has "only" for one value at a time. `none` is shown without a row.
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
        },
        on_act_change=clicked(key, "act", lambda event: act(event["ids"], event["action"], event["ticked"])),
        on_typed_change=clicked(key, "typed", write),
    )
