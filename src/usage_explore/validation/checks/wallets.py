"""Wallets: where the period's usage goes when its invoice is finalized, and where that is not as it should be.

Usage is grouped by its pinned `wallet_currency`; what has none goes through the preferred-currency cascade. The sheet
is the preview, and sums exactly to the period's usage. Source: `wallet_currency` in the table's documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import Select, Table, select

from usage_explore.decimals import plain
from usage_explore.formatting import counted, data_value, percent
from usage_explore.query.queries import Period
from usage_explore.sql.filters import conditions
from usage_explore.validation import usage_sums
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import (
    MAX_FINDINGS_PER_CHECK,
    Check,
    Examination,
    Finding,
    Outcome,
    Severity,
    limited_findings,
)
from usage_explore.validation.inputs import HOW, NO_PREFERENCES, How, Preferences
from usage_explore.validation.periods import currency_code, part
from usage_explore.validation.usage_sums import (
    LARGE_SHARE,
    UsageSum,
    add_row,
    joined,
    sum_keys,
    sum_measures,
    usage_share,
    valid_filters,
)

if TYPE_CHECKING:
    import pandas as pd

NAME = "wallets"
UNKNOWN, SEVERAL, FOREIGN = "no wallet", "several wallets", "cost in another currency"
"""The kinds of findings."""

BOUNDS = CheckBounds(NAME)

# fmt: off
HIGH_SHARE = BOUNDS.add("high_share", Decimal("0.01"), "share", 0, 1,
    "Share of the period's events from which a customer without a wallet is high.")

MEDIUM_SHARE = BOUNDS.add("medium_share", Decimal("0.01"), "share", 0, 1,
    "Share of a customer's events in another wallet than most of them, from which the split is medium.")

FOREIGN_SHARE = BOUNDS.add("foreign_share", Decimal("0.5"), "share", 0, 1,
    "Share of a customer's pinned costs in another currency, from which they are the customer's own finding.")

MAX_FOREIGN_CUSTOMERS = BOUNDS.add("max_foreign_customers", 2, "customers", 0, 10000,
    "If more customers than this, and most on a wallet, have costs in another currency, that is the supplier's "
    "billing currency: it is reported once.")

MIN_EVENTS = BOUNDS.add("min_events", 10, "events", 1, 1000000,
    "Events of a customer, at least, of a finding above low, and of the customer's own finding on costs.")
# fmt: on


@dataclass(frozen=True, slots=True)
class Preview:
    """The statement's rows, each with the wallet it goes to and what decided."""

    rows: tuple[tuple[Any, str | None, How], ...]

    def parts(self, key: Callable[[Any, str | None, How], Any]) -> dict[Any, UsageSum]:
        """The rows drawn together by a key; those whose key is None are left out."""
        sums: dict[Any, UsageSum] = {}
        for row, wallet, how in self.rows:
            if (at := key(row, wallet, how)) is not None:
                add_row(sums, at, row)
        return sums


def statement(table: Table, period: Period) -> Select[Any]:
    """Usage by `customer_id`, pinned `wallet`, `metric_key` and cost `currency`.

    Further columns: the `sum_measures`.
    """
    columns = (*sum_keys(table), table.c.wallet_currency.label("wallet"))
    return select(*columns, *sum_measures(table)).where(*conditions(table, period)).group_by(*columns)


def preview(rows: Iterable[Any], preferences: Preferences) -> Preview:
    """The rows of the statement through the cascade."""
    return Preview(tuple((row, *preferences.wallet(row.customer_id, row.wallet)) for row in rows))


def sheet(shown: Preview) -> pd.DataFrame:
    """The preview of finalization, one row for each customer, wallet, way there and metric; sums to the period's usage.

    Columns: `customer_id`, `wallet` (str, None where unknown), `how` (pinned, preference, default, unknown),
    `metric_key` (str), `events` (int64), `quantity` (`Decimal`), and for each currency, in upper case,
    `cost <currency>` and, where there is any, `cost without currency` (`Decimal`, None where nothing is known). By
    customer, wallet, how and metric.
    """
    import pandas as pd

    parts = shown.parts(lambda row, wallet, how: (row.customer_id, wallet, how, row.metric_key))
    lines = sorted(
        parts.items(),
        key=lambda item: (str(item[0][0]), item[0][1] is None, item[0][1] or "", HOW.index(item[0][2]), item[0][3]),
    )
    currencies = sorted(
        {currency for _, line in lines for currency in line.costs},
        key=lambda currency: (currency is None, currency or ""),
    )
    columns: dict[str, Any] = {
        "customer_id": pd.Series([str(key[0]) for key, _ in lines], dtype="str"),
        "wallet": pd.Series([key[1] for key, _ in lines], dtype="str"),
        "how": pd.Series([key[2] for key, _ in lines], dtype="str"),
        "metric_key": pd.Series([key[3] for key, _ in lines], dtype="str"),
        "events": pd.Series([line.events for _, line in lines], dtype="int64"),
        "quantity": pd.Series([line.quantity for key, line in lines], dtype="object"),
    }
    for currency in currencies:
        name = "cost without currency" if currency is None else f"cost {currency}"
        columns[name] = pd.Series([line.costs.get(currency) for _, line in lines], dtype="object")
    return pd.DataFrame(columns)


