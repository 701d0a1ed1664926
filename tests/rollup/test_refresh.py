"""Refreshing: it may stop anywhere, goes on with what fits, and sees what changed behind the watermark."""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from support.partial_rollup import ORGANIZATION, TABLE, Ahead
from support.query_oracle import utc
from usage_explore import AggregateQuery, Store, demo
from usage_explore.load import load_files
from usage_explore.rollup import catalog, choose_dimensions, refresh, refresh_run
from usage_explore.rollup.status import verify
from usage_explore.sql.rollup_plan import floor

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FIRST = utc(2026, 3, 1)
NEIGHBOUR = UUID("0b0b0b0b-0000-4000-8000-000000000002")
LONG = secrets.token_urlsafe(6_000)
"""Too long for an index, and it cannot be compressed."""

KILLED = """
import os, signal, sys
from datetime import datetime
from usage_explore.db import ddl as writing
from usage_explore.rollup import refresh
from usage_explore.db.schema import events_table

def stop(*_):
    os.kill(os.getpid(), signal.SIGKILL)

refresh.advance(writing.connect(sys.argv[1]), events_table(), datetime.fromisoformat(sys.argv[2]), stop)
"""


def differing(ahead: Ahead) -> int:
    return verify(ahead.connection, TABLE, sample=None).differing


def weeks(ahead: Ahead) -> None:
    ahead.add(*(FIRST + number * 7 * HOUR for number in range(80)))
    ahead.keep(none=HOUR, dim__model=DAY)


def test_killed_half_way_it_goes_on(ahead: Ahead) -> None:
    weeks(ahead)
    target = FIRST + 20 * DAY
    killed = subprocess.run([sys.executable, "-c", KILLED, ahead.url, target.isoformat()], check=False)
    assert killed.returncode == -signal.SIGKILL
    reached = ahead.entry("none").watermark
    assert reached is not None
    assert reached < target
    assert differing(ahead) == 0
    ahead.advance(target)
    assert (ahead.entry("none").watermark, ahead.entry("dim:model").watermark) == (target, target)
    assert differing(ahead) == 0


def test_short_steps_never_lead_back(ahead: Ahead, monkeypatch: pytest.MonkeyPatch) -> None:
    weeks(ahead)
    monkeypatch.setattr(refresh, "_QUICK", -1.0)
    monkeypatch.setattr(refresh, "_SLOW", -1.0)
    monkeypatch.setattr(refresh, "_TOO_SLOW", -1.0)
    reached: list[datetime] = []
    refresh.advance(ahead.connection, TABLE, FIRST + 3 * DAY, lambda _, now, __: reached.append(now))
    assert len(reached) > 5
    assert reached == sorted(set(reached))
    assert differing(ahead) == 0


def test_a_slow_day_is_still_read_whole(ahead: Ahead, monkeypatch: pytest.MonkeyPatch) -> None:
    weeks(ahead)
    monkeypatch.setattr(refresh, "_QUICK", -1.0)
    monkeypatch.setattr(refresh, "_SLOW", -1.0)
    reached: list[datetime] = []
    target = FIRST + 9 * DAY
    refresh.advance(ahead.connection, TABLE, target, lambda _, now, __: reached.append(now))
    assert len(reached) > 5
    assert all(refresh.floor(each, DAY) == each or each == target for each in reached)
    assert differing(ahead) == 0


def test_times_that_no_question_reaches_are_not_counted(ahead: Ahead, fast: Store) -> None:
    ahead.add(FIRST)
    ahead.add(FIRST, ingested_at="-infinity")
    ahead.add(FIRST, ingested_at="20000-01-01T00:00:00Z", timestamp="20000-01-01T00:00:00Z")
    ahead.add(FIRST, timestamp="20000-01-01T00:00:00Z")
    ahead.keep(none=HOUR)
    ahead.advance(FIRST + DAY)
    assert differing(ahead) == 0
    answer = fast.aggregate(AggregateQuery(since=FIRST, until=FIRST + DAY))
    assert (answer.total, answer.served.because) == (1, None)


def test_a_value_too_long_leaves_only_its_dimension_out(ahead: Ahead, fast: Store) -> None:
    weeks(ahead)
    ahead.advance(FIRST + 10 * DAY)
    rows = ahead.rows()
    ahead.add(FIRST + 25 * DAY, dimensions={"model": LONG})
    ahead.advance(FIRST + 30 * DAY)
    out = ahead.entry("dim:model")
    assert (out.grain, out.watermark, out.by_hand) == (None, None, True)
    assert "cannot be kept: index row" in str(out.reason)
    assert ahead.entry("none").watermark == FIRST + 30 * DAY
    assert (differing(ahead), ahead.rows() < rows + 80) == (0, True)
    answer = fast.aggregate(AggregateQuery(since=FIRST, until=FIRST + 30 * DAY, group_by="dim:model"))
    assert (answer.total, answer.served.path) == (81, "events")
    refresh_run.choose(ahead.connection, TABLE, again=True)
    assert ahead.entry("dim:model").grain is None


