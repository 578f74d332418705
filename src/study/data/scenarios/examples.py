"""The examples of a scenario as tensors."""

from __future__ import annotations

import torch

from study.data.scenarios.scenario import Scenario
from turnover.batches.examples import Examples


def examples_of(scenario: Scenario, *splits: str) -> Examples:
    """The examples of some splits with their given labels, as tensors."""
    images, labels = (torch.from_numpy(array) for array in scenario.arrays(*splits))
    return Examples(images, labels, torch.tensor(scenario.of(*splits)["id"].to_numpy()))
