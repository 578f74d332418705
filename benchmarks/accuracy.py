"""What turn-over dropout costs in held-out accuracy: placements and kept fractions, against ordinary dropout and none;
and what it costs to replace BatchNorm by GroupNorm, as `insert` asks for.

python benchmarks/accuracy.py             # 3,000 Fashion-MNIST examples, 3 seeds
python benchmarks/accuracy.py --help
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import multiprocessing

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from study.data.sources.dataset import load
from study.data.sources.fetching import fetch
from study.networks.zoo.small import CNN, Normalized, image_statistics
from turnover import insert, replace_batch_norm
from turnover.batches.examples import Examples
from turnover.batches.passes import evaluating
from turnover.training.loop import train
from turnover.training.settings import TrainingConfig

Job = tuple[Examples, Examples, str, str, float, int, int]


def held_out_accuracy(job: Job) -> float:
    """Accuracy of the full network on `heldout`, trained with one kind of dropout at one placement."""
    torch.set_num_threads(1)
    data, heldout, kind, placement, keep, seed, epochs = job
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = CNN((1, 28, 28), 10, channels=(16, 32, 64), hidden=512)
    if kind == "turn-over":
        insert(network, placement, keep, seed)
    elif kind == "ordinary":
        ordinary_dropout(network, placement, 1.0 - keep)
    elif kind == "BatchNorm":
        network.features = with_batch_norm(network.features)
    elif kind == "GroupNorm":
        network.features = replace_batch_norm(with_batch_norm(network.features))
    model = Normalized(network.to(memory_format=torch.channels_last), *image_statistics(data.images))
    train(model, data, TrainingConfig(epochs=epochs, seed=seed), turn_over=kind == "turn-over", progress=False)
    with evaluating(model), torch.no_grad():
        right = [model(batch.images).argmax(1) == batch.labels for batch in heldout.in_order(500)]
    return torch.cat(right).double().mean().item()


def ordinary_dropout(network: CNN, placement: str, drop: float) -> None:
    """Ordinary dropout of the units that turn-over dropout would mask: whole channels, or hidden units."""
    if placement == "head":
        network.head.register_forward_pre_hook(lambda module, args: F.dropout(args[0], drop, module.training))
        return
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(
                lambda module, args, out: (F.dropout2d if out.dim() == 4 else F.dropout)(out, drop, module.training)
            )


def with_batch_norm(features: nn.Sequential) -> nn.Sequential:
    """BatchNorm after every convolution."""
    layers: list[nn.Module] = []
    for module in features:
        layers += [module, nn.BatchNorm2d(module.out_channels)] if isinstance(module, nn.Conv2d) else [module]
    return nn.Sequential(*layers)


def settings(keeps: list[float]) -> Iterator[tuple[str, str, float]]:
    for kind in ("none", "BatchNorm", "GroupNorm"):
        yield kind, "-", 1.0
    for placement in ("head", "all"):
        for keep in keeps:
            for kind in ("ordinary", "turn-over"):
                yield kind, placement, keep


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=3000)
    parser.add_argument("--heldout", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--keep", type=float, nargs="+", default=[0.5, 0.7, 0.9])
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        dataset = load(fetch("fashion-mnist", Path(folder) / "raw"))
        parts = []
        for part, count in ((dataset.train, options.examples), (dataset.test, options.heldout)):
            rows = np.random.default_rng(0).permutation(len(part.labels))[:count]
            images, labels = (torch.from_numpy(np.array(values[rows])) for values in (part.images, part.labels))
            parts.append(Examples(images, labels, torch.arange(count)))
    data, heldout = parts

    combinations = list(settings(options.keep))
    jobs = [
        (data, heldout, *setting, seed, options.epochs) for setting in combinations for seed in range(options.seeds)
    ]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        found = list(tqdm(pool.imap(held_out_accuracy, jobs), total=len(jobs), disable=None))
    table = pd.DataFrame([job[2:6] for job in jobs], columns=["dropout", "placement", "keep", "seed"])
    table["accuracy"] = found
    summary = table.groupby(["placement", "dropout", "keep"], sort=False)["accuracy"].agg(["mean", "std", "count"])
    print(f"held-out accuracy of the full network, {options.examples} training examples, {options.epochs} epochs")
    print(summary.reset_index().to_string(index=False, float_format="%.4f"))


if __name__ == "__main__":
    main()