def examine(examination: Examination) -> Outcome:
    """The preview, with what in it needs a person: unknown wallets, split customers, costs in another currency."""
    preferences = examination.inputs.preferences
    shown = preview(
        examination.extracted_rows(statement(examination.table, examination.period)), preferences or NO_PREFERENCES
    )
    unknown = preferences is None and bool(shown.rows) and all(row.wallet is None for row, _, _ in shown.rows)
    if unknown and not examination.has_column("wallet_currency"):
        return Outcome(skipped="no event of the organization has a wallet currency, and no preferences were given")
    customers = {row.customer_id for row, _, _ in shown.rows}
    findings: list[Finding] = []
    notes: list[str] = []
    for kind_findings, what in (
        (_unknown(examination, shown), "customers without a wallet"),
        (_split(examination, shown), "customers with several wallets"),
        (_foreign(examination, shown), "costs in another currency than the wallet's"),
    ):
        some, note = limited_findings(kind_findings, f"findings of {what}")
        findings += some
        notes.append(note)
    return Outcome(
        findings=tuple(findings), looked_at=len(customers), sheet=sheet(shown), note="; ".join(filter(None, notes))
    )


def _unknown(examination: Examination, shown: Preview) -> list[Finding]:
    """Usage that nothing gives a wallet: by customer, or as one where no preferences were given at all."""
    parts = shown.parts(lambda row, wallet, how: row.customer_id if how == "unknown" else None)
    if not parts:
        return []
    if examination.inputs.preferences is None:
        whole = shown.parts(lambda row, wallet, how: True if how == "unknown" else None)[True]
        sentence = (
            f"{counted(whole.events, 'event')} of {counted(len(parts), 'customer')} have no wallet currency,"
            " and no preferences were given: which wallet they go to is unknown."
        )
        question = examination.events_question(missing=examination.missing("wallet_currency"))
        more = whole.fields(examination)
        return [Finding(check=NAME, kind=UNKNOWN, severity="low", sentence=sentence, question=question, **more)]
    findings = []
    for customer, usage in parts.items():
        share = part(usage.events, examination.totals.events)
        severity: Severity = "high" if share >= HIGH_SHARE() else "low" if usage.events < MIN_EVENTS() else "medium"
        findings.append(
            Finding(
                check=NAME,
                kind=UNKNOWN,
                severity=severity,
                sentence=f"{counted(usage.events, 'event')} of customer {customer} have no wallet to go to: no wallet"
                " currency, no preference of the customer, no default of the organization.",
                question=examination.events_question(
                    customer_id=customer, missing=examination.missing("wallet_currency")
                ),
                **usage.fields(examination),
            )
        )
    return findings


def _split(examination: Examination, shown: Preview) -> list[Finding]:
    """Customers whose usage goes to more than one wallet that is known."""
    wallets = shown.parts(lambda row, wallet, how: None if wallet is None else (row.customer_id, wallet))
    by_customer: dict[UUID, list[tuple[str, UsageSum]]] = {}
    for (customer, wallet), usage in wallets.items():
        by_customer.setdefault(customer, []).append((wallet, usage))
    every = shown.parts(
        lambda row, wallet, how: row.customer_id if len(by_customer.get(row.customer_id, ())) > 1 else None
    )
    findings = []
    for customer, whole in every.items():
        ranked = sorted(by_customer[customer], key=lambda item: (-item[1].events, item[0]))
        main = ranked[0][0]
        beside = sum(usage.events for _, usage in ranked[1:])
        share = part(beside, whole.events)
        elsewhere = [row for row, wallet, _ in shown.rows if row.customer_id == customer and wallet not in (None, main)]
        share_fields = usage_share(examination, UsageSum.of(elsewhere))
        goes = joined([f"{data_value(wallet)} ({counted(usage.events, 'event')})" for wallet, usage in ranked])
        findings.append(
            Finding(
                check=NAME,
                kind=SEVERAL,
                severity="medium" if share >= (MEDIUM_SHARE() if beside >= MIN_EVENTS() else LARGE_SHARE()) else "low",
                sentence=f"The usage of customer {customer} goes to {counted(len(ranked), 'wallet')}: {goes};"
                f" {percent(share)} of it not to {data_value(ranked[0][0])}.",
                question=examination.aggregate_question(customer_id=customer, group_by="wallet_currency"),
                facts=(
                    ("wallets", f"{len(ranked)}"),
                    *(
                        (f"wallet {data_value(wallet)}, {data_value(metric)}", f"quantity {plain(quantity)}")
                        for wallet, usage in ranked
                        for metric, (_, quantity) in sorted(usage.metrics.items())
                    ),
                ),
                **(whole.fields(examination) | share_fields),
            )
        )
    return findings


