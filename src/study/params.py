"""Every setting of the study, typed and checked; `params.yaml` holds the values.

A wrong file gives one sentence a mistake: the key, the value, and what is allowed.
"""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from turnover.errors import UserError


class ParamsError(UserError):
    """`params.yaml` is wrong; the message is meant for its author."""


class _Namespace(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


Name = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
Placement = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]+(\+[A-Za-z0-9_.]+)*$")]
Seed = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0, strict=False)]
Positive = Annotated[float, Field(gt=0.0, strict=False)]
NonNegative = Annotated[float, Field(ge=0.0, strict=False)]


class DataParams(_Namespace):
    """Which data set, and how much of it."""

    dataset: Annotated[str, Field(min_length=1)]
    train: Annotated[int, Field(ge=10)]
    placebo: Annotated[int, Field(ge=0)]
    heldout: Annotated[int, Field(ge=10)]
    seed: Seed


class LabelsParams(_Namespace):
    """Label randomization: the fraction of random labels in every scenario."""

    kind: Literal["uniform", "other", "pair"]
    seed: Seed
    noise: dict[Name, Fraction]


class ModelParams(_Namespace):
    """The network: a name of `turnover.models`, its settings, and the turn-over dropout in it."""

    name: Annotated[str, Field(min_length=1)]
    options: dict[str, int | list[int]] = {}
    keep: Annotated[float, Field(gt=0.0, lt=1.0)]
    width: Annotated[int, Field(ge=2)] | None = None


class TrainingParams(_Namespace):
    """The training loop."""

    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    optimizer: Literal["adamw", "sgd"]
    learning_rate: Positive
    weight_decay: NonNegative
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)]
    schedule: Literal["one-cycle", "cosine", "constant"]
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)]
    precision: Literal["float32", "bfloat16", "auto"]
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$")]
    threads: Annotated[int, Field(ge=1)]
    dynamics_epochs: list[Annotated[int, Field(ge=0)]] | Literal["all", "auto"]


class InfluenceParams(_Namespace):
    """Influence of the training examples on the held-out examples."""

    measure: Literal["loss", "margin"]
    targets: Annotated[int, Field(ge=1)]
    targets_all_layers: Annotated[int, Field(ge=1)]
    top: Annotated[int, Field(ge=1)]
    localized: bool = True
    sharpness: Positive = 2.0
    matrix: bool


class EstimateParams(_Namespace):
    """Memorization and influence."""

    influence: InfluenceParams


class ValidationParams(_Namespace):
    """Examples whose truth is known by retraining, and the ordinary network that is retrained."""

    dataset: Annotated[str, Field(min_length=1)]
    train: Annotated[int, Field(ge=10)]
    placebo: Annotated[int, Field(ge=0)]
    heldout: Annotated[int, Field(ge=10)]
    noise: Fraction
    seed: Seed
    model: Literal["cnn", "mlp"]
    options: dict[str, int | list[int]] = {}


class RecipeParams(_Namespace):
    """How ordinary networks are retrained."""

    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    learning_rate: Positive
    weight_decay: NonNegative
    min_steps: Annotated[int, Field(ge=0)]
    precision: Literal["float32", "bfloat16"]
    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?)$")]


class RetrainParams(RecipeParams):
    """Subset retraining: the ground truth of the estimates."""

    networks: Annotated[int, Field(ge=4)]
    fraction: Annotated[float, Field(gt=0.0, lt=1.0)]
    seed: Seed


class RemovalParams(RecipeParams):
    """Removing examples by their scores, and retraining ordinary networks without them."""

    scenarios: Annotated[list[Name], Field(min_length=1)]
    score: Annotated[str, Field(min_length=1)]
    fractions: Annotated[list[Annotated[float, Field(gt=0.0, lt=1.0)]], Field(min_length=1)]
    seeds: Annotated[int, Field(ge=1)]


class ComparisonParams(_Namespace):
    """The comparison of every estimate with subset retraining."""

    seeds: Annotated[list[Seed], Field(min_length=1)]
    networks: Annotated[int, Field(ge=1)]
    folds: Annotated[int, Field(ge=2)]
    targets: Annotated[int, Field(ge=2)]
    resamples: Annotated[int, Field(ge=20)]
    placebo_splits: Annotated[int, Field(ge=1)]
    keep: Annotated[float, Field(gt=0.0, lt=1.0)]


