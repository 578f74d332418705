"""The networks that judge a validation set: the usual ones, fitted ones, and the usual ones again from other seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from study.context.params import RecipeParams, RetrainParams, ValidationParams
from study.data.scenarios.scenario import SPLITS, Scenario
from study.networks.zoo.small import build_own
from study.retraining.many import train_many
from study.retraining.ordinary import ordinary_network
from study.retraining.subsets import SubsetOutputs, draw_subsets

# No judge starts from the weights of another one, nor from those of any network that is judged.
FITTED, AGAIN = 50_000, 60_000


def usual(scenario: Scenario, network: ValidationParams, settings: RetrainParams, checkpoint: Path) -> SubsetOutputs:
    """One network on each subset."""
    inside = _subsets(scenario, settings, settings.networks)
    return _train(scenario, network, settings, inside, network_seeds(settings.seed, settings.networks), checkpoint)


def fitted(
    scenario: Scenario, network: ValidationParams, settings: RetrainParams, networks: int, epochs: int, checkpoint: Path
) -> SubsetOutputs:
    """One network of `epochs` on each of the first subsets."""
    inside = _subsets(scenario, settings, networks)
    recipe = settings.model_copy(update={"epochs": epochs})
    return _train(scenario, network, recipe, inside, network_seeds(settings.seed, networks, FITTED), checkpoint)


def again(
    scenario: Scenario, network: ValidationParams, settings: RetrainParams, subsets: int, times: int, checkpoint: Path
) -> SubsetOutputs:
    """The first subsets `times` more: all of them once, then all of them again."""
    inside = np.tile(_subsets(scenario, settings, subsets), (times, 1))
    return _train(scenario, network, settings, inside, network_seeds(settings.seed, len(inside), AGAIN), checkpoint)


def network_seeds(seed: int, networks: int, first: int = 0) -> list[int]:
    """A seed of its own for every network of every `seed`."""
    return [seed * 1_000_003 + first + network for network in range(networks)]


def _subsets(scenario: Scenario, settings: RetrainParams, networks: int) -> np.ndarray:
    return draw_subsets(len(scenario.of("train")), networks, settings.fraction, settings.seed)


def _train(
    scenario: Scenario,
    network: ValidationParams,
    recipe: RecipeParams,
    subsets: np.ndarray,
    seeds: Sequence[int],
    checkpoint: Path,
) -> SubsetOutputs:
    """Each network gets its part of the training examples, and is asked about all examples of the scenario."""
    images, labels = scenario.arrays(*SPLITS)
    train = subsets.shape[1]
    inside = np.zeros((len(subsets), len(images)), dtype=np.bool_)
    inside[:, :train] = subsets
    margin, correct = train_many(
        ordinary_network(build_own, network.model, network.options, scenario),
        torch.from_numpy(images),
        torch.from_numpy(labels),
        inside,
        seeds,
        recipe,
        checkpoint=checkpoint,
    )
    return SubsetOutputs(subsets, margin, correct)
