"""The tests behind the verdicts: over seeds, over examples, over shuffled groups, and Holm's correction.

Two things vary: the network (seed) and the examples. A claim has to stand against both, so a comparison carries the
t-interval of its mean over seeds, and a p-value that is over examples wherever the examples are at hand: with three
seeds a t-test has two degrees of freedom, too few to be corrected for many claims.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

DRAWS = 2000  # bootstrap samples, and permutations
BOOTSTRAP = "bootstrap over examples (each drawn with all its seeds)"
PERMUTATION = "permutation of the groups among examples with the same given label, the same in all seeds"
T_TEST = "paired t-test over seeds"


@dataclass(frozen=True)
class Comparison:
    """One comparison in one setting: is the effect above 0?

    Args:
        claim: whose part it is.
        scenario, placement: the setting.
        definition: of difficulty, or "" where none is used.
        of: what is compared, in words.
        unit: of the effect.
        effects: one value a seed.
        examples: how many examples, or 0 where they are not what is compared.
        test: name of the test that gave the p-values.
        p: one-sided, for an effect above 0; None with too few seeds for the test.
        p_below: the same for an effect below 0.
    """

    claim: str
    scenario: str
    placement: str
    definition: str
    of: str
    unit: str
    effects: tuple[float, ...]
    examples: int
    test: str
    p: float | None
    p_below: float | None


def draw_effects(
    values: np.ndarray, plus: np.ndarray, minus: np.ndarray | None = None, *, draws: int = DRAWS, seed: int = 0
) -> np.ndarray:
    """Bootstrap draws [draws] of the mean over seeds of ``mean of group plus - mean of group minus``.

    An example is drawn with all its seeds (Poisson bootstrap, clustered by example): what the seeds have in common
    through it is kept.

    Args:
        values: [seeds, examples].
        plus, minus: members of the groups, bool [seeds, examples]; groups may differ between seeds.
        draws: how many.
        seed: of the draws.
    """
    used = plus.any(0) if minus is None else (plus | minus).any(0)
    kept = np.where(np.isfinite(values), values, 0.0)[:, used]
    groups = [plus[:, used]] if minus is None else [plus[:, used], minus[:, used]]
    rng = np.random.default_rng(seed)
    found = np.empty(draws)
    chunk = max(1, 4_000_000 // max(1, int(used.sum())))
    for start in range(0, draws, chunk):
        weights = rng.poisson(1.0, (min(chunk, draws - start), kept.shape[1])).astype(np.float64)
        means = [(weights @ (kept * of).T) / np.maximum(weights @ of.T, 1e-12) for of in groups]
        total = means[0] if minus is None else means[0] - means[1]
        found[start : start + len(weights)] = total.mean(1)
    return found


def tails(draws: np.ndarray) -> tuple[float, float]:
    """One-sided p-values from bootstrap draws: for an effect above 0, and below it."""
    return float((1 + (draws <= 0).sum()) / (1 + len(draws))), float((1 + (draws >= 0).sum()) / (1 + len(draws)))


def compare_groups(
    about: tuple[str, str, str, str, str, str], values: np.ndarray, plus: np.ndarray, minus: np.ndarray | None = None
) -> Comparison:
    """Mean of the group `plus` (minus that of the group `minus`) in each seed, tested by the bootstrap over examples.

    Args:
        about: claim, scenario, placement, definition, text and unit, as in `Comparison`.
        values: [seeds, examples].
        plus, minus: members of the groups, bool [seeds, examples].
    """
    effects = [row[chosen].mean() for row, chosen in zip(values, plus, strict=True)]
    members = int(plus[0].sum())
    if minus is not None:
        effects = [effect - row[other].mean() for effect, row, other in zip(effects, values, minus, strict=True)]
        members += int(minus[0].sum())
    p, p_below = tails(draw_effects(values, plus, minus))
    return Comparison(*about, tuple(float(effect) for effect in effects), members, BOOTSTRAP, p, p_below)


def t_test(effects: Sequence[float]) -> tuple[float | None, float | None]:
    """One-sided p-values of a t-test of the mean of paired differences; None with fewer than two seeds."""
    values = np.asarray(effects, np.float64)
    if len(values) < 2:
        return None, None
    spread = values.std(ddof=1)
    if spread == 0:
        return (0.5, 0.5) if values[0] == 0 else (float(values[0] < 0), float(values[0] > 0))
    above = float(stats.t.sf(values.mean() / (spread / np.sqrt(len(values))), len(values) - 1))
    return above, 1.0 - above


def permuted_within(strata: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Random orders [draws, n] that only move elements within their stratum."""
    _, rank = np.unique(strata, return_inverse=True)
    places = np.argsort(rank, kind="stable")
    # Stratum by stratum, in random order within each.
    shuffled = np.argsort(rank + rng.uniform(0, 0.999, (draws, len(rank))), axis=1)
    orders = np.empty_like(shuffled)
    orders[:, places] = shuffled
    return orders


def holm(p_values: Sequence[float]) -> list[int]:
    """The factor by which Holm's procedure multiplies each p-value: the number of hypotheses for the smallest, 1 for
    the largest."""
    ranks = np.empty(len(p_values), int)
    ranks[np.argsort(np.asarray(p_values), kind="stable")] = np.arange(len(p_values))
    return [len(p_values) - int(rank) for rank in ranks]
