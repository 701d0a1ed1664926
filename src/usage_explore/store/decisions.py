"""Runs of validations, decisions on their findings, and sign-offs of periods."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from usage_explore.errors import (
    ConfigurationError,
    DatabaseError,
    Fault,
    NoPriceBook,
    NotExact,
    QueryError,
    RecordError,
    ScopeError,
)
from usage_explore.extract import retention
from usage_explore.formatting import data_value, zoned
from usage_explore.query import validators
from usage_explore.query.base import Query, expect_instance, parsed_instant
from usage_explore.query.queries import Period
from usage_explore.query.url_params import Params, pairs, query_string
from usage_explore.records import decisions, runs, signoffs, texts
from usage_explore.records.decisions import Decision
from usage_explore.records.identities import RecordedFinding
from usage_explore.records.places import Places
from usage_explore.records.runs import MAX_COMPARED_RUNS, Run
from usage_explore.records.signoffs import SignOff
from usage_explore.records.tables import DECISIONS, RUNS, SIGNOFFS, RecordTable
from usage_explore.records.texts import LOCAL_AUTHOR, given_author
from usage_explore.store.base import current_time
from usage_explore.store.rates import Rates
from usage_explore.store.saved_views import SavedViews

if TYPE_CHECKING:
    from usage_explore.pricing.rating import Rating
    from usage_explore.pricing.read import PriceSource
    from usage_explore.validation import Finding, Validation
    from usage_explore.validation.inputs import PreferenceSource
    from usage_explore.validation.review import Review
    from usage_explore.validation.signed_usage import Changes


_MOST_COMPARED = 4
"""Sign-offs of a period, the newest ones, whose usage invoice lines are compared with."""


class Decisions(SavedViews, Rates):
    """The methods of `Store` that keep what was decided on a validation."""

    def review(self, validation: Validation) -> Review:
        """The validation's findings with their states: new or known since the runs before, and what was decided.

        Compared are the newest 20 runs of the same period and filters that began before it. Reads alone. Raises
        `RecordError`, `ScopeError`, `DatabaseError`.

        >>> store.review(store.validate(Period(window="last_month"))).new  # doctest: +SKIP
        """
        from usage_explore.validation.result import Validation
        from usage_explore.validation.review import period_key, review

        expect_instance("validation", validation, Validation)
        with self._recorded(RUNS, validation.period.organization_id) as (_, kept, own, now):
            key = period_key(validation.period)
            before = runs.runs(kept, own, key, validation.now, MAX_COMPARED_RUNS)
            latest = runs.compared(kept, own, key, validation.period.span)
        with self._recorded(DECISIONS, own) as (_, kept, own, now):
            made = decisions.decisions(kept, own)
        return review(validation, before, made, now, latest)

    def keep_run(self, validation: Validation, *, by: str = LOCAL_AUTHOR, made_at: datetime | None = None) -> Run:
        """Keep a validation as a run, which the next one of the same period and filters is compared with.

        Kept are its `as_of`, versions, counts, the hash of its report, and the identities of its findings. One with the
        hash of the newest run of its period is not kept again. `made_at` is when files were added to it; None without.
        Raises `QueryError` for a blank or unprintable `by`, `RecordError`, `ScopeError`, `DatabaseError`.
        """
        from usage_explore.validation.result import Validation
        from usage_explore.validation.review import run_of

        expect_instance("validation", validation, Validation)
        expect_instance("by", by, str)
        try:
            author = given_author(by)
        except ValueError as error:
            raise QueryError([Fault("by", str(error))]) from None
        made = run_of(validation, author, made_at)
        with self._recorded(RUNS, validation.period.organization_id) as (_, kept, own, _):
            newest = next(iter(runs.runs(kept, own, made.period, most=1)), None)
            if newest is not None and newest.report_hash == made.report_hash:
                return newest
            return runs.keep(kept, made)

    def runs(
        self,
        within: tuple[datetime, datetime] | None = None,
        most: int = runs.MAX_LISTED_RUNS,
        *,
        period: str | None = None,
        whole: bool = False,
        examined: bool = False,
    ) -> list[Run]:
        """The newest kept runs of the organization, newest first, at most 1,000.

        `within`: whose windows overlap it; `period`: of a `Run.period`; `whole`: without filters; `examined`: with
        an event or a finding. Raises `QueryError`, `RecordError`, `ScopeError`, `DatabaseError`.
        """
        span = None if within is None else _within(within)
        if period is not None:
            _text("period", period)
        try:
            most = validators.integer(most, 1, runs.MAX_LISTED_RUNS)
        except ValueError as error:
            raise QueryError([Fault("most", str(error))]) from None
        with self._recorded(RUNS) as (_, kept, own, _):
            return runs.runs(kept, own, period, most=most, within=span, whole=whole, examined=examined)

    def compared_runs(self, period: str, within: tuple[datetime, datetime]) -> list[Run]:
        """The newest 20 runs of a `Run.period`, whose window is `within`, and 20 with files that examined it, too.

        See `records.runs.related`. Raises `QueryError`, `RecordError`, `ScopeError`, `DatabaseError`.
        """
        span = _within(within)
        _text("period", period)
        with self._recorded(RUNS) as (_, kept, own, _):
            return runs.compared(kept, own, period, span)

    def closest_run(self, within: tuple[datetime, datetime], filters: Params = ()) -> Run | None:
        """The kept run that examined most of a half-open span of time, of several by most checks; None without any.

        Of those it is the newest. It has no filters, or some of `filters`, as in a link. Raises `QueryError`,
        `RecordError`, `ScopeError`, `DatabaseError`.
        """
        span, given = _within(within), pairs(filters)
        with self._recorded(RUNS) as (_, kept, own, _):
            return runs.closest(kept, own, span, given)

    def decide(
        self,
        finding: Finding | str,
        action: str,
        *,
        by: str = LOCAL_AUTHOR,
        note: str = "",
        until: datetime | str | None = None,
        assignee: str | None = None,
    ) -> Decision:
        """Keep a decision on a finding.

        `action` is "acknowledge", "mute" (`until` a time), "assign" (to `assignee`), "note" or "reopen". `finding` is
        one of a validation, or its id as the command and the report show it. The decision follows the finding through
        later runs, and is never changed: a further one is added. Raises `QueryError` with all faults, also for an id
        that no kept run has; `RecordError`, `ScopeError`, `DatabaseError`.

        >>> store.decide(validation.findings[0], "acknowledge", by="ana", note="A retry, credited.")  # doctest: +SKIP
        """
        (made,) = self.decide_all([finding], action, by=by, note=note, until=until, assignee=assignee)
        return made

    def decide_all(
        self,
        findings: Iterable[Finding | str],
        action: str,
        *,
        by: str = LOCAL_AUTHOR,
        note: str = "",
        until: datetime | str | None = None,
        assignee: str | None = None,
    ) -> list[Decision]:
        """Keep the same decision on each of these findings of one organization, or on none; else as `decide`."""
        from usage_explore.validation.check import Finding
        from usage_explore.validation.review import identities, recorded_finding

        expect_instance("by", by, str)
        if isinstance(findings, str) or not isinstance(findings, Iterable):
            raise QueryError([Fault("findings", f"{validators.shorten(findings)} is no list of findings or their ids")])
        findings = list(findings)
        if not findings:
            raise QueryError([Fault("findings", "are none; give at least one finding or its id")])
        organization_id = None
        recorded = self._recorded_findings([finding for finding in findings if isinstance(finding, str)])
        about = []
        for finding in findings:
            if isinstance(finding, str):
                about.append(recorded[finding])
            else:
                expect_instance("finding", finding, Finding)
                organization_id = finding.question.organization_id
                about.append(recorded_finding(finding, identities([finding])[0]))
        given = {"author": by, "note": note, "until": until, "assignee": assignee}
        with self._recorded(DECISIONS, organization_id) as (_, kept, own, now):
            return decisions.decide(kept, own, about, action, now, **given)  # type: ignore[arg-type]

    def decisions(self, finding_id: str | None = None) -> list[Decision]:
        """The organization's decisions on findings, oldest first; those on a finding with its id when it was decided.

        Raises `QueryError`, `RecordError`, `ScopeError`, `DatabaseError`.
        """
        if finding_id is not None:
            _text("finding_id", finding_id)
        with self._recorded(DECISIONS) as (_, kept, own, _):
            return decisions.decisions(kept, own, finding_id)

    def sign_off(
        self,
        validation: Validation,
        *,
        by: str,
        note: str = "",
        rating: Rating | None = None,
    ) -> SignOff:
        """Sign off a period: freeze its `as_of`, the hash of its report, its usage, and the findings left open.

        `by` is the signer; `rating`, by `rate(validation.period)`, has the expected amounts to freeze, too. The
        validation is kept as a run. `changes_since` says later what changed. Raises `QueryError` for a blank `by`, a
        note that is too long, a rating of another period or `as_of`, and a validation without events, of which a check
        failed or was left out, that was signed already, or that is older than the last sign-off of its period or of an
        overlapping one; `RecordError`, `ScopeError`, `DatabaseError`.

        >>> store.sign_off(validation, by="ana@example.com")  # doctest: +SKIP
        """
        from usage_explore.validation import event_hashes, signed_amounts, signed_periods, signed_usage
        from usage_explore.validation.result import Validation

        expect_instance("validation", validation, Validation)
        expect_instance("by", by, str)
        if faults := _unsignable(validation, by, rating):
            raise QueryError(faults)
        run = self.keep_run(validation, by=by)
        review = self.review(validation)
        left_open = tuple(item.recorded() for item in review.open("high"))
        left_open += tuple(finding for _, finding in review.unseen if finding.severity == "high")
        period = validation.period
        as_of = period.as_of or validation.now
        timeout = self.long_statement_timeout
        with self._transaction(period, snapshot=True, statement_timeout=timeout) as (connection, scoped):
            usage = signed_usage.usage(connection, self.table, scoped, as_of)
            slots = event_hashes.slots(connection, self.table, scoped, as_of)
            hash_probe = event_hashes.hash_probe(connection)
            first_late = signed_usage.first_late(connection, self.table, scoped, as_of)
        if differing := signed_usage.differing(usage, validation):
            raise QueryError([Fault("validation", f"is out of date: {differing}; run the checks again")])
        amounts = () if rating is None else tuple(signed_amounts.amount_lines(rating))
        basis = None if rating is None else signed_amounts.amount_basis(rating)
        signed = (as_of, texts.author(by), note.strip(), run.report_hash, left_open)
        with self._recorded(SIGNOFFS, period.organization_id) as (_, kept, own, now):

            def check(earlier: Sequence[SignOff]) -> None:
                last = signed_periods.last_signoff(earlier, period)
                other = first_late and signed_periods.newer_overlap(period, first_late, earlier)
                if other:
                    raise QueryError([Fault("validation", _signed_since(other, as_of, signoffs.period_words(other)))])
                if last is None:
                    return
                is_refused = as_of < last.as_of <= last.signed_at  # not where it was signed as of a time to come
                if signed == (last.as_of, last.author, last.note, last.report_hash, last.open):
                    whole = next(one for one in signoffs.signoffs(kept, own) if one.id == last.id)
                    is_refused = (whole.amounts, whole.basis) == (amounts, basis)
                if is_refused:
                    raise QueryError([Fault("validation", _signed_since(last, as_of))])

            return signoffs.sign(
                kept,
                own,
                now,
                author=by,
                note=note,
                check=check,
                run_id=run.id,
                since=run.since,
                until=run.until,
                timezone=run.timezone,
                params=query_string(period.replace(organization_id=None, as_of=as_of).to_params()),
                as_of=as_of,
                events=validation.totals.events,
                report_hash=run.report_hash,
                versions=run.versions,
                open=left_open,
                usage=usage,
                days=event_hashes.days(slots, scoped.zone),
                slots=slots,
                hash_probe=hash_probe,
                amounts=amounts,
                basis=basis,
            )

    def signoffs(self) -> list[SignOff]:
        """The organization's sign-offs, newest first. Raises `RecordError`, `ScopeError`, `DatabaseError`."""
        with self._recorded(SIGNOFFS) as (_, kept, own, _):
            return signoffs.signoffs(kept, own)

    def signed(self, organization_id: UUID) -> Sequence[SignOff]:
        """The sign-offs of an organization without usage, newest first; empty if it is new, or they may not be read."""
        try:
            with self._recorded(SIGNOFFS, organization_id) as (_, kept, own, _):
                return signoffs.signoffs(kept, own, whole=False)
        except (ConfigurationError, DatabaseError, RecordError, ScopeError):
            return ()

    def _signoffs_of(self, period: Period, *, with_usage: bool) -> Sequence[SignOff]:
        from usage_explore.validation.signed_periods import signoffs_of

        if self.records is None:
            return ()
        try:
            with self._recorded(SIGNOFFS, period.organization_id) as (_, kept, own, now):
                scoped = period.replace(organization_id=own).resolve(now)
                signed = [*signoffs_of(signoffs.signoffs(kept, own, whole=False), scoped)]
                if not with_usage:
                    return signed
                whole = [signoffs.signoffs(kept, own, only=one.id) for one in signed[:_MOST_COMPARED]]
                return [*itertools.chain.from_iterable(whole), *signed[_MOST_COMPARED:]]
        except RecordError:
            return ()  # a request for sign-offs says it

    def changes_since(
        self,
        signoff: SignOff,
        *,
        prices: PriceSource | None = None,
        wallets: PreferenceSource | None = None,
        until: SignOff | None = None,
    ) -> Changes:
        """What changed in a signed period since: events that arrived late, and what was changed, edited or removed.

        What a retention policy of TimescaleDB removed is named as such, and is nothing to correct; of other events that
        are gone from the beginning, billing has to check whether they are a credit. `frame` and `to_csv` have the
        supplements, credits and rows to check by customer, metric, wallet and currency. Expected amounts that were
        signed, also none for lack of a price, are rated again by `prices` and `wallets` as in `rate`, by default the
        table `usage_prices` and the preferred currencies that were signed. Amounts of a price book that was given are
        not compared with those of another one in the table, nor is a sign-off without a book: `amounts_note` says so.
        What changed since a later sign-off of another period, in events of both, is counted there: `taken_over` has it.
        `until`, a later sign-off of the same period, gives instead what changed from one to the other, by the numbers
        that both froze: what the later one includes. Raises `QueryError` for a sign-off that this version cannot read,
        an `until` of another period and faulty prices, `RecordError`, `ScopeError`, `DatabaseError`.

        >>> store.changes_since(store.signoffs()[0]).sentence  # doctest: +SKIP
        """
        from usage_explore.validation import signed_amounts, signed_overlaps, signed_periods, signed_usage

        expect_instance("signoff", signoff, SignOff)
        period = signoffs.signed_period(signoff)
        if until is not None:
            return self._changes_until(signoff, until)
        later = signed_periods.overlapping(signoff, self.signoffs())
        periods = [signoffs.signed_period(other) for other in later]
        timeout = self.long_statement_timeout
        with self._transaction(period, snapshot=True, statement_timeout=timeout) as (connection, scoped):
            now = current_time(connection)
            exists_since = self._paths(connection).exists_since(scoped.replace(as_of=None))
            policy = exists_since and retention.removed_by_policy(connection, self.table, scoped, now)
            found = signed_usage.changes(connection, self.table, signoff, now, exists_since, periods, policy)
            parts = [
                signed_usage.changes(connection, self.table, other, now, exists_since, policy=policy) for other in later
            ]
        rating = None
        if policy is None:
            from usage_explore.validation.inputs import Preferences

            if wallets is None and signoff.basis is not None:
                wallets = Preferences.of_directory(signoff.basis.wallets)
            try:
                rater = self if exists_since is None else dataclasses.replace(self, hints=False)  # it is said here
                rating = rater.rate(period.replace(as_of=now), prices=prices, wallets=wallets)
            except (QueryError, DatabaseError) as error:
                if not isinstance(error, NoPriceBook | NotExact) and (signoff.amounts or prices is not None):
                    raise
                if signoff.amounts:
                    note = signed_amounts.NO_BOOK if isinstance(error, NoPriceBook) else str(error)
                    found = dataclasses.replace(found, amounts_note=note)
            else:
                found = signed_amounts.with_amounts(found, rating, is_given=prices is not None)
        found = signed_overlaps.without_later(found, later, rating, parts)
        with self._transaction(period) as (connection, scoped):
            taken = (line.customer_id for one in found.taken_over for line in one.corrections)
            ids = (("customer_id", customer) for customer in (*(row.key[0] for row in found.rows), *taken))
            return dataclasses.replace(found, names=self._directory(connection, scoped).names(ids))

    def _changes_until(self, signoff: SignOff, until: SignOff) -> Changes:
        """What changed from a sign-off to a later one of its period."""
        from usage_explore.validation import signed_again, signed_periods

        expect_instance("until", until, SignOff)
        period = signoffs.signed_period(signoff)
        if until.signed_at <= signoff.signed_at or signed_periods.last_signoff([until], period) is None:
            raise QueryError([Fault("until", "is no later sign-off of the same period; leave it out, or give one")])
        with self._transaction(period) as (connection, scoped):
            exists_since = self._paths(connection).exists_since(scoped.replace(as_of=None))
            policy = exists_since and retention.removed_by_policy(
                connection, self.table, scoped, current_time(connection)
            )
            found = signed_again.changes_until(signoff, until, exists_since, policy)
            ids = (("customer_id", row.key[0]) for row in found.rows)
            names = self._directory(connection, scoped).names(ids)
        note = signed_periods.common_note(period, self.signoffs()) if found.corrections or found.to_check else ""
        return dataclasses.replace(found, names=names, overlap_note=note)

    def _recorded_findings(self, ids: Sequence[str]) -> dict[str, RecordedFinding]:
        """The findings of these ids, each as the newest run that has it recorded it, else the newest decision."""
        if not ids:
            return {}
        with self._recorded(RUNS) as (_, kept, own, _):
            every = [finding for run in runs.runs(kept, own) for finding in run.findings]
        every += [decision.finding for decision in reversed(self.decisions())]
        known = {finding.identity.id: finding for finding in reversed(every)}
        unknown = [
            Fault(
                "finding", f"{validators.shorten(id_)} is the id of no finding of a kept run; validate the period first"
            )
            for id_ in ids
            if id_ not in known
        ]
        if unknown:
            raise QueryError(unknown)
        return known

    @contextmanager
    def _recorded(
        self, kind: RecordTable, organization_id: UUID | None = None
    ) -> Iterator[tuple[Connection, Places, UUID, datetime]]:
        """A connection that reads, the places of one kind of records, the organization, and the database's clock."""
        if self.records is None:
            raise ConfigurationError("records: this store keeps none; open it with connect()")
        with self._transaction(Query(organization_id=organization_id)) as (connection, scoped):
            if scoped.organization_id is None:
                raise ScopeError("organization_id: a query needs an organization; name one")
            places = self.records.places(connection, self.table, kind)
            yield connection, places, scoped.organization_id, current_time(connection)


