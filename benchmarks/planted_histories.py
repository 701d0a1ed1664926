"""Whole organizations with incidents whose truth is recorded: which does a validation name, in how many findings?

    make bench-validation

Writes benchmarks/results/histories.md. Each seed makes one history of each profile, see `histories`, with the kinds of
incidents in `incidents`: 14 in a large organization, 8 in a medium, 2 in a small and in a thin one, one history with
quantities that are NaN; and the same profiles without any incident. All are loaded into the embedded PostgreSQL and
validated by every check with its defaults.

An incident is named if a finding of any check says

- who: the customer is the incident's; for an incident of everybody the finding has no customer, or findings of single
  customers that agree in the rest have half of the affected events;
- what: the metric is one of the incident's; a finding without a metric counts where the incident is of all metrics of
  the customer, or where its sentence names the metric;
- when: the span of the finding overlaps that of the incident.

It is whole if one finding's span has nine tenths of the incident's. Precision is the share of findings that name an
incident; findings per incident are all findings, of every severity, by the number of incidents.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid5

import click
import numpy as np

from benchmarks import histories, incidents
from benchmarks.histories import COLUMNS, History, Incident, history, period
from benchmarks.home import default_folder
from usage_explore import connect
from usage_explore.db import StorageOptions, ddl, embedded
from usage_explore.db.schema import events_table
from usage_explore.validation import Finding, Validation

RESULTS = Path(__file__).parent / "results" / "histories.md"
TUNED_ON = (1, 2, 3, 4, 5, 6)
FRESH = (101, 102, 103, 104, 105, 106, 107, 108)
SIZES = {"large": 14, "medium": 8, "small": 2, "thin": 2}
"""Incidents planted in each history of a profile."""

_EVERYBODY = ("lost_hours", "replay", "unit_cost", "late")
_NAMESPACE = UUID("9d0a1b52-2c0f-4a53-8f8e-6a5d2b1c7e44")


@dataclass(slots=True)
class Named:
    """How one incident fared: the findings that name it, and whether one of them has all of it."""

    incident: Incident
    where: str
    findings: list[Finding] = field(default_factory=list)
    is_named: bool = False
    is_whole: bool = False


@dataclass(slots=True)
class Score:
    """Incidents and findings of several histories."""

    named: list[Named] = field(default_factory=list)
    findings: int = 0
    right: int = 0
    others: list[tuple[str, Finding]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def recall(self) -> float:
        return sum(one.is_named for one in self.named) / max(1, len(self.named))

    @property
    def precision(self) -> float:
        return self.right / max(1, self.findings)

    @property
    def per_incident(self) -> float:
        return self.findings / max(1, len(self.named))

    def add(self, where: str, planted: History, validation: Validation) -> None:
        """Score one validation."""
        found = validation.findings
        used = set()
        for incident in planted.incidents:
            one = _named(planted, incident, found, where)
            self.named.append(one)
            used |= {id(finding) for finding in one.findings}
        self.findings += len(found)
        self.right += len(used)
        self.others += [(where, finding) for finding in found if id(finding) not in used]
        self.failed += [f"{where} {one.check.name}: {one.failed}" for one in validation.results if one.failed]


def _named(planted: History, incident: Incident, found: Sequence[Finding], where: str) -> Named:
    one = Named(incident, where)
    for finding in found:
        overlaps = finding.since < incident.until and (incident.left or incident.since) < finding.until
        if not overlaps or not _is_of(planted, incident, finding):
            continue
        one.findings.append(finding)
        if (incident.customers is None and finding.customer_id is not None) or finding.until <= incident.since:
            continue
        one.is_named = True
        length = (min(finding.until, incident.until) - max(finding.since, incident.since)) / (
            incident.until - incident.since
        )
        one.is_whole |= length >= 0.9
    if incident.customers is None:
        one.is_named |= sum(finding.events for finding in one.findings) >= incident.events / 2
    return one


def _is_of(planted: History, incident: Incident, finding: Finding) -> bool:
    customers = incident.customers
    if customers is not None and finding.customer_id not in customers:
        return False
    if finding.metric_key is not None:
        return finding.metric_key in incident.metrics
    if customers is None:
        return finding.customer_id is not None or len(incident.metrics) > 1 or incident.metrics[0] in finding.sentence
    numbers = [number for number in range(planted.customers) if planted.customer_id(number) in customers]
    every = {histories.METRICS[stream.metric] for number in numbers for stream in planted.of(number)}
    return every <= set(incident.metrics) or any(metric in finding.sentence for metric in incident.metrics)


def planted_histories(seed: int) -> Iterator[tuple[str, History]]:
    """The histories of a seed with incidents: each kind about equally often, those of everybody first."""
    draw = np.random.default_rng([seed, 99])
    kinds = [kind for kind in incidents.KINDS if kind != "not_a_number"]
    waiting: list[str] = []
    for profile, size in SIZES.items():
        while len(waiting) < size:
            waiting += draw.permutation(kinds).tolist()
        chosen, waiting = waiting[:size], waiting[size:]
        made = history(profile, seed)
        incidents.plant(made, sorted(chosen, key=lambda kind: kind not in _EVERYBODY))
        yield profile, made
    made = history("small", seed + 1_000_000)
    incidents.plant(made, ["not_a_number"])
    yield "nan", made


def clean_histories(seed: int) -> Iterator[tuple[str, History]]:
    """The profiles of a seed without incidents, other than those of `planted_histories`."""
    for profile in SIZES:
        yield "clean " + profile, history(profile, seed + 2_000_000)


class Lab:
    """The embedded database with the histories, each loaded once for its generator's code."""

    def __init__(self, home: Path) -> None:
        self.url = embedded.start(home)
        sources = "".join(Path(module.__file__ or "").read_text() for module in (histories, incidents))
        self.version = hashlib.sha256(sources.encode()).hexdigest()
        with ddl.connect(self.url) as connection:
            ddl.ensure_schema(connection, events_table().name, StorageOptions())

    def validated(self, name: str, made: History) -> Validation:
        """The history's validation by all checks."""
        organization = uuid5(_NAMESPACE, f"{self.version}/{name}/{made.seed}")
        self._load(made, organization)
        with connect(self.url, organization) as store:
            return store.validate(period(organization))

    def _load(self, made: History, organization: UUID) -> None:
        table = events_table().name
        with ddl.connect(self.url) as connection, connection.transaction():
            there = connection.execute(
                f"SELECT 1 FROM {table} WHERE organization_id = %s LIMIT 1".encode(), [organization]
            ).fetchone()
            if there:
                return
            statement = f"COPY {table} ({COLUMNS}) FROM STDIN"
            with connection.cursor().copy(statement.encode()) as writer:
                for row in made.table_rows(organization):
                    writer.write_row(row)
        with ddl.connect(self.url) as connection:
            connection.autocommit = True
            connection.execute(f"ANALYZE {table}".encode())


