"""What the stage works on: the scenario, the ground truth, and how networks are trained."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from study.context.params import ComparisonParams, RecipeParams, ValidationParams
from study.data.scenarios.examples import examples_of
from study.data.scenarios.scenario import Scenario
from study.networks.zoo.small import build_own
from study.retraining.ordinary import OrdinaryNetwork, ordinary_network
from study.retraining.subsets import SubsetOutputs
from turnover.errors import UserError
from turnover.reading.examples import Examples
from turnover.training.settings import TrainingConfig


@dataclass(frozen=True)
class Problem:
    """One scenario and its ground truth.

    Args:
        scenario: with the splits train, placebo and heldout, in this order of ids.
        truth: outputs of the subset networks on all examples of the scenario.
        settings: the namespace `comparison` of params.yaml.
        architecture: which ordinary network the subset networks are.
        recipe: how they were trained.
    """

    scenario: Scenario
    truth: SubsetOutputs
    settings: ComparisonParams
    architecture: ValidationParams
    recipe: RecipeParams
    train: Examples = field(init=False)
    watched: Examples = field(init=False)  # training examples, then placebos
    targets: Examples = field(init=False)  # the first held-out examples
    network: OrdinaryNetwork = field(init=False)  # makes a new one, of the subset networks' architecture, for a seed

    def __post_init__(self) -> None:
        train, watched, heldout = (
            examples_of(self.scenario, *splits) for splits in (("train",), ("train", "placebo"), ("heldout",))
        )
        make = ordinary_network(build_own, self.architecture.model, self.architecture.options, self.scenario)
        found = {"train": train, "watched": watched, "targets": heldout[: self.settings.targets], "network": make}
        for name, value in found.items():
            object.__setattr__(self, name, value)
        if self.truth.inside.shape[1] != len(train) or self.truth.margin.shape[1] != len(self.scenario.examples):
            raise UserError(
                f"the ground truth is about {self.truth.inside.shape[1]} training examples of "
                f"{self.truth.margin.shape[1]}, but the scenario has {len(train)} of {len(self.scenario.examples)}: "
                "run `dvc repro retrain`"
            )

    @property
    def wrong(self) -> np.ndarray:
        """Which training examples have a wrong label, bool [train]."""
        rows = self.scenario.of("train")
        return np.asarray(rows["given"].to_numpy() != rows["original"].to_numpy())

    def config(self, seed: int) -> TrainingConfig:
        """How every network here is trained: as the subset networks were."""
        return TrainingConfig(
            epochs=self.recipe.epochs,
            batch_size=self.recipe.batch_size,
            learning_rate=self.recipe.learning_rate,
            weight_decay=self.recipe.weight_decay,
            seed=seed,
        )

    def goodness(self) -> np.ndarray:
        """Minus the loss of every subset network on every target, float64 [networks, target]: what LDS foretells."""
        columns = self.targets.ids.numpy()
        return np.asarray(-self.truth.loss[:, columns], dtype=np.float64)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities, over the last dimension."""
    return np.asarray(torch.softmax(torch.from_numpy(logits), -1).numpy())


def state_arrays(state: dict[str, Tensor], prefix: str) -> dict[str, np.ndarray]:
    """A state dict as named arrays."""
    return {f"{prefix}/{key}": value.detach().cpu().contiguous().numpy() for key, value in state.items()}


def state_of(arrays: Any, prefix: str) -> dict[str, Tensor]:
    """The state dict that `state_arrays` stored under `prefix`."""
    start = f"{prefix}/"
    return {key.removeprefix(start): torch.from_numpy(value) for key, value in arrays.items() if key.startswith(start)}


def timed(make: Callable[[], Any]) -> tuple[Any, float]:
    """What `make` gives, and how many seconds it took."""
    started = time.perf_counter()
    made = make()
    return made, time.perf_counter() - started
