"""The project's own small classifiers. They know nothing of turn-over dropout: trained without it, they are the judges.

Batch in dimension 0, no BatchNorm, activations as modules.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from study.networks.zoo.resnets import ResNet9, ResNet18
from study.networks.zoo.transformer import Transformer


class CNN(nn.Module):
    """Stages of 3x3 convolution, 2x2 max-pooling and ReLU, one hidden layer, and the classes.

    Pooling and ReLU commute, gradients and masks of channels included, to the bit. This order has a quarter of the
    values to clip and to mask.

    Args:
        shape: channels, height and width of an image.
        classes: number of classes.
        channels: output channels of the stages. Each stage halves the image.
        hidden: units of the hidden layer, the ones that ``after="head"`` masks.

    Raises:
        ValueError: the image is too small for so many stages.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        channels: Sequence[int] = (32, 64, 128),
        hidden: int = 512,
    ) -> None:
        super().__init__()
        height, width = shape[1] >> len(channels), shape[2] >> len(channels)
        if not height or not width:
            raise ValueError(
                f"model.channels={list(channels)} halves an image of {shape[1]}x{shape[2]} {len(channels)} times, "
                "which leaves nothing: give fewer channels"
            )
        stages: list[nn.Module] = []
        for before, after in itertools.pairwise([shape[0], *channels]):
            stages += [nn.Conv2d(before, after, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()]
        self.features = nn.Sequential(*stages, nn.Flatten())
        self.hidden = nn.Linear(channels[-1] * height * width, hidden)
        self.activation = nn.ReLU()
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.activation(self.hidden(self.features(x))))  # type: ignore[no-any-return]


class MLP(nn.Module):
    """Fully connected layers of equal width with ReLU. ``hidden=768, layers=3`` is the network of the public reference.

    Args:
        shape: channels, height and width of an image.
        classes: number of classes.
        hidden: units of a hidden layer.
        layers: number of hidden layers.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, hidden: int = 768, layers: int = 3) -> None:
        super().__init__()
        widths = [shape[0] * shape[1] * shape[2], *[hidden] * layers]
        stages: list[nn.Module] = [nn.Flatten()]
        for before, after in itertools.pairwise(widths):
            stages += [nn.Linear(before, after), nn.ReLU()]
        self.features = nn.Sequential(*stages)
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))  # type: ignore[no-any-return]


# What is beyond them is a slip of the keyboard: it would fill any memory.
_MOST_UNITS = 65_536
_MOST_LAYERS = 1_000

ZOO: dict[str, Callable[..., nn.Module]] = {
    "cnn": CNN,
    "mlp": MLP,
    "transformer": Transformer,
    "resnet9": ResNet9,
    "resnet18": ResNet18,
}


def build_own(name: str, shape: tuple[int, int, int], classes: int, *, seed: int = 0, **options: Any) -> nn.Module:
    """A new network of `ZOO` with weights drawn from `seed`; the global random number generator is left as it was.

    Raises:
        ValueError: unknown name or option, or an impossible size.
    """
    if name not in ZOO:
        raise ValueError(f"model.name={name!r} is not one of {', '.join(ZOO)}")
    _check_options(name, options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ZOO[name](shape, classes, **options)


def _check_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise ValueError for an option that `name` does not have, and for one that no network can be made of."""
    allowed = dict(itertools.islice(inspect.signature(ZOO[name]).parameters.items(), 2, None))
    for key, value in options.items():
        if key not in allowed:
            raise ValueError(f"model.{key}: {name!r} has no such setting; it has {', '.join(allowed)}")
        most = _MOST_LAYERS if key == "layers" else _MOST_UNITS
        several = isinstance(allowed[key].default, tuple)
        numbers = value if several and isinstance(value, (list, tuple)) and value else [value]
        if several == isinstance(value, int) or not all(type(n) is int and 1 <= n <= most for n in numbers):
            numbers_allowed = f"{'a list of whole numbers' if several else 'a whole number'} from 1 to {most}"
            raise ValueError(f"model.{key}={value!r} is not allowed for {name!r}: it should be {numbers_allowed}")


class Normalized(nn.Module):
    """A network that takes images as they are stored: pixels in 0..255 are scaled and normalised inside.

    Args:
        network: takes float images [batch, channels, height, width] of about zero mean and unit variance.
        mean: of the channels, in 0..1.
        std: of the channels, in 0..1; positive.
    """

    _shift: Tensor
    _scale: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        # Kept out of the state dict: they belong to the data, and are restored from its description.
        self.register_buffer("_shift", torch.tensor(mean).view(-1, 1, 1) * 255.0, persistent=False)
        self.register_buffer("_scale", 1.0 / (torch.tensor(std).view(-1, 1, 1) * 255.0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        # Convolutions on CPUs and GPUs alike are fastest with the channels last in memory.
        x = (x.float() - self._shift) * self._scale
        return self.network(x.contiguous(memory_format=torch.channels_last))  # type: ignore[no-any-return]


def image_statistics(images: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of every channel, in 0..1; a constant channel gets 1.

    Args:
        images: uint8 [n, channels, height, width].
    """
    # Exact integer counts of the 256 values, so the result does not depend on the order of a sum.
    mean, std = [], []
    for channel in range(images.shape[1]):
        counts = torch.bincount(images[:, channel].flatten().long(), minlength=256).double()
        values = torch.arange(256, dtype=torch.float64) / 255.0
        m = float((counts * values).sum() / counts.sum())
        variance = float((counts * (values - m) ** 2).sum() / counts.sum())
        mean.append(m)
        std.append(variance**0.5 or 1.0)
    return mean, std