class FiguresParams(_Namespace):
    """Figures and galleries."""

    difficulty_quantile: Annotated[float, Field(gt=0.0, le=0.5)]
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)]
    dpi: Annotated[int, Field(ge=50, le=600)]
    gallery: Annotated[int, Field(ge=1, le=100)]
    mistakes: Annotated[int, Field(ge=1, le=20)]
    neighbours: Annotated[int, Field(ge=1, le=20)]


class Params(_Namespace):
    """The whole of `params.yaml`."""

    scenarios: Annotated[list[Name], Field(min_length=1)]
    placements: Annotated[list[Placement], Field(min_length=1)]
    seeds: Annotated[list[Seed], Field(min_length=1)]
    data: DataParams
    labels: LabelsParams
    model: ModelParams
    training: TrainingParams
    estimate: EstimateParams
    validation_sets: Annotated[list[Name], Field(min_length=1)]
    validation: dict[Name, ValidationParams]
    retrain: RetrainParams
    removal: RemovalParams
    comparison: ComparisonParams
    figures: FiguresParams

    @model_validator(mode="after")
    def _consistent(self) -> Params:
        from turnover.data.sources import NAMES  # here, because it imports numpy and more

        own = self.data.dataset.startswith(("folder:", "table:"))
        if not own and self.data.dataset not in NAMES:
            raise ValueError(
                f"data.dataset: {self.data.dataset!r} is not allowed: "
                f"it should be one of {', '.join(NAMES)}, folder:PATH or table:PATH"
            )
        for key in ("scenarios", "placements", "seeds", "validation_sets"):
            values = getattr(self, key)
            if len(set(values)) != len(values):
                raise ValueError(f"{key}: {values} names something twice")
        missing = [name for name in self.scenarios if name not in self.labels.noise]
        if missing:
            raise ValueError(
                f"labels.noise: no fraction of random labels for scenario {missing[0]!r}; "
                f"it has {sorted(self.labels.noise)}"
            )
        _check_validation_sets(self)
        if self.estimate.influence.targets > self.data.heldout:
            raise ValueError(
                f"estimate.influence.targets: {self.estimate.influence.targets} "
                f"is more than data.heldout={self.data.heldout}"
            )
        if self.training.batch_size > self.data.train:
            raise ValueError(
                f"training.batch_size: {self.training.batch_size} is more than data.train={self.data.train}"
            )
        if "dropout" in self.placements:
            raise ValueError("placements: 'dropout' is the control's name; use head, all, or modules joined by '+'")
        return self


def _check_validation_sets(params: Params) -> None:
    for name in params.validation_sets:
        if name in {"raw", *params.scenarios}:
            raise ValueError(f"validation_sets: {name!r} is the name of something else under data/: use another")
        if name not in params.validation:
            raise ValueError(f"validation: there is no set {name!r}; it has {sorted(params.validation)}")


def check_params(raw: Any, source: str = "params.yaml") -> Params:
    """Typed params from the parsed `params.yaml`.

    Raises:
        ParamsError: one line for every mistake.
    """
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        raise ParamsError("\n".join(f"{source}: {_sentence(e)}" for e in error.errors())) from None


def placement_after(placement: str) -> str | list[str]:
    """The `after` argument of `turnover.insert` that a placement stands for."""
    return placement if placement in ("head", "all") else placement.split("+")


def _sentence(error: ErrorDetails) -> str:
    """One mistake in words: key, value, what is allowed."""
    key = ".".join(str(part) for part in error["loc"] if part != "int" and "[" not in str(part))
    if error["type"] == "extra_forbidden":
        return f"{key} is not a setting{_suggestion(error)}"
    if error["type"] == "missing":
        return f"{key} is missing"
    if error["type"] == "value_error":
        return error["msg"].removeprefix("Value error, ")
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{key}: {error['input']!r} is not allowed: {message.replace('input should', 'it should')}"


def _suggestion(error: ErrorDetails) -> str:
    model: Any = Params
    for part in error["loc"][:-1]:
        field = model.model_fields.get(part) if hasattr(model, "model_fields") else None
        model = field.annotation if field else None
    if not hasattr(model, "model_fields"):
        return ""
    names = list(model.model_fields)
    close = difflib.get_close_matches(str(error["loc"][-1]), names, n=1)
    return f": did you mean {close[0]!r}?" if close else f"; there are {', '.join(names)}"
