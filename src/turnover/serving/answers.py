"""What the page is told of a new image: its prediction, and the training examples that helped and harmed it most."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from turnover.batches.passes import device_of, evaluating, moved
from turnover.errors import UserError
from turnover.serving.pictures import address
from turnover.serving.trained import Trained

TOP = 8  # helpful and harmful training examples


def answer(trained: Trained, pixels: npt.NDArray[np.uint8], label: int | None = None) -> dict[str, Any]:
    """The prediction for an image, and what shaped it.

    Args:
        trained: networks and training examples.
        pixels: uint8 [channels, height, width], the shape of the training images.
        label: whose probability is to be explained, a place in the list of classes; None: the predicted one.

    Returns:
        ``probabilities`` of the classes, means over the networks; ``predicted`` and ``label``; ``picture``, the image
        as an address; and ``helpful`` and ``harmful`` training examples, the strongest first: ``id``, ``name``,
        ``given``, ``original``, ``picture``, ``influence``, and of several networks ``influence_se`` and ``agree``.

    Raises:
        UserError: there is no such label.
    """
    if label is not None and not 0 <= label < len(trained.classes):
        raise UserError(f"there is no class {label}; there are {len(trained.classes)}, from 0 on")
    x = torch.from_numpy(pixels)[None]
    likely = probabilities(trained, x)
    predicted = int(likely.argmax())
    of = predicted if label is None else label
    scores = trained.influence(x, torch.tensor([of]))[:, :, 0]
    helpful, harmful = strongest(scores.mean(0))
    return {
        "predicted": predicted,
        "label": of,
        "probabilities": [round(value, 6) for value in likely.tolist()],
        "picture": address(pixels),
        "helpful": _examples(trained, helpful, scores),
        "harmful": _examples(trained, harmful, scores),
    }


def probabilities(trained: Trained, x: Tensor) -> Tensor:
    """Of the classes for one image [1, channels, height, width], the mean over the networks: float32 [classes]."""
    found = []
    for network in trained.networks:
        with evaluating(network):
            found.append(network(moved(x, device_of(network))).float().softmax(1)[0].cpu())
    return torch.stack(found).mean(0)


def strongest(scores: Tensor, count: int = TOP) -> tuple[list[int], list[int]]:
    """Places of the `count` largest positive scores and of the `count` smallest negative ones, the strongest first."""
    order = scores.argsort(descending=True, stable=True)
    positive, negative = order[:count], order.flip(0)[:count]
    return positive[scores[positive] > 0].tolist(), negative[scores[negative] < 0].tolist()


def _examples(trained: Trained, places: list[int], scores: Tensor) -> list[dict[str, Any]]:
    found = []
    networks = len(scores)
    for place in places:
        row = trained.examples.iloc[place]
        of, mean = scores[:, place], float(scores[:, place].mean())
        about: dict[str, Any] = {
            "id": str(row["id"]),
            "name": str(row["name"]) if "name" in row else None,
            "given": int(row["given"]),
            "original": int(row["original"]) if "original" in row else -1,
            "picture": address(trained.images[place]),
            "influence": mean,
        }
        if networks > 1:
            about["influence_se"] = float(of.std()) / networks**0.5
            about["agree"] = int((of.sign() == np.sign(mean)).sum())
        found.append(about)
    return found
