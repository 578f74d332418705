"""What the settings must be together: one sentence for what does not fit."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from study.context.params import Params, RemovalParams, TrainingParams

# The placement of the control: ordinary dropout in front of the head, no masks.
CONTROL = "dropout"

# Columns of memorization.parquet that order examples (study/estimation.py, which imports torch, makes them).
SCORES = (
    *("loss", "probability", "accuracy", "loss_exposed", "loss_flipped", "loss_full"),
    *("mean_loss", "mean_probability", "mean_accuracy", "mean_loss_exposed", "mean_loss_flipped", "mean_loss_full"),
    *("mean_probability_exposed", "mean_probability_flipped", "mean_probability_full", "mean_contrast"),
    *("leverage", "support", "sharpened"),
)
# Epochs between which the findings measure learning (EARLY of study/findings/learning.py).
EARLY_EPOCHS = (0, 1, 3)


def check_together(params: Params) -> None:
    """Raise ValueError where settings that are right one by one do not go together."""
    _check_dataset("data.dataset", params.data.dataset)
    lists = {key: getattr(params, key) for key in ("scenarios", "placements", "validation_sets")}
    for key, values in {**lists, "seeds.head": params.seeds.head, "seeds.other": params.seeds.other}.items():
        if len(set(values)) != len(values):
            raise ValueError(f"{key}: {values} names something twice")
    missing = [name for name in params.scenarios if name not in params.labels.noise]
    if missing:
        raise ValueError(
            f"labels.noise: no fraction of random labels for scenario {missing[0]!r}; "
            f"it has {sorted(params.labels.noise)}"
        )
    _check_validation_sets(params)
    if params.estimate.influence.targets > params.data.heldout:
        raise ValueError(
            f"estimate.influence.targets: {params.estimate.influence.targets} "
            f"is more than data.heldout={params.data.heldout}"
        )
    if params.training.batch_size > params.data.train:
        raise ValueError(
            f"training.batch_size: {params.training.batch_size} is more than data.train={params.data.train}"
        )
    beyond = [epoch for epoch in params.training.keep_checkpoints if epoch > params.training.epochs]
    if beyond:
        raise ValueError(
            f"training.keep_checkpoints: {beyond[0]} is more than training.epochs={params.training.epochs}"
        )
    _check_dynamics_epochs(params.training)
    _check_removal(params.removal, params.labels.noise, params.scenarios)
    if params.placements == [CONTROL]:
        raise ValueError(f"placements: {CONTROL!r} is only the control: name head, all, or modules joined by '+' too")


def _check_validation_sets(params: Params) -> None:
    for name in params.validation_sets:
        if name not in params.validation:
            raise ValueError(f"validation: there is no set {name!r}; it has {sorted(params.validation)}")
    for name, settings in params.validation.items():
        _check_dataset(f"validation.{name}.dataset", settings.dataset)


def _check_dataset(key: str, name: str) -> None:
    from study.data.sources.fetching import NAMES  # here, because it imports numpy and more

    if name not in NAMES and not name.startswith(("folder:", "table:")):
        raise ValueError(
            f"{key}: {name!r} is not allowed: it should be one of {', '.join(NAMES)}, folder:PATH or table:PATH"
            + did_you_mean(name, NAMES)
        )


def _check_dynamics_epochs(training: TrainingParams) -> None:
    listed, epochs = training.dynamics_epochs, training.epochs
    if isinstance(listed, str):
        return
    beyond = [epoch for epoch in listed if epoch > epochs]
    if beyond:
        raise ValueError(f"training.dynamics_epochs: {beyond[0]} is not allowed: epochs run from 0 to {epochs}")
    wanted = [epoch for epoch in EARLY_EPOCHS if epoch <= epochs]
    lacking = [epoch for epoch in wanted if epoch not in (*listed, epochs)]  # the last one is always recorded
    if lacking:
        raise ValueError(
            f"training.dynamics_epochs: {listed} is not allowed: it lacks {', '.join(map(str, lacking))}, and the "
            "findings measure how far the loss falls in the first epoch and over the first "
            f"{EARLY_EPOCHS[-1]}; it should hold {', '.join(map(str, wanted))}, or be auto or all"
        )


def _check_removal(removal: RemovalParams, noise: dict[str, float], scenarios: list[str]) -> None:
    if not set(removal.scenarios) & set(scenarios):
        raise ValueError(
            f"removal.scenarios: none of {', '.join(removal.scenarios)} is in scenarios, {', '.join(scenarios)}: "
            "name one of them"
        )
    for name in removal.scenarios:
        if name not in noise:
            raise ValueError(
                f"removal.scenarios: {name!r} is not allowed: it should be a scenario of labels.noise, "
                f"{', '.join(noise) or 'which has none'}{did_you_mean(name, noise)}"
            )
    if removal.score not in SCORES:
        raise ValueError(
            f"removal.score: {removal.score!r} is not allowed: it should be one of {', '.join(SCORES)}"
            + did_you_mean(removal.score, SCORES)
        )


def did_you_mean(value: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(value, list(names), n=1)
    return f": did you mean {close[0]!r}?" if close else ""
