"""Many clients at once: how many questions are answered each second, and how long the slower ones take."""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.questions import Aggregated
from usage_explore.errors import DatabaseUnavailable


def crowd(
    clients: Sequence[Callable[[Aggregated], object]], asked: Sequence[Aggregated], seconds: float
) -> dict[str, Any]:
    """Let each client ask the questions one after the other in a thread of its own, once before it counts."""
    took: list[float] = []
    refused: list[str] = []
    wrong: list[str] = []
    together, end = threading.Barrier(len(clients) + 1), threading.Event()

    def once(ask: Callable[[Aggregated], object], question: Aggregated) -> float | None:
        began = time.perf_counter()
        try:
            ask(question)
        except DatabaseUnavailable as error:  # busy: a client asks again
            refused.append(str(error))
            return None
        return (time.perf_counter() - began) * 1000

    def live(number: int, ask: Callable[[Aggregated], object]) -> None:
        try:
            once(ask, asked[number % len(asked)])
            refused.clear()
            together.wait()
            while not end.is_set():
                number += 1
                if (lasted := once(ask, asked[number % len(asked)])) is not None:
                    took.append(lasted)
        except Exception as error:
            wrong.append(repr(error))
            together.abort()

    threads = [threading.Thread(target=live, args=each, daemon=True) for each in enumerate(clients)]
    for thread in threads:
        thread.start()
    began = time.perf_counter()
    with contextlib.suppress(threading.BrokenBarrierError):
        together.wait()
        began = time.perf_counter()
        time.sleep(seconds)
    end.set()
    for thread in threads:
        thread.join()
    lasted = time.perf_counter() - began
    if wrong or not took:
        raise RuntimeError((wrong or refused or ["no client was answered"])[0])
    return _found(took, lasted, len(clients)) | {"refused": len(refused)}


def _found(took: list[float], lasted: float, clients: int) -> dict[str, Any]:
    cuts = statistics.quantiles(took, n=20, method="inclusive") if len(took) > 1 else took * 19
    return {
        "clients": clients,
        "answers": len(took),
        "per_second": round(len(took) / lasted, 2),
        "p50_ms": round(statistics.median(took), 1),
        "p95_ms": round(cuts[18], 1),
    }
