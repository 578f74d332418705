"""Rows of the public estimators: from the dynamics of ordinary trainings, and through other packages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from study.artefacts.kept import KeptResults, Result
from study.peers import dynamics, with_cleanlab, with_dattri
from study.peers.datamodels import datamodels
from study.peers.input_curvature import input_curvature
from study.peers.inputs import TrainedNetwork
from study.peers.knn_shapley import knn_shapley
from study.peers.with_kronfluence import ekfac
from study.validation.rows import Row, averaged, mean, seconds_each
from study.validation.runs import trained_network
from study.validation.settings import Problem, timed
from turnover.batches.examples import Examples
from turnover.batches.outputs import loss_and_margin

EARLY = 5  # the epoch of EL2N, within the first third as in its paper
# The best of those tried on a ground truth of this kind, from another draw of examples (docs/validation.md).
DAMPING, COMPONENTS, NEIGHBOURS, DIMENSION, RIDGE = 1e-2, 128, 10, 512, 0.1
DATAMODEL_NETWORKS = 100  # at most: half of the subset networks must be left to judge

Method = Callable[[Sequence[TrainedNetwork], Examples, Any], Tensor]  # the targets, or None where it takes them


def dynamics_scores(logits: np.ndarray, labels: Tensor) -> dict[str, np.ndarray]:
    """Scores [train] by name, from logits [epochs, train, classes] of an ordinary training."""
    values = torch.from_numpy(logits)
    loss, margin = (part.double().numpy() for part in loss_and_margin(values, labels.expand(len(values), -1)))
    return {
        "loss": loss[-1],
        "CSL": dynamics.cumulative_loss(loss),
        "AUM": dynamics.area_under_margin(margin),
        "EL2N": dynamics.el2n(logits[min(EARLY, len(logits)) - 1].astype(np.float64), labels.numpy()),
        "forgetting": dynamics.forgetting_events(margin > 0),
    }


def dynamics_rows(problem: Problem, networks: Sequence[Result]) -> Iterator[Row]:
    """Loss, CSL, AUM, EL2N and forgetting events, each averaged over 1, 2, 4 ... networks."""
    scores = [dynamics_scores(network["logits"], problem.train.labels) for network in networks]
    for name in scores[0]:
        said = [{"memorization": score[name], "suspicion": score[name]} for score in scores]
        yield from averaged(name, "dynamics", said, seconds_each(networks))


def cumulative_loss(problem: Problem, networks: Sequence[Result]) -> np.ndarray:
    """CSL averaged over all ordinary networks [train]: the difficulty that partial correlations take away."""
    return mean([dynamics_scores(network["logits"], problem.train.labels)["CSL"] for network in networks])


def peer_rows(problem: Problem, networks: Sequence[Result], kept: KeptResults) -> Iterator[Row]:
    """TracIn, TRAK, influence functions, representer points, KNN-Shapley; curvature and cleanlab's neighbours.

    Methods of one network are repeated on as many networks as there are turn-over runs; their mean over these is the
    row of several networks. TRAK has a way of its own to go from one network to several.
    """
    training = seconds_each(networks)
    few = networks[: len(problem.settings.seeds)]

    def judged(name: str, on: Sequence[Result], influence: Method | None, itself: Method | None) -> Result:
        def make() -> Mapping[str, np.ndarray]:
            trained = [trained_network(problem, network) for network in on]
            asked = {"influence": (influence, problem.targets), "self": (itself, None)}
            return {
                of: peer(trained, problem.train, at).numpy() for of, (peer, at) in asked.items() if peer is not None
            }

        return kept.get(f"peer-{''.join(c if c.isalnum() else '-' for c in name)}", make)

    def rows(name: str, made: Sequence[Result], each: int = 1) -> Iterator[Row]:
        said = [dict(result.arrays) for result in made]
        for one in said:
            if "self" in one:
                one["memorization"] = one["suspicion"] = one.pop("self")
        return averaged(name, "peer", said, training, seconds_each(made), each)

    def single(
        name: str, influence: Method | None, itself: Method | None = None, on: Sequence[Result] = few
    ) -> Iterator[Row]:
        return rows(name, [judged(f"{name}-{n}", [network], influence, itself) for n, network in enumerate(on)])

    yield from single("TracIn (dattri head)", with_dattri.tracin, with_dattri.tracin)
    curvature = partial(with_dattri.influence_function, components=COMPONENTS, damping=DAMPING)
    yield from single("influence function (dattri head)", curvature, curvature)
    # Minutes for one network.
    yield from single("EK-FAC influence function (kronfluence)", ekfac, on=few[:1])
    yield from single("representer points (dattri)", with_dattri.representer_points, on=few[:1])
    for shapley in single("KNN-Shapley", partial(knn_shapley, neighbours=NEIGHBOURS)):
        # A wrong label lowers the accuracy on the held-out examples, whose labels are right.
        yield replace(shapley, suspicion=[-influence.sum(1) for influence in shapley.influence])
    # Without a ridge, as many dimensions as examples would be singular.
    dimension = min(DIMENSION, len(problem.train) // 3)
    for ridge in (0.0, RIDGE):
        name = "TRAK (dattri head)" if ridge == 0.0 else f"TRAK (dattri head ridge {ridge:g})"
        trak = partial(with_dattri.trak, dimension=dimension, regularization=ridge)
        for count in sorted({1, min(4, len(networks)), len(networks)}):
            made = judged(f"{name}-of-{count}", networks[:count], trak, trak if count == 1 else None)
            yield from rows(name, [made], each=count)
    yield from single("input curvature", None, input_curvature)
    yield from single("cleanlab (features)", None, with_cleanlab.feature_suspicion)


def cleanlab_row(problem: Problem, folds: Result) -> tuple[Row, int, int]:
    """Confident learning from out-of-fold probabilities; how many labels it calls wrong, and how many of them are."""
    probabilities, labels = folds["probabilities"], problem.train.labels.numpy()
    score = with_cleanlab.label_suspicion(probabilities, labels)
    flagged = with_cleanlab.label_issues(probabilities, labels)
    of, seconds = problem.settings.folds, folds.seconds
    row = Row("cleanlab (out of fold)", "peer", of, seconds, 0.0, memorization=[score], suspicion=[score])
    return row, int(flagged.sum()), int((flagged & problem.wrong).sum())


def datamodel_row(problem: Problem, seconds: float) -> Row:
    """Datamodels from the first networks of the ground truth, to be judged by the others.

    Args:
        problem: with the ground truth.
        seconds: of training one network on half of the examples.
    """
    count = min(DATAMODEL_NETWORKS, len(problem.truth.inside) // 2)
    fit = partial(datamodels, problem.truth.inside[:count], problem.goodness[:count])
    found, fitting = timed(fit)
    return Row("datamodels", "retraining", count, count * seconds, fitting, influence=[found], judged_by=count)
