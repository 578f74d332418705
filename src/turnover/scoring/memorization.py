"""Memorization of training examples: the self-influence of an example under turn-over dropout."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from turnover.batches.checks import check_network, warn_of_repeats
from turnover.batches.outputs import NETWORKS
from turnover.batches.passes import DEFAULT_MEMORY, device_of
from turnover.batches.tap import Features
from turnover.errors import UserError
from turnover.masking.calling import Forward
from turnover.masking.layer import masked_layers
from turnover.reading.features import LARGEST
from turnover.reading.one_pass import read
from turnover.reading.options import check_options
from turnover.reading.readings import Readings, why_no_features
from turnover.scoring.frames import with_id_column
from turnover.scoring.measures import measures
from turnover.scoring.neighbourhood import around
from turnover.scoring.sharpening import sharpened

_FIRST = ["id", "loss", "probability", "accuracy", "sharpened", "leverage", "support"]


def memorization(
    model: nn.Module | Iterable[nn.Module],
    x: Any,
    y: Any = None,
    ids: Any = None,
    *,
    neighbours: bool = True,
    batch_size: int = 256,
    classes: Sequence[str] | None = None,
    features: Features = None,
    forward: Forward | None = None,
    memory: int = DEFAULT_MEMORY,
    progress: bool | None = None,
) -> pd.DataFrame:
    """How much `model` memorized each example: what it says with the example's own sub-network, against the complement.

    Three measures, all positive where the example was memorized:
    ``loss`` = L(~m) - L(m) in nats, ``probability`` = p(m) - p(~m) of the given label, ``accuracy`` = 1[m right] -
    1[~m right] (Kobayashi et al. 2020, arXiv 2012.04207; the measures after Feldman & Zhang 2020, arXiv 2008.03703).
    For an example that the network never trained on (a placebo) the expected value is 0.

    Beside them ``sharpened``, the ranking nearest to retraining (see `turnover.sharpen`), and what it is made of:
    ``leverage`` and ``support`` (see `turnover.neighbourhood`). To find wrong labels, sort by ``support``: the lowest
    first.

    >>> model = insert(torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2)))
    >>> x, y = torch.randn(20, 4), torch.arange(20) % 2
    >>> scores = memorization(model, torch.utils.data.TensorDataset(x, y))
    >>> list(scores.columns[:5])
    ['id', 'loss', 'probability', 'accuracy', 'sharpened']
    >>> same = memorization(model, x, y, torch.arange(20))
    >>> bool((scores["loss"] == same["loss"]).all())
    True

    Args:
        model: a network trained with turn-over dropout, or several (other seeds): then the result is that of `combine`
            (of a list of one: that of the network).
        x, y, ids: the training examples, all of them, as for `turnover.read`; or `Readings` of them (of several
            networks a list). Ids are the same as in training. Rows with one id share a mask; repeated ids are warned
            of.
        neighbours: False leaves ``sharpened``, ``leverage`` and ``support`` out: for examples that are not the training
            examples, such as placebos.
        features: see `turnover.neighbourhood`.
        batch_size, classes, forward, memory, progress: as for `turnover.read`.

    Returns:
        One row an example, in the order of the data set: ``id``, ``loss``, ``probability``, ``accuracy``, ``sharpened``
        and what they were made of: ``leverage``, ``support``, ``loss_exposed``, ``loss_flipped``, ``loss_full`` (a good
        detector of wrong labels is ``loss_flipped``: the loss of a network that never saw the label). A network without
        features to compare (see `turnover.read`) has no ``sharpened``, ``leverage`` and ``support``: there is a
        warning.

    Raises:
        TypeError, ValueError: as for `turnover.read`; the model has no turn-over dropout; or an output is NaN or
            infinite.
    """
    options: dict[str, Any] = {"neighbours": neighbours, "batch_size": batch_size, "classes": classes}
    options |= {"features": features, "forward": forward, "memory": memory, "progress": progress}
    check_options(**options)
    if not isinstance(model, nn.Module) or isinstance(model, nn.ModuleList):
        return _of_several(list(_one_each(model, x, y, ids, options)))
    if not masked_layers(model):
        raise UserError("the model has no turn-over dropout: call insert(model, ...) first")
    if isinstance(x, (list, tuple)) and x and isinstance(x[0], Readings):
        raise UserError(f"{len(x)} readings but one network: pass the one that is of this network")
    if isinstance(x, Readings):
        found = x.of(model)
    else:
        found = read(
            model, x, y, ids, features=features if neighbours else False, batch_size=batch_size, classes=classes,
            forward=forward, memory=memory // 2, progress=progress,
        )  # fmt: skip
    warn_of_repeats(found.names)
    scores = self_influence(found)
    if not neighbours:
        return scores
    if found.features is None or found.features.width > LARGEST:
        why = why_no_features(found, "the examples", given=isinstance(x, Readings))
        warnings.warn(f"the scores have no column sharpened: {why}, or pass neighbours=False", stacklevel=2)
        return scores
    near = around(found.features, found.labels, memory=memory // 2, device=device_of(model))
    scores = sharpened(scores, pd.DataFrame(near))
    return scores[[*_FIRST, *(name for name in scores if name not in _FIRST)]]


def _one_each(models: Any, x: Any, y: Any, ids: Any, options: dict[str, Any]) -> Iterator[pd.DataFrame]:
    """`memorization` of each of several networks, which are asked for one at a time."""
    several = isinstance(x, (list, tuple)) and bool(x) and all(isinstance(of, Readings) for of in x)
    number = 0
    if isinstance(models, str) or not isinstance(models, Iterable):
        models = [models]
    for number, model in enumerate(models, 1):
        check_network(model)
        if number > 1 and isinstance(x, Iterator):
            raise UserError(
                "an iterator is gone through once, and there are several networks: pass a data set or loader"
            )
        if several and number > len(x):
            raise UserError(f"more networks than the {len(x)} readings: pass one for each")
        yield memorization(model, x[number - 1] if several else x, y, ids, **options)
    if not number:
        raise UserError("no model was given: pass a torch.nn.Module, or several")
    if several and number < len(x):
        raise UserError(f"{number} networks but {len(x)} readings: pass one for each")


def _of_several(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """`combine` of frames that networks gave for the same data; the frame itself of a single one.

    Rows with one id, which `combine` could not tell apart, are joined by their places where all frames have the same
    ids in the same order.
    """
    if len(frames) == 1:
        return frames[0]
    if all(np.array_equal(frame["id"].to_numpy(), frames[0]["id"].to_numpy()) for frame in frames):
        return _means([frame.set_index("id") for frame in frames])
    return combine(frames)


def self_influence(found: Readings) -> pd.DataFrame:
    """The three measures, from readings of the training examples (see `memorization`)."""
    if "loss_exposed" not in found.values:
        raise UserError("the readings are of the full network only: call read without masked=False")
    losses = {of: found.values[f"loss_{of}"] for of in NETWORKS}
    wrong = ~torch.stack(list(losses.values())).isfinite().all(0)
    if bool(wrong.any()):  # so is the output that the loss was made of
        row = int(wrong.nonzero()[0])
        raise UserError(
            f"the network's output for row {row} (id {found.names[row]}) is NaN or infinite, as for {int(wrong.sum())} "
            f"of {len(found)} rows: did the training diverge, or does x hold NaN or huge values there?"
        )
    exposed, flipped = ((found.values[f"margin_{of}"] > 0).int() for of in ("exposed", "flipped"))
    columns = measures(losses) | {"accuracy": exposed - flipped} | {f"loss_{of}": loss for of, loss in losses.items()}
    return pd.DataFrame({"id": found.names, **{name: column.numpy() for name, column in columns.items()}})


def memorization_over_training(
    model: nn.Module,
    checkpoints: Iterable[Mapping[str, Tensor] | str | Path],
    x: Any,
    y: Any = None,
    ids: Any = None,
    *,
    batch_size: int = 256,
) -> pd.DataFrame:
    """`memorization` at each of several checkpoints of one training.

    >>> model = insert(torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2)))
    >>> x, y = torch.randn(6, 4), torch.arange(6) % 2
    >>> frame = memorization_over_training(model, [model.state_dict()] * 3, x, y, torch.arange(6))
    >>> frame.groupby("checkpoint").size().tolist()
    [6, 6, 6]

    Args:
        model: the network, with turn-over dropout inserted as in training. Its own weights are put back at the end.
        checkpoints: state dicts, or files of them as `torch.save` writes them; read one at a time.
        x, y, ids, batch_size: as for `memorization`; read once for each checkpoint.

    Returns:
        The rows of `memorization`, without what the neighbours say, for each checkpoint in turn, after a first column
        ``checkpoint`` (from 0).

    Raises:
        ValueError: there are no checkpoints, or as for `memorization`.
        RuntimeError: a checkpoint does not fit the network.
    """
    check_network(model)
    check_options(batch_size=batch_size)
    if isinstance(checkpoints, (Mapping, str, Path)):
        raise TypeError("checkpoints is a single checkpoint: pass a list of state dicts or files")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    frames = []
    try:
        for number, checkpoint in enumerate(checkpoints):
            model.load_state_dict(_state_of(checkpoint, number))
            frame = memorization(model, x, y, ids, batch_size=batch_size, neighbours=False)
            frame.insert(0, "checkpoint", number)
            frames.append(frame)
    finally:
        model.load_state_dict(before)
    if not frames:
        raise ValueError("there are no checkpoints: give at least one")
    return pd.concat(frames, ignore_index=True)


def _state_of(checkpoint: Any, number: int) -> Mapping[str, Tensor]:
    """The state dict that a checkpoint is, or holds."""
    if isinstance(checkpoint, (str, Path)):
        if not Path(checkpoint).is_file():
            raise UserError(
                f"checkpoint {number}, {checkpoint}, is not there: pass the path of a file, or a state dict"
            )
        checkpoint = torch.load(checkpoint, map_location="cpu", weights_only=True)
    if not isinstance(checkpoint, Mapping):
        raise TypeError(f"checkpoint {number} is a {type(checkpoint).__name__}: pass a state dict, or a file of one")
    return checkpoint


def combine(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Mean memorization over independent runs, with its standard error.

    The runs should differ in the seeds of weights, order and masks: the standard error then covers all three.

    >>> one = pd.DataFrame({"id": [7, 8], "loss": [1.0, 2.0]})
    >>> combine([one, pd.DataFrame({"id": [8, 7], "loss": [4.0, 3.0]})]).round(2).to_dict("list")
    {'id': [7, 8], 'runs': [2, 2], 'loss': [2.0, 3.0], 'loss_se': [1.0, 1.0]}

    Args:
        frames: results of `memorization`, one a run, of the same examples in any order; at least two.

    Returns:
        One row an example, in the order of the first frame: ``id``, ``runs``, and of each column that all frames have
        its mean (of numbers) and, in the column ``..._se``, the standard error of the mean (sample standard deviation,
        n - 1, over the square root of the number of runs).

    Raises:
        ValueError: fewer than two runs, the runs do not hold the same ids, or an id stands in one twice.
    """
    if isinstance(frames, pd.DataFrame):
        raise TypeError("frames is a single frame: pass a list of frames, one a run")
    frames = [with_id_column(frame, f"run {number}", "memorization") for number, frame in enumerate(frames)]
    if any("id" not in frame for frame in frames):
        raise ValueError("a frame has no column id: pass frames of memorization")
    if len(frames) < 2:
        raise ValueError(f"a standard error needs at least 2 runs, got {len(frames)}")
    ids = pd.Index(frames[0]["id"])
    aligned = []
    for number, frame in enumerate(frames):
        by_id = frame.set_index("id")
        if not by_id.index.is_unique:
            raise ValueError(
                f"run {number} holds an id twice, and scores are joined by id: give every example an id of its own, or "
                "pass all networks to one call of memorization"
            )
        if len(by_id) != len(ids) or not ids.isin(by_id.index).all():
            raise ValueError(f"run {number} holds other ids than run 0")
        aligned.append(by_id.loc[ids])
    return _means(aligned)


def _means(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """The result of `combine`, of frames with ids as their index, whose rows are of the same examples."""
    columns: dict[str, Any] = {"id": frames[0].index, "runs": len(frames)}
    for name in frames[0].columns:
        if all(name in frame and pd.api.types.is_numeric_dtype(frame[name]) for frame in frames):
            values = np.stack([frame[name].to_numpy(np.float64) for frame in frames])
            columns[name] = values.mean(0)
            columns[f"{name}_se"] = values.std(0, ddof=1) / np.sqrt(len(frames))
    return pd.DataFrame(columns)
