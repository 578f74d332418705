"""Placebo calibration: which scores are larger than chance makes them.

A placebo is an example that was held out from training but has a mask of its own. Its exposed and flipped
sub-networks saw equally much of it (nothing), so its self-influence is noise about 0: what an example that was not
memorized looks like. Ranking a score among those of the placebos gives a p-value without any assumption on their
distribution (a conformal p-value), and the Benjamini-Hochberg procedure turns the p-values into a list of
"memorized" examples whose expected share of false discoveries is bounded, also though all p-values share the
same placebos (Bates, Candes, Lei, Romano, Sesia 2023, arXiv 2104.08279; Benjamini and Hochberg 1995).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from turnover.reading.options import check_options
from turnover.scoring.frames import with_id_column

Floats = npt.NDArray[np.float64]


def empirical_p_values(scores: npt.ArrayLike, placebo: npt.ArrayLike) -> Floats:
    """One-sided p-value of every score: ``(1 + #{placebo >= score}) / (1 + #placebo)``.

    Args:
        scores: [n], larger is more extreme.
        placebo: [m] scores under the null hypothesis.

    Returns:
        [n], from ``1 / (m + 1)`` to 1. Under the null hypothesis each is at most u with probability at most u.

    Raises:
        ValueError: an array is not one-dimensional, `placebo` is empty, or a score is not finite.
    """
    values, null = _checked(scores, "scores"), np.sort(_checked(placebo, "placebo"))
    if not len(null):
        raise ValueError("there are no placebo scores: hold some examples out from training, with ids of their own")
    at_least = len(null) - np.searchsorted(null, values, side="left")
    return np.asarray((1.0 + at_least) / (1.0 + len(null)), dtype=np.float64)


def calibrate(
    scores: pd.DataFrame, placebo: pd.DataFrame, *, measure: str = "loss", false_discovery_rate: float = 0.05
) -> pd.DataFrame:
    """Memorization in units of the placebo's spread, and who is memorized at a false-discovery rate.

    >>> placebo = pd.DataFrame({"id": range(100, 140), "loss": [0.1 * (n % 7) - 0.3 for n in range(40)]})
    >>> scores = pd.DataFrame({"id": [1, 2], "loss": [2.0, 0.0]})
    >>> calibrate(scores, placebo)[["id", "memorized"]].to_dict("list")
    {'id': [1, 2], 'memorized': [True, False]}

    The placebos must be like the training examples, apart from not being trained on: drawn from the same
    data at random, labelled by the same rule. Few of them cost power, never validity: to call k of n examples
    memorized takes at least ``n / (k * false_discovery_rate)`` placebos.

    Args:
        scores: of training examples, as `turnover.memorization` or `turnover.combine` gives them: ``id`` and `measure`.
        placebo: the same of the placebos, scored by the same networks.
        measure: column to calibrate; continuous ones (``"loss"``, ``"probability"``) resolve more than ``"accuracy"``.
        false_discovery_rate: bound on the expected share of the examples called memorized that are not.

    Returns:
        One row an example, in the order of `scores`: ``id``; ``score``; ``z``, the score less the placebos' mean, in
        units of their standard deviation; ``p`` (see `empirical_p_values`); ``q``, the smallest false-discovery rate
        at which the example is called memorized (Benjamini-Hochberg); ``memorized``, whether q is at most
        `false_discovery_rate`.

    Raises:
        ValueError: a column is missing, `false_discovery_rate` is outside (0, 1), a score is not finite, the placebos
            do not vary, or they are too few: the smallest p-value, 1 / (placebos + 1), is above the rate.
    """
    check_options(false_discovery_rate=false_discovery_rate)
    scores, placebo = (
        with_id_column(frame, name, "memorization") for name, frame in (("scores", scores), ("placebo", placebo))
    )
    for name, frame in (("scores", scores), ("placebo", placebo)):
        missing = [column for column in ("id", measure) if column not in frame]
        if missing:
            raise ValueError(f"{name} has no column {missing[0]!r}; it has {', '.join(map(str, frame.columns))}")
        if not pd.api.types.is_numeric_dtype(frame[measure]):
            raise ValueError(f"column {measure!r} of {name} holds no numbers: name one of the measures of memorization")
    values, null = scores[measure].to_numpy(np.float64), placebo[measure].to_numpy(np.float64)
    if 1.0 / (len(null) + 1) > false_discovery_rate:
        needed = int(np.ceil(1.0 / false_discovery_rate)) - 1
        raise ValueError(
            f"{len(null)} placebos can give no p-value below {1 / (len(null) + 1):.3g}: "
            f"false_discovery_rate={false_discovery_rate} needs at least {needed}"
        )
    p = empirical_p_values(values, null)
    spread = float(null.std(ddof=1))
    if spread == 0.0:
        raise ValueError(f"all placebos have the same {measure}, so there is no spread to measure scores in")
    q = np.asarray(stats.false_discovery_control(p, method="bh")) if len(p) else p
    return pd.DataFrame(
        {
            "id": scores["id"].to_numpy(),
            "score": values,
            "z": (values - null.mean()) / spread,
            "p": p,
            "q": q,
            "memorized": q <= false_discovery_rate,
        }
    )


def _checked(values: npt.ArrayLike, name: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds {int((~np.isfinite(array)).sum())} values that are not finite")
    return array
