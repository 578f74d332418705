"""The networks that the estimates come from: turn-over runs, ordinary ones, and ordinary ones out of fold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from study.artefacts.kept import Arrays, Result
from study.peers.inputs import TrainedNetwork
from study.peers.left_out import left_out
from study.validation.settings import Problem, softmax, timed
from turnover.attribution.arguments import Estimate
from turnover.attribution.influence import influence
from turnover.batches.examples import Examples
from turnover.batches.passes import evaluating
from turnover.masking.insertion import head, insert
from turnover.reading.one_pass import read
from turnover.scoring.neighbourhood import neighbourhood
from turnover.scoring.sharpening import average_over_training, sharpen
from turnover.training.dynamics import Dynamics
from turnover.training.loop import train
from turnover.training.optimization import schedule_factor

# Weights of the ordinary networks must not be those of the turn-over runs, nor of the subset networks.
ORDINARY, FOLD, HALF, DROPOUT = 10_000, 20_000, 30_000, 70_000
# TracIn's checkpoints, as fractions of the training: the learning rate is 0 at the end.
CHECKPOINTS = (0.2, 0.4, 0.6, 0.8)


def turn_over_run(problem: Problem, seed: int) -> Arrays:
    """One training with turn-over dropout, and all its estimates.

    Returns:
        ``loss_*`` and ``correct_*`` [epochs, train + placebo] of the exposed, flipped and full networks;
        ``influence``, the raw loss difference, ``localized``, ``pooled``, ``left-out`` and ``combined`` [train,
        target]; ``sharpened`` memorization and ``support`` of the label [train]; and the seconds of each step.
    """
    model = insert(problem.network(seed), after="head", keep=problem.settings.keep, seed=seed)
    epochs = problem.recipe.epochs
    dynamics = Dynamics(problem.watched, range(1, epochs + 1))
    trained, targets = problem.train, problem.targets
    seconds: dict[str, float] = {}
    _, seconds["training"] = timed(
        lambda: train(model, trained, problem.config(seed), dynamics=dynamics, progress=False)
    )
    frame = dynamics.frame()
    arrays: dict[str, np.ndarray] = {
        f"{kind}_{of}": frame[f"{kind}_{of}"].to_numpy().reshape(epochs, len(problem.watched))
        for kind in ("loss", "correct")
        for of in ("exposed", "flipped", "full")
    }

    def estimated(estimate: Estimate, examples: Any) -> torch.Tensor:
        return influence(model, examples, targets.images, targets.labels, estimate=estimate, fused=False)

    raw, seconds["raw"] = timed(lambda: estimated("raw", trained.ids))
    readings, seconds["reading"] = timed(lambda: read(model, trained.images, trained.labels, trained.ids, masked=False))
    localized, seconds["localizing"] = timed(lambda: estimated("localized", readings))
    pooled, seconds["pooling"] = timed(lambda: estimated("pooled", readings))
    left_out, seconds["leaving"] = timed(lambda: estimated("left-out", readings))
    combined, seconds["combining"] = timed(lambda: estimated("combined", readings))
    near, seconds["sharpening"] = timed(lambda: neighbourhood(model, readings))
    sharpened = sharpen(average_over_training(frame[frame["id"] < len(trained)]), near)
    return {
        **arrays,
        "influence": raw.numpy(),
        "localized": localized.numpy(),
        "pooled": pooled.numpy(),
        "left-out": left_out.numpy(),
        "combined": combined.numpy(),
        "sharpened": sharpened["sharpened"].to_numpy(),
        "support": sharpened["support"].to_numpy(),
        **{f"seconds_{of}": np.asarray(value) for of, value in seconds.items()},
    }


def kept_more_run(problem: Problem, keep: float, seed: int) -> Arrays:
    """Another training of which more units are kept: what left-out residuals gain from masks in training.

    Returns:
        Influence [train, target]: ``left-out``, and ``averaged-left-out``, with the predictions averaged over training
        beside the neighbours; what ranks memorization and wrong labels [train]: ``leverage``, and ``before``, the
        probability of the given label by neighbours and predictions; and the seconds of each step.
    """
    model = insert(problem.network(seed), after="head", keep=keep, seed=seed)
    return left_out_of(problem, model, seed, turn_over=True)


def dropout_run(problem: Problem, number: int) -> Arrays:
    """The same of a training with ordinary dropout before the head, where no mask is an example's own."""
    seed = DROPOUT + number
    model = problem.network(seed)
    hook = head(model).register_forward_pre_hook(
        lambda module, given: (F.dropout(given[0], 1 - problem.settings.keep, module.training),)
    )
    found = left_out_of(problem, model, seed, turn_over=False)
    hook.remove()
    return found


