"""Every row against the ground truth: agreement, LDS, detection of wrong labels, each with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from scipy.stats import norm

from study.artefacts.kept import Result
from study.retraining.ceiling import Ceiling, lds_ceiling
from study.retraining.lds import lds
from study.retraining.subsets import SubsetOutputs
from study.validation.ours import MEASURES, memorization
from study.validation.resampling import (
    Merit,
    auroc_for,
    average_precision_for,
    draw_weights,
    estimate,
    partial_spearman_with,
    spearman_with,
)
from study.validation.rows import Row, doublings, groups, mean
from study.validation.settings import Problem

FIGURES = (
    "memorization", "memorization_right", "memorization_wrong", "given_csl", "heldout", "fitted_memorization",
    "lds", "lds_share", "fitted_lds", "auroc", "average_precision",
)  # fmt: skip
_GROUPS = 10  # of judging networks, each left out once


class Judge:
    """Judges rows by the subset networks.

    Args:
        problem: with the ground truth.
        difficulty: cumulative loss [train], which the partial correlation takes away.
        confidence: of the intervals.
    """

    def __init__(self, problem: Problem, difficulty: np.ndarray, confidence: float = 0.95) -> None:
        self.problem, self.difficulty, self.confidence = problem, difficulty, confidence
        resamples = problem.settings.resamples
        self._examples = draw_weights(len(problem.train), resamples, 0)
        self._targets = draw_weights(len(problem.targets), resamples, 1)
        self.ceiling = None if problem.again is None else self._ceiling(problem.again)

    def judge(self, row: Row) -> dict[str, Any]:
        """The row's figures: None where the method does not estimate it, else value, low, high, worst, best."""
        truth = self.problem.truth[row.judged_by :]
        wrong = self.problem.wrong
        found: dict[str, dict[str, float] | None] = dict.fromkeys(FIGURES)
        if len(row.memorization):
            difference = truth.memorization("probability")
            unexplained = 1 - truth.heldout("probability")[: len(difference)]
            # An example that all networks saw, or none, has no truth.
            known = np.isfinite(difference) & np.isfinite(unexplained)
            merits = {
                "memorization": spearman_with(difference[known]),
                "given_csl": partial_spearman_with(difference[known], given=self.difficulty[known]),
                "heldout": spearman_with(unexplained[known]),
            }
            scores = [run[known] for run in row.memorization]
            found |= {name: self.estimate(merit, scores, self._examples[:, known]) for name, merit in merits.items()}
            wrong = self.problem.wrong
            for name, of in (("memorization_right", known & ~wrong), ("memorization_wrong", known & wrong)):
                if of.sum() > 2:
                    merit, scores = spearman_with(difference[of]), [run[of] for run in row.memorization]
                    found[name] = self.estimate(merit, scores, self._examples[:, of])
            fitted = self.problem.fitted[row.judged_by :]
            if len(fitted.inside) and self.problem.fitted is not self.problem.truth:
                by_heart = fitted.memorization("probability")
                told = np.isfinite(by_heart)
                scores = [run[told] for run in row.memorization]
                merit = spearman_with(by_heart[told])
                found["fitted_memorization"] = self.estimate(merit, scores, self._examples[:, told])
        if len(row.suspicion) and wrong.any() and not wrong.all():
            found |= self._detection(row.suspicion)
        if len(row.influence):
            foretold = found["lds"] = self._lds(row, truth)
            if self.ceiling is not None and self.ceiling.oracle > 0:
                found["lds_share"] = {name: round(of / self.ceiling.oracle, 6) for name, of in foretold.items()}
            fitted = self.problem.fitted[row.judged_by :]
            if len(fitted.inside) >= 2 * _GROUPS and self.problem.fitted is not self.problem.truth:
                found["fitted_lds"] = self._lds(row, fitted)
        return {
            "method": row.method,
            "family": row.family,
            "networks": row.networks,
            "repeats": row.repeats,
            **found,
        }

    def _lds(self, row: Row, truth: SubsetOutputs) -> dict[str, float]:
        """LDS, its interval as wide as targets, judging networks and trainings make it.

        Targets by the bootstrap; another draw of the judging networks by the jackknife that leaves a tenth of them out
        (Efron & Tibshirani 1993, chapter 11); another training by the spread of the repeats, where there are several.
        """
        goodness = self.problem.goodness_of(truth)
        every = [lds(influence, truth.inside, goodness) for influence in row.influence]
        found = self.estimate(_weighted_mean, every, self._targets)
        judges = _jackknife(row.influence[0], truth.inside, goodness)
        single = [float(of.mean()) for of in every]
        trainings = float(np.var(single, ddof=1)) / len(single) if len(single) > 1 else 0.0
        more = norm.ppf((1 + self.confidence) / 2) ** 2 * (judges + trainings)
        value = found["value"]
        for name, sign in (("low", -1.0), ("high", 1.0)):
            found[name] = round(value + sign * float(np.sqrt((found[name] - value) ** 2 + more)), 6)
        return found

    def _ceiling(self, again: SubsetOutputs) -> Ceiling:
        """From the networks on the first subsets, and those that were trained on them again."""
        times = int((again.inside == again.inside[0]).all(1).sum())
        subsets = len(again.inside) // times
        outputs = self.problem.goodness_of(again).reshape(-1, subsets, len(self.problem.targets))
        return lds_ceiling(np.concatenate([self.problem.goodness[None, :subsets], outputs]), confidence=self.confidence)

    def estimate(self, merit: Merit, runs: Sequence[np.ndarray], weights: np.ndarray) -> dict[str, float]:
        """A figure of merit as it goes to the tables: value, low, high, worst, best."""
        found = estimate(merit, runs, weights, self.confidence)
        return {name: round(number, 6) for name, number in found._asdict().items()}

    def _detection(self, suspicion: Sequence[np.ndarray]) -> dict[str, dict[str, float]]:
        """How well the wrong labels are found."""
        merits = {"auroc": auroc_for, "average_precision": average_precision_for}
        return {name: self.estimate(of(self.problem.wrong), suspicion, self._examples) for name, of in merits.items()}

    def measures(self, runs: Sequence[Result]) -> list[dict[str, Any]]:
        """The raw memorization of turn-over runs in three measures, at the end and averaged over training.

        Each against subset retraining in the same measure, and in probability.
        """
        train = len(self.problem.train)
        truths = {measure: self.problem.truth.memorization(measure) for measure in MEASURES}
        known = np.isfinite(truths["probability"])
        merits = {measure: spearman_with(truth[known]) for measure, truth in truths.items()}
        found = []
        for count, measure, averaged in product(doublings(len(runs)), MEASURES, (False, True)):
            single = [memorization(run, measure, averaged, train) for run in runs]
            scores = [mean(part)[known] for part in groups(single, count)]
            own, probability = (
                self.estimate(merits[name], scores, self._examples[:, known]) for name in (measure, "probability")
            )
            about = {"networks": count, "measure": measure, "averaged": averaged}
            found.append({**about, "same_measure": own, "probability": probability})
        return found

    def ceilings(self) -> dict[str, Any]:
        """What nothing can exceed by much: the agreement of the networks with themselves, detection by all of them."""
        truth, wrong = self.problem.truth, self.problem.wrong
        found: dict[str, Any] = {}
        for measure in ("probability", "accuracy"):
            half = truth.split_half(measure)
            found[f"split_half_{measure}"] = round(half.spearman, 6)
            found[f"reliability_{measure}"] = round(half.reliability, 6)
        if self.ceiling is not None:
            found["lds_ceiling"] = {name: round(value, 6) for name, value in self.ceiling._asdict().items()}
        if self.problem.fitted is not truth:
            fitted = self.problem.fitted
            chance, inside = fitted.probability[:, : len(wrong)], fitted.inside
            usual, trained = truth.probability[:, : len(wrong)], truth.inside
            found["wrong_labels_given_back"] = {
                "usual": round(float(usual[trained & wrong].mean()), 6) if wrong.any() else None,
                "fitted": round(float(chance[inside & wrong].mean()), 6) if wrong.any() else None,
            }
        if wrong.any() and not wrong.all():
            unexplained = 1 - np.nan_to_num(truth.heldout("probability")[: len(wrong)], nan=0.5)
            detection = self._detection([unexplained])
            found |= {f"{name}_of_heldout_probability": value for name, value in detection.items()}
        return found


def _weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.asarray(weights @ values / weights.sum(1))


def _jackknife(influence: np.ndarray, inside: np.ndarray, goodness: np.ndarray) -> float:
    """Variance of the LDS under another draw of the judging networks; 0 where they are too few to tell."""
    if len(goodness) < 2 * _GROUPS:
        return 0.0
    group = np.arange(len(goodness)) % _GROUPS
    kept = [group != one for one in range(_GROUPS)]
    left = np.array([lds(influence, inside[of], goodness[of]).mean() for of in kept])
    return (_GROUPS - 1) / _GROUPS * float(np.square(left - left.mean()).sum())
