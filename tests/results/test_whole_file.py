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
