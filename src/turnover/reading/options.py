"""Options of the public calls: what each may be, and one sentence for all else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from turnover.errors import UserError


class _Kind(NamedTuple):
    """What an option may be, and how that is said."""

    allows: Callable[[Any], bool]
    must: str


def _whole(least: int) -> Callable[[Any], bool]:
    return lambda value: _number(value) and not isinstance(value, (float, np.floating)) and bool(value >= least)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def _names(value: Any) -> bool:
    return isinstance(value, (list, tuple, np.ndarray)) and all(isinstance(name, str) for name in value)


_SWITCH = _Kind(lambda value: isinstance(value, (bool, np.bool_)), "it must be True or False")
_CHOICE = _Kind(lambda value: value is None or _SWITCH.allows(value), "it must be True, False or None")
_COUNT = _Kind(_whole(0), "it must be an integer that is not negative")
_POSITIVE = _Kind(lambda value: _number(value) and 0.0 < value < float("inf"), "it must be a positive number")

_KINDS = {
    "batch_size": _Kind(_whole(1), "it must be a positive integer"),
    "classes": _Kind(
        lambda value: value is None or _names(value),
        "pass the list of the classes' names, strings in the order of the network's outputs",
    ),
    "false_discovery_rate": _Kind(
        lambda value: _number(value) and 0.0 < value < 1.0, "it must lie strictly between 0 and 1"
    ),
    "features": _Kind(
        lambda value: value is None or isinstance(value, str) or callable(value),
        "it must be the name of a module, a function from the inputs of a batch to features, or None",
    ),
    "folder": _Kind(lambda value: value is None or isinstance(value, (str, os.PathLike)), "it must be a path or None"),
    "forward": _Kind(
        lambda value: value is None or callable(value),
        "it must be a function of (model, batch) that gives logits, or None",
    ),
    "fused": _CHOICE,
    "inputs": _SWITCH,
    "leverage_ridge": _POSITIVE,
    "logits": _SWITCH,
    "masked": _SWITCH,
    "memory": _Kind(_whole(0), "it must be a number of bytes, an integer such as 1 << 30"),
    "neighbours": _SWITCH,
    "progress": _CHOICE,
    "references": _Kind(lambda value: value is None or _whole(1)(value), "it must be an integer, at least 1, or None"),
    "ridge": _POSITIVE,
    "sharpness": _POSITIVE,
    "strength": _Kind(
        lambda value: _number(value) and 0.0 <= value < float("inf"), "it must be a number that is not negative"
    ),
    "top": _COUNT,
    "top_targets": _COUNT,
}


def check_options(**options: Any) -> None:
    """Raise UserError for the first option, by its name in the public calls, that is not what it may be."""
    for name, value in options.items():
        if not _KINDS[name].allows(value):
            raise UserError(f"{_shown(name, value)}: {_KINDS[name].must}")


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raise UserError unless the option `name` is one of some words."""
    *others, last = choices
    if not isinstance(value, str) or value not in (*others, last):
        words = ", ".join(f'"{word}"' for word in others)
        raise UserError(f'{_shown(name, value)}: use {words} or "{last}"')


def as_path(name: str, value: Any) -> Path:
    """A path that an argument of a public call is, which must be given.

    Raises:
        UserError: it is none.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise UserError(f"{_shown(name, value)}: it must be a path")
    return Path(value)


def _shown(name: str, value: Any) -> str:
    """An option as it was given, or where that would not fit into a sentence, what kind it is of."""
    if value is None or isinstance(value, (str, int, float, torch.dtype)):
        return f"{name}={value!r}"
    return f"{name} is a {type(value).__name__}"
