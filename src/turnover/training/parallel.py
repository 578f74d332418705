"""Data-parallel training with `torchrun`: every process takes its slice of every batch; gradients are averaged.

The mask of an example follows its id, not the process. A slice counts by its rows, so a last batch that does
not divide evenly gives the same gradient as in one process, up to rounding.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from turnover.batches.examples import Examples
from turnover.batches.processes import fill, shard


class Share(NamedTuple):
    """What this process does of a batch."""

    examples: Examples
    rows: int  # how many of them count
    weight: float  # of their mean loss: the mean over processes of the weighted losses is that of the whole batch


def share(batch: Examples) -> Share:
    """The slice of `batch` of this process. With fewer examples than processes, some take one that does not count."""
    own = shard()
    if own.processes == 1:
        return Share(batch, len(batch), 1.0)
    rows = _slice(len(batch))
    count = rows.stop - rows.start
    mine = batch[rows] if count else batch[:1]  # a network need not work without any row
    return Share(mine, count, own.processes * count / len(batch))


def wrapped(model: nn.Module) -> nn.Module:
    """`model` for the forward pass of training: with several processes, its gradients are averaged over them."""
    if shard().processes == 1:
        return model
    device = next(model.parameters()).device
    return nn.parallel.DistributedDataParallel(
        model, device_ids=[device.index] if device.type == "cuda" else None, gradient_as_bucket_view=True
    )


def spread(examples: Examples) -> Examples:
    """The examples that this process evaluates; `gathered` completes the results."""
    return examples if shard().processes == 1 else examples[_slice(len(examples))]


def gathered(mine: Tensor, total: int, device: torch.device) -> Tensor:
    """Results [total] of all examples from those of this process's share, on the CPU.

    Args:
        mine: results of `spread`'s examples.
        total: how many examples there are in all.
        device: a device whose tensors the processes can exchange.
    """
    if shard().processes == 1:
        return mine
    whole = torch.zeros(total, dtype=mine.dtype, device=device)
    rows = _slice(total)
    whole[rows] = mine.to(device)
    return fill([rows], whole).cpu()


def added(values: list[float], device: torch.device) -> list[float]:
    """The sum of each value over processes."""
    if shard().processes == 1:
        return values
    sums = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(sums)
    found: list[float] = sums.tolist()
    return found


def _slice(length: int) -> slice:
    """The rows of this process out of `length`, as even as possible."""
    own = shard()
    return slice(own.number * length // own.processes, (own.number + 1) * length // own.processes)
