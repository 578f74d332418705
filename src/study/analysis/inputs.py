"""What findings, summary and figures are made from: the small tables of every run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file

from study.analysis.files import corrupt, read_json, read_parquet
from study.analysis.groups import difficulty
from study.context.rules import CONTROL
from study.context.runs import Run
from study.context.stage import Stage
from study.data.scenarios.scenario import Scenario, load_scenario
from turnover.errors import UserError

MEASURES = ("probability", "loss", "accuracy")
# As the columns of the dynamics name them; the library's own tuple would import torch.
NETWORKS = ("exposed", "flipped", "full")
REMOVAL = "reports/metrics/removal.csv"
REMOVAL_COLUMNS = ("scenario", "seed", "order", "action", "fraction", "train", "heldout_accuracy", "heldout_loss")
_Table = TypeVar("_Table")


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
    """All runs, and their tables by run; `read_study` makes one whose tables are read when they are first asked for."""

    scenarios: dict[str, Scenario]
    seeds: dict[str, list[int]]  # of every placement, head first; the control's last, if there is one
    dynamics: Mapping[Run, pd.DataFrame]
    memorization: Mapping[Run, pd.DataFrame]
    totals: Mapping[Run, pd.DataFrame]  # id, total, total_same_class of the training examples
    placebo: Mapping[Run, pd.DataFrame]  # the same of the placebos
    targets: Mapping[Run, pd.DataFrame]  # the held-out examples that influence was computed for
    top: Mapping[Run, pd.DataFrame]  # most helpful and most harmful training examples of each
    similarity: Mapping[Run, Similarity]
    train_metrics: Mapping[Run, dict[str, Any]]  # the control's runs too
    estimate_metrics: Mapping[Run, dict[str, Any]]
    removal: pd.DataFrame | None  # None: no network was retrained, or the stage does not declare it
    curves: Mapping[Run, pd.DataFrame] = field(default_factory=dict)  # of the full network, an epoch a row

    @property
    def placements(self) -> list[str]:
        """Of the masks, head first."""
        return [placement for placement in self.seeds if placement != CONTROL]

    @property
    def masked_seeds(self) -> dict[str, list[int]]:
        """The seeds of each of them."""
        return {placement: self.seeds[placement] for placement in self.placements}

    @property
    def settings(self) -> list[tuple[str, str]]:
        """Every scenario and placement of the masks, the first placement first."""
        return [(scenario, placement) for placement in self.placements for scenario in self.scenarios]

    @property
    def shown(self) -> Run:
        """The run whose images are shown: scenario mixed if there is one, the first placement, the first seed."""
        scenario = "mixed" if "mixed" in self.scenarios else next(iter(self.scenarios))
        return self.runs(scenario, self.placements[0])[0]

    def runs(self, scenario: str, placement: str) -> list[Run]:
        """The runs of one scenario and placement, one a seed; none of a placement that there is not."""
        return [Run(scenario, placement, seed) for seed in self.seeds.get(placement, [])]

    def difficulty(self, run: Run) -> pd.Series[float]:
        """Memorization (probability) of every training example by the other seeds; by its own if there is no other."""
        return difficulty({of.seed: self.memorization[of] for of in self.runs(run.scenario, run.placement)}, run.seed)


class _WhenAsked(dict[Run, _Table], Generic[_Table]):
    """A table for each run, read once: findings, summary and figures need different ones."""

    def __init__(self, read: Callable[[Run], _Table]) -> None:
        self._read = read

    def __missing__(self, run: Run) -> _Table:
        self[run] = found = self._read(run)
        return found


def read_study(stage: Stage) -> Study:
    """The study, through what `dvc.yaml` declares for the stage.

    Raises:
        UserError: a scenario or the removals are missing or corrupt; later, when it is asked for, a table.
    """
    order = ["head", *stage.param("placements")]
    placements = sorted(stage.param("placements"), key=lambda name: (name == CONTROL, order.index(name)))

    def table(name: str) -> Mapping[Run, pd.DataFrame]:
        return _WhenAsked(lambda run: read_parquet(stage, f"{run.scores}/{name}.parquet"))

    return Study(
        scenarios={name: load_scenario(stage.dep(f"data/scenarios/{name}")) for name in stage.param("scenarios")},
        seeds={placement: stage.param("seeds").of(placement) for placement in placements},
        dynamics=_WhenAsked(lambda run: read_parquet(stage, f"{run.folder}/dynamics.parquet")),
        memorization=table("memorization"),
        totals=table("influence/totals"),
        placebo=table("influence/placebo"),
        targets=table("influence/targets"),
        top=table("influence/top"),
        similarity=_WhenAsked(lambda run: _similarity(stage, f"{run.folder}/gradients.safetensors")),
        train_metrics=_WhenAsked(lambda run: read_json(stage, f"{run.folder}/metrics.json")),
        estimate_metrics=_WhenAsked(lambda run: read_json(stage, f"{run.scores}/metrics.json")),
        removal=_removal(stage) if REMOVAL in stage.declared.deps else None,
        curves=_WhenAsked(lambda run: _curve(stage, f"{run.folder}/curve.csv")),
    )


def memorization_of(dynamics: pd.DataFrame) -> pd.DataFrame:
    """The three measures of memorization (`MEASURES`) in each row, from the losses and correctness recorded then."""
    exposed, flipped = (dynamics[f"loss_{of}"].to_numpy(np.float64) for of in ("exposed", "flipped"))
    right, without = (dynamics[f"correct_{of}"].to_numpy(np.float64) for of in ("exposed", "flipped"))
    measures = {"probability": np.exp(-exposed) - np.exp(-flipped), "loss": flipped - exposed}
    return pd.DataFrame({**measures, "accuracy": right - without}, index=dynamics.index)


def _removal(stage: Stage) -> pd.DataFrame:
    try:
        table = pd.read_csv(stage.dep(REMOVAL))
    except ValueError as error:
        raise corrupt(REMOVAL, error) from error
    missing = [column for column in REMOVAL_COLUMNS if column not in table]
    if missing:
        raise UserError(f"{REMOVAL} lacks the column {missing[0]!r}: delete it and run `dvc repro`")
    return table


def _curve(stage: Stage, path: str) -> pd.DataFrame:
    try:
        return pd.read_csv(stage.dep(path))[["epoch", "heldout_loss", "heldout_accuracy"]]
    except (ValueError, KeyError) as error:
        raise corrupt(path, error) from error


def _similarity(stage: Stage, path: str) -> Similarity:
    try:
        held = load_file(stage.dep(path))
        return Similarity(held["ids"], held["epochs"], {kind: held[kind] for kind in ("exposed", "full")})
    except (OSError, KeyError, SafetensorError) as error:
        raise corrupt(path, error) from error
