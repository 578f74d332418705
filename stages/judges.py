"""Train the subsets of a validation set again: fitted networks, and the usual ones from other seeds."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from study.artefacts.files import copy_file
from study.context.fingerprint import work_key
from study.context.members import Member, make_once
from study.context.params import JudgesParams, ValidationParams
from study.context.stage import Stage, main
from study.data.scenarios.scenario import load_scenario
from study.retraining.judges import again, fitted


def run(stage: Stage) -> None:
    name = stage.item["validation_set"]
    member = Member(name, "", work_key(stage))
    made = make_once(member, partial(judge_set, stage, name), store=stage.root / ".checkpoints" / "judges")
    for kind in ("again", "fitted"):
        copy_file(made / f"{kind}.npz", stage.out(f"ground_truth/{name}-{kind}.npz"))


def judge_set(stage: Stage, name: str, folder: Path) -> None:
    """Train the networks of one validation set and write what they say."""
    judges: JudgesParams = stage.param("judges")
    checkpoint = stage.root / ".checkpoints" / f"judges-{name}-{work_key(stage)}"
    scenario = load_scenario(stage.dep(f"data/validation/{name}"))
    network: ValidationParams = stage.param(f"validation.{name}")
    about = scenario, network, stage.param("retrain")
    again(*about, judges.again.subsets, judges.again.times, checkpoint).save(folder / "again.npz")
    epochs = network.fitted_epochs or judges.fitted.epochs
    fitted(*about, judges.fitted.networks, epochs, checkpoint).save(folder / "fitted.npz")
    shutil.rmtree(checkpoint)


if __name__ == "__main__":
    main(run, "judges", "validation_set", doc=__doc__)
