"""Where old events were removed, every answer that reaches before the first one says so, and paths agree."""

from __future__ import annotations

import dataclasses
import json
import re
import warnings
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pandas as pd
import pytest
from click.testing import CliRunner

from support import extracts
from support.database_servers import kind
from support.extracts import ORGANIZATION
from support.query_oracle import utc
from usage_explore import AggregateQuery, EventQuery, Period, Store, connect
from usage_explore.cli.decisions import CHANGED
from usage_explore.cli.main import main
from usage_explore.db import ddl
from usage_explore.doctor import examine
from usage_explore.explain.spans import Span, words
from usage_explore.extract import changes, manifest, refresh, retention
from usage_explore.extract import folder as folders
from usage_explore.extract.connection import ExtractError
from usage_explore.sql.hints import HintWarning

DAY = timedelta(days=1)
FIRST, LAST = utc(2026, 3, 1), utc(2026, 3, 21)
WINDOW = AggregateQuery(since=FIRST, until=LAST, metric="count", timezone="Europe/Berlin")

BOUNDARY = utc(2026, 3, 6)
"""The end of the day of the last event that `remove` deletes, after a refresh; before it, the first that is left."""


def days(start: datetime, number: int) -> list[datetime]:
    return [start + index * DAY + timedelta(hours=7, minutes=13) for index in range(number)]


def remove(connection: ddl.Connection) -> None:
    """Delete the events of the first five days."""
    connection.execute("DELETE FROM usage_events WHERE timestamp < '2026-03-06Z'")
    connection.commit()


def folder_after_removal(connection: ddl.Connection, url: str, home: Path) -> Path:
    """The folder of an extract that a refresh has found events removed from."""
    remove(connection)
    extracts.build(url, home)
    return extracts.target(connection, url, home).folder


@pytest.fixture
def store(events_database_url: str, events_connection: ddl.Connection, tmp_path: Path) -> Store:
    extracts.add(events_connection, *days(FIRST, 20), number=3)
    extracts.build(events_database_url, tmp_path)
    return connect(events_database_url, organization_id=ORGANIZATION, home=tmp_path)


def check(store: Store, total: int, since: datetime | None) -> None:
    """Extract and events agree, and each says since when events exist if that is known."""
    with store, pytest.warns(HintWarning) if since else pytest.MonkeyPatch.context():
        fast = store.aggregate(WINDOW)
        raw = dataclasses.replace(store, extracts=None).aggregate(WINDOW)
        assert fast.served.because is None
        assert (fast.total, raw.total) == (total, total)
        assert fast.served.exists_since == since
        (series,) = fast.series
        assert [point.value for point in series.points] == [point.value for point in raw.series[0].points]
        for point in series.points:
            assert point.complete == (point.start >= (since or FIRST) and point.end <= LAST)
        listing = EventQuery(occurred_after=FIRST, occurred_before=LAST)
        assert store.count(listing) == total
        boards, events = store.leaderboards(WINDOW), store.read(listing)
        assert (boards.total, len(events)) == (total, total)
        assert (boards.served.exists_since, events.served.exists_since) == (since, since)
        assert (boards.served.because, events.served.because) == (None, None)
        said = [hint for hint in store.events(listing).hints if "have been removed" in hint]
        assert bool(said) == bool(since)
        assert bool([hint for hint in fast.hints if "have been removed" in hint]) == bool(since)


def test_nothing_is_said_where_nothing_was_removed(store: Store) -> None:
    check(store, 60, None)


@pytest.mark.parametrize("refreshed", [False, True])
def test_deleted_events_are_counted_nowhere(
    store: Store, events_connection: ddl.Connection, events_database_url: str, tmp_path: Path, refreshed: bool
) -> None:
    remove(events_connection)
    if refreshed:
        extracts.build(events_database_url, tmp_path)
    check(store, 45, BOUNDARY if refreshed else utc(2026, 3, 6, 7, 13))


@pytest.mark.parametrize("read_again", ["by a refresh", "by two", "by a repair", "anew"])
def test_the_boundary_of_a_history_that_was_loaded_lately_stays(
    events_database_url: str, events_connection: ddl.Connection, tmp_path: Path, read_again: str
) -> None:
    """All of it was ingested within the hours that are compared: read again, the extract had no older events."""
    extracts.add(events_connection, *days(FIRST, 20), number=3, ingested_at=datetime.now(UTC) - DAY)
    extracts.build(events_database_url, tmp_path)
    remove(events_connection)
    target = extracts.target(events_connection, events_database_url, tmp_path)
    if read_again == "by a repair":
        refresh.verify(events_connection, target, timeout=timedelta(minutes=1), fix=True)
    else:
        extracts.build(events_database_url, tmp_path)
    if read_again == "anew":
        held = manifest.read(target.folder)
        assert held is not None
        (target.folder / held.segments[0].rows.name).write_bytes(b"damaged")
    if read_again in ("by two", "anew"):
        extracts.build(events_database_url, tmp_path)
    check(connect(events_database_url, organization_id=ORGANIZATION, home=tmp_path), 45, BOUNDARY)


def test_a_history_that_was_moved_to_later_times_is_not_removed(
    events_database_url: str, events_connection: ddl.Connection, tmp_path: Path
) -> None:
    extracts.add(events_connection, *days(FIRST, 18), number=3, ingested_at=datetime.now(UTC) - DAY)
    extracts.build(events_database_url, tmp_path)
    events_connection.execute("UPDATE usage_events SET timestamp = timestamp + interval '2 hours', quantity = 2")
    events_connection.commit()
    extracts.build(events_database_url, tmp_path)
    check(connect(events_database_url, organization_id=ORGANIZATION, home=tmp_path), 54, None)


