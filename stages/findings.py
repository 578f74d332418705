"""Test the claims: compare groups, orders of removal and gradients, and say what the data support."""

from study.context import Stage, main
from study.findings import make_findings


def run(stage: Stage) -> None:
    make_findings(stage)


if __name__ == "__main__":
    main(run, "findings", doc=__doc__)
