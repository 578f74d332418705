"""Draw the study's examples and give a fraction of them random labels."""

from study.context.stage import Stage, main
from study.data.noise.kinds import with_noise
from study.data.noise.sizes import sized
from study.data.scenarios.corruption import make_scenario
from study.data.scenarios.labels import KINDS
from study.data.scenarios.scenario import save_scenario
from study.data.sources.dataset import load


def run(stage: Stage) -> None:
    name = stage.item["scenario"]
    kind, seed, fraction = (stage.param(f"labels.{key}") for key in ("kind", "seed", f"noise.{name}"))
    by_chance = kind in KINDS
    dataset = load(stage.dep("data/raw"))
    scenario = make_scenario(
        name,
        dataset,
        sized(stage.param("data"), dataset),
        fraction=fraction if by_chance else 0.0,
        kind=kind if by_chance else KINDS[0],
        label_seed=seed,
    )
    if not by_chance:
        scenario = with_noise(scenario, kind, fraction, seed=seed)
    save_scenario(scenario, stage.out(f"data/scenarios/{name}"))


if __name__ == "__main__":
    main(run, "corrupt", "scenario", doc=__doc__)
