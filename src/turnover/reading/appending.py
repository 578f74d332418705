"""Readings that are added to those in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch

from turnover.batches.tap import Features
from turnover.errors import UserError
from turnover.reading.readings import FUNCTION, MANIFEST, Readings, writing
from turnover.reading.storage import Rows, Stored


class Appended:
    """A folder that readings are appended to while they are read.

    Args:
        folder: of earlier readings, or not there yet.
        model: fingerprint of the network.
        precision: of the features.
        features: as for `read`.
        masked: whether exposed and flipped networks are read.

    Raises:
        UserError: the folder holds readings of another network, or in another precision; or cannot be written.
    """

    def __init__(
        self, folder: Path, model: str, precision: Stored, features: Features | Literal[False], *, masked: bool
    ) -> None:
        self.folder = folder
        self.before = Readings.load(folder) if (folder / MANIFEST).exists() else None
        width = count = checksum = 0
        if self.before is not None:
            if self.before.model != model:
                raise UserError(
                    f"{folder} holds readings of another network ({self.before.model[:12]}, this one is {model[:12]}): "
                    "choose another folder"
                )
            before, held = self.before, self.before.rows
            differs = next((what for what, one, other in (
                ("masked", "loss_exposed" in before.values, masked),
                ("features", held is not None, features is not False),
                ("features", before.layer, FUNCTION if callable(features) else features or None),
                ("precision", held and held.dtype, precision if held is not None else None),
            ) if one != other), None)  # fmt: skip
            if differs is not None or before.layer == FUNCTION:
                raise UserError(
                    f"what is in {folder} was read with another {differs or 'features'}=..., and all of it must be "
                    f"read alike: pass the same {differs or 'features'} (functions cannot be compared) or folder"
                )
            if held is not None:
                width, count, checksum = held.width, held.count, held.checksum
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self.features = Rows(precision, folder / "features.bin", width=width, count=count)
        self.features.checksum = checksum

    def finish(self, new: Readings) -> Readings:
        """Put what was read behind what was there, and write it down."""
        if (old := self.before) is not None:
            if old.names.dtype != new.names.dtype:
                raise UserError(f"ids in {self.folder} are of another kind: pass numbers to numbers, names to names")
            both = set(old.ids.tolist()) & set(new.ids.tolist())
            if both:
                raise UserError(
                    f"{len(both)} ids are in {self.folder} already, such as {min(both)}: pass ids of their own for "
                    "what is appended"
                )
            new.ids, new.labels = torch.cat([old.ids, new.ids]), torch.cat([old.labels, new.labels])
            new.values = {name: torch.cat([old.values[name], value]) for name, value in new.values.items()}
            new.names = np.concatenate([old.names, new.names])
            new.ignored += old.ignored
            new.logits = new._inputs = None  # those of the new ones only
            new.batches = [slice(0, len(new.ids))]
        new.write(self.folder)
        return new
