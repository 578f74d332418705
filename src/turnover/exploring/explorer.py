"""What the explorer shows: tables, images and curves, checked for fitting together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import pandas as pd

from turnover.errors import UserError

NETWORKS = ("exposed", "flipped", "full")
# Columns of each table; the first ones must be there.
COLUMNS = {
    "training": (
        ("id", "given"),
        ("name", "original", "kind", "memorization", "memorization_se", "memorization_loss", "suspicion", "suggested"),
    ),
    "targets": (("id", "label"), ("name", "predicted", "probability", "wrong_networks")),
    "pairs": (("target", "example", "influence"), ("influence_se", "agree")),
}
_CLASSES = ("given", "original", "suggested", "label", "predicted")  # columns that hold places in the list of classes


@dataclass(frozen=True, eq=False)
class Explorer:
    """What `write_explorer` writes a page of. All but title, classes and training examples may be missing.

    >>> training = pd.DataFrame({"id": [7, 8], "given": [0, 1], "memorization": [0.9, 0.1]})
    >>> targets = pd.DataFrame({"id": [20], "label": [1], "predicted": [0]})
    >>> pairs = pd.DataFrame({"target": [20, 20], "example": [7, 8], "influence": [-0.3, 0.2]})
    >>> len(Explorer("Cats and dogs", ["cat", "dog"], training, targets, pairs).pairs)
    2

    Labels are places in `classes`. Ids are integers or strings, of training examples and of targets apart.

    Args:
        title: of the page.
        classes: their names.
        training: the training examples that the page knows: ``id``, ``given`` (label). If known ``name`` (such as a
            file), ``original`` (label; -1: not known), ``kind`` (a word, such as "random"), ``memorization`` with its
            standard error ``memorization_se``, and in nats ``memorization_loss``; ``suspicion`` (the higher, the more
            suspect is the label), ``suggested`` (another label).
        targets: examples that the network predicted: ``id``, ``label``. If known ``name``, ``predicted`` (label),
            ``probability`` (of the label), ``wrong_networks`` (how many of the networks are wrong).
        pairs: influence of training examples on targets, positive where they help: ``target``, ``example``,
            ``influence``, a row a pair. If known its standard error ``influence_se``, and ``agree``: how many of the
            networks have its sign. Of every target its strongest pairs are shown, of both signs, and of every training
            example; so these must be there, and any more may.
        training_images: uint8 [training, channels, height, width], 1 or 3 channels; row for row those of `training`.
        target_images: the same of `targets`.
        placebos: memorization of examples that were not trained on [m], to compare with.
        epochs: those of the learning curves, ascending.
        curves: of "exposed", "flipped" and "full" (any of them): probability of the given label [training, epochs].
        networks: of how many the numbers are means.
        target: what a target is called.
        influence: what the column of that name says, in a few words after "influence".
        suspicion: what the column of that name says, in a few words.
        about: sentences below the title.
        links: text -> address of other pages and tables, relative or http(s).

    Raises:
        UserError: a column is missing, an id stands twice or is not known, a label is no class, or shapes do not fit.
    """

    title: str
    classes: Sequence[str]
    training: pd.DataFrame
    targets: pd.DataFrame | None = None
    pairs: pd.DataFrame | None = None
    training_images: npt.NDArray[np.uint8] | None = None
    target_images: npt.NDArray[np.uint8] | None = None
    placebos: npt.ArrayLike | None = None
    epochs: Sequence[int] = ()
    curves: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    networks: int = 1
    target: str = "held-out example"
    influence: str = "on the loss, in nats"
    suspicion: str = "suspicion"
    about: Sequence[str] = ()
    links: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in COLUMNS:
            self._check_table(name, getattr(self, name))
        self._check_pairs()
        for name, images in (("training", self.training_images), ("target", self.target_images)):
            table = self.training if name == "training" else self.targets
            if images is not None:
                _check_images(f"{name}_images", images, 0 if table is None else len(table))
        self._check_curves()
        for text, address in self.links.items():
            if urlsplit(address).scheme not in ("", "http", "https"):
                raise UserError(f"the link {text!r} leads to {address!r}: pass a relative or an http(s) address")

    def _check_table(self, name: str, table: pd.DataFrame | None) -> None:
        if table is None:
            return
        needed, _ = COLUMNS[name]
        for column in needed:
            if column not in table:
                raise UserError(f"{name} has no column {column!r}; it has {', '.join(map(str, table.columns))}")
        if "id" in needed:
            ids = Counter(map(str, table["id"]))  # as they stand in addresses
            for twice in (id_ for id_, times in ids.items() if times > 1):
                raise UserError(f"{name} holds the id {twice} twice: give every example one of its own")
        for column in _CLASSES:
            if column in table:
                labels = table[column].to_numpy()
                least = -1 if column == "original" else 0
                if (
                    not np.issubdtype(labels.dtype, np.integer)
                    or ((labels < least) | (labels >= len(self.classes))).any()
                ):
                    raise UserError(
                        f"column {column!r} of {name} must hold places in the list of {len(self.classes)} classes, "
                        f"integers from {least} to {len(self.classes) - 1}"
                    )

    def _check_pairs(self) -> None:
        if self.pairs is None:
            return
        if self.targets is None:
            raise UserError("there are pairs, but no targets: pass the table of the targets, too")
        for column, name, table in (("target", "targets", self.targets), ("example", "training", self.training)):
            unknown = self.pairs.loc[~self.pairs[column].isin(table["id"]), column]
            if len(unknown):
                raise UserError(f"pairs names the {column} {unknown.iloc[0]}, which is not among the ids of {name}")

    def _check_curves(self) -> None:
        for name, curve in self.curves.items():
            if name not in NETWORKS:
                raise UserError(f"curves has {name!r}; known are {', '.join(NETWORKS)}")
            if np.shape(curve) != (len(self.training), len(self.epochs)):
                raise UserError(
                    f"the curves of {name!r} have the shape {np.shape(curve)}, but there are {len(self.training)} "
                    f"training examples and {len(self.epochs)} epochs"
                )


def _check_images(name: str, images: npt.NDArray[np.uint8], count: int) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape[2:]:
        raise UserError(
            f"{name} must be uint8 [n, channels, height, width] with 1 or 3 channels, got {images.dtype} {images.shape}"
        )
    if len(images) != count:
        raise UserError(f"{name} holds {len(images)} images, but its table {count} rows")
