"""Write the report: one self-contained page, and the same in Markdown."""

from study.context import Stage, main
from study.report import make_report


def run(stage: Stage) -> None:
    make_report(stage)


if __name__ == "__main__":
    main(run, "report", doc=__doc__)