@pytest.mark.parametrize("reason", ["a load is pending", "a file is damaged", "a sum has too many digits"])
def test_the_boundary_stays_while_the_extract_cannot_answer(
    store: Store, events_connection: ddl.Connection, events_database_url: str, tmp_path: Path, reason: str
) -> None:
    remove(events_connection)
    extracts.build(events_database_url, tmp_path)
    target = extracts.target(events_connection, events_database_url, tmp_path)
    if reason == "a load is pending":
        announced = {ORGANIZATION: (FIRST, FIRST + DAY)}
        changes.announce(events_connection, target.table, tmp_path, announced)
        events_connection.commit()
    elif reason == "a file is damaged":
        held = manifest.read(target.folder)
        assert held is not None
        (target.folder / held.segments[0].rows.name).write_bytes(b"damaged")
    else:
        lately = datetime.now(UTC) - DAY
        extracts.add(events_connection, FIRST + 30 * DAY, quantity=Decimal("1e50"), ingested_at=lately)
        extracts.build(events_database_url, tmp_path)
    with store, pytest.warns(HintWarning):
        answer = store.aggregate(WINDOW)
    assert (answer.served.path, answer.total) == ("events", 45)
    assert answer.served.exists_since == BOUNDARY


LOSSES = ["dropped", "lost", "damaged"]


def lose(folder: Path, how: str) -> None:
    """The manifest, in one of the ways of `LOSSES`."""
    path = folder / manifest.NAME
    if how == "dropped":
        assert folders.drop(folder)
    elif how == "lost":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-5])


@pytest.mark.parametrize("how", LOSSES)
def test_the_boundary_stays_where_the_manifest_is_gone(
    store: Store, events_connection: ddl.Connection, events_database_url: str, tmp_path: Path, how: str
) -> None:
    """Removed days were complete zeros again, and those of a signed period credits."""
    folder = extracts.target(events_connection, events_database_url, tmp_path).folder
    with store:
        signed = store.sign_off(store.validate(Period(since=FIRST, until=LAST)), by="ana")
        remove(events_connection)
        extracts.build(events_database_url, tmp_path)
        for _ in range(2):
            lose(folder, how)
            with pytest.warns(HintWarning, match="before 2026-03-06 00:00 UTC have been removed"):
                answer = store.aggregate(WINDOW)
            assert (answer.served.path, answer.total, answer.served.exists_since) == ("events", 45, BOUNDARY)
            assert not store.changes_since(signed).corrections
            extracts.build(events_database_url, tmp_path)
        check(store, 45, BOUNDARY)


def test_a_boundary_that_only_the_manifest_of_an_earlier_version_has_is_kept(
    store: Store, events_connection: ddl.Connection, events_database_url: str, tmp_path: Path
) -> None:
    folder = folder_after_removal(events_connection, events_database_url, tmp_path)
    (folder / manifest.REMOVED).unlink()
    folders.drop(folder)
    with store:
        assert store.aggregate(WINDOW).served.exists_since == BOUNDARY


@pytest.mark.parametrize("how", ["loaded again", "a table made anew", "forgotten on purpose"])
def test_the_boundary_is_gone_with_the_removal(
    store: Store, events_connection: ddl.Connection, events_database_url: str, tmp_path: Path, how: str
) -> None:
    folder = folder_after_removal(events_connection, events_database_url, tmp_path)
    folders.drop(folder)
    if how == "loaded again":
        extracts.add(events_connection, *days(FIRST, 5), number=3)
    elif how == "forgotten on purpose":
        (folder / manifest.REMOVED).unlink()
    else:
        events_connection.execute("CREATE TABLE other (LIKE usage_events INCLUDING ALL)")
        events_connection.execute("INSERT INTO other SELECT * FROM usage_events")
        events_connection.execute("DROP TABLE usage_events CASCADE")
        events_connection.execute("ALTER TABLE other RENAME TO usage_events")
        events_connection.commit()
    total = 60 if how == "loaded again" else 45
    extracts.build(events_database_url, tmp_path)
    assert not (folder / manifest.REMOVED).exists()
    if how == "loaded again":
        check(store, total, None)
    else:
        with store:
            answer = store.aggregate(WINDOW)
        assert (answer.total, answer.served.exists_since) == (total, None)


@pytest.mark.parametrize("how", LOSSES)
@pytest.mark.parametrize(
    "harm",
    [
        "cut",
        "flip",
        "no checksum",
        -(10**18),
        *(pytest.param(harm, marks=pytest.mark.thorough) for harm in (10**40, "2026")),
    ],
)
def test_where_both_files_are_damaged_all_before_the_first_event_is_taken_for_removed(
    store: Store, events_connection: ddl.Connection, events_database_url: str, tmp_path: Path, how: str, harm: str | int
) -> None:
    """It is said, before a refresh and after it, and an event that comes late does not end it."""
    folder = folder_after_removal(events_connection, events_database_url, tmp_path)
    lose(folder, how)
    path = folder / manifest.REMOVED
    text = path.read_text("ascii")
    harmed = {
        "cut": text[:-3],
        "flip": text.replace('"removed_rows": 15', '"removed_rows": 17'),
        "no checksum": text.replace("checksum", "checksun"),
    }
    document = {name: value for name, value in json.loads(text).items() if name != "checksum"}
    another = manifest.with_checksum({**document, "removed_before": harm}).decode()
    path.write_text(harmed.get(str(harm), another), "ascii")

    def words() -> str:
        return " ".join(
            finding.message
            for finding in examine(events_database_url, "usage_events", timedelta(seconds=30), home=tmp_path)
            if finding.name == "extract"
        )

    left = utc(2026, 3, 6, 7, 13)
    with store:
        assert store.aggregate(WINDOW).served.exists_since == left
        assert "damaged, so all events before the first one are taken for removed: removed.json" in words()
        (report,) = extracts.build(events_database_url, tmp_path).values()
        assert "removed: removed.json" in report.rebuilt
        check(store, 45, left)
        assert "07:13 UTC are taken for removed, perhaps also later ones were: removed.json was damaged" in words()
        extracts.add(events_connection, utc(2026, 3, 2, 1), ingested_at=datetime.now(UTC))
        for _ in range(2):
            extracts.build(events_database_url, tmp_path)
            assert store.aggregate(WINDOW).served.exists_since == left
        assert "07:13 UTC are taken for removed, perhaps also later ones were: removed.json was damaged" in words()


