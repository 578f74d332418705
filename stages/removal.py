"""Remove the most memorized, the least memorized or random training examples, retrain without masks, compare."""

from study.context import Stage, main
from study.removal import removal


def run(stage: Stage) -> None:
    removal(stage)


if __name__ == "__main__":
    main(run, "removal", doc=__doc__)
