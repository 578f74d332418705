"""Targets divided over the processes of `torchrun`; every process ends with the whole summary."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor


class Shard(NamedTuple):
    """One of several processes."""

    number: int
    processes: int


def shard() -> Shard:
    """This process among those of the default process group; alone if there is none."""
    if dist.is_available() and dist.is_initialized():
        return Shard(dist.get_rank(), dist.get_world_size())
    return Shard(0, 1)


def wait() -> None:
    """Until all processes are here."""
    if shard().processes > 1:
        dist.barrier()


def fill(mine: list[slice], whole: Tensor) -> Tensor:
    """Complete `whole` [target, ...], whose rows at `mine` this process knows, from the others."""
    if shard().processes == 1:
        return whole
    known = torch.zeros_like(whole)
    for part in mine:
        known[part] = whole[part]
    dist.all_reduce(known)
    return known


def total(sums: Tensor, device: torch.device) -> Tensor:
    """Add up over processes, on the CPU; they exchange tensors of `device`."""
    if shard().processes == 1:
        return sums
    exchanged = sums.to(device, copy=True)
    dist.all_reduce(exchanged)
    return exchanged.cpu()


def best(ids: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """The k largest of all processes' own k largest: ids and values [line, k], sorted."""
    count = shard().processes
    if count == 1:
        return ids, values
    all_ids = [torch.empty_like(ids) for _ in range(count)]
    all_values = [torch.empty_like(values) for _ in range(count)]
    dist.all_gather(all_ids, ids.contiguous())
    dist.all_gather(all_values, values.contiguous())
    values, place = torch.cat(all_values, 1).topk(ids.shape[1], dim=1)
    return torch.cat(all_ids, 1).gather(1, place), values
