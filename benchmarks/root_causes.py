"""How often the search behind `store.explain` names exactly the causes planted, on a public generator's cases.

The cases are made by `generate_dataset.py` of the public repository shaido987/riskloc, unmodified:

    python generate_dataset.py --num 100 --dims 20 8 5 4 --seed 7 --dataset-name seed7
    python -m benchmarks.root_causes --cases data/seed7

A case is a CSV file with a column per dimension, `real` (after) and `predict` (before); `injection_info.csv` has the
causes of each in the column `set`. A cause counts only where all its values are named, and no others.
"""

from __future__ import annotations

import csv
import time
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pandas as pd

from usage_explore.explain.model import Leaves
from usage_explore.explain.search import search

RESULTS = Path(__file__).with_name("results") / "root_causes.md"

_PUBLISHED = "On the cases of seed 7, as measured before: RiskLoc 0.725, AutoRoot 0.433, Adtributor 0.110."


@dataclass(frozen=True, slots=True)
class Score:
    """What was found in a folder of cases: right, wrong and missed causes, and the seconds each case took."""

    name: str
    cases: int
    right: int
    wrong: int
    missed: int
    seconds: float

    @property
    def precision(self) -> float:
        """The part of the named causes that are right."""
        return self.right / max(1, self.right + self.wrong)

    @property
    def recall(self) -> float:
        """The part of the planted causes that were named."""
        return self.right / max(1, self.right + self.missed)

    @property
    def f1(self) -> float:
        """The harmonic mean of both, over all causes of all cases."""
        return 2 * self.right / max(1, 2 * self.right + self.wrong + self.missed)


def score(folder: Path) -> Score:
    """Search every case of a folder."""
    right = wrong = missed = 0
    seconds = 0.0
    with (folder / "injection_info.csv").open(newline="") as file:
        planted = {row["timestamp"]: _causes(row["set"]) for row in csv.DictReader(file)}
    for name, causes in sorted(planted.items()):
        frame = pd.read_csv(folder / f"{name}.csv")
        groups = [column for column in frame if column not in ("real", "predict")]
        columns = [pd.factorize(frame[group]) for group in groups]
        codes = np.array([codes for codes, _ in columns], dtype=np.int64).T
        began = time.perf_counter()
        found = search(Leaves(codes, frame["predict"].to_numpy(float), frame["real"].to_numpy(float)))
        seconds += time.perf_counter() - began
        named = {frozenset(f"{groups[dim]}={columns[dim][1][code]}" for dim, code in element) for element in found}
        right, wrong, missed = right + len(named & causes), wrong + len(named - causes), missed + len(causes - named)
    return Score(folder.name, len(planted), right, wrong, missed, seconds / max(1, len(planted)))


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "--cases",
    "folders",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    multiple=True,
    required=True,
    help="A folder that the generator has made; repeatable.",
)
@click.option("--note", default="", help="A sentence for the report.")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, show_default="benchmarks/results")
def main(folders: tuple[Path, ...], note: str, results: Path) -> None:
    """Print and write F1, precision, recall and time per case, one line for each folder."""
    lines = [
        "| cases | number | F1 | precision | recall | right | wrong | missed | s per case |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for folder in folders:
        found = score(folder)
        lines.append(
            f"| {found.name} | {found.cases} | {found.f1:.3f} | {found.precision:.3f} | {found.recall:.3f} "
            f"| {found.right} | {found.wrong} | {found.missed} | {found.seconds:.2f} |"
        )
        click.echo(lines[-1])
    command = "python -m benchmarks.root_causes " + " ".join(f"--cases {folder.name}" for folder in folders)
    parts = ["# Root causes", __doc__ or "", _PUBLISHED, "\n".join(lines), note, f"Made by `{command}`."]
    results.write_text("\n\n".join(part.strip() for part in parts if part) + "\n")


def _causes(text: str) -> set[frozenset[str]]:
    return {frozenset(cause.split("&")) for cause in text.split(";")}


if __name__ == "__main__":
    main()
