"""What a network says of examples while it is trained, averaged: what it would say of those it has learned by heart.

A trained network gives back the labels that it was taught. On average over its training it does so the less, the later
it learned them (the idea of cumulative loss). Beside the neighbours this is a second witness of what the others say of
an example: see the argument `predictions` of `turnover.influence`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from turnover.errors import UserError
from turnover.masking.calling import Forward
from turnover.reading.one_pass import read
from turnover.training.recorders import EpochRecorder


class Predictions(EpochRecorder):
    """Records what the full network says of examples after epochs of its training.

    >>> model = insert(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 32), torch.nn.ReLU(),
    ...     torch.nn.Linear(32, 2)))
    >>> x, y = torch.randn(20, 1, 4, 4), torch.arange(20) % 2
    >>> seen = Predictions(x, y)
    >>> from turnover.batches.examples import Examples
    >>> _ = train(model, Examples(x, y, torch.arange(20)), TrainingConfig(epochs=3, batch_size=10), recorders=[seen])
    >>> seen.mean().shape
    torch.Size([20, 2])

    In a training loop of your own, call ``seen.record(epoch, model)`` at the end of each epoch, counted from 1.

    Args:
        x, y, classes, forward, batch_size: data and how it goes through the network, as for `turnover.read`: the same
            as will be asked about, in the same order. It is gone through after every recorded epoch.
        epochs: after which to look; None: after every one. Each takes 2 bytes an example and class.
        name: among the files of a training with checkpoints: of its own, where one training has several recorders.

    Raises:
        UserError: the data can be gone through only once.
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        *,
        classes: Sequence[str] | None = None,
        forward: Forward | None = None,
        batch_size: int = 256,
        epochs: Iterable[int] | None = None,
        name: str = "predictions",
    ) -> None:
        if hasattr(x, "__next__"):
            raise UserError("an iterator is gone through once, and epochs are several: pass a data set or loader")
        super().__init__(sorted(set(epochs or ())), f"{name}-")
        self._every = epochs is None
        self._data = x, y
        self._options: dict[str, Any] = {"classes": classes, "forward": forward, "batch_size": batch_size}

    def record(self, epoch: int, model: nn.Module) -> None:
        """Record `epoch`, if it is one of those that are; 0, the untrained network, is not unless it was asked for."""
        if self._every and epoch > 0 and epoch not in self.epochs:
            self.epochs = (*self.epochs, epoch)
        super().record(epoch, model)

    def look(self, model: nn.Module) -> Mapping[str, Tensor]:
        """Probabilities of all examples, float16 [n, classes]."""
        said = read(
            model, *self._data, features=False, masked=False, logits=True, progress=False, **self._options
        ).logits
        assert said is not None
        return {"probabilities": torch.cat([block.softmax(1).half() for block in said])}

    def mean(self) -> Tensor:
        """Probabilities on average over the recorded epochs, float32 [n, classes].

        Raises:
            UserError: nothing was recorded.
        """
        total, count = torch.zeros(()), 0
        for _, kept in self.recorded():
            total, count = total + kept["probabilities"].float(), count + 1
        if not count:
            raise UserError(
                "nothing was recorded: pass it to turnover.train(..., recorders=[...]), or call record(epoch, model) "
                "after each epoch, counted from 1"
            )
        return total / count
