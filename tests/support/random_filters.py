"""Random filters over values that exist and values that do not, shared by the tests of both operations."""

from __future__ import annotations

from decimal import Decimal
from typing import TypeVar

from hypothesis import strategies as st

from support import generated_events
from usage_explore.decimals import plain, rfc3339
from usage_explore.query.base import Query

DIMENSION_VALUES = ["", "Other", "(missing)", "large", "größe", "Zebra", "1.10", "7", "true", "1.1", '{"a": 1}']

ROWS = generated_events.generate()[::25]
"""Some of the generated events, whose ids, keys, arrivals and quantities are bounds of filters."""

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
        "id": st.sampled_from([str(row.id) for row in ROWS]),
        "idempotency_key": st.sampled_from([row.idempotency_key for row in ROWS]),
        "not:id": st.sampled_from([str(row.id) for row in ROWS]),
        "not:idempotency_key": st.sampled_from([row.idempotency_key for row in ROWS]),
    }
    chosen = draw(st.lists(st.sampled_from(sorted(pools)), max_size=2, unique=True))
    found = {name: sorted(draw(st.sets(pools[name], min_size=1, max_size=3))) for name in chosen}
    if draw(st.booleans()) and draw(st.booleans()):
        found["customer_id"] = [str(draw(st.sampled_from(generated_events.CUSTOMERS)))]
    bounds = draw(st.sampled_from([(), (), ("ingested_after", "ingested_before"), ("quantity_min", "quantity_max")]))
    if bounds:
        of = (lambda row: row.ingested_at) if bounds[0] == "ingested_after" else (lambda row: row.quantity)
        ends = sorted(draw(st.tuples(*(st.sampled_from([of(row) for row in ROWS]),) * 2)))
        texts = [plain(end) if isinstance(end, Decimal) else rfc3339(end) for end in ends]
        both = bounds[0] == "quantity_min" or ends[0] < ends[1]
        left_out = draw(st.sampled_from([None, *bounds] if both else bounds))
        found |= {name: [text] for name, text in zip(bounds, texts, strict=True) if name != left_out}
    return found


def with_filters(model: type[_Q], chosen: dict[str, list[str]]) -> _Q:
    """The question with these filters, made from URL parameters."""
    return model.from_params(
        (name, value.replace("\\", "\\\\").replace(",", "\\,") if name.endswith("metric_key") else value)
        for name, values in chosen.items()
        for value in values
    )
