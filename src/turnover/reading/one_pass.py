"""One pass over anybody's data."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from turnover.batches.checks import Names, check_labels, check_network
from turnover.batches.layout import divisible
from turnover.batches.outputs import NETWORKS, Reader, class_logits, loss_and_margin
from turnover.batches.passes import DEFAULT_MEMORY, device_of, evaluating, moved
from turnover.batches.tap import Features
from turnover.errors import UserError
from turnover.masking.calling import Forward, take
from turnover.masking.ids import example_ids
from turnover.progress import progress_bar
from turnover.reading.appending import Appended
from turnover.reading.identity import model_fingerprint
from turnover.reading.inner import Catching, inner_layer
from turnover.reading.options import check_choice, check_options
from turnover.reading.readings import Readings
from turnover.reading.sources import Batch, Source
from turnover.reading.storage import DTYPES, Rows, Stored

_TRIED = 16  # examples that go through the network together in any case, when it is tried
_COPIES = 8  # of a batch's logits at once: three networks', and what losses and margins are made of


class _Columns:
    """What is held of every example while it is read.

    In few large pieces of memory that grow: small ones that stay, between large ones that come and go, keep the
    allocator from using the latter again (gigabytes after a few hundred thousand examples).

    Args:
        expected: how many examples there will be, if that is known.
    """

    def __init__(self, expected: int | None) -> None:
        self._expected, self._count = expected or 1 << 16, 0
        self._held: dict[str, Tensor] = {}
        self._names: list[Any] = []
        self._text = False

    def add(self, names: Names, columns: Mapping[str, Tensor]) -> None:
        """The next examples: ids as they were given, and columns [some] on any device."""
        self._names += names.tolist()
        self._text = self._text or names.dtype == object
        stop = self._count + len(names)
        for name, part in columns.items():
            held = self._held.get(name)
            if held is None or stop > len(held):
                grown = torch.empty(max(stop, self._expected, 2 * self._count), dtype=part.dtype)
                if held is not None:
                    grown[: self._count] = held[: self._count]
                self._held[name] = held = grown
            held[self._count : stop] = part
        self._count = stop

    def names(self) -> Names:
        """The ids of all examples, as they were given."""
        return np.array(self._names, dtype=object if self._text else np.int64)

    def columns(self) -> dict[str, Tensor]:
        """All columns [n]."""
        return {name: held[: self._count].clone() for name, held in self._held.items()}


def read(
    model: nn.Module,
    x: Any,
    y: Any = None,
    ids: Any = None,
    *,
    features: Features | Literal[False] = None,
    batch_size: int = 256,
    classes: Sequence[str] | None = None,
    forward: Forward | None = None,
    masked: bool = True,
    logits: bool = False,
    inputs: bool = False,
    precision: Stored = "float32",
    folder: Path | str | None = None,
    memory: int = DEFAULT_MEMORY,
    progress: bool | None = None,
) -> Readings:
    """Read examples once: ids, labels, losses and margins of the three networks, and features.

    >>> model = insert(torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3)))
    >>> data = torch.utils.data.TensorDataset(torch.randn(10, 4), torch.arange(10) % 3)
    >>> train = read(model, torch.utils.data.DataLoader(data, batch_size=4, shuffle=True))
    >>> len(train), train.names[:3].tolist(), train.classes
    (10, [0, 1, 2], 3)

    Args:
        model: a classifier, usually with turn-over dropout. Read in evaluation mode, and left in the mode it was in.
        x: a data set or data loader (with its workers, collate and pinned memory; every example is read once, in the
            order of the data set, however it shuffles), or any iterable of batches. Batches are ``(x, y)``,
            ``(x, y, ids)`` or a dict with ``labels`` (and maybe ``ids``), whose other tensors are the network's keyword
            arguments; several inputs are ``((x1, x2), y)``. Or, with `y`, the inputs of all examples: a tensor, what
            gives one when sliced, or a dict or tuple of tensors. Or a tuple of tensors ``(x, y)``, ``(x, y, ids)``.
        y: labels of the inputs [n], integers of any type (or strings, see `classes`). Examples with the label -100 are
            left out, and counted.
        ids: of all examples in the order of the data set, integers or names. None: those in the batches, else places
            in the data set.
        features: see `turnover.batches.tap.Tap`; False: keep none.
        batch_size: examples a forward pass, where `x` is no loader with one of its own. Results do not depend on it
            (beyond rounding).
        classes: the classes' names, in the order of the network's outputs, where labels are strings.
        forward: ``forward(model, batch)`` gives the logits [batch, classes] of a whole batch as it comes (on the device
            of the model), for networks that `turnover.masking.calling` does not cover. It finds logits in a tensor, in
            ``output.logits``, ``output["logits"]`` and in the first element of a tuple.
        masked: False: read the full network only.
        logits, inputs: keep the logits of the full network; keep the inputs, in memory.
        precision: in which features are kept.
        folder: keep features and all else there, on the disk, for `Readings.load`. If it holds readings of this
            network, the new ones are appended.
        memory: bytes of scratch. Features and logits that do not fit are kept in a temporary file; a batch whose logits
            do not fit goes through the network in parts.
        progress: show a progress bar. None: on a terminal.

    Raises:
        TypeError, UserError: the data, labels or ids are not such as described; nothing was read; an id or label is
            outside of its range; the network gives no logits, or its forward pass reaches no mask.
    """
    check_options(
        features=None if features is False else features, batch_size=batch_size, classes=classes, forward=forward,
        masked=masked, logits=logits, inputs=inputs, folder=folder, memory=memory, progress=progress,
    )  # fmt: skip
    check_choice("precision", precision, DTYPES)
    check_network(model)
    source = Source(x, y, ids, batch_size=batch_size, classes=classes, whole=forward is not None)
    made_by = model_fingerprint(model)
    layer = None if features is False else features
    reader = Reader(model, layer, forward, masked=masked)
    kept = Appended(Path(folder), made_by, precision, features, masked=reader.masked) if folder is not None else None
    scratch = memory // 4  # for the logits of a batch; the rest is for what is kept
    room = (memory - scratch) // (2 if logits else 1)
    rows = None if features is False else Rows(precision, memory=room) if kept is None else kept.features
    found = Readings(made_by, rows, Rows(memory=room) if logits else None, inputs, layer)
    columns = _Columns(source.length)
    device = device_of(model)
    inner: Catching | None = None
    bar = progress_bar(total=source.length, unit="example", description="reading", show=progress)
    with evaluating(model), bar:
        for batch in _fitting(source, reader, device, scratch):
            found.ignored += batch.ignored
            if not len(batch.labels):
                continue
            keys = example_ids(batch.names)
            here = moved(batch.inputs, device)
            if (
                not found.classes
                and found.rows is not None
                and (layer_before := inner_layer(reader.tap, here)) is not None
            ):
                inner, found.inner_width = Catching(layer_before), layer_before.in_features
            with inner or nullcontext():
                outputs, features_of_batch = reader(here, keys if reader.masked else None)
            if not found.classes:
                found.classes = class_logits(outputs.full).shape[1]
                if classes is not None and len(classes) != found.classes:
                    raise UserError(f"{len(classes)} classes are named, but the network has {found.classes}")
            labels = check_labels(batch.labels, found.classes, floats=source.float_labels).to(device)
            found_here = {"ids": keys, "labels": labels}
            for of in NETWORKS:
                if (scored := getattr(outputs, of)) is not None:
                    loss_margin = loss_and_margin(scored, labels)
                    found_here |= zip((f"loss_{of}", f"margin_{of}"), loss_margin, strict=True)
            columns.add(batch.names, found_here)
            if found.rows is not None and features_of_batch is None:
                found.rows = None
            if found.rows is not None and features_of_batch is not None:
                of_batch = [features_of_batch.float()] + ([inner.first.float()] if inner is not None else [])
                found.rows.append(torch.cat(of_batch, 1))
            if found.logits is not None:
                found.logits.append(outputs.full.float())
            if found._inputs is not None:
                found._inputs.append(moved(batch.inputs, torch.device("cpu")))
            first = found.batches[-1].stop if found.batches else 0
            found.batches.append(slice(first, first + len(labels)))
            bar.update(len(labels))
    reader.finish()
    found.short = reader.short is not None
    _finish(found, columns)
    return found if kept is None else kept.finish(found)


def _fitting(source: Source, reader: Reader, device: torch.device, memory: int) -> Iterator[Batch]:
    """The batches of a source, in parts where their logits would take more than `memory` bytes."""
    most = 0
    for batch in source:
        if not most and len(batch.labels):
            few = moved(next(_parts(batch, _TRIED)).inputs, device)
            most = max(_TRIED, memory // (_COPIES * 4 * reader.tap.width(few)))
        yield from _parts(batch, most)


def _parts(batch: Batch, most: int) -> Iterator[Batch]:
    """A batch in parts of at most `most` examples; whole where it cannot be cut."""
    count = len(batch.labels)
    if count <= most or not divisible(batch.inputs, count):
        yield batch
        return
    for start in range(0, count, most):
        some = slice(start, start + most)
        ignored = 0 if start else batch.ignored
        yield Batch(take(batch.inputs, some), batch.labels[some], batch.names[some], ignored)


def _finish(found: Readings, columns: _Columns) -> None:
    found.values = columns.columns()
    if not found.values:
        left = f": all {found.ignored} were left out, their label being -100" if found.ignored else ""
        raise UserError(f"there are no examples in the data{left}")
    found.ids, found.labels, found.names = found.values.pop("ids"), found.values.pop("labels"), columns.names()
    if found.ignored:
        warnings.warn(f"{found.ignored} examples with the label -100 were left out", stacklevel=3)
