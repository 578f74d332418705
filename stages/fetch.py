"""Fetch the data set, verified by checksum, from the first source that answers."""

from study.context.stage import Stage, main
from study.data.sources.fetching import fetch, local_files
from study.networks.masked import check_networks


def run(stage: Stage) -> None:
    stage.check(check_networks)
    fetch(stage.param("data.dataset"), stage.out("data/raw"), local=local_files())


if __name__ == "__main__":
    main(run, "fetch", doc=__doc__)