def measure(lab: Lab, seeds: Iterable[int], makers: Iterable[str] = ("planted", "clean")) -> tuple[Score, Score]:
    """The scores of the seeds' histories with incidents, and of those without."""
    planted, clean = Score(), Score()
    for seed in seeds:
        if "planted" in makers:
            for name, made in planted_histories(seed):
                planted.add(f"{name} {seed}", made, lab.validated(name, made))
        if "clean" in makers:
            for name, made in clean_histories(seed):
                clean.add(f"{name} {seed}", made, lab.validated(name, made))
    return planted, clean


def table(planted: Score, clean: Score) -> list[str]:
    """Both scores as Markdown."""
    rows = ["| kind | incidents | named | recall | whole | findings | high |", "|---|--:|--:|--:|--:|--:|--:|"]
    for kind in incidents.KINDS:
        mine = [one for one in planted.named if one.incident.kind == kind]
        if mine:
            named, whole = sum(one.is_named for one in mine), sum(one.is_whole for one in mine)
            every = [finding for one in mine for finding in one.findings]
            high = sum(finding.severity == "high" for finding in every)
            recall = named / len(mine)
            rows.append(f"| {kind} | {len(mine)} | {named} | {recall:.2f} | {whole} | {len(every)} | {high} |")
    total, whole = len(planted.named), sum(one.is_whole for one in planted.named)
    named = sum(one.is_named for one in planted.named)
    rows.append(f"| **all** | {total} | {named} | **{planted.recall:.3f}** | {whole} | {planted.findings} | |")
    severities = Counter(finding.severity for _, finding in clean.others)
    others = Counter(finding.severity for _, finding in planted.others)
    rows += [
        "",
        f"Precision {planted.precision:.3f}; findings per incident **{planted.per_incident:.2f}**; findings that name"
        f" no incident: {others['high']} high, {others['medium']} medium, {others['low']} low.",
        f"Histories without incidents: **{severities['high']} high**, {severities['medium']} medium,"
        f" {severities['low']} low findings.",
    ]
    return rows


def details(planted: Score, clean: Score) -> str:
    """Each incident that is not named, those in several findings, and each finding that names none."""
    out = io.StringIO()
    for one in planted.named:
        if not one.is_named or len(one.findings) > 1:
            i = one.incident
            who = "everybody" if i.customers is None else str(i.customers[0])[:8]
            print(
                f"{len(one.findings) if one.is_named else 'MISSED'} {one.where}: {i.kind} {who} {'+'.join(i.metrics)}"
                f" {i.since:%d %H:%M}-{i.until:%d %H:%M} {i.events} events {i.details}",
                file=out,
            )
            for finding in one.findings:
                print(f"      {_line(finding)}", file=out)
    for where, finding in planted.others + clean.others:
        print(f"NOTHING {where}: {_line(finding)}", file=out)
    return out.getvalue() + "\n".join(planted.failed + clean.failed)


def _line(finding: Finding) -> str:
    who = f"{str(finding.customer_id)[:8]} {finding.metric_key}"
    when = f"{finding.since:%d %H:%M}-{finding.until:%d %H:%M}"
    return f"{finding.check}[{finding.severity}] {who} {when} {finding.events}: {finding.sentence}"


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--seeds", default="", help="Seeds with commas, printed with details; without: all, written to a file.")
@click.option("--home", type=click.Path(path_type=Path), default=lambda: default_folder() / "histories")
@click.option("--only", default="planted,clean", help="Which histories.")
def main(seeds: str, home: Path, only: str) -> None:
    """Validate planted and clean histories and compare the findings with the truth."""
    lab = Lab(home)
    if seeds:
        planted, clean = measure(lab, [int(seed) for seed in seeds.split(",")], only.split(","))
        click.echo(details(planted, clean))
        click.echo("\n".join(table(planted, clean)))
        return
    lines = ["# Planted histories", "", "`make bench-validation`", "", *(__doc__ or "").split("\n")[4:]]
    for name, chosen in (("Seeds never tuned on", FRESH), ("Seeds tuned on", TUNED_ON)):
        lines += [f"## {name}", "", *table(*measure(lab, chosen)), ""]
    lines += ["## The kinds", "", *(incidents.__doc__ or "").split("\n")[2:]]
    lines += ["## The histories", "", *(histories.__doc__ or "").split("\n")[2:]]
    page = "\n".join(lines).rstrip() + "\n"
    RESULTS.write_text(page)
    click.echo(page)


if __name__ == "__main__":
    main()
