"""What influence costs on this machine, beside the loop of the public reference implementation.

    python benchmarks/influence.py                 # cases, a table
    python benchmarks/influence.py --scaling       # cost against train, target, width and classes
    python benchmarks/influence.py --full 512      # 60,000 x 10,000 pairs with top-100 and totals; --million alike
    python benchmarks/influence.py --full 512 --estimate combined   # the same of data, by the default estimate
    python benchmarks/influence.py --all --out DIR # everything; tables and influence-scaling.svg in DIR

Ratios come from runs in turns in one process. Other work on the machine stretches wall time, so a second column
gives processor time divided by the number of threads: what the run takes where nothing else runs.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch starts its threads

import torch
from torch import Tensor, nn

from study.data.sources.dataset import load
from study.data.sources.fetching import fetch
from study.networks.zoo.small import CNN, MLP
from turnover import insert, subnetwork, summarize
from turnover.attribution.arguments import Asked, pairs_of
from turnover.attribution.influence import influence
from turnover.attribution.scorer import spans
from turnover.attribution.tiles import Tiles, grid_of
from turnover.batches.outputs import loss_and_margin

THREADS = 2
CLASSES = 10
Times = tuple[float, float]  # seconds of wall, and of processor time per thread


def naive(model: nn.Module, ids: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The loop of the public reference: one target at a time, masks in batches of 100, two forward passes."""
    out = torch.empty(len(ids), len(x))
    for target in range(len(x)):
        for start in range(0, len(ids), 100):
            batch = ids[start : start + 100]
            inputs = x[target].expand(len(batch), *x.shape[1:])
            labels = y[target].expand(len(batch))
            losses = []
            for flipped in (False, True):
                with torch.no_grad(), subnetwork(model, batch, flipped=flipped):
                    losses.append(loss_and_margin(model(inputs), labels)[0])
            out[start : start + 100, target] = losses[1] - losses[0]
    return out


def timed(work: Callable[[], Any]) -> Times:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, (time.process_time() - processor) / THREADS


def product_peak(dtype: torch.dtype) -> float:
    """FLOP per second (of processor time per thread) of the best of some large matrix products."""
    left, right, out = (torch.randn(2048, 2048).to(dtype) for _ in range(3))
    seconds = min(timed(lambda: torch.mm(left, right.T, out=out))[1] for _ in range(20))
    return float(2 * 2048**3 / seconds)


