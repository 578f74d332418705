"""What a network says of examples while it is trained, averaged: what it would say of those it has learned by heart.

A trained network gives back the labels that it was taught. On average over its training it does so the less, the later
it learned them (the idea of cumulative loss). Beside the neighbours this is a second witness of what the others say of
an example: see the argument `predictions` of `turnover.influence`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from turnover.errors import UserError
from turnover.masking.calling import Forward
from turnover.reading.one_pass import read
from turnover.reading.options import check_options
from turnover.reading.sources import Source
from turnover.training.attachments import Attachments
from turnover.training.recorders import EpochRecorder

# Names that recorders of one training have taken: one would overwrite what the other kept.
_TAKEN: WeakKeyDictionary[Attachments, dict[str, int]] = WeakKeyDictionary()


class Predictions(EpochRecorder):
    """Records what the full network says of examples after the epochs of one training.

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
            as will be asked about. It is gone through after every recorded epoch, in the same order each time.
        epochs: after which to look; None: after every one. Each takes 2 bytes an example and class.
        name: letters, digits and _: of its own, where one training has several recorders.

    Raises:
        UserError, TypeError: the data cannot be read, or only once; `epochs` or `name` is not such as described.
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
        name: str = "all",
    ) -> None:
        if hasattr(x, "__next__"):
            raise UserError("an iterator is gone through once, and epochs are several: pass a data set or loader")
        check_options(classes=classes, forward=forward, batch_size=batch_size)
        Source(x, y, batch_size=batch_size, classes=classes, whole=forward is not None)  # refuses what it cannot read
        if not isinstance(name, str) or not re.fullmatch(r"\w+", name):
            raise UserError(f"name={name!r}: it must be letters, digits and _")
        super().__init__(() if epochs is None else _numbers(epochs), f"predictions-{name}-")
        self._every, self._name = epochs is None, name
        self._data = x, y
        self._options: dict[str, Any] = {"classes": classes, "forward": forward, "batch_size": batch_size}

    def keep_in(self, attachments: Attachments) -> None:
        """Called by `train`: where to keep what is recorded.

        Raises:
            UserError: another recorder of this training has the same name.
        """
        if _TAKEN.setdefault(attachments, {}).setdefault(self._name, id(self)) != id(self):
            raise UserError(f'two recorders of one training are called "{self._name}": give each a name= of its own')
        super().keep_in(attachments)

    def record(self, epoch: int, model: nn.Module) -> None:
        """Record `epoch`, if it is one of those that are; 0, the untrained network, is not unless it was asked for.

        Raises:
            UserError: it was recorded before, or the data come in another order than before.
        """
        if self._every and epoch > 0 and epoch not in self.epochs:
            self.epochs = (*self.epochs, epoch)
        if f"{self._prefix}{epoch:06d}" in self._attachments.names(self._prefix):
            raise UserError(f"epoch {epoch} was recorded before: a recorder is of one training, so make a new one")
        super().record(epoch, model)

    def look(self, model: nn.Module) -> Mapping[str, Tensor]:
        """Probabilities of all examples, float16 [n, classes]."""
        found = read(model, *self._data, features=False, masked=False, logits=True, progress=False, **self._options)
        assert found.logits is not None
        if not self._attachments.names(self._rows):
            self._attachments.put(self._rows, {"ids": found.ids, "labels": found.labels})
        elif self._readable:
            self._check(found.ids, found.labels, "the examples are others than at first, or in another")
        return {"probabilities": torch.cat([block.softmax(1).half() for block in found.logits])}

    def mean(self) -> Tensor:
        """Probabilities on average over the recorded epochs, float32 [n, classes], in the order of the data.

        Raises:
            UserError: nothing was recorded, or not every epoch that should have been.
        """
        if not self._readable:
            raise UserError("this process keeps nothing: ask the first one, or train with a checkpoint")
        total, recorded = torch.zeros(()), list[int]()
        for epoch, kept in self.recorded():
            total = total + kept["probabilities"].float()
            recorded.append(epoch)
        if not recorded:
            raise UserError(
                "nothing was recorded: pass it to turnover.train(..., recorders=[...]), or call record(epoch, model) "
                "after each epoch, counted from 1"
            )
        due = range(1, recorded[-1]) if self._every else [epoch for epoch in self.epochs if epoch < recorded[-1]]
        if missing := sorted(set(due) - set(recorded)):
            raise UserError(
                f"epochs {missing} were not recorded, and a mean without them is another: record every epoch from the "
                "first on (a training that goes on from a checkpoint needs the recorder that it began with)"
            )
        return total / len(recorded)

    def of(self, ids: Tensor | None, labels: Tensor) -> Tensor:
        """`mean`, if the examples are these.

        Args:
            ids, labels: of the examples, in order, int64 [n]; ids None: they have none.

        Raises:
            UserError: they are others, or in another order; or as for `mean`.
        """
        found = self.mean()
        self._check(ids, labels, "predictions are of other examples than those that are asked about, or in another")
        return found

    @property
    def _rows(self) -> str:
        return f"rows-of-{self._name}"

    @property
    def _readable(self) -> bool:
        """Whether what is recorded can be read in this process."""
        return self._attachments.writes or self._attachments.folder is not None

    def _check(self, ids: Tensor | None, labels: Tensor, what: str) -> None:
        rows = self._attachments.get(self._rows)
        if not torch.equal(rows["labels"], labels) or not (ids is None or torch.equal(rows["ids"], ids)):
            raise UserError(
                f"{what} order: pass the same data, with ids or without, that have an order of their own (a data set, "
                "tensors, or a loader without a batch sampler of yours)"
            )


def _numbers(epochs: Any) -> list[int]:
    try:
        return sorted({int(epoch) for epoch in epochs})
    except (TypeError, ValueError) as error:
        raise UserError(f"epochs={epochs!r}: pass the numbers of epochs, such as range(2, 16, 2)") from error
