"""On one's own data: the training examples whose labels like examples support least, as a table and their images."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from study.analysis.inputs import Study
from study.artefacts.files import write_csv
from study.context.params import FiguresParams
from study.context.rules import OWN
from study.figures.images import sprites

_ROWS = 3  # galleries of the other images that it is as long as, at most: it is what one comes for
_SHARE = 0.1  # of the training examples, at most


def draw_suspects(study: Study, settings: FiguresParams, folder: Path) -> None:
    """`suspects`, table and sprites; nothing where the data set is a known one."""
    if not next(iter(study.scenarios.values())).dataset.startswith(OWN):
        return
    trained = len(next(iter(study.scenarios.values())).of("train"))
    table = suspects_table(study, min(_ROWS * settings.gallery, math.ceil(_SHARE * trained)))
    write_csv(folder / "suspects.csv", table)
    images = study.scenarios[table["scenario"].iloc[0]].images
    sprites(images[table["id"].to_numpy()]).save(folder / "suspects-sprites.png", optimize=True)


def suspects_table(study: Study, count: int) -> pd.DataFrame:
    """The `count` training examples of least mean support over the seeds, where there are the fewest random labels.

    One row an example: ``scenario``, ``rank``, ``id``, ``name`` (where it comes from), ``given_name``,
    ``original_name``, ``differs`` (the study made it wrong), ``support``.
    """
    name = min(study.scenarios, key=lambda of: int(study.scenarios[of].examples["is_random"].sum()))
    scenario = study.scenarios[name]
    tables = pd.concat([study.memorization[of] for of in study.runs(name, study.placements[0])])
    support = tables[tables["split"] == "train"].groupby("id")["support"].mean().astype(float)
    least = support.sort_index().sort_values(kind="stable").head(count)
    rows = scenario.examples.set_index("id").loc[least.index]
    classes = dict(enumerate(scenario.classes))
    return pd.DataFrame(
        {
            "scenario": name,
            "rank": range(1, len(rows) + 1),
            "id": rows.index,
            "name": rows["name"].to_numpy() if "name" in rows else "",
            "given_name": rows["given"].map(classes).to_numpy(),
            "original_name": rows["original"].map(classes).to_numpy(),
            "differs": rows["wrong"].to_numpy(),
            "support": least.to_numpy(),
        }
    )
