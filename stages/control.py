"""Train the same network with ordinary dropout: what turn-over dropout costs in accuracy is measured against it."""

from stages.train import train_run
from study.context.runs import CONTROL, Run
from study.context.stage import Stage, main


def run(stage: Stage) -> None:
    train_run(stage, Run(stage.item["scenario"], CONTROL, int(stage.item["seed"])))


if __name__ == "__main__":
    main(run, "control", "scenario", "seed", doc=__doc__)
