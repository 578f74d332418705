"""One update of the weights: optimizer, schedule, loss scaling, gradient clipping."""

from __future__ import annotations

import inspect
import math
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from turnover.errors import UserError
from turnover.training.settings import TrainingConfig

Kind = TypeVar("Kind", bound=torch.optim.Optimizer)


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

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimizer that `config` names, over all parameters of `model`."""
    if config.optimizer == "adamw":
        return without_compiler(torch.optim.AdamW)(
            model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
    return without_compiler(torch.optim.SGD)(
        model.parameters(),
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
        nesterov=config.momentum > 0,
        fused=True,
    )


def without_compiler(kind: type[Kind]) -> type[Kind]:
    """`kind` of optimizer, whose methods do not load torch's compiler only to tell it to keep off them.

    Loading it takes 4 seconds of processor time, in every process that trains. The optimizer's step is never compiled.
    """
    names = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    plain = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    return type(kind.__name__, (kind,), {**plain, "step": torch.no_grad()(inspect.unwrap(kind.step))})


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
