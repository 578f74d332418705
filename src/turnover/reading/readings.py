"""What the networks say of examples, in memory or in a folder.

`memorization`, `neighbourhood`, `influence` and `summarize` all work on readings, so a training set is decoded and goes
through the network once, whatever is asked about it.

In a folder, ``features.bin`` are the rows of features (and what enters the layer before the head), in plain bytes;
``columns-....safetensors`` ids, labels, losses and margins; ``names-....json`` ids that are strings; ``readings.json``
what they are and of which network, with checksums. It is written last: until then the folder holds what it held before.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from turnover.batches.checks import Names, check_network
from turnover.errors import UserError
from turnover.masking.calling import take
from turnover.reading.features import LARGEST
from turnover.reading.identity import add_tensor, model_fingerprint
from turnover.reading.options import as_path
from turnover.reading.storage import Columns, Rows

MANIFEST = "readings.json"
FUNCTION = "a function"  # stands for features that a function of the user's gave, which cannot be written down
_VERSION = 3


class _OtherVersion(ValueError):
    """A manifest of another version of the library."""


def _seal(manifest: dict[str, Any]) -> str:
    """A checksum of all other entries of a manifest."""
    entries = {name: value for name, value in manifest.items() if name != "seal"}
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def _checked(manifest: Any) -> dict[str, Any]:
    """A manifest that was read, unless it is of another version, or not as it was written."""
    if not isinstance(manifest, dict):
        raise ValueError("it holds no entries")
    if manifest.get("version") != _VERSION:
        raise _OtherVersion
    if manifest.get("seal") != _seal(manifest):
        raise ValueError("its entries are not those that were written")
    return manifest


class Readings:
    """What a network says of examples: one row an example, in the order of the data set.

    >>> model = insert(torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2)))
    >>> train = read(model, torch.randn(6, 4), torch.arange(6) % 2, ["a", "b", "c", "d", "e", "f"])
    >>> train.save("readings")
    >>> again = Readings.load("readings")
    >>> again.names.tolist(), again.features[:2].shape
    (['a', 'b', 'c', 'd', 'e', 'f'], torch.Size([2, 16]))

    Made by `read` or `Readings.load`. Data that has no order of its own (an iterable, batches composed by the user)
    stays in the order in which it came.

    Attributes:
        ids: int64 [n], what masks are drawn from (hashes, where ids are names).
        names: the ids as they were given: an array [n] of int64, or of strings.
        labels: int64 [n], on the CPU.
        values: ``loss_exposed``, ``margin_exposed``, ... ``margin_full``: float32 [n] on the CPU. An example is
            classified correctly where the margin is positive; the probability of its label is ``exp(-loss)``. Of a
            network without masks, or where only the full one was asked for, ``loss_full`` and ``margin_full``.
        classes: how many the network has; 2 for a single logit z, which stands for the logits [0, z].
        ignored: examples that were left out because their label is -100.
        features: rows [n, width] (`Rows`, or `Columns` of them), or None.
        inner: rows [n, width] of what enters the layer before the head, where features are what enters the head and
            that layer is a linear one with ReLU; else None.
        logits: rows [n, classes] of the full network, or None where they were not asked for.
        batches: rows of each batch that was read.
        short: masks and head are such that exposed and flipped outputs follow from the features.
        model: fingerprint of the network.
        layer: what `features` of `read` asked for: a module's name, a function, or None for what enters the head. (Of
            readings that were loaded, "a function" stands for one.)
    """

    def __init__(
        self, model: str, features: Rows | None, logits: Rows | None, keep_inputs: bool, layer: Any = None
    ) -> None:
        self.model, self.rows, self.logits, self.layer = model, features, logits, layer
        self.inner_width = 0  # the last so many columns of `rows`
        self.classes, self.ignored, self.short = 0, 0, False
        self.batches: list[slice] = []
        self.values: dict[str, Tensor] = {}
        self.ids = self.labels = torch.empty(0, dtype=torch.int64)
        self.names: Names = np.empty(0, dtype=np.int64)
        self._inputs: list[Any] | None = [] if keep_inputs else None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def features(self) -> Rows | Columns | None:
        if self.rows is None or not self.inner_width:
            return self.rows
        return Columns(self.rows, 0, self.rows.width - self.inner_width)

    @property
    def inner(self) -> Columns | None:
        if self.rows is None or not self.inner_width:
            return None
        return Columns(self.rows, self.rows.width - self.inner_width)

    def inputs(self, rows: slice) -> Any:
        """Inputs of some rows of one batch, as the network takes them; only where they were kept."""
        assert self._inputs is not None
        for batch, inputs in zip(self.batches, self._inputs, strict=True):
            if batch.start <= rows.start and rows.stop <= batch.stop:
                return take(inputs, slice(rows.start - batch.start, rows.stop - batch.start))
        raise IndexError(f"rows {rows.start} to {rows.stop} do not lie in one batch")

    def of(self, model: nn.Module) -> Readings:
        """These readings, unless another network made them.

        Raises:
            TypeError: `model` is not one network.
            UserError: other weights, masks or structure.
        """
        check_network(model)
        if (found := model_fingerprint(model)) != self.model:
            raise UserError(
                f"these readings ({self.model[:12]}) are of another network, or it was trained since ({found[:12]}): "
                "call read(model, data) again"
            )
        return self

    @property
    def fingerprint(self) -> str:
        """A hash (hex) of the network and of the data as the network sees it: ids, labels and outputs."""
        digest = hashlib.sha256(self.model.encode())
        for value in (self.ids, self.labels, *(self.values[name] for name in sorted(self.values))):
            add_tensor(digest, value)
        return digest.hexdigest()

    def save(self, folder: Path | str) -> None:
        """Write the readings to a new folder, for `load`. Inputs are not kept.

        Raises:
            UserError: the folder exists, or cannot be written.
        """
        folder = as_path("folder", folder)
        if (folder / MANIFEST).exists():
            raise UserError(f"{folder} holds readings already: remove it, or save to another folder")
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if self.rows is not None:
                (folder / "features.bin").unlink(missing_ok=True)
                self.rows.write_to(folder / "features.bin")
        self.write(folder)

    @staticmethod
    def load(folder: Path | str) -> Readings:
        """Readings of a folder; their features stay on the disk.

        Raises:
            UserError: there are none, or a file is damaged.
        """
        folder = as_path("folder", folder)
        try:
            manifest = _checked(json.loads((folder / MANIFEST).read_text()))
            content = (folder / manifest["columns"]).read_bytes()
            names = (folder / manifest["names"]).read_bytes() if manifest["names"] else b""
        except FileNotFoundError as error:
            raise UserError(f"{folder} holds no readings: {error.filename} is missing") from error
        except _OtherVersion as error:
            raise UserError(f"{folder} was written by another version of the library: read the data again") from error
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise UserError(f"{folder / MANIFEST} is damaged ({error}): read the data again") from error
        if hashlib.sha256(content + names).hexdigest() != manifest["checksum"]:
            raise UserError(f"{folder / manifest['columns']} is damaged: read the data again")
        try:
            columns = load_tensors(content)
        except SafetensorError as error:
            raise UserError(f"{folder / manifest['columns']} is damaged ({error}): read the data again") from error
        features = None
        if (of := manifest["features"]) is not None:
            path = folder / "features.bin"
            if not path.is_file():
                raise UserError(f"{path} is gone: read the data again")
            features = Rows(of["dtype"], path, width=of["width"], count=of["count"], append=False)
            if not features.verify(of["checksum"]):
                raise UserError(f"{path} is damaged: read the data again")
        found = Readings(manifest["model"], features, None, False, manifest["layer"])
        found.inner_width = manifest["inner"]
        found.ids, found.labels = columns.pop("ids"), columns.pop("labels")
        found.names = np.array(json.loads(names), dtype=object) if names else columns.pop("given").numpy()
        found.values = dict(sorted(columns.items()))
        found.classes, found.ignored, found.short = manifest["classes"], manifest["ignored"], manifest["short"]
        found.batches = [slice(0, len(found.ids))]
        if found.fingerprint != manifest["fingerprint"]:
            raise UserError(f"{folder} does not hold what it says: read the data again")
        return found

    def write(self, folder: Path) -> None:
        """Columns under a name of their own, then the manifest, which names them."""
        text = self.names.dtype == object
        columns = {"ids": self.ids, "labels": self.labels, **self.values}
        if not text:
            columns["given"] = torch.from_numpy(self.names)
        content = save_tensors({name: value.contiguous().clone() for name, value in columns.items()})
        names = json.dumps(self.names.tolist()).encode() if text else b""
        checksum = hashlib.sha256(content + names).hexdigest()
        features = self.rows
        manifest: dict[str, Any] = {
            "version": _VERSION,
            "model": self.model,
            "fingerprint": self.fingerprint,
            "classes": self.classes,
            "ignored": self.ignored,
            "short": self.short,
            "inner": self.inner_width,
            "layer": FUNCTION if callable(self.layer) else self.layer,
            "columns": f"columns-{checksum[:12]}.safetensors",
            "names": f"names-{checksum[:12]}.json" if text else None,
            "checksum": checksum,
            "features": features
            and {
                "dtype": features.dtype,
                "width": features.width,
                "count": features.count,
                "checksum": features.checksum,
            },
        }
        manifest["seal"] = _seal(manifest)
        parts = {manifest["columns"]: content, **({manifest["names"]: names} if text else {})}
        with writing(folder):
            for name, part in {**parts, MANIFEST: json.dumps(manifest, indent=1).encode()}.items():
                beside = folder / f".{name}.part"
                with beside.open("wb") as file:
                    file.write(part)
                    file.flush()
                    os.fsync(file.fileno())
                beside.rename(folder / name)
            for path in [*folder.glob("columns-*.safetensors"), *folder.glob("names-*.json")]:
                if path.name not in parts:
                    path.unlink()


def why_no_features(readings: Readings, of: str, *, given: bool) -> str:
    """Why there are no features of some examples to compare, and what to do.

    Args:
        of: what the readings are of.
        given: the user read them, and so may have asked for no features.
    """
    if readings.features is not None:
        return (
            f"features of {readings.features.width} numbers are too wide to compare (at most {LARGEST}): name a "
            "narrower layer in `features`"
        )
    if given:
        return f"no features of {of} were read: call read without features=False, or name a module in its `features`"
    return "the network has no linear layer whose input could be its features: name a module in `features`"


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Within: what the machine has against writing to `folder` becomes a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder} could not be written ({error.strerror or error}): free space, or make it writable"
        ) from error
