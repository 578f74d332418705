"""What large data would cost: a hundredth of ImageNet and of a billion tokens, beside what docs/scaling.md says.

    python benchmarks/scaling.py

Influence is measured at the width and the classes of the real case, on random features; training as the ratio of a step
with masks to one without, on torchvision's ResNet-50.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch starts its threads

import torch
from influence import THREADS, product_peak, run_tiles, timed  # beside this file
from torch import nn
from torchvision.models import resnet50

from turnover import insert, neighbourhood, replace_batch_norm, subnetwork

# name, training examples (a hundredth), targets (few: the cost is theirs times a constant), masked width, classes
CASES = [
    ("ImageNet, ResNet-50", 12_812, 16, 2048, 1000),
    ("text, 768 features", 39_063, 500, 768, 2),
]
# Of docs/influence-engine.md: what the loss difference costs a pair, in nanoseconds a thread, and a class beyond 64.
PAIR, CLASS = 4.0, 1.4
REACHED = 0.82  # of the product peak, in float32
DIRECTIONS = 256  # in which examples are compared


def predicted(width: int, classes: int, peak: float) -> float:
    """Nanoseconds a pair on all threads: one product, and the loss difference."""
    product = 2 * width * (classes - 1) / (REACHED * peak) * 1e9
    return product + (PAIR if classes <= 64 else CLASS * classes) / THREADS


def influence(train: int, targets: int, width: int, classes: int) -> float:
    """Nanoseconds a pair on all threads, by processor time."""
    model = insert(nn.Sequential(nn.ReLU(), nn.Linear(width, classes)), after="head").eval()
    x, y = torch.randn(targets, width), torch.randint(classes, (targets,))
    work = run_tiles(model, torch.arange(train), x, y, "float32", "raw")
    return min(timed(work)[1] for _ in range(2)) / (train * targets) * 1e9


def predicted_nearness(train: int, width: int, peak: float) -> float:
    """Seconds of support and leverage: spectrum, whitening in all directions and in 256, likenesses of all pairs.

    At the full size the spectrum of one matrix is nothing; at a hundredth it is not, so it is measured alone.
    """
    pairs = train * min(train, max(1024, (1 << 32) // train))
    operations = 4 * train * width**2 + 2 * train * width * DIRECTIONS + 2 * pairs * DIRECTIONS
    matrix = torch.randn(width, width, dtype=torch.float64)
    spectrum = min(timed(lambda: torch.linalg.eigh(matrix @ matrix.T))[1] for _ in range(2))
    return operations / (REACHED * peak) + spectrum


def nearness(train: int, width: int, classes: int) -> float:
    """Seconds of support and leverage of all training examples."""
    model = nn.Sequential(nn.ReLU(), nn.Linear(width, classes))
    x, y = torch.randn(train, width), torch.randint(classes, (train,))
    return timed(lambda: neighbourhood(model, x, y, progress=False))[1]


def steps(rows: int = 4, rounds: int = 3) -> tuple[float, float]:
    """Seconds of a training step of ResNet-50 at 224 x 224, and what masks in front of the head make of it."""
    plain = replace_batch_norm(resnet50())
    masked = insert(replace_batch_norm(resnet50()), after="head")
    x, y, ids = torch.randn(rows, 3, 224, 224), torch.randint(1000, (rows,)), torch.arange(rows)

    def step(model: nn.Module) -> None:
        nn.functional.cross_entropy(model(x), y).backward()

    def with_masks() -> None:
        with subnetwork(masked, ids):
            step(masked)

    def without() -> None:
        step(plain)

    works: list[Callable[[], None]] = [without, with_masks]
    for work in works:
        work()
    taken = [[timed(work)[1] for work in works] for _ in range(rounds)]
    return statistics.median(of[0] for of in taken), statistics.median(of[1] / of[0] for of in taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    torch.set_num_threads(THREADS)
    peak = product_peak(torch.float32)
    print(f"product peak: {peak / 1e9:.0f} GFLOP/s (float32, {THREADS} threads)", flush=True)
    for name, train, targets, width, classes in CASES:
        print(f"{name}: {train:,} x {targets:,}, {width} features, {classes} classes", flush=True)
        says, found = predicted(width, classes, peak), influence(train, targets, width, classes)
        print(f"  influence: {found:,.1f} ns a pair, predicted {says:,.1f}: {found / says:.2f}", flush=True)
        says, found = predicted_nearness(train, width, peak), nearness(train, width, classes)
        print(f"  support and leverage: {found:.1f} s, predicted {says:.1f}: {found / says:.2f}", flush=True)
    seconds, ratio = steps()
    print(f"ResNet-50, a step of 4 images: {seconds:.2f} s; with masks {ratio:.3f} times that", flush=True)


if __name__ == "__main__":
    main()
