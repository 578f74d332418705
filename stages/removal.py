"""Remove the most memorized, the least memorized or random training examples, retrain without masks, compare."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from study.artefacts.files import copy_file, write_csv
from study.context.fingerprint import work_key
from study.context.members import Member, make_once
from study.context.params import ModelParams, ParamsError, RemovalParams
from study.context.rules import CONTROL
from study.context.runs import Run
from study.context.stage import Stage, main
from study.data.scenarios.scenario import Scenario, load_scenario
from study.networks.named import build
from study.removal.orders import Removal, cleansings, removal_orders, removals
from study.retraining.many import train_many
from study.retraining.ordinary import ordinary_network

# Apart from the seeds of the study's own networks, so that no estimate shares initial weights with its judge.
_SEED_OFFSET = 10_000


def run(stage: Stage) -> None:
    member = Member("removal", "", work_key(stage))
    made = make_once(member, partial(retrain_all, stage), store=stage.root / ".checkpoints" / "removal")
    copy_file(made / "removal.csv", stage.out("reports/metrics/removal.csv"))


def retrain_all(stage: Stage, folder: Path) -> None:
    """Retrain without (or with only) chosen examples in every scenario, and write how good the networks are."""
    settings: RemovalParams = stage.param("removal")
    scenarios = [name for name in settings.scenarios if name in stage.param("scenarios")]
    tables = [_retrained(stage, load_scenario(stage.dep(f"data/scenarios/{name}")), settings) for name in scenarios]
    write_csv(folder / "removal.csv", pd.concat(tables, ignore_index=True))
    for name in scenarios:
        shutil.rmtree(stage.root / _checkpoint(stage, name))


def _retrained(stage: Stage, scenario: Scenario, settings: RemovalParams) -> pd.DataFrame:
    trained = scenario.of("train")
    scores = mean_scores(stage, scenario, settings)
    asked = [(seed, one) for seed in settings.seeds for one in plan(trained, scores, settings, seed)]
    images, labels = scenario.arrays("train", "heldout")
    inside = np.zeros((len(asked), len(images)), dtype=np.bool_)
    for row, (_, one) in enumerate(asked):
        inside[row, : len(trained)] = one.inside
    model: ModelParams = stage.param("model")
    margin, correct = train_many(
        ordinary_network(build, model.name, model.options, scenario),
        torch.from_numpy(images),
        torch.from_numpy(labels),
        inside,
        [_SEED_OFFSET + seed for seed, _ in asked],
        settings,
        checkpoint=stage.root / _checkpoint(stage, scenario.name),
    )
    loss = np.logaddexp(0.0, -margin[:, len(trained) :].astype(np.float64)).mean(1)
    accuracy = correct[:, len(trained) :].mean(1)
    return pd.DataFrame(
        {
            "scenario": scenario.name,
            "seed": [seed for seed, _ in asked],
            "order": [one.order for _, one in asked],
            "action": [one.action for _, one in asked],
            "fraction": [one.fraction for _, one in asked],
            "train": inside.sum(1),
            "heldout_accuracy": accuracy,
            "heldout_loss": loss,
        }
    )


def mean_scores(stage: Stage, scenario: Scenario, settings: RemovalParams) -> pd.DataFrame:
    """The scores of the training examples, averaged over the study's seeds, in order of id.

    They are those of placement head, or of the first one with masks.
    """
    masked = [placement for placement in stage.param("placements") if placement != CONTROL]
    placement = "head" if "head" in masked else masked[0]
    runs = [Run(scenario.name, placement, seed) for seed in stage.param("seeds").of(placement)]
    tables = [pd.read_parquet(stage.dep(f"{run.scores}/memorization.parquet")) for run in runs]
    columns = [settings.score, "loss_flipped"]
    missing = [column for column in columns if column not in tables[0]]
    if missing:
        raise ParamsError(
            f"params.yaml: removal.score: {missing[0]!r} is no column of the scores; there are {list(tables[0])}"
        )
    every = pd.concat(tables)
    every = every[every["split"] == "train"]
    return every.groupby("id", sort=True)[list(dict.fromkeys(columns))].mean()


def plan(trained: pd.DataFrame, scores: pd.DataFrame, settings: RemovalParams, seed: int) -> list[Removal]:
    """All trainings of one seed.

    Args:
        trained: the training examples, in order of id.
        scores: theirs, in the same order.
        settings: which score, which fractions.
        seed: of the random orders.
    """
    orders = removal_orders(scores[settings.score].to_numpy(), trained["given"].to_numpy(), seed)
    found = [Removal("none", "remove", 0.0, np.ones(len(trained), dtype=np.bool_))]
    found += removals(orders, settings.fractions)
    wrong = (trained["given"] != trained["original"]).to_numpy()
    if wrong.any() and not wrong.all():
        found += cleansings(wrong, scores["loss_flipped"].to_numpy(), orders)
    return found


def _checkpoint(stage: Stage, scenario: str) -> str:
    return f".checkpoints/removal-{scenario}-{work_key(stage)}"


if __name__ == "__main__":
    main(run, "removal", doc=__doc__)
