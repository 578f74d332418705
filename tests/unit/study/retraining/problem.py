"""A problem of milliseconds: digits, and a tiny network of them. Run as a script: retrains until it is killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from study.context.params import RecipeParams
from study.networks.zoo.small import Normalized, build_own
from study.retraining.many import train_many

NETWORKS, EXAMPLES = 6, 90
RECIPE = RecipeParams(
    epochs=2, batch_size=16, learning_rate=5e-3, weight_decay=1e-2, min_steps=0, precision="float32", device="cpu"
)
SEEDS = [100 + k for k in range(NETWORKS)]


def network(seed: int, name: str = "cnn") -> Normalized:
    options = {"channels": [4, 8], "hidden": 16} if name == "cnn" else {"hidden": 16, "layers": 1}
    return Normalized(build_own(name, (1, 8, 8), 10, seed=seed, **options), [0.3], [0.37])


def examples() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits  # here, because processes that train import this file

    bunch = load_digits()
    images = torch.tensor(bunch.images[:EXAMPLES] * 15, dtype=torch.uint8).unsqueeze(1)
    return images, torch.tensor(bunch.target[:EXAMPLES]).long()


def subsets() -> np.ndarray:
    """Halves of the first 60 examples; the others are held out."""
    from study.retraining.subsets import draw_subsets

    inside = np.zeros((NETWORKS, EXAMPLES), dtype=np.bool_)
    inside[:, :60] = draw_subsets(60, NETWORKS)
    return inside


def slow_network(seed: int, marks: Path, patience: float) -> nn.Module:
    """Leaves a mark that it was made, and takes its time."""
    (marks / f"{seed}-{time.monotonic_ns()}").touch()
    time.sleep(patience)
    return network(seed)


def killed_worker(seed: int) -> nn.Module:
    """The third network kills the process that makes it, unless that is the parent."""
    if seed == SEEDS[2] and multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    return network(seed)


if __name__ == "__main__":
    make = partial(slow_network, marks=Path(sys.argv[1]), patience=0.3)
    train_many(make, *examples(), subsets(), SEEDS, RECIPE, processes=1, checkpoint=Path(sys.argv[2]))