def _within(within: Any) -> tuple[datetime, datetime]:
    """A span of time. Raises `QueryError`."""
    expect_instance("within", within, tuple)
    if len(within) != 2:
        raise QueryError([Fault("within", "is not a pair of times")])
    return parsed_instant("within", within[0]), parsed_instant("within", within[1])


def _signed_since(last: SignOff, as_of: datetime, overlapping: str = "") -> str:
    """Why a validation is not signed off after the last sign-off, which is as of a later time or the same.

    `overlapping` is the other period that was signed, in words.
    """
    zone = ZoneInfo(last.timezone)
    signed = f"{data_value(last.author)} signed {overlapping or 'this period'} on {zoned(last.signed_at, zone)}"
    if last.as_of == as_of:
        return f"is signed already: {signed}, with the same result"
    what = "a sign-off that has events of it" if overlapping else "the last sign-off"
    return (
        f"is older than {what}: {signed}, as of {zoned(last.as_of, zone)}, and this is as of {zoned(as_of, zone)};"
        " run the checks again as of now"
    )


def _text(name: str, value: object) -> None:
    """Raise `QueryError` where a value is no text that PostgreSQL can hold."""
    try:
        validators.text(value)
    except (TypeError, ValueError) as error:
        raise QueryError([Fault(name, str(error))]) from None


def _unsignable(validation: Validation, by: str, rating: Rating | None) -> list[Fault]:
    """Why a validation cannot be signed off."""
    from usage_explore.pricing.rating import Rating
    from usage_explore.validation.registry import CHECKS
    from usage_explore.validation.review import period_key

    if rating is not None:
        expect_instance("rating", rating, Rating)
    faults = []
    try:
        given_author(by)
    except ValueError as error:
        faults.append(Fault("by", str(error)))
    if not validation.totals.events:
        faults.append(Fault("validation", "has no events: there is nothing to sign off"))
    if validation.failed:
        names = ", ".join(result.check.name for result in validation.failed)
        faults.append(Fault("validation", f"is not complete: these checks failed: {names}; run them again"))
    left_out = sorted(CHECKS.keys() - {result.check.name for result in validation.results})
    if rating is not None and (
        rating.period.as_of != validation.period.as_of
        or period_key(rating.period) != period_key(validation.period)
        or rating.period.organization_id != validation.period.organization_id
    ):
        faults.append(Fault("rating", "is of another period or as_of; rate validation.period"))
    if left_out:
        faults.append(Fault("validation", f"is not complete: it was run without {', '.join(left_out)}; run all checks"))
    return faults
