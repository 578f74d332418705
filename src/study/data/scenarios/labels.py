"""Label randomization: a chosen share of the examples gets a label at random."""

from __future__ import annotations

import operator

import numpy as np
import numpy.typing as npt

from study.data.sources.dataset import DataError

KINDS = ("uniform", "other", "pair")
_STREAM = 0x6C6162656C  # "label": keeps this generator apart from others that are made from the same seed


def randomize(
    labels: npt.NDArray[np.int64], classes: int, fraction: float, *, seed: int, kind: str = "uniform"
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Gives `round(fraction * n)` of the `labels` (integers `[n]`, 0..classes-1) a label at random.

    Kinds: "uniform" draws over all classes and may hit the true one (Zhang et al. 2017), "other" draws over
    the other classes, "pair" turns class c into c+1 modulo `classes`.
    Returns the given labels, int64 `[n]`, and `is_random`, bool `[n]`: who was given one, hit or not.
    With one seed, what is random at a fraction is random, with the same label, at every larger fraction.
    Raises `DataError` that names the argument, its value and what is allowed.
    """
    labels = np.asarray(labels)
    _check(labels, classes, fraction, seed, kind)
    true = labels.astype(np.int64)
    count = len(true)
    # Everything is drawn for everybody, whatever the fraction: this is what nests the fractions.
    rng = np.random.default_rng([seed, _STREAM])
    order = rng.permutation(count)
    if kind == "uniform":
        drawn = rng.integers(classes, size=count)
    elif kind == "other":
        drawn = (true + 1 + rng.integers(classes - 1, size=count)) % classes
    else:
        drawn = (true + 1) % classes
    is_random = np.zeros(count, dtype=np.bool_)
    is_random[order[: round(fraction * count)]] = True
    return np.where(is_random, drawn, true), is_random


def _check(labels: npt.NDArray[np.int64], classes: int, fraction: float, seed: int, kind: str) -> None:
    for name, value, least in (("classes", classes, 2), ("seed", seed, 0)):
        if isinstance(value, bool) or not hasattr(value, "__index__") or operator.index(value) < least:
            raise DataError(f"{name} is {value!r}; allowed is a whole number from {least} on")
    if not isinstance(fraction, (int, float, np.floating)) or not 0 <= fraction <= 1:
        raise DataError(f"fraction is {fraction!r}; allowed is a number from 0 to 1")
    if kind not in KINDS:
        raise DataError(f"kind is {kind!r}; allowed are {', '.join(KINDS)}")
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"labels are {labels.dtype} {list(labels.shape)}; allowed are integers of shape [n]")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise DataError(f"labels[{wrong[0]}] is {labels[wrong[0]]}; allowed is 0 to {classes - 1}")
