"""An effect with its uncertainty: over networks and examples at once, or over networks alone.

Networks (seeds) and examples are both drawn from many. Who wants to say something of other networks *and* other
examples has to count both: they are crossed random effects. The variance of an effect is that of its mean over seeds
plus that of its mean over examples; with Satterthwaite's degrees of freedom this is the min F' of Clark (1973), "The
language-as-fixed-effect fallacy", as a t-test. The variance of single cells is in both terms, so the test errs on the
safe side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

POWER = 0.8  # of what `Effect.detectable` says


@dataclass(frozen=True)
class Where:
    """What an effect is of.

    Args:
        scenario, placement: the setting; placement "retrained" stands for ordinary networks, without masks.
        definition: of difficulty, or "" where none is used.
        text: what is compared, in words.
        unit: of the effect.
    """

    scenario: str
    placement: str
    definition: str
    text: str
    unit: str


@dataclass(frozen=True)
class Effect:
    """A mean difference, with its standard error.

    Args:
        of: what it is of.
        mean: the effect.
        error: its standard error; None with one seed, which says nothing about other networks.
        freedom: degrees of freedom of the error.
        seeds: how many networks.
        examples: how many, or 0 where networks as wholes are compared.
        test: in words.
    """

    of: Where
    mean: float
    error: float | None
    freedom: float
    seeds: int
    examples: int
    test: str

    def interval(self, confidence: float) -> tuple[float, float] | None:
        """Low and high end; None with one seed."""
        if self.error is None:
            return None
        half = self.error * float(stats.t.ppf(0.5 + confidence / 2, self.freedom))
        return self.mean - half, self.mean + half

    def p(self, side: int) -> float | None:
        """One-sided p-value for an effect above 0 (`side` 1) or below it (-1); None with one seed."""
        if self.error is None:
            return None
        if self.error == 0:
            return 0.0 if side * self.mean > 0 else 1.0
        return float(stats.t.sf(side * self.mean / self.error, self.freedom))

    def detectable(self, level: float) -> float | None:
        """The effect that a two-sided test at `level` finds with a probability of `POWER`; None with one seed.

        By the usual approximation, ``(t(1 - level/2) + t(POWER)) * error``.
        """
        if self.error is None:
            return None
        return self.error * float(stats.t.ppf(1 - level / 2, self.freedom) + stats.t.ppf(POWER, self.freedom))


def compare_groups(of: Where, values: np.ndarray, plus: np.ndarray, minus: np.ndarray | None = None) -> Effect:
    """Mean of the group `plus` (minus that of the group `minus`), seeds and examples being crossed random effects.

    Args:
        of: what is compared.
        values: [seeds, examples].
        plus, minus: members of the groups, bool [seeds, examples]; groups may differ between seeds, none is empty.
    """
    seeds = len(values)
    each = np.zeros(seeds)
    deviations = np.zeros(values.shape[1])  # of every example, the mean over its seeds, as its share of the effect
    count = 0
    for sign, members in ((1.0, plus), (-1.0, minus)):
        if members is None:
            continue
        sizes = members.sum(1)
        means = np.where(members, values, 0.0).sum(1) / sizes
        each += sign * means
        small = np.sqrt(sizes / np.maximum(sizes - 1, 1))  # a sample's variance divides by n - 1
        share = np.where(members, values - means[:, None], 0.0) * (small / sizes)[:, None]
        deviations += sign * share.mean(0)
        count += int(sizes[0])
    of_examples = float((deviations**2).sum())
    test = "min F' over seeds and examples (Clark 1973)"
    if seeds < 2:
        return Effect(of, float(each.mean()), None, 0.0, seeds, count, test)
    of_seeds = float(each.var(ddof=1)) / seeds
    groups = 1 if minus is None else 2
    total = of_seeds + of_examples
    terms = of_seeds**2 / (seeds - 1) + of_examples**2 / max(count - groups, 1)
    freedom = total**2 / terms if terms > 0 else float(seeds - 1)
    return Effect(of, float(each.mean()), math.sqrt(total), freedom, seeds, count, test)


def compare_seeds(of: Where, values: Sequence[float]) -> Effect:
    """Mean of one value a seed, such as a difference between two networks of the same seed: a paired t-test."""
    array = np.asarray(values, np.float64)
    seeds = len(array)
    error = float(array.std(ddof=1)) / math.sqrt(seeds) if seeds > 1 else None
    return Effect(of, float(array.mean()), error, float(max(seeds - 1, 0)), seeds, 0, "paired t-test over seeds")


def permuted_within(strata: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Random orders [draws, n] that only move elements within their stratum."""
    _, rank = np.unique(strata, return_inverse=True)
    places = np.argsort(rank, kind="stable")
    # Stratum by stratum, in random order within each.
    shuffled = np.argsort(rank + rng.uniform(0, 0.999, (draws, len(rank))), axis=1)
    orders = np.empty_like(shuffled)
    orders[:, places] = shuffled
    return orders
