"""Every row against the ground truth: agreement, LDS, detection of wrong labels, each with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from study.artefacts.kept import Result
from study.retraining.lds import lds
from study.validation.ours import MEASURES, memorization
from study.validation.resampling import (
    Estimate,
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
        self._goodness = problem.goodness()

    def judge(self, row: Row) -> dict[str, Any]:
        """The row's figures: None where the method does not estimate it, else value, low, high, worst, best."""
        truth = self.problem.truth[row.judged_by :]
        difference = truth.memorization("probability")
        unexplained = 1 - truth.heldout("probability")[: len(difference)]
        wrong = self.problem.wrong
        # An example that all networks saw, or none, has no truth.
        known = np.isfinite(difference) & np.isfinite(unexplained)
        given = partial(partial_spearman_with, given=self.difficulty[known])
        found: dict[str, Estimate | None] = dict.fromkeys(FIGURES)
        if len(row.memorization):
            scores = [run[known] for run in row.memorization]
            found["memorization"] = self.estimate(spearman_with(difference[known]), scores, known)
            found["given_csl"] = self.estimate(given(difference[known]), scores, known)
            found["heldout"] = self.estimate(spearman_with(unexplained[known]), scores, known)
        if len(row.suspicion) and wrong.any() and not wrong.all():
            found["auroc"] = self.estimate(auroc_for(wrong), row.suspicion)
            found["average_precision"] = self.estimate(average_precision_for(wrong), row.suspicion)
        if len(row.influence):
            inside, goodness = truth.inside, self._goodness[row.judged_by :]
            correlations = [lds(influence, inside, goodness) for influence in row.influence]
            found["lds"] = estimate(_weighted_mean, correlations, self._targets, self.confidence)
        return {
            "method": row.method,
            "family": row.family,
            "networks": row.networks,
            "repeats": row.repeats,
            **{figure: None if value is None else rounded(value) for figure, value in found.items()},
        }

    def estimate(self, merit: Merit, runs: Sequence[np.ndarray], which: np.ndarray | None = None) -> Estimate:
        """A figure of merit over training examples, or those of `which` (bool [train])."""
        weights = self._examples if which is None else self._examples[:, which]
        return estimate(merit, runs, weights, self.confidence)

    def measures(self, runs: Sequence[Result]) -> list[dict[str, Any]]:
        """The raw memorization of turn-over runs in three measures, at the end and averaged over training.

        Each against subset retraining in the same measure, and in probability.
        """
        train = len(self.problem.train)
        truths = {measure: self.problem.truth.memorization(measure) for measure in MEASURES}
        known = np.isfinite(truths["probability"])
        found = []
        for count in doublings(len(runs)):
            for measure in MEASURES:
                for averaged in (False, True):
                    single = [memorization(run, measure, averaged, train) for run in runs]
                    scores = [mean(part)[known] for part in groups(single, count)]
                    own, probability = (spearman_with(truths[name][known]) for name in (measure, "probability"))
                    found.append(
                        {
                            "networks": count,
                            "measure": measure,
                            "averaged": averaged,
                            "same_measure": rounded(self.estimate(own, scores, known)),
                            "probability": rounded(self.estimate(probability, scores, known)),
                        }
                    )
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
            unexplained = [1 - np.nan_to_num(truth.heldout("probability")[: len(wrong)], nan=0.5)]
            found["auroc_of_heldout_probability"] = rounded(self.estimate(auroc_for(wrong), unexplained))
            found["average_precision_of_heldout_probability"] = rounded(
                self.estimate(average_precision_for(wrong), unexplained)
            )
        return found


def rounded(value: Estimate) -> dict[str, float]:
    """As it goes to the tables."""
    return {name: round(number, 6) for name, number in value._asdict().items()}


def _weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.asarray(weights @ values / weights.sum(1))
