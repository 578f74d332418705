"""What one training with turn-over dropout says of every example: probabilities, votes of neighbours, memorization."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from turnover.auditing.linear import linear_votes
from turnover.auditing.networks import Standardized, make_network
from turnover.auditing.settings import Settings
from turnover.batches.examples import Examples
from turnover.batches.passes import evaluating, moved
from turnover.reading.features import LARGEST, RIDGE, spectrum
from turnover.reading.one_pass import read
from turnover.reading.readings import Readings
from turnover.reading.votes import likeness, same_among, voters, votes
from turnover.scoring.memorization import self_influence
from turnover.scoring.neighbourhood import LEVERAGE_RIDGE
from turnover.scoring.sharpening import sharpened
from turnover.training.loop import train
from turnover.training.recorders import EpochRecorder
from turnover.training.settings import TrainingConfig

_DIRECTIONS = 256
_RECORDED = 1 << 30  # bytes that the probabilities of all recorded epochs take, about
_ROWS = 512


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


class Probabilities(EpochRecorder):
    """Records what the full network says of every example at the end of epochs: float16 [n, classes]."""

    def __init__(self, inputs: Tensor, classes: int, epochs: int) -> None:
        size = 2 * len(inputs) * classes
        every = max(1, -(-epochs * size // _RECORDED))
        super().__init__([epoch for epoch in range(1, epochs + 1) if (epochs - epoch) % every == 0], "probabilities-")
        self.inputs = inputs

    def look(self, model: nn.Module) -> Mapping[str, Tensor]:
        """Probabilities of all examples."""
        device = next(model.parameters()).device
        with evaluating(model):
            found = [model(moved(part, device)).softmax(1).half().cpu() for part in torch.split(self.inputs, 256)]
        return {"probabilities": torch.cat(found)}

    def mean(self) -> Tensor:
        """Over the recorded epochs, float32 [n, classes]."""
        total, count = torch.zeros(()), 0
        for _, kept in self.recorded():
            total, count = total + kept["probabilities"].float(), count + 1
        return total / count


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
    recorder = Probabilities(inputs, classes, settings.epochs)
    examples = Examples(inputs, labels, ids).to(device)
    train(
        network, examples, config_of(settings), recorders=[recorder], checkpoint=checkpoint, progress=progress,
        stop=stop, fingerprint="audit",
    )  # fmt: skip
    probabilities = recorder.mean()
    readings = read(network, inputs, labels, ids, progress=progress)
    assert readings.features is not None
    directions, leverage = surroundings(readings)
    shares = shares_of(directions, labels, classes)
    support = shares.gather(1, labels[:, None]).squeeze(1)
    near = pd.DataFrame({"leverage": leverage.double().numpy(), "support": support.double().numpy()})
    memorized = sharpened(self_influence(readings), near)  # as `memorization`, which would ask all pairs once more
    said = torch.where(shares.sum(1, keepdim=True) > 0.0, shares, 1.0 / classes)
    linear = linear_votes(inputs, labels, classes) if inputs.dim() == 2 and inputs.shape[1] <= LARGEST else None
    return Evidence(network, readings, probabilities, said, linear, directions, memorized)


def surroundings(readings: Readings) -> tuple[Tensor, Tensor]:
    """Unit vectors [n, at most 256] whose products are likenesses, and leverage [n], as in `turnover.neighbourhood`."""
    blocks = readings.features
    assert blocks is not None
    found = spectrum(blocks)
    directions, leverage = zip(
        *(
            (
                F.normalize(found.whitened(part, RIDGE, _DIRECTIONS), dim=1),
                found.whitened(part, LEVERAGE_RIDGE).square().sum(1),
            )
            for block in blocks
            for part in torch.split(block, _ROWS)
        ),
        strict=True,
    )
    return torch.cat(directions), torch.cat(leverage)


def shares_of(directions: Tensor, labels: Tensor, classes: int) -> Tensor:
    """What the others say of each example's class: shares [n, classes], all 0 where nothing is near it."""
    chosen = voters(len(directions))
    found = torch.empty(len(directions), classes)
    for start in range(0, len(directions), _ROWS):
        rows = torch.arange(start, min(start + _ROWS, len(directions)))
        weight = likeness(directions[rows], directions[chosen], itself=same_among(rows, chosen))
        found[rows] = votes(weight, labels[chosen], classes)
    return found
