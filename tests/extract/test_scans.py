"""Which files of an extract a query reads: every event of its window once, with few scans."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from support.thoroughness import cases
from usage_explore import AggregateQuery
from usage_explore.extract.manifest import DAY, HOUR, SLOT, File, Layout, Segment, Summary, instant
from usage_explore.extract.scans import Scan, Span, planned_scans
from usage_explore.extract.statement import Measure, Tail, points

NOON = 20_000 * DAY + DAY // 2
UNITS = (SLOT, HOUR, DAY)
times = st.integers(-6, 6).flatmap(
    lambda days: st.sampled_from([0, 1, SLOT, HOUR, HOUR + SLOT, DAY // 2]).map(lambda rest: NOON + days * DAY + rest)
)


def segment(name: str, events: list[int], units: tuple[int, ...]) -> Segment:
    """A segment of events at these times, all ingested at noon, whose summaries have all columns."""
    summaries = [
        Summary(file=File(name=f"{name}-{unit}", bytes=1, crc=0, rows=40_000 - unit // SLOT), unit=unit, columns=())
        for unit in units
    ]
    return Segment(
        rows=File(name=f"{name}-1", bytes=1, crc=0, rows=100_000),
        summaries=tuple(summaries),
        layout=Layout(dimensions=(), quantity=(18, 0), cost=(18, 0)),
        first=min(events),
        last=max(events),
        first_ingested=NOON,
        last_ingested=NOON,
        keys=(),
    )


def scans(segments: list[Segment], since: int, until: int) -> list[Scan]:
    query = AggregateQuery(organization_id=UUID(int=1), since=instant(since), until=instant(until))
    return planned_scans(segments, query, Span(since, until), DAY, [], str)


def read(scan: Scan, file: str, events: list[int]) -> list[int]:
    """The events of a file that a scan reads: of a summary whole units of time."""
    unit = scan.unit or 1
    assert file.endswith(f"-{unit}")

    def is_read(event: int, span: Span) -> bool:
        start = event // unit
        return (span.since is None or start >= span.since // unit) and (
            span.until is None or start < span.until // unit
        )

    return [event for event in events for span in scan.spans if is_read(event, span)]


@settings(max_examples=cases(300), deadline=None)
@given(
    st.lists(st.tuples(st.lists(times, min_size=1, max_size=4), st.sets(st.sampled_from(UNITS))), max_size=4),
    times,
    times,
)
def test_every_event_of_the_window_is_read_once(held: list[tuple[list[int], set[int]]], since: int, until: int) -> None:
    since, until = min(since, until), max(since, until) + 1
    files = {f"s{number}": events for number, (events, _) in enumerate(held)}
    segments = [segment(f"s{number}", events, tuple(units)) for number, (events, units) in enumerate(held)]
    found = [
        event
        for scan in scans(segments, since, until)
        for file in scan.files
        for event in read(scan, file, files[file.split("-")[0]])
    ]
    assert sorted(found) == sorted(event for events in files.values() for event in events if since <= event < until)


def test_a_window_beyond_the_events_reads_one_summary() -> None:
    """A window that ends now cut the last day of every extract, which was read from the rows."""
    held = segment("s0", [NOON, NOON + 3 * DAY], (DAY,))
    (scan,) = scans([held], NOON - 1, NOON + 3 * DAY + 1)
    assert (scan.unit, scan.spans) == (DAY, (Span(None, None),))


def test_both_edges_of_a_window_are_one_scan() -> None:
    held = segment("s0", [NOON - 9 * DAY, NOON + 9 * DAY], (DAY,))
    assert sorted((scan.unit or 0, len(scan.spans)) for scan in scans([held], NOON, NOON + 3 * DAY)) == [
        (0, 2),
        (DAY, 1),
    ]


def test_a_short_segment_beside_long_ones_adds_no_scans() -> None:
    """Its hours were few enough to be read, and days of the others: with what a window cuts, four scans."""

    def with_rows(name: str, hours: int, days: int) -> Segment:
        held = segment(name, [NOON - 9 * DAY, NOON + 9 * DAY], (HOUR, DAY))
        rows = {HOUR: hours, DAY: days}
        summaries = [replace(each, file=replace(each.file, rows=rows[each.unit])) for each in held.summaries]
        return replace(held, rows=replace(held.rows, rows=10 * hours), summaries=tuple(summaries))

    segments = [with_rows("s0", 36_000, 9_000), with_rows("s1", 6_000, 2_000)]
    assert [scan.unit for scan in scans(segments, NOON + 1, NOON + 30 * DAY)] == [None, DAY]


def test_a_window_of_less_than_a_day_reads_rows() -> None:
    held = segment("s0", [NOON - 9 * DAY, NOON + 9 * DAY], (DAY,))
    until = NOON + timedelta(hours=2) // timedelta(microseconds=1)
    (scan,) = scans([held], NOON, until)
    assert (scan.unit, scan.spans) == (None, (Span(NOON, until),))


def test_a_later_window_has_the_same_text() -> None:
    """So that its statement is not parsed again."""
    held = segment("s0", [NOON - 9 * DAY, NOON + 9 * DAY], (DAY,))

    def statement(since: int) -> tuple[str, list[object]]:
        since, until = NOON + since, NOON + since + 3 * DAY
        query = AggregateQuery(
            organization_id=UUID(int=1), since=instant(since), until=instant(until), as_of=instant(NOON)
        )
        return points(scans([held], since, until), query, Tail(), Measure(edges=query.edges()))

    (text, values), (later, others) = statement(0), statement(DAY + HOUR)
    assert text == later
    assert values != others
