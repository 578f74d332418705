"""Memorization from a whole training instead of its last step, and sharpened by how alone an example stands.

A score of the last checkpoint is a snapshot of two sub-networks that are both sure of themselves. Averaged over the
training it also tells how fast an example was learned, and by which of the networks.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from turnover.batches.outputs import NETWORKS
from turnover.scoring.frames import with_id_column
from turnover.scoring.measures import measures, probabilities

# Fixed; agreement with retraining is flat around it: docs/method.md.
STEP = 40.0  # leverages are of least squares, whose curvature is larger than that of a label nearly known
_LEAST = 1e-3  # no probability is smaller


def average_over_training(frame: pd.DataFrame) -> pd.DataFrame:
    """Every example's scores averaged over the checkpoints of one training, each with the same weight.

    >>> model = insert(torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2)))
    >>> x, y, checkpoints = torch.randn(6, 4), torch.arange(6) % 2, [model.state_dict()] * 3
    >>> mean = average_over_training(memorization_over_training(model, checkpoints, x, y, torch.arange(6)))
    >>> mean["id"].tolist(), bool(mean["contrast"].between(0, 1).all())
    ([0, 1, 2, 3, 4, 5], True)

    Args:
        frame: of `memorization_over_training`, or of `turnover.training.dynamics.Dynamics.frame()`; there epoch 0, the
            untrained network, does not count.

    Returns:
        One row an example, in the order of their first rows: ``id``; the measures ``loss``, ``probability``,
        ``accuracy``, as in `memorization`; ``loss_exposed``, ``loss_flipped``, ``loss_full`` (the cumulative loss,
        divided by the number of checkpoints); the probabilities of the given label ``probability_exposed``,
        ``probability_flipped``, ``probability_full`` (low: a suspect label); and ``contrast``, the mean of
        ``p_exposed * (1 - (p_full + p_flipped) / 2)``: the own sub-network knows the label, while the networks that
        did not, or only half, learn it from the example itself do not.

    Raises:
        ValueError: columns are missing, no checkpoint is left, or an example is missing at some checkpoint.
    """
    frame = with_id_column(frame, "frame", "memorization_over_training")
    time = next((column for column in ("checkpoint", "epoch") if column in frame), "checkpoint")
    missing = [column for column in (time, "id", *(f"loss_{of}" for of in NETWORKS)) if column not in frame]
    if missing:
        raise ValueError(
            f"the frame has no column {missing[0]!r}: pass what memorization_over_training or Dynamics.frame() gave"
        )
    if time == "epoch":
        frame = frame[frame["epoch"] > 0]
    if (twice := frame.duplicated([time, "id"])).any():
        raise ValueError(
            f"id {frame['id'][twice].iloc[0]} stands there more than once at one {time}, and scores are averaged by "
            "id: give every example an id of its own"
        )
    counts = frame.groupby("id", sort=False).size()
    if not len(counts) or counts.nunique() != 1 or counts.iloc[0] != frame[time].nunique():
        raise ValueError("there must be at least one trained checkpoint, and every example once at each")
    losses = {of: frame[f"loss_{of}"].astype(np.float64) for of in NETWORKS}
    chances = probabilities(losses)
    if "accuracy" in frame:
        accuracy = frame["accuracy"].astype(np.float64)
    else:  # `Dynamics` tells instead which networks are right
        accuracy = frame["correct_exposed"].astype(np.float64) - frame["correct_flipped"].astype(np.float64)
    columns = {"id": frame["id"], **measures(losses), "accuracy": accuracy}
    columns |= {f"loss_{of}": losses[of] for of in NETWORKS}
    columns |= {f"probability_{of}": chances[of] for of in NETWORKS}
    columns["contrast"] = _contrast(**chances)
    return pd.DataFrame(columns).groupby("id", sort=False).mean().reset_index()


def sharpen(frame: pd.DataFrame, near: pd.DataFrame) -> pd.DataFrame:
    """Memorization times leverage: nearer to subset retraining than the three measures, see docs/method.md.

    >>> model = insert(torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2)))
    >>> data = torch.utils.data.TensorDataset(torch.randn(30, 4), torch.arange(30) % 2)
    >>> scores, near = memorization(model, data, neighbours=False), neighbourhood(model, data)
    >>> ranked = sharpen(scores.sort_values("loss"), near)  # joined by id
    >>> [name for name in ranked if name not in scores]
    ['leverage', 'support', 'sharpened']

    What would the network say of the label, had it not seen the example? Of that three others than the own sub-network
    tell, with equal weights: the full and the flipped network, on average over training, and the examples nearby
    (``support``). Their mean is q. Taking the example into training then moves its log-odds by one Newton step of
    logistic regression, whose curvature is that of q::

        d = s (1 - q) / (1 + s q (1 - q)),  s = 40 * leverage        sharpened = sigmoid(logit(q) + d) - q

    The result is a difference of probabilities, as retraining would show it. It is not centred on 0 for placebos, so
    calibration is for the measures of `memorization`. Of several runs, take the mean of this column.

    Args:
        frame: of `average_over_training`, or of `turnover.memorization` where only the last checkpoint is at hand: the
            training examples only.
        near: of the same examples, in any order, from `turnover.neighbourhood`: joined by the column ``id``, or where
            it has none (inputs without ids) by the index, which frames keep when they are sorted or filtered.

    Returns:
        A copy of the frame with the further columns ``leverage``, ``support`` and ``sharpened``, the larger the more
        memorized.

    Raises:
        ValueError: an example of `frame` is not in `near`, or is there twice; the two are of different examples; or
            columns are missing.
    """
    return sharpened(frame, _of_the_same(frame, near))


def sharpened(frame: pd.DataFrame, near: pd.DataFrame) -> pd.DataFrame:
    """`sharpen` of frames that are known to have the same examples in the same rows."""
    missing = [column for column in ("loss_full", "loss_flipped") if column not in frame]
    missing += [column for column in ("leverage", "support") if column not in near]
    if missing:
        raise ValueError(
            f"a frame has no column {missing[0]!r}: pass one of memorization or average_over_training, and "
            "one of neighbourhood"
        )
    full, flipped = (
        frame[f"probability_{of}"].to_numpy()
        if f"probability_{of}" in frame
        else np.exp(-frame[f"loss_{of}"].to_numpy(np.float64))
        for of in ("full", "flipped")
    )
    leverage, support = near["leverage"].to_numpy(), near["support"].to_numpy()
    score = newton_step(leverage, (support + full + flipped) / 3)
    return frame.assign(leverage=leverage, support=support, sharpened=score)


def newton_step(leverage: np.ndarray, before: np.ndarray) -> np.ndarray:
    """By how much an example's own label raises its probability, from what it would be without it.

    Args:
        leverage: in [0, 1].
        before: probability of the label without the example.
    """
    before = (before + _LEAST) / (1 + 2 * _LEAST)
    step = STEP * leverage
    moved = step * (1 - before) / (1 + step * before * (1 - before))
    return np.asarray(expit(logit(before) + moved) - before)


def _of_the_same(frame: pd.DataFrame, near: pd.DataFrame) -> pd.DataFrame:
    """The rows of `near`, each for the example of `frame` in the same row."""
    frame = with_id_column(frame, "frame", "memorization")
    near = with_id_column(near, "near", "neighbourhood")
    if "contrast" in frame and ("id" in near) != ("id" in frame):
        warnings.warn(
            "one of the frames has no ids, so rows are joined by their index, and nothing tells whether it was reset: "
            "pass ids to neighbourhood, too",
            stacklevel=3,
        )
    if "id" in near and "id" in frame:
        near, wanted, by = near.set_index("id"), pd.Index(frame["id"]), "id"
    else:
        wanted, by = frame.index, "index"
    if not near.index.is_unique:
        raise ValueError(
            f"the frame of the neighbourhood holds {by} {near.index[near.index.duplicated()][0]} twice, and rows are "
            "joined by it: give every example an id of its own, or call memorization, which sharpens by itself"
        )
    missing = wanted[~wanted.isin(near.index)]
    if len(missing) or len(wanted) > len(near):
        first = f"{by} {missing[0]}" if len(missing) else "some"
        raise ValueError(
            f"{len(frame)} examples but {len(near)} of the neighbourhood, which lacks {first}: pass frames of the same "
            "examples, with the same ids"
        )
    found: pd.DataFrame = near.loc[wanted]
    if "loss_full" in near and "loss_full" in frame and "contrast" not in frame:
        apart = ~np.isclose(found["loss_full"].to_numpy(), frame["loss_full"].to_numpy(), rtol=1e-3, atol=1e-3)
        if apart.any():
            raise ValueError(
                f"{int(apart.sum())} of {len(frame)} rows are of other examples, or of another network, than those of "
                f"the neighbourhood with the same {by}: pass ids to both, and do not reset the index of one of them"
            )
    return found


def _contrast(exposed: Any, flipped: Any, full: Any) -> Any:
    return exposed * (1.0 - (flipped + full) / 2.0)