def test_a_damaged_file_beside_a_whole_manifest_is_written_anew(
    store: Store, events_connection: ddl.Connection, events_database_url: str, tmp_path: Path
) -> None:
    folder = folder_after_removal(events_connection, events_database_url, tmp_path)
    whole = (folder / manifest.REMOVED).read_bytes()
    (folder / manifest.REMOVED).write_bytes(b"{}")
    found = examine(events_database_url, "usage_events", timedelta(seconds=30), home=tmp_path)
    assert any(finding.message.endswith("damaged: removed.json") for finding in found)
    extracts.build(events_database_url, tmp_path)
    assert json.loads((folder / manifest.REMOVED).read_bytes())["removed_before"] == json.loads(whole)["removed_before"]
    check(store, 45, BOUNDARY)


def test_the_boundary_is_on_disk_before_the_manifest(
    store: Store, events_connection: ddl.Connection, events_database_url: str, tmp_path: Path
) -> None:
    """A refresh that ends between the two loses it nowhere."""
    remove(events_connection)
    replace = manifest.replace

    def failing(path: Path, document: dict[str, Any]) -> None:
        if path.name == manifest.NAME and document["removed_before"] is not None:
            raise OSError("no space left")
        replace(path, document)

    folder = extracts.target(events_connection, events_database_url, tmp_path).folder
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(manifest, "replace", failing)
        with pytest.raises(ExtractError):
            extracts.build(events_database_url, tmp_path)
    (folder / manifest.NAME).unlink()
    extracts.build(events_database_url, tmp_path)
    check(store, 45, BOUNDARY)


@pytest.mark.parametrize("day", [1, 3], ids=["before all events", "among the deleted ones"])
def test_an_event_that_comes_late_brings_no_deleted_ones_back(
    store: Store, events_connection: ddl.Connection, day: int
) -> None:
    """The table begins with it, and the extract's events after it were counted again until the next refresh."""
    events_connection.execute("DELETE FROM usage_events WHERE timestamp < '2026-03-06Z'")
    extracts.add(events_connection, utc(2026, 3, day, 1), ingested_at=datetime.now(UTC))
    events_connection.commit()
    check(store, 46, utc(2026, 3, 6, 7, 13))


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("late", [FIRST - DAY, FIRST + DAY], ids=["before all events", "among the deleted ones"])
def test_old_events_loaded_between_a_removal_and_its_refresh_do_not_move_the_boundary(
    store: Store,
    events_connection: ddl.Connection,
    events_database_url: str,
    tmp_path: Path,
    late: datetime,
    announced: bool,
) -> None:
    """The first of them was the boundary, or there was none: removed days were complete zeros."""
    remove(events_connection)
    if announced:
        target = extracts.target(events_connection, events_database_url, tmp_path)
        changes.announce(events_connection, target.table, tmp_path, {ORGANIZATION: (late, late + DAY)})
    extracts.add(events_connection, *[late + timedelta(minutes=minute) for minute in range(4)], ingested_at=late)
    events_connection.commit()
    for _ in range(2):
        extracts.build(events_database_url, tmp_path)
        check(store, 45 + 4 * (late > FIRST), BOUNDARY)


@pytest.mark.parametrize("refreshes", [0, 1, 2])
def test_an_event_that_comes_late_does_not_move_the_boundary(
    store: Store, events_connection: ddl.Connection, events_database_url: str, tmp_path: Path, refreshes: int
) -> None:
    """It moved it once a refresh had read the event, and the empty days after it were complete."""
    remove(events_connection)
    extracts.build(events_database_url, tmp_path)
    extracts.add(events_connection, utc(2026, 3, 2, 1), ingested_at=datetime.now(UTC))
    events_connection.commit()
    for _ in range(refreshes):
        extracts.build(events_database_url, tmp_path)
    check(store, 46, BOUNDARY)


def test_the_deletion_of_one_event_long_ago_leaves_later_periods_whole(
    store: Store, events_connection: ddl.Connection, events_database_url: str, tmp_path: Path
) -> None:
    """The boundary was the first event that is left: its month was said to lack usage, for good."""
    extracts.add(events_connection, utc(1971, 1, 1))
    extracts.build(events_database_url, tmp_path)
    events_connection.execute("DELETE FROM usage_events WHERE timestamp < '1972-01-01Z'")
    events_connection.commit()
    extracts.build(events_database_url, tmp_path)
    check(store, 60, None)
    with store:
        old = store.aggregate(WINDOW.replace(since=utc(1970, 12, 31), until=utc(1971, 1, 3)))
        assert (old.total, old.served.exists_since) == (0, utc(1971, 1, 2))


