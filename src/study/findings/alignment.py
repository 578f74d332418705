"""Claim 1: do easy examples' gradients point the same way, through training? Against shuffled groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from study.analysis.groups import RANDOM, RANDOM_DIFFICULT, RANDOM_EASY, REAL, REAL_DIFFICULT, REAL_EASY
from study.analysis.inputs import Similarity, Study
from study.analysis.intervals import over_seeds
from study.findings.learning import KINDS_OF_DIFFICULTY, Setting
from study.findings.testing import DRAWS, PERMUTATION, Comparison, permuted_within, tails

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


def compare_alignment(study: Study, setting: Setting) -> Iterator[Comparison]:
    """Easy pairs against pairs of shuffled groups, mean over the recorded epochs after the untrained network.

    The groups of all seeds are shuffled in the same way: seeds share their examples, and largely their groups, so that
    separate shuffles would make the null of their mean too narrow.
    """
    sample = _sample(study, setting)
    for definition in setting.groups:
        for kind, easy, difficult in KINDS_OF_DIFFICULTY:
            pool = sample.of(kind)
            groups = [_groups_of(setting, definition, row, sample.ids[pool]) for row in range(len(setting.runs))]
            if any(min((group == easy).sum(), (group == difficult).sum()) < 2 for group in groups):
                continue
            orders = permuted_within(sample.labels[pool], DRAWS, np.random.default_rng(0))
            found, null = [], []
            for run, group in zip(setting.runs, groups, strict=True):
                pairs = _over_epochs(study.similarity[run])[pool][:, pool]
                members = (group == easy).astype(np.float64)
                shuffled = members[orders]
                size = members.sum()
                null.append(np.einsum("bi,bi->b", shuffled @ pairs, shuffled) / (size * (size - 1)))
                found.append(float(members @ pairs @ members) / (size * (size - 1)))
            centres = np.mean(null, axis=1)
            effects = np.array(found) - centres
            of_mean = np.mean(null, axis=0) - centres.mean()
            text = f"mean cosine of the exposed gradients within {easy} minus that of shuffled groups"
            yield Comparison(
                f"aligned_{kind}", setting.scenario, setting.placement, definition, text, "cosine",
                tuple(effects.tolist()), len(pool), PERMUTATION, *tails(effects.mean() - of_mean),
            )  # fmt: skip


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


def _over_epochs(similarity: Similarity) -> np.ndarray:
    """Mean exposed cosine [n, n] over the epochs after the untrained network; 0 on the diagonal.

    A pair that has no direction at some epoch counts with the epochs where it has one.
    """
    cosines = matrices(similarity, "exposed")[similarity.epochs > 0]
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
