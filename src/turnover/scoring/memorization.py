"""Memorization of training examples: the self-influence of an example under turn-over dropout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from turnover.errors import UserError
from turnover.reading.checks import Inputs, check_example_ids
from turnover.reading.outputs import NETWORKS, evaluate


def measures(losses: Mapping[str, Any]) -> dict[str, Any]:
    """The measures ``loss`` and ``probability`` [n] of `memorization`, as precise as the losses.

    Args:
        losses: cross-entropy in nats [n] by network, exposed and flipped at least: tensors, arrays or columns.
    """
    chances = probabilities(losses)
    return {"loss": losses["flipped"] - losses["exposed"], "probability": chances["exposed"] - chances["flipped"]}


def probabilities(losses: Mapping[str, Any]) -> dict[str, Any]:
    """Probability of the given label by network, from its loss in nats."""
    return {of: (-loss).exp() if isinstance(loss, Tensor) else np.exp(-loss) for of, loss in losses.items()}


def memorization(model: nn.Module, x: Inputs, y: Tensor, ids: Tensor, *, batch_size: int = 512) -> pd.DataFrame:
    """How much `model` memorized each example: what it says with the example's own sub-network, against the complement.

    Three measures, all positive where the example was memorized:
    ``loss`` = L(~m) - L(m) in nats, ``probability`` = p(m) - p(~m) of the given label, ``accuracy`` = 1[m right] -
    1[~m right] (Kobayashi et al. 2020, arXiv 2012.04207; the measures after Feldman & Zhang 2020, arXiv 2008.03703).

    For an example that the network never trained on (a placebo) the expected value is 0.

    Args:
        model: a network trained with turn-over dropout.
        x: inputs [n, ...], as the model takes them, on any device: batches go to that of the model.
        y: given labels [n], integers of any type.
        ids: example ids [n], the same as in training. Rows with one id share a mask; repeated ids are warned of.
        batch_size: examples a forward pass.

    Returns:
        One row an example, in the order of `ids`: ``id``, ``loss``, ``probability``, ``accuracy``, and what they were
        made of: ``loss_exposed``, ``loss_flipped``, ``loss_full`` (a good detector of wrong labels is ``loss_flipped``:
        the loss of a network that never saw the label).

    Raises:
        TypeError, ValueError: as for `turnover.reading.outputs.evaluate`; or an output is NaN or infinite.
    """
    check_example_ids(ids)
    values = evaluate(model, x, y, ids, batch_size=batch_size)
    losses = {of: values[f"loss_{of}"] for of in NETWORKS}
    wrong = ~torch.stack(list(losses.values())).isfinite().all(0)
    if bool(wrong.any()):  # so is the output that the loss was made of
        row = int(wrong.nonzero()[0])
        raise UserError(
            f"the network's output for row {row} (id {int(ids[row])}) is NaN or infinite, as for {int(wrong.sum())} of "
            f"{len(ids)} rows: did the training diverge, or does x hold NaN or huge values there?"
        )
    exposed, flipped = ((values[f"margin_{of}"] > 0).int() for of in ("exposed", "flipped"))
    found = measures(losses) | {"accuracy": exposed - flipped} | {f"loss_{of}": loss for of, loss in losses.items()}
    return pd.DataFrame({"id": ids.cpu().numpy(), **{name: column.numpy() for name, column in found.items()}})


def memorization_over_training(
    model: nn.Module,
    checkpoints: Iterable[Mapping[str, Tensor] | str | Path],
    x: Inputs,
    y: Tensor,
    ids: Tensor,
    *,
    batch_size: int = 512,
) -> pd.DataFrame:
    """`memorization` at each of several checkpoints of one training.

    Args:
        model: the network, with turn-over dropout inserted as in training. Its own weights are put back at the end.
        checkpoints: state dicts, or files of them as `torch.save` writes them; read one at a time.
        x, y, ids, batch_size: as for `memorization`.

    Returns:
        The rows of `memorization` for each checkpoint in turn, after a first column ``checkpoint`` (from 0).

    Raises:
        ValueError: there are no checkpoints, or as for `memorization`.
        RuntimeError: a checkpoint does not fit the network.
    """
    before = {key: value.clone() for key, value in model.state_dict().items()}
    frames = []
    try:
        for number, checkpoint in enumerate(checkpoints):
            if isinstance(checkpoint, (str, Path)):
                checkpoint = torch.load(checkpoint, map_location="cpu", weights_only=True)
            model.load_state_dict(checkpoint)
            frame = memorization(model, x, y, ids, batch_size=batch_size)
            frame.insert(0, "checkpoint", number)
            frames.append(frame)
    finally:
        model.load_state_dict(before)
    if not frames:
        raise ValueError("there are no checkpoints: give at least one")
    return pd.concat(frames, ignore_index=True)


def combine(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Mean memorization over independent runs, with its standard error.

    The runs should differ in the seeds of weights, order and masks: the standard error then covers all three.

    Args:
        frames: results of `memorization`, one a run, for the same examples in the same order; at least two.

    Returns:
        One row an example: ``id``, ``runs``, and for each measure its mean and, in the column ``..._se``, the standard
        error of the mean (sample standard deviation, n - 1, over the square root of the number of runs).

    Raises:
        ValueError: fewer than two runs, or the runs do not hold the same ids in the same order.
    """
    if len(frames) < 2:
        raise ValueError(f"a standard error needs at least 2 runs, got {len(frames)}")
    ids = frames[0]["id"].to_numpy()
    for number, frame in enumerate(frames):
        if not np.array_equal(frame["id"].to_numpy(), ids):
            raise ValueError(f"run {number} holds other ids, or in another order, than run 0")
    columns: dict[str, Any] = {"id": ids, "runs": len(frames)}
    for measure in ("loss", "probability", "accuracy"):
        values = np.stack([frame[measure].to_numpy(np.float64) for frame in frames])
        columns[measure] = values.mean(0)
        columns[f"{measure}_se"] = values.std(0, ddof=1) / np.sqrt(len(frames))
    return pd.DataFrame(columns)


def ensemble_memorization(
    models: Iterable[nn.Module], x: Inputs, y: Tensor, ids: Tensor, *, batch_size: int = 512
) -> pd.DataFrame:
    """`memorization` averaged over networks trained with different seeds: `combine` of one `memorization` each.

    Args:
        models: at least two networks; a generator is asked for one at a time, so that they need not fit in memory.
        x, y, ids, batch_size: as for `memorization`.

    Raises:
        ValueError: as for `memorization` and `combine`.
    """
    return combine([memorization(model, x, y, ids, batch_size=batch_size) for model in models])
