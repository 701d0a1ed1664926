"""JSON of answers: as `json.dumps` writes it, in pieces between which other threads run."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as some

from usage_explore import decimals
from usage_explore.api import responses
from usage_explore.api.responses import json_bytes
from usage_explore.decimals import rfc3339

VALUES = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats(allow_nan=False, allow_infinity=False) | some.text(),
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(some.text() | some.integers(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_json_is_that_of_the_standard_library(value: Any) -> None:
    expected = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    assert json_bytes(value) == expected.encode(errors="surrogatepass")


def test_no_step_writes_more_than_one_series(monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder holds the interpreter until it ends: 14 MB at once kept all other requests waiting for 0.2 s."""
    steps: list[int] = []

    def encoded(value: Any) -> str:
        text = json.dumps(value)
        steps.append(len(text))
        return text

    monkeypatch.setattr(responses, "_encoded", encoded)
    series = [{"points": [1] * 1_000} for _ in range(50)]
    json_bytes({"series": series, "comparison": {"series": series}})
    assert max(steps) == len(json.dumps(series[0]))


def test_the_times_of_a_bucket_are_written_once_for_all_series(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 164,000 points in 76 series they took four fifths of the time."""
    written: list[datetime] = []

    def counted(instant: datetime) -> str:
        written.append(instant)
        return rfc3339(instant)

    monkeypatch.setattr(decimals, "rfc3339", counted)
    zone = ZoneInfo("Europe/Berlin")
    edges = [datetime(2026, 10, 25, 2, tzinfo=zone, fold=fold) for fold in (0, 1)]  # equal, an hour apart
    text = decimals.instant_texts()
    for _ in range(50):
        assert [text(edge) for edge in edges] == ["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"]
    assert len(written) == 2


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"a": [{"b": float("nan")}]}])
def test_a_number_that_json_lacks_is_an_error(value: Any) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_bytes(value)
