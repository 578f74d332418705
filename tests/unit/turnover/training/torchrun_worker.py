"""One process of `torchrun`: train, and save what came of it. Arguments: folder, and as JSON a list of settings."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from tests.unit.turnover.small import examples, network
from turnover.training.augmentation import Augmentation
from turnover.training.dynamics import Dynamics, schedule
from turnover.training.loop import train
from turnover.training.settings import TrainingConfig


def run(settings: dict[str, Any], checkpoint: Path | None = None) -> dict[str, Any]:
    """Train as `settings` say: losses of the epochs, and the dynamics."""
    torch.set_num_threads(1)
    data = examples(settings["examples"])
    config = TrainingConfig(
        epochs=settings["epochs"],
        batch_size=settings["batch_size"],
        optimizer=settings["optimizer"],
        learning_rate=1e-2,
        augmentation=Augmentation(flip=True, crop=1),
        clip_norm=1.0,
    )
    dynamics = Dynamics(data, schedule(config.epochs))
    history = train(network(settings["after"]), data, config, dynamics=dynamics, checkpoint=checkpoint)
    return {
        "losses": [epoch.loss for epoch in history],
        "accuracies": [epoch.accuracy for epoch in history],
        "dynamics": torch.from_numpy(dynamics.frame()[["loss_exposed", "loss_flipped"]].to_numpy().copy()),
    }


def main(folder: Path, cases: list[dict[str, Any]]) -> None:
    dist.init_process_group("gloo")
    found = []
    for number, settings in enumerate(cases):
        checkpoint = folder / f"{number}.checkpoint"
        found.append(run(settings, checkpoint))
        found[-1]["resumed"] = run(settings, checkpoint)["losses"]
    torch.save(found, folder / f"{dist.get_rank()}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
