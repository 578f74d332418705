"""Random subsets, and what networks trained on them say: the gold standard of memorization.

Feldman and Zhang (2020, arXiv 2008.03703): an example is memorized as far as networks that saw it do better on it
than networks that did not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from scipy.special import expit
from scipy.stats import spearmanr

from study.artefacts.files import read_npz, write_npz
from turnover.errors import UserError

Measure = Literal["loss", "probability", "accuracy"]


class SplitHalf(NamedTuple):
    """Agreement of the networks with themselves: the limit of anything's agreement with them.

    Args:
        spearman: correlation of memorization by the even networks with memorization by the odd ones.
        reliability: of all networks together, by the Spearman-Brown formula.
    """

    spearman: float
    reliability: float


def draw_subsets(n: int, networks: int, fraction: float = 0.5, seed: int = 0) -> np.ndarray:
    """Random subsets, all of one size, each drawn independently of the others.

    Args:
        n: number of examples.
        networks: number of subsets.
        fraction: of the examples in each; the size is ``round(fraction * n)``.
        seed: subset k depends on (seed, k) alone, so that more networks mean the same ones and others.

    Returns:
        bool [networks, n].

    Raises:
        UserError: a subset would be empty, or hold all examples.
    """
    size = round(fraction * n)
    if not 0 < size < n:
        raise UserError(f"a fraction of {fraction} of {n} examples is {size}: it must be some of them, and not all")
    inside = np.zeros((networks, n), dtype=np.bool_)
    for network in range(networks):
        inside[network, np.random.default_rng([seed, network]).permutation(n)[:size]] = True
    return inside


@dataclass(frozen=True)
class SubsetOutputs:
    """What every network says about every example.

    Args:
        inside: bool [networks, train]: which training examples a network saw.
        margin: float32 [networks, examples]: log-odds of the given label, ``log p - log(1 - p)``. The training
            examples come first, in the order of `inside`; no network saw those after them.
        correct: bool [networks, examples]: the given label is the network's answer.

    Raises:
        UserError: the shapes do not go together.
    """

    inside: np.ndarray
    margin: np.ndarray
    correct: np.ndarray

    def __post_init__(self) -> None:
        shapes = self.inside.shape, self.margin.shape, self.correct.shape
        if shapes[1] != shapes[2] or shapes[0][0] != shapes[1][0] or shapes[0][1] > shapes[1][1]:
            raise UserError(
                f"inside [networks, train], margin and correct [networks, examples] do not go together: {shapes}"
            )

    @property
    def probability(self) -> np.ndarray:
        """Probability of the given label [networks, examples]."""
        return np.asarray(expit(self.margin))

    @property
    def loss(self) -> np.ndarray:
        """Cross-entropy of the given label in nats [networks, examples]."""
        return np.asarray(np.logaddexp(np.float32(0), -self.margin))

    def memorization(self, measure: Measure = "probability") -> np.ndarray:
        """Mean over the networks that saw an example, minus mean over those that did not.

        Args:
            measure: of minus the given label's ``"loss"``, of its ``"probability"``, or of whether it is the answer
                (``"accuracy"``).

        Returns:
            float64 [train], NaN where all networks saw an example, or none did.
        """
        said = self._values(measure)[:, : self.inside.shape[1]]
        return np.asarray(_mean(said, self.inside) - _mean(said, ~self.inside))

    def heldout(self, measure: Measure = "probability") -> np.ndarray:
        """Mean over the networks that did not see an example [examples]: how well the others explain its label."""
        outside = np.ones(self.margin.shape, dtype=np.bool_)
        outside[:, : self.inside.shape[1]] = ~self.inside
        return _mean(self._values(measure), outside)

    def split_half(self, measure: Measure = "probability") -> SplitHalf:
        """How reliable `memorization` is. Examples that one half of the networks cannot judge are left out."""
        halves = np.stack([self[half::2].memorization(measure) for half in (0, 1)])
        spearman = float(spearmanr(*halves[:, np.isfinite(halves).all(0)]).statistic)
        return SplitHalf(spearman, 2 * spearman / (1 + spearman))

    def __getitem__(self, networks: slice | np.ndarray) -> SubsetOutputs:
        """Some of the networks."""
        return SubsetOutputs(self.inside[networks], self.margin[networks], self.correct[networks])

    def save(self, path: Path) -> None:
        """Write an npz file, the same bytes for the same outputs: log-odds in float16, the rest in bits."""
        limit = float(np.finfo(np.float16).max)
        inside, correct = (np.packbits(bits, axis=1) for bits in (self.inside, self.correct))
        margin = self.margin.clip(-limit, limit).astype(np.float16)
        train = np.asarray(self.inside.shape[1], dtype=np.int64)
        write_npz(path, {"inside": inside, "margin": margin, "correct": correct, "train": train})

    @classmethod
    def load(cls, path: Path) -> SubsetOutputs:
        """Read what `save` wrote.

        Raises:
            UserError: the file is missing or damaged.
        """
        try:
            stored = read_npz(path)
            margin = stored["margin"].astype(np.float32)
            inside = np.unpackbits(stored["inside"], axis=1, count=int(stored["train"])).astype(np.bool_)
            correct = np.unpackbits(stored["correct"], axis=1, count=margin.shape[1]).astype(np.bool_)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{path} is missing or damaged ({error}): bring back the committed one by `git checkout -- "
                f"{path.parent.name}/{path.name}`, or train its networks again by `dvc repro retrain@{path.stem}`"
            ) from error
        return cls(inside, margin, correct)

    def _values(self, measure: Measure) -> np.ndarray:
        """What every network says about every example, the more the better [networks, examples]."""
        if measure == "loss":
            return -self.loss
        if measure not in ("probability", "accuracy"):
            raise UserError(f'measure={measure!r}: use "loss", "probability" or "accuracy"')
        return self.probability if measure == "probability" else self.correct


def _mean(values: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Mean of every column over the rows that `of` marks; NaN where there are none."""
    count = of.sum(0)
    total = np.where(of, values, 0).sum(0, dtype=np.float64)
    return np.asarray(np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0))
