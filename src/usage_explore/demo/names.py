"""Names of the demo's organizations, customers and products, fictional companies, and units of its metrics."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from uuid import UUID

from usage_explore.db.names import Entry
from usage_explore.demo.business import METRICS, PRODUCTS, TENANTS, customers
from usage_explore.names import METRIC, made_id

_COMPANIES = (
    *("Aldergate", "Bluecrest", "Calloway", "Dunmore", "Elmhurst", "Fairmead", "Greystone", "Harborview"),
    *("Ironbridge", "Juniper Hill", "Kestrel", "Larkfield", "Meridian Bay", "Nordlicht", "Oakhaven", "Pinecrest"),
    *("Quarry Lane", "Redfern", "Silverbrook", "Tamarack", "Umbra", "Valemont", "Westerly", "Yarrow"),
    *("Zephyr Point", "Amberline", "Brightwater", "Copperfield", "Driftwood", "Evermoor", "Foxglove", "Goldfinch"),
)
_TRADES = (
    *("Logistics", "Health", "Robotics", "Foods", "Insurance", "Energy", "Travel", "Games"),
    *("Bank", "Retail", "Legal", "Studios", "Motors", "Learning", "Telecom", "Analytics"),
)


def entries(tenant: int) -> Iterator[Entry]:
    """The names of `TENANTS[tenant]`, of its customers, the largest first, and of the products."""
    organization = TENANTS[tenant]
    yield Entry("organization", organization.id, name=organization.name)
    for name, product in PRODUCTS.items():
        yield Entry("product", UUID(product), name=name)
    before = sum(earlier.customers for earlier in TENANTS[:tenant])
    ids = customers(tenant).ids
    for id_, name in zip(ids, islice(_names(), before, before + len(ids)), strict=True):
        yield Entry("customer", UUID(id_), external_id=f"cus_{UUID(id_).hex[-14:]}", name=name)


def units() -> Iterator[Entry]:
    """The units of the metrics, which are the same in every organization."""
    for metric in METRICS:
        yield Entry(METRIC, made_id(METRIC, metric.key), external_id=metric.key, unit=metric.unit)


def _names() -> Iterator[str]:
    """Different names: a company's next name is 32 later, with another trade (both steps are coprime to the sizes)."""
    for index in range(len(_COMPANIES) * len(_TRADES)):
        company, before = index * 13 % len(_COMPANIES), index // len(_COMPANIES)
        yield f"{_COMPANIES[company]} {_TRADES[(index * 5 + before * 7) % len(_TRADES)]}"
