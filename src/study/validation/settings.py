"""What the stage works on: the scenario, the ground truth, and how networks are trained."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from study.context.params import ComparisonParams, RecipeParams, ValidationParams
from study.data.scenarios.examples import examples_of
from study.data.scenarios.scenario import Scenario
from study.networks.zoo.small import build_own
from study.retraining.ordinary import ordinary_network
from study.retraining.subsets import SubsetOutputs
from turnover.errors import UserError
from turnover.training.settings import TrainingConfig


class Problem:
    """One scenario and its ground truth.

    Args:
        scenario: with the splits train, placebo and heldout, in this order of ids.
        truth: outputs of the subset networks on all examples of the scenario.
        fitted: likewise, of networks that have learned their subset by heart; `truth` itself where there are none.
        again: of the first subset networks trained from other seeds; None: nothing is known of their noise.
        settings: the namespace `comparison` of params.yaml.
        architecture: which ordinary network the subset networks are.
        recipe: how they were trained.

    Raises:
        UserError: the ground truth is about other examples.
    """

    def __init__(
        self,
        scenario: Scenario,
        truth: SubsetOutputs,
        settings: ComparisonParams,
        architecture: ValidationParams,
        recipe: RecipeParams,
        fitted: SubsetOutputs | None = None,
        again: SubsetOutputs | None = None,
    ) -> None:
        self.again = again
        self.scenario, self.truth, self.settings, self.recipe = scenario, truth, settings, recipe
        self.train = examples_of(scenario, "train")
        if truth.inside.shape[1] != len(self.train) or truth.margin.shape[1] != len(scenario.examples):
            raise UserError(
                f"the ground truth is about {truth.inside.shape[1]} training examples of {truth.margin.shape[1]}, "
                f"but the scenario has {len(self.train)} of {len(scenario.examples)}: run `dvc repro retrain`"
            )
        self.watched = examples_of(scenario, "train", "placebo")
        self.targets = examples_of(scenario, "heldout")[: settings.targets]
        # Makes a new network, of the subset networks' architecture, for a seed.
        self.network = ordinary_network(build_own, architecture.model, architecture.options, scenario)
        self.wrong: np.ndarray = scenario.of("train")["wrong"].to_numpy()
        # Minus the loss of every subset network on every target, float64 [networks, target]: what LDS foretells.
        self.goodness = self.goodness_of(truth)
        self.fitted = truth if fitted is None else fitted
        if (
            self.fitted.inside.shape[1:] != truth.inside.shape[1:]
            or self.fitted.margin.shape[1] != truth.margin.shape[1]
        ):
            raise UserError("the fitted networks are about other examples: run `dvc repro judges`")

    def goodness_of(self, truth: SubsetOutputs) -> np.ndarray:
        """Minus the loss of every network on every target, float64 [networks, target]."""
        return -truth.loss[:, self.targets.ids.numpy()].astype(np.float64)

    def config(self, seed: int) -> TrainingConfig:
        """How every network here is trained: as the subset networks were."""
        return TrainingConfig(
            epochs=self.recipe.epochs,
            batch_size=self.recipe.batch_size,
            learning_rate=self.recipe.learning_rate,
            weight_decay=self.recipe.weight_decay,
            seed=seed,
        )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities, over the last dimension."""
    return np.asarray(torch.softmax(torch.from_numpy(logits), -1).numpy())


def timed(make: Callable[[], Any]) -> tuple[Any, float]:
    """What `make` gives, and how many seconds it took."""
    started = time.perf_counter()
    made = make()
    return made, time.perf_counter() - started
