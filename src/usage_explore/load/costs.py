"""The cost of a row that several columns give: products, credits that are added, currencies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from usage_explore.decimals import exact_product, plain, total
from usage_explore.files.values import code_text
from usage_explore.load.paths import amounts, member


def currency_text(raw: object) -> str:
    """A currency code in capitals, as some APIs write usd."""
    return code_text(raw).strip().upper()


class CostReader:
    """Gives the cost of a record, exactly.

    `factors` are columns, or numbers, whose product is the cost of a record without one of its own; `plus` are columns,
    or paths into lists of objects, that are added. `number` reads a number, None where there is none.
    """

    def __init__(
        self, factors: Sequence[str | Decimal], plus: Sequence[str], number: Callable[[object], str | None]
    ) -> None:
        self._factors = factors
        self._plus = plus
        self._number = number

    def cost(self, own: str | None, record: Mapping[str, Any]) -> str | None:
        """The cost as text; `own` is that of the cost column. Raises `InvalidValue`."""
        if own is None and self._factors:
            own = self._product(record)
        texts = [self._number(value) for source in self._plus for value in amounts(record, source)]
        parts = [Decimal(text) for text in texts if text is not None]
        return plain(total([Decimal(own or 0), *parts])) if parts else own

    def _product(self, record: Mapping[str, Any]) -> str | None:
        factors = []
        for factor in self._factors:
            text = self._number(member(record, factor)) if isinstance(factor, str) else factor
            if text is None:
                return None
            factors.append(Decimal(text))
        return plain(exact_product(factors))
