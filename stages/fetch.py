"""Fetch the data set, verified by checksum, from the first source that answers."""

from study.context.stage import Stage, main
from study.data.sources.fetching import fetch, local_files


def run(stage: Stage) -> None:
    fetch(stage.param("data.dataset"), stage.out("data/raw"), local=local_files())


if __name__ == "__main__":
    main(run, "fetch", doc=__doc__)
