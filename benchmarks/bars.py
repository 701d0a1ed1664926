"""The bars that a run at 10 million events is held to, and what it found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.bench import BEHIND, OURS, PANEL, TUNED

_NARROW = ("Q1", "Q2", "Q3", "Q4", "Q5", "Q6", "Q7", "Q10")
"""One dimension at a time, days or hours in a zone of whole hours."""

_WIDE = ("Q8", "Q9", "Q11", "Q12", "Q13")
"""Two dimensions, one customer by a dimension, a zone of quarters of an hour, an arbitrary instant."""

_GROWING = ("Q1", "Q3", "Q8")
_MILLION = 1_000_000


@dataclass(frozen=True)
class Bar:
    """What was asked for and what was found, in words; `met` is None where nothing was measured."""

    asked: str
    found: str
    met: bool | None


def bars(run: dict[str, Any], grown: Iterable[dict[str, Any]] = ()) -> list[Bar]:
    """Every bar of a run; those whose part was not measured are left out."""
    found = (*_questions(run), *_extract(run), *_export(run), *_crowd(run), *_growth(grown), *_pages(run), *_rest(run))
    return [bar for bar in found if bar.met is not None]


def _questions(run: dict[str, Any]) -> Iterator[Bar]:
    warm = {entry["name"]: entry["warm"] for entry in run.get("questions", ())}
    if not warm:
        return
    unequal = sorted({name for entry in run["questions"] for name in entry["unequal"]})
    yield Bar(
        "every engine gives the same answers", ", ".join(unequal) + " differs" if unequal else "equal", not unequal
    )
    for names, faster, slower in ((_NARROW, 30, 1.5), (_WIDE, 15, 2)):
        yield _each(
            f"{_listed(names)}: at least {faster}× faster than the panel statement",
            {name: _over(warm, name, PANEL, OURS) for name in names},
            lambda value, least=faster: value >= least,
            "{:.3g}×",
        )
        yield _each(
            f"{_listed(names)}: at most {slower}× the time of DuckDB tuned",
            {name: _over(warm, name, OURS, TUNED) for name in names},
            lambda value, most=slower: value <= most,
            "{:.2f}×",
        )
    if took := warm.get("L", {}).get(OURS):
        yield Bar("L: at most 250 ms", f"{took:,.0f} ms", took <= 250)
    ratio = {"L": _over(warm, "L", PANEL, OURS)}
    yield _each("L: at least 30× faster than nine panel statements", ratio, lambda value: value >= 30, "{:.3g}×")
    tail = {entry["name"]: entry["warm"] for entry in run.get("tail", ())}
    added = {
        name: times[BEHIND] - times[OURS] if {BEHIND, OURS} <= set(times) else None for name, times in tail.items()
    }
    yield _each("the events that `behind` lacks add at most 60 ms", added, lambda value: value <= 60, "{:.0f} ms")


def _extract(run: dict[str, Any]) -> Iterator[Bar]:
    if not (found := run.get("extract")):
        return
    built, memory = found["build_seconds"], found["build_peak_mib"] * 2**20 / 1e9
    yield Bar("the build takes at most 120 s and 1 GB", f"{built:g} s, {memory:.2f} GB", built <= 120 and memory <= 1)
    took = found["refresh_seconds"]
    yield Bar("a refresh after one more hour takes at most 2 s", f"{took:g} s for {found['read']:,} events", took <= 2)
    size = found["bytes"] / found["events"]
    yield Bar("at most 60 bytes per event, all columns", f"{size:.0f} bytes", size <= 60)


def _export(run: dict[str, Any]) -> Iterator[Bar]:
    if found := run.get("export", {}).get("read"):
        memory = found["peak_mib"] * 2**20 / 1e6
        yield Bar(
            "`read` of 1,000,000 events takes at most 3 s and 600 MB",
            f"{found['seconds']:g} s for {found['events']:,} events, {memory:,.0f} MB",
            found["seconds"] <= 3 and memory <= 600,
        )
    for form, most in (("parquet", 5), ("csv", 10)):
        if found := run.get("export", {}).get(form):
            words = f"{found['seconds']:g} s for {found['events']:,} events, {found['peak_mib']:,} MiB"
            yield Bar(f"export of 1,000,000 events as {form} takes at most {most} s", words, found["seconds"] <= most)


def _crowd(run: dict[str, Any]) -> Iterator[Bar]:
    for words, least in (("Q1 to Q5", 80), ("Q8 to Q13", 40)):
        if found := run.get("crowd", {}).get(words):
            rate = found[OURS]["per_second"]
            clients = found[OURS]["clients"]
            yield Bar(
                f"{clients} clients at once get at least {least} answers/s on {words}", f"{rate:g}", rate >= least
            )


def _growth(grown: Iterable[dict[str, Any]]) -> Iterator[Bar]:
    by_rows = {run["rows"]: {entry["name"]: entry["warm"] for entry in run["questions"]} for run in grown}
    small, large = by_rows.get(10 * _MILLION), by_rows.get(50 * _MILLION)
    if small and large:
        ratios = {name: large[name][OURS] / small[name][OURS] for name in _GROWING}
        words = f"{_listed(_GROWING)}: at most 2.5× the time at 50 million events"
        yield _each(words, ratios, lambda value: value <= 2.5, "{:.2f}×")


def _pages(run: dict[str, Any]) -> Iterator[Bar]:
    server = {entry["name"]: entry["in_server"] for entry in run.get("pages", ())}
    if {"P1", "P2"} <= set(server):
        ratio = max(server["P1"], server["P2"]) / max(min(server["P1"], server["P2"]), 0.01)
        yield Bar(
            "first page and page at depth 1,000,000 within 1.5× of each other and under 5 ms in the server",
            f"{server['P1']:g} and {server['P2']:g} ms, {ratio:.2f}×",
            max(server["P1"], server["P2"]) < 5 and ratio <= 1.5,
        )
    rare = {name: value for name, value in server.items() if name not in ("P1", "P2")}
    if rare:
        yield _each("pages under rare filters in milliseconds in the server", rare, lambda value: value < 10, "{:g} ms")


def _rest(run: dict[str, Any]) -> Iterator[Bar]:
    if found := run.get("ingest"):
        yield Bar("ingest keeps 90 % beside refreshes", f"{found['kept']:.0%}", found["kept"] >= 0.9)
    if found := run.get("redraw"):
        yield Bar(
            "the app draws a changed filter, two dimensions in play, within 300 ms",
            f"{found['p50_ms']} ms",
            found["p50_ms"] <= 300,
        )


def _each(asked: str, found: dict[str, float | None], good: Callable[[float], bool], form: str) -> Bar:
    known = {name: value for name, value in found.items() if value is not None}
    words = ", ".join(f"{name} {form.format(value)}" for name, value in known.items())
    return Bar(asked, words or "not measured", all(map(good, known.values())) if known else None)


def _over(warm: dict[str, dict[str, float]], name: str, one: str, other: str) -> float | None:
    times = warm.get(name, {})
    return times[one] / times[other] if {one, other} <= set(times) else None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
