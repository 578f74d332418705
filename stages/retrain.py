"""Train many ordinary networks on random subsets of a validation set: the ground truth of the estimates."""

from __future__ import annotations

import shutil

import numpy as np

from study.artefacts.files import writing
from study.context.fingerprint import fingerprint
from study.context.params import RetrainParams, ValidationParams
from study.context.stage import Stage, main
from study.data.scenarios.scenario import SPLITS, load_scenario
from study.networks.zoo.small import build_own
from study.retraining.many import train_many
from study.retraining.ordinary import examples_of, ordinary_network, recipe_of
from study.retraining.subsets import SubsetOutputs, draw_subsets


def retrain_set(stage: Stage, name: str) -> None:
    """The body of stage `retrain`: the networks of one validation set."""
    network: ValidationParams = stage.param(f"validation.{name}")
    settings: RetrainParams = stage.param("retrain")
    scenario = load_scenario(stage.dep(f"data/{name}"))
    images, labels = examples_of(scenario, *SPLITS)
    train = len(scenario.of("train"))
    inside = np.zeros((settings.networks, len(images)), dtype=np.bool_)
    inside[:, :train] = draw_subsets(train, settings.networks, settings.fraction, settings.seed)
    checkpoint = stage.root / ".checkpoints" / f"retrain-{name}-{fingerprint(stage)}"
    margin, correct = train_many(
        ordinary_network(build_own, network.model, network.options, scenario),
        images,
        labels,
        inside,
        network_seeds(settings.seed, settings.networks),
        recipe_of(settings),
        device=settings.device,
        checkpoint=checkpoint,
    )
    with writing(stage.out(f"ground_truth/{name}.npz")) as beside:
        SubsetOutputs(inside[:, :train], margin, correct).save(beside)
    shutil.rmtree(checkpoint)


def network_seeds(seed: int, networks: int) -> list[int]:
    """A seed of its own for every network of every `seed`."""
    return [seed * 1_000_003 + network for network in range(networks)]


def run(stage: Stage) -> None:
    retrain_set(stage, stage.item["validation_set"])


if __name__ == "__main__":
    main(run, "retrain", "validation_set", doc=__doc__)
