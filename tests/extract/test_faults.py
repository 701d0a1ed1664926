"""Whatever ends a refresh, or happens to its files: what is answered from is whole, and the next refresh goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from extract.small_extract import DAY, HOUR, NOON, ORGANIZATION, TIMEOUT, Extract, event, smaller
from support.waiting import eventually
from usage_explore.db import ddl
from usage_explore.extract import folder, manifest, refresh, segments
from usage_explore.extract.folder import ExtractBusy, ExtractError

LATER = NOON + 200 * DAY

BUILD = """
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from uuid import UUID
from usage_explore.db import ddl
from usage_explore.db.schema import events_table
from usage_explore.extract import build, refresh, segments
url, folder, owner = sys.argv[1:]
build.MAX_ROWS_PER_READ = refresh.MAX_ROWS_PER_READ = 100
target = refresh.Target(table=events_table(), organization_id=UUID(owner), folder=Path(folder),
                        resources=segments.Resources(memory=200_000_000, threads=1))
print("begun", flush=True)
refresh.refresh(ddl.connect(url), target, settle=timedelta(0), timeout=timedelta(minutes=1),
                progress=lambda *_: print("step", flush=True))
"""


def many(extract: Extract, number: int = 4_000) -> None:
    """Events of 100 days."""
    extract.execute(
        "INSERT INTO usage_events (id, organization_id, customer_id, metric_key, quantity, timestamp, ingested_at,"
        " idempotency_key, dimensions)"
        " SELECT gen_random_uuid(), %s, %s, 'tokens', n, t, t, n::text, jsonb_build_object('model', 'a')"
        " FROM (SELECT n, %s::timestamptz + n * interval '100 days' / %s AS t FROM generate_series(0, %s) n) AS made",
        ORGANIZATION,
        ORGANIZATION,
        NOON,
        number,
        number - 1,
    )


@pytest.mark.parametrize("after_steps", [0, pytest.param(1, marks=pytest.mark.thorough), 4])
def test_a_build_that_is_killed_goes_on(extract: Extract, after_steps: int) -> None:
    many(extract)
    command = [sys.executable, "-c", BUILD, extract.url, str(extract.folder), str(ORGANIZATION)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            lines = iter(process.stdout)
            assert next(lines) == "begun\n"
            if after_steps:
                for _ in range(after_steps):
                    assert next(lines) == "step\n"
            else:
                eventually(lambda: any(extract.folder.glob("*.parquet")) or process.poll() is not None)
        finally:
            process.kill()
    held = manifest.read(extract.folder)
    before = held.rows if held else 0
    if held:
        extract.check()
    assert before > 0 or not after_steps
    report = extract.refresh(LATER)
    assert report.rows == 4_000 - before
    extract.check()


def test_a_file_that_is_damaged_or_missing_is_built_anew(extract: Extract) -> None:
    many(extract, 200)
    for harm in ("flip", "cut", "remove"):
        extract.refresh(LATER)
        path = extract.folder / extract.manifest.segments[0].rows.name
        content = bytearray(path.read_bytes())
        if harm == "remove":
            path.unlink()
        else:
            content[len(content) // 2] ^= 1
            path.write_bytes(content[:-1] if harm == "cut" else content)
        assert extract.verify().damaged == (path.name,)
        report = extract.refresh(LATER)
        assert path.name in report.rebuilt
        extract.check()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": 99}', b"\xff", b"[" * 100_000, None])
def test_a_damaged_manifest_is_replaced(extract: Extract, content: bytes | None) -> None:
    """Also one that is nested too deeply, or a pipe, whose reader waited for ever."""
    many(extract, 100)
    extract.refresh(LATER)
    path = extract.folder / manifest.NAME
    if content is None:
        path.unlink()
        os.mkfifo(path)
    else:
        path.write_bytes(content)
    assert extract.verify().damaged == (manifest.NAME,)
    report = extract.refresh(LATER)
    assert "manifest" in report.rebuilt
    extract.check()


def test_a_manifest_of_gigabytes_is_not_read(extract: Extract) -> None:
    extract.add(event())
    extract.refresh(LATER)
    with (extract.folder / manifest.NAME).open("r+b") as file:
        file.truncate(2**40)  # sparse; reading it would need more memory than there is
    assert manifest.read(extract.folder) is None
    assert manifest.is_unreadable(extract.folder)


@pytest.mark.parametrize("name", ["watermark", "refreshed", "first", "bytes"])
def test_no_changed_digit_of_a_manifest_is_believed(extract: Extract, name: str) -> None:
    extract.add(event(), event(NOON + HOUR))
    extract.refresh(LATER)
    path = extract.folder / manifest.NAME
    text = path.read_text("ascii")
    digit = text.index(f'"{name}": ') + len(name) + 4
    path.write_text(f"{text[:digit]}{9 - int(text[digit])}{text[digit + 1 :]}", "ascii")
    assert manifest.read(extract.folder) is None
    assert manifest.is_unreadable(extract.folder)
    extract.refresh(LATER)
    extract.check()


def test_a_manifest_of_before_checksums_is_read(extract: Extract) -> None:
    extract.add(event())
    extract.refresh(LATER)
    path, before = extract.folder / manifest.NAME, extract.manifest
    document = json.loads(path.read_bytes())
    del document["checksum"]
    path.write_text(json.dumps(document), "ascii")
    assert manifest.read(extract.folder) == before


@pytest.mark.parametrize(
    "name", ["extract/{source}/00000000-0000-4000-8000-0000000000ff", "extract/other/{organization}"]
)
def test_a_manifest_copied_from_another_folder_is_not_read(extract: Extract, tmp_path: Path, name: str) -> None:
    extract.add(event())
    extract.refresh(LATER)
    source, organization = extract.folder.parent.name, extract.folder.name
    copy = tmp_path / "copy" / name.format(source=source, organization=organization)
    shutil.copytree(extract.folder, copy)
    assert manifest.read(copy) is None
    assert manifest.is_unreadable(copy)


def test_an_extract_of_another_user_is_none_to_read_and_a_sentence_to_change(extract: Extract, tmp_path: Path) -> None:
    """Every aggregate was a PermissionError after root had made the extract of a service."""
    extract.add(event())
    extract.refresh(LATER)
    closed = extract.folder.parent.parent
    source = SimpleNamespace(name=extract.folder.parent.name)
    closed.chmod(0)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        assert manifest.read(extract.folder) is None
        assert manifest.is_unreadable(extract.folder)
        assert list(folder.held(cast("folder.Source", source), closed.parent)) == []
        with pytest.raises(ExtractError, match="Permission denied; run this as the user whose folder it is"):
            folder.drop(extract.folder)
    finally:
        if is_root:
            os.seteuid(0)
        closed.chmod(0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes the mode of what others linked")
def test_a_link_in_place_of_the_extract_keeps_the_mode_of_what_another_user_linked(tmp_path: Path) -> None:
    linked, home = tmp_path / "of root", tmp_path / "of another user"
    for made in (linked, home):
        made.mkdir()
        made.chmod(0o755)
    (home / "extract").symlink_to(linked)
    os.chown(home / "extract", 65534, 65534, follow_symlinks=False)
    with folder.writing(home / "extract" / "database" / "organization"):
        assert linked.stat().st_mode & 0o777 == 0o755


@pytest.fixture
def small_disk(extract: Extract) -> Iterator[Path]:
    """A disk of 1 MB where the extract is to lie."""
    extract.folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "none", str(extract.folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small disk")
    yield extract.folder
    subprocess.run(["umount", str(extract.folder)], check=True)


def test_a_full_disk_leaves_what_was_there(extract: Extract, small_disk: Path) -> None:
    many(extract, 200)
    extract.refresh(NOON + 150 * DAY)
    before = extract.manifest
    large = "SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 4000)"
    extract.execute(f"UPDATE usage_events SET idempotency_key = ({large}) || idempotency_key")
    extract.add(*(event(NOON + 160 * DAY, idempotency_key=os.urandom(100_000).hex()) for _ in range(20)))
    with pytest.raises(ExtractError, match=r"could not be written: the disk is full; free space there, or move"):
        extract.refresh(LATER)
    assert extract.manifest == before
    assert folder.damaged(small_disk, before) == []
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    extract.refresh(LATER)
    extract.verify(fix=True)
    assert extract.manifest.rows == 220


def test_a_manifest_that_cannot_be_written_leaves_the_one_before(
    extract: Extract, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(extract, 100)
    extract.refresh(NOON + 30 * DAY)
    before = extract.manifest

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(ExtractError, match="could not be written: the disk is full; free space"):
            extract.refresh(LATER)
    assert extract.manifest == before
    extract.check()
    extract.refresh(LATER)
    extract.check()


def test_two_that_refresh_at_once_take_turns(extract: Extract) -> None:
    many(extract)
    extract.execute("UPDATE usage_events SET ingested_at = ingested_at - interval '1 year'")
    failures: list[BaseException] = []

    def run() -> None:
        try:
            with ddl.connect(extract.url) as connection:
                refresh.refresh(connection, extract.target, settle=timedelta(0), timeout=TIMEOUT, wait=30.0)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert extract.manifest.rows == 4_000
    extract.check()


def test_an_interruption_while_reading_leaves_connection_and_extract_usable(
    extract: Extract, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(extract, 1_000)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, smaller(MAX_ROWS_PER_READ=100):
        patched.setattr(segments, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            extract.refresh(LATER)
    assert extract.refresh(LATER).rows == 1_000
    extract.check()


def test_remains_of_a_writer_that_died_are_removed(extract: Extract) -> None:
    many(extract, 10)
    extract.refresh(LATER)
    folder.temporary(extract.folder).mkdir()
    (folder.temporary(extract.folder) / "spilled").write_text("x")
    (extract.folder / "manifest.json.123").write_text("{")
    old, new = extract.folder / "old.parquet", extract.folder / "new.parquet"
    for path in (old, new):
        path.write_text("x")
    os.utime(old, (0, 0))
    extract.refresh(LATER)
    assert not folder.temporary(extract.folder).exists()
    assert not (extract.folder / "manifest.json.123").exists()
    assert (old.exists(), new.exists()) == (False, True)


def test_a_dropped_extract_is_gone_and_comes_back(extract: Extract) -> None:
    many(extract, 10)
    assert not folder.drop(extract.folder)
    extract.refresh(LATER)
    with folder.writing(extract.folder), pytest.raises(ExtractBusy):
        folder.drop(extract.folder)
    assert folder.drop(extract.folder)
    assert manifest.read(extract.folder) is None
    assert list(extract.folder.glob("*.parquet")) == []
    extract.refresh(NOON + HOUR)
    extract.check()
