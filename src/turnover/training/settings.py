"""How to train: every setting of the training loop, checked when it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from turnover.errors import UserError
from turnover.training.augmentation import Augmentation

OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("one-cycle", "cosine", "constant")
PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class TrainingConfig:
    """How to train.

    >>> TrainingConfig(epochs=3).schedule
    'one-cycle'
    >>> TrainingConfig(epochs=0)
    Traceback (most recent call last):
        ...
    turnover.errors.UserError: ...

    Args:
        epochs: passes over the examples.
        batch_size: examples a step, over all processes together; the last batch of an epoch may be smaller.
        optimizer: ``"adamw"`` or ``"sgd"`` (with Nesterov momentum).
        learning_rate: peak of the schedule.
        weight_decay: decoupled for AdamW, L2 for SGD.
        momentum: of SGD.
        schedule: ``"one-cycle"`` (linear warm-up over the first fifth, then cosine to 0), ``"cosine"`` or
            ``"constant"``.
        precision: ``"float32"``, or the forward pass in ``"bfloat16"`` or ``"float16"`` (autocast). float16 scales the
            loss, so that small gradients do not vanish, and skips a step whose gradients overflow.
        seed: of the order of the examples, of augmentation and of ordinary dropout.
        clip_norm: gradients whose norm over all parameters is larger are scaled down to it; 0: never.
        augmentation: of the training images.
        compile: let `torch.compile` fuse the network. It takes a minute to start, pays on a GPU or for hours of
            training, and the bits of the result depend on the compiler.

    Raises:
        UserError: a value is out of range; the message names the setting.
    """

    epochs: int = 15
    batch_size: int = 128
    optimizer: str = "adamw"
    learning_rate: float = 4e-3
    weight_decay: float = 1e-2
    momentum: float = 0.9
    schedule: str = "one-cycle"
    precision: str = "float32"
    seed: int = 0
    clip_norm: float = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    compile: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("precision", PRECISIONS)):
            value = getattr(self, name)
            if value not in allowed:
                raise UserError(f"training.{name}={value!r}: use {', '.join(allowed[:-1])} or {allowed[-1]}")
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"training.{name}={getattr(self, name)}: it must be at least 1")
        if not 0.0 <= self.momentum < 1.0:
            raise UserError(f"training.momentum={self.momentum}: it must be at least 0 and below 1")
        if not 0.0 < self.learning_rate < math.inf:
            raise UserError(f"training.learning_rate={self.learning_rate}: it must be a positive number")
        if not 0.0 <= self.weight_decay < math.inf:
            raise UserError(f"training.weight_decay={self.weight_decay}: it must be a number that is not negative")
        if not 0.0 <= self.clip_norm < math.inf:
            raise UserError(f"training.clip_norm={self.clip_norm}: it must be positive, or 0 for no clipping")
