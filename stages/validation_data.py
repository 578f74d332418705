"""Draw the examples whose memorization and influence are known by retraining, and give some of them random labels."""

from study.context import Stage, main
from study.validation_data import make_validation_data


def run(stage: Stage) -> None:
    make_validation_data(stage, stage.item["validation_set"])


if __name__ == "__main__":
    main(run, "validation_data", "validation_set", doc=__doc__)
