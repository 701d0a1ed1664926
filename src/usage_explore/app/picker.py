"""The component of the filter picker: a searchable list of rows to pick from, values several at once.

The search works in the browser, without a run of the page; `draw` calls back for what is picked. Ticks take effect one
by one, and stay while the page follows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from usage_explore.app.components import clicked, component
from usage_explore.app.query_edits import Action


@dataclass(frozen=True, slots=True)
class Choice:
    """A row: the search looks into `find`, `count` is the text at the right.

    A value that is `alone` cannot be chosen together with others, but can be excluded with them.
    """

    id: str
    name: str
    title: str
    find: str
    count: str = ""
    alone: bool = False


def draw(
    rows: Sequence[Choice],
    *,
    key: str,
    label: str,
    placeholder: str,
    none: str,
    act: Callable[[Sequence[str], Action], None],
    field: str = "",
    typable: bool = False,
    searched: Callable[[str, Action], None] | None = None,
    ticked: Sequence[str] = (),
    action: Action = "only",
    refused: bool = False,
    current: str | None = None,
) -> None:
    """Draw the list. `act(ids, action)` is called for a field, or for all ticked values after each change of them.

    The rows are values of a `field`, or without one fields to choose, of which `current` is chosen. The `ticked` ones
    are those that the page is filtered to, or by `action` "not" the ones that it is without. `refused` says that the
    last ticks did not take effect. If it is `typable`, a text that is no row can be ticked, too, under the id "=text";
    `searched(text, action)` is called for it instead, if the text may be a part of a name. `none` is shown without a
    row.
    """

    def search(event: Any) -> None:
        if searched is not None:
            searched(event["text"], event["action"])

    component("picker")(
        key=key,
        data={
            "epoch": key,
            "rows": [asdict(row) for row in rows],
            "label": label,
            "placeholder": placeholder,
            "none": none,
            "field": field,
            "typable": typable,
            "searched": searched is not None,
            "ticked": list(ticked),
            "action": action,
            "refused": refused,
            "current": current,
        },
        on_act_change=clicked(key, "act", lambda event: act(event["ids"], event["action"])),
        on_typed_change=clicked(key, "typed", search),
    )
