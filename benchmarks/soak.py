"""50 clients for 10 minutes over the app and the API on demo data, while events are being ingested: `make soak`.

    python benchmarks/soak.py --clients 50 --minutes 10

It starts an embedded PostgreSQL in a temporary folder, fills it with the demo, serves the app with its API, lets a
process append events to two organizations, and lets people and programs ask. Every answer is looked at. Results go to
benchmarks/results/. The exit code is 1 when a law broke, an answer was unexpected, or memory grows.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import signal
import sys
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

import soak_api
import soak_questions as questions
import soak_report
from soak_api import Client, Shared
from soak_browsers import Person, chromium
from soak_log import Log, Marks
from soak_servers import Running, committed, descendants, differences, end, refreshing, servers, writer
from soak_sessions import Visitor
from soak_verdict import faults
from soak_watch import watching
from usage_explore import connect
from usage_explore.demo import ORGANIZATIONS

RESULTS = Path(__file__).with_name("results")
BOTH = list(ORGANIZATIONS)[:2]
RAMP = 30.0
"""Seconds within which the clients come, one after the other; of a short soak a tenth."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="50 clients for 10 minutes, while events are being ingested.")
    parser.add_argument("--clients", type=int, default=50, help="how many at once (default 50)")
    parser.add_argument("--minutes", type=float, default=10, help="for how long (default 10)")
    parser.add_argument("--rate", type=float, default=100, help="events ingested per second (default 100)")
    parser.add_argument("--think", type=float, default=10, help="mean seconds between an answer and the next question")
    parser.add_argument("--note", default="", help="a sentence for the report, such as what else ran")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    return parser.parse_args()


def shares(clients: int) -> tuple[int, int, int]:
    """How many of the clients are browsers, app sessions without a browser, and programs: 4, 12 and 34 of 50."""
    browsers = max(1, round(clients * 0.08))
    sessions = max(1, round(clients * 0.24))
    return browsers, sessions, max(2, clients - browsers - sessions)


async def load(running: Running, shared: Shared, clients: int, seconds: float, think: float) -> None:
    """Let everybody live for that long."""
    browsers, sessions, programs = shares(clients)
    async with contextlib.AsyncExitStack() as stack:
        lives: list[Coroutine[Any, Any, None]] = []
        browser = await stack.enter_async_context(chromium())
        for number in range(programs):
            own, neighbour = BOTH[number % 2], BOTH[(number + 1) % 2]
            http = await stack.enter_async_context(soak_api.connection(running.address))
            draw = random.Random(number)
            lives.append(Client(shared, http, own, neighbour, running.keys[own], draw, think).live())
        for number in range(sessions):
            draw = random.Random(1000 + number)
            lives.append(Visitor(shared.log, shared.marks, running.address, BOTH, draw, think).live())
        for number in range(browsers):
            draw = random.Random(2000 + number)
            lives.append(Person(shared.log, shared.marks, browser, running.address, BOTH, draw, think).live())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                for number, life in enumerate(random.Random(0).sample(lives, len(lives))):
                    group.create_task(_later(life, min(RAMP, seconds / 10) * number / len(lives)))


async def _later(life: Coroutine[Any, Any, None], seconds: float) -> None:
    await asyncio.sleep(seconds)
    await life


async def lost(running: Running, written: dict[UUID, int]) -> list[str]:
    """Where the API does not count what the writer committed, or counts the neighbour's."""
    found = []
    for own, neighbour in (BOTH, BOTH[::-1]):
        async with soak_api.connection(running.address) as http:
            for marked, expected in ((own, written[own]), (neighbour, 0)):
                counted = await soak_api.count(http, running.keys[own], marked)
                if counted != expected:
                    found.append(f"lost: {ORGANIZATIONS[own]} counts {counted} events where {expected} were committed")
    return found


def run(given: argparse.Namespace) -> list[str]:
    """The whole soak; what is wrong."""
    with servers(BOTH) as running:
        with connect(running.database_url) as store:
            # an answer has an ETag only where `as_of` is at or before the last arrival that has settled
            as_of = min(known for each in BOTH if (known := store.scoped(each).known()) is not None)
        with psycopg.connect(running.database_url) as connection:
            events = connection.execute("SELECT count(*) FROM usage_events").fetchone()
            server = f"PostgreSQL {connection.info.server_version // 10_000}"
        log = Log()
        shared = Shared(log, Marks(), questions.pinned(as_of.replace(microsecond=0)))
        with writer(running.database_url, given.rate, BOTH) as process:
            with refreshing(running), watching(running, log) as looks:
                asyncio.run(load(running, shared, given.clients, given.minutes * 60, given.think))
            written = committed(process)
        missing = asyncio.run(lost(running, written)) + differences(running)
        wrong = faults(log, looks, given.minutes, running.log.read_text(errors="replace"), missing)
    browsers, sessions, programs = shares(given.clients)
    plan = {
        "clients": given.clients,
        "minutes": given.minutes,
        "day": f"{datetime.now(UTC):%Y-%m-%d}",
        "data": f"the demo, {events[0] if events else 0:,} events of three organizations",
        "written": sum(written.values()),
        "written_per_second": given.rate,
        "mix": f"{programs} programs with API keys of two organizations, {sessions} visitors of the app by its "
        f"websocket and {browsers} in Chromium; each asks again about {given.think:g} seconds after its last answer.",
        "note": given.note,
    }
    found = soak_report.results(plan, soak_report.machine(server), log, looks, wrong)
    soak_report.write(found, log, looks, given.results)
    return wrong


def main() -> None:
    given = arguments()

    def stop(number: int, _: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        wrong = run(given)
    except KeyboardInterrupt:
        sys.exit("Stopped; everything it started is ended.")
    finally:
        end(descendants())
    print((given.results / "soak.md").read_text())
    if wrong:
        sys.exit(1)


if __name__ == "__main__":
    main()
