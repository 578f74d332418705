"""What one pass over a data set costs: against plain inference, and where a million examples do not fit into memory.

python benchmarks/reading.py              # seconds of reading beside a plain inference pass, in turns
python benchmarks/reading.py --million    # 1,000,000 examples of 2,048 features: all scores, time and peak memory
python benchmarks/reading.py --help
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models import resnet18

from turnover import influence, insert, memorization, read, replace_batch_norm, summarize
from turnover.batches.passes import evaluating


class Images(Dataset[tuple[Tensor, int]]):
    """Colour images of noise, made when asked for."""

    def __init__(self, count: int, size: int) -> None:
        self.count = count
        self.pool = torch.rand(64, 3, size, size, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.pool[i % 64], i % 10


def cost(examples: int, size: int, rounds: int) -> None:
    """Reading (three networks and features) beside a plain inference pass over the same loader, in turns."""
    model = insert(replace_batch_norm(resnet18(num_classes=10)), after="head")
    for workers in (0, 2):
        loader = DataLoader(Images(examples, size), batch_size=128, num_workers=workers)

        def plain(loader: DataLoader[tuple[Tensor, int]] = loader) -> None:
            with evaluating(model):
                for x, _ in loader:
                    model(x.contiguous(memory_format=torch.channels_last))

        def reading(loader: DataLoader[tuple[Tensor, int]] = loader) -> None:
            read(model, loader)

        ratios, seconds = [], []
        for _ in range(rounds):
            once = [timed(run) for run in (plain, reading)]
            ratios.append(once[1] / once[0])
            seconds.append(once)
        medians = [statistics.median(column) for column in zip(*seconds, strict=True)]
        print(
            f"resnet18, {examples} images of {size} x {size}, {workers} workers: inference {medians[0]:.2f} s, "
            f"reading {medians[1]:.2f} s; ratio {statistics.median(ratios):.3f} (median of {rounds}, in turns)",
            flush=True,
        )


class Vectors(Dataset[tuple[Tensor, int]]):
    """Points around the centres of their classes, a tenth with another label; made in blocks when asked for."""

    def __init__(self, count: int, classes: int, seed: int = 0) -> None:
        self.count, self.classes, self.seed = count, classes, seed
        self.centres = torch.randn(classes, 64, generator=torch.Generator().manual_seed(1))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.__getitems__([i])[0]

    def __getitems__(self, places: list[int]) -> list[tuple[Tensor, int]]:
        labels = torch.tensor([place * 7919 % self.classes for place in places])
        noise = torch.randn(len(places), 64, generator=torch.Generator().manual_seed(self.seed + places[0]))
        given = [
            int(label) if place % 10 else (int(label) + 1) % self.classes
            for place, label in zip(places, labels, strict=True)
        ]
        return list(zip(self.centres[labels] + noise, given, strict=True))


def million(examples: int, targets: int, width: int, folder: Path) -> None:
    """All scores of a training set whose features do not fit into memory."""
    torch.manual_seed(0)
    model = insert(nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10)), after="head")
    data, tested = Vectors(examples, 10), Vectors(targets, 10, seed=1 << 40)

    def report(what: str, run: Callable[[], object]) -> None:
        seconds = timed(run)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{what}: {seconds:.1f} s, peak memory so far {peak:.2f} GiB", flush=True)

    kept = []
    report(
        f"read {examples:,} examples of {width:,} features into a folder (float16)",
        lambda: kept.append(read(model, DataLoader(data, batch_size=4096), folder=folder, precision="float16")),
    )
    train = kept[0]
    print(f"on the disk: {sum(path.stat().st_size for path in folder.iterdir()) / 2**30:.2f} GiB")
    report("memorization, sharpened", lambda: memorization(model, train))
    report(f"influence on {targets} targets", lambda: influence(model, train, tested, precision="bfloat16"))
    report(f"summary for {targets} targets", lambda: summarize(model, train, tested, top=10, precision="bfloat16"))


def timed(run: Callable[[], object]) -> float:
    """Seconds that `run` takes."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--million", action="store_true", help="the case that does not fit into memory")
    parser.add_argument("--examples", type=int, help="examples (default 1,024 images; 1,000,000 with --million)")
    parser.add_argument("--size", type=int, default=64, help="pixels along a side")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=int, default=2048, help="features, with --million")
    parser.add_argument("--targets", type=int, default=100, help="targets, with --million")
    options = parser.parse_args()
    if not options.million:
        cost(options.examples or 1024, options.size, options.rounds)
        return
    folder = Path(tempfile.mkdtemp())
    try:
        million(options.examples or 1_000_000, options.targets, options.width, folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
