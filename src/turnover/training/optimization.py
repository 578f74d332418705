"""One update of the weights: optimizer, schedule, loss scaling, gradient clipping, moving average."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from turnover.errors import UserError
from turnover.training.settings import TrainingConfig


class Updater:
    """Everything that changes the weights of a network, and its state.

    Args:
        model: the network, on its device.
        config: how to train.
    """

    def __init__(self, model: nn.Module, config: TrainingConfig) -> None:
        self.config = config
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not self.parameters:
            raise UserError("the network has no parameter that requires a gradient: there is nothing to train")
        self.optimizer = make_optimizer(model, config)
        self.scaler = torch.amp.GradScaler(self.parameters[0].device.type, enabled=config.precision == "float16")
        self.average = MovingAverage(self.parameters, config.ema) if config.ema else None

    def update(self, loss: Tensor, position: float) -> None:
        """Backward pass of `loss`, and one step; `position` is 0 at the first step and 1 at the end of training."""
        rate = self.config.learning_rate * schedule_factor(self.config.schedule, position)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if self.config.clip_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.parameters, self.config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within: the network holds the moving average, if one is kept."""
        if self.average is None:
            yield
            return
        self.average.swap()
        try:
            yield
        finally:
            self.average.swap()

    def finish(self) -> None:
        """Leave the moving average in the network, if one is kept."""
        if self.average is not None:
            self.average.swap()

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.state_dict() if self.average is not None else {},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])


class MovingAverage:
    """Exponential moving average of weights. `swap` puts it in their place, and back.

    Args:
        parameters: the weights.
        decay: of the average; step s (from 1) uses at most (1 + s) / (10 + s), so that the first weights fade soon.
    """

    def __init__(self, parameters: list[nn.Parameter], decay: float) -> None:
        self._weights = [parameter.data for parameter in parameters]
        self._decay = decay
        self._steps = 0
        self._average = [weight.clone() for weight in self._weights]

    def update(self) -> None:
        """Take in the weights after a step."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        torch._foreach_lerp_(self._average, self._weights, 1.0 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the contents of the weights and the average."""
        for weight, average in zip(self._weights, self._average, strict=True):
            kept = weight.clone()
            weight.copy_(average)
            average.copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self._steps, "average": self._average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._steps = state["steps"]
        for own, other in zip(self._average, state["average"], strict=True):
            own.copy_(other)


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimizer that `config` names, over all parameters of `model`."""
    if config.optimizer == "adamw":
        return torch.optim.AdamW(
            model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
    return torch.optim.SGD(
        model.parameters(),
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
        nesterov=config.momentum > 0,
        fused=True,
    )


def schedule_factor(schedule: str, position: float) -> float:
    """Learning rate at `position` (0: first step, 1: the end), as a fraction of the peak."""
    if schedule == "constant":
        return 1.0
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * position))
    warm_up = 0.2
    if position < warm_up:
        return max(position / warm_up, 0.04)  # 1/25 of the peak at the first step
    return 0.5 * (1.0 + math.cos(math.pi * (position - warm_up) / (1.0 - warm_up)))
