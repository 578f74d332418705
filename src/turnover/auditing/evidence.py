"""What one training with turn-over dropout says of every example: probabilities, votes of neighbours, memorization."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from turnover.auditing.linear import linear_votes
from turnover.auditing.networks import Standardized, make_network
from turnover.auditing.settings import Settings
from turnover.batches.examples import Examples
from turnover.batches.passes import full_precision
from turnover.reading.features import LARGEST
from turnover.reading.one_pass import read
from turnover.reading.over_training import Predictions
from turnover.reading.readings import Readings
from turnover.reading.votes import voters, votes
from turnover.scoring.memorization import self_influence
from turnover.scoring.neighbourhood import likenesses, surroundings
from turnover.scoring.sharpening import sharpened
from turnover.training.loop import train
from turnover.training.settings import TrainingConfig

_RECORDED = 1 << 30  # bytes that the probabilities of all recorded epochs take, about


@dataclass(frozen=True, eq=False)
class Evidence:
    """What was found; rows are examples, in their order.

    Attributes:
        network: the trained network, on the CPU or the device that was asked for.
        readings: of all examples by the three networks.
        probabilities: float32 [n, classes] of the full network, the mean over the epochs of its training.
        votes: float32 [n, classes], the shares of the classes among the others, weighted by likeness.
        linear: of embeddings what `linear_votes` gives, [n, classes]; None for images.
        directions: float32 [n, at most 256], unit rows: their products are the likenesses.
        memorized: what `turnover.memorization` gives.
    """

    network: Standardized
    readings: Readings
    probabilities: Tensor
    votes: Tensor
    linear: Tensor | None
    directions: Tensor
    memorized: pd.DataFrame

    @property
    def witnesses(self) -> tuple[Tensor, ...]:
        """Class probabilities from several sides, [n, classes] each."""
        found = (self.probabilities, self.votes, self.linear)
        return tuple(witness for witness in found if witness is not None)


def watched_epochs(count: int, classes: int, epochs: int) -> list[int]:
    """After which epochs probabilities are recorded: all, or so many of them, up to the last, as memory allows."""
    every = max(1, -(-epochs * 2 * count * classes // _RECORDED))
    return [epoch for epoch in range(1, epochs + 1) if (epochs - epoch) % every == 0]


def config_of(settings: Settings) -> TrainingConfig:
    """How the network of an audit is trained."""
    return TrainingConfig(
        epochs=settings.epochs, batch_size=settings.batch_size, learning_rate=settings.learning_rate,
        weight_decay=0.1, seed=settings.seed,
    )  # fmt: skip


def gather(
    inputs: Tensor,
    labels: Tensor,
    classes: int,
    settings: Settings,
    *,
    checkpoint: Path | None,
    progress: bool | None,
    stop: Callable[[], int] | None,
) -> Evidence:
    """Train once, and ask.

    Args:
        inputs: uint8 images [n, channels, height, width] or float32 embeddings [n, d].
        labels: int64 [n].
        classes: number of classes.
        settings: how.
        checkpoint: a file to go on from after an interruption.
        progress, stop: see `turnover.train`.

    Raises:
        Interrupted: `stop` asked for it; what was done is in `checkpoint`.
        UserError: see `turnover.train`.
    """
    device = torch.device(settings.device)
    network = make_network(inputs, classes, settings.hidden, settings.seed).to(device)
    ids = torch.arange(len(labels))
    said = Predictions(inputs, labels, epochs=watched_epochs(len(labels), classes, settings.epochs))
    examples = Examples(inputs, labels, ids).to(device)
    train(
        network, examples, config_of(settings), recorders=[said], checkpoint=checkpoint, progress=progress,
        stop=stop, fingerprint="audit 2",
    )  # fmt: skip
    probabilities = said.mean()
    readings = read(network, inputs, labels, ids, progress=progress)
    assert readings.features is not None
    directions, leverage = surroundings(readings.features)
    shares = shares_of(directions, labels, classes)
    support = shares.gather(1, labels[:, None]).squeeze(1)
    near = pd.DataFrame({"leverage": leverage.double().numpy(), "support": support.double().numpy()})
    memorized = sharpened(self_influence(readings), near)  # as `memorization`, which would ask all pairs once more
    shares = torch.where(shares.sum(1, keepdim=True) > 0.0, shares, 1.0 / classes)
    linear = linear_votes(inputs, labels, classes) if inputs.dim() == 2 and inputs.shape[1] <= LARGEST else None
    return Evidence(network, readings, probabilities, shares, linear, directions, memorized)


@full_precision()
def shares_of(directions: Tensor, labels: Tensor, classes: int) -> Tensor:
    """What the others say of each example's class: shares [n, classes], all 0 where nothing is near it."""
    chosen = voters(len(directions))
    found = torch.empty(len(directions), classes)
    for places, weight in likenesses(directions, chosen):
        found[places] = votes(weight, labels[chosen], classes)
    return found
