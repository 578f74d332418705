"""Train the same network with ordinary dropout: what turn-over dropout costs in accuracy is measured against it."""

from study.context import CONTROL, Run, Stage, main
from study.training_run import train_run


def run(stage: Stage) -> None:
    train_run(stage, Run(stage.item["scenario"], CONTROL, int(stage.item["seed"])))


if __name__ == "__main__":
    main(run, "control", "scenario", "seed", doc=__doc__)
