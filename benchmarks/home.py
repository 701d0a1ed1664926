"""Where the benchmark keeps its rows: a folder for each number of rows, seed and `until`, used again later."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import pyarrow.parquet

from benchmarks.rows import SCHEMA, Rows

BYTES_PER_ROW = {
    "postgres": 800,
    "postgres-extract-only": 520,
    "parquet": 50,
    "duckdb": 170,
    "duckdb-tuned": 100,
    "chdb": 60,
}
"""Disk that each needs, with some room to work."""


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
    extract_only: bool = False
    """Whether the server has only the indexes that the extract and the newest events need."""

    @property
    def path(self) -> Path:
        """The folder itself."""
        return self.folder / f"{self.rows.number}-{self.rows.seed}-{self.rows.until:%Y%m%dT%H%M%S.%f}"

    @property
    def postgres(self) -> Path:
        """The embedded server's."""
        return self.path / self._server

    def room(self) -> int:
        """Bytes that are free for others when the server's folder is made; negative where it has no room itself."""
        self.path.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(self.path).free - self._needed(self._server, self._server)

    @property
    def _server(self) -> str:
        return "postgres-extract-only" if self.extract_only else "postgres"

    def fitting(self, engines: Mapping[str, str]) -> tuple[str, ...]:
        """The engines, with their files' names, that have room beside the server, the smallest ones first of all."""
        room, fitting = self.room() - self._needed("parquet", "parquet"), set()
        for name in sorted(engines, key=BYTES_PER_ROW.__getitem__):
            room -= self._needed(name, engines[name])
            if room >= 0:
                fitting.add(name)
        return tuple(name for name in engines if name in fitting)

    def _needed(self, name: str, file: str) -> int:
        """Bytes that something needs which may be there already."""
        return 0 if (self.path / file).exists() else BYTES_PER_ROW[name] * self.rows.number

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