@pytest.mark.parametrize("late", [False, True])
def test_a_comparison_takes_removed_weeks_for_unknown(
    store: Store, events_connection: ddl.Connection, events_database_url: str, tmp_path: Path, late: bool
) -> None:
    """One event that came late made the days after it measured zeros, and the period before whole: +6,250."""
    remove(events_connection)
    extracts.build(events_database_url, tmp_path)
    if late:
        extracts.add(events_connection, utc(2026, 3, 2, 1), ingested_at=datetime.now(UTC))
        events_connection.commit()
    week = AggregateQuery(
        since=utc(2026, 3, 8), until=utc(2026, 3, 15), metric="count", compare="previous", bucket="day"
    )
    with store:
        comparison = store.aggregate(week).comparison
        assert comparison is not None
        assert (comparison.partial, comparison.first_event) == (True, BOUNDARY if late else utc(2026, 3, 6, 7, 13))
        points = comparison.series[0].points
        assert [point is None for point in points] == [True] * 5 + [False] * 2
        explanation = store.explain(week.replace(compare=None), baseline=(comparison.since, comparison.until))
        assert "Events before 6 Mar 2026 00:00, UTC were removed" in "".join(explanation.notes)
        assert store.first_event() == (BOUNDARY if late else utc(2026, 3, 6, 7, 13))


@pytest.mark.parametrize("as_of", [None, utc(2026, 3, 5)], ids=["now", "when only removed events were known"])
def test_an_explanation_says_which_window_reaches_before_the_boundary(
    store: Store, events_connection: ddl.Connection, as_of: datetime | None
) -> None:
    """Nothing was said of a window explained, nor where every event known at `as_of` was removed: 0 against 0."""
    remove(events_connection)
    with store:
        for first, earlier, later in (("before", 0, 2), ("explained", 8, 0)):
            query = WINDOW.replace(since=FIRST + later * DAY, until=FIRST + (later + 1) * DAY, as_of=as_of)
            (note,) = store.explain(query, baseline=(FIRST + earlier * DAY, FIRST + (earlier + 1) * DAY)).notes
            assert note == (
                "Events before 6 Mar 2026 08:13, Europe/Berlin were removed: the numbers of the window"
                f" {'before and explained' if later == 2 else first} are too small or 0,"
                " and what is new or gone is unknown"
            )


@pytest.mark.parametrize("earlier", [0, 4], ids=["removed", "cut by the boundary"])
@pytest.mark.parametrize("swapped", [False, True])
def test_an_explanation_calls_nothing_new_or_gone_where_events_were_removed(
    store: Store, events_connection: ddl.Connection, earlier: int, swapped: bool
) -> None:
    """A metric of both windows was "new", as its events before the boundary were removed."""
    times = [*days(FIRST, 5), *days(FIRST + 10 * DAY, 3)]
    extracts.add(events_connection, *times, number=10, metric_key="api_calls", ingested_at=datetime.now(UTC))
    remove(events_connection)
    windows = (FIRST + earlier * DAY, FIRST + (earlier + 4) * DAY), (FIRST + 10 * DAY, FIRST + 14 * DAY)
    before, after = windows[::-1] if swapped else windows
    with store:
        found = store.explain(WINDOW.replace(since=after[0], until=after[1], timezone="UTC"), baseline=before)
    assert ("metric is api_calls" in [cell.label for cell in found.cells]) == bool(earlier or not swapped)
    assert not any(cell.is_new or cell.is_gone for cell in found.cells)
    assert not {"new", "gone"} & {*re.findall(r"\w+", found.sentence)}
    assert (found.peak, found.is_even) == (None, False)
    cut = words(Span(*windows[0]), found.query)
    assert f"{cut} (events before 6 Mar 2026 07:13 were removed)" in found.sentence
    assert found.to_dict()["exists_since"] == "2026-03-06T07:13:00Z"


def test_a_validation_says_that_the_beginning_of_its_period_was_removed(
    store: Store, events_connection: ddl.Connection, events_database_url: str, tmp_path: Path
) -> None:
    """19 days of a month were gone, and every check said nothing or "agrees"."""
    period = Period(since=FIRST, until=LAST, as_of=utc(2026, 4, 1))
    with store:
        found = store.validate(period, checks=["silence"]).findings
        assert "removed events" not in [finding.kind for finding in found]
        remove(events_connection)
        extracts.build(events_database_url, tmp_path)
        first, *_ = store.validate(period, checks=["silence"]).findings
        # an extract that differs is not read, but knows the boundary
        events_connection.execute("DELETE FROM usage_events WHERE timestamp > '2026-03-19Z'")
        events_connection.commit()
        assert "removed events" in [one.kind for one in store.validate(period, checks=["silence"]).findings]
        later = period.replace(since=first.until)
        assert "removed events" not in [finding.kind for finding in store.validate(later, checks=["silence"]).findings]
    assert (first.kind, first.severity, first.since, first.until) == (
        "removed events",
        "high",
        FIRST,
        BOUNDARY,
    )
    assert first.sentence.startswith("Events before 6 Mar 2026 00:00 have been removed from the table")


def test_amounts_and_lines_of_a_period_with_removed_events_are_not_taken_for_whole(
    store: Store, events_connection: ddl.Connection, events_database_url: str, tmp_path: Path
) -> None:
    """`rate` said nothing, and a right invoice was "too much", with causes ruled out."""
    period = Period(since=FIRST, until=LAST, as_of=utc(2026, 4, 1))
    usage = store.events(EventQuery(occurred_after=FIRST, occurred_before=LAST)).events
    event = usage[0]
    prices = [{"metric_key": event.metric_key, "model": "per_unit", "unit_amount": "0.10", "currency": "USD"}]
    whole = sum(one.quantity for one in usage)
    lines = [{"customer_id": event.customer_id, "metric_key": event.metric_key, "quantity": whole}]
    totals = [{"day": FIRST.date() + DAY * day, "metric_key": event.metric_key, "events": 3} for day in range(20)]
    with store:
        for after in (False, True):
            if after:
                remove(events_connection)
                extracts.build(events_database_url, tmp_path)
            with pytest.warns(HintWarning, match="have been removed") if after else pytest.MonkeyPatch.context():
                rated = store.rate(period, prices=prices)
            boundary = BOUNDARY if after else None
            assert rated.exists_since == boundary
            assert rated.to_dict()["exists_since"] == ("2026-03-06T00:00:00Z" if after else None)
            assert ("without removed events" in repr(rated)) == after
            result = store.validate(
                period,
                checks=["reconciliation", "control_totals"],
                invoices=pd.DataFrame(lines),
                control=pd.DataFrame(totals),
            )
            said = {finding.check: finding.sentence for finding in result.findings}
            assert said.pop("reconciliation", "").startswith("No invoice line was compared" if after else "")
            assert "control_totals" not in said
            (note,) = [one.outcome.note for one in result.results if one.check.name == "control_totals" and one.outcome]
            assert f"{15 if after else 20} of {15 if after else 20} control totals match" in note
            assert ("or of removed events" in note) == after


