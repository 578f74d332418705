"""Train many ordinary networks on random subsets of a validation set: the ground truth of the estimates."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import torch

from study.artefacts.files import copy_file
from study.context.fingerprint import work_key
from study.context.members import Member, make_once
from study.context.params import RetrainParams, ValidationParams
from study.context.stage import Stage, main
from study.data.scenarios.scenario import SPLITS, load_scenario
from study.networks.zoo.small import build_own
from study.retraining.many import train_many
from study.retraining.ordinary import ordinary_network
from study.retraining.subsets import SubsetOutputs, draw_subsets


def run(stage: Stage) -> None:
    name = stage.item["validation_set"]
    member = Member(name, "", work_key(stage))
    made = make_once(member, partial(retrain_set, stage, name), store=stage.root / ".checkpoints" / "retrain")
    copy_file(made / "truth.npz", stage.out(f"ground_truth/{name}.npz"))


def retrain_set(stage: Stage, name: str, folder: Path) -> None:
    """Train the networks of one validation set and write what they say."""
    network: ValidationParams = stage.param(f"validation.{name}")
    settings: RetrainParams = stage.param("retrain")
    scenario = load_scenario(stage.dep(f"data/validation/{name}"))
    images, labels = scenario.arrays(*SPLITS)
    # Each network gets half of the training examples, and is asked about them all, placebos and held-out ones too.
    train = len(scenario.of("train"))
    inside = np.zeros((settings.networks, len(images)), dtype=np.bool_)
    inside[:, :train] = draw_subsets(train, settings.networks, settings.fraction, settings.seed)
    checkpoint = stage.root / ".checkpoints" / f"retrain-{name}-{work_key(stage)}"
    margin, correct = train_many(
        ordinary_network(build_own, network.model, network.options, scenario),
        torch.from_numpy(images),
        torch.from_numpy(labels),
        inside,
        network_seeds(settings.seed, settings.networks),
        settings,
        checkpoint=checkpoint,
    )
    SubsetOutputs(inside[:, :train], margin, correct).save(folder / "truth.npz")
    shutil.rmtree(checkpoint)


def network_seeds(seed: int, networks: int) -> list[int]:
    """A seed of its own for every network of every `seed`."""
    return [seed * 1_000_003 + network for network in range(networks)]


if __name__ == "__main__":
    main(run, "retrain", "validation_set", doc=__doc__)
