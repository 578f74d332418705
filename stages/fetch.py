"""Fetch the data set, verified by checksum, from the first source that answers."""

import os
from pathlib import Path

from study.context import Stage, main
from study.networks import check_networks
from turnover.data.sources import fetch


def run(stage: Stage) -> None:
    stage.check(check_networks)
    local = os.environ.get("TURNOVER_DATA")
    fetch(stage.param("data.dataset"), stage.out("data/raw"), local=Path(local) if local else None)


if __name__ == "__main__":
    main(run, "fetch", doc=__doc__)
