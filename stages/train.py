"""Train one network with turn-over dropout, recording what every example does."""

from study.context import Run, Stage, main
from study.training_run import train_run


def run(stage: Stage) -> None:
    item = stage.item
    train_run(stage, Run(item["scenario"], item["placement"], int(item["seed"])))


if __name__ == "__main__":
    main(run, "train", "scenario", "placement", "seed", doc=__doc__)
