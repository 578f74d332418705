"""Data loaders, whose examples come with their places in the data set.

Places travel with the examples through workers and collate, so they are ids that a shuffled training loop (`with_ids`)
and a later reading agree on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset

from turnover.batches.checks import Names, check_names
from turnover.batches.layout import ids_of
from turnover.errors import UserError


class WithIds:
    """Batches of a loader, each with the ids of its examples; see `with_ids`."""

    def __init__(self, loader: DataLoader[Any], ids: Any = None) -> None:
        if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
            raise TypeError("with_ids takes a DataLoader of a data set with a length: of others, yield ids yourself")
        if loader.batch_sampler is None:
            raise TypeError("with_ids takes a DataLoader that makes the batches itself: this one has batch_size=None")
        self.loader, self.ids = loader, None if ids is None else check_names(ids)
        check_count(self.ids, loader)
        self._placed = rebuilt(loader, loader.batch_sampler, again=True)

    def __len__(self) -> int:
        return len(self._placed)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for places, batch in self._placed:
            names = np.asarray(places) if self.ids is None else self.ids[places]
            if self.ids is None and (own := ids_of(batch)) is not None:
                names = check_names(own)
            yield batch, names.tolist() if names.dtype == object else torch.from_numpy(names)


def with_ids(loader: DataLoader[Any], ids: Any = None) -> WithIds:
    """Go through a data loader, shuffled or not, with the ids of the examples in each batch.

    >>> data = torch.utils.data.TensorDataset(torch.arange(4.0), torch.tensor([0, 1, 0, 1]))
    >>> loader = torch.utils.data.DataLoader(data, batch_size=2, shuffle=True)
    >>> seen = {int(i): float(v) for (x, y), ids in with_ids(loader) for i, v in zip(ids, x)}
    >>> sorted(seen.items())
    [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0)]

    Args:
        loader: of a data set with a length.
        ids: of all examples, in the order of the data set: integers or names. None: those in the batches (see
            `turnover.read`), else places in the data set.

    Returns:
        An iterable of (batch, ids), as often as wanted: ids int64 [batch], or a list of those given. Both are what
        `turnover.subnetwork` takes.

    Raises:
        TypeError: the loader has no data set with a length, or makes no batches.
        UserError: there are more or fewer ids than examples.
    """
    return WithIds(loader, ids)


class _Placed(Dataset[Any]):
    """A data set whose examples come with their places."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: Any) -> tuple[Any, Any]:
        return place, self.dataset[place]

    def __getitems__(self, places: list[Any]) -> list[tuple[Any, Any]]:
        if callable(several := getattr(self.dataset, "__getitems__", None)):
            return list(zip(places, several(places), strict=True))
        return [(place, self.dataset[place]) for place in places]


class _Collate:
    """Somebody's collate, with places beside what it makes."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, rows: list[tuple[Any, Any]]) -> tuple[list[Any], Any]:
        return [place for place, _ in rows], self.collate([example for _, example in rows])


def rebuilt(loader: DataLoader[Any], batches: Any, positions: bool = True, again: bool = False) -> DataLoader[Any]:
    """The loader with batches of our choice.

    Args:
        batches: lists of places; without `positions` places, at each of which the data set has a whole batch.
        positions: give (places, batch) instead of batches.
        again: it is gone through several times, so workers may be kept.
    """
    kwargs: dict[str, Any] = {
        "num_workers": loader.num_workers,
        "pin_memory": loader.pin_memory,
        "timeout": loader.timeout,
        "worker_init_fn": loader.worker_init_fn,
        "multiprocessing_context": loader.multiprocessing_context,
        # Reading takes no random numbers away from anybody, and what workers draw is the same each time.
        "generator": loader.generator if again else torch.Generator().manual_seed(0),
    }
    if loader.num_workers:
        kwargs |= {"prefetch_factor": loader.prefetch_factor, "persistent_workers": loader.persistent_workers and again}
    if not positions:
        return DataLoader(loader.dataset, batch_size=None, sampler=batches, collate_fn=loader.collate_fn, **kwargs)
    placed, collate = _Placed(loader.dataset), _Collate(loader.collate_fn)
    return DataLoader(placed, batch_sampler=batches, collate_fn=collate, **kwargs)


def once_each(sampler: Any, loader: DataLoader[Any]) -> np.ndarray[Any, Any]:
    """The places that a loader visits, each once, in the order of the data set."""
    places = np.asarray(list(quietly(sampler, loader)))
    if places.dtype.kind not in "iu" and len(places):
        raise UserError(f"the sampler gives {places[0]!r}, not places in the data set: yield (x, y, id) and iterate")
    refuse_repeats(places, loader)
    return np.sort(places)


def quietly(sampler: Iterable[Any], loader: DataLoader[Any]) -> list[Any]:
    """What a sampler gives, without a trace in the random numbers that it takes."""
    before = loader.generator.get_state() if loader.generator is not None else None
    with torch.random.fork_rng(devices=[]):
        found = list(sampler)
    if loader.generator is not None and before is not None:
        loader.generator.set_state(before)
    return found


def check_count(ids: Names | None, loader: DataLoader[Any]) -> None:
    """Raise UserError unless there are as many ids as the data set of `loader` has examples, or none are given."""
    count = len(loader.dataset)  # type: ignore[arg-type]
    if ids is not None and len(ids) != count:
        raise UserError(
            f"the data set has {count} examples but there are {len(ids)} ids: pass one for each, in its order (of a "
            "Subset, [ids[i] for i in subset.indices])"
        )


def refuse_repeats(places: np.ndarray[Any, Any], loader: DataLoader[Any]) -> None:
    values, counts = np.unique(places, return_counts=True)
    if len(values) < len(places):
        raise UserError(
            f"the loader visits example {values[counts > 1][0]} {counts.max()} times ({_sampling(loader)}), and may "
            "leave others out: for reading pass the data set, or a loader that visits every example once"
        )


def _sampling(loader: DataLoader[Any]) -> str:
    """What decides the batches of a loader."""
    own = loader.batch_sampler is not None and type(loader.batch_sampler) is not BatchSampler
    return f"batch sampler {type(loader.batch_sampler).__name__}" if own else f"sampler {type(loader.sampler).__name__}"
