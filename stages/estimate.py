"""Estimate memorization, and influence on the held-out examples, of one trained run."""

from study.context import Run, Stage, main
from study.estimation import estimate_run


def run(stage: Stage) -> None:
    item = stage.item
    estimate_run(stage, Run(item["scenario"], item["placement"], int(item["seed"])))


if __name__ == "__main__":
    main(run, "estimate", "scenario", "placement", "seed", doc=__doc__)
