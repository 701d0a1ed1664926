"""The soak's results as files: soak.json, soak.md and the chart."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

import soak_chart
from soak_log import Log
from soak_verdict import FLOOR, JUDGED_FROM, growths, latencies
from soak_watch import EVERY, Look

_PACKAGES = ("streamlit", "fastapi", "uvicorn", "sqlalchemy", "psycopg", "pandas", "altair", "vl-convert-python")


def machine(server: str) -> dict[str, Any]:
    """Where it ran: processors, memory, versions; no names and no places."""
    return {
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "postgresql": server,
        "packages": {name: version(name) for name in _PACKAGES},
    }


def results(
    plan: dict[str, Any], where: dict[str, Any], log: Log, looks: list[Look], faults: list[str]
) -> dict[str, Any]:
    """Everything that was found, as one value."""
    seconds = max((one.sent + one.seconds for one in log.asked), default=0.0)
    cpu = [look.machine_cpu for look in looks]
    return {
        "ok": not faults,
        "faults": faults,
        "plan": plan,
        "machine": where,
        "requests": len(log.asked),
        "requests_per_second": round(len(log.asked) / seconds, 1) if seconds else 0,
        "unexpected": sum(log.errors.values()),
        "busy_503": log.busy,
        "laws": {
            name: {"looked_at": number, "broken": _broken(log, name)} for name, number in sorted(log.held.items())
        },
        "latency": latencies(log.asked),
        "growth": growths(looks),
        "machine_cpu_percent": round(sum(cpu) / len(cpu)) if cpu else None,
        "processors_busy_with": _processors(looks),
        "looks": [look.to_dict() for look in looks],
    }


def write(found: dict[str, Any], log: Log, looks: list[Look], folder: Path) -> None:
    """Write soak.json, soak.md, soak.svg and soak.png."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "soak.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    (folder / "soak.md").write_text(_markdown(found))
    if log.asked and looks:
        soak_chart.draw(log.asked, looks, folder)


def _processors(looks: list[Look]) -> dict[str, float]:
    """How many processors each part kept busy on average."""
    if len(looks) < 2:
        return {}
    first, last = looks[0], looks[-1]
    return {
        part: round((getattr(last, f"{part}_seconds") - getattr(first, f"{part}_seconds")) / (last.at - first.at), 2)
        for part in ("app", "postgres", "clients")
    }


def _broken(log: Log, name: str) -> int:
    return sum(number for what, number in log.broken.items() if what.startswith(f"{name}:"))


def _markdown(found: dict[str, Any]) -> str:
    plan, where = found["plan"], found["machine"]
    verdict = "Everything held." if found["ok"] else "Not everything held:"
    judged = (
        "" if plan["minutes"] >= JUDGED_FROM else f" A soak of less than {JUDGED_FROM} minutes is not judged by it."
    )
    lines = [
        "# The soak",
        "",
        f"{plan['clients']} clients for {plan['minutes']:g} minutes, made by `make soak`, {plan['day']}. {verdict}",
        "",
        *(f"- {fault}" for fault in found["faults"]),
        *([""] if found["faults"] else []),
        f"- **Data**: {plan['data']}, and {plan['written_per_second']:g} events a second ingested the whole time "
        f"({plan['written']:,} in all, one in twenty up to three days late), the extract refreshed every minute.",
        f"- **Clients**: {plan['mix']}",
        f"- **Asked**: {found['requests']:,} requests, {found['requests_per_second']} a second; "
        f"{found['unexpected']} unexpected answers, {found['busy_503']} times 503.",
        f"- **Machine**: {where['cores']} cores, {where['memory_gib']} GiB, Python {where['python']}, "
        f"{where['postgresql']}; all of it {found['machine_cpu_percent']} % busy. Processors "
        f"kept busy by {', '.join(f'{name}: {value:g}' for name, value in found['processors_busy_with'].items())}; the "
        "clients, browsers and the writer run on the same machine.",
        *([f"- **Note**: {plan['note']}"] if plan["note"] else []),
        "",
        "![Latency and memory over time](soak.svg)",
        "",
        "| request | number | p50 ms | p95 ms | p99 ms | max ms |",
        "|---|--:|--:|--:|--:|--:|",
        *(
            f"| {row['kind']} | {row['requests']:,} | {row['p50_ms']:,.0f} | {row['p95_ms']:,.0f} "
            f"| {row['p99_ms']:,.0f} | {row['max_ms']:,.0f} |"
            for row in found["latency"]
        ),
        "",
        "Times reach from sending to the last byte; in the app to the end of the script (session) or to the drawn page "
        "at rest (browser).",
        "",
        f"## What may not grow\n\nLooked at every {EVERY:g} seconds. A quarter's floor is the median of the lowest "
        f"values of each {FLOOR} seconds; it may not grow from the second quarter to the last.{judged}",
        "",
        "| | floors of the four quarters | highest of all | growth | allowed |",
        "|---|--:|--:|--:|--:|",
        *(
            f"| {row['what']} | {', '.join(map(str, row['quarters']))} | {row['max']:,} | {row['growth']:+,} "
            f"| {row['allowed']:,} |"
            for row in found["growth"]
        ),
        "",
        "## What must hold",
        "",
        "| law | looked at | broken |",
        "|---|--:|--:|",
        *(f"| {name} | {each['looked_at']:,} | {each['broken']:,} |" for name, each in found["laws"].items()),
        "",
    ]
    return "\n".join(lines)