def _foreign(examination: Examination, shown: Preview) -> list[Finding]:
    """Pinned usage that costs in another currency: a customer's own where that is most, else by currencies."""
    costed = shown.parts(lambda row, wallet, how: (row.customer_id, wallet) if _costs(row, how) else None)
    strange = shown.parts(lambda row, wallet, how: (row.customer_id, wallet) if _disagrees(row, how) else None)
    own = {
        key: usage
        for key, usage in strange.items()
        if usage.events >= MIN_EVENTS() and part(usage.events, costed[key].events) >= FOREIGN_SHARE()
    }
    for wallet in {wallet for _, wallet in own}:
        mine = [key for key in own if key[1] == wallet]
        if (
            len(mine) > MAX_FOREIGN_CUSTOMERS()
            and part(len(mine), sum(key[1] == wallet for key in costed)) >= FOREIGN_SHARE()
        ):
            own = {key: usage for key, usage in own.items() if key[1] != wallet}
    findings = []
    for (customer, wallet), usage in own.items():
        share = part(usage.events, costed[customer, wallet].events)
        findings.append(
            Finding(
                check=NAME,
                kind=FOREIGN,
                severity="medium",
                sentence=f"{counted(usage.events, 'event')} of customer {customer} are pinned to wallet"
                f" {data_value(wallet)} but cost us {usage.cost_words}: {percent(share)} of"
                " what that wallet's usage costs is in another currency.",
                question=examination.events_question(**valid_filters(customer_id=customer, wallet_currency=wallet)),
                wallet_currency=wallet,
                **usage.fields(examination),
            )
        )
    pairs = shown.parts(
        lambda row, wallet, how: (
            (wallet, row.currency) if _disagrees(row, how) and (row.customer_id, wallet) not in own else None
        )
    )
    for (wallet, currency), usage in pairs.items():
        findings.append(
            Finding(
                check=NAME,
                kind=FOREIGN,
                severity="low",
                sentence=f"{counted(usage.events, 'event')} of {counted(len(usage.customers), 'customer')} are pinned"
                f" to wallet {data_value(wallet)} but cost us {usage.cost_words}.",
                question=examination.events_question(**valid_filters(wallet_currency=wallet)),
                wallet_currency=wallet,
                facts=(("cost currency", data_value(currency)), ("customers", f"{len(usage.customers)}")),
                **usage.fields(examination),
            )
        )
    return findings


def _costs(row: Any, how: How) -> bool:
    return how == "pinned" and row.cost is not None and row.currency is not None


def _disagrees(row: Any, how: How) -> bool:
    return _costs(row, how) and row.currency != currency_code(row.wallet)


CHECK = Check(
    name=NAME,
    title="Wallets",
    means="When the invoice is finalized, this usage goes to an unintended wallet, to several, or to none.",
    parameters=lambda: {
        "cascade": "usage without a wallet currency goes to the customer's preferred currency, then to the"
        " organization's default, else its wallet is unknown",
        "absent": "skipped where no event of the organization has a wallet currency and no preferences were given",
        "unknown": f"high from {percent(HIGH_SHARE())} of the period's events on, below it medium, and low under"
        f" {MIN_EVENTS()} events; one low finding where no preferences were given",
        "split": f"medium where at least {MIN_EVENTS()} events and {percent(MEDIUM_SHARE())} of a customer's usage, or"
        f" fewer events and {percent(LARGE_SHARE())}, go to another wallet than most of it, else low",
        "costs": f"medium where at least {MIN_EVENTS()} events and {percent(FOREIGN_SHARE())} of a customer's costs for"
        " a wallet are in another currency but not most customers' of that wallet, else one low finding for each pair"
        " of currencies",
        "most": f"the {MAX_FINDINGS_PER_CHECK} gravest of each kind",
    },
    unit="customers",
    one="customer",
    bounds=(*BOUNDS, *usage_sums.BOUNDS),
    statement=statement,
    examine=examine,
)
