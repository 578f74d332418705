"""Networks per hour: many at once, against the ordinary loop that trains one after another on all cores.

In turns, so that both meet the same machine: a few networks by `turnover.train` with as many threads as there
are processes on the other side, then as many and a first batch by `study.retraining`. Both include asking every
network about all examples. Starting the processes is paid once for hundreds of networks, so what counts is what each
further network takes: the first batch is timed on its own and subtracted.

    python benchmarks/retraining.py           # Fashion-MNIST, halves of 2,000 examples
    python benchmarks/retraining.py --help
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from torch import Tensor

from study.context.allocator import keep_freed_memory
from study.context.params import RecipeParams
from study.data.sources.dataset import load
from study.data.sources.fetching import fetch
from study.networks.zoo.small import Normalized, build_own, image_statistics
from study.retraining.loop import label_log_odds
from study.retraining.many import train_many
from study.retraining.subsets import draw_subsets
from turnover.batches.examples import Examples
from turnover.training.loop import train
from turnover.training.settings import TrainingConfig

RECIPE = RecipeParams(
    epochs=15, batch_size=64, learning_rate=2e-3, weight_decay=1e-2, min_steps=0, precision="float32", device="cpu"
)


def network(seed: int, hidden: int, mean: list[float], std: list[float]) -> Normalized:
    """The study's default network with a hidden layer of its own width."""
    made = build_own("cnn", (1, 28, 28), 10, seed=seed, channels=[16, 32, 64], hidden=hidden)
    return Normalized(made.to(memory_format=torch.channels_last), mean, std)


def one_after_another(
    make: partial[Normalized],
    images: Tensor,
    labels: Tensor,
    inside: np.ndarray,
    seeds: list[int],
    recipe: RecipeParams,
) -> np.ndarray:
    """The ordinary loop; returns which labels were the answer [networks, n]."""
    answers = []
    for chosen, seed in zip(inside, seeds, strict=True):
        rows = torch.from_numpy(np.flatnonzero(chosen))
        model = make(seed)
        config = TrainingConfig(
            epochs=recipe.epochs, batch_size=recipe.batch_size, learning_rate=recipe.learning_rate, seed=seed
        )
        train(model, Examples(images[rows], labels[rows], rows), config, turn_over=False, progress=False)
        answers.append(label_log_odds(model.eval(), images, labels, recipe)[1].numpy())
    return np.stack(answers)


def interval(values: np.ndarray) -> str:
    """Mean and 95 % interval over networks."""
    return f"{values.mean():.4f} +- {1.96 * values.std(ddof=1) / np.sqrt(len(values)):.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4, help="turns of both ways (default 4)")
    parser.add_argument("--networks", type=int, default=6, help="networks of each way in a turn (default 6)")
    parser.add_argument("--hidden", type=int, default=2048, help="units of the hidden layer (default 2,048)")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of the many at once")
    parser.add_argument("--data", type=Path, help="folder with (or for) Fashion-MNIST")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        dataset = load(fetch("fashion-mnist", options.data or Path(folder) / "raw"))
        rows = np.random.default_rng(0).permutation(60_000)[:2000]
        images = torch.from_numpy(np.concatenate([dataset.train.images[rows], dataset.test.images[:2000]]))
        labels = torch.from_numpy(np.concatenate([dataset.train.labels[rows], dataset.test.labels[:2000]])).long()
    make = partial(network, hidden=options.hidden, **dict(zip(("mean", "std"), image_statistics(images), strict=True)))
    plain = RECIPE.model_copy(update={"epochs": options.epochs})
    recipe = plain.model_copy(update={"precision": options.precision})
    keep_freed_memory()  # both sides
    torch.set_num_threads(options.processes)
    once = RECIPE.model_copy(update={"epochs": 1})
    one_after_another(make, images, labels, subsets(1, len(images), 0), [0], once)  # imports, first use

    first = options.processes
    started = time.perf_counter()
    train_many(make, images, labels, subsets(first, len(images), 0), list(range(first)), recipe, processes=first)
    first_batch = time.perf_counter() - started

    times: list[tuple[float, float]] = []
    right: tuple[list[np.ndarray], list[np.ndarray]] = [], []
    for turn in range(options.rounds):
        inside = subsets(first + options.networks, len(images), turn)
        seeds = [1000 * turn + k for k in range(len(inside))]
        begun = time.perf_counter()
        plainly = one_after_another(make, images, labels, inside[first:], seeds[first:], plain)
        between = time.perf_counter()
        _, at_once = train_many(make, images, labels, inside, seeds, recipe, processes=first)
        times.append((between - begun, time.perf_counter() - between - first_batch))
        for found, answers in zip(right, (plainly, at_once[first:]), strict=True):
            found.append(answers[:, 2000:].mean(1))
        rates = [3600 * options.networks / seconds for seconds in times[-1]]
        print(f"turn {turn + 1}: {rates[0]:,.0f} and {rates[1]:,.0f} networks an hour", flush=True)
    ratio = statistics.median(a / b for a, b in times)
    per_hour = [3600 * options.networks / statistics.median(of) for of in zip(*times, strict=True)]
    ordinary, many = (np.concatenate(of) for of in right)
    print(f"\nhidden {options.hidden}, {options.epochs} epochs of 1,000 examples, {options.processes} cores, "
          f"{options.precision}")  # fmt: skip
    print(f"one after another, {options.processes} threads: {per_hour[0]:,.0f} networks an hour, "
          f"held-out accuracy {interval(ordinary)}")  # fmt: skip
    print(f"{options.processes} at once, one thread each:  {per_hour[1]:,.0f} networks an hour, "
          f"held-out accuracy {interval(many)}")  # fmt: skip
    start_up = first_batch - 3600 * first / per_hour[1]
    print(f"ratio {ratio:.2f} (median of {options.rounds} turns); difference of accuracy {interval(many - ordinary)}; "
          f"starting the processes: {start_up:.1f} s, once")  # fmt: skip


def subsets(networks: int, n: int, seed: int) -> np.ndarray:
    """Halves of the first 2,000 examples."""
    inside = np.zeros((networks, n), dtype=np.bool_)
    inside[:, :2000] = draw_subsets(2000, networks, 0.5, seed)
    return inside


if __name__ == "__main__":
    main()
