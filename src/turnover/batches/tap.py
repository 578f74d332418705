"""What the layers of anybody's network see: its head, and the features that enter it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from turnover.batches.layout import divisible
from turnover.batches.passes import original, run_and_catch
from turnover.masking.calling import Forward, call, logits_of, rows_of, take

Features = str | Callable[[Any], Tensor] | None

_TRIED = 16  # examples that the head is looked for with


class Tap:
    """Runs a network and catches its features on the way.

    Args:
        model: any classifier.
        features: None: what enters the layer that gives the logits, found on the first batch (where none does: what
            enters the last linear layer). A module's name: what comes out of it. A function from the inputs of a batch
            to features [batch, ...].
        forward: from the network and a batch to the logits, where `turnover.masking.calling` does not do.

    Raises:
        ValueError: the model has no such module.
    """

    def __init__(self, model: nn.Module, features: Features = None, forward: Forward | None = None) -> None:
        self.model = original(model)
        self.function = features if callable(features) else None
        self.forward: Forward = forward or _call_for_logits
        self.head: nn.Linear | None = None  # its output are the logits
        self._module: nn.Module | None = None
        self._place, self._settled, self._width = 1, False, 0
        if isinstance(features, str):
            if features not in dict(self.model.named_modules()):
                known = ", ".join(name for name, _ in self.model.named_modules() if name)
                raise ValueError(f"features={features!r}: the model has no such module; it has {known}")
            self._module = self.model.get_submodule(features)

    def __call__(self, inputs: Any) -> tuple[Tensor | None, Tensor]:
        """Features [batch, width] (None where there are none to catch), as the network computes them, and its output.

        Raises:
            ValueError: the layer of the features ran more or less than once.
        """
        if not self._settled:
            self._settle(inputs)
        if self._module is None:
            logits, _ = run_and_catch(self.model, [], self.forward, inputs)
        else:
            logits, caught = run_and_catch(self.model, [self._module], self.forward, inputs)
            if len(caught) != 1:
                raise ValueError(
                    f"the layer that gives the features ran {len(caught)} times in a forward pass: name another one "
                    "in `features`"
                )
        if self.function is not None:
            return self.function(inputs).flatten(1), logits
        if self._module is None:
            return None, logits
        _, before, after = caught[0]
        if self._place == 1:
            return after.flatten(1), logits
        return _of_rows(before, after, logits), logits

    def width(self, inputs: Any) -> int:
        """How many logits the network gives for an example, found on a few rows of these inputs."""
        if not self._settled:
            self._settle(inputs)
        return self._width

    def _settle(self, inputs: Any) -> None:
        """Find the head, and with it the features, on a few rows."""
        self._settled = True
        few = take(inputs, slice(_TRIED)) if divisible(inputs, rows_of(inputs)) else inputs
        linears = [module for module in self.model.modules() if isinstance(module, nn.Linear)]
        logits, caught = run_and_catch(self.model, linears, self.forward, few)
        self._width = logits.shape[-1] if logits.dim() > 1 else 1
        ran = [module for module, _, _ in caught]
        once = [(module, *seen) for module, *seen in caught if ran.count(module) == 1]
        self.head = next((module for module, _, after in reversed(once) if _gives(after, logits)), None)
        if self._module is not None or self.function is not None:
            return
        self._place = 0
        if self.head is not None:
            self._module = self.head
            return
        flat = [m for m, before, _ in once if isinstance(before, Tensor) and not before.is_nested and before.dim() == 2]
        self._module = next((module for module in reversed(linears) if module in flat), None)


def _call_for_logits(model: nn.Module, inputs: Any) -> Tensor:
    return logits_of(call(model, inputs))


def _gives(after: Any, logits: Tensor) -> bool:
    """Whether a layer's output are the logits: all of it, or that of one token a row."""
    if not isinstance(after, Tensor) or after.is_meta or after.is_nested:
        return after is logits
    if after is logits:
        return True
    if after.numel() == logits.numel() and len(after) == len(logits):
        return torch.equal(after.reshape(logits.shape), logits)
    if after.dim() != 3 or logits.dim() != 2 or after.shape[::2] != logits.shape:
        return False
    return bool((after == logits.unsqueeze(1)).all(2).any(1).all())


def _of_rows(before: Tensor, after: Tensor, logits: Tensor) -> Tensor:
    """What enters the head, [batch, width]: of tokens [batch, token, width], the one whose logits were taken."""
    if before.dim() != 3 or logits.dim() != 2 or after.shape[::2] != logits.shape:
        return before.flatten(1)
    token = (after == logits.unsqueeze(1)).all(2).to(torch.uint8).argmax(1)
    return before[torch.arange(len(before), device=before.device), token]
