"""The trainings of the study: which there are, and where they live."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from study.context.declaration import read_yaml
from study.context.params import Params, check_params
from study.context.rules import CONTROL as CONTROL


@dataclass(frozen=True)
class Run:
    """One training: a scenario, a placement of the masks (or `CONTROL`), a seed."""

    scenario: str
    placement: str
    seed: int

    @property
    def name(self) -> str:
        """Such as ``mixed-head-0``."""
        return f"{self.scenario}-{self.placement}-{self.seed}"

    @property
    def folder(self) -> str:
        """Where its network and what was recorded of it lie, such as ``runs/mixed/head/0``."""
        return f"runs/{self.scenario}/{self.placement}/{self.seed}"

    @property
    def scores(self) -> str:
        """Where its estimates lie, such as ``scores/mixed/head/0``."""
        return f"scores/{self.scenario}/{self.placement}/{self.seed}"


def load_params(root: Path) -> Params:
    """The checked settings of the repository at `root`."""
    return check_params(read_yaml(root / "params.yaml"))


def runs_of(params: Params, scenario: str, placement: str) -> list[Run]:
    """The trainings of one item of stage `train`, a seed each."""
    return [Run(scenario, placement, seed) for seed in params.seeds.of(placement)]


def masked_runs_of(params: Params, scenario: str) -> list[Run]:
    """The trainings of one scenario with turn-over dropout: those that stage `estimate` looks at."""
    placements = [placement for placement in params.placements if placement != CONTROL]
    return [run for placement in placements for run in runs_of(params, scenario, placement)]
