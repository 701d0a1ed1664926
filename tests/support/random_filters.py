"""Random filters over values that exist and values that do not, shared by the tests of both operations."""

from __future__ import annotations

from typing import TypeVar

from hypothesis import strategies as st

from support import generated_events
from usage_explore.query.base import Query

DIMENSION_VALUES = ["", "Other", "(missing)", "large", "größe", "Zebra", "1.10", "7", "true", "1.1", '{"a": 1}']

_Q = TypeVar("_Q", bound=Query)


@st.composite
def filters(draw: st.DrawFn) -> dict[str, list[str]]:
    """A few filters by parameter name, over values that exist and values that do not."""
    pools = {
        "metric_key": st.sampled_from(generated_events.METRICS),
        "price_key": st.sampled_from(["p1", "p2", "p3"]),
        "wallet_currency": st.sampled_from(["EUR", "USD"]),
        "dim:model": st.sampled_from(DIMENSION_VALUES),
        "not:metric_key": st.sampled_from(generated_events.METRICS),
        "not:customer_id": st.sampled_from([str(customer) for customer in generated_events.CUSTOMERS]),
        "not:dim:model": st.sampled_from(DIMENSION_VALUES),
        "missing": st.sampled_from(["dim:model", "product_id", "wallet_currency"]),
        "not:missing": st.sampled_from(["dim:region", "dim:model", "price_key"]),
    }
    chosen = draw(st.lists(st.sampled_from(sorted(pools)), max_size=2, unique=True))
    found = {name: sorted(draw(st.sets(pools[name], min_size=1, max_size=3))) for name in chosen}
    if draw(st.booleans()) and draw(st.booleans()):
        found["customer_id"] = [str(draw(st.sampled_from(generated_events.CUSTOMERS)))]
    return found


def with_filters(model: type[_Q], chosen: dict[str, list[str]]) -> _Q:
    """The question with these filters, made from URL parameters."""
    return model.from_params(
        (name, value.replace("\\", "\\\\").replace(",", "\\,") if name.endswith("metric_key") else value)
        for name, values in chosen.items()
        for value in values
    )
