"""The trainings of the study: which there are, and what they are called."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

from study.context.declaration import read_yaml
from study.context.params import Params, check_params


@dataclass(frozen=True)
class Run:
    """One item of the training matrix."""

    scenario: str
    placement: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.scenario}-{self.placement}-{self.seed}"

    @classmethod
    def parse(cls, name: str) -> Run:
        """The run whose `name` this is."""
        scenario, _, rest = name.partition("-")
        placement, _, seed = rest.rpartition("-")
        return cls(scenario, placement, int(seed))


# The name under which the ordinary-dropout control stands where the others have their placement.
CONTROL = "dropout"


def load_params(root: Path) -> Params:
    """The checked settings of the repository at `root`."""
    return check_params(read_yaml(root / "params.yaml"))


def masked_runs(params: Params) -> list[Run]:
    """The items of the matrix of stage `train`, in its order."""
    return [Run(*item) for item in itertools.product(params.scenarios, params.placements, params.seeds)]


def control_runs(params: Params) -> list[Run]:
    """The items of the matrix of stage `control`, in its order."""
    return [Run(s, CONTROL, seed) for s, seed in itertools.product(params.scenarios, params.seeds)]
