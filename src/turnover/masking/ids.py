"""Ids of examples: integers of any type, or names."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from turnover.errors import UserError

_INTEGERS = (
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64,
)  # fmt: skip


def example_ids(ids: Any) -> Tensor:
    """Example ids as masks are made from them.

    Args:
        ids: integers of any type, or names (strings), one an example [n] or several a row [n, k]: a tensor on any
            device, a numpy array, a pandas column or a list.

    Returns:
        int64 [n] or [n, k], on the device of `ids`. Integers stay what they are (from 2**63 on: the same bits), names
        become 64 bits of BLAKE2b, the same on every machine.

    Raises:
        TypeError: neither integers nor names (booleans are neither), or both.
        UserError: `ids` has another number of dimensions, or an integer does not fit into 64 bits.
    """
    found = ids if isinstance(ids, Tensor) else _tensor_of(ids)
    if found.dtype not in _INTEGERS:
        raise TypeError(f"ids must be integers or names, got {found.dtype}")
    if found.dim() not in (1, 2):
        raise UserError(
            f"ids must be [batch], one id a row of the batch, or [batch, k] for rows that are mixed from k examples; "
            f"got shape {tuple(found.shape)}"
        )
    return found.view(torch.int64) if found.dtype == torch.uint64 else found.to(torch.int64)


def _tensor_of(ids: Any) -> Tensor:
    values = np.asarray(ids) if hasattr(ids, "dtype") else np.asarray(ids, dtype=object)
    if values.dtype.kind in "iu":
        # Not shared with the caller, and torch takes neither reversed nor foreign-endian arrays.
        return torch.from_numpy(values.astype(values.dtype.newbyteorder("="), order="C"))
    each: list[Any] = [
        value.item() if isinstance(value, (Tensor, np.generic)) else value for value in values.ravel().tolist()
    ]
    kinds = {type(value) for value in each}
    if kinds == {str}:
        each = [_hashed(name) for name in each]
    elif kinds - {int} or values.dtype.kind not in "O":
        kind = values.dtype if values.dtype.kind not in "OU" else ", ".join(sorted(k.__name__ for k in kinds))
        raise TypeError(f"ids must be integers or names, got {kind}")
    if any(not -(1 << 63) <= value < 1 << 64 for value in each):
        raise UserError("ids must fit into 64 bits: pass larger ones as names, str(id)")
    bits = np.array([value & (1 << 64) - 1 for value in each], dtype=np.uint64)
    return torch.from_numpy(bits.view(np.int64).reshape(values.shape))


def _hashed(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
