"""Many small networks, each on its own subset of the same examples: as many at once as there are cores.

A small network keeps one core busy but not two: its steps are too short to be worth sharing. So every network is
trained by one thread, and every core has a process that trains one network after another (docs/retraining.md has the
measurements, also of networks stacked into one). What comes of a network depends on its subset, its seed and the
settings alone, not on which process trained it, nor on how many there were, nor on interruptions.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from study.artefacts.kept import KeptResults
from study.context.allocator import keep_freed_memory
from study.context.params import RecipeParams
from study.retraining.loop import Factory, label_log_odds, train_network
from turnover.errors import UserError
from turnover.progress import progress_bar

Row = tuple[int, np.ndarray, np.ndarray]  # network, log-odds [examples], correct [examples]


@dataclass(frozen=True)
class Work:
    """Everything a process needs to train any of the networks."""

    make: Factory
    images: Tensor
    labels: Tensor
    inside: np.ndarray
    seeds: Sequence[int]
    recipe: RecipeParams

    def __getstate__(self) -> dict[str, Any]:
        """For another process, its tensors as arrays: torch would map them in /dev/shm, and who writes to a map on a
        full disk is killed (SIGBUS), without a word."""
        return {**self.__dict__, "images": self.images.cpu().numpy(), "labels": self.labels.cpu().numpy()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        tensors = {name: torch.from_numpy(state[name]) for name in ("images", "labels")}
        self.__dict__.update(state | tensors)

    def train(self, network: int) -> Row:
        """Train one network, and ask it about every example."""
        device = torch.device(self.recipe.device)
        images, labels = self.images.to(device), self.labels.to(device)
        rows = torch.from_numpy(np.flatnonzero(self.inside[network])).to(device)
        model = train_network(self.make, images[rows], labels[rows], self.recipe, self.seeds[network])
        margin, correct = label_log_odds(model, images, labels, self.recipe)
        return network, margin.numpy(), correct.numpy()

    def fingerprint(self) -> str:
        """A hash (hex) of all that a row depends on: examples, subsets, seeds, recipe, the first network's weights."""
        recipe = self.recipe.model_dump(include=set(RecipeParams.model_fields))
        digest = hashlib.sha256(repr((list(self.seeds), recipe, torch.__version__)).encode())
        first = self.make(self.seeds[0])
        digest.update(repr(first).encode())
        for value in (self.images, self.labels, torch.from_numpy(self.inside), *first.state_dict().values()):
            digest.update(f"{tuple(value.shape)} {value.dtype}".encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def train_many(
    make: Factory,
    images: Tensor,
    labels: Tensor,
    inside: np.ndarray,
    seeds: Sequence[int],
    recipe: RecipeParams,
    *,
    processes: int | None = None,
    checkpoint: Path | None = None,
    progress: bool | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Train one network for every row of `inside`, and ask each about all examples.

    Args:
        make: gives a new network for a seed: picklable (a function of a module, or `functools.partial` of one).
        images: as they are stored [n, channels, height, width].
        labels: int64 [n].
        inside: bool [networks, n]: which examples each network is trained on. An example may be in no subset at all.
        seeds: [networks], see `train_network`.
        recipe: how to train each, and on which device; the processes share a GPU.
        processes: how many at once, each with a copy of the examples. None: one for every core of this machine (on a
            GPU: 2). 1: in this process.
        checkpoint: a folder where finished networks are kept, a file each. Those of the same arguments that are there
            are not trained again. The caller removes it once the results are safe.
        progress: show a progress bar. None: only on a terminal.

    Returns:
        Log-odds of every example's label float32 [networks, n] (see `label_log_odds`), and whether the label was the
        network's answer, bool [networks, n].

    Raises:
        UserError: arguments do not go together, a kept network is damaged, a network diverged, or a process was killed.
        OSError: the disk is full.
    """
    _check(images, labels, inside, seeds, recipe.device)
    work = Work(make, images, labels, inside, list(seeds), recipe)
    kept = None if checkpoint is None else KeptResults(checkpoint / work.fingerprint()[:20])
    margin = np.empty(inside.shape, dtype=np.float32)
    correct = np.empty(inside.shape, dtype=np.bool_)
    missing = []
    for network in range(len(seeds)):
        found = None if kept is None else kept.read(f"network-{network}")
        if found is None:
            missing.append(network)
        else:
            margin[network], correct[network] = found["margin"], found["correct"]
    if processes is None:
        processes = 2 if torch.device(recipe.device).type == "cuda" else _cores()
    bar = progress_bar(total=len(seeds), unit="network", description="retraining", show=progress)
    bar.update(len(seeds) - len(missing))
    with bar:
        for network, says, right in _rows(work, missing, min(processes, len(missing))):
            if not np.isfinite(says).all():
                raise UserError(
                    f"network {network} (seed {seeds[network]}) diverged: lower the learning rate "
                    f"(now {recipe.learning_rate}) or look for extreme values in the images"
                )
            if kept is not None:
                kept.keep(f"network-{network}", {"margin": says, "correct": right})
            margin[network], correct[network] = says, right
            bar.update()
    return margin, correct


def _rows(work: Work, networks: Sequence[int], processes: int) -> Iterator[Row]:
    """The rows of `networks` as they are finished, in any order."""
    if processes <= 1:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # other numbers of threads give other bits
        try:
            for network in networks:
                yield work.train(network)
        finally:
            torch.set_num_threads(threads)
        return
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _begin, (work,))
    try:
        for done in as_completed([pool.submit(_train, network) for network in networks]):
            yield done.result()
    except BrokenProcessPool as error:
        raise UserError(
            "a process that trained networks was killed (out of memory?): run it again with fewer processes; "
            "finished networks are kept in the checkpoint"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_work: Work | None = None  # of a worker process


def _begin(work: Work) -> None:
    """Prepare a worker process."""
    global _work
    _work = work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair
    torch.set_num_threads(1)
    keep_freed_memory()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _train(network: int) -> Row:
    assert _work is not None
    return _work.train(network)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check(images: Tensor, labels: Tensor, inside: np.ndarray, seeds: Sequence[int], device: str) -> None:
    if inside.dtype != np.bool_ or inside.shape != (len(seeds), len(images)) or len(labels) != len(images):
        raise UserError(
            f"inside must be bool [networks, examples], with one seed a network and one label an example; got "
            f"{inside.dtype} {list(inside.shape)}, {len(seeds)} seeds, {len(images)} images, {len(labels)} labels"
        )
    if not len(seeds) or not inside.any(1).all():
        raise UserError("there is no network to train, or a network without a single example")
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {device!r}: this machine has no such device; use cpu")
