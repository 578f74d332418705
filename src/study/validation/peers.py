"""Rows of the public estimators: from the dynamics of ordinary trainings, and through captum, dattri and cleanlab."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from study.peers import dynamics, with_captum, with_cleanlab, with_dattri
from study.peers.inputs import TrainedNetwork
from study.peers.knn_shapley import knn_shapley
from study.validation.pieces import Arrays, Piece, Pieces
from study.validation.rows import Row, doublings, groups, mean
from study.validation.runs import trained_network
from study.validation.settings import Problem
from turnover.reading.examples import Examples
from turnover.reading.outputs import loss_and_margin

EARLY = 5  # the epoch of EL2N, within the first third as in its paper
# The best of those tried on a ground truth of this kind, from another draw of examples (docs/validation.md).
DAMPING, COMPONENTS, NEIGHBOURS, DIMENSION, RIDGE = 1e-2, 128, 10, 512, 0.1

Influence = Callable[[Sequence[TrainedNetwork], Examples, Examples], Tensor]
SelfInfluence = Callable[[Sequence[TrainedNetwork], Examples], Tensor]


def dynamics_scores(logits: np.ndarray, labels: Tensor) -> dict[str, np.ndarray]:
    """Scores [train] by name, from logits [epochs, train, classes] of an ordinary training."""
    values = torch.from_numpy(logits)
    loss, margin = (part.numpy() for part in loss_and_margin(values, labels.expand(len(values), -1)))
    return {
        "loss": dynamics.final_loss(loss),
        "CSL": dynamics.cumulative_loss(loss),
        "AUM": dynamics.area_under_margin(margin),
        "EL2N": dynamics.el2n(logits[min(EARLY, len(logits)) - 1], labels.numpy()),
        "forgetting": dynamics.forgetting_events(margin > 0),
    }


def dynamics_rows(problem: Problem, networks: Sequence[Piece]) -> Iterator[Row]:
    """Loss, CSL, AUM, EL2N and forgetting events, each averaged over 1, 2, 4 ... networks."""
    scores = [dynamics_scores(piece["logits"], problem.train.labels) for piece in networks]
    seconds = float(np.mean([piece["seconds_training"] for piece in networks]))
    for name in scores[0]:
        for count in doublings(len(networks)):
            found = [mean([score[name] for score in part]) for part in groups(scores, count)]
            yield Row(name, "dynamics", count, count * seconds, 0.0, memorization=found, suspicion=found)


def cumulative_loss(problem: Problem, networks: Sequence[Piece]) -> np.ndarray:
    """CSL averaged over all ordinary networks [train]: the difficulty that partial correlations take away."""
    return mean([dynamics_scores(piece["logits"], problem.train.labels)["CSL"] for piece in networks])


def peer_rows(problem: Problem, networks: Sequence[Piece], pieces: Pieces) -> Iterator[Row]:
    """TracIn, TRAK, influence function, representer points and KNN-Shapley.

    Methods of one network are repeated on as many networks as there are turn-over runs; their mean over these is the
    row of several networks. TRAK has a way of its own to go from one network to several.
    """
    few = networks[: len(problem.settings.seeds)]

    def single(
        name: str, influence: Influence | None, itself: SelfInfluence | None, on: Sequence[Piece] = few
    ) -> Iterator[Row]:
        made = [
            _piece(problem, pieces, f"{name}-{number}", [piece], influence, itself) for number, piece in enumerate(on)
        ]
        for count in doublings(len(made)):
            parts = groups(made, count)
            yield _row(name, count, networks, count * float(np.mean([piece.seconds for piece in made])), parts)

    yield from single("TracIn (captum)", with_captum.tracin, with_captum.tracin_self)
    yield from single("TracIn (dattri head)", with_dattri.tracin, None, few[:1])
    yield from single(
        "influence function (dattri head)",
        lambda n, train, targets: with_dattri.influence_function(
            n, train, targets, components=COMPONENTS, damping=DAMPING
        ),
        lambda n, train: with_dattri.influence_function_self(n, train, components=COMPONENTS, damping=DAMPING),
    )
    yield from single("representer points (dattri)", with_dattri.representer_points, None, few[:1])
    for row in single(
        "KNN-Shapley", lambda n, train, targets: knn_shapley(n, train, targets, neighbours=NEIGHBOURS), None
    ):
        # A wrong label lowers the accuracy on the held-out examples, whose labels are right.
        yield Row(**{**vars(row), "suspicion": [-influence.sum(1) for influence in row.influence]})
    # Without a ridge, as many dimensions as examples would be singular.
    dimension = min(DIMENSION, len(problem.train) // 3)
    for ridge in (0.0, RIDGE):
        name = "TRAK (dattri head)" if ridge == 0.0 else f"TRAK (dattri head ridge {ridge:g})"

        def trak(n: Sequence[TrainedNetwork], train: Examples, targets: Examples, ridge: float = ridge) -> Tensor:
            return with_dattri.trak(n, train, targets, dimension=dimension, regularization=ridge)

        def trak_self(n: Sequence[TrainedNetwork], train: Examples, ridge: float = ridge) -> Tensor:
            return with_dattri.trak_self(n, train, dimension=dimension, regularization=ridge)

        for count in sorted({1, min(4, len(networks)), len(networks)}):
            part = networks[:count]
            made = _piece(problem, pieces, f"{name}-of-{count}", part, trak, trak_self if count == 1 else None)
            yield _row(name, count, networks, made.seconds, [[made]])


def cleanlab_row(problem: Problem, folds: Piece) -> tuple[Row, int, int]:
    """Confident learning from out-of-fold probabilities; how many labels it calls wrong, and how many of them are."""
    probabilities, labels = folds["probabilities"], problem.train.labels.numpy()
    score = with_cleanlab.label_suspicion(probabilities, labels)
    flagged = with_cleanlab.label_issues(probabilities, labels)
    row = Row(
        "cleanlab (out of fold)",
        "peer",
        problem.settings.folds,
        folds.seconds,
        0.0,
        memorization=[score],
        suspicion=[score],
    )
    return row, int(flagged.sum()), int((flagged & problem.wrong).sum())


def _piece(
    problem: Problem,
    pieces: Pieces,
    name: str,
    networks: Sequence[Piece],
    influence: Influence | None,
    itself: SelfInfluence | None,
) -> Piece:
    def make() -> Arrays:
        trained = [trained_network(problem, piece) for piece in networks]
        found = {}
        if influence is not None:
            found["influence"] = influence(trained, problem.train, problem.targets).numpy()
        if itself is not None:
            found["self"] = itself(trained, problem.train).numpy()
        return found

    return pieces.get(f"peer-{''.join(c if c.isalnum() else '-' for c in name)}", make)


def _row(name: str, count: int, networks: Sequence[Piece], seconds: float, parts: Sequence[Sequence[Piece]]) -> Row:
    training = count * float(np.mean([piece["seconds_training"] for piece in networks]))
    have = parts[0][0].arrays
    itself = [mean([piece["self"] for piece in part]) for part in parts] if "self" in have else []
    influence = [mean([piece["influence"] for piece in part]) for part in parts] if "influence" in have else []
    return Row(name, "peer", count, training, seconds, itself, itself, influence)
