"""Where the benchmark keeps its rows: a folder for each number of rows, seed and `until`, used again later."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import pyarrow.parquet

from benchmarks.rows import SCHEMA, Rows

BYTES_PER_ROW = {"postgres": 800, "duckdb": 200, "duckdb-tuned": 200, "chdb": 100}
"""Disk that each needs, Parquet files and room to work included."""


def default_folder() -> Path:
    """The user's cache folder; for root one that the server's own user can enter."""
    if os.geteuid() == 0:
        return Path("/var/cache/usage-explore-benchmarks")
    return platformdirs.user_cache_path("usage-explore-benchmarks", appauthor=False)


@dataclass(frozen=True)
class Home:
    """The folder of some rows."""

    folder: Path
    rows: Rows

    @property
    def path(self) -> Path:
        """The folder itself."""
        return self.folder / f"{self.rows.number}-{self.rows.seed}-{self.rows.until:%Y%m%dT%H%M%S.%f}"

    @property
    def postgres(self) -> Path:
        """The embedded server's."""
        return self.path / "postgres"

    def lacks_room(self, engines: dict[str, str]) -> str | None:
        """Why the disk is too small for the server's folder and the engines' files that are not there yet."""
        self.path.mkdir(parents=True, exist_ok=True)
        needed = sum(
            BYTES_PER_ROW[name] * self.rows.number
            for name, file in {**engines, "postgres": "postgres"}.items()
            if not (self.path / file).exists()
        )
        free = shutil.disk_usage(self.path).free
        if needed <= free:
            return None
        return f"{self.rows.number:,} rows need {needed / 1e9:.0f} GB of disk, {free / 1e9:.0f} GB are free"

    def parquet(self) -> Path:
        """The rows as Parquet files, written unless they are there."""
        folder = self.path / "parquet"
        if not folder.exists():
            unfinished = self.path / "parquet.new"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            writer = None
            for number, chunk in enumerate(self.rows.chunks()):
                if number % 10 == 0:  # files of 2.5 million rows
                    if writer:
                        writer.close()
                    writer = pyarrow.parquet.ParquetWriter(
                        unfinished / f"{number // 10:04}.parquet", SCHEMA, compression="zstd"
                    )
                assert writer is not None
                writer.write_table(chunk)
            if writer:
                writer.close()
            unfinished.rename(folder)
        return folder

    def size(self, name: str) -> int:
        """Bytes on disk of a file or folder in here."""
        path = self.path / name
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        return sum(file.stat().st_size for file in files)