def test_a_metric_key_too_long_leaves_only_its_organization_out(ahead: Ahead, fast: Store) -> None:
    for index in ("cover", "metric"):  # which could not hold it either
        ahead.connection.execute(f"DROP INDEX usage_events_{index}")
    ahead.connection.execute("DROP STATISTICS IF EXISTS usage_events_metric_key_pairs")
    weeks(ahead)
    ahead.add(FIRST, organization_id=NEIGHBOUR)
    ahead.keep(none=HOUR)
    ahead.add(FIRST, metric_key=LONG, organization_id=NEIGHBOUR)
    ahead.advance(FIRST + 30 * DAY)
    with ahead.connection.transaction():
        kept = {
            entry.organization_id
            for entry in catalog.entries(ahead.connection, TABLE)
            if entry.dimension == "none" and entry.kept
        }
    assert kept == {ORGANIZATION}
    assert differing(ahead) == 0
    assert fast.aggregate(AggregateQuery(since=FIRST, until=FIRST + DAY)).served.path == "rollup"


def test_a_load_of_a_value_too_long_succeeds(ahead: Ahead, fast: Store, tmp_path: Path) -> None:
    weeks(ahead)
    ahead.advance(FIRST + 30 * DAY)
    path = tmp_path / "old.csv"
    path.write_text(
        "customer_id,metric_key,quantity,timestamp,ingested_at,model\n"
        f"{ORGANIZATION},tokens,1,2026-03-01T05:00:00Z,2026-03-01T05:00:00Z,{LONG}\n"
    )
    (report,) = load_files(ahead.connection, TABLE, [path], organization_id=ORGANIZATION, dimensions=True)
    assert report.loaded == 1
    assert ahead.entry("dim:model").grain is None
    assert fast.aggregate(AggregateQuery(since=FIRST, until=FIRST + DAY, bucket="hour")).total == 5
    assert differing(ahead) == 0


@pytest.mark.parametrize("grain", [HOUR, DAY])
def test_what_changed_within_a_week_is_mended(ahead: Ahead, grain: timedelta) -> None:
    now = datetime.now(UTC)
    today = floor(now, DAY)
    ahead.add(*(today - number * 12 * HOUR for number in range(20)))
    ahead.keep(none=grain, dim__model=HOUR, customer_id=DAY)
    refresh_run.refresh(ahead.connection, TABLE, settle=timedelta(0))
    ahead.add(today - 2 * DAY, today - 3 * DAY, now - 2 * HOUR)
    ahead.connection.execute("DELETE FROM usage_events WHERE ingested_at = %s", [today - 4 * DAY])
    ahead.connection.commit()
    assert differing(ahead) > 0
    report = refresh_run.refresh(ahead.connection, TABLE, settle=timedelta(0))
    assert report.mended == 4
    assert differing(ahead) == 0
    assert refresh_run.refresh(ahead.connection, TABLE, settle=timedelta(0)).mended == 0


def test_what_changed_longer_ago_is_found_by_verifying_and_mended_by_rebuilding(ahead: Ahead) -> None:
    now = datetime.now(UTC)
    ahead.add(*(now - number * DAY for number in range(30)))
    ahead.keep(none=HOUR, dim__model=DAY)
    refresh_run.refresh(ahead.connection, TABLE, settle=timedelta(0))
    ahead.add(now - 20 * DAY)
    assert refresh_run.refresh(ahead.connection, TABLE, settle=timedelta(0)).mended == 0
    found = verify(ahead.connection, TABLE, sample=None)
    assert {each.dimension for each in found.differences} == {"none", "dim:model"}
    assert all(each.events - each.rollup_events == 1 for each in found.differences)
    refresh.renew(ahead.connection, TABLE, now - 20 * DAY, now - 19 * DAY)
    assert differing(ahead) == 0


