"""The examples of a scenario as tensors."""

from __future__ import annotations

import torch

from study.data.scenarios.scenario import Scenario
from turnover.reading.examples import Examples


def examples_of(scenario: Scenario, *splits: str) -> Examples:
    """The examples of some splits with their given labels, as tensors."""
    rows = scenario.of(*splits)
    ids = torch.tensor(rows["id"].to_numpy())
    images = torch.from_numpy(scenario.images)[ids]
    return Examples(images, torch.tensor(rows["given"].to_numpy()), ids)
