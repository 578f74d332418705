"""Does memorization by turn-over dropout agree with retraining? A small check on Fashion-MNIST.

Many ordinary networks are trained, each on a random half of the examples (Feldman & Zhang 2020, arXiv 2008.03703):
memorization of i is the mean probability of its given label in networks that saw i, minus that in networks that did
not. Against it: turn-over dropout from one run each, and the mean of all runs.

    python benchmarks/agreement.py            # 200 networks, 2,000 examples
    python benchmarks/agreement.py --help
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr
from tqdm import tqdm

from turnover import insert, memorization
from turnover.data import fetch, load, randomize
from turnover.data.batches import Examples
from turnover.memorization import evaluating
from turnover.models import CNN, Normalized, image_statistics
from turnover.training import TrainingConfig, train


def network(data: Examples, width: int, seed: int) -> Normalized:
    """The default network with a hidden layer of `width` units."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CNN((1, 28, 28), 10, channels=(16, 32, 64), hidden=width)
    return Normalized(model.to(memory_format=torch.channels_last), *image_statistics(data.images))


def config(epochs: int, seed: int) -> TrainingConfig:
    return TrainingConfig(epochs=epochs, batch_size=64, learning_rate=2e-3, seed=seed)


def subset_network(job: tuple[Examples, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Train an ordinary network on a random half. Returns which half, and every example's label probability."""
    torch.set_num_threads(1)
    data, width, epochs, seed = job
    chosen = np.zeros(len(data), dtype=bool)
    chosen[np.random.default_rng([7, seed]).permutation(len(data))[: len(data) // 2]] = True
    model = network(data, width, 1000 + seed)
    train(model, data[torch.from_numpy(chosen)], config(epochs, 1000 + seed), turn_over=False, progress=False)
    with evaluating(model), torch.no_grad():
        logits = torch.cat([model(batch.images) for batch in data.in_order(500)])
    return chosen, logits.softmax(1).gather(1, data.labels[:, None]).squeeze(1).numpy()


def subset_memorization(chosen: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Mean over the networks that saw an example, minus mean over those that did not; both arrays [networks, n]."""
    inside = (right * chosen).sum(0) / chosen.sum(0)
    outside = (right * ~chosen).sum(0) / (~chosen).sum(0)
    return inside - outside


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--networks", type=int, default=200)
    parser.add_argument("--runs", type=int, default=4, help="runs of turn-over dropout")
    parser.add_argument("--width", type=int, default=2048, help="units of the hidden layer, masked before the head")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--noise", type=float, default=0.1, help="fraction of random labels")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        dataset = load(fetch("fashion-mnist", Path(folder) / "raw"))
        rows = np.random.default_rng(0).permutation(60_000)[: options.examples]
        images = torch.from_numpy(np.array(dataset.train.images[rows]))
        given, _ = randomize(dataset.train.labels[rows], 10, options.noise, seed=0)
    data = Examples(images, torch.from_numpy(given), torch.arange(options.examples))

    started = time.perf_counter()
    jobs = [(data, options.width, options.epochs, seed) for seed in range(options.networks)]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        results = list(tqdm(pool.imap(subset_network, jobs), total=len(jobs), desc="subset networks", disable=None))
    retraining = time.perf_counter() - started
    chosen, right = (np.stack(parts) for parts in zip(*results, strict=True))
    truth = subset_memorization(chosen, right)
    halves = [subset_memorization(chosen[half::2], right[half::2]) for half in (0, 1)]
    split_half = spearmanr(*halves).statistic
    reliability = 2 * split_half / (1 + split_half)  # Spearman-Brown: of all the networks together

    started = time.perf_counter()
    runs = []
    for seed in range(options.runs):
        model = insert(network(data, options.width, seed), after="head", seed=seed)
        train(model, data, config(options.epochs, seed))
        runs.append(memorization(model, data.images, data.labels, data.ids))
    seconds = (time.perf_counter() - started) / options.runs

    rows_out = []
    for measure in ("loss", "probability", "accuracy", "loss_flipped"):
        single = [spearmanr(run[measure], truth).statistic for run in runs]
        mean = spearmanr(np.mean([run[measure] for run in runs], axis=0), truth).statistic
        rows_out.append(
            {"measure": measure, "one run": np.mean(single), "lowest": min(single), f"mean of {options.runs}": mean}
        )
    print(f"{options.networks} subset networks on halves of {options.examples} examples: {retraining:.0f} s; ")
    print(f"split-half Spearman {split_half:.3f}, reliability {reliability:.3f}; one turn-over run: {seconds:.0f} s")
    print("Spearman with subset retraining, masked width", options.width)
    print(pd.DataFrame(rows_out).to_string(index=False, float_format="%.3f"))


if __name__ == "__main__":
    main()
