"""Finding (i) by the gradients: do those of easy examples point the same way more than those of difficult ones?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from study.analysis.groups import RANDOM, RANDOM_DIFFICULT, RANDOM_EASY, REAL, REAL_DIFFICULT, REAL_EASY
from study.analysis.inputs import Similarity, Study
from study.analysis.intervals import over_seeds
from study.findings.effects import Effect, Where, compare_seeds, permuted_within
from study.findings.learning import KINDS_OF_DIFFICULTY, Setting

_BAND = 200  # permutations behind the band of the table
PAIRS = tuple(
    pair
    for one, other in ((REAL_EASY, REAL_DIFFICULT), (REAL, RANDOM), (RANDOM_EASY, RANDOM_DIFFICULT))
    for pair in ((one, one), (one, other), (other, other))
)


def matrices(similarity: Similarity, kind: str) -> np.ndarray:
    """Symmetric cosine matrices float32 [epochs, n, n]; the diagonal is NaN: an example is no pair with itself."""
    n = len(similarity.ids)
    found = np.full((len(similarity.epochs), n, n), np.nan, np.float32)
    upper = np.triu_indices(n, 1)
    found[:, upper[0], upper[1]] = similarity.cosines[kind]
    found[:, upper[1], upper[0]] = similarity.cosines[kind]
    return found


def pair_means(cosines: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Mean cosine [draws, epochs] over the pairs of a member of `one` and a member of `other`.

    Args:
        cosines: [epochs, n, n]; NaN is no pair.
        one, other: 1 for members, 0 for others: float64 [draws, n], so that the order of a sum changes no digit.
    """
    there = np.isfinite(cosines)
    if (there == there[0]).all():  # as nearly always: only an example with itself is no pair
        there = there[:1]
    sums, counts = (
        np.stack([np.einsum("bi,bi->b", one @ matrix, other) for matrix in matrices.astype(np.float64)], 1)
        for matrices in (np.where(there, cosines, 0.0), there)
    )
    means: np.ndarray = sums / np.maximum(counts, 1)
    return means


def alignment_effects(study: Study, setting: Setting) -> Iterator[Effect]:
    """Mean cosine of pairs of easy examples minus that of pairs of difficult ones, over the recorded epochs after the
    untrained network: of all pairs, and of pairs with the same two labels.

    Classes differ in how alike their examples are and in how many of them are easy. Matched by labels, a pair of easy
    examples is compared with pairs of difficult ones that have the same two given labels.
    """
    sample = _sample(study, setting)
    for network in study.similarity[setting.runs[0]].cosines:
        pairs = [_over_epochs(study.similarity[run], network) for run in setting.runs]
        for definition in setting.groups:
            groups = [_groups_of(setting, definition, row, sample.ids) for row in range(len(setting.runs))]
            for _, easy, difficult in KINDS_OF_DIFFICULTY:
                if any(min((group == easy).sum(), (group == difficult).sum()) < 2 for group in groups):
                    continue
                for matched in (False, True):
                    labels = sample.labels if matched else np.zeros_like(sample.labels)
                    found = [
                        _easy_minus_difficult(of, group == easy, group == difficult, labels)
                        for of, group in zip(pairs, groups, strict=True)
                    ]
                    if any(value is None for value in found):
                        continue
                    text = f"cosine of gradients in the {network} network, pairs of {easy} minus pairs of {difficult}"
                    where = Where(
                        setting.scenario,
                        setting.placement,
                        definition,
                        text + (", matched by labels" if matched else ""),
                        "cosine",
                    )
                    yield compare_seeds(where, [value for value in found if value is not None])


def _easy_minus_difficult(
    cosines: np.ndarray, easy: np.ndarray, difficult: np.ndarray, labels: np.ndarray
) -> float | None:
    """Difference of mean cosines [n, n], strata of label pairs weighted by their number of easy pairs; None where no
    stratum has pairs of both kinds."""
    _, rank = np.unique(labels, return_inverse=True)
    strata = rank.max() + 1
    upper = np.triu_indices(len(labels), 1)
    low, high = np.sort(rank[np.stack(upper)], axis=0)
    stratum = low * strata + high
    values = cosines[upper]
    sums, counts = [], []
    for group in (easy, difficult):
        chosen = group[upper[0]] & group[upper[1]]
        sums.append(np.bincount(stratum[chosen], values[chosen], strata**2))
        counts.append(np.bincount(stratum[chosen], minlength=strata**2))
    both = (counts[0] > 0) & (counts[1] > 0)
    if not both.any():
        return None
    difference = sums[0][both] / counts[0][both] - sums[1][both] / counts[1][both]
    return float(np.average(difference, weights=counts[0][both]))


