"""Does memorization by turn-over dropout agree with retraining? A small check on Fashion-MNIST.

Many ordinary networks are trained, each on a random half of the examples (Feldman & Zhang 2020, arXiv 2008.03703):
memorization of i is the mean probability of its given label in networks that saw i, minus that in networks that did
not. Against it: turn-over dropout from one run each, and the mean of all runs.

    python benchmarks/agreement.py            # 200 networks, 2,000 examples
    python benchmarks/agreement.py --help
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr

from study.context.params import RecipeParams
from study.data.scenarios.labels import randomize
from study.data.sources.dataset import load
from study.data.sources.fetching import fetch
from study.networks.named import build
from study.networks.zoo.small import Normalized, image_statistics
from study.retraining.many import train_many
from study.retraining.subsets import SubsetOutputs, draw_subsets
from turnover import insert, memorization
from turnover.batches.examples import Examples
from turnover.training.loop import train
from turnover.training.settings import TrainingConfig

RECIPE = RecipeParams(
    epochs=15, batch_size=64, learning_rate=2e-3, weight_decay=1e-2, min_steps=0, precision="float32", device="cpu"
)


def network(seed: int, width: int, mean: list[float], std: list[float]) -> Normalized:
    """The default network with a hidden layer of `width` units."""
    made = build("cnn", (1, 28, 28), 10, seed=seed, channels=[16, 32, 64], hidden=width)
    return Normalized(made.to(memory_format=torch.channels_last), mean, std)


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

    mean, std = image_statistics(images)
    make = partial(network, width=options.width, mean=mean, std=std)

    started = time.perf_counter()
    inside = draw_subsets(options.examples, options.networks)
    seeds = [1000 + k for k in range(options.networks)]
    recipe = RECIPE.model_copy(update={"epochs": options.epochs})
    outputs = SubsetOutputs(
        inside, *train_many(make, data.images, data.labels, inside, seeds, recipe, processes=options.processes)
    )
    retraining = time.perf_counter() - started
    truth = outputs.memorization()
    reliable = outputs.split_half()

    started = time.perf_counter()
    runs = []
    for seed in range(options.runs):
        model = insert(make(seed), after="head", seed=seed)
        train(model, data, TrainingConfig(epochs=options.epochs, batch_size=64, learning_rate=2e-3, seed=seed))
        runs.append(memorization(model, data.images, data.labels, data.ids, neighbours=False))
    seconds = (time.perf_counter() - started) / options.runs

    rows_out = []
    for measure in ("loss", "probability", "accuracy", "loss_flipped"):
        single = [spearmanr(run[measure], truth, nan_policy="omit").statistic for run in runs]
        together = spearmanr(np.mean([run[measure] for run in runs], axis=0), truth, nan_policy="omit").statistic
        rows_out.append(
            {"measure": measure, "one run": np.mean(single), "lowest": min(single), f"mean of {options.runs}": together}
        )
    print(f"{options.networks} subset networks on halves of {options.examples} examples: {retraining:.0f} s; ")
    print(f"split-half Spearman {reliable.spearman:.3f}, reliability {reliable.reliability:.3f}; "
          f"one turn-over run: {seconds:.0f} s")  # fmt: skip
    print("Spearman with subset retraining, masked width", options.width)
    print(pd.DataFrame(rows_out).to_string(index=False, float_format="%.3f"))


if __name__ == "__main__":
    main()
