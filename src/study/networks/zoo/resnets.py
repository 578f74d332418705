"""Residual networks for images of about 32 x 32 pixels, with GroupNorm, so that turn-over dropout can go anywhere."""

from __future__ import annotations

from torch import Tensor, nn


class Residual(nn.Module):
    """``relu(x + f(x))``, or ``relu(g(x) + f(x))`` where `f` changes the shape.

    Args:
        body: f.
        shortcut: g.
    """

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut if shortcut is not None else nn.Identity()
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.shortcut(x) + self.body(x))  # type: ignore[no-any-return]


class ResNet9(nn.Module):
    """Four stages of convolution, two of them followed by a residual block: the network of fast CIFAR training.

    D. Page, "How to train your ResNet" (2018), with GroupNorm instead of BatchNorm. 6.6 million weights at width 64.

    Args:
        shape: channels, height and width of an image, at least 8 pixels each way.
        classes: number of classes.
        width: channels of the first stage.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, width: int = 64) -> None:
        super().__init__()
        _check(shape, width)
        wide = 8 * width
        self.features = nn.Sequential(
            *_convolution(shape[0], width),
            *_convolution(width, 2 * width),
            nn.MaxPool2d(2),
            Residual(_twice(2 * width)),
            *_convolution(2 * width, 4 * width),
            nn.MaxPool2d(2),
            *_convolution(4 * width, wide),
            nn.MaxPool2d(2),
            Residual(_twice(wide)),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(wide, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))  # type: ignore[no-any-return]


class ResNet18(nn.Module):
    """ResNet-18 (He et al. 2016, arXiv 1512.03385) as used for CIFAR: a 3x3 stem, no pooling before the blocks.

    With GroupNorm instead of BatchNorm. 11.2 million weights at width 64. torchvision's own, for large images, is
    ``"torchvision.resnet18"``.

    Args:
        shape: channels, height and width of an image, at least 8 pixels each way.
        classes: number of classes.
        width: channels of the first stage.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, width: int = 64) -> None:
        super().__init__()
        _check(shape, width)
        blocks: list[nn.Module] = []
        before = width
        for stage in range(4):
            after = width << stage
            blocks += [_block(before, after, 1 if stage == 0 else 2), _block(after, after, 1)]
            before = after
        self.features = nn.Sequential(*_convolution(shape[0], width), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(8 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))  # type: ignore[no-any-return]


def _check(shape: tuple[int, int, int], width: int) -> None:
    if min(shape[1:]) < 8:
        raise ValueError(f"an image of {shape[1]}x{shape[2]} is too small for a residual network: it needs 8x8")
    if width < 2:
        raise ValueError(f"model.width={width}: a residual network needs at least 2 channels")


def _norm(channels: int) -> nn.GroupNorm:
    """About 16 channels a group, which trains better than many small groups."""
    wanted = max(1, channels // 16)
    return nn.GroupNorm(max(d for d in range(1, wanted + 1) if channels % d == 0), channels)


def _convolution(before: int, after: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
    return [convolution, _norm(after), nn.ReLU()]


def _twice(channels: int) -> nn.Sequential:
    return nn.Sequential(*_convolution(channels, channels), *_convolution(channels, channels))


def _block(before: int, after: int, stride: int) -> Residual:
    body = nn.Sequential(*_convolution(before, after, stride), *_convolution(after, after)[:2])
    if stride == 1 and before == after:
        return Residual(body)
    return Residual(body, nn.Sequential(nn.Conv2d(before, after, 1, stride=stride, bias=False), _norm(after)))
