"""`python -m benchmarks.loading`: rows per second and memory of `load` for a CSV file with the demo's columns.

The processor time is that of the loading process, without the database server's.
"""

from __future__ import annotations

import csv
import resource
import time
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from usage_explore import config
from usage_explore.db import ddl
from usage_explore.db.schema import COLUMNS, events_table
from usage_explore.demo.events import copy_lines
from usage_explore.demo.planted_incidents import MAIN, whole_day
from usage_explore.load import load_files

FIRST_DAY = date(2026, 9, 1)

TABLE = "load_benchmark"
"""Events table of the benchmark, dropped at the end."""


def write_csv(path: Path, rows: int) -> None:
    """Write `rows` events of the demo as CSV."""
    written = 0
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        day = FIRST_DAY
        while written < rows:
            for line in copy_lines(whole_day(1, day, MAIN), MAIN):
                values = line[:-1].split("\t")
                writer.writerow("" if text == "\\N" else text.replace("\\\\", "\\") for text in values)
                written += 1
                if written == rows:
                    break
            day += timedelta(days=1)


@click.command()
@click.option("--rows", default=1_000_000, show_default=True, help="Rows of the file.")
@click.option("--url", metavar="URL", help="PostgreSQL to load into.  [default: the embedded one]")
def main(rows: int, url: str | None) -> None:
    """Load a file once and print the rate, the processor time and the peak memory of the process."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "events.csv"
        write_csv(path, rows)
        megabytes = path.stat().st_size / 1e6
        with ddl.connect(url or config.database_url(config.settings())) as connection:
            before = resource.getrusage(resource.RUSAGE_SELF)
            began = time.perf_counter()
            report = load_files(connection, events_table(TABLE), [path])[0]
            seconds = time.perf_counter() - began
            after = resource.getrusage(resource.RUSAGE_SELF)
            connection.execute(f"DROP TABLE {TABLE}")
            connection.commit()
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    click.echo(
        f"{report.loaded:,} rows of {megabytes:,.0f} MB: {seconds:.1f} s, {rows / seconds:,.0f} rows/s; processor"
        f" {spent:.1f} s, {rows / spent:,.0f} rows/s; peak memory {after.ru_maxrss / 1024:,.0f} MB"
        f" ({before.ru_maxrss / 1024:,.0f} MB before); writing {report.writing.total_seconds():.1f} s"
    )


if __name__ == "__main__":
    main()
