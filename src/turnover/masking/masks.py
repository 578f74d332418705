"""Instance masks: which units of a layer a training example may use.

The mask of an example is a pure function of ``(seed, layer, id, unit)``. It is computed with 32-bit
integer arithmetic that wraps around, so every device and every batch gives the same bits, and nothing is
drawn from (or written to) a random number generator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from turnover.errors import UserError
from turnover.masking.ids import example_ids

# Finalizer of the "low bias" 32-bit integer hash family (C. Wellons, hash prospector; public domain):
# x ^= x >> 16; x *= M1; x ^= x >> 15; x *= M2; x ^= x >> 15. Both multipliers are odd and below 2**31.
_M1 = 0x21F0AAAD
_M2 = 0x735A2D97
_GOLDEN = 0x9E3779B9 - (1 << 32)  # 2**32 / golden ratio, as a signed 32-bit integer

# Elements hashed at once: bounds the scratch memory (about 20 bytes an element) whatever the number of ids.
_BLOCK_ELEMENTS = 1 << 20


def _mix(x: Tensor) -> Tensor:
    """Scramble int32 values one to one, in place. ``>>`` keeps the sign, hence the bit masks."""
    scratch = torch.empty_like(x)
    for shift, multiplier in ((16, _M1), (15, _M2), (15, 1)):
        torch.bitwise_right_shift(x, shift, out=scratch)
        x ^= scratch.bitwise_and_((1 << (32 - shift)) - 1)
        if multiplier != 1:
            x *= multiplier
    return x


def _mix_scalar(value: int) -> int:
    """`_mix` of one Python integer, as an unsigned 32-bit value."""
    value &= 0xFFFFFFFF
    value ^= value >> 16
    value = (value * _M1) & 0xFFFFFFFF
    value ^= value >> 15
    value = (value * _M2) & 0xFFFFFFFF
    value ^= value >> 15
    return value


def _signed(value: int) -> int:
    """An unsigned 32-bit value as the int32 with the same bits."""
    return value - (1 << 32) if value >= 1 << 31 else value


def halves(ids: Tensor) -> tuple[Tensor, Tensor]:
    """The lower and the upper 32 bits of integer `ids`, int32 each."""
    ids = ids.to(torch.int64)
    low = ids & 0xFFFFFFFF
    low = torch.where(low >= 1 << 31, low - (1 << 32), low).to(torch.int32)
    return low, (ids >> 32).to(torch.int32)


def kept_units(units: int, keep: float) -> int:
    """How many of `units` units a mask keeps: ``round(keep * units)``.

    Raises:
        ValueError: `units` is below 2, `keep` is not inside (0, 1), or nothing (or everything) would be kept.
    """
    if units < 2:
        raise ValueError(f"units={units}: a masked layer needs at least 2 units")
    if not 0.0 < keep < 1.0:
        raise ValueError(f"keep={keep}: the kept fraction must lie strictly between 0 and 1")
    kept = round(keep * units)
    if not 0 < kept < units:
        raise ValueError(
            f"keep={keep} of {units} units keeps {kept}: choose keep so that between 1 and {units - 1} "
            "units are kept, or else one of the two sub-networks is empty"
        )
    return kept


def scales(keep: float) -> tuple[float, float]:
    """What the units of the exposed and of the flipped network are multiplied with: the full one sees their mean."""
    return 1.0 / keep, 1.0 / (1.0 - keep)


class InstanceMasks:
    """The masks of every possible example for one layer of `units` units.

    >>> masks = InstanceMasks(units=8, keep=0.5, seed=0)
    >>> exposed, flipped = masks(torch.tensor([3])), masks(torch.tensor([3]), flipped=True)
    >>> int(exposed.sum()), bool((exposed ^ flipped).all())
    (4, True)

    Each example keeps exactly ``round(keep * units)`` units: those with the smallest 32-bit hash values. For one
    example the hash is one-to-one in the unit, so there are no ties, and every subset is as likely as any other as
    far as the hash is random. The 64-bit state of an example (two 32-bit hashes of seed, layer and id) makes
    equal masks for two ids as unlikely as a 64-bit collision.

    Args:
        units: width of the masked layer.
        keep: fraction of units an example trains, inside (0, 1).
        seed: any integer of 64 bits; masks of different seeds are independent.
        layer: number of the masked layer in its network; masks of different layers are independent.
        cache_bytes: remember masks of ids on the CPU, one bit a unit, for all ids below ``8 * cache_bytes / units``;
            others are made again each time. 0: remember nothing.

    Raises:
        ValueError: an argument is out of range (see `kept_units`).
    """

    def __init__(self, units: int, keep: float = 0.5, *, seed: int = 0, layer: int = 0, cache_bytes: int = 0) -> None:
        self.units = units
        self.keep = keep
        self.seed = seed
        self.layer = layer
        self.kept = kept_units(units, keep)
        self._width = -(-units // 8)
        self._cache = _Cache(cache_bytes // self._width, self._width)
        low, high = seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF
        first = _mix_scalar(low ^ 0x243F6A88)
        first = _mix_scalar(first ^ high)
        self._key_a = _mix_scalar(first ^ _mix_scalar(layer ^ 0x85A308D3))
        self._key_b = _mix_scalar(self._key_a ^ 0x13198A2E)

    def __repr__(self) -> str:
        return f"InstanceMasks(units={self.units}, keep={self.keep}, seed={self.seed}, layer={self.layer})"

    def __call__(self, ids: Any, *, flipped: bool = False) -> Tensor:
        """The masks of `ids`.

        Args:
            ids: example ids [n] as `example_ids` takes them.
            flipped: give the complement, the units the example never trains.

        Returns:
            bool tensor [n, units] on the device of `ids`; True where the unit is used.

        Raises:
            TypeError: `ids` are neither integers nor names.
            ValueError: `ids` is not one-dimensional.
        """
        ids = _one_an_example(example_ids(ids))
        if self._cache.rows and ids.device.type == "cpu" and not torch.compiler.is_compiling():
            chosen = self.unpack(self._cache.rows_of(ids, self.packed))
            return ~chosen if flipped else chosen
        out = torch.empty(len(ids), self.units, dtype=torch.bool, device=ids.device)
        for rows in self._blocks(len(ids)):
            chosen = self._block(ids[rows])
            out[rows] = ~chosen if flipped else chosen
        return out

    def packed(self, ids: Any) -> Tensor:
        """The masks of `ids`, eight units a byte (unit u is bit ``u % 8`` of byte ``u // 8``).

        Args:
            ids: example ids [n] as `example_ids` takes them.

        Returns:
            uint8 tensor [n, ceil(units / 8)]. Peak memory is this plus one block of scratch.

        Raises:
            TypeError, ValueError: as for a call.
        """
        ids = _one_an_example(example_ids(ids))
        out = torch.empty(len(ids), self._width, dtype=torch.uint8, device=ids.device)
        places = 2.0 ** torch.arange(8, device=ids.device)
        for rows in self._blocks(len(ids)):
            bits = torch.nn.functional.pad(self._block(ids[rows]), (0, self._width * 8 - self.units))
            out[rows] = (bits.view(-1, self._width, 8).float() @ places).to(torch.uint8)  # sums to 255: exact
        return out

    def unpack(self, packed: Tensor, dtype: torch.dtype = torch.bool) -> Tensor:
        """Undo `packed`: uint8 [n, ceil(units / 8)] to [n, units] of `dtype`."""
        octets = (torch.arange(256, device=packed.device).unsqueeze(1) >> torch.arange(8, device=packed.device)) & 1
        # A row of eight bools is copied as one 64-bit word.
        words = octets.to(torch.bool).view(torch.int64).squeeze(1)
        bits = words.take(packed.long()).view(torch.bool)
        return bits[:, : self.units].to(dtype)

    def _blocks(self, count: int) -> Iterator[slice]:
        """Slices of `count` rows that are hashed at once."""
        rows = max(1, _BLOCK_ELEMENTS // self.units)
        return (slice(start, start + rows) for start in range(0, count, rows))

    def _block(self, ids: Tensor) -> Tensor:
        """Masks of a few ids: hash every (id, unit), keep the `kept` smallest of each row."""
        low, high = halves(ids)
        row_a = _mix(_mix(low ^ _signed(self._key_a)) ^ high)
        row_b = _mix(_mix(low ^ _signed(self._key_b)) ^ high)
        unit = torch.arange(self.units, dtype=torch.int32, device=ids.device)
        # Two rounds, one for each half of the row's 64-bit state.
        keys = _mix(_mix(row_a.unsqueeze(1) + unit * _GOLDEN) ^ row_b.unsqueeze(1))
        # The keys of a row all differ, so exactly `kept` reach the largest of the smallest ones, on every device and
        # whatever the selection algorithm. (topk is the fastest selection, and runs on all threads.)
        smallest = keys.topk(self.kept, dim=1, largest=False, sorted=False).values
        return keys <= smallest.amax(1, keepdim=True)


class _Cache:
    """Packed masks of the ids 0 .. rows - 1, filled in as they are asked for.

    It grows with the largest id seen, up to `rows`. Threads may race: a row is written before it is marked as
    known, and a mask is the same whoever makes it, so the worst that happens is that one is made twice.
    """

    def __init__(self, rows: int, width: int) -> None:
        self.rows = rows
        self._store = torch.empty(0, width, dtype=torch.uint8), torch.empty(0, dtype=torch.bool)

    def rows_of(self, ids: Tensor, make: Callable[[Tensor], Tensor]) -> Tensor:
        """Packed masks [n, width] of `ids`, made by `make` where they are not known."""
        if not len(ids) or int(ids.min()) < 0 or int(ids.max()) >= self.rows:
            return make(ids)
        ids = ids.long()
        packed, known = self._grown(int(ids.max()) + 1)
        missing = ids[~known[ids]]
        if len(missing):
            packed[missing] = make(missing)
            known[missing] = True
        return packed[ids]

    def _grown(self, rows: int) -> tuple[Tensor, Tensor]:
        packed, known = self._store
        if rows > len(known):
            new = min(self.rows, max(rows, 2 * len(known), 1024))
            larger = packed.new_empty(new, packed.shape[1]), known.new_zeros(new)
            larger[0][: len(known)], larger[1][: len(known)] = packed, known
            self._store = packed, known = larger
        return packed, known


def _one_an_example(ids: Tensor) -> Tensor:
    if ids.dim() != 1:
        raise UserError(f"ids must be one-dimensional, one id an example; got shape {tuple(ids.shape)}")
    return ids
