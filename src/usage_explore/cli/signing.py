"""Sign off a validated period for `usage-explore validate --sign-off`, and print what was signed or why not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from usage_explore.cli.options import say
from usage_explore.decimals import rfc3339
from usage_explore.formatting import counted
from usage_explore.records.signoffs import corrections_command
from usage_explore.validation.report.wording import days_signed, left_unsigned, signed_amounts
from usage_explore.validation.signed_again import lost_inputs, other_inputs
from usage_explore.validation.signed_periods import last_signoff, overlap_warning

if TYPE_CHECKING:
    from usage_explore.pricing.rating import Rating
    from usage_explore.records.signoffs import SignOff
    from usage_explore.store import Store
    from usage_explore.validation import Validation
    from usage_explore.validation.signed_usage import Changes


@dataclass(frozen=True)
class Signing:
    """The try to sign off a period that no finding prevents.

    `signed` is None where the inputs of the sign-off before it are `lost` and that was not accepted. `before` is the
    sign-off of the same period that it replaces, and `superseded` what had changed since that one. The texts `overlap`,
    `lost` and `others` are empty where there is nothing to say. `names_organization` says whether one was chosen.
    """

    validation: Validation
    signed: SignOff | None
    before: SignOff | None
    overlap: str
    lost: str
    others: str
    superseded: Changes | None = None
    names_organization: bool = False

    def with_superseded(self, store: Store) -> Signing:
        """The same with the changes since the sign-off that this one replaces."""
        if self.before is None or self.signed is None:
            return self
        superseded = store.changes_since(self.before, until=self.signed)
        return replace(self, superseded=superseded, names_organization=store.organization_id is not None)

    def report(self) -> None:
        """Print warnings, then what was signed, or why it was not."""
        if self.overlap:
            say(f"Warning: {self.overlap}", err=True)
        if self.signed is None:
            say(
                f"Not signed off: {self.lost}. Give the file again (--prices, --wallets), or sign with"
                " --accept-missing.",
                err=True,
            )
            return
        if self.lost or self.others:
            say(f"Warning: {self.lost or self.others}", err=True)
        if left := left_unsigned(self.validation):
            say(f"Warning: {left}. Sign again when the rest is there.", err=True)
        say(f"Signed off by {self.signed.author}: {'; '.join(self._parts(self.signed))}.")
        if self.superseded and (lines := (*self.superseded.corrections, *self.superseded.to_check)):
            before = self.superseded.signoff
            command = corrections_command(before, is_one_of_several=self.names_organization)
            say(
                f"It includes {counted(len(lines), 'correction')} of the sign-off {str(before.id)[:8]} before"
                f" it: {self.superseded.sentence}. If billing does not have them yet, `{command}` writes them."
            )
            if self.superseded.overlap_note:
                say(f"Warning: {self.superseded.overlap_note}.", err=True)

    def _parts(self, signed: SignOff) -> Iterator[str]:
        """What was signed, and what was left out of it."""
        period = self.validation.period
        days = days_signed(*period.span, signed.as_of, period.zone)
        yield f"{f'{days}, ' if days else ''}{counted(signed.events, 'event')}, as of {rfc3339(signed.as_of)}"
        if left := self.validation.unexamined:
            yield f"without {counted(left.events, 'event')} of the period that arrived later"
        if signed.open:
            yield f"{counted(len(signed.open), 'finding')} of high severity left open"
        expected = signed_amounts(signed)
        yield f"expected {expected}" if expected else "no expected amounts: there is no price book"
        yield from self.validation.unchecked


def sign(
    store: Store, validation: Validation, inputs: Mapping[str, Any], *, by: str, note: str, accept_missing: bool
) -> Signing:
    """Sign off the validated period with the files that it was examined with.

    Without `accept_missing` that is not done where prices or preferred currencies of the sign-off before are missing.
    """
    every = store.signoffs()
    rating = _rated(store, validation, inputs)
    priced = last_signoff([one for one in every if one.amounts], validation.period)
    lost, others = lost_inputs(priced, rating), other_inputs(priced, rating)
    overlap, before = overlap_warning(validation.period, every), last_signoff(every, validation.period)
    signed = store.sign_off(validation, by=by, note=note, rating=rating) if not lost or accept_missing else None
    return Signing(validation, signed, before, overlap, lost, others)


def _rated(store: Store, validation: Validation, inputs: Mapping[str, Any]) -> Rating | None:
    """The expected amounts to sign, by the price book that was given or is stored; None without one."""
    from usage_explore.errors import NoPriceBook

    try:
        return store.rate(validation.period, prices=inputs.get("prices"), wallets=inputs.get("wallets"))
    except NoPriceBook:
        return None


@contextmanager
def standing(signed: SignOff | None) -> Iterator[None]:
    """Say of a failure or interruption in the block that the sign-off before it is kept."""
    try:
        yield
    except BaseException:
        if signed is not None:
            say(f"Signed off by {signed.author}: this is kept, only its report was not written.", err=True)
        raise
