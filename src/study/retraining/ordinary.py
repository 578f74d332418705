"""Ordinary networks of the study: no masks, as many as are asked for, each from its seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from study.context.params import ParamsError
from study.networks.zoo.small import Normalized, image_statistics

if TYPE_CHECKING:  # processes that train need no tables
    from study.data.scenarios.scenario import Scenario


@dataclass(frozen=True)
class OrdinaryNetwork:
    """Makes a network for a seed. Picklable, so that other processes can.

    Args:
        build: `study.networks.named.build`, or `study.networks.zoo.small.build_own` where the project's own networks
            are enough.
        name: of the network.
        options: of the network.
        shape: channels, height and width of an image.
        classes: number of classes.
        mean: of the channels of the training images, in 0..1.
        std: of the channels, in 0..1.
    """

    build: Callable[..., nn.Module]
    name: str
    options: Mapping[str, Any]
    shape: tuple[int, int, int]
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, seed: int) -> Normalized:
        try:
            network = self.build(self.name, self.shape, self.classes, seed=seed, **self.options)
        except (ValueError, TypeError) as error:
            raise ParamsError(f"params.yaml: {error}") from error
        return Normalized(network.to(memory_format=torch.channels_last), self.mean, self.std)


def ordinary_network(
    build: Callable[..., nn.Module], name: str, options: Mapping[str, Any], scenario: Scenario
) -> OrdinaryNetwork:
    """The networks for a scenario; normalisation comes from its training examples."""
    images, _ = scenario.arrays("train")
    mean, std = image_statistics(torch.from_numpy(images))
    channels, height, width = images.shape[1:]
    return OrdinaryNetwork(
        build, name, options, (channels, height, width), len(scenario.classes), tuple(mean), tuple(std)
    )
