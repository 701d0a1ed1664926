"""Every check, in the order in which they run and are reported: one row each."""

from __future__ import annotations

from usage_explore.validation.anomalies import check as shifts
from usage_explore.validation.check import Check
from usage_explore.validation.checks import (
    after_finalization,
    currencies,
    duplicates,
    impossible_times,
    late_arrivals,
    look_alikes,
    new_usage,
    quantities,
    silence,
    unit_costs,
    unit_errors,
    unrated,
    wallets,
)
from usage_explore.validation.reconciliation import check as reconciliation

_ALL: tuple[Check, ...] = (
    duplicates.CHECK,
    look_alikes.CHECK,
    late_arrivals.CHECK,
    after_finalization.CHECK,
    impossible_times.CHECK,
    quantities.CHECK,
    unit_errors.CHECK,
    shifts.CHECK,
    silence.CHECK,
    new_usage.CHECK,
    unrated.CHECK,
    currencies.CHECK,
    unit_costs.CHECK,
    wallets.CHECK,
    reconciliation.CHECK,
)

CHECKS = {check.name: check for check in _ALL}
"""The checks by name."""
