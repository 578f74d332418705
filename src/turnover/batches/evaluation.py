"""Losses and margins of tensors: what training records, without what anybody else's data need."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from turnover.batches.checks import check_labels, check_network
from turnover.batches.outputs import NETWORKS, Reader, class_logits, loss_and_margin
from turnover.batches.passes import device_of, evaluating, moved
from turnover.masking.ids import example_ids


def evaluate(model: nn.Module, x: Any, y: Tensor, ids: Tensor, *, batch_size: int = 256) -> dict[str, Tensor]:
    """Losses and margins of the three networks, in evaluation mode.

    Args:
        model: a classifier, with turn-over dropout or without.
        x: inputs [n, ...], a tensor or what gives one when sliced.
        y: labels [n], int64.
        ids: example ids [n].
        batch_size: examples a forward pass; results do not depend on it (beyond rounding).

    Returns:
        Float32 [n] on the CPU: ``loss_exposed``, ``margin_exposed``, ..., see `loss_and_margin`; a network without
        masks has those of the full one only.

    Raises:
        UserError: a label or id is outside of its range, or the network gives no class logits.
    """
    check_network(model)
    device, keys = device_of(model), example_ids(ids)
    reader = Reader(model)
    found: dict[str, list[Tensor]] = {}
    with evaluating(model):
        for start in range(0, len(keys), batch_size):
            rows = slice(start, start + batch_size)
            outputs, _ = reader(moved(x[rows], device), keys[rows] if reader.masked else None)
            labels = check_labels(y[rows], class_logits(outputs.full).shape[1]).to(device)
            for of in NETWORKS:
                if (logits := getattr(outputs, of)) is not None:
                    loss, margin = loss_and_margin(logits, labels)
                    found.setdefault(f"loss_{of}", []).append(loss.cpu())
                    found.setdefault(f"margin_{of}", []).append(margin.cpu())
    reader.finish()
    return {name: torch.cat(parts) for name, parts in found.items()}
