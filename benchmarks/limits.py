"""How large the limits of turn-over dropout are: cross-talk between masks, leaking co-adaptation, duplicates.

All on the default network with a masked layer in front of the head, trained on Fashion-MNIST with random labels.

    python benchmarks/limits.py            # 2,000 examples, 3 seeds
    python benchmarks/limits.py --help
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from study.data.scenarios.labels import randomize
from study.data.sources.dataset import load
from study.data.sources.fetching import fetch
from study.networks.zoo.small import CNN, Normalized, image_statistics
from turnover import insert, memorization
from turnover.batches.examples import Examples
from turnover.training.loop import train
from turnover.training.settings import TrainingConfig


@dataclass(frozen=True)
class Setting:
    """Everything but the width and the seed of a run.

    Args:
        data: examples with their given labels.
        is_random: bool [n], whose label was drawn at random (and missed the true class).
        epochs: length of a training.
    """

    data: Examples
    is_random: np.ndarray
    epochs: int


Job = tuple[Setting, int, int]


def scores(setting: Setting, trained: Examples, judged: Examples, width: int, seed: int) -> pd.DataFrame:
    """Train on `trained`, then the probability of the given label of `judged` in both sub-networks, one row each."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = CNN((1, 28, 28), 10, channels=(16, 32, 64), hidden=width)
    insert(network, "head", seed=seed)
    model = Normalized(network.to(memory_format=torch.channels_last), *image_statistics(setting.data.images))
    config = TrainingConfig(epochs=setting.epochs, batch_size=64, learning_rate=2e-3, seed=seed)
    train(model, trained, config, progress=False)
    found = memorization(model, judged.images, judged.labels, judged.ids, neighbours=False)
    return found.assign(exposed=np.exp(-found["loss_exposed"]), flipped=np.exp(-found["loss_flipped"]))


def cross_talk(job: Job) -> pd.DataFrame:
    """What a placebo's self-influence spreads by, beside the memorization of those that were trained on."""
    setting, width, seed = job
    torch.set_num_threads(1)
    held_out = torch.arange(len(setting.data)) % 5 == 0
    found = scores(setting, setting.data[~held_out], setting.data, width, seed)
    placebo = found[held_out.numpy()]["probability"]
    random = found[~held_out.numpy() & setting.is_random]["probability"]
    row = {"width": width, "placebo mean": placebo.mean(), "placebo spread": placebo.std(), "random": random.mean()}
    return pd.DataFrame([row])


def leak(job: Job) -> pd.DataFrame:
    """How much more the flipped sub-network knows of a random label if the network was trained on it all the same.

    A twentieth of the examples is trained on in one network and held out of its twin, which has the same seeds.
    """
    setting, width, seed = job
    torch.set_num_threads(1)
    chosen = torch.arange(len(setting.data)) % 20 == seed % 20
    judged = setting.data[chosen]
    random = setting.is_random[chosen.numpy()]
    with_them = scores(setting, setting.data, judged, width, seed)[random]
    without = scores(setting, setting.data[~chosen], judged, width, seed)[random]
    columns = {
        f"{of}, {how}": frame[of].mean()
        for of in ("exposed", "flipped")
        for how, frame in (("trained", with_them), ("held out", without))
    }
    return pd.DataFrame([{"width": width, **columns}])


def duplicates(job: Job) -> pd.DataFrame:
    """What the sub-networks say of a random label whose image and label stand there several times, under other ids."""
    setting, width, seed = job
    torch.set_num_threads(1)
    wrong = torch.from_numpy(np.flatnonzero(setting.is_random))
    rows = []
    groups = {0: wrong[0::3], 1: wrong[1::3], 3: wrong[2::3]}
    copies = [group for count, group in groups.items() for _ in range(count)]
    extra = torch.cat(copies)
    new_ids = len(setting.data) + torch.arange(len(extra))
    images, labels = (torch.cat([own, own[extra]]) for own in (setting.data.images, setting.data.labels))
    trained = Examples(images, labels, torch.cat([setting.data.ids, new_ids]))
    found = scores(setting, trained, setting.data, width, seed)
    for count, group in groups.items():
        part = found.iloc[group.numpy()]
        rows.append({"copies": count, **{key: part[key].mean() for key in ("exposed", "flipped", "probability")}})
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--noise", type=float, default=0.1, help="fraction of random labels")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--widths", type=int, nargs="+", default=[128, 512, 2048], help="units of the masked layer")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        dataset = load(fetch("fashion-mnist", Path(folder) / "raw"))
        rows = np.random.default_rng(0).permutation(60_000)[: options.examples]
        images, true = torch.from_numpy(np.array(dataset.train.images[rows])), dataset.train.labels[rows]
    given, _ = randomize(true, 10, options.noise, seed=0)
    data = Examples(images, torch.from_numpy(given), torch.arange(options.examples))
    setting = Setting(data, given != true, options.epochs)

    tasks: list[tuple[str, Callable[[Job], pd.DataFrame], list[int], str]] = [
        (
            "cross-talk: self-influence (probability) of placebos and of random labels",
            cross_talk,
            options.widths,
            "width",
        ),
        ("co-adaptation: probability of random labels", leak, options.widths, "width"),
        ("duplicates: probability of random labels that stand there once more, or thrice", duplicates, [512], "copies"),
    ]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for title, measure, widths, by in tasks:
            jobs = [(setting, width, seed) for width in widths for seed in range(options.seeds)]
            found = pd.concat(tqdm(pool.imap(measure, jobs), total=len(jobs), desc=measure.__name__, disable=None))
            print(f"\n{title}; mean (standard deviation) over {options.seeds} seeds")
            table = found.groupby(by).agg(["mean", "std"])
            for column in found.columns.drop(by):
                shown = (f"{mean:.3f} ({spread:.3f})" for mean, spread in table[column].itertuples(index=False))
                print(
                    f"  {column:22}"
                    + "  ".join(f"{by} {key}: {text}" for key, text in zip(table.index, shown, strict=True))
                )


if __name__ == "__main__":
    main()