def left_out_of(problem: Problem, model: nn.Module, seed: int, *, turn_over: bool) -> Arrays:
    """Train a network, and estimate influence from left-out residuals; see `kept_more_run`."""
    train_said, targets_said = list[np.ndarray](), list[np.ndarray]()

    def look(model: nn.Module) -> dict[str, float]:
        train_said.append(softmax(predict(model, problem.train)))
        targets_said.append(softmax(predict(model, problem.targets)))
        return {}

    seconds: dict[str, float] = {}
    config = problem.config(seed)
    _, seconds["training"] = timed(
        lambda: train(model, problem.train, config, turn_over=turn_over, evaluate=look, progress=False)
    )
    averaged = np.mean(train_said, 0), np.mean(targets_said, 0)
    found, seconds["leaving"] = timed(lambda: left_out(model.eval(), problem.train, problem.targets))
    more, seconds["averaging"] = timed(lambda: left_out(model, problem.train, problem.targets, averaged))
    (leverage, before), seconds["ranking"] = timed(lambda: ranking(problem, model, averaged[0]))
    return {
        "left-out": found.numpy(),
        "averaged-left-out": more.numpy(),
        "leverage": leverage,
        "before": before,
        **{f"seconds_{of}": np.asarray(value) for of, value in seconds.items()},
    }


def ranking(problem: Problem, model: nn.Module, over_training: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leverage, and what neighbours and network give the given label, half and half: float64 [train] each.

    Args:
        model: trained, with masks or without.
        over_training: its probabilities, averaged over its training [train, classes].
    """
    train = problem.train
    near = neighbourhood(model, train.images, train.labels)
    known = over_training[np.arange(len(train)), train.labels.numpy()].astype(np.float64)
    return near["leverage"].to_numpy(), (near["support"].to_numpy() + known) / 2


def ordinary_run(problem: Problem, number: int) -> Arrays:
    """One ordinary training on all training examples.

    Returns:
        ``logits`` [epochs, train, classes] and ``target_logits`` [epochs, target, classes] after every epoch, the state
        dict under ``final`` and those at `CHECKPOINTS` under ``checkpoint-0`` and so on, and ``learning_rates`` there.
    """
    seed = ORDINARY + number
    epochs = problem.recipe.epochs
    chosen = sorted({max(1, round(fraction * epochs)) for fraction in CHECKPOINTS})
    model = problem.network(seed)
    logits, of_targets = list[np.ndarray](), list[np.ndarray]()
    arrays: dict[str, np.ndarray] = {}

    def keep(prefix: str) -> None:
        state = model.state_dict().items()
        # Copies: the weights go on being trained in place.
        arrays.update({f"{prefix}/{key}": value.detach().cpu().contiguous().numpy().copy() for key, value in state})

    def look(model: nn.Module) -> dict[str, float]:
        logits.append(predict(model, problem.train))
        of_targets.append(predict(model, problem.targets))
        if len(logits) in chosen:
            keep(f"checkpoint-{chosen.index(len(logits))}")
        return {}

    train(model, problem.train, problem.config(seed), turn_over=False, evaluate=look, progress=False)
    keep("final")
    recipe = problem.recipe
    rates = [recipe.learning_rate * schedule_factor("one-cycle", epoch / epochs) for epoch in chosen]
    return {
        **arrays,
        "logits": np.stack(logits),
        "target_logits": np.stack(of_targets),
        "learning_rates": np.asarray(rates),
    }


def trained_network(problem: Problem, network: Result) -> TrainedNetwork:
    """What the peers get, from what `ordinary_run` stored."""

    def state_of(prefix: str) -> dict[str, Tensor]:
        names = [name for name in network.arrays if name.startswith(f"{prefix}/")]
        return {name.removeprefix(f"{prefix}/"): torch.from_numpy(network[name]) for name in names}

    model = problem.network(0)
    model.load_state_dict(state_of("final"))
    rates = tuple(float(rate) for rate in network["learning_rates"])
    return TrainedNetwork(model.eval(), tuple(state_of(f"checkpoint-{n}") for n in range(len(rates))), rates)


def out_of_fold(problem: Problem) -> Arrays:
    """``probabilities`` [train, classes] of every training example from a network that was not trained on it."""
    folds = problem.settings.folds
    count = len(problem.train)
    fold = np.random.default_rng([FOLD, count]).permutation(count) % folds
    found = np.zeros((count, len(problem.scenario.classes)))
    for number in range(folds):
        outside = torch.from_numpy(np.flatnonzero(fold != number))
        model = problem.network(FOLD + number)
        train(model, problem.train[outside], problem.config(FOLD + number), turn_over=False, progress=False)
        inside = np.flatnonzero(fold == number)
        found[inside] = softmax(predict(model, problem.train[torch.from_numpy(inside)]))
    return {"probabilities": found}


def half_run(problem: Problem, epochs: int) -> Arrays:
    """Train one network on a random half: nothing but the seconds that a subset network takes."""
    half = torch.from_numpy(np.random.default_rng(HALF).permutation(len(problem.train))[: len(problem.train) // 2])
    config = replace(problem.config(HALF), epochs=epochs)
    train(problem.network(HALF), problem.train[half], config, turn_over=False, progress=False)
    return {}


def predict(model: nn.Module, examples: Examples) -> np.ndarray:
    """Logits of the network, float32 [n, classes]."""
    with evaluating(model), torch.no_grad():
        return np.asarray(torch.cat([model(batch.images).float() for batch in examples.in_order(512)]).numpy())
