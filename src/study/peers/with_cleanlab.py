"""Confident learning through cleanlab (needs the extra ``compare``).

Northcutt, Jiang, Chuang (2021, arXiv 1911.00068). It judges labels by probabilities from networks that did not see
the example: out of fold, so k folds cost k trainings.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


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
