"""Anybody's data as one stream of batches: inputs, labels and ids, each example once.

A data loader is read with the machinery of its own (workers, collate, pinned memory), but every example once and in the
order of the data set, however it shuffles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, IterableDataset, default_collate

from turnover.batches.checks import IGNORED, Names, check_names, check_tree, given_labels
from turnover.batches.layout import CONVENTION, divisible, is_batch, is_column, parts_of
from turnover.errors import UserError
from turnover.masking.calling import rows_of, take
from turnover.reading.loaders import WithIds, check_count, once_each, quietly, rebuilt, refuse_repeats


class Batch(NamedTuple):
    """Some examples, as they come."""

    inputs: Any  # what the network takes, or the whole batch where there is a `forward`
    labels: Tensor  # int64 [batch]
    names: Names  # ids as they were given
    ignored: int  # examples that were left out, because their label is -100


class Source:
    """Batches of `data`, gone through once.

    Args:
        data: a data set, a data loader or any iterable of batches; or, with `y`, inputs: a tensor, what gives one when
            sliced, or a dict or tuple of tensors.
        y: labels of inputs, one a row.
        ids: of all examples, in the order of the data set. None: those in the batches, else places in the data set.
        batch_size: examples a batch, where `data` is no loader with one of its own.
        classes: names of the classes, where labels are strings.
        whole: give the whole batch as inputs, for a ``forward`` of the user's.

    Raises:
        TypeError, UserError: `data` holds nothing that can be read (here, or while it is read).
    """

    def __init__(
        self,
        data: Any,
        y: Any = None,
        ids: Any = None,
        *,
        batch_size: int = 256,
        classes: Sequence[str] | None = None,
        whole: bool = False,
    ) -> None:
        batch_size = int(batch_size)  # data loaders take no integers of numpy
        if isinstance(data, WithIds):
            data, ids = data.loader, data.ids if ids is None else ids
        self._classes, self._whole = classes, whole
        self._ids = None if ids is None else check_names(ids)
        if y is None and isinstance(data, tuple) and len(data) in (2, 3) and is_column(data[1]):
            if len(data) == 3:
                if ids is not None:
                    raise UserError("ids are given twice: as the third of (x, y, ids) and as an argument")
                self._ids = check_names(data[2])
            data, y = data[:2]
        self.length: int | None = None  # examples, if that is known
        self.float_labels = False  # 0.0 and 1.0, which only two classes take
        self._batches: Callable[[], Iterator[tuple[Any, Any]]]
        if y is not None:
            self._batches = self._slices(data, y, batch_size)
        elif isinstance(data, DataLoader) or (hasattr(data, "__getitem__") and not isinstance(data, IterableDataset)):
            loader = data if isinstance(data, DataLoader) else _loader_of(data, batch_size)
            self._batches = self._from_loader(loader)
        elif isinstance(data, IterableDataset):
            self._batches = self._from_loader(DataLoader(data, batch_size=batch_size, collate_fn=_collate))
        elif isinstance(data, Iterable):
            self._batches = lambda: ((None, batch) for batch in data)
        else:
            raise TypeError(f"data is a {type(data).__name__}: pass a Dataset, a DataLoader, or tensors x, y")

    def __iter__(self) -> Iterator[Batch]:
        seen = 0  # examples, for data without places
        for places, batch in self._batches():
            inputs, labels, names = parts_of(batch)
            labels = self._labels(labels, "labels")
            count = len(labels)
            if not self._whole and rows_of(inputs) != count:
                raise UserError(f"a batch holds {rows_of(inputs)} inputs but {count} labels: {CONVENTION}")
            places = np.arange(seen, seen + count) if places is None else np.asarray(places)
            seen += count
            if self._ids is not None:
                if names is not None and not isinstance(batch, Mapping):
                    raise UserError(
                        f"ids are given twice: as an argument and as the third part of the batches (or are these two "
                        f"inputs and labels? {CONVENTION})"
                    )
                if int(places.max(initial=0)) >= len(self._ids):
                    raise UserError(f"more than {len(self._ids)} examples, the number of ids: pass one id for each")
                names = self._ids[places]
            names = places if names is None else check_names(names)
            if len(names) != count:
                raise UserError(f"a batch holds {count} examples but {len(names)} ids: {CONVENTION}")
            keep = labels != IGNORED
            if bool(keep.all()):
                yield Batch(batch if self._whole else inputs, labels, names, 0)
                continue
            rows = keep.nonzero().squeeze(1)
            if self._whole and not divisible(batch, count):
                raise UserError(
                    f"examples with the label {IGNORED} cannot be cut out of batches that hold more than tensors with "
                    "a row for each example: leave them out of the data"
                )
            inputs = take(batch if self._whole else inputs, rows)
            yield Batch(inputs, labels[rows], names[rows.numpy()], count - len(rows))
        if self._ids is not None and self.length is None and seen != len(self._ids):
            raise UserError(f"there were {seen} examples but {len(self._ids)} ids: pass one for each")

    def _labels(self, labels: Any, name: str) -> Tensor:
        found, floats = given_labels(labels, name, self._classes)
        self.float_labels = self.float_labels or floats
        return found

    def _slices(self, x: Any, y: Any, batch_size: int) -> Callable[[], Iterator[tuple[Any, Any]]]:
        """Batches of inputs that lie in memory (or are made when sliced)."""
        if isinstance(x, (DataLoader, IterableDataset)):
            raise TypeError("y is given beside a data loader: its labels come with the batches; leave y out")
        tree = isinstance(x, (Mapping, tuple))
        check_tree(x)
        labels = self._labels(y, "y")
        self.length = rows_of(x) if tree else len(x)
        ids = f", {len(self._ids)} ids" if self._ids is not None else ""
        if self.length != len(labels) or (self._ids is not None and len(self._ids) != self.length):
            raise UserError(
                f"x, y and ids must have one row an example, got {self.length} inputs, {len(labels)} labels{ids}"
            )
        if not self.length:
            raise UserError("x, y and ids are empty: pass at least one example")

        def batches() -> Iterator[tuple[Any, Any]]:
            for start in range(0, len(labels), batch_size):
                rows = slice(start, min(start + batch_size, len(labels)))
                inputs = take(x, rows) if tree else x[rows]
                yield range(rows.start, rows.stop), (inputs, labels[rows].cpu())

        return batches

    def _from_loader(self, loader: DataLoader[Any]) -> Callable[[], Iterator[tuple[Any, Any]]]:
        if isinstance(loader.sampler, DistributedSampler):
            raise UserError(
                "a DistributedSampler gives each process a part of the examples, and scores need all of them: pass the "
                "data set, or a loader without it"
            )
        if isinstance(loader.dataset, IterableDataset):
            if loader.num_workers > 1:
                if self._ids is not None:
                    raise UserError(
                        f"with {loader.num_workers} workers an IterableDataset has no order that ids could follow: "
                        "yield (x, y, id), or use one worker"
                    )
                return lambda: _with_ids_of_their_own(loader)
            return lambda: ((None, batch) for batch in loader)
        if loader.batch_sampler is None:  # the data set itself gives batches, which are read in its order
            if isinstance(loader.sampler, BatchSampler):
                raise UserError(
                    "batch_size=None with a BatchSampler as sampler gives batches without places: pass it as "
                    "batch_sampler=, or pass the data set"
                )
            places = once_each(loader.sampler, loader)
            return lambda: ((None, batch) for batch in rebuilt(loader, [int(i) for i in places], positions=False))
        if type(loader.batch_sampler) is BatchSampler:
            order, size = once_each(loader.sampler, loader), loader.batch_sampler.batch_size
            batches = [order[start : start + size].tolist() for start in range(0, len(order), size)]
        else:  # somebody made these batches with care, say of like lengths
            batches = [list(batch) for batch in quietly(loader.batch_sampler, loader)]
            refuse_repeats(np.asarray([place for batch in batches for place in batch]), loader)
        if not batches:
            raise UserError("the data set is empty: it must hold at least one example")
        self.length = sum(map(len, batches))
        check_count(self._ids, loader)
        return lambda: iter(rebuilt(loader, batches))


def _loader_of(data: Any, batch_size: int) -> DataLoader[Any]:
    if isinstance(data, (Tensor, np.ndarray, str, Mapping)):
        if is_batch(data):
            raise TypeError(f"data is a single batch, a {type(data).__name__}: pass a list of batches, or (x, y)")
        raise TypeError(f"data is a {type(data).__name__} without labels: pass (x, y), or a Dataset or DataLoader")
    if not hasattr(data, "__len__"):
        raise TypeError(f"{type(data).__name__} has no length: pass a DataLoader, or an iterable of batches")
    if isinstance(data, (list, tuple)) and data and is_batch(data[0]):
        return DataLoader(cast(Any, data), batch_size=None)
    return DataLoader(data, batch_size=batch_size, collate_fn=_collate)


def _collate(rows: list[Any]) -> Any:
    """The usual collate, which also takes numbers in lists, as Hugging Face's data sets give them."""
    try:
        return default_collate([_numbers(row) for row in rows])
    except (RuntimeError, TypeError) as error:
        raise UserError(
            f"the examples of a batch could not be put together ({error}): pass a DataLoader with a collate_fn that "
            "brings them to one shape"
        ) from error


def _numbers(value: Any) -> Any:
    """`value` with lists of numbers as tensors."""
    if isinstance(value, Mapping):
        return {key: _numbers(of) for key, of in value.items()}
    if isinstance(value, tuple):
        return tuple(_numbers(of) for of in value)
    if isinstance(value, list) and np.asarray(value, dtype=object).size and _all_numbers(value):
        return torch.tensor(value)
    return value


def _all_numbers(value: Any) -> bool:
    if isinstance(value, list):
        return all(_all_numbers(of) for of in value)
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _with_ids_of_their_own(loader: DataLoader[Any]) -> Iterator[tuple[Any, Any]]:
    for batch in loader:
        if parts_of(batch)[2] is None:
            raise UserError(
                f"an IterableDataset with {loader.num_workers} workers has no order that ids could be places in: yield "
                "(x, y, id), or use one worker"
            )
        yield None, batch
