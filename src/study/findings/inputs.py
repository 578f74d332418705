"""What the findings are made from: the small tables of every run, and the accuracies of the retrained networks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file

from study.analysis.inputs import read_parquet
from study.context.runs import Run
from study.context.stage import Stage
from study.data.scenarios.scenario import Scenario, load_scenario
from turnover.errors import UserError

REMOVAL = "reports/metrics/removal.csv"
REMOVAL_COLUMNS = ("scenario", "seed", "order", "action", "fraction", "train", "heldout_accuracy", "heldout_loss")


@dataclass(frozen=True)
class Similarity:
    """Cosine similarities of a sample's gradients in one run.

    Args:
        ids: [n].
        epochs: recorded ones [e].
        cosines: kind of network ("exposed", "full") -> float16 [e, n(n-1)/2], pairs i < j row by row.
    """

    ids: np.ndarray
    epochs: np.ndarray
    cosines: dict[str, np.ndarray]


@dataclass(frozen=True)
class Study:
    """All runs of the masked networks, by run."""

    scenarios: dict[str, Scenario]
    placements: list[str]  # placement head first
    seeds: list[int]
    dynamics: dict[Run, pd.DataFrame]
    memorization: dict[Run, pd.DataFrame]
    totals: dict[Run, pd.DataFrame]  # id, total, total_same_class of the training examples
    placebo: dict[Run, pd.DataFrame]  # the same of the placebos
    targets: dict[Run, int]  # how many held-out examples influence was computed for
    similarity: dict[Run, Similarity]
    removal: pd.DataFrame | None  # None: no network was retrained

    def runs(self, scenario: str, placement: str) -> list[Run]:
        """The runs of one scenario and placement, one a seed."""
        return [Run(scenario, placement, seed) for seed in self.seeds]

    def settings(self) -> list[tuple[str, str]]:
        """Every scenario and placement, the first placement first."""
        return [(scenario, placement) for placement in self.placements for scenario in self.scenarios]


def read_study(stage: Stage) -> Study:
    """Read every table through what `dvc.yaml` declares; the removals only if it declares them.

    Raises:
        UserError: a table is missing, corrupt or lacks a column.
    """
    names: list[str] = stage.param("scenarios")
    placements = sorted(stage.param("placements"), key=lambda name: name != "head")
    seeds: list[int] = stage.param("seeds")
    runs = [Run(scenario, placement, seed) for scenario in names for placement in placements for seed in seeds]

    def tables(path: str) -> dict[Run, pd.DataFrame]:
        return {run: read_parquet(stage.dep(path.format(run=run.name))) for run in runs}

    targets = tables("scores/{run}/influence/targets.parquet")
    return Study(
        scenarios={name: load_scenario(stage.dep(f"data/{name}")) for name in names},
        placements=placements,
        seeds=seeds,
        dynamics=tables("dynamics/{run}.parquet"),
        memorization=tables("scores/{run}/memorization.parquet"),
        totals=tables("scores/{run}/influence/totals.parquet"),
        placebo=tables("scores/{run}/influence/placebo.parquet"),
        targets={run: len(table) for run, table in targets.items()},
        similarity={run: _similarity(stage.dep(f"gradients/{run.name}.safetensors")) for run in runs},
        removal=read_removal(stage.dep(REMOVAL)) if REMOVAL in stage.declared.deps else None,
    )


def read_removal(path: Path) -> pd.DataFrame:
    """The held-out accuracy of every retrained network.

    Raises:
        UserError: it is corrupt or lacks a column.
    """
    try:
        table = pd.read_csv(path)
    except ValueError as error:
        raise UserError(f"{path.name} is corrupt ({error}): delete it and run `dvc repro`") from error
    missing = [column for column in REMOVAL_COLUMNS if column not in table]
    if missing:
        raise UserError(f"{path.name} lacks the column {missing[0]!r}: delete it and run `dvc repro`")
    return table


def _similarity(path: Path) -> Similarity:
    try:
        held = load_file(path)
        return Similarity(held["ids"], held["epochs"], {kind: held[kind] for kind in ("exposed", "full")})
    except (OSError, KeyError, SafetensorError) as error:
        raise UserError(f"{path.name} is corrupt ({error}): delete it and run `dvc repro`") from error
