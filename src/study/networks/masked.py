"""The study's networks: built from params, saved as safetensors with a description, loaded again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from study.artefacts.files import write_json
from study.context.params import ModelParams, Params, ParamsError, placement_after
from study.context.rules import image_shape
from study.context.runs import CONTROL, Run
from study.networks.named import build
from study.networks.zoo.small import Normalized, build_own
from turnover.errors import UserError
from turnover.masking.insertion import head, insert

_LARGE = (3, 224, 224)  # one's own images, of which nothing is known yet
_MOST_WEIGHTS = 4_000_000_000  # 16 GB, and 64 GB to train them


@dataclass(frozen=True)
class Architecture:
    """Everything needed to build a network of the study again."""

    run: Run
    model: ModelParams
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


class OrdinaryDropout:
    """Forward pre-hook: ordinary dropout on the input of a module, for the control networks."""

    def __init__(self, drop: float) -> None:
        self.drop = drop

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (F.dropout(args[0], self.drop, module.training), *args[1:])


def make_network(architecture: Architecture) -> Normalized:
    """A new network with turn-over dropout at the run's placement, or ordinary dropout for the control.

    Raises:
        ParamsError: model or placement do not go together; the message names the setting.
    """
    network = _with_dropout(architecture)
    return Normalized(network.to(memory_format=torch.channels_last), architecture.mean, architecture.std)


def _with_dropout(architecture: Architecture) -> nn.Module:
    run, model = architecture.run, architecture.model
    try:
        network = build(model.name, architecture.shape, len(architecture.classes), seed=run.seed, **model.options)
    except (ValueError, TypeError) as error:
        raise ParamsError(f"params.yaml: {error}") from error
    try:
        if run.placement == CONTROL:
            head(network).register_forward_pre_hook(OrdinaryDropout(1.0 - model.keep))
        else:
            insert(network, placement_after(run.placement), model.keep, run.seed)
    except ValueError as error:
        raise ParamsError(f"params.yaml: placements: {run.placement!r} is not possible: {error}") from error
    return network


def check_networks(params: Params) -> None:
    """Build every network once, without memory for weights, so that a wrong setting is found before any work.

    Raises:
        ParamsError: see `make_network`; or a network of the validation cannot be built; or one is far too large.
    """
    shape, names = image_shape(params.data.dataset) or _LARGE, tuple(str(number) for number in range(10))
    # On meta tensors without `Normalized`: its arithmetic would load torch's compiler.
    with torch.device("meta"):
        for placement in params.placements:
            run = Run("check", placement, 0)
            architecture = Architecture(run, params.model, shape, names, (0.5,) * shape[0], (1.0,) * shape[0])
            _check_size(_with_dropout(architecture), "model.options")
        for name in params.validation_sets:
            of = params.validation[name]
            try:
                network = build_own(of.model, image_shape(of.dataset) or _LARGE, len(names), seed=0, **of.options)
            except (ValueError, TypeError) as error:
                raise ParamsError(f"params.yaml: validation.{name}.options: {error}") from error
            _check_size(network, f"validation.{name}.options")


def _check_size(network: nn.Module, key: str) -> None:
    weights = sum(parameter.numel() for parameter in network.parameters())
    if weights > _MOST_WEIGHTS:
        raise ParamsError(f"params.yaml: {key}: this network has {weights:,} weights; allowed are {_MOST_WEIGHTS:,}")


def save_network(
    network: nn.Module,
    architecture: Architecture,
    folder: Path,
    snapshots: Mapping[int, Mapping[str, Tensor]] | None = None,
) -> None:
    """Write `model.safetensors` and `model.json` into `folder`, the same bytes for the same network, whatever made it.

    Args:
        network: as `make_network` made it from `architecture`, trained.
        architecture: what `load_network` builds it from.
        folder: where the files go; made if it is not there.
        snapshots: state dicts of earlier weights by epoch: ``epoch-N.safetensors``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {"model": network.state_dict(), **{f"epoch-{epoch}": kept for epoch, kept in (snapshots or {}).items()}}
    for name, weights in files.items():
        plain = {key: value.detach().cpu().contiguous() for key, value in weights.items()}
        save_file(plain, folder / f"{name}.safetensors")
    run = architecture.run
    write_json(
        folder / "model.json",
        {
            "run": {"scenario": run.scenario, "placement": run.placement, "seed": run.seed},
            "model": architecture.model.model_dump(),
            "shape": list(architecture.shape),
            "classes": list(architecture.classes),
            "mean": list(architecture.mean),
            "std": list(architecture.std),
        },
    )


def load_network(folder: Path) -> tuple[Normalized, Architecture]:
    """Build and fill the network that `save_network` wrote.

    Raises:
        UserError: a file is missing or corrupt.
    """
    try:
        about: dict[str, Any] = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        architecture = Architecture(
            Run(**about["run"]),
            ModelParams.model_validate(about["model"]),
            tuple(about["shape"]),
            tuple(about["classes"]),
            tuple(about["mean"]),
            tuple(about["std"]),
        )
        network = make_network(architecture)
        network.load_state_dict(load_file(folder / "model.safetensors"))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder} is missing or corrupt ({error}): run `dvc repro` to make it again") from error
    return network, architecture


def load_snapshots(folder: Path) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Epoch and state dict of each snapshot beside a saved network, in order.

    `turnover.memorization_over_training` takes the state dicts alone: ``(weights for _, weights in ...)``.
    """
    for path in sorted(folder.glob("epoch-*.safetensors"), key=lambda path: int(path.stem.removeprefix("epoch-"))):
        yield int(path.stem.removeprefix("epoch-")), load_file(path)
