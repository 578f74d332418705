"""Draw the study's examples and give a fraction of them random labels."""

from study.context.stage import Stage, main
from study.data.scenarios.corruption import make_scenario
from study.data.scenarios.scenario import save_scenario
from study.data.sources.dataset import load


def run(stage: Stage) -> None:
    name = stage.item["scenario"]
    scenario = make_scenario(
        name,
        load(stage.dep("data/raw")),
        stage.param("data"),
        fraction=stage.param(f"labels.noise.{name}"),
        kind=stage.param("labels.kind"),
        label_seed=stage.param("labels.seed"),
    )
    save_scenario(scenario, stage.out(f"data/scenarios/{name}"))


if __name__ == "__main__":
    main(run, "corrupt", "scenario", doc=__doc__)
