"""What the figures are made from: the small tables of every run, read once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from study.analysis.groups import difficulty
from study.context.runs import CONTROL, Run
from study.context.stage import Stage
from study.data.scenarios.scenario import Scenario, load_scenario
from turnover.errors import UserError

MEASURES = ("probability", "loss", "accuracy")
# As the columns of the dynamics name them; the library's own tuple would import torch.
NETWORKS = ("exposed", "flipped", "full")


@dataclass(frozen=True)
class Inputs:
    """Tables of all runs, by run; `run(scenario, placement, seed)` makes the key."""

    scenarios: dict[str, Scenario]
    placements: list[str]  # placement head first
    seeds: list[int]
    dynamics: dict[Run, pd.DataFrame]  # with columns probability, loss, accuracy: memorization at that epoch
    memorization: dict[Run, pd.DataFrame]
    totals: dict[Run, pd.DataFrame]
    targets: dict[Run, pd.DataFrame]  # the held-out examples that influence was computed for
    top: dict[Run, pd.DataFrame]  # most helpful and most harmful training examples of each; of the shown runs only
    train_metrics: dict[Run, dict[str, Any]]  # the control's runs too
    estimate_metrics: dict[Run, dict[str, Any]]
    placebo: dict[Run, pd.DataFrame]  # id, total, total_same_class of the placebos
    findings: dict[str, pd.DataFrame]  # the tables of stage `findings`, by name

    def runs(self, scenario: str, placement: str) -> list[Run]:
        """The runs of one scenario and placement, one a seed."""
        return [Run(scenario, placement, seed) for seed in self.seeds]

    def difficulty(self, run: Run) -> pd.Series[float]:
        """Memorization (probability) of every training example by the other seeds; by its own if there is no other."""
        tables = {of.seed: self.memorization[of] for of in self.runs(run.scenario, run.placement)}
        return difficulty(tables, run.seed)


def read_inputs(stage: Stage) -> Inputs:
    """Read every table the figures need, through what `dvc.yaml` declares.

    Raises:
        UserError: a table is missing or lacks a column.
    """
    names: list[str] = stage.param("scenarios")
    placements = sorted(stage.param("placements"), key=lambda name: name != "head")
    seeds: list[int] = stage.param("seeds")
    masked = [Run(scenario, placement, seed) for scenario in names for placement in placements for seed in seeds]
    every = masked + [Run(scenario, CONTROL, seed) for scenario in names for seed in seeds]

    def tables(path: Callable[[Run], str]) -> dict[Run, pd.DataFrame]:
        return {run: read_parquet(stage.dep(path(run))) for run in masked}

    def shown(run: Run) -> bool:
        return (run.scenario, run.placement) == (_shown_scenario(names), placements[0])

    dynamics = tables(lambda run: f"dynamics/{run.name}.parquet")
    for frame in dynamics.values():
        _add_memorization(frame)
    return Inputs(
        scenarios={name: load_scenario(stage.dep(f"data/{name}")) for name in names},
        placements=placements,
        seeds=seeds,
        dynamics=dynamics,
        memorization=tables(lambda run: f"scores/{run.name}/memorization.parquet"),
        totals=tables(lambda run: f"scores/{run.name}/influence/totals.parquet"),
        targets=tables(lambda run: f"scores/{run.name}/influence/targets.parquet"),
        top={run: read_parquet(stage.dep(f"scores/{run.name}/influence/top.parquet")) for run in masked if shown(run)},
        train_metrics={run: _json(stage.dep(f"reports/metrics/train/{run.name}.json")) for run in every},
        placebo=tables(lambda run: f"scores/{run.name}/influence/placebo.parquet"),
        findings={path.stem: pd.read_csv(path) for path in sorted(stage.dep("reports/metrics/findings").glob("*.csv"))},
        estimate_metrics={run: _json(stage.dep(f"reports/metrics/estimate/{run.name}.json")) for run in masked},
    )


def first_run(inputs: Inputs) -> Run:
    """The run whose images are shown: scenario mixed if there is one, the first placement, the first seed."""
    return Run(_shown_scenario(list(inputs.scenarios)), inputs.placements[0], inputs.seeds[0])


def _shown_scenario(names: list[str]) -> str:
    return "mixed" if "mixed" in names else names[0]


def _add_memorization(frame: pd.DataFrame) -> None:
    """The three measures of memorization at every epoch, from the losses and correctness recorded then."""
    exposed, flipped = (frame[f"loss_{of}"].to_numpy(np.float64) for of in ("exposed", "flipped"))
    frame["probability"] = np.exp(-exposed) - np.exp(-flipped)
    frame["loss"] = flipped - exposed
    frame["accuracy"] = frame["correct_exposed"].astype(float) - frame["correct_flipped"].astype(float)


def read_parquet(path: Path) -> pd.DataFrame:
    """A table of the pipeline; a `UserError` says that it is corrupt."""
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path.name} is corrupt ({error}): delete it and run `dvc repro`") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path.name} is not valid JSON ({error}): delete it and run `dvc repro`") from error
    return value
