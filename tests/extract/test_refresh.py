"""A refresh adds what is new, and makes good what changed behind the watermark."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from extract.small_extract import DAY, HOUR, NOON, ORGANIZATION, TABLE, TIMEOUT, Extract, event, smaller
from usage_explore.db import ddl
from usage_explore.extract import changes, folder, manifest, refresh, watermark

LATER = NOON + 2 * DAY


@pytest.fixture
def built(extract: Extract) -> Extract:
    """An extract of events ingested in two hours a day apart."""
    extract.add(*(event(NOON, dimensions='{"model": "a"}') for _ in range(4)), *(event(NOON + DAY) for _ in range(4)))
    extract.refresh(LATER)
    return extract


def test_events_that_arrive_are_added_once(built: Extract) -> None:
    built.add(event(LATER), event(LATER + HOUR), event(NOON, ingested_at=LATER), event(LATER + DAY))
    report = built.refresh(LATER + HOUR)
    assert report.rows == 2
    assert report.manifest.watermark == manifest.micros(LATER + HOUR)
    built.check()
    assert built.refresh(LATER + HOUR).rows == 0
    assert built.refresh(LATER + 2 * HOUR).rows == 1
    built.check()
    assert built.verify().differences == ()


def test_an_open_transaction_holds_the_watermark_back(built: Extract, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watermark, "LEAST_SETTLE", timedelta(0))
    with ddl.connect(built.url) as other:
        other.execute("SELECT 1")
        report = refresh.refresh(built.connection, built.target, settle=timedelta(0), timeout=TIMEOUT)
        assert report.safe is not None
        assert report.safe.pid == other.info.backend_pid
        first = report.manifest.watermark
        row = built.connection.execute(
            "SELECT xact_start FROM pg_stat_activity WHERE pid = %s", [other.info.backend_pid]
        ).fetchone()
        built.connection.commit()
        assert row is not None
        assert first == manifest.micros(row[0])
    report = refresh.refresh(built.connection, built.target, settle=timedelta(0), timeout=TIMEOUT)
    assert first < (report.manifest.watermark or 0)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM usage_events WHERE id = (SELECT min(id::text)::uuid FROM usage_events)",
        "DELETE FROM usage_events WHERE ingested_at > '2026-10-23'",
        "UPDATE usage_events SET quantity = quantity + 0.5 WHERE ingested_at > '2026-10-23'",
        "UPDATE usage_events SET external_cost_amount = 2 WHERE ingested_at > '2026-10-23'",
        "UPDATE usage_events SET ingested_at = ingested_at + interval '2 hours' WHERE ingested_at > '2026-10-23'",
        "UPDATE usage_events SET quantity = 12345678901234567890123456789012345678",
        "TRUNCATE usage_events",
    ],
)
def test_what_changed_in_the_last_days_is_read_again(built: Extract, statement: str) -> None:
    built.execute(statement)
    assert built.verify().differences
    report = built.refresh(LATER)
    assert report.corrected
    built.check()
    assert built.verify().differences == ()
    assert built.refresh(LATER).corrected == 0


def test_rows_that_appear_behind_the_watermark_are_read(built: Extract) -> None:
    built.add(event(NOON + HOUR), event(NOON - DAY))
    assert built.refresh(LATER).rows
    built.check()


def test_older_changes_are_found_by_verifying_and_repaired(built: Extract) -> None:
    much_later = NOON + 30 * DAY
    built.refresh(much_later)
    built.execute("UPDATE usage_events SET quantity = 7 WHERE ingested_at > '2026-10-23'")
    built.refresh(much_later)
    (difference,) = built.verify().differences
    assert difference.hour == NOON + DAY
    assert difference.events is not None
    assert difference.extract is not None
    assert (difference.events.quantity, difference.extract.quantity) == (Decimal(28), Decimal(4))
    assert built.verify(fix=True).differences
    assert built.verify().differences == ()
    built.check()


def test_what_retention_removed_leaves_the_extract(built: Extract) -> None:
    much_later = NOON + 30 * DAY
    built.add(*(event(NOON + 20 * DAY) for _ in range(3)), event(NOON - DAY, ingested_at=NOON + 20 * DAY))
    built.refresh(much_later)
    built.execute("DELETE FROM usage_events WHERE timestamp < '2026-10-23'")
    report = built.refresh(much_later)
    assert report.manifest.removed_before == manifest.micros(NOON + DAY / 2)
    assert report.manifest.rows == 7
    built.check()
    assert built.verify().differences == ()
    built.execute("DELETE FROM usage_events")
    report = built.refresh(much_later)
    assert report.manifest.rows == 0
    assert report.manifest.removed_before == manifest.micros(NOON + 20 * DAY) + 1
    built.add(event(much_later))
    assert built.refresh(much_later + HOUR).manifest.rows == 1
    built.check()


def test_announced_changes_are_read_once_their_transaction_has_ended(built: Extract) -> None:
    much_later = NOON + 30 * DAY
    built.refresh(much_later)
    with ddl.connect(built.url) as other:
        other.execute("UPDATE usage_events SET metric_key = 'other'")
        changes.announce(other, built.target.table, built.home, {ORGANIZATION: (NOON, NOON + DAY)})
        assert changes.pending(built.folder)
        refresh.refresh(built.connection, built.target, settle=timedelta(0), timeout=TIMEOUT)
        assert changes.pending(built.folder)
        other.commit()
    refresh.refresh(built.connection, built.target, settle=timedelta(0), timeout=TIMEOUT)
    assert not changes.pending(built.folder)
    built.check()


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"null", b'{"at": 1, "first": 2, "last": 3}', b'{"at": 1, "first": 2, "last": 3, "checksum": 4}'],
)
def test_a_damaged_announcement_makes_the_next_refresh_build_anew(built: Extract, content: bytes) -> None:
    (built.folder / "0123456789abcdef.change").write_bytes(content)
    built.execute("UPDATE usage_events SET metric_key = 'other'")
    assert built.refresh(NOON + 30 * DAY).rebuilt == "an announcement of changes was damaged"
    assert not changes.pending(built.folder)
    built.check()


def test_a_table_made_anew_has_a_new_extract(built: Extract) -> None:
    built.execute("ALTER TABLE usage_events RENAME TO before")
    built.execute("CREATE TABLE usage_events (LIKE before INCLUDING ALL)")
    built.add(event(NOON))
    report = built.refresh(LATER)
    assert report.rebuilt == "the table was made anew"
    built.check()
    assert report.manifest.rows == 1


def test_only_select_is_needed(built: Extract, events_connection: ddl.Connection) -> None:
    role = f"reader_{events_connection.info.backend_pid}"
    built.execute(f"CREATE ROLE {role}")
    built.execute(f"GRANT SELECT ON usage_events TO {role}")
    try:
        built.execute(f"SET ROLE {role}")
        assert folder.source(built.connection, built.url, TABLE).folder(built.home, ORGANIZATION) != built.folder
        built.refresh(LATER, again=True)
        built.execute("RESET ROLE")
        built.check()
    finally:
        built.execute("RESET ROLE")
        built.execute(f"DROP OWNED BY {role}")
        built.execute(f"DROP ROLE {role}")


def test_small_segments_are_merged_and_readers_keep_theirs(extract: Extract) -> None:
    with smaller(MAX_SEGMENT_ROWS=1000):
        names = set()
        for number in range(12):
            extract.add(*(event(NOON + number * HOUR) for _ in range(5)))
            names |= {s.rows.name for s in extract.refresh(NOON + (number + 1) * HOUR).manifest.segments}
        assert len(extract.manifest.segments) <= 4
        extract.check()
    present = {path.name for path in extract.folder.glob("*.parquet")}
    assert names <= present  # for `GRACE`, for readers of a manifest before
    import os

    for path in extract.folder.glob("*.parquet"):
        os.utime(path, (0, 0))
    extract.refresh(NOON + DAY)
    assert {path.name for path in extract.folder.glob("*.parquet")} == {s.rows.name for s in extract.manifest.segments}
    extract.check()


def test_segments_of_other_widths_are_merged_without_rounding(extract: Extract) -> None:
    amounts = ["1", "0.5", "0.00001", "99999999999999999999", "-0.25", "9" * 30 + ".12"]
    for number, text in enumerate(amounts):
        extract.add(event(NOON + number * HOUR, quantity=Decimal(text), external_cost_amount=Decimal(text)))
        extract.refresh(NOON + (number + 1) * HOUR)
        extract.check()
    assert len(extract.manifest.segments) < len(amounts)
    assert extract.verify().differences == ()


@pytest.mark.parametrize(
    "change",
    [
        "metric_key = 'other'",
        "price_key = ''",
        "customer_id = product_id",
        "dimensions = '{}'",
        "timestamp = timestamp + interval '1 microsecond'",
        "ingested_at = ingested_at + interval '1 microsecond'",
        "wallet_currency = 'EUR'",
        "idempotency_key = 'k' || idempotency_key",
    ],
)
def test_verifying_compares_every_value(extract: Extract, change: str) -> None:
    extract.add(*(event(NOON + number * HOUR, dimensions='{"a": 1.50, "ü": [null]}') for number in range(3)))
    extract.add(event(NOON, product_id=ORGANIZATION, wallet_currency="USD", dimensions='{"a": 1.50}'))
    extract.refresh(LATER)
    assert extract.verify().differences == ()
    extract.execute(f"UPDATE usage_events SET {change} WHERE product_id IS NOT NULL")
    assert [each.hour for each in extract.verify(fix=True).differences] == [NOON]
    assert extract.verify().differences == ()
    extract.check()