def network(kind: str, width: int = 512, classes: int = CLASSES) -> nn.Module:
    """An untrained network with turn-over dropout: what influence costs does not depend on the weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "reference":  # the network and the placement of the public reference
            return insert(MLP((1, 28, 28), classes), after=["features.2", "features.6"]).eval()
        model = CNN((1, 28, 28), classes, hidden=width)
        return insert(model, after="head" if kind == "head" else "all").eval()


def images(count: int, folder: Path | None, *, train: bool = False) -> tuple[Tensor, Tensor]:
    """Held-out Fashion-MNIST images (or those for training), or random ones of the same size."""
    if folder is None:
        generator = torch.Generator().manual_seed(1)
        return torch.randn(count, 1, 28, 28, generator=generator), torch.randint(0, CLASSES, (count,))
    data = load(fetch("fashion-mnist", folder))
    part = data.train if train else data.test
    x = torch.as_tensor(part.images[:count]).float().view(-1, 1, 28, 28) / 255
    return (x - x.mean()) / x.std(), torch.as_tensor(part.labels[:count]).long()


def run_tiles(model: nn.Module, train: Any, x: Tensor, y: Tensor, precision: Any, estimate: Any) -> Callable[[], None]:
    """All tiles, forgotten at once; training examples are read, masks drawn and code compiled before the clock runs."""
    pairs = pairs_of([model], train, x, y, Asked(estimate=estimate, precision=precision, fused=True))
    grid, held = grid_of(pairs, len(y), 1 << 30)

    def work() -> None:
        for _ in Tiles(pairs, grid, spans(len(y), grid[1]), memory=held).of(slice(0, len(pairs.train.ids))):
            pass

    work()
    return work


# name, network, width, estimate, precision, training examples and targets for us, and for the naive loop
CASES = [
    ("head 512", "head", 512, "raw", "bfloat16", 60_000, 1024, 400, 4),
    ("head 512", "head", 512, "raw", "float32", 60_000, 1024, 400, 4),
    ("head 512", "head", 512, "left-out", "bfloat16", 60_000, 1024, 400, 4),
    ("head 512", "head", 512, "left-out", "float32", 60_000, 1024, 400, 4),
    ("head 512", "head", 512, "combined", "bfloat16", 60_000, 1024, 400, 4),
    ("head 512", "head", 512, "combined", "float32", 60_000, 1024, 400, 4),
    ("head 2048", "head", 2048, "raw", "bfloat16", 60_000, 512, 400, 4),
    ("reference MLP", "reference", 768, "raw", "bfloat16", 300, 1024, 1000, 4),
    ("reference MLP", "reference", 768, "raw", "float32", 300, 1024, 1000, 4),
    ("all layers", "all", 512, "raw", "bfloat16", 96, 1024, 400, 4),
    ("all layers", "all", 512, "raw", "float32", 96, 1024, 400, 4),
]


def flop_per_pair(kind: str, width: int, estimate: str = "raw") -> int:
    """FLOP of the matrix products and convolutions that a pair cannot share with other pairs."""
    left_out, similarity = 2 * (512 + 256), 2 * 256
    if estimate != "raw":
        return left_out + (0 if estimate == "left-out" else similarity + flop_per_pair(kind, width))
    if kind == "head":
        return 2 * width * (CLASSES - 1)
    if kind == "reference":  # layers 2, 3 and head, exposed and flipped
        return 2 * 2 * (2 * 768 * 768 + 768 * CLASSES)
    convolutions = 9 * 16 * 32 * 14 * 14 + 9 * 32 * 64 * 7 * 7
    return 2 * 2 * (convolutions + 576 * width + width * CLASSES)


def cases(repeats: int, folder: Path | None, only: str = "") -> list[dict[str, Any]]:
    """Every case beside the naive loop, in turns."""
    peaks = {p: product_peak(getattr(torch, p)) for p in ("float32", "bfloat16")}
    print("product peak:", ", ".join(f"{p} {f / 1e9:.0f} GFLOP/s" for p, f in peaks.items()), flush=True)
    rows = []
    for name, kind, width, estimate, precision, train, targets, few_train, few_targets in CASES:
        if only not in name:
            continue
        model, (x, y) = network(kind, width), images(targets, folder)
        ids, few = torch.arange(train), torch.arange(few_train)
        data = ids if estimate == "raw" else (images(train, folder, train=True)[0], ids % CLASSES, ids)
        ours = run_tiles(model, data, x, y, precision, estimate)
        sample = torch.randperm(1000)[:100]
        difference = (influence(model, sample, x[:40], y[:40]) - naive(model, sample, x[:40], y[:40])).abs().max()
        times: list[tuple[Times, Times]] = []
        for _ in range(repeats):
            times.append((timed(ours), timed(partial(naive, model, few, x[:few_targets], y[:few_targets]))))
        rates = [[train * targets / a[k], few_train * few_targets / b[k]] for a, b in times for k in (0, 1)]
        wall, processor = rates[0::2], rates[1::2]
        flop = flop_per_pair(kind, width, estimate)
        row = {
            "case": name,
            "estimate": estimate,
            "precision": precision,
            "pairs/s wall": statistics.median(r[0] for r in wall),
            "pairs/s": statistics.median(r[0] for r in processor),
            "naive pairs/s": statistics.median(r[1] for r in processor),
            "ratio": statistics.median(a / b for a, b in processor),
            "ratio wall": statistics.median(a / b for a, b in wall),
            "FLOP/pair": flop,
            # Of raw scores by one product: it is written and read once, the score written.
            "bytes/pair": (
                (CLASSES - 1) * 2 * getattr(torch, precision).itemsize + 4
                if (kind, estimate) == ("head", "raw")
                else None
            ),
            "of peak": flop * statistics.median(r[0] for r in processor) / peaks[precision],
            "GiB so far": resident(),
            "float32 error of raw": float(difference),
        }
        rows.append(row)
        print(" | ".join(f"{k} {shown(v)}" for k, v in row.items()), flush=True)
    return rows


def shown(value: Any) -> str:
    if not isinstance(value, float):
        return "-" if value is None else str(value)
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def scaling(folder: Path | None) -> list[dict[str, Any]]:
    """Processor seconds per thread of a whole `summarize`, one size at a time."""
    base = {"train": 8192, "target": 1024, "width": 512, "classes": 10}
    grid = {
        "train": [1024, 2048, 4096, 8192, 16384, 32768, 65536],
        "target": [128, 256, 512, 1024, 2048, 4096],
        "width": [128, 256, 512, 1024, 2048, 4096],
        "classes": [2, 5, 10, 20, 50, 100],
    }
    rows = []
    for what, sizes in grid.items():
        for size in sizes:
            at = {**base, what: size}
            model, (x, y) = network("head", at["width"], at["classes"]), images(at["target"], folder)
            y = y % at["classes"]
            ids = torch.arange(at["train"])
            work = partial(summarize, model, ids, ids % 2, x, y, precision="bfloat16", fused=True)
            work()
            wall, processor = min(timed(work) for _ in range(2))
            rows.append({"what": what, "size": size, "seconds wall": wall, "seconds": processor})
            print(f"{what} {size}: {processor:.2f} s", flush=True)
    return rows


def full(width: int, train: int, targets: int, folder: Path | None, estimate: str = "raw") -> None:
    """The whole of Fashion-MNIST (or more), reduced: the only thing this process does."""
    model, (x, y) = network("head", width), images(targets, folder)
    ids = torch.randperm(train, generator=torch.Generator().manual_seed(0))
    settings: dict[str, Any] = {"top": 100, "precision": "bfloat16"}
    if estimate == "raw":
        asked: tuple[Any, ...] = ids, ids % CLASSES, x, y
    else:
        asked = (images(train, folder, train=True)[0], ids % CLASSES, ids), x, y
        settings["estimate"] = estimate
    before = resident()
    kept: list[Any] = []
    wall, processor = timed(lambda: kept.append(summarize(model, *asked, **settings)))
    assert torch.equal(kept[0].train_ids, ids)  # the order given is kept
    print(
        f"{train:,} x {targets:,} at width {width}, {estimate}: {wall:.1f} s wall, {processor:.1f} s of processor time "
        f"per thread, {train * targets / processor / 1e6:.1f} million pairs/s; resident {resident():.2f} GiB at most, "
        f"{before:.2f} before",
        flush=True,
    )


def resident() -> float:
    """Largest resident memory of this process so far, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with (or for) Fashion-MNIST; by default random images")
    parser.add_argument("--out", type=Path, help="folder for influence.csv, influence-scaling.csv and .svg")
    parser.add_argument("--case", default="", help="only cases whose name contains this")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--scaling", action="store_true")
    parser.add_argument("--full", type=int, metavar="WIDTH", help="only 60,000 x 10,000 pairs at this width")
    parser.add_argument("--estimate", default="raw", help="of --full and --million: raw, left-out, combined, ...")
    parser.add_argument("--million", action="store_true", help="only a million training examples x 1,000 targets")
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    if options.full:
        full(options.full, 60_000, 10_000, options.data, options.estimate)
        return
    if options.million:
        full(512, 1_000_000, 1_000, options.data, options.estimate)
        return
    rows = cases(options.repeats, options.data, options.case)
    sizes = scaling(options.data) if options.scaling or options.all else []
    if options.all:
        for arguments in (["--full", "512"], ["--full", "2048"], ["--million"]):
            subprocess.run([sys.executable, __file__, *arguments], check=True)
    if options.out:
        import influence_figure  # beside this file; matplotlib is slow to import

        influence_figure.write(rows, sizes, options.out)


if __name__ == "__main__":
    main()
