"""Every row against the ground truth: agreement, LDS, detection of wrong labels, each with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from study.artefacts.kept import Result
from study.retraining.lds import lds
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

FIGURES = ("memorization", "given_csl", "heldout", "lds", "auroc", "average_precision")


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
        if len(row.suspicion) and wrong.any() and not wrong.all():
            found |= self._detection(row.suspicion)
        if len(row.influence):
            goodness = self.problem.goodness[row.judged_by :]
            correlations = [lds(influence, truth.inside, goodness) for influence in row.influence]
            found["lds"] = self.estimate(_weighted_mean, correlations, self._targets)
        return {
            "method": row.method,
            "family": row.family,
            "networks": row.networks,
            "repeats": row.repeats,
            **found,
        }

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
        if wrong.any() and not wrong.all():
            unexplained = 1 - np.nan_to_num(truth.heldout("probability")[: len(wrong)], nan=0.5)
            detection = self._detection([unexplained])
            found |= {f"{name}_of_heldout_probability": value for name, value in detection.items()}
        return found


def _weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.asarray(weights @ values / weights.sum(1))
