"""Activation checkpointing and sub-networks: a forward pass that runs again must run under the same masks.

A checkpoint throws activations away and re-runs the forward pass during the backward pass. Under other masks than the
first time, that would give a wrong gradient without a word; here it gives an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

RERUN = (
    "activation checkpointing re-ran the forward pass under another sub-network than the first time: "
    "call backward() inside the same `with subnetwork(...)`"
)


@dataclass(eq=False)
class Selection:
    """Which sub-network each row of a batch passes through.

    Args:
        ids: int64 [batch], or [batch, k] for rows that are mixed from k examples.
        flipped: whether through the complements.
        off: through none: every masked unit is 0, whatever the ids (`turnover.masking.probing`).
        reached: whether a masked layer has run under it.
        rows: where `off`, how many rows each masked layer got that ran.
    """

    ids: Tensor
    flipped: bool
    off: bool = False
    reached: bool = False
    rows: list[int] = field(default_factory=list)


def in_backward() -> bool:
    """Whether this thread is inside of a backward pass."""
    return torch._C._current_graph_task_id() != -1


def saved_tensors_hooks() -> bool:
    """Whether hooks on saved tensors are active: this is how a checkpoint (``use_reentrant=False``) works."""
    return torch._C._autograd._top_saved_tensors_default_hooks(False) is not None


def refuse_blind_rerun() -> None:
    """Raise RuntimeError in a re-run that nothing can be compared with: reentrant checkpoints save no tensors."""
    if in_backward() and not saved_tensors_hooks():
        raise RuntimeError(
            "reentrant activation checkpointing cannot tell which sub-network its forward pass used: "
            "pass use_reentrant=False"
        )


def same_selection(x: Tensor, selection: Selection | None) -> Tensor:
    """`x` itself, in a graph whose backward pass raises RuntimeError if a re-run used another selection."""
    # The anchor needs a gradient, also where `x` does not: so the check is always part of the graph.
    return _SameSelection.apply(x, torch.zeros((), requires_grad=True), selection)  # type: ignore[no-any-return]


class _SameSelection(torch.autograd.Function):
    """The identity. Its backward raises if a checkpoint re-ran the forward pass under another selection.

    What it saves for backward is made again by the re-run; what it keeps on `ctx` is from the first run.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, anchor: Tensor, selection: Selection | None) -> Tensor:
        ids, kind = _identity(selection, len(x))
        ctx.first = ids, kind
        ctx.save_for_backward(ids, kind)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if not all(torch.equal(*pair) for pair in zip(ctx.saved_tensors, ctx.first, strict=True)):
            raise RuntimeError(RERUN)
        return grads[0], None, None


def _identity(selection: Selection | None, rows: int) -> tuple[Tensor, Tensor]:
    """A selection as tensors of one shape whatever it is: ids [rows]; 0 (none), 1 (exposed) or 2 (flipped)."""
    if selection is None:
        return torch.zeros(rows, dtype=torch.int64), torch.tensor(0)
    ids = selection.ids.to("cpu", torch.int64)
    if ids.dim() == 2:  # a row's ids as one number; the multiplier is odd, so each of them counts in full
        ids = (ids * (2 * torch.arange(ids.shape[1]) + 3) ** 13).sum(1)
    return ids, torch.tensor(2 if selection.flipped else 1)