@pytest.mark.parametrize("kept", [2, 3, 5])
def test_a_history_that_is_loaded_again_is_no_longer_removed(
    store: Store, events_connection: ddl.Connection, events_database_url: str, tmp_path: Path, kept: int
) -> None:
    remove(events_connection)
    extracts.build(events_database_url, tmp_path)
    extracts.add(events_connection, *days(FIRST, 5)[:kept], number=3)
    events_connection.commit()
    extracts.build(events_database_url, tmp_path)
    check(store, 45 + 3 * kept, BOUNDARY if kept == 2 else None)


def test_of_an_extract_whose_events_were_all_deleted_nothing_is_counted(
    store: Store, events_connection: ddl.Connection
) -> None:
    events_connection.execute("DELETE FROM usage_events")
    extracts.add(events_connection, utc(2026, 3, 3, 1), ingested_at=datetime.now(UTC))
    events_connection.commit()
    with store:
        assert (store.aggregate(WINDOW).total, len(store.read(EventQuery()))) == (1, 1)
        answer = store.aggregate(WINDOW)
        assert answer.served.exists_since == max(days(FIRST, 20)) + timedelta(microseconds=1)


def test_a_retention_policy_is_a_boundary_without_an_extract(
    events_database_url: str, events_connection: ddl.Connection, tmp_path: Path
) -> None:
    if kind(events_database_url) != "timescaledb":
        pytest.skip("no TimescaleDB here; USAGE_EXPLORE_TEST_DATABASE_URL may name one")
    now = datetime.now(UTC)
    extracts.add(events_connection, *days(now - 100 * DAY, 99))
    extracts.build(events_database_url, tmp_path)
    row = events_connection.execute("SELECT add_retention_policy('usage_events', INTERVAL '60 days')").fetchone()
    assert row is not None
    events_connection.commit()
    events_connection.autocommit = True
    events_connection.execute("CALL run_job(%s)", row)
    first, count = events_connection.execute("SELECT min(timestamp), count(*) FROM usage_events").fetchone() or (
        None,
        0,
    )
    assert 50 < count < 99
    with connect(events_database_url, organization_id=ORGANIZATION, home=tmp_path) as store:
        raw = dataclasses.replace(store, extracts=None)
        for since in ("-99d", "-70d"):
            query = AggregateQuery(since=since, timezone="Europe/Berlin")
            with pytest.warns(HintWarning, match="have been removed"):
                answers = [given.aggregate(query.replace(until=now)) for given in (store, raw)]
            assert [answer.total for answer in answers] == [count, count]
            assert [answer.served.exists_since for answer in answers] == [first, first]
        assert raw.aggregate(AggregateQuery(since="-30d")).served.exists_since is None


RAN = """
INSERT INTO _timescaledb_internal.bgw_job_stat
SELECT %s, now(), now(), now() + interval '1 day', now(), true, 1, interval '0', interval '0', 1, 0, 0, 0, 0
ON CONFLICT (job_id) DO UPDATE SET last_successful_finish = now(), next_start = now() + interval '1 day'
"""
"""What TimescaleDB's scheduler notes of a run; `run_job` notes nothing."""


@pytest.mark.parametrize("extracted", [False, True], ids=["events", "extract"])
def test_an_old_event_that_arrives_after_the_policy_ran_hides_nothing(
    events_database_url: str, events_connection: ddl.Connection, tmp_path: Path, extracted: bool
) -> None:
    """Else days whose events were removed would be complete zeros, and those of a signed period credits."""
    if kind(events_database_url) != "timescaledb":
        pytest.skip("no TimescaleDB here; USAGE_EXPLORE_TEST_DATABASE_URL may name one")
    now = datetime.now(UTC)
    extracts.add(events_connection, *days(now - 100 * DAY, 99))
    if extracted:
        extracts.build(events_database_url, tmp_path)
    period = Period(since=now - 90 * DAY, until=now - 50 * DAY)
    with connect(events_database_url, organization_id=ORGANIZATION, home=tmp_path) as store:
        signed = store.sign_off(store.validate(period), by="ana")
    row = events_connection.execute("SELECT add_retention_policy('usage_events', INTERVAL '60 days')").fetchone()
    assert row is not None
    events_connection.commit()
    events_connection.autocommit = True
    events_connection.execute("CALL run_job(%s)", row)
    events_connection.execute(RAN, row)
    first = events_connection.execute("SELECT min(timestamp) FROM usage_events").fetchone()
    events_connection.autocommit = False
    extracts.add(events_connection, now - 95 * DAY)
    with connect(events_database_url, organization_id=ORGANIZATION, home=tmp_path) as store:
        with pytest.warns(HintWarning, match="have been removed"):
            answer = store.aggregate(AggregateQuery(since=now - 90 * DAY, until=now - 50 * DAY))
        assert (answer.served.exists_since,) == first
        assert not [point for point in answer.series[0].points if point.complete and not point.value]
        changes = store.changes_since(signed)
        assert (changes.removed_before,) == first
        assert not changes.corrections
        assert {line.correction for line in changes.lines} == {"none"}
        assert not changes


