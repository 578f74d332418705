"""What the settings must be together: one sentence for what does not fit."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from study.context.params import Params, RemovalParams, TrainingParams

# The placement of the control: ordinary dropout in front of the head, no masks.
CONTROL = "dropout"

# Columns of memorization.parquet that order examples (stages/estimate.py, which imports torch, makes them).
SCORES = (
    *("loss", "probability", "accuracy", "loss_exposed", "loss_flipped", "loss_full"),
    *("mean_loss", "mean_probability", "mean_accuracy", "mean_loss_exposed", "mean_loss_flipped", "mean_loss_full"),
    *("mean_probability_exposed", "mean_probability_flipped", "mean_probability_full", "mean_contrast"),
    *("leverage", "support", "sharpened"),
)
# How the names of one's own data begin.
FEATURES = "features:"
OWN = ("folder:", "table:", "table-outside:", FEATURES)
_OF_FEATURES = "mlp"  # their network: to it all inputs are alike
_MOST = 10**9  # examples
# Epochs between which the findings measure learning (EARLY of study/findings/learning.py).
EARLY_EPOCHS = (0, 1, 3)


def check_together(params: Params) -> None:
    """Raise ValueError where settings that are right one by one do not go together."""
    data, training, seeds = params.data, params.training, params.seeds
    # What "all" and "auto" are is known only with the data: nothing is too many for them here.
    train, heldout = (size if isinstance(size, int) else _MOST for size in (data.train, data.heldout))
    _check_dataset("data.dataset", data.dataset)
    lists = {key: getattr(params, key) for key in ("scenarios", "placements", "validation_sets")}
    for key, values in {
        **lists,
        "seeds.head": seeds.head,
        "seeds.other": seeds.other,
        "removal.seeds": params.removal.seeds,
    }.items():
        if len(set(values)) != len(values):
            raise ValueError(f"{key}: {values} names something twice")
    for name in params.scenarios:
        if name not in params.labels.noise:
            raise ValueError(
                f"labels.noise: no fraction of random labels for scenario {name!r}; "
                f"it has {sorted(params.labels.noise)}"
            )
    for name in params.validation_sets:
        if name not in params.validation:
            raise ValueError(f"validation: there is no set {name!r}; it has {sorted(params.validation)}")
    for name, settings in params.validation.items():
        _check_dataset(f"validation.{name}.dataset", settings.dataset)
    _check_options("model", params.model.options)
    for name in params.validation_sets:
        _check_validation(name, params)
    for key, value, most, is_at_most in (
        ("estimate.influence.targets", params.estimate.influence.targets, "data.heldout", heldout),
        ("training.batch_size", training.batch_size, "data.train", train),
        ("training.keep_checkpoints", max(training.keep_checkpoints, default=0), "training.epochs", training.epochs),
    ):
        if value > is_at_most:
            raise ValueError(f"{key}: {value} is more than {most}={is_at_most}")
    _check_dynamics_epochs(training)
    _check_removal(params.removal, params.labels.noise, params.scenarios, train)
    _check_differ("scenarios", {name: round(params.labels.noise[name] * train) for name in params.scenarios})
    for name in params.placements:
        if len(set(name.split("+"))) < len(name.split("+")):
            raise ValueError(f"placements: {name!r} names a module twice")
    _check_differ("placements", {name: frozenset(name.split("+")) for name in params.placements})
    _check_crop(training, data.dataset)
    _check_features(params)
    if params.placements == [CONTROL]:
        raise ValueError(f"placements: {CONTROL!r} is only the control: name head, all, or modules joined by '+' too")


def _check_dataset(key: str, name: str) -> None:
    from study.data.sources.fetching import NAMES  # here, because it imports numpy and more

    if name in OWN:
        raise ValueError(f"{key}: {name!r} names no place: write {name}PATH")
    if "\0" in name:
        raise ValueError(f"{key}: {name!r} is not allowed: no path holds a zero byte")
    if not name.startswith(OWN):
        own = "folder:PATH, table:PATH, table-outside:PATH or features:PATH"
        _check_one_of(key, name, NAMES, f"one of {', '.join(NAMES)}, {own}")


def _check_options(key: str, options: Collection[str]) -> None:
    for name in ("seed", "shape", "classes", "name", "num_classes"):
        if name in options:
            raise ValueError(f"{key}.options.{name} is not a setting: it follows from the data and the seeds")


def _check_validation(name: str, params: Params) -> None:
    of, folds, fraction = params.validation[name], params.comparison.folds, params.retrain.fraction
    _check_options(f"validation.{name}", of.options)
    if folds > of.train:
        raise ValueError(f"comparison.folds: {folds} is more than validation.{name}.train={of.train}")
    if not 0 < round(fraction * of.train) < of.train:
        raise ValueError(
            f"retrain.fraction: {fraction} of validation.{name}.train={of.train} is {round(fraction * of.train)}: it "
            "should be some of them, and not all"
        )


def _check_differ(key: str, meaning: Mapping[str, object]) -> None:
    """Refuse two names for the same."""
    seen: dict[object, str] = {}
    for name, means in meaning.items():
        if means in seen:
            raise ValueError(f"{key}: {seen[means]!r} and {name!r} are the same: leave one of them out")
        seen[means] = name


def _check_crop(training: TrainingParams, dataset: str) -> None:
    shape = image_shape(dataset)
    for name in ("crop", "translate"):
        pixels = getattr(training.augmentation, name)
        if shape is not None and pixels >= min(shape[1:]):
            most = min(shape[1:]) - 1
            raise ValueError(f"training.augmentation.{name}: {pixels} is more than images of {dataset} allow, {most}")


def _check_features(params: Params) -> None:
    networks = {"model.name": (params.data.dataset, params.model.name)} | {
        f"validation.{name}.model": (of.dataset, of.model) for name, of in params.validation.items()
    }
    for key, (dataset, network) in networks.items():
        if dataset.startswith(FEATURES) and network != _OF_FEATURES:
            raise ValueError(
                f"{key}: {network!r} is not allowed for {dataset}: it looks for what lies side by side, as features do "
                f"not; it should be {_OF_FEATURES!r}, with options such as {{hidden: 512, layers: 1}}"
            )
    for name, value in params.training.augmentation:
        if value and params.data.dataset.startswith(FEATURES):
            raise ValueError(f"training.augmentation.{name}: {value} is for images, not for {params.data.dataset}")


def image_shape(dataset: str) -> tuple[int, int, int] | None:
    """Channels, height and width of a known data set's images; None of one's own."""
    if dataset.startswith(OWN):
        return None
    known = {"digits": (1, 8, 8), **dict.fromkeys(("cifar10", "cifar100", "svhn"), (3, 32, 32))}
    return known.get(dataset, (1, 28, 28))


def _check_dynamics_epochs(training: TrainingParams) -> None:
    listed, epochs = training.dynamics_epochs, training.epochs
    if isinstance(listed, str):
        return
    if max(listed, default=0) > epochs:
        raise ValueError(f"training.dynamics_epochs: {max(listed)} is not allowed: epochs run from 0 to {epochs}")
    wanted = [epoch for epoch in EARLY_EPOCHS if epoch <= epochs]
    lacking = [epoch for epoch in wanted if epoch not in (*listed, epochs)]  # the last one is always recorded
    if lacking:
        raise ValueError(
            f"training.dynamics_epochs: {listed} is not allowed: it lacks {', '.join(map(str, lacking))}, and the "
            "findings measure how far the loss falls in the first epoch and over the first "
            f"{EARLY_EPOCHS[-1]}; it should hold {', '.join(map(str, wanted))}, or be auto or all"
        )


def _check_removal(removal: RemovalParams, noise: Mapping[str, float], scenarios: list[str], train: int) -> None:
    if not set(removal.scenarios) & set(scenarios):
        raise ValueError(
            f"removal.scenarios: none of {', '.join(removal.scenarios)} is in scenarios, {', '.join(scenarios)}: "
            "name one of them"
        )
    for name in removal.scenarios:
        allowed = f"a scenario of labels.noise, {', '.join(noise) or 'which has none'}"
        _check_one_of("removal.scenarios", name, noise, allowed)
    _check_one_of("removal.score", removal.score, SCORES, f"one of {', '.join(SCORES)}")
    counts = [round(fraction * train) for fraction in removal.fractions]
    for fraction, count in zip(removal.fractions, counts, strict=True):
        if not 0 < count < train:
            raise ValueError(
                f"removal.fractions: {fraction} of data.train={train} is {count}: it should be some, and not all"
            )
    _check_differ("removal.fractions", dict(zip(map(str, removal.fractions), counts, strict=True)))
    if len(set(removal.fractions)) < len(removal.fractions):
        raise ValueError(f"removal.fractions: {removal.fractions} names something twice")


def _check_one_of(key: str, value: str, names: Collection[str], allowed: str) -> None:
    if value not in names:
        raise ValueError(f"{key}: {value!r} is not allowed: it should be {allowed}{did_you_mean(value, names)}")


def did_you_mean(value: str, names: Collection[str]) -> str:
    close = difflib.get_close_matches(value, names, n=1)
    return f": did you mean {close[0]!r}?" if close else ""
