"""Judge every estimate by retraining, beside the public estimators: the validation table and its figure."""

from study.context import Stage, main
from study.validation.stage import validate


def run(stage: Stage) -> None:
    validate(stage, stage.item["validation_set"])


if __name__ == "__main__":
    main(run, "validate", "validation_set", doc=__doc__)
