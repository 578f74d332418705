"""The networks of an audit: a small convolutional one for images, a head for embeddings, with turn-over dropout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from turnover.errors import UserError, reason
from turnover.masking.insertion import insert

CHANNELS = (16, 32, 64, 128)
_SMALLEST = 3  # pixels of a side after the last pooling


class Standardized(nn.Module):
    """A network that takes data as they are stored: each channel (or feature) is shifted and scaled inside.

    Args:
        network: takes float inputs of about zero mean and unit variance.
        mean, deviation: of the channels; shapes that broadcast to an example.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: nn.Module, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)

    def forward(self, x: Tensor) -> Tensor:
        x = (x.float() - self.mean) / self.deviation
        if x.dim() == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        return self.network(x)  # type: ignore[no-any-return]


def make_network(inputs: Tensor, classes: int, hidden: int, seed: int) -> Standardized:
    """A new network for these inputs; the global random number generator is left as it was.

    Args:
        inputs: uint8 images [n, channels, height, width], or embeddings [n, d]; they give mean and deviation.
        classes: number of classes.
        hidden: units that are masked.
        seed: of weights and masks.
    """
    over = (0, 2, 3) if inputs.dim() == 4 else (0,)
    mean, deviation = _statistics(inputs, over)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _convolutional(inputs, hidden, classes) if inputs.dim() == 4 else _head(inputs, hidden, classes)
        insert(network, after="head", keep=0.5, seed=seed)
    return Standardized(network, mean, deviation)


def _convolutional(images: Tensor, hidden: int, classes: int) -> nn.Sequential:
    channels, height, width = images.shape[1:]
    layers: list[nn.Module] = []
    for out in CHANNELS:
        if min(height, width) // 2 < _SMALLEST and layers:
            break
        layers += [nn.Conv2d(channels, out, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()]
        channels, height, width = out, height // 2, width // 2
    layers += [nn.Flatten(), nn.Linear(channels * height * width, hidden), nn.ReLU(), nn.Linear(hidden, classes)]
    return nn.Sequential(*layers)


def _head(embeddings: Tensor, hidden: int, classes: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(embeddings.shape[1], hidden), nn.ReLU(), nn.Linear(hidden, classes))


def _statistics(inputs: Tensor, over: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every channel or feature, with dimensions of size 1 elsewhere; 1 of a constant."""
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for block in torch.split(inputs, 8192):
        values = block.double()
        count += values.numel() // values.shape[1]
        total = total + values.sum(over, keepdim=True)
        squares = squares + values.square().sum(over, keepdim=True)
    mean = total / count
    deviation = (squares / count - mean.square()).clamp(min=0.0).sqrt()
    deviation = torch.where(deviation > 1e-8 * (1.0 + mean.abs()), deviation, torch.ones_like(deviation))
    return mean[0].float(), deviation[0].float()


def save_network(network: Standardized, about: dict[str, Any], folder: Path) -> None:
    """Write ``model.safetensors`` and ``model.json`` into `folder`, the same bytes for the same network."""
    state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    (folder / "model.safetensors").write_bytes(save(state))
    text = json.dumps(about, indent=1, ensure_ascii=False) + "\n"
    (folder / "model.json").write_text(text, encoding="utf-8")


def load_network(folder: Path) -> tuple[Standardized, dict[str, Any]]:
    """The network that `save_network` wrote, and what was written about it.

    Raises:
        UserError: a file is missing or damaged.
    """
    try:
        about: dict[str, Any] = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        settings, shape = about["settings"], about["input"]
        like = torch.zeros(1, *shape, dtype=torch.uint8 if len(shape) == 3 else torch.float32)
        network = make_network(like, len(about["classes"]), settings["hidden"], settings["seed"])
        network.load_state_dict(load((folder / "model.safetensors").read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise UserError(f"the network in {folder} is missing or damaged: {reason(error)}; audit again") from error
    return network.eval(), about
