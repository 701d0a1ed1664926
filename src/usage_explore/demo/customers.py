"""The customers of the demo: who they are, where they sit, what they use.

A customer is an index into arrays; nothing here depends on the seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from uuid import uuid5

import numpy as np
import numpy.typing as npt

from usage_explore.demo import business
from usage_explore.demo.draws import Draws, Whole

STEADY = 60
"""The largest customers of an organization never leave; the others come and go."""

KEYS = 6
"""No customer has more API keys than this."""

_ATTRIBUTES = 0x5EED
_PERIOD, _STAY = 540, 430


@dataclass(frozen=True, kw_only=True)
class Customers:
    """All customers of one organization, largest first: one element for each in every array.

    `region`, `profile` and `plan` are positions in the catalogue's tables, `wallet` too (-1: none), `size`
    scales quantities (per mille), `subscriptions` is 0 to 2, `keys` 1 to `KEYS`, `phase` is where in its life
    the customer is on day 0. `ids`, `subscription_ids` and `api_keys` hold the texts.
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
        """How likely an event of day `ordinal` is from each customer; 0 for those not there that day."""
        here = (self.phase + ordinal) % _PERIOD < _STAY
        here[:STEADY] = True
        return np.where(here, self.weight, 0)


@cache
def customers(tenant: int) -> Customers:
    """The customers of `business.TENANTS[tenant]`, Zipf-distributed by volume."""
    organization = business.TENANTS[tenant]
    count = organization.customers
    draws = Draws(_ATTRIBUTES, tenant)
    ids = tuple(uuid5(organization.id, f"customer {rank}") for rank in range(1, count + 1))
    region = draws.pick(business.REGION_WEIGHTS, count)
    has_wallet: npt.NDArray[np.bool_] = draws.chance(250, count)
    return Customers(
        organization_id=str(organization.id),
        weight=np.array([10**6 // (rank + 1) for rank in range(1, count + 1)], dtype=np.int64),
        region=region,
        profile=draws.pick(business.PROFILE_WEIGHTS, count),
        plan=draws.pick(business.PLAN_WEIGHTS, count),
        wallet=np.where(has_wallet, np.array(business.REGION_CURRENCIES)[region], -1),
        size=draws.spread(((0, 300), (500, 900), (900, 1800), (1000, 3000)), count),
        subscriptions=draws.pick((8, 72, 20), count),
        keys=1 + draws.below(KEYS, count),
        phase=draws.below(_PERIOD, count),
        ids=tuple(str(id_) for id_ in ids),
        subscription_ids=tuple((str(uuid5(id_, "subscription 1")), str(uuid5(id_, "subscription 2"))) for id_ in ids),
        api_keys=tuple(
            tuple(f"key_{uuid5(id_, f'api key {number}').hex[:12]}" for number in range(KEYS)) for id_ in ids
        ),
    )
