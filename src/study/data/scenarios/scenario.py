"""A scenario: the study's examples with the labels they were given, as stage `corrupt` leaves them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from study.artefacts.files import write_json, write_parquet, writing
from turnover.errors import UserError

SPLITS = ("train", "placebo", "heldout")
_DERIVED = ["kind", "wrong"]  # columns that follow from the others, and are not written


@dataclass(frozen=True)
class Scenario:
    """Images and labels of one scenario; row r is the example with id r.

    `examples` has the columns ``id``, ``split`` (train, placebo, heldout), ``given`` and ``original`` label,
    ``is_random`` (the given label was drawn at random, and may have hit the original one), ``source_part`` (train or
    test part of the data set) and ``source_index`` (row in that part). Two more follow from these: ``kind`` (real or
    random label of a training example, placebo, heldout) and ``wrong`` (the given label is not the original one).
    """

    name: str
    images: np.ndarray  # uint8 [n, channels, height, width]
    examples: pd.DataFrame
    classes: tuple[str, ...]
    dataset: str

    def __post_init__(self) -> None:
        of = self.examples
        kind = np.where(of["split"] != "train", of["split"], np.where(of["is_random"], "random", "real"))
        object.__setattr__(self, "examples", of.assign(kind=kind, wrong=of["given"] != of["original"]))

    def of(self, *splits: str) -> pd.DataFrame:
        """The examples of some splits, in order of id."""
        return self.examples[self.examples["split"].isin(splits)]

    def arrays(self, *splits: str) -> tuple[np.ndarray, np.ndarray]:
        """Images uint8 [n, channels, height, width] and given labels int64 [n] of some splits, in order of id."""
        rows = self.of(*splits)
        return self.images[rows["id"].to_numpy()], rows["given"].to_numpy(copy=True)


def save_scenario(scenario: Scenario, folder: Path) -> None:
    """Write `images.npy`, `examples.parquet` and `scenario.json`."""
    with writing(folder) as beside:
        beside.mkdir(parents=True)
        np.save(beside / "images.npy", scenario.images, allow_pickle=False)
        write_parquet(beside / "examples.parquet", scenario.examples.drop(columns=_DERIVED))
        write_json(
            beside / "scenario.json",
            {"scenario": scenario.name, "dataset": scenario.dataset, "classes": list(scenario.classes)},
        )


def load_scenario(folder: Path) -> Scenario:
    """Read what `save_scenario` wrote.

    Raises:
        UserError: a file is missing or corrupt.
    """
    try:
        about: dict[str, Any] = json.loads((folder / "scenario.json").read_text(encoding="utf-8"))
        images = np.load(folder / "images.npy", allow_pickle=False)
        examples = pd.read_parquet(folder / "examples.parquet")
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} is missing or corrupt ({error}): run `dvc repro` to make it again") from error
    if len(images) != len(examples):
        raise UserError(f"{folder} is corrupt: {len(images)} images, but {len(examples)} examples")
    return Scenario(about["scenario"], images, examples, tuple(about["classes"]), about["dataset"])
