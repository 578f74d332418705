"""Claim 1: do easy examples' gradients point the same way, through training? Against shuffled groups."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from study.figures.groups import RANDOM, RANDOM_DIFFICULT, RANDOM_EASY, REAL, REAL_DIFFICULT, REAL_EASY
from study.figures.intervals import over_seeds
from study.findings.inputs import Similarity, Study
from study.findings.learning import Setting
from study.findings.testing import DRAWS, PERMUTATION, Comparison, permuted_within

_BAND = 200  # permutations behind the band of the table
PAIRS = (
    (REAL_EASY, REAL_EASY),
    (REAL_EASY, REAL_DIFFICULT),
    (REAL_DIFFICULT, REAL_DIFFICULT),
    (REAL, REAL),
    (REAL, RANDOM),
    (RANDOM, RANDOM),
    (RANDOM_EASY, RANDOM_EASY),
    (RANDOM_EASY, RANDOM_DIFFICULT),
    (RANDOM_DIFFICULT, RANDOM_DIFFICULT),
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
    sums = [np.einsum("bi,bi->b", one @ matrix, other) for matrix in np.where(there, cosines, 0.0).astype(np.float64)]
    counts = [np.einsum("bi,bi->b", one @ matrix, other) for matrix in there.astype(np.float64)]
    means: np.ndarray = np.stack(sums, 1) / np.maximum(np.stack(counts, 1), 1)
    return means


def compare_alignment(study: Study, setting: Setting) -> Iterator[Comparison]:
    """Easy pairs against pairs of shuffled groups, mean over the recorded epochs after the untrained network."""
    for definition in setting.groups:
        for easy, difficult, kind in ((REAL_EASY, REAL_DIFFICULT, "real"), (RANDOM_EASY, RANDOM_DIFFICULT, "random")):
            parts = [_seed(study, setting, definition, row, easy, difficult) for row in range(len(study.seeds))]
            if any(part is None for part in parts):
                continue
            effects = np.array([part[0] for part in parts if part])
            null = np.mean([part[1] for part in parts if part], axis=0)
            found = effects.mean()
            yield Comparison(
                f"aligned_{kind}", setting.scenario, setting.placement, definition,
                f"mean cosine of the exposed gradients within {easy} minus that of shuffled groups", "cosine",
                tuple(float(e) for e in effects), parts[0][2] if parts[0] else 0, PERMUTATION,
                float((1 + (null >= found).sum()) / (1 + len(null))),
                float((1 + (null <= found).sum()) / (1 + len(null))),
            )  # fmt: skip


def _seed(
    study: Study, setting: Setting, definition: str, row: int, easy: str, difficult: str
) -> tuple[float, np.ndarray, int] | None:
    """The effect in one seed, the effects of shuffled groups, and how many examples; None without enough pairs."""
    run = study.runs(setting.scenario, setting.placement)[row]
    similarity = study.similarity[run]
    group = _groups_of(setting, definition, row, similarity.ids)
    pool = np.flatnonzero((group == easy) | (group == difficult))
    size = int((group == easy).sum())
    if size < 2 or size == len(pool):
        return None
    cosines = matrices(similarity, "exposed")[similarity.epochs > 0][:, pool][:, :, pool]
    members = (group[pool] == easy).astype(np.float64)
    # Mean over the epochs of each pair; one without a direction at some epoch counts with the epochs where it has.
    there = np.isfinite(cosines)
    pairs = np.where(there, cosines, 0.0).sum(0) / np.maximum(there.sum(0), 1)
    labels = study.scenarios[setting.scenario].examples.set_index("id")["given"].loc[similarity.ids[pool]].to_numpy()
    rng = np.random.default_rng(row)
    shuffled = members[permuted_within(labels, DRAWS, rng)]
    null = np.einsum("bi,bi->b", shuffled @ pairs, shuffled) / (size * (size - 1))
    found = float(members @ pairs @ members) / (size * (size - 1))
    centre = float(null.mean())
    return found - centre, null - centre, len(pool)


def alignment_table(study: Study, settings: list[Setting], confidence: float) -> pd.DataFrame:
    """Mean cosine of every pair of groups at every recorded epoch, over the seeds, with the band of shuffled groups."""
    rows = []
    for setting in settings:
        for definition in setting.groups:
            for row, run in enumerate(study.runs(setting.scenario, setting.placement)):
                similarity = study.similarity[run]
                group = _groups_of(setting, definition, row, similarity.ids)
                examples = study.scenarios[setting.scenario].examples.set_index("id").loc[similarity.ids]
                is_random, labels = examples["is_random"].to_numpy(bool), examples["given"].to_numpy()
                for kind in similarity.cosines:
                    cosines = matrices(similarity, kind)
                    for one, other in PAIRS:
                        values = _pair(cosines, one, other, group, is_random, labels)
                        if values is None:
                            continue
                        rows += [
                            (setting.scenario, setting.placement, definition, kind, f"{one} / {other}", int(epoch), *of)
                            for epoch, *of in zip(similarity.epochs, *values, strict=True)
                        ]
    keys = ["scenario", "placement", "definition", "network", "pair", "epoch"]
    frame = pd.DataFrame(rows, columns=[*keys, "value", "null_low", "null_high"])
    found = over_seeds(frame, keys, confidence)
    band = frame.groupby(keys, sort=False)[["null_low", "null_high"]].mean().reset_index()
    return found.merge(band, on=keys, how="left", validate="1:1")


def _pair(
    cosines: np.ndarray, one: str, other: str, group: np.ndarray, is_random: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Mean cosine [epochs] of a pair of groups, and where 95 % of those of shuffled groups lie."""
    named = {REAL: ~is_random, RANDOM: is_random}
    first, second = named.get(one, group == one), named.get(other, group == other)
    if min(first.sum(), second.sum()) < 2 or first.all():
        return None
    rng = np.random.default_rng(0)
    pool = np.flatnonzero(first | second) if one != other else _pool(group, one, is_random)
    orders = np.tile(np.arange(len(labels)), (_BAND + 1, 1))
    orders[1:, pool] = pool[permuted_within(labels[pool], _BAND, rng)]
    means = pair_means(cosines, first[orders].astype(np.float64), second[orders].astype(np.float64))
    low, high = np.quantile(means[1:], [0.025, 0.975], axis=0)
    return means[0], low, high


def _pool(group: np.ndarray, name: str, is_random: np.ndarray) -> np.ndarray:
    """Among whom a group's members are shuffled: the sampled examples of its kind; all, if it is a whole kind."""
    if name in (REAL, RANDOM):
        return np.arange(len(group))
    return np.flatnonzero(is_random if name in (RANDOM_EASY, RANDOM_DIFFICULT) else ~is_random)


def _groups_of(setting: Setting, definition: str, row: int, ids: np.ndarray) -> np.ndarray:
    found: np.ndarray = setting.groups[definition][row][np.searchsorted(setting.ids, ids)]
    return found