def alignment_table(study: Study, settings: list[Setting], confidence: float) -> pd.DataFrame:
    """Mean cosine of every pair of groups at every recorded epoch, over the seeds, and where that of shuffled groups
    lies (95 %), all seeds shuffled in the same way."""
    keys = ["scenario", "placement", "definition", "network", "pair", "epoch"]
    rows, bands = [], []
    for setting in settings:
        sample = _sample(study, setting)
        runs = setting.runs
        for network in study.similarity[runs[0]].cosines:
            cosines = [matrices(study.similarity[run], network) for run in runs]
            for definition in setting.groups:
                groups = [_groups_of(setting, definition, row, sample.ids) for row in range(len(runs))]
                for one, other in PAIRS:
                    means = _pair(cosines, one, other, groups, sample)
                    if means is None:
                        continue
                    for at, epoch in enumerate(study.similarity[runs[0]].epochs):
                        key = (setting.scenario, setting.placement, definition, network, f"{one} / {other}", int(epoch))
                        rows += [(*key, float(value)) for value in means[:, 0, at]]
                        bands.append((*key, *np.quantile(means[:, 1:, at].mean(0), [0.025, 0.975])))
    found = over_seeds(pd.DataFrame(rows, columns=[*keys, "value"]), keys, confidence)
    return found.merge(pd.DataFrame(bands, columns=[*keys, "null_low", "null_high"]), on=keys, validate="1:1")


class _Sample(NamedTuple):
    """The examples whose gradients are compared, the same in all runs of a scenario."""

    ids: np.ndarray
    labels: np.ndarray
    is_random: np.ndarray

    def of(self, kind: str) -> np.ndarray:
        """Rows of those whose labels are ``"real"`` or ``"random"``."""
        return np.flatnonzero(self.is_random == (kind == RANDOM))


def _sample(study: Study, setting: Setting) -> _Sample:
    ids = study.similarity[setting.runs[0]].ids
    examples = study.scenarios[setting.scenario].examples.set_index("id").loc[ids]
    return _Sample(ids, examples["given"].to_numpy(), examples["is_random"].to_numpy(bool))


def _over_epochs(similarity: Similarity, network: str) -> np.ndarray:
    """Mean cosine [n, n] over the epochs after the untrained network; 0 on the diagonal.

    A pair that has no direction at some epoch counts with the epochs where it has one.
    """
    cosines = matrices(similarity, network)[similarity.epochs > 0]
    there = np.isfinite(cosines)
    mean: np.ndarray = np.where(there, cosines, 0.0).sum(0) / np.maximum(there.sum(0), 1)
    return mean


def _pair(
    cosines: list[np.ndarray], one: str, other: str, groups: list[np.ndarray], sample: _Sample
) -> np.ndarray | None:
    """Mean cosine of a pair of groups [seeds, 1 + shuffles, epochs], the true groups first; None with too few."""
    named = {REAL: ~sample.is_random, RANDOM: sample.is_random}
    members = [(named.get(one, group == one), named.get(other, group == other)) for group in groups]
    if any(min(first.sum(), second.sum()) < 2 or first.all() for first, second in members):
        return None
    pool = np.arange(len(sample.ids)) if one in named else sample.of(one.partition(" ")[0])
    orders = np.tile(np.arange(len(sample.ids)), (_BAND + 1, 1))
    orders[1:, pool] = pool[permuted_within(sample.labels[pool], _BAND, np.random.default_rng(0))]
    return np.stack(
        [
            pair_means(of, first[orders].astype(np.float64), second[orders].astype(np.float64))
            for of, (first, second) in zip(cosines, members, strict=True)
        ]
    )


def _groups_of(setting: Setting, definition: str, row: int, ids: np.ndarray) -> np.ndarray:
    found: np.ndarray = setting.groups[definition][row][np.searchsorted(setting.ids, ids)]
    return found
