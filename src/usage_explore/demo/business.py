"""What the demo's three organizations sell, and to whom: tables, no behaviour.

None of this depends on the seed, so a link to a demo customer or product holds in every demo database.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import NAMESPACE_URL, UUID, uuid5

from usage_explore.demo.draws import Knots

NAMESPACE = uuid5(NAMESPACE_URL, "urn:usage-explore:demo")
"""Every fixed UUID of the demo is a UUIDv5 in this namespace."""


@dataclass(frozen=True, kw_only=True)
class Organization:
    """One tenant: its name, its id, how many customers it has and its share of the events, per mille."""

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
"""The main organization first, then the two small ones."""

ORGANIZATIONS = {tenant.id: tenant.name for tenant in TENANTS}
"""The demo's organizations: UUID to name, the main one first."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One thing metered.

    `knots` are the quantiles of the quantity in units of 10**-decimals; `rate` is what one whole unit costs
    us, in 10**-10 of a currency unit (0: no external cost is known); `models` are weights in the order of
    `MODELS` (none: the event has no model); `grows` says whether quantities follow the customer's size and the
    growth of the business; `keyed` whether an API key was used; `hourly` whether it is read on the hour.
    """

    key: str
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
"""Model names; the weights in `Metric.models` follow this order."""

MODEL_COST = (1000, 300, 120, 1500, 800, 150, 900, 2200, 1000, 450, 1000, 500, 1000, 1800)
"""What each model costs us, per mille of its metric's rate."""

METRICS = (
    Metric(
        key="requests",
        product="Inference",
        knots=((0, 1), (600, 1), (850, 4), (970, 20), (1000, 120)),
        models=CHAT,
        grows=False,
    ),
    Metric(
        key="tokens_in",
        product="Inference",
        knots=((0, 12), (250, 240), (500, 900), (750, 2600), (950, 11000), (990, 42000), (1000, 128000)),
        rate=25_000,
        models=CHAT,
    ),
    Metric(
        key="tokens_out",
        product="Inference",
        knots=((0, 1), (250, 90), (500, 310), (750, 800), (950, 2400), (990, 6000), (1000, 16000)),
        rate=100_000,
        models=CHAT,
    ),
    Metric(
        key="cached_tokens",
        product="Inference",
        knots=((0, 128), (400, 512), (700, 2048), (950, 16384), (1000, 98304)),
        rate=2_500,
        models=CHAT,
    ),
    Metric(
        key="images",
        product="Media",
        knots=((0, 1), (700, 1), (950, 4), (1000, 10)),
        rate=400_000_000,
        models=VISION,
        grows=False,
    ),
    Metric(
        key="audio_seconds",
        product="Media",
        knots=((0, 40), (500, 3150), (800, 18240), (980, 180000), (1000, 720000)),
        decimals=2,
        rate=1_000_000,
        models=SOUND,
    ),
    Metric(
        key="embeddings",
        product="Search",
        knots=((0, 1), (500, 24), (800, 160), (980, 1024), (1000, 2048)),
        rate=20_000,
        models=SEARCH,
    ),
    Metric(
        key="vector_queries",
        product="Search",
        knots=((0, 1), (600, 12), (900, 90), (1000, 1500)),
    ),
    Metric(
        key="fine_tune_tokens",
        product="Training",
        knots=((0, 40_000), (500, 900_000), (900, 9_000_000), (1000, 48_000_000)),
        rate=80_000,
        models=(0, 6, 3, 0, 0, 2),
    ),
    Metric(
        key="gpu_seconds",
        product="Training",
        knots=((0, 900), (500, 64_250), (900, 1_800_000), (1000, 14_400_000)),
        decimals=3,
        rate=9_000_000,
    ),
    Metric(
        key="storage_gb_hours",
        product="Storage",
        knots=((0, 812_345), (500, 1_734_502_117), (900, 24_000_000_003), (1000, 96_000_000_000)),
        decimals=9,
        rate=300_000,
        keyed=False,
        hourly=True,
    ),
    Metric(
        key="batch_jobs",
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
"""Products and their fixed UUIDs."""

PROFILES = (
    (200, 300, 290, 90, 4, 4, 30, 20, 2, 4, 10, 8),
    (60, 60, 60, 10, 320, 300, 10, 10, 2, 40, 60, 6),
    (60, 60, 30, 10, 2, 2, 360, 340, 2, 4, 90, 10),
    (90, 150, 140, 40, 4, 4, 20, 20, 70, 260, 60, 30),
    (120, 170, 160, 60, 70, 60, 110, 100, 12, 40, 60, 14),
)
"""What a customer uses: weights of the metrics, one row for each kind of customer."""
PROFILE_WEIGHTS = (46, 14, 16, 8, 16)

PLANS = ("standard", "committed", "enterprise")
PLAN_WEIGHTS = (60, 28, 12)

CURRENCIES = ("USD", "EUR", "GBP")
CURRENCY_RATES = (1000, 920, 790)
"""What one US dollar of cost is in each currency, per mille; a region's supplier bills in one of them."""

REGIONS = ("us-east", "us-west", "eu-central", "eu-west", "uk-south", "ap-southeast")
REGION_WEIGHTS = (30, 16, 22, 12, 8, 12)
REGION_CURRENCIES = (0, 0, 1, 1, 2, 0)
REGION_CLOCKS = (0, 0, 1, 1, 1, 2)
"""Which of `HOURS` each region lives by."""

HOURS = (
    (38, 30, 24, 20, 17, 15, 14, 14, 16, 20, 28, 42, 62, 82, 96, 100, 98, 95, 96, 92, 84, 72, 58, 46),
    (16, 13, 12, 12, 15, 24, 44, 72, 94, 100, 98, 92, 86, 94, 97, 90, 78, 62, 50, 42, 36, 30, 25, 20),
    (78, 92, 100, 98, 90, 84, 92, 95, 88, 76, 62, 50, 42, 36, 30, 25, 20, 16, 14, 14, 16, 24, 40, 60),
)
"""How busy each UTC hour is: the Americas, Europe, Asia."""

WEEKDAYS = (1080, 1130, 1140, 1120, 1040, 760, 730)
"""How busy each day is, Monday first, per mille of the mean."""

STATUSES = ("ok", "error", "throttled", "timeout")
STATUS_WEIGHTS = (955, 22, 15, 8)
CREDIT = "credited"
"""The status of a credit (a negative quantity)."""

ODD_VALUES = ("Other", "", None)
"""Dimension values an application may trip over; each in about one row of a thousand."""
