"""Train many ordinary networks on random subsets of a validation set: the ground truth of the estimates."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from study.artefacts.files import copy_file
from study.context.fingerprint import work_key
from study.context.members import Member, make_once
from study.context.stage import Stage, main
from study.data.scenarios.scenario import load_scenario
from study.retraining.judges import usual


def run(stage: Stage) -> None:
    name = stage.item["validation_set"]
    member = Member(name, "", work_key(stage))
    made = make_once(member, partial(retrain_set, stage, name), store=stage.root / ".checkpoints" / "retrain")
    copy_file(made / "truth.npz", stage.out(f"ground_truth/{name}.npz"))


def retrain_set(stage: Stage, name: str, folder: Path) -> None:
    """Train the networks of one validation set and write what they say."""
    scenario = load_scenario(stage.dep(f"data/validation/{name}"))
    checkpoint = stage.root / ".checkpoints" / f"retrain-{name}-{work_key(stage)}"
    usual(scenario, stage.param(f"validation.{name}"), stage.param("retrain"), checkpoint).save(folder / "truth.npz")
    shutil.rmtree(checkpoint)


if __name__ == "__main__":
    main(run, "retrain", "validation_set", doc=__doc__)
