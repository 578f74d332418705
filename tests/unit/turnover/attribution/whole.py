"""Estimates from whole matrices, written down as their definitions are."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def seen_by(model: nn.Module, layer: nn.Module, x: Tensor) -> Tensor:
    """What enters a layer of the full network, float64."""
    seen: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda module, given: seen.append(given[0].detach()))
    model.eval()
    with torch.no_grad():
        model(x)
    handle.remove()
    return seen[0].double()


def whitened(train: Tensor, others: Tensor, ridge: float, directions: int) -> tuple[Tensor, Tensor]:
    """Both, less the mean of `train`, in coordinates where its scatter is about the identity."""
    mean = train.mean(0)
    values, vectors = torch.linalg.eigh((train - mean).T @ (train - mean))
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    scale = (vectors / (values + ridge * values.sum()).sqrt())[:, :directions]
    return (train - mean) @ scale, (others - mean) @ scale


def along(train: Tensor, others: Tensor, ridge: float, directions: int) -> tuple[Tensor, Tensor]:
    """The same coordinates, but from zero: what is nothing stays nothing."""
    mean = train.mean(0)
    values, vectors = torch.linalg.eigh((train - mean).T @ (train - mean))
    scale = (vectors.flip(1) / (values.flip(0).clamp(min=0) + ridge * values.sum()).sqrt())[:, :directions]
    return train @ scale, others @ scale


def shares(train: Tensor, labels: Tensor, others: Tensor, classes: int, *, itself: bool) -> Tensor:
    """What the neighbours in `train` say of `others`, one by one."""
    found = []
    for place, of in enumerate(others):
        weight = torch.cosine_similarity(of, train, dim=1).clamp(min=0) ** 4
        if itself:
            weight[place] = 0.0
        total = torch.zeros(classes, dtype=torch.float64).index_add_(0, labels, weight)
        found.append(total / total.sum())
    return torch.stack(found)


def left_out(
    model: nn.Module,
    x_train: Tensor,
    y_train: Tensor,
    x: Tensor,
    y: Tensor,
    predictions: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """``n * <a_i, a_t> * <g_i, g_t>`` of networks that end in a linear layer, maybe with one and ReLU before it."""
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    head, before = linears[-1], linears[-2] if len(linears) > 1 else None
    entering = [seen_by(model, head, part) for part in (x_train, x)]
    classes = head.out_features
    unit = whitened(*entering, 3.5e-4, 256)
    said = (
        shares(unit[0], y_train, unit[0], classes, itself=True),
        shares(unit[0], y_train, unit[1], classes, itself=False),
    )
    if predictions is not None:
        said = (said[0] + predictions[0].double()) / 2, (said[1] + predictions[1].double()) / 2
    relu = before is not None and bool((entering[0] >= 0).all()) and before.out_features == head.in_features
    gradients = []
    for of, labels, h in zip(said, (y_train, y), entering, strict=True):
        gradient = (torch.eye(classes, dtype=torch.float64)[labels] - of) @ head.weight.detach().double()
        gradients.append(gradient * (h > 0) if relu else gradient)
    a = whitened(*[seen_by(model, before, part) for part in (x_train, x)], 7e-4, 512) if relu else None
    a = whitened(*entering, 1e-4, 512) if a is None else a
    g = along(*gradients, 1e-2, 256)
    return (len(x_train) * (a[0] @ a[1].T) * (g[0] @ g[1].T)).float()


def combined(left_out: Tensor, localized: Tensor) -> Tensor:
    """Left-out influence and a quarter of the localized one, brought to its spread target by target."""
    spread = [of.double().std(0, correction=0) for of in (left_out, localized)]
    return left_out + (0.25 * spread[0] / spread[1]).float() * localized
