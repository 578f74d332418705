"""Rows of turn-over dropout, raw and sharpened, of the controls that go without it, and of subset retraining itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from study.artefacts.kept import Result
from study.retraining.subsets import Measure
from study.validation.rows import Row, doublings, groups, mean, seconds_each
from study.validation.runs import trained_network
from study.validation.settings import Problem, softmax, timed
from turnover.attribution.nearness import localize
from turnover.scoring.neighbourhood import neighbourhood

MEASURES: tuple[Measure, ...] = ("loss", "probability", "accuracy")
# Subset retraining as a contestant: so many networks.
CONTESTANTS = (4, 10, 20, 50, 100)


def values(run: Result, measure: str, of: str, train: int) -> np.ndarray:
    """A measure of one sub-network at every epoch [epochs, train]: the more, the better it knows the label."""
    if measure == "accuracy":
        return run[f"correct_{of}"][:, :train].astype(np.float64)
    loss = run[f"loss_{of}"][:, :train].astype(np.float64)
    return -loss if measure == "loss" else np.exp(-loss)


def memorization(run: Result, measure: str, averaged: bool, train: int) -> np.ndarray:
    """Exposed minus flipped [train], at the end or averaged over the epochs of the training."""
    gap = values(run, measure, "exposed", train) - values(run, measure, "flipped", train)
    return np.asarray(gap.mean(0) if averaged else gap[-1])


def turn_over_rows(problem: Problem, runs: Sequence[Result]) -> Iterator[Row]:
    """Raw, sharpened and pooled estimates, each from 1, 2, 4 ... runs."""
    train = len(problem.train)
    training, raw, sharper, pooling = (seconds_each(runs, of) for of in ("training", "raw", "sharper", "pooling"))
    for count in doublings(len(runs)):
        parts = groups(runs, count)

        def means(name: str, parts: Sequence[Sequence[Result]] = parts) -> list[np.ndarray]:
            return [mean([run[name] for run in part]) for part in parts]

        yield Row(
            "turn-over raw",
            "turn-over",
            count,
            count * training,
            count * raw,
            memorization=[mean([memorization(run, "probability", False, train) for run in part]) for part in parts],
            suspicion=[mean([run["loss_flipped"][-1, :train] for run in part]) for part in parts],
            influence=means("influence"),
        )
        yield Row(
            "turn-over sharpened",
            "turn-over",
            count,
            count * training,
            count * (raw + sharper),
            memorization=means("sharpened"),
            suspicion=[-support for support in means("support")],
            influence=means("localized"),
        )
        yield Row(
            "turn-over pooled",
            "turn-over",
            count,
            count * training,
            count * (raw + sharper + pooling),
            influence=means("pooled"),
        )


def control_rows(problem: Problem, networks: Sequence[Result]) -> Iterator[Row]:
    """What goes into the sharpened estimates beside turn-over dropout, on ordinary networks without it.

    Influence: the similarity factor, with the agreement of the labels in place of the masks' influence. Memorization:
    leverage times one minus the label's probability averaged over training. Suspicion: support.
    """
    train, targets = problem.train, problem.targets
    same = (train.labels.unsqueeze(1) == targets.labels).float()
    agreement = 2 * same - 1  # 0 or -1 / (classes - 1) for other labels did worse
    yield Row("same label", "control", 0, 0.0, 0.0, influence=[same.numpy()])

    def on(network: Result) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        model = trained_network(problem, network).model
        near = neighbourhood(model, train.images, train.labels)
        known = softmax(network["logits"]).mean(0)[np.arange(len(train)), train.labels.numpy()]
        factor = localize(agreement, model, train.images, targets.images).numpy()
        return factor, near["leverage"].to_numpy() * (1 - known), -near["support"].to_numpy()

    made, seconds = zip(*(timed(partial(on, network)) for network in networks), strict=True)
    for count in doublings(len(networks)):
        factors, memorized, suspicious = zip(
            *([mean(of) for of in zip(*part, strict=True)] for part in groups(made, count)), strict=True
        )
        yield Row(
            "similarity without turn-over",
            "control",
            count,
            count * seconds_each(networks),
            count * float(np.mean(seconds)),
            memorization=memorized,
            suspicion=suspicious,
            influence=factors,
        )


def retraining_rows(problem: Problem, seconds: float) -> Iterator[Row]:
    """The first networks of the ground truth as contestants, to be judged by the others.

    Args:
        problem: with the ground truth.
        seconds: of training one network on half of the examples.
    """
    truth, goodness = problem.truth, problem.goodness()
    train = len(problem.train)
    for count in CONTESTANTS:
        if count > len(truth.inside) // 2:
            break
        first = truth[:count]
        inside = first.inside.astype(np.float64)
        with_i = inside.T @ goodness[:count] / np.maximum(inside.sum(0), 1)[:, None]
        without_i = (1 - inside).T @ goodness[:count] / np.maximum((1 - inside).sum(0), 1)[:, None]
        # An example that was in all of them, or in none, cannot be told anything about.
        known = np.logical_and(first.inside.any(0), ~first.inside.all(0)).reshape(-1, 1)
        yield Row(
            "subset retraining",
            "retraining",
            count,
            count * seconds,
            0.0,
            memorization=[np.nan_to_num(first.memorization("probability"))],
            suspicion=[1 - np.nan_to_num(first.heldout("probability")[:train], nan=0.5)],
            influence=[np.where(known, with_i - without_i, 0.0)],
            judged_by=count,
        )
