"""Two organizations that share nothing: every value tells in plain text whose it is, wherever it turns up."""

from __future__ import annotations

import random
import re
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from support.query_oracle import Row, utc

BEGAN, ENDED = utc(2026, 9, 1), utc(2026, 9, 15)
"""When the events occurred; they were known a minute later."""

AS_OF = "2026-10-01T00:00:00Z"
PINNED = {"since": "2026-09-01T00:00:00Z", "until": "2026-09-15T00:00:00Z", "as_of": AS_OF}


class Tenant(NamedTuple):
    """An organization: its name in everything that is text, its letter in everything that is a UUID."""

    name: str
    letter: str
    events: int

    @property
    def id(self) -> UUID:
        return self.uuid(0)

    def uuid(self, number: int) -> UUID:
        """One of the UUIDs that begin with the tenant's letter eight times."""
        return UUID(f"{self.letter * 8}-0000-4000-8000-{number:012x}")

    def rows(self, seed: int = 1) -> list[Row]:
        """Its events."""
        draw = random.Random(seed)
        span = int((ENDED - BEGAN).total_seconds())
        return [
            self.row(number, BEGAN + timedelta(seconds=draw.randrange(span)), draw) for number in range(self.events)
        ]

    def row(self, number: int, occurred: datetime, draw: random.Random, known: datetime | None = None) -> Row:
        return Row(
            id=self.uuid(0x100000 + number),
            organization_id=self.id,
            customer_id=self.uuid(0x1000 + draw.randrange(5)),
            product_id=self.uuid(0x2000 + draw.randrange(2)),
            subscription_id=self.uuid(0x3000 + draw.randrange(7)),
            metric_key=f"{self.name}-metric-{draw.randrange(4)}",
            price_key=f"{self.name}-price-{draw.randrange(3)}",
            quantity=Decimal(draw.randrange(1, 10**6)) / 1000,
            timestamp=occurred,
            ingested_at=known or occurred + timedelta(minutes=1),
            idempotency_key=f"{self.name}-key-{number}",
            external_cost_amount=Decimal(draw.randrange(1, 500)) / 100,
            external_cost_currency=f"{self.name}-money",
            wallet_currency=f"{self.name}-wallet",
            dimensions=f'{{"model": "{self.name}-model-{draw.randrange(6)}", "{self.name}-only": "{self.name}"}}',
        )

    def is_named_in(self, text: bytes) -> bool:
        """Whether anything of the tenant's is in the text."""
        marks = self.name.encode(), self.letter.encode() * 8 + b"-", bytes.fromhex(self.letter * 8)
        return re.search(b"|".join(marks), text, re.IGNORECASE) is not None


ALPHA = Tenant("alphacorp", "a", 301)
BRAVO = Tenant("bravocorp", "b", 463)
NEIGHBOURS = {ALPHA: BRAVO, BRAVO: ALPHA}
