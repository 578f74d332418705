"""Train many ordinary networks on random subsets of a validation set: the ground truth of the estimates."""

from study.context import Stage, main
from study.ground_truth import retrain_set


def run(stage: Stage) -> None:
    retrain_set(stage, stage.item["validation_set"])


if __name__ == "__main__":
    main(run, "retrain", "validation_set", doc=__doc__)
