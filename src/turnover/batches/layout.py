"""How a batch is laid out: where its inputs, labels and ids are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from turnover.errors import UserError

_LABELS, _IDS = ("labels", "label"), ("ids", "id")
CONVENTION = "batches are (x, y), (x, y, id) or a dict with the labels under 'labels'; several inputs are ((x1, x2), y)"


def parts_of(batch: Any) -> tuple[Any, Any, Any]:
    """Inputs, labels and ids (or None) of a batch.

    Raises:
        UserError: it is laid out otherwise.
    """
    if isinstance(batch, Mapping):
        given = {of: next((key for key in keys if key in batch), None) for of, keys in (("y", _LABELS), ("id", _IDS))}
        if given["y"] is None:
            raise UserError(f"a batch has no labels among its keys {', '.join(map(str, batch))}: {CONVENTION}")
        rest = {key: value for key, value in batch.items() if key not in (*_LABELS, *_IDS)}
        tensors = {key: value for key, value in rest.items() if not _is_text(value)}
        ids = batch[given["id"]] if given["id"] is not None else None
        if isinstance(ids, Tensor) and ids.dim() > 1:  # an input of that name
            ids, tensors = None, {given["id"]: ids, **tensors}
        return tensors, batch[given["y"]], ids
    if isinstance(batch, (tuple, list)) and len(batch) in (2, 3):
        inputs, labels, *ids = batch
        if isinstance(inputs, list):
            inputs = tuple(inputs)  # default_collate turns tuples of inputs into lists
        if ids and isinstance(labels, Tensor) and labels.dim() > 1:
            raise UserError(
                f"the second of three parts of a batch has shape {tuple(labels.shape)}, so it is no column of labels: "
                f"{CONVENTION}"
            )
        if ids and not is_column(ids[0]) and not isinstance(ids[0], tuple):
            raise UserError(f"the third part of a batch is a {type(ids[0]).__name__}, not ids: {CONVENTION}")
        return inputs, list(labels) if isinstance(labels, tuple) else labels, ids[0] if ids else None
    size = f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
    raise UserError(f"a batch is a {type(batch).__name__}{size}: {CONVENTION}")


def ids_of(batch: Any) -> Any:
    """The ids that a batch holds; None where it holds none, or is laid out in a way of its own."""
    try:
        return parts_of(batch)[2]
    except UserError:
        return None


def _is_text(value: Any) -> bool:
    """Whether a column of a batch is text, which no network takes."""
    return isinstance(value, (list, tuple)) and bool(value) and isinstance(value[0], str)


def is_batch(value: Any) -> bool:
    """Whether an element of a list is a whole batch: its labels are a column."""
    try:
        return is_column(parts_of(value)[1])
    except UserError:
        return False


def is_column(value: Any) -> bool:
    """Whether `value` has a row for each example: a tensor, an array, a pandas column, a list or tuple of values."""
    if isinstance(value, tuple):
        return bool(value) and all(isinstance(of, (str, int)) for of in value)
    return isinstance(value, list) or (hasattr(value, "__array__") and np.ndim(value) >= 1)


def divisible(batch: Any, rows: int) -> bool:
    """Whether a batch of `rows` examples can be cut: it holds tensors with a row for each, and single values."""
    if isinstance(batch, Tensor):
        return batch.dim() == 0 or len(batch) == rows
    if isinstance(batch, Mapping):
        return all(divisible(of, rows) for of in batch.values())
    if isinstance(batch, (tuple, list)):
        return all(divisible(of, rows) for of in batch)
    return batch is None or isinstance(batch, (bool, int, float))
