"""Confident learning through cleanlab (needs the extra ``compare``).

Northcutt, Jiang, Chuang (2021, arXiv 1911.00068). It judges labels by probabilities from networks that did not see
the example: out of fold, so k folds cost k trainings. From features alone it takes the votes of the nearest neighbours.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from study.peers.inputs import TrainedNetwork
from turnover.batches.examples import Examples
from turnover.reading.features import features_of


def label_suspicion(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """How suspect each label is: 1 minus cleanlab's label quality, the probability of the given label.

    Args:
        probabilities: [n, classes], out of fold.
        labels: the given ones, integers [n].

    Returns:
        [n] in 0..1, higher is more suspect.
    """
    from cleanlab.rank import get_label_quality_scores

    quality = get_label_quality_scores(np.asarray(labels), np.asarray(probabilities, dtype=np.float64))
    return np.asarray(1.0 - quality, dtype=np.float64)


def label_issues(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Which labels cleanlab calls wrong by its default rule (prune by noise rate), bool [n]."""
    from cleanlab.filter import find_label_issues

    found = find_label_issues(np.asarray(labels), np.asarray(probabilities, dtype=np.float64), n_jobs=1)
    return np.asarray(found, dtype=bool)


def feature_suspicion(
    networks: Sequence[TrainedNetwork], train: Examples, targets: None = None, *, neighbours: int = 10
) -> Tensor:
    """How suspect each label is to Datalab, given what enters the first network's last layer and no probabilities.

    Args:
        networks: the first one is used.
        train: examples.
        targets: none: it is a score of training examples alone.
        neighbours: that vote on the label, by Euclidean distance; the example itself does not.

    Returns:
        float32 [train] in 0..1: the share of neighbours that have another label.
    """
    from cleanlab import Datalab

    features = features_of(networks[0].model, train.images).numpy()
    lab = Datalab({"label": train.labels.numpy()}, label_name="label", verbosity=0)
    with contextlib.redirect_stdout(io.StringIO()):  # it says what it looks for
        # In this process: others would be forked from one that has threads, and may wait for them for ever.
        alone = {"find_label_issues_kwargs": {"n_jobs": 1}}
        lab.find_issues(features=features, issue_types={"label": {"k": neighbours, "clean_learning_kwargs": alone}})
    quality = lab.get_issues("label")["label_score"].to_numpy()
    return torch.from_numpy(1.0 - quality).float()
