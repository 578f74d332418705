"""Draw the figures from the small tables of all runs, and write down every number the report states."""

from study.context import Stage, main
from study.figures import make_figures


def run(stage: Stage) -> None:
    make_figures(stage)


if __name__ == "__main__":
    main(run, "figures", doc=__doc__)
