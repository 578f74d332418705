"""Every setting of the study, typed and checked; `params.yaml` holds the values.

A wrong file gives one sentence a mistake: the key, the value, and what is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from study.context.rules import check_together, did_you_mean
from turnover.errors import UserError


class ParamsError(UserError):
    """`params.yaml` is wrong; the message is meant for its author."""


class _Namespace(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


_MOST_SEEDS = 10_000  # each is a training
_NAME = r"^[a-z0-9_]+$"
_PLACEMENT = r"^[A-Za-z0-9_.]+(\+[A-Za-z0-9_.]+)*$"
_DEVICE = r"^(auto|cpu|cuda(:\d+)?|mps)$"
_RECIPE_DEVICE = r"^(cpu|cuda(:\d+)?)$"
# What a pattern allows, in words.
_ALLOWED = {
    _NAME: "lower-case letters, digits and _ only",
    _PLACEMENT: "head, all, dropout, or module names joined by '+'",
    _DEVICE: "auto, cpu, cuda, cuda:N or mps",
    _RECIPE_DEVICE: "cpu, cuda or cuda:N",
}


def _listed(value: Any) -> Any:
    """The seeds that a number of them, or the first and the last, stand for."""
    if isinstance(value, int) and not isinstance(value, bool):
        return list(range(min(value, _MOST_SEEDS + 1)))
    if isinstance(value, str) and (ends := re.fullmatch(r"([0-9]{1,19})-([0-9]{1,19})", value)):
        first, last = map(int, ends.groups())
        return list(range(first, min(last, first + _MOST_SEEDS) + 1))
    if not isinstance(value, list):
        raise PydanticCustomError(
            "seeds", "it should be first-last such as 10-17, a list of seeds, or a number of them"
        )
    return value


Name = Annotated[str, Field(pattern=_NAME)]
Placement = Annotated[str, Field(pattern=_PLACEMENT)]
Seed = Annotated[int, Field(ge=0)]
Seeds = Annotated[list[Seed], Field(min_length=1, max_length=_MOST_SEEDS), BeforeValidator(_listed)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0, strict=False)]
Positive = Annotated[float, Field(gt=0.0, strict=False)]
NonNegative = Annotated[float, Field(ge=0.0, strict=False)]


class DataParams(_Namespace):
    dataset: Annotated[str, Field(min_length=1)]
    train: Annotated[int, Field(ge=10)]
    placebo: Annotated[int, Field(ge=0)]
    heldout: Annotated[int, Field(ge=10)]
    seed: Seed


class LabelsParams(_Namespace):
    kind: Literal["uniform", "other", "pair"]
    seed: Seed
    noise: dict[Name, Fraction]


class ModelParams(_Namespace):
    """The network: a name of `study.networks.named`, its settings, and the turn-over dropout in it."""

    name: Annotated[str, Field(min_length=1)]
    options: dict[str, int | list[int]] = {}
    keep: Annotated[float, Field(gt=0.0, lt=1.0)]


class AugmentationParams(_Namespace):
    flip: bool = False
    crop: Annotated[int, Field(ge=0)] = 0
    translate: Annotated[int, Field(ge=0)] = 0


class TrainingParams(_Namespace):
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    optimizer: Literal["adamw", "sgd"]
    learning_rate: Positive
    weight_decay: NonNegative
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    schedule: Literal["one-cycle", "cosine", "constant"]
    clip_norm: NonNegative = 0.0
    augmentation: AugmentationParams = AugmentationParams()
    precision: Literal["float32", "bfloat16", "float16", "auto"]
    compile: bool = False
    device: Annotated[str, Field(pattern=_DEVICE)]
    threads: Annotated[int, Field(ge=1)]
    dynamics_epochs: list[Annotated[int, Field(ge=0)]] | Literal["all", "auto"] = "auto"
    keep_checkpoints: list[Annotated[int, Field(ge=0)]] = []


class GradientsParams(_Namespace):
    examples: Annotated[int, Field(ge=10, le=2000)]
    layers: Annotated[int, Field(ge=1)]


class InfluenceParams(_Namespace):
    measure: Literal["loss", "margin"]
    targets: Annotated[int, Field(ge=1)]
    targets_all_layers: Annotated[int, Field(ge=1)]
    top: Annotated[int, Field(ge=1)]
    localized: bool = True
    sharpness: Positive = 2.0


class EstimateParams(_Namespace):
    influence: InfluenceParams


class ValidationParams(DataParams):
    """Examples whose truth is known by retraining, and the ordinary network that is retrained."""

    noise: Fraction
    model: Literal["cnn", "mlp"]
    options: dict[str, int | list[int]] = {}


class RecipeParams(_Namespace):
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    learning_rate: Positive
    weight_decay: NonNegative
    min_steps: Annotated[int, Field(ge=0)]
    precision: Literal["float32", "bfloat16"]
    device: Annotated[str, Field(pattern=_RECIPE_DEVICE)]


class RetrainParams(RecipeParams):
    networks: Annotated[int, Field(ge=4)]
    fraction: Annotated[float, Field(gt=0.0, lt=1.0)]
    seed: Seed


class RemovalParams(RecipeParams):
    scenarios: Annotated[list[Name], Field(min_length=1)]
    score: Annotated[str, Field(min_length=1)]
    fractions: Annotated[list[Annotated[float, Field(gt=0.0, lt=1.0)]], Field(min_length=1)]
    seeds: Seeds


class ComparisonParams(_Namespace):
    seeds: Annotated[list[Seed], Field(min_length=1)]
    networks: Annotated[int, Field(ge=1)]
    folds: Annotated[int, Field(ge=2)]
    targets: Annotated[int, Field(ge=2)]
    resamples: Annotated[int, Field(ge=20)]
    placebo_splits: Annotated[int, Field(ge=1)]
    keep: Annotated[float, Field(gt=0.0, lt=1.0)]
    threads: Annotated[int, Field(ge=1)]


class FiguresParams(_Namespace):
    difficulty_quantile: Annotated[float, Field(gt=0.0, le=0.5)]
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)]
    dpi: Annotated[int, Field(ge=50, le=600)]
    gallery: Annotated[int, Field(ge=1, le=100)]
    mistakes: Annotated[int, Field(ge=1, le=20)]
    neighbours: Annotated[int, Field(ge=1, le=20)]


class SeedsParams(_Namespace):
    """The seeds of every training: initial weights, order of the examples, and masks."""

    head: Seeds
    other: Seeds

    def of(self, placement: str) -> list[int]:
        """The seeds of a placement: the primary one, ``head``, may have more of them."""
        return self.head if placement == "head" else self.other


class Params(_Namespace):
    scenarios: Annotated[list[Name], Field(min_length=1)]
    placements: Annotated[list[Placement], Field(min_length=1)]
    seeds: SeedsParams
    processes: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    data: DataParams
    labels: LabelsParams
    model: ModelParams
    training: TrainingParams
    gradients: GradientsParams
    estimate: EstimateParams
    validation_sets: Annotated[list[Name], Field(min_length=1)]
    validation: dict[Name, ValidationParams]
    retrain: RetrainParams
    removal: RemovalParams
    comparison: ComparisonParams
    figures: FiguresParams

    @model_validator(mode="after")
    def _consistent(self) -> Params:
        check_together(self)
        return self


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
    message = error["msg"].replace("Input should", "it should")
    match error["type"]:
        case "extra_forbidden":
            names = _names_at(error["loc"][:-1])
            close = did_you_mean(str(error["loc"][-1]), names)
            return f"{key} is not a setting{close or '; there are ' + ', '.join(names)}"
        case "missing":
            return f"{key} is missing"
        case "value_error":
            return error["msg"].removeprefix("Value error, ")
        case "string_pattern_mismatch":
            message = f"it should be {_ALLOWED[error['ctx']['pattern']]}"
        case "model_type":
            message = f"it should be a mapping with the keys {', '.join(_names_at(error['loc']))}"
    return f"{key}: {error['input']!r} is not allowed: {message}"


def _names_at(location: Sequence[int | str]) -> list[str]:
    """The settings of the namespace at a place in `Params`."""
    model: Any = Params
    for part in location:
        fields = getattr(model, "model_fields", None)
        model = fields[part].annotation if fields else get_args(model)[-1]  # a mapping from names to namespaces
    return list(model.model_fields)
