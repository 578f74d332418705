"""What users hand in by mistake, refused in one sentence: once a call, never batch by batch."""

from __future__ import annotations

import warnings
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from turnover.errors import UserError
from turnover.masking.masks import check_ids

_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


class Inputs(Protocol):
    """Inputs of examples: a tensor, or anything with a length that makes the tensor of a slice when asked."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Tensor: ...


def check_inputs(x: Any, name: str = "x") -> None:
    """Raise TypeError where `x` cannot be `Inputs`: slices of arrays and lists are no tensors.

    Args:
        x: inputs [n, ...] of a network.
        name: what the caller's argument is called.
    """
    if isinstance(x, np.ndarray):
        _check_tensor(x, name)
    if isinstance(x, (list, tuple, str)) or not (hasattr(x, "__len__") and hasattr(x, "__getitem__")):
        raise TypeError(f"{name} must be a tensor, or give one when sliced, got {type(x).__name__}: pass a tensor")


def check_labels(labels: Any, classes: int | None = None, name: str = "labels") -> Tensor:
    """The labels, as torch's losses and indexing want them.

    Args:
        labels: integers [n] of any type, on any device.
        classes: how many classes the network has, once that is known: looks at the values, which waits for a GPU.
        name: what the caller's argument is called.

    Returns:
        int64 [n], on the device of `labels`.

    Raises:
        TypeError: `labels` is not an integer tensor.
        UserError: `labels` is not one-dimensional, or a label is outside of 0..classes-1.
    """
    _check_tensor(labels, name)
    if labels.dim() != 1:
        cure = f": of one-hot labels or scores pass {name}.argmax(1)" if labels.dim() == 2 else ""
        raise UserError(
            f"{name} must be one-dimensional, one label a row of the batch; got shape {tuple(labels.shape)}{cure}"
        )
    if labels.dtype not in _INTEGERS:
        raise TypeError(f"{name} must be integers, classes counted from 0, got {labels.dtype}: pass {name}.long()")
    if classes is not None and len(labels):
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= classes:
            raise UserError(
                f"labels run from {low} to {high}, but the network has classes 0 to {classes - 1} ({classes} classes)"
            )
    return labels.long()  # type: ignore[no-any-return]


def check_example_ids(ids: Any, name: str = "ids", *, warn_of_repeats: bool = True) -> None:
    """Raise unless `ids` are those of examples.

    Args:
        ids: integers [n] of any type, on any device.
        name: what the caller's argument is called.
        warn_of_repeats: looks at the values, which waits for a GPU. Rows with one id share a mask: right
            for views or copies of one example, and a mistake for anything else.

    Raises:
        TypeError: `ids` is not an integer tensor.
        ValueError: `ids` is not one-dimensional.
    """
    _check_tensor(ids, name)
    check_ids(ids)
    if not warn_of_repeats:
        return
    values, counts = torch.unique(ids, return_counts=True)
    if len(values) < len(ids):
        first = int((counts > 1).nonzero()[0])
        warnings.warn(
            f"{name} repeat: id {int(values[first])} stands there {int(counts[first])} times, {len(values)} of "
            f"{len(ids)} are different. Rows with one id share a mask: right for views or copies of one example; all "
            "others need ids of their own",
            stacklevel=3,
        )


def _check_tensor(value: Any, name: str) -> None:
    if isinstance(value, Tensor):
        return
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        raise TypeError(f"{name} must be a tensor, got a numpy array: pass torch.from_numpy({name})")
    kind = f"a numpy array of {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
    raise TypeError(f"{name} must be a tensor of numbers, got {kind}: pass torch.tensor(...), numbers instead of names")
