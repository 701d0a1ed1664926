"""Looks at the servers every few seconds: memory, threads, file handles, database connections, the processors."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

import psutil  # type: ignore[import-untyped]
import psycopg

from soak_log import Log
from soak_servers import Running

EVERY = 5.0
"""Seconds between looks."""

_MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Look:
    """The servers at one moment, `at` seconds into the run; memory in MiB, processors in percent of one
    (the machine's of all), and in seconds since they began.

    `app` is what serves the app and the API, its children included: resident, proportional (PSS) and its alone (USS);
    `postgres_private` is what all processes of the database have for themselves, its shared buffers are bounded by
    their setting.
    """

    at: float
    app_rss: float
    app_pss: float
    app_uss: float
    app_threads: int
    app_files: int
    app_cpu: float
    postgres_private: float
    postgres_shared: float
    postgres_processes: int
    connections: int
    machine_cpu: float
    app_seconds: float
    postgres_seconds: float
    clients_seconds: float

    def to_dict(self) -> dict[str, float]:
        return {name: round(value, 2) for name, value in asdict(self).items()}


@contextmanager
def watching(running: Running, log: Log) -> Iterator[list[Look]]:
    """The looks, growing while the block runs."""
    looks: list[Look] = []
    ending = threading.Event()

    def watch() -> None:
        with psycopg.connect(running.database_url, autocommit=True, application_name="soak-watch") as connection:
            while not ending.wait(EVERY):
                looks.append(_look(running, connection, log.now))

    running.app.cpu_percent()
    psutil.cpu_percent()
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield looks
    finally:
        ending.set()
        thread.join()


def _look(running: Running, connection: psycopg.Connection[tuple[int]], at: float) -> Look:
    app = [running.app, *running.app.children(recursive=True)]
    resident = proportional = own = 0
    for process in app:
        with suppress(psutil.NoSuchProcess):
            memory = process.memory_full_info()
            resident, proportional, own = resident + memory.rss, proportional + memory.pss, own + memory.uss
    database = [running.postmaster, *running.postmaster.children()]
    private = shared = 0
    for process in database:
        with suppress(psutil.NoSuchProcess):
            memory = process.memory_full_info()
            private += memory.uss
            shared = max(shared, memory.shared)
    found = connection.execute(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'usage-explore'"
    ).fetchone()
    servers = {each.pid for each in app}
    clients = [each for each in psutil.Process().children(recursive=True) if each.pid not in servers]
    return Look(
        at=at,
        app_rss=resident / _MEBIBYTE,
        app_pss=proportional / _MEBIBYTE,
        app_uss=own / _MEBIBYTE,
        app_threads=running.app.num_threads(),
        app_files=running.app.num_fds(),
        app_cpu=running.app.cpu_percent(),
        postgres_private=private / _MEBIBYTE,
        postgres_shared=shared / _MEBIBYTE,
        postgres_processes=len(database),
        connections=found[0] if found else 0,
        machine_cpu=psutil.cpu_percent(),
        app_seconds=_spent(*app),
        postgres_seconds=_spent(running.postmaster, *running.postmaster.children()),
        clients_seconds=_spent(psutil.Process(), *clients),
    )


def _spent(*processes: psutil.Process) -> float:
    """Processor time of the processes, and of their children that have ended."""
    spent = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            spent += times.user + times.system + times.children_user + times.children_system
    return spent
