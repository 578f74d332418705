"""How an audit is done: every setting, chosen from the size of the data unless it is given."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from turnover.errors import UserError

_LEAST_SIDE, _LARGEST_SIDE = 16, 64


@dataclass(frozen=True)
class Settings:
    """What decides the result of an audit, beside the data and the kind of machine.

    Args:
        epochs: passes over the examples.
        batch_size: examples a step.
        learning_rate: its peak.
        hidden: masked units before the classes.
        side: pixels; images are made squares of this side, unless all have one size that is small enough.
        seed: of initial weights, masks and order.
        threads: of the processor. Another number gives other bits.
        device: ``cpu``, ``cuda`` or ``mps``; ``auto`` is the GPU if there is one.
        suspects: on the page, at most.
        mistakes: whose influences are computed, at most.

    Raises:
        UserError: a value is out of range; the message names it.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    hidden: int
    side: int
    seed: int
    threads: int
    device: str
    suspects: int = 200
    mistakes: int = 500

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "hidden", "side", "threads"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)}: it must be at least 1")
        for name in ("suspects", "mistakes", "seed"):
            if getattr(self, name) < 0:
                raise UserError(f"{name}={getattr(self, name)}: it must not be negative")
        if not 0.0 < self.learning_rate < math.inf:
            raise UserError(f"learning_rate={self.learning_rate}: it must be a positive number")
        if self.hidden < 8:
            raise UserError(f"hidden={self.hidden}: so few units have no halves worth comparing; give 8 or more")


_MANY = 100_000  # examples
NAMES = tuple(field.name for field in dataclasses.fields(Settings))


def choose(examples: int, sides: list[int], given: dict[str, Any]) -> Settings:
    """Settings for so many examples, of images with these `sides` (of embeddings none); `given` ones win.

    Raises:
        UserError: a setting is unknown or out of range.
    """
    unknown = sorted(set(given) - set(NAMES))
    if unknown:
        raise UserError(f"there is no setting {unknown[0]}; there are {', '.join(NAMES)}")
    import torch  # late: what only looks need not wait for it

    median = sorted(sides)[len(sides) // 2] if sides else _LEAST_SIDE
    chosen: dict[str, Any] = {
        # Of very many examples fewer passes teach as much, and larger steps are as good.
        "epochs": min(40, max(8, math.ceil(40_000 / examples)), max(3, math.ceil(800_000 / examples))),
        "batch_size": 32 if examples < 1000 else 128 if examples < _MANY else 512,
        "learning_rate": 4e-3 if examples >= 1000 else 2e-3,
        "hidden": 512,
        "side": min(_LARGEST_SIDE, max(_LEAST_SIDE, median)) // 4 * 4,
        "seed": 0,
        "threads": torch.get_num_threads(),
        "device": "auto",
    }
    chosen |= {name: value for name, value in given.items() if value is not None}
    chosen["device"] = _device(str(chosen["device"]))
    return Settings(**chosen)


def _device(name: str) -> str:
    """`name` itself, or what "auto" stands for, if it is there."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(name, False):
        raise UserError(
            f"device={name!r} is not there; use {', '.join(kind for kind, is_there in there.items() if is_there)}"
        )
    return name
