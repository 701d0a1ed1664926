"""Validations of the generated rows by the tests' own checks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.known_findings import PERIOD
from usage_explore import Store
from usage_explore.query.queries import Period
from usage_explore.validation import Validation
from usage_explore.validation.check import Check

Registered = Callable[..., None]


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Registered:
    """Put checks in the place of the registry's."""

    def register(*checks: Check) -> None:
        monkeypatch.setattr("usage_explore.validation.registry.CHECKS", {each.name: each for each in checks})

    return register


@pytest.fixture
def validated(store: Store, registered: Registered) -> Callable[..., Validation]:
    """The generated rows validated by checks."""

    def validate(*checks: Check, period: Period = PERIOD) -> Validation:
        registered(*checks)
        return store.validate(period)

    return validate
