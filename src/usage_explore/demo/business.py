"""The demo's organizations, metrics, products and customers, as tables of weights and quantiles, and `Draws` from them.

The tables do not depend on the seed, so a link to a demo customer or product is valid in every demo database. Their
names are those of fictional companies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from uuid import NAMESPACE_URL, UUID, uuid5

import numpy as np
import numpy.typing as npt

from usage_explore.db.names import Entry
from usage_explore.names import METRIC, made_id

Whole = npt.NDArray[np.int64]
Knots = Sequence[tuple[int, int]]
"""A quantile table: (per mille, value), from 0 to 1000, rising in both; straight lines between."""

_STEPS_PER_MILLE = 1 << 10
"""Resolution of `Draws.spread`."""

NAMESPACE = uuid5(NAMESPACE_URL, "urn:usage-explore:demo")
"""Every fixed UUID of the demo is a UUIDv5 in this namespace."""


class Draws:
    """A stream of random numbers, the same on every machine, that is determined by its key of non-negative integers.

    Only the raw 64-bit words of PCG64 are used, with integer arithmetic: numpy guarantees their stream
    (https://numpy.org/neps/nep-0019-rng-policy.html), while its distributions, `exp` and `log` may differ between
    versions and processors.
    """

    def __init__(self, *key: int) -> None:
        self._source = np.random.PCG64(np.random.SeedSequence(key))

    def words(self, count: int) -> npt.NDArray[np.uint64]:
        """`count` words of 64 random bits."""
        return np.asarray(self._source.random_raw(count), dtype=np.uint64)

    def below(self, bound: int | Whole, count: int) -> Whole:
        """`count` integers in [0, bound); `bound` is at most 2**32, one for all or one for each."""
        scaled = (self.words(count) >> np.uint64(32)) * np.asarray(bound, dtype=np.uint64)
        return (scaled >> np.uint64(32)).astype(np.int64)

    def chance(self, per_mille: int, count: int) -> npt.NDArray[np.bool_]:
        """`count` booleans, true with probability `per_mille` / 1000."""
        return self.below(1000, count) < per_mille

    def pick(self, weights: Sequence[int] | Whole, count: int) -> Whole:
        """`count` indexes of `weights`, drawn by weight; the sum of the weights is at most 2**32."""
        edges = np.cumsum(np.asarray(weights, dtype=np.int64))
        return np.searchsorted(edges, self.below(int(edges[-1]), count), side="right").astype(np.int64)

    def spread(self, knots: Knots, count: int) -> Whole:
        """`count` values whose quantiles are `knots`."""
        edges = np.array([per_mille * _STEPS_PER_MILLE for per_mille, _ in knots], dtype=np.int64)
        values = np.array([value for _, value in knots], dtype=np.int64)
        at = self.below(1000 * _STEPS_PER_MILLE, count)
        left = np.searchsorted(edges, at, side="right") - 1
        rise = (values[left + 1] - values[left]) * (at - edges[left]) // (edges[left + 1] - edges[left])
        return np.asarray(values[left] + rise, dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class Organization:
    """One organization: name, number of customers, and share of all events in per mille."""

    name: str
    customers: int
    share: int

    @property
    def id(self) -> UUID:
        """The organization's fixed UUID."""
        return uuid5(NAMESPACE, self.name)


TENANTS = (
    Organization(name="Acme AI", customers=400, share=920),
    Organization(name="Birch Labs", customers=24, share=50),
    Organization(name="Cedar Studio", customers=9, share=30),
)
"""The organizations, the main one first."""

ORGANIZATIONS = {tenant.id: tenant.name for tenant in TENANTS}
"""UUID -> name of the organizations, the main one first."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric.

    `knots` are the quantiles of the quantity in units of 10**-decimals; `rate` is the external cost of one unit in
    10**-10 US dollars (0: unknown), of one `unit`; `models` are weights in the order of `MODELS` (empty: events have no
    model); quantities of a metric that `grows` follow the customer's size and the growth of the business; events of a
    `keyed` one have an API key; an `hourly` one is measured on the hour.
    """

    key: str
    unit: str
    product: str | None
    knots: Knots
    decimals: int = 0
    rate: int = 0
    models: tuple[int, ...] = ()
    grows: bool = True
    keyed: bool = True
    hourly: bool = False


CHAT = (30, 22, 14, 10, 7, 5, 4, 3)
VISION = (*(0,) * 8, 5, 2)
SOUND = (*(0,) * 10, 4, 1)
SEARCH = (*(0,) * 12, 6, 3)

MODELS = (
    "atlas-large",
    "atlas-small",
    "atlas-mini",
    "atlas-large-long",
    "quill-2",
    "quill-2-mini",
    "ember-code",
    "ember-reason",
    "prism-image",
    "prism-image-fast",
    "sonata-voice",
    "sonata-voice-lite",
    "lattice-embed",
    "lattice-embed-xl",
)
"""Model names, in the order of the weights in `Metric.models`."""

MODEL_COST = (1000, 300, 120, 1500, 800, 150, 900, 2200, 1000, 450, 1000, 500, 1000, 1800)
"""External cost of each model in per mille of its metric's rate."""

METRICS = (
    Metric(
        key="requests",
        unit="requests",
        product="Inference",
        knots=((0, 1), (600, 1), (850, 4), (970, 20), (1000, 120)),
        models=CHAT,
        grows=False,
    ),
    Metric(
        key="tokens_in",
        unit="tokens",
        product="Inference",
        knots=((0, 12), (250, 240), (500, 900), (750, 2600), (950, 11000), (990, 42000), (1000, 128000)),
        rate=25_000,
        models=CHAT,
    ),
    Metric(
        key="tokens_out",
        unit="tokens",
        product="Inference",
        knots=((0, 1), (250, 90), (500, 310), (750, 800), (950, 2400), (990, 6000), (1000, 16000)),
        rate=100_000,
        models=CHAT,
    ),
    Metric(
        key="cached_tokens",
        unit="tokens",
        product="Inference",
        knots=((0, 128), (400, 512), (700, 2048), (950, 16384), (1000, 98304)),
        rate=2_500,
        models=CHAT,
    ),
    Metric(
        key="images",
        unit="images",
        product="Media",
        knots=((0, 1), (700, 1), (950, 4), (1000, 10)),
        rate=400_000_000,
        models=VISION,
        grows=False,
    ),
    Metric(
        key="audio_seconds",
        unit="seconds",
        product="Media",
        knots=((0, 40), (500, 3150), (800, 18240), (980, 180000), (1000, 720000)),
        decimals=2,
        rate=1_000_000,
        models=SOUND,
    ),
    Metric(
        key="embeddings",
        unit="embeddings",
        product="Search",
        knots=((0, 1), (500, 24), (800, 160), (980, 1024), (1000, 2048)),
        rate=20_000,
        models=SEARCH,
    ),
    Metric(
        key="vector_queries",
        unit="queries",
        product="Search",
        knots=((0, 1), (600, 12), (900, 90), (1000, 1500)),
    ),
    Metric(
        key="fine_tune_tokens",
        unit="tokens",
        product="Training",
        knots=((0, 40_000), (500, 900_000), (900, 9_000_000), (1000, 48_000_000)),
        rate=80_000,
        models=(0, 6, 3, 0, 0, 2),
    ),
    Metric(
        key="gpu_seconds",
        unit="GPU seconds",
        product="Training",
        knots=((0, 900), (500, 64_250), (900, 1_800_000), (1000, 14_400_000)),
        decimals=3,
        rate=9_000_000,
    ),
    Metric(
        key="storage_gb_hours",
        unit="GB-hours",
        product="Storage",
        knots=((0, 812_345), (500, 1_734_502_117), (900, 24_000_000_003), (1000, 96_000_000_000)),
        decimals=9,
        rate=300_000,
        keyed=False,
        hourly=True,
    ),
    Metric(
        key="batch_jobs",
        unit="jobs",
        product=None,
        knots=((0, 1), (900, 1), (1000, 3)),
        models=CHAT,
        grows=False,
        keyed=False,
    ),
)

PRODUCTS = {
    name: str(uuid5(NAMESPACE, f"product {name}")) for name in ("Inference", "Media", "Search", "Training", "Storage")
}
"""Name -> UUID of the products."""

PROFILES = (
    (200, 300, 290, 90, 4, 4, 30, 20, 2, 4, 10, 8),
    (60, 60, 60, 10, 320, 300, 10, 10, 2, 40, 60, 6),
    (60, 60, 30, 10, 2, 2, 360, 340, 2, 4, 90, 10),
    (90, 150, 140, 40, 4, 4, 20, 20, 70, 260, 60, 30),
    (120, 170, 160, 60, 70, 60, 110, 100, 12, 40, 60, 14),
)
"""Weights of the metrics, one row for each kind of customer."""
PROFILE_WEIGHTS = (46, 14, 16, 8, 16)

PLANS = ("standard", "committed", "enterprise")
PLAN_WEIGHTS = (60, 28, 12)

CURRENCIES = ("USD", "EUR", "GBP")
CURRENCY_RATES = (1000, 920, 790)
"""Price of 1,000 US dollars in each currency."""

REGIONS = ("us-east", "us-west", "eu-central", "eu-west", "uk-south", "ap-southeast")
REGION_WEIGHTS = (30, 16, 22, 12, 8, 12)
REGION_CURRENCIES = (0, 0, 1, 1, 2, 0)
REGION_CLOCKS = (0, 0, 1, 1, 1, 2)
"""Index into `HOURS` for each region."""

HOURS = (
    (38, 30, 24, 20, 17, 15, 14, 14, 16, 20, 28, 42, 62, 82, 96, 100, 98, 95, 96, 92, 84, 72, 58, 46),
    (16, 13, 12, 12, 15, 24, 44, 72, 94, 100, 98, 92, 86, 94, 97, 90, 78, 62, 50, 42, 36, 30, 25, 20),
    (78, 92, 100, 98, 90, 84, 92, 95, 88, 76, 62, 50, 42, 36, 30, 25, 20, 16, 14, 14, 16, 24, 40, 60),
)
"""Weights of the UTC hours of a day: the Americas, Europe, Asia."""

WEEKDAYS = (1080, 1130, 1140, 1120, 1040, 760, 730)
"""Events of the days of a week in per mille of the mean, Monday first."""

STATUSES = ("ok", "error", "throttled", "timeout")
STATUS_WEIGHTS = (955, 22, 15, 8)
CREDIT = "credited"
"""Status of a credit, an event with a negative quantity."""

ODD_VALUES = ("Other", "", None)
"""Dimension values that are easily mistaken for Other or for a missing one; each in 1 of 1,000 events."""

PERMANENT_CUSTOMERS = 60
"""Number of an organization's largest customers that are active on every day."""

MAX_API_KEYS = 6
"""API keys of a customer."""

_CUSTOMER_SEED = 0x5EED
_PERIOD_DAYS, _ACTIVE_DAYS = 540, 430
"""Of every 540 days, the other customers are active on 430."""


@dataclass(frozen=True, kw_only=True)
class Customers:
    """The customers of one organization, the largest first; every array has one element for each.

    `weight` is proportional to the customer's events; `region`, `profile`, `plan` and `wallet` (-1: none) are indexes
    into the tables of this module; `size` scales quantities, in per mille; `subscriptions` is 0 to 2, `keys` 1 to
    `MAX_API_KEYS`; `phase` is the day of its period of activity on day 0. `ids`, `subscription_ids` and `api_keys` are
    the texts.
    """

    organization_id: str
    weight: Whole
    region: Whole
    profile: Whole
    plan: Whole
    wallet: Whole
    size: Whole
    subscriptions: Whole
    keys: Whole
    phase: Whole
    ids: tuple[str, ...]
    subscription_ids: tuple[tuple[str, str], ...]
    api_keys: tuple[tuple[str, ...], ...]

    def weights(self, ordinal: int) -> Whole:
        """Weight of each customer on day `ordinal`, 0 where it is not active."""
        active = (self.phase + ordinal) % _PERIOD_DAYS < _ACTIVE_DAYS
        active[:PERMANENT_CUSTOMERS] = True
        return np.where(active, self.weight, 0)


@cache
def customers(tenant: int) -> Customers:
    """The customers of `TENANTS[tenant]`, Zipf-distributed by volume."""
    organization = TENANTS[tenant]
    count = organization.customers
    draws = Draws(_CUSTOMER_SEED, tenant)
    ids = tuple(uuid5(organization.id, f"customer {rank}") for rank in range(1, count + 1))
    region = draws.pick(REGION_WEIGHTS, count)
    has_wallet: npt.NDArray[np.bool_] = draws.chance(250, count)
    return Customers(
        organization_id=str(organization.id),
        weight=np.array([10**6 // (rank + 1) for rank in range(1, count + 1)], dtype=np.int64),
        region=region,
        profile=draws.pick(PROFILE_WEIGHTS, count),
        plan=draws.pick(PLAN_WEIGHTS, count),
        wallet=np.where(has_wallet, np.array(REGION_CURRENCIES)[region], -1),
        size=draws.spread(((0, 300), (500, 900), (900, 1800), (1000, 3000)), count),
        subscriptions=draws.pick((8, 72, 20), count),
        keys=1 + draws.below(MAX_API_KEYS, count),
        phase=draws.below(_PERIOD_DAYS, count),
        ids=tuple(str(id_) for id_ in ids),
        subscription_ids=tuple((str(uuid5(id_, "subscription 1")), str(uuid5(id_, "subscription 2"))) for id_ in ids),
        api_keys=tuple(
            tuple(f"key_{uuid5(id_, f'api key {number}').hex[:12]}" for number in range(MAX_API_KEYS)) for id_ in ids
        ),
    )


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


def name_entries(tenant: int) -> Iterator[Entry]:
    """The names of `TENANTS[tenant]`, of its customers, the largest first, and of the products."""
    organization = TENANTS[tenant]
    yield Entry("organization", organization.id, name=organization.name)
    for name, product in PRODUCTS.items():
        yield Entry("product", UUID(product), name=name)
    before = sum(earlier.customers for earlier in TENANTS[:tenant])
    ids = customers(tenant).ids
    for id_, name in zip(ids, islice(_customer_names(), before, before + len(ids)), strict=True):
        yield Entry("customer", UUID(id_), external_id=f"cus_{UUID(id_).hex[-14:]}", name=name)


def metric_units() -> Iterator[Entry]:
    """The units of the metrics, which are the same in every organization."""
    for metric in METRICS:
        yield Entry(METRIC, made_id(METRIC, metric.key), external_id=metric.key, unit=metric.unit)


def _customer_names() -> Iterator[str]:
    """Different names: a company's next name is 32 later, with another trade (both steps are coprime to the sizes)."""
    for index in range(len(_COMPANIES) * len(_TRADES)):
        company, before = index * 13 % len(_COMPANIES), index // len(_COMPANIES)
        yield f"{_COMPANIES[company]} {_TRADES[(index * 5 + before * 7) % len(_TRADES)]}"
