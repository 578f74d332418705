"""What every example did at every recorded epoch, in the exposed, flipped and full networks."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor, nn

from turnover.batches.evaluation import evaluate
from turnover.batches.examples import Examples
from turnover.batches.outputs import NETWORKS
from turnover.training.parallel import gathered, spread
from turnover.training.recorders import EpochRecorder


def schedule(epochs: int, chosen: Sequence[int] | str = "auto") -> list[int]:
    """The epochs at which dynamics are recorded, sorted; the last one of the training is always among them.

    Epoch 0 is the untrained network. ``"all"`` and ``"auto"`` hold it; a list holds it only if it names it.

    Args:
        epochs: length of the training.
        chosen: ``"all"``; ``"auto"``: every epoch up to 8, then each about 1.25 times the one before; or a list, in
            which epoch 0 must stand itself: else the untrained network, and with it how much the first epoch changed,
            is not recorded.

    Raises:
        ValueError: the list holds an epoch outside 0..epochs.
    """
    if chosen == "all":
        return list(range(epochs + 1))
    if chosen == "auto":
        found = list(range(min(8, epochs) + 1))
        while found[-1] < epochs:
            found.append(min(epochs, max(found[-1] + 1, round(found[-1] * 1.25))))
        return found
    outside = [epoch for epoch in chosen if not (isinstance(epoch, int) and 0 <= epoch <= epochs)]
    if outside:
        raise ValueError(f"training.dynamics_epochs: {outside[0]!r} is not allowed: epochs run from 0 to {epochs}")
    return sorted({*(int(epoch) for epoch in chosen), epochs})


class Dynamics(EpochRecorder):
    """Records losses and margins of every example at chosen epochs.

    Args:
        examples: whom to record, typically training examples and placebos.
        epochs: when, see `schedule`.
    """

    def __init__(self, examples: Examples, epochs: Sequence[int]) -> None:
        super().__init__(epochs, "dynamics-")
        self.examples = examples

    def look(self, model: nn.Module) -> dict[str, Tensor]:
        """Losses and margins of all examples. Several processes evaluate a part of them each."""
        part = spread(self.examples)
        device = self.examples.ids.device
        # On a CPU larger batches leave its cache, and their activations cost page faults where memory is given back.
        batch_size = 128 if device.type == "cpu" else 1024
        found = evaluate(model, part.images, part.labels, part.ids, batch_size=batch_size)
        return {key: gathered(values, len(self.examples), device) for key, values in found.items()}

    def frame(self) -> pd.DataFrame:
        """One row for every recorded epoch and example: ``epoch``, ``id``, then ``loss_*``, ``margin_*`` (float32) and
        ``correct_*`` (bool) of the three networks."""
        tables = []
        for epoch, values in self.recorded():
            columns = {"epoch": torch.full((len(self.examples),), epoch, dtype=torch.int32).numpy()}
            columns["id"] = self.examples.ids.cpu().numpy()
            for of in NETWORKS:
                columns[f"loss_{of}"] = values[f"loss_{of}"].numpy()
                columns[f"margin_{of}"] = values[f"margin_{of}"].numpy()
                columns[f"correct_{of}"] = (values[f"margin_{of}"] > 0).numpy()
            tables.append(pd.DataFrame(columns))
        return pd.concat(tables, ignore_index=True)
