"""A pool of connections that serves threads in the order in which they began to wait.

SQLAlchemy's pool does not: a thread that returns a connection and asks for the next one at once gets it, and a thread
that waits may starve until it times out.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

from sqlalchemy.pool import ConnectionPoolEntry, QueuePool
from sqlalchemy.util.queue import Empty, Queue


@dataclass(eq=False, slots=True)
class _Turn:
    """A thread that waits, and the connection that it is given."""

    served: threading.Event = field(default_factory=threading.Event)
    item: ConnectionPoolEntry | None = None


class _OrderedQueue(Queue[ConnectionPoolEntry]):
    def __init__(self, maxsize: int = 0, use_lifo: bool = False) -> None:
        super().__init__(maxsize, use_lifo)
        self._waiting: deque[_Turn] = deque()

    def get(self, block: bool = True, timeout: float | None = None) -> ConnectionPoolEntry:
        with self.mutex:
            if not self._waiting and not self._empty():
                return self._get()
            if not block:
                raise Empty()
            turn = _Turn()
            self._waiting.append(turn)
        try:
            turn.served.wait(timeout)
        except BaseException:  # such as KeyboardInterrupt
            if (item := self._leave(turn)) is not None:
                self.put(item)
            raise
        if (item := self._leave(turn)) is None:
            raise Empty()
        return item

    def _leave(self, turn: _Turn) -> ConnectionPoolEntry | None:
        with self.mutex:
            if turn.item is None:
                self._waiting.remove(turn)
            return turn.item

    def put(self, item: ConnectionPoolEntry, block: bool = True, timeout: float | None = None) -> None:
        with self.mutex:  # an RLock
            if not self._waiting:
                super().put(item, block, timeout)
                return
            turn = self._waiting.popleft()
            turn.item = item
            turn.served.set()


class OrderedPool(QueuePool):
    """`QueuePool`, first come first served."""

    _queue_class = _OrderedQueue
