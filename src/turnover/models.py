"""The small zoo of classifiers, and any classifier of torchvision by name.

Every network here is ready for turn-over dropout: batch in dimension 0, no BatchNorm, activations as modules.
"""

from __future__ import annotations

import difflib
import inspect
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from turnover.dropout import replace_batch_norm
from turnover.resnets import ResNet9, ResNet18


class CNN(nn.Module):
    """Stages of 3x3 convolution, ReLU and 2x2 max-pooling, one hidden layer, and the classes.

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
            stages += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
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


ZOO: dict[str, Callable[..., nn.Module]] = {"cnn": CNN, "mlp": MLP, "resnet9": ResNet9, "resnet18": ResNet18}


def build(name: str, shape: tuple[int, int, int], classes: int, *, seed: int = 0, **options: Any) -> nn.Module:
    """A new network with weights drawn from `seed`; the global random number generator is left as it was.

    Args:
        name: a name in `ZOO`, or a classification model of torchvision (BatchNorm replaced by GroupNorm); where both
            have one, ``torchvision.`` in front of it means theirs.
        shape: channels, height and width of an image.
        classes: number of classes.
        seed: seed of the initial weights.
        options: further arguments of the network.

    Raises:
        ValueError: unknown name or option, or an impossible size.
    """
    make = ZOO.get(name)
    if make is not None:
        allowed = list(inspect.signature(make).parameters)[2:]
        unknown = sorted(set(options) - set(allowed))
        if unknown:
            raise ValueError(f"model.{unknown[0]}: {name!r} has no such setting; it has {', '.join(allowed)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if make is not None:
            return make(shape, classes, **options)
        return _torchvision(name.removeprefix("torchvision."), classes, options)


def _torchvision(name: str, classes: int, options: dict[str, Any]) -> nn.Module:
    import torchvision.models  # slow to import, and only needed here

    known = torchvision.models.list_models(torchvision.models)
    if name not in known:
        close = difflib.get_close_matches(name, [*ZOO, *known], n=3)
        hint = f" (did you mean {', '.join(close)}?)" if close else ""
        raise ValueError(
            f"model.name={name!r} is not known{hint}: use {', '.join(ZOO)}, or a classification model of torchvision"
        )
    model: nn.Module = torchvision.models.get_model(name, num_classes=classes, **options)
    return replace_batch_norm(model)


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
