"""Opening the app's pages in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

import usage_explore.app

MAIN = str(Path(usage_explore.app.__file__).with_name("main.py"))

Open = Callable[..., AppTest]


def opened(app: AppTest, parameters: dict[str, str | list[str]]) -> AppTest:
    for name, value in parameters.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception, [each.value for each in app.exception]
    assert not any("not foreseen" in each.value for each in app.error)
    return app


def validate_page() -> None:
    """The Validate page, for `AppTest.from_function`."""
    from usage_explore.app.main import run

    run("validate")


def ran(app: AppTest) -> AppTest:
    """The Validate page after its button to run the checks was clicked."""
    app.button(key="run_checks").click().run()
    assert not app.exception, [each.value for each in app.exception]
    return app


def place_of(app: AppTest, label: str) -> tuple[int, ...]:
    """The places of a widget and of what it is in, by which the browser takes it for the same as in the run before."""

    def places(block: Any) -> Iterator[tuple[int, ...]]:
        for place, child in block.children.items():
            if getattr(child, "label", None) == label:
                yield (place,)
            if hasattr(child, "children"):
                yield from ((place, *further) for further in places(child))

    (found,) = places(app.main)
    return found
