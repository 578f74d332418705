"""Every setting of the study, typed and checked; `params.yaml` holds the values.

A wrong file gives one sentence a mistake: the key, the value, and what is allowed.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from study.context.rules import check_together, did_you_mean
from turnover.errors import UserError


class ParamsError(UserError):
    """`params.yaml` is wrong; the message is meant for its author."""


class _Namespace(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


_MOST_LINES = 20  # of mistakes that are told
_MOST_SEEDS = 10_000  # each is a training
_NAME = r"^[a-z][a-z0-9_]*$"
# Names that YAML or a table turns into something else.
_NO_NAMES = ("true", "false", "null", "none", "nan", "na", "inf", "infinity")
_LONGEST_NAME = 60  # it becomes a part of names of files
_PLACEMENT = r"^[A-Za-z0-9_.]+(\+[A-Za-z0-9_.]+)*$"
_DEVICE = r"^(auto|cpu|cuda(:\d+)?|mps)$"
_RECIPE_DEVICE = r"^(cpu|cuda(:\d+)?)$"
# What pydantic puts into the place of a mistake where a value may be of two kinds.
_KINDS = ("constrained-int", "literal['auto']", "literal['all','auto']", "list[constrained-int]")
# What a pattern allows, in words.
_ALLOWED = {
    _NAME: "lower-case letters, digits and _ only, and begin with a letter",
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


def _no_word_of_yaml(name: str) -> str:
    if name in _NO_NAMES:
        raise PydanticCustomError("name", "it should be another name: YAML and tables take it for a value")
    return name


Name = Annotated[str, Field(pattern=_NAME, max_length=_LONGEST_NAME), AfterValidator(_no_word_of_yaml)]
Placement = Annotated[str, Field(pattern=_PLACEMENT, max_length=4 * _LONGEST_NAME)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what every generator of random numbers takes
# Upper bounds are far beyond what anybody runs: what is beyond them is a slip of the keyboard.
Count = Annotated[int, Field(ge=1, le=10**9)]
ZeroOrMore = Annotated[int, Field(ge=0, le=10**9)]
Repeats = Annotated[int, Field(ge=1, le=10**6)]
Epochs = Annotated[int, Field(ge=1, le=100_000)]
Threads = Annotated[int, Field(ge=1, le=1024)]
Pixels = Annotated[int, Field(ge=0, le=1024)]
Seeds = Annotated[list[Seed], Field(min_length=1, max_length=_MOST_SEEDS), BeforeValidator(_listed)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0, strict=False)]
Positive = Annotated[float, Field(gt=0.0, le=1000.0, strict=False)]
NonNegative = Annotated[float, Field(ge=0.0, le=1e6, strict=False)]
Option = Annotated[int, Field(ge=-65_536, le=65_536)]  # of a network
Options = Annotated[dict[Name, Option | Annotated[list[Option], Field(max_length=1000)]], Field(max_length=100)]


def _size(least: int, words: tuple[str, ...]) -> Callable[[Any], Any]:
    """Checks a number of examples, in whose place a word may stand."""

    def check(value: Any) -> Any:
        if value in words or (isinstance(value, int) and not isinstance(value, bool) and least <= value <= 10**9):
            return value
        raise PydanticCustomError("size", f"it should be a number from {least} to 10**9, {' or '.join(words)}")

    return check


def _noise_kind(value: Any) -> Any:
    words = ("uniform", "other", "pair", "instance")
    if value in words or (isinstance(value, str) and value.startswith("list:") and value != "list:"):
        return value
    if isinstance(value, dict) and value and all(isinstance(row, dict) and row for row in value.values()):
        shares = [share for row in value.values() for share in row.values()]
        if all(isinstance(share, (int, float)) and not isinstance(share, bool) and 0 <= share <= 1 for share in shares):
            return {str(true): {str(name): float(share) for name, share in row.items()} for true, row in value.items()}
    raise PydanticCustomError(
        "kind",
        "it should be 'uniform', 'other', 'pair', 'instance', list:PATH, or shares such as {Shirt: {Coat: 1.0}}",
    )


class DataParams(_Namespace):
    dataset: Annotated[str, Field(min_length=1)]
    train: Annotated[int, Field(ge=10, le=10**9)]
    placebo: ZeroOrMore
    heldout: Annotated[int, Field(ge=10, le=10**9)]
    seed: Seed


class WantedDataParams(_Namespace):
    """`DataParams` before the data set is known: sizes may be words (`study.data.noise.sizes`)."""

    dataset: Annotated[str, Field(min_length=1)]
    train: Annotated[int | str, BeforeValidator(_size(10, ("all", "auto")))]
    placebo: Annotated[int | str, BeforeValidator(_size(0, ("auto",)))]
    heldout: Annotated[int | str, BeforeValidator(_size(10, ("all", "auto")))]
    seed: Seed


class LabelsParams(_Namespace):
    kind: Annotated[str | dict[str, dict[str, float]], BeforeValidator(_noise_kind)]
    seed: Seed
    noise: dict[Name, Fraction]


class ModelParams(_Namespace):
    """The network: a name of `study.networks.named`, its settings, and the turn-over dropout in it."""

    name: Annotated[str, Field(min_length=1)]
    options: Options = {}
    keep: Annotated[float, Field(gt=0.0, lt=1.0)]


class AugmentationParams(_Namespace):
    flip: bool = False
    crop: Pixels = 0
    translate: Pixels = 0


class TrainingParams(_Namespace):
    epochs: Epochs
    batch_size: Count
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
    threads: Threads
    dynamics_epochs: list[ZeroOrMore] | Literal["all", "auto"] = "auto"
    keep_checkpoints: list[ZeroOrMore] = []


class GradientsParams(_Namespace):
    examples: Annotated[int, Field(ge=10, le=2000)]
    layers: Count


class InfluenceParams(_Namespace):
    measure: Literal["loss", "margin"]
    targets: Count
    targets_all_layers: Count
    top: Count
    localized: bool = True
    sharpness: Positive = 2.0


class EstimateParams(_Namespace):
    influence: InfluenceParams


class ValidationParams(DataParams):
    """Examples whose truth is known by retraining, and the ordinary network that is retrained."""

    noise: Fraction
    model: Literal["cnn", "mlp", "transformer"]
    options: Options = {}
    fitted_epochs: Epochs | None = None  # None: those of judges.fitted


class RecipeParams(_Namespace):
    epochs: Epochs
    batch_size: Count
    learning_rate: Positive
    weight_decay: NonNegative
    min_steps: ZeroOrMore
    precision: Literal["float32", "bfloat16"]
    device: Annotated[str, Field(pattern=_RECIPE_DEVICE)]


class RetrainParams(RecipeParams):
    networks: Annotated[int, Field(ge=4, le=10**6)]
    fraction: Annotated[float, Field(gt=0.0, lt=1.0)]
    seed: Seed


class FittedParams(_Namespace):
    """Judges that have learned their subset by heart, wrong labels included."""

    networks: Annotated[int, Field(ge=4, le=10**6)]
    epochs: Epochs


class AgainParams(_Namespace):
    """The judges once more, on the same subsets from other seeds: how far they agree with themselves."""

    subsets: Annotated[int, Field(ge=4, le=10**6)]
    times: Repeats


class JudgesParams(_Namespace):
    fitted: FittedParams
    again: AgainParams


class RemovalParams(RecipeParams):
    scenarios: Annotated[list[Name], Field(min_length=1)]
    score: Annotated[str, Field(min_length=1)]
    fractions: Annotated[list[Annotated[float, Field(gt=0.0, lt=1.0)]], Field(min_length=1)]
    seeds: Seeds


class ComparisonParams(_Namespace):
    seeds: Seeds
    kept_more: list[Annotated[float, Field(gt=0.0, lt=1.0)]]
    networks: Repeats
    folds: Annotated[int, Field(ge=2, le=1000)]
    targets: Annotated[int, Field(ge=2, le=10**9)]
    resamples: Annotated[int, Field(ge=20, le=10**6)]
    placebo_splits: Repeats
    keep: Annotated[float, Field(gt=0.0, lt=1.0)]
    threads: Threads


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
    processes: Threads | Literal["auto"] = "auto"
    data: WantedDataParams
    labels: LabelsParams
    model: ModelParams
    training: TrainingParams
    gradients: GradientsParams
    estimate: EstimateParams
    validation_sets: Annotated[list[Name], Field(min_length=1)]
    validation: dict[Name, ValidationParams]
    retrain: RetrainParams
    judges: JudgesParams
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
        lines = [f"{source}: {_sentence(e)}" for e in error.errors(include_url=False)[:_MOST_LINES]]
        more = error.error_count() - len(lines)
        raise ParamsError("\n".join(lines + ([f"{source}: and {more} more mistakes"] if more else []))) from None


def placement_after(placement: str) -> str | list[str]:
    """The `after` argument of `turnover.insert` that a placement stands for."""
    return placement if placement in ("head", "all") else placement.split("+")


def _sentence(error: ErrorDetails) -> str:
    """One mistake in words: key, value, what is allowed."""
    parts = [str(part) for part in error["loc"]]
    key = ".".join(part if part.isprintable() else repr(part) for part in parts if part not in _KINDS)
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
    return f"{key}: {_told(error['input'])} is not allowed: {message}"


def _told(value: Any) -> str:
    """A value in a message, cut where it is long: aliases of YAML make a huge value of a small file."""
    short = reprlib.Repr()
    short.maxlevel, short.maxlist, short.maxdict, short.maxstring, short.maxother = 3, 20, 10, 200, 200
    try:
        return short.repr(value)
    except ValueError:  # Python writes no integer of more than 4300 digits
        return f"a very long {type(value).__name__}"


def _names_at(location: Sequence[int | str]) -> list[str]:
    """The settings of the namespace at a place in `Params`."""
    model: Any = Params
    for part in location:
        fields = getattr(model, "model_fields", None)
        model = fields[part].annotation if fields else get_args(model)[-1]  # a mapping from names to namespaces
    return list(model.model_fields)