def test_every_planted_difference_is_found(ahead: Ahead) -> None:
    weeks(ahead)
    ahead.advance(FIRST + 30 * DAY)
    planted = [
        "DELETE FROM usage_events_rollup WHERE slot = (SELECT min(slot) FROM usage_events_rollup)",
        "UPDATE usage_events_rollup SET quantity = 0.1 WHERE slot = (SELECT min(slot) FROM usage_events_rollup)",
        "UPDATE usage_events_rollup SET value = NULL WHERE dimension = 'dim:model' AND slot < '2026-03-02'",
        "INSERT INTO usage_events_rollup SELECT * FROM usage_events_rollup LIMIT 1",
        "UPDATE usage_events_rollup SET ingested = '2027-03-20Z' WHERE slot > '2026-03-20'",
        "INSERT INTO usage_events_rollup SELECT organization_id, 'dim:nothing', value, metric_key, slot, ingested,"
        " events, quantity FROM usage_events_rollup LIMIT 1",
    ]
    for statement in planted:
        assert differing(ahead) == 0
        ahead.connection.execute(statement.encode())
        ahead.connection.commit()
        assert differing(ahead) > 0, statement
        ahead.connection.execute("TRUNCATE usage_events_rollup")
        ahead.connection.execute("UPDATE usage_events_rollup_kept SET watermark = NULL")
        ahead.connection.commit()
        ahead.advance(FIRST + 30 * DAY)


def test_wishes_hold_for_organizations_to_come(ahead: Ahead) -> None:
    weeks(ahead)
    ahead.add(FIRST, organization_id=NEIGHBOUR)
    refresh_run.choose(ahead.connection, TABLE, again=False)
    with ahead.connection.transaction():
        new = {
            entry.dimension: (entry.grain, entry.by_hand)
            for entry in catalog.entries(ahead.connection, TABLE)
            if entry.organization_id == NEIGHBOUR
        }
    assert (new["none"], new["dim:model"]) == ((HOUR, True), (DAY, True))


def test_forgetting_goes_back_to_what_is_measured(ahead: Ahead) -> None:
    weeks(ahead)
    refresh_run.forget_overrides(ahead.connection, TABLE, ["dim:model"], None)
    entry = ahead.entry("dim:model")
    assert (entry.by_hand, entry.grain, str(entry.reason)[:8]) == (False, None, "it needs")
    refresh_run.set_overrides(ahead.connection, TABLE, {"dim:gone": DAY}, None)
    refresh_run.forget_overrides(ahead.connection, TABLE, ["dim:gone"], None)
    with ahead.connection.transaction():
        assert "dim:gone" not in {entry.dimension for entry in catalog.entries(ahead.connection, TABLE)}


def test_what_is_measured_stays_within_its_budget(ahead: Ahead) -> None:
    ahead.add(FIRST, number=300)
    ahead.add(
        *(FIRST + number * timedelta(minutes=3) for number in range(40)), dimensions={"request": secrets.token_hex(4)}
    )
    measured = {each.dimension: each for each in choose_dimensions.measure(ahead.connection, TABLE, ORGANIZATION)}
    ahead.connection.commit()
    chosen = choose_dimensions.choose(ORGANIZATION, measured.values(), [], FIRST)
    assert sum(entry.share or 0 for entry in chosen if entry.grain) <= choose_dimensions.BUDGET
    assert all((entry.grain is None) == bool(entry.reason) for entry in chosen)


def test_an_event_of_many_keys_is_measured_by_the_most_frequent_ones(ahead: Ahead) -> None:
    ahead.add(FIRST, number=2)
    ahead.add(FIRST, dimensions={f"k{number:05}": number for number in range(20_000)})
    ahead.connection.execute("SET statement_timeout = '60s'")
    measured = {found.dimension for found in choose_dimensions.measure(ahead.connection, TABLE, ORGANIZATION)}
    ahead.connection.commit()
    keys = {name for name in measured if name.startswith("dim:")}
    assert len(keys) == choose_dimensions.MAX_MEASURED_KEYS
    assert "dim:model" in keys


def test_a_refresh_after_a_load_that_takes_too_long_says_how_to_go_on(
    ahead: Ahead, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead.add(FIRST)
    monkeypatch.setattr(choose_dimensions, "_MEASURE", "SELECT pg_sleep(60) FROM {events}")
    settle, timeout = timedelta(), timedelta(milliseconds=500)
    said = refresh_run.refresh_after_loading(ahead.connection, TABLE, 1, settle=settle, timeout=timeout)
    assert said.startswith("The rollup is not up to date")
    assert said.endswith("go on with: usage-explore rollup")


def test_the_demo_keeps_what_it_learns_late_counted(ahead: Ahead) -> None:
    def append(until: datetime) -> None:
        demo.append(ahead.connection, TABLE, until=until, days=2, per_day=120)

    append(FIRST)
    ahead.keep(none=HOUR, customer_id=DAY)
    ahead.advance(FIRST + 2 * DAY)
    append(FIRST + 3 * DAY)
    ahead.advance(FIRST + 3 * DAY)
    assert differing(ahead) == 0