def test_a_policy_and_a_deletion_beyond_it_are_one_boundary(
    events_database_url: str, events_connection: ddl.Connection, tmp_path: Path
) -> None:
    """The boundary was the event that came late for windows older than the policy's age, and only for these."""
    if kind(events_database_url) != "timescaledb":
        pytest.skip("no TimescaleDB here; USAGE_EXPLORE_TEST_DATABASE_URL may name one")
    now = datetime.now(UTC)
    extracts.add(events_connection, *days(now - 100 * DAY, 99))
    extracts.build(events_database_url, tmp_path)
    events_connection.execute("SELECT add_retention_policy('usage_events', INTERVAL '60 days')")
    events_connection.execute("DELETE FROM usage_events WHERE timestamp < %s", [now - 40 * DAY])
    (first,) = events_connection.execute("SELECT min(timestamp) FROM usage_events").fetchone() or (now,)
    end_of_removed = first.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)  # of the day before
    events_connection.commit()
    extracts.build(events_database_url, tmp_path)
    extracts.add(events_connection, now - 45 * DAY, ingested_at=now)
    extracts.build(events_database_url, tmp_path)
    with connect(events_database_url, organization_id=ORGANIZATION, home=tmp_path) as store:
        for since in ("-90d", "-50d"):
            with pytest.warns(HintWarning, match="have been removed"):
                answer = store.aggregate(AggregateQuery(since=since, until=now))
            assert answer.served.exists_since == end_of_removed, since


POLICY = pytest.mark.parametrize("policy", [True, False], ids=["by a policy", "by hand"])


def apply_policy(patched: pytest.MonkeyPatch, until: datetime | None) -> None:
    """As if a retention policy had removed all events before a time; None is as without one."""
    patched.setattr(retention, "removed_by_policy", lambda *_: until)


@POLICY
def test_what_was_removed_of_a_signed_period_is_no_credit_if_a_policy_did_it(
    store: Store, events_connection: ddl.Connection, monkeypatch: pytest.MonkeyPatch, policy: bool
) -> None:
    """Else it may be one, and billing has to check."""
    march = Period(since=FIRST, until=LAST)
    apply_policy(monkeypatch, BOUNDARY if policy else None)
    with store:
        signed = store.sign_off(store.validate(march), by="ana")
        remove(events_connection)
        changes = store.changes_since(signed)
        assert changes.removed_before == utc(2026, 3, 6, 7, 13)
        assert {row.reason for row in changes.rows} == {"removed by retention" + ("" if policy else " or deleted")}
        assert not changes.corrections
        assert sum(row.events for row in changes.rows) == -15
        assert {line.correction for line in changes.lines} == {"none" if policy else "check"}
        assert bool(changes) == (not policy)
        assert not changes.days
        events_connection.execute("DELETE FROM usage_events WHERE timestamp BETWEEN '2026-03-10Z' AND '2026-03-11Z'")
        events_connection.commit()
        changes = store.changes_since(signed)
        assert changes
        assert [day.day for day in changes.days] == [10]


@pytest.mark.each_value
@pytest.mark.parametrize("since", [FIRST - 5 * DAY, utc(2026, 3, 3), utc(2026, 3, 5), utc(2026, 3, 8)])
@pytest.mark.parametrize("has_hashes", [True, False])
@POLICY
def test_removed_events_are_said_though_a_later_sign_off_has_hours_in_common(
    store: Store,
    events_connection: ddl.Connection,
    monkeypatch: pytest.MonkeyPatch,
    since: datetime,
    has_hashes: bool,
    policy: bool,
) -> None:
    """The later one covers all, or a part; what it shares is never a correction, nor is it unchanged."""
    apply_policy(monkeypatch, BOUNDARY if policy else None)
    with store:
        month = store.sign_off(store.validate(Period(since=FIRST, until=LAST)), by="ana")
        later = store.sign_off(store.validate(Period(since=since, until=LAST + DAY)), by="ana")
        if not has_hashes:
            month = dataclasses.replace(month, hash_probe=None, days=(), slots=())
        remove(events_connection)
        changes = store.changes_since(month)
        is_own = since > FIRST and not policy
        common = 3 * max((BOUNDARY - since).days, 0) if is_own else 0
        own = common - 15 if has_hashes or not is_own else 0  # without hashes the row has no numbers
        words = f"{f'{own} events' if own else 'events'} before 2026-03-06 07:13:00 +00:00, removed by retention"
        if not policy:
            words += ", or deleted"
            words += ", which is a credit: billing has to check"
        if is_own and not has_hashes:
            words += "; 1 other change that may be a later sign-off's"
        words += f"; 1 correction (-{common} events) is in sign-off " if common and has_hashes else ""
        if not (is_own or policy):
            words = "nothing to bill here; 1 correction (-15 events) is in sign-off "
        assert changes.sentence.partition(str(later.id)[:8])[0] == words
        its = store.changes_since(later)
        once = sum(line.events for each in (changes, its) for line in each.to_check)
        assert policy or once == own - common
        assert bool(changes) == bool(changes.to_check) == is_own
        assert bool(store.changes_since(later).to_check) == (since < BOUNDARY and not policy)
        assert not changes.corrections
        assert bool(changes.content_note) == (not has_hashes)
        if not has_hashes:
            assert "removed after 2026-03-06 07:13:00 +00:00 cannot be distinguished from" in changes.content_note
        assert not store.changes_since(later).corrections
        events_connection.execute("DELETE FROM usage_events WHERE timestamp BETWEEN '2026-03-10Z' AND '2026-03-11Z'")
        events_connection.commit()
        both = [store.changes_since(one) for one in (month, later)]
        assert any(both), "a removal of newer events is said"
        assert all(
            "removed by retention" not in row.reason or row.events < 0 or row.note for one in both for row in one.rows
        )


