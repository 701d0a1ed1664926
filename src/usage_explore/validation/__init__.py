"""Validation of billing: is a period right, and if not, which events are to blame and what are they worth.

One check is one small module, one row of `registry.CHECKS`. `Store.validate` runs them on one snapshot.
"""

from usage_explore.validation.bounds import Bound
from usage_explore.validation.check import SEVERITIES, Check, Examination, Finding, Outcome, Severity
from usage_explore.validation.control.totals import ControlTotals, read_control
from usage_explore.validation.reconciliation.invoices import Invoices, read_invoices
from usage_explore.validation.result import Result, Validation

__all__ = [
    "SEVERITIES",
    "Bound",
    "Check",
    "ControlTotals",
    "Examination",
    "Finding",
    "Invoices",
    "Outcome",
    "Result",
    "Severity",
    "Validation",
    "read_control",
    "read_invoices",
]
