"""Fetch the data set, verified by checksum, from the first source that answers."""

from study.context import Stage, main
from study.networks import check_networks
from turnover.data.sources import fetch, local_files


def run(stage: Stage) -> None:
    stage.check(check_networks)
    fetch(stage.param("data.dataset"), stage.out("data/raw"), local=local_files())


if __name__ == "__main__":
    main(run, "fetch", doc=__doc__)