def test_the_oldest_events_of_two_sign_offs_are_divided_with_their_amounts(
    store: Store, events_connection: ddl.Connection
) -> None:
    """Both rows to check had the events that the sign-offs have in common; others have one of both parts alone."""
    prices = [{"metric_key": "tokens", "unit_amount": 2, "currency": "USD"}]
    march = Period(since=FIRST, until=LAST)
    own, common = UUID(int=7), UUID(int=8)
    extracts.add(events_connection, FIRST + timedelta(hours=1), LAST - DAY, customer_id=own)
    extracts.add(events_connection, FIRST + 4 * DAY, LAST - DAY, customer_id=common)
    with store:
        signed = []
        for period in (march, march.replace(since=FIRST + 3 * DAY)):
            validation = store.validate(period)
            rating = store.rate(validation.period, prices=prices)
            signed.append(store.sign_off(validation, by="ana", rating=rating))
        remove(events_connection)
        changes = [store.changes_since(one, prices=prices) for one in signed]
    assert [sorted((line.correction, line.events, line.amount) for line in one.lines) for one in changes] == [
        [("check", -9, Decimal(-18)), ("check", -1, Decimal(-2))],
        [("check", -6, Decimal(-12)), ("check", -1, Decimal(-2))],
    ]
    assert [str(own) in {line.customer_id for line in one.lines} for one in changes] == [True, False]
    assert [str(common) in {line.customer_id for line in one.lines} for one in changes] == [False, True]
    assert [one.uncompared for one in changes] == [0, 0]
    assert "2 corrections (-14.00 USD) are in sign-off" in changes[0].sentence


def test_what_a_later_sign_off_has_of_the_oldest_events_is_counted_once(
    store: Store, events_connection: ddl.Connection
) -> None:
    other = UUID(int=7)
    extracts.add(events_connection, *days(FIRST, 20), customer_id=other)
    with store:
        march = Period(since=FIRST, until=LAST)
        signed = store.sign_off(store.validate(march), by="ana")
        later = store.sign_off(store.validate(march.replace(since=FIRST - DAY, customer_id=other)), by="ana")
        remove(events_connection)
        changes, its = store.changes_since(signed), store.changes_since(later)
    assert [(line.correction, line.events) for line in changes.lines] == [("check", -15)]
    assert [(line.correction, line.events) for line in its.lines] == [("check", -5)]
    before = "before 2026-03-06 07:13:00 +00:00, removed by retention, or deleted"
    assert changes.sentence.startswith(
        f"-15 events {before}, which is a credit: billing has to check;"
        f" 1 correction (-5 events) is in sign-off {str(later.id)[:8]} ("
    )


@pytest.mark.parametrize("refreshed", [False, True])
def test_the_deletion_of_the_first_event_of_a_signed_period_is_for_billing_to_check(
    store: Store, events_connection: ddl.Connection, events_database_url: str, tmp_path: Path, refreshed: bool
) -> None:
    """It was retention's: no correction, no amounts of any customer, and `--fail-on-changes` ended with 0."""
    other, prices = UUID(int=7), [{"metric_key": "tokens", "unit_amount": "0.10", "currency": "USD"}]
    extracts.add(events_connection, FIRST + timedelta(hours=1), customer_id=other, quantity=7)
    extracts.add(events_connection, utc(2026, 3, 9, 9), customer_id=other)
    extracts.build(events_database_url, tmp_path)
    period = Period(since=FIRST, until=LAST)
    (tmp_path / "prices.csv").write_text("metric_key,unit_amount,currency\ntokens,0.10,USD\n")
    with store:
        validation = store.validate(period)
        signed = store.sign_off(validation, by="ana", rating=store.rate(validation.period, prices=prices))
        events_connection.execute("DELETE FROM usage_events WHERE timestamp < '2026-03-01 02:00Z'")
        extracts.add(events_connection, utc(2026, 3, 10, 9), ingested_at=datetime.now(UTC))
        events_connection.commit()
        if refreshed:
            extracts.build(events_database_url, tmp_path)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            changes = store.changes_since(signed, prices=prices)
    since = "2026-03-01 07:13:00 +00:00"
    assert changes.sentence == (
        f"+1 event, arrived late; -1 event before {since}, removed by retention, or deleted, which is a credit:"
        " billing has to check; expected amounts +0.10 and -0.70 USD"
    )
    assert [(line.correction, line.events, line.amount) for line in changes.lines] == [
        ("check", -1, Decimal("-0.70")),
        ("supplement", 1, Decimal("0.10")),
    ]
    assert changes
    assert changes.amounts_note == ""
    command = ["signoffs", "--database-url", events_database_url, "--home", str(tmp_path), "--fail-on-changes"]
    files = [str(tmp_path / name) for name in ("prices.csv", "changes.csv", "changes.json")]
    command += [part for pair in zip(("--prices", "--csv", "--json"), files, strict=True) for part in pair]
    result = CliRunner().invoke(main, [*command, "--organization-id", str(ORGANIZATION)])
    assert result.exit_code == CHANGED, result.output
    assert "billing has to check" in " ".join(result.output.split())
    frame = pd.read_csv(files[1], dtype=str).set_index("correction")
    assert tuple(frame.loc["check", ["events", "amount", "amount_currency"]]) == ("-1", "-0.7", "USD")
    assert frame.loc["check", "reason"] == "removed by retention or deleted"
    (document,) = json.loads(Path(files[2]).read_text("utf-8"))
    assert [(row["correction"], row["amount"]) for row in document["rows"]] == [
        ("check", "-0.7"),
        ("supplement", "0.1"),
    ]


