"""A file that is written beside its name takes the place of a file, and of nothing else."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from usage_explore.errors import ConfigurationError
from usage_explore.results.whole_file import whole_file


def test_a_file_is_replaced_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    with whole_file(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_pipe_or_folder_is_refused_and_stays(make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "other"
    make(path)
    kind = stat.S_IFMT(path.lstat().st_mode)
    with pytest.raises(ConfigurationError, match=r"path: .*other is not a regular file"), whole_file(path):
        raise AssertionError("nothing may be written")
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(ConfigurationError, match="is not a regular file"), whole_file(link):
        raise AssertionError("nothing may be written")
    assert stat.S_IFMT(path.lstat().st_mode) == kind
    assert link.is_symlink()


@pytest.mark.parametrize(("old", "new"), [(0o600, 0o600), (0o640, 0o640), (0o444, 0o644), (0o666, 0o644)])
def test_a_file_that_replaces_another_is_open_to_no_more_people(tmp_path: Path, old: int, new: int) -> None:
    path = tmp_path / "report.html"
    path.touch()
    path.chmod(old)
    before = os.umask(0o022)
    try:
        with whole_file(path) as part:
            part.write_text("new")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == new
