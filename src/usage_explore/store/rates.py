"""Expected amounts: the usage of a period, rated by a price book."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from usage_explore.decimals import decimal_context
from usage_explore.errors import NoPriceBook, ScopeError
from usage_explore.files.values import directory_ids, names_of
from usage_explore.names import NO_NAMES, Names
from usage_explore.query.base import Query, expect
from usage_explore.query.queries import EventQuery, Period
from usage_explore.sql import hints
from usage_explore.sql.later_arrivals import unexamined
from usage_explore.store.base import StoreBase, current_time

if TYPE_CHECKING:
    from usage_explore.db.names import Directory
    from usage_explore.pricing.book import PriceBook
    from usage_explore.pricing.rating import Rating
    from usage_explore.pricing.read import PriceSource
    from usage_explore.validation.inputs import Inputs, PreferenceSource


class Rates(StoreBase):
    """The methods of `Store` that need prices."""

    def prices(self) -> PriceBook | None:
        """The organization's price book in the table `usage_prices` beside the events; None without one.

        Raises `QueryError` for rows that make no valid book, `ScopeError`, `DatabaseError`.
        """
        with self._transaction(EventQuery()) as (connection, scoped):
            return self._stored_prices(connection, scoped)

    def unknown_texts(self, *, prices: PriceSource | None = None, wallets: PreferenceSource | None = None) -> str:
        """A warning of texts in a price book or preferred currencies that the directory of names lacks.

        They apply to no usage. "" if there are none, or where the directory may not be read. Sources are those of
        `rate`, which warns of them, too. Raises `QueryError` for their faults, `ScopeError`, `DatabaseError`.
        """
        from usage_explore.pricing.read import read_prices
        from usage_explore.validation.inputs import Inputs, read_preferences

        inputs = Inputs(
            prices=None if prices is None else read_prices(prices),
            preferences=None if wallets is None else read_preferences(wallets),
        )
        made = inputs.made_ids
        if not made:
            return ""
        with self._transaction(EventQuery()) as (connection, scoped):
            directory = self._directory(connection, scoped)
            return directory.unknown_texts(made, directory.ids_of(made))

    @decimal_context()
    def rate(
        self,
        period: Period | None = None,
        *,
        prices: PriceSource | None = None,
        wallets: PreferenceSource | None = None,
    ) -> Rating:
        """The expected amounts of a period, by default last month: usage rated by a price book.

        `prices` is a `.toml`, `.csv`, `.xlsx` or `.parquet` file, a frame, mappings, or a book, by default the table
        `usage_prices`; `wallets` are the customers' preferred currencies, as for `validate`, by default those of the
        directory of names. Usage without a price is in `unpriced`, never an amount of 0. As `validate`, it counts the
        events ingested until the period's `as_of`, by default the settle time ago; later arrivals are counted in
        `unexamined`. Of a period whose first events were removed it warns, and `exists_since` has the time.

        Raises `QueryError` for faults of the book, all together, and for usage that two prices cover equally,
        `NoPriceBook`, which is one, without a book, `NotExact` for NaN or infinite quantities or costs, `ScopeError`,
        `DatabaseError`.

        >>> store.rate(Period(window="last_month"), prices="prices.toml").frame  # doctest: +SKIP
        """
        from usage_explore.pricing.rating import rating
        from usage_explore.pricing.read import read_prices
        from usage_explore.pricing.usage import rated_usage
        from usage_explore.validation.inputs import Inputs, Preferences, read_preferences

        requested = expect(Period, Period(window="last_month") if period is None else period)
        book = None if prices is None else read_prices(prices)
        preferences = None if wallets is None else read_preferences(wallets)
        timeout = self.long_statement_timeout
        with self._transaction(requested, snapshot=True, statement_timeout=timeout) as (connection, scoped):
            now = current_time(connection)
            settled, settle = self._settled(connection, scoped, now)
            book = book or self._stored_prices(connection, scoped)
            if book is None:
                raise NoPriceBook
            directory = self._directory(connection, scoped)
            inputs, _ = self._with_directory_ids(directory, Inputs(prices=book, preferences=preferences))
            book, preferences = inputs.prices or book, inputs.preferences
            if preferences is None:
                preferences = Preferences.of_directory(directory.preferred_currencies())
            rated = rated_usage(connection, self.table, settled, book, wallet=preferences.destination)
            result = rating(rated, settled, now, preferences.currencies)
            ids = {("organization_id", str(settled.organization_id))}
            for usage in (*result.lines, *result.unpriced):
                ids |= {(name, str(id_)) for name in ("customer_id", "product_id") if (id_ := getattr(usage, name))}
            later = unexamined(connection, self.table, settled, settle)
            since = self._paths(connection).exists_since(settled)
            self._hint(connection, settled, empty=not (result.events or later), exists_since=since)
            return dataclasses.replace(result, names=directory.names(ids), unexamined=later, exists_since=since)

    def _with_directory_ids(self, directory: Directory, inputs: Inputs) -> tuple[Inputs, Names]:
        """The inputs with the ids that the directory has for texts, and the texts as the names of these ids.

        Warns of texts in a price book or in preferred currencies that the directory lacks: they apply to no usage.
        """
        made = inputs.made_ids
        if not made:
            return inputs, NO_NAMES
        found = directory.ids_of(made)
        applied = dataclasses.replace(inputs, invoices=None, control=None).made_ids
        if self.warns and (warning := directory.unknown_texts(applied, found)):
            hints.warn(warning)
        ids = directory_ids(made, found)
        return inputs.with_ids(ids), names_of(made, ids)

    def _stored_prices(self, connection: Connection, query: Query) -> PriceBook | None:
        from usage_explore.pricing.table import stored_prices

        if query.organization_id is None:
            raise ScopeError("organization_id: is missing")
        return stored_prices(connection, self.table, query.organization_id)