@pytest.mark.parametrize("has_slots", [True, False], ids=["by quarter of an hour", "by day"])
def test_what_is_gone_beyond_the_reach_of_a_policy_is_for_billing_to_check(
    store: Store, events_connection: ddl.Connection, monkeypatch: pytest.MonkeyPatch, has_slots: bool
) -> None:
    """The oldest chunk that the policy left begins before its first event, which was deleted."""
    until = utc(2026, 3, 5)
    apply_policy(monkeypatch, until)
    with store:
        signed = store.sign_off(store.validate(Period(since=FIRST, until=LAST)), by="ana")
        signed = signed if has_slots else dataclasses.replace(signed, slots=())
        events_connection.execute("DELETE FROM usage_events WHERE timestamp < %s", [until])
        events_connection.commit()
        assert [line.correction for line in store.changes_since(signed).lines] == ["none"]
        remove(events_connection)
        changes = store.changes_since(signed)
        assert [(line.correction, line.events) for line in changes.lines] == [("check", -15)]
        assert "or deleted, which is a credit: billing has to check" in changes.sentence


LATER = "timestamp BETWEEN '2026-03-10Z' AND '2026-03-11Z'"


@pytest.mark.parametrize("has_slots", [True, False], ids=["by quarter of an hour", "by day"])
@POLICY
def test_what_is_gone_after_the_boundary_is_not_counted_as_retention(
    store: Store, events_connection: ddl.Connection, monkeypatch: pytest.MonkeyPatch, has_slots: bool, policy: bool
) -> None:
    """Of the customer with events before it, too, billing has to look; the other's are a credit."""
    apply_policy(monkeypatch, BOUNDARY if policy else None)
    state, words = ("none", "") if policy else ("check", ", or deleted")
    other = UUID(int=7)
    extracts.add(events_connection, utc(2026, 3, 10, 9), utc(2026, 3, 12, 9), customer_id=other)
    extracts.add(events_connection, *days(FIRST, 20), metric_key="calls")
    with store:
        signed = store.sign_off(store.validate(Period(since=FIRST, until=LAST)), by="ana")
        signed = signed if has_slots else dataclasses.replace(signed, slots=())
        remove(events_connection)
        assert bool(store.changes_since(signed)) == (not policy)
        events_connection.execute(f"DELETE FROM usage_events WHERE {LATER} AND customer_id = %s".encode(), [other])
        events_connection.commit()
        changes = store.changes_since(signed)
        assert [(line.correction, line.customer_id, line.events) for line in changes.lines] == [
            ("credit", str(other), -1),
            (state, str(ORGANIZATION), -5),
            (state, str(ORGANIZATION), -15),
        ]
        assert f"-20 events before 2026-03-06 07:13:00 +00:00, removed by retention{words}" in changes.sentence
        assert "-1 event, changed or removed" in changes.sentence
        events_connection.execute(f"DELETE FROM usage_events WHERE {LATER} AND metric_key = 'tokens'".encode())
        events_connection.commit()
        changes = store.changes_since(signed)
        assert changes.sentence == (
            f"-20 events before 2026-03-06 07:13:00 +00:00, removed by retention{words},"
            " and -4 events after that time, changed or removed: whose they are is not known, so billing has to check"
            " 3 totals by customer and metric; changed on 10 Mar 2026"
        )
        assert changes
        assert not changes.corrections
        assert [line.events for line in changes.to_check] == [-1, -5, -18]
        assert {*changes.frame["correction"]} == {"check"}
        assert {row["correction"] for row in changes.to_dict()["rows"]} == {"check"}
        uncomparable = store.changes_since(dataclasses.replace(signed, hash_probe=1))
        assert "-20 events before" in uncomparable.sentence, "numbers tell it without hashes"
        assert "-4 events after that time" in uncomparable.sentence


def test_events_gone_in_the_quarter_of_an_hour_of_the_boundary_may_be_later_removals(
    store: Store, events_connection: ddl.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply_policy(monkeypatch, utc(2026, 3, 6, 7, 14))
    extracts.add(events_connection, utc(2026, 3, 6, 7, 14))
    with store:
        signed = store.sign_off(store.validate(Period(since=FIRST, until=LAST)), by="ana")
        events_connection.execute("DELETE FROM usage_events WHERE timestamp < '2026-03-06 07:14Z'")
        events_connection.commit()
        changes = store.changes_since(signed)
    assert changes.sentence == (
        "-18 events before 2026-03-06 07:14:00 +00:00, removed by retention;"
        " -3 events of these, in the quarter of an hour of that time, may be later removals"
    )
    assert not changes


def test_what_was_removed_between_two_sign_offs_is_told_from_what_retention_removed_later(
    store: Store, events_connection: ddl.Connection
) -> None:
    march = Period(since=FIRST, until=LAST)
    with store:
        first = store.sign_off(store.validate(march), by="ana")
        events_connection.execute(f"DELETE FROM usage_events WHERE {LATER}".encode())
        events_connection.commit()
        second = store.sign_off(store.validate(march), by="ben")
        remove(events_connection)
        third = store.sign_off(store.validate(march), by="eva")
        between = store.changes_since(first, until=second)
        assert [(line.correction, line.events) for line in between.lines] == [("credit", -3)]
        removed = store.changes_since(second, until=third)
        assert [(line.correction, line.events) for line in removed.lines] == [("check", -15)]
        with pytest.MonkeyPatch.context() as patched:
            apply_policy(patched, BOUNDARY)
            removed = store.changes_since(second, until=third)
        assert [(line.correction, line.events) for line in removed.lines] == [("none", -15)]
        both = store.changes_since(first, until=third)
        assert [(line.correction, line.events) for line in both.lines] == [("check", -18)]
        assert "-15 events before" in both.sentence
        assert "-3 events after that time" in both.sentence
