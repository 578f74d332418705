"""Rows of turn-over dropout, raw and sharpened, of the controls that go without it, and of subset retraining itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from study.artefacts.kept import Result
from study.peers.left_out import left_out
from study.retraining.subsets import Measure
from study.validation.rows import Row, averaged, seconds_each
from study.validation.runs import ranking, trained_network
from study.validation.settings import Problem, softmax, timed
from turnover.attribution.nearness import localize
from turnover.scoring.neighbourhood import neighbourhood
from turnover.scoring.sharpening import STEP, newton_step

MEASURES: tuple[Measure, ...] = ("loss", "probability", "accuracy")
# Of one Newton step to memorization from what neighbours and predictions say: the best of 3, 10, 20, 40 and 80 under
# the usual judges, or next to it and better under fitted ones (benchmarks/choosing.py), by the units that are kept.
_STEPS = {0.75: 20.0, 0.9: 10.0}
_ORDINARY_STEP = 3.0
# Subset retraining as a contestant: so many networks.
CONTESTANTS = (4, 10, 20, 50, 100)


def memorization(run: Result, measure: str, averaged: bool, train: int) -> np.ndarray:
    """Exposed minus flipped [train], at the end or averaged over the epochs of the training."""

    def values(of: str) -> np.ndarray:
        if measure == "accuracy":
            return run[f"correct_{of}"][:, :train].astype(np.float64)
        loss = run[f"loss_{of}"][:, :train].astype(np.float64)
        return -loss if measure == "loss" else np.exp(-loss)

    gap = values("exposed") - values("flipped")
    return np.asarray(gap.mean(0) if averaged else gap[-1])


def turn_over_rows(problem: Problem, runs: Sequence[Result]) -> Iterator[Row]:
    """Raw, sharpened, pooled, left-out and combined estimates, each from 1, 2, 4 ... runs."""
    train = len(problem.train)
    steps = ("training", "raw", "reading", "localizing", "sharpening", "pooling", "leaving", "combining")
    spent = {of: float(np.mean([run[f"seconds_{of}"] for run in runs])) for of in steps}
    training, reading = spent["training"], spent["reading"]

    def said(run: Result) -> tuple[Mapping[str, np.ndarray], ...]:
        return (
            {
                "memorization": memorization(run, "probability", False, train),
                "suspicion": run["loss_flipped"][-1, :train],
                "influence": run["influence"],
            },
            {"memorization": run["sharpened"], "suspicion": -run["support"], "influence": run["localized"]},
            *({"influence": run[of]} for of in ("pooled", "left-out", "combined")),
        )

    ways = {
        "raw": spent["raw"],
        "sharpened": reading + spent["localizing"] + spent["sharpening"],
        "pooled": reading + spent["pooling"],
        "left-out": reading + spent["leaving"],
        "combined": reading + spent["combining"],
    }
    every = zip(*map(said, runs), strict=True)
    rows = [
        averaged(f"turn-over {way}", "turn-over", of_runs, training, seconds)
        for (way, seconds), of_runs in zip(ways.items(), every, strict=True)
    ]
    for of_one_count in zip(*rows, strict=True):
        yield from of_one_count


def control_rows(problem: Problem, networks: Sequence[Result]) -> Iterator[Row]:
    """What goes into the sharpened estimates beside turn-over dropout, on ordinary networks without it.

    Influence: the similarity factor, with the agreement of the labels in place of the masks' influence; or left-out
    residuals, told by the neighbours alone or with the predictions averaged over training. Memorization: leverage times
    one minus the label's probability averaged over training; or one Newton step from neighbours and predictions.
    Suspicion: lack of support, of the neighbours alone or of both.
    """
    train, targets = problem.train, problem.targets
    same = (train.labels.unsqueeze(1) == targets.labels).float()
    agreement = 2 * same - 1  # 0 or -1 / (classes - 1) for other labels did worse
    yield Row("same label", "control", 0, 0.0, 0.0, influence=[same.numpy()])

    def on(network: Result) -> Mapping[str, np.ndarray]:
        model = trained_network(problem, network).model
        near = neighbourhood(model, train.images, train.labels)
        known = softmax(network["logits"]).mean(0)[np.arange(len(train)), train.labels.numpy()]
        return {
            "memorization": near["leverage"].to_numpy() * (1 - known),
            "suspicion": -near["support"].to_numpy(),
            "influence": localize(agreement, model, train.images, targets.images).numpy(),
        }

    said, seconds = zip(*(timed(partial(on, network)) for network in networks), strict=True)
    name = "similarity without turn-over"
    yield from averaged(name, "control", said, seconds_each(networks), float(np.mean(seconds)))
    yield from left_out_rows(problem, networks)


def left_out_rows(problem: Problem, networks: Sequence[Result]) -> Iterator[Row]:
    """Left-out residuals on ordinary networks: the same formulas, and with them the predictions over training."""
    train, targets = problem.train, problem.targets

    def alone(network: Result) -> Mapping[str, np.ndarray]:
        model = trained_network(problem, network).model
        return {"influence": left_out(model, train, targets).numpy()}

    def with_training(network: Result) -> Mapping[str, np.ndarray]:
        model = trained_network(problem, network).model
        over_training = softmax(network["logits"]).mean(0), softmax(network["target_logits"]).mean(0)
        ranked = _ranked(*ranking(problem, model, over_training[0]), _ORDINARY_STEP)
        return {**ranked, "influence": left_out(model, train, targets, over_training).numpy()}

    for name, on in (("", alone), (", with training", with_training)):
        said, seconds = zip(*(timed(partial(on, network)) for network in networks), strict=True)
        method = f"left-out without turn-over{name}"
        yield from averaged(method, "control", said, seconds_each(networks), float(np.mean(seconds)))


def kept_more_rows(keep: float, runs: Sequence[Result]) -> Iterator[Row]:
    """The same of networks of which more units were kept.

    Args:
        keep: the fraction of their units.
        runs: of `kept_more_run`.
    """
    return _ablation_rows(f"keep {keep:g}", runs, _STEPS.get(keep, STEP))


def dropout_rows(runs: Sequence[Result]) -> Iterator[Row]:
    """The same of networks with ordinary dropout, from `dropout_run`."""
    return _ablation_rows("ordinary dropout", runs, _ORDINARY_STEP)


def _ablation_rows(name: str, runs: Sequence[Result], step: float) -> Iterator[Row]:
    spent = {
        of: float(np.mean([run[f"seconds_{of}"] for run in runs]))
        for of in ("training", "leaving", "averaging", "ranking")
    }
    alone = [{"influence": run["left-out"]} for run in runs]
    too = [{**_ranked(run["leverage"], run["before"], step), "influence": run["averaged-left-out"]} for run in runs]
    yield from averaged(f"left-out, {name}", "ablation", alone, spent["training"], spent["leaving"])
    seconds = spent["averaging"] + spent["ranking"]
    yield from averaged(f"left-out, {name}, with training", "ablation", too, spent["training"], seconds)


def _ranked(leverage: np.ndarray, before: np.ndarray, step: float) -> dict[str, np.ndarray]:
    """Memorization by one Newton step from what was said without the example; suspicion by what that lacks to one."""
    return {"memorization": newton_step(step / STEP * leverage, before), "suspicion": 1 - before}


def retraining_rows(problem: Problem, seconds: float) -> Iterator[Row]:
    """The first networks of the ground truth as contestants, to be judged by the others.

    Args:
        problem: with the ground truth.
        seconds: of training one network on half of the examples.
    """
    truth, train = problem.truth, len(problem.train)
    for count in CONTESTANTS:
        if count > len(truth.inside) // 2:
            break
        first, goodness = truth[:count], problem.goodness[:count]
        with_i, without_i = (
            inside.T.astype(np.float64) @ goodness / np.maximum(inside.sum(0), 1)[:, None]
            for inside in (first.inside, ~first.inside)
        )
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
