"""Draw the examples whose memorization and influence are known by retraining, and give some of them random labels."""

from __future__ import annotations

import tempfile
from pathlib import Path

from study.context.params import DataParams, ValidationParams
from study.context.stage import Stage, main
from study.data.scenarios.corruption import make_scenario
from study.data.scenarios.scenario import Scenario, save_scenario
from study.data.sources.dataset import Dataset, load
from study.data.sources.fetching import fetch, local_files


def run(stage: Stage) -> None:
    name = stage.item["validation_set"]
    settings: ValidationParams = stage.param(f"validation.{name}")
    if settings.dataset == stage.param("data.dataset"):
        scenario = validation_scenario(name, load(stage.dep("data/raw")), settings)
    else:  # not the study's data set; only its few examples are kept
        with tempfile.TemporaryDirectory() as folder:
            raw = fetch(settings.dataset, Path(folder) / "raw", local=local_files())
            scenario = validation_scenario(name, load(raw), settings)
    save_scenario(scenario, stage.out(f"data/validation/{name}"))


def validation_scenario(name: str, dataset: Dataset, settings: ValidationParams) -> Scenario:
    """Draw the examples of a set, and give a fraction of the training examples and placebos random labels.

    Raises:
        UserError: the data set is too small.
    """
    sizes = DataParams.model_validate(settings.model_dump(include=set(DataParams.model_fields)))
    return make_scenario(name, dataset, sizes, fraction=settings.noise, kind="uniform", label_seed=settings.seed)


if __name__ == "__main__":
    main(run, "validation_data", "validation_set", doc=__doc__)
