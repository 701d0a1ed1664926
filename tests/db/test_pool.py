"""Threads that wait for a connection get one in the order in which they began to wait."""

from __future__ import annotations

import sqlite3
import threading

import pytest
from sqlalchemy.exc import TimeoutError as PoolTimeout

from support.waiting import eventually
from usage_explore.db.engine import OrderedPool


def pool(timeout: float) -> OrderedPool:
    return OrderedPool(
        lambda: sqlite3.connect(":memory:", check_same_thread=False), pool_size=1, max_overflow=0, timeout=timeout
    )


def test_a_thread_that_returns_a_connection_does_not_overtake_those_that_wait() -> None:
    connections = pool(timeout=60)
    served: list[int] = []

    def use(number: int) -> None:
        held = connections.connect()
        served.append(number)
        held.close()

    held = connections.connect()
    threads = []
    for number in range(3):
        threads.append(threading.Thread(target=use, args=(number,)))
        threads[-1].start()
        eventually(lambda expected=number + 1: len(connections._pool._waiting) == expected)  # type: ignore[misc, attr-defined]
    held.close()
    use(3)  # asks at once, as the thread that had the connection
    for thread in threads:
        thread.join()
    assert served == [0, 1, 2, 3]


def test_a_thread_waits_no_longer_than_the_timeout_and_leaves_the_queue() -> None:
    connections = pool(timeout=0.05)
    held = connections.connect()
    with pytest.raises(PoolTimeout):
        connections.connect()
    held.close()
    connections.connect().close()
