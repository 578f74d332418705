"""What a training epoch costs. Turn-over dropout against ordinary dropout, this loop against the usual DataLoader loop,
and the dynamics of all three networks: every round times each case once, in turn, and ratios are within a round.

    python benchmarks/training.py           # 6,400 Fashion-MNIST examples, default CNN, float32
    python benchmarks/training.py --quick   # less of it, for a look
    python benchmarks/training.py --precision bfloat16
    python benchmarks/training.py --full FOLDER   # 60,000 examples, 30 epochs, dynamics; goes on where it stopped

Other work on the machine stretches wall time. Rounds are interleaved, so that it stretches all cases alike, and another
column gives processor time divided by the number of threads: what it takes where nothing else runs.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch starts its threads
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

import stages  # noqa: F401  (the allocator's settings, as in the pipeline)
from study.data.sources.dataset import load
from study.data.sources.fetching import fetch
from study.networks.zoo.small import CNN, Normalized, image_statistics
from turnover import TrainingConfig, insert, train
from turnover.batches.examples import Examples
from turnover.batches.passes import evaluating
from turnover.interruption import Interrupted
from turnover.training.augmentation import Augmentation
from turnover.training.dynamics import Dynamics, schedule

CHANNELS, HIDDEN = (16, 32, 64), 512


def network(data: Examples, kind: str) -> Normalized:
    """The default network; `kind` is dropout and placement, such as ``"turn-over head"`` or ``"ordinary all"``."""
    dropout, placement = kind.split()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CNN((1, 28, 28), 10, channels=CHANNELS, hidden=HIDDEN)
    if dropout == "turn-over":
        insert(model, placement)
    elif placement == "head":
        model.head.register_forward_pre_hook(lambda module, args: F.dropout(args[0], 0.5, module.training))
    elif placement == "all":
        for module in model.modules():
            if isinstance(module, nn.ReLU):  # whole channels, as turn-over dropout masks them
                module.register_forward_hook(
                    lambda module, args, out: (F.dropout2d if out.dim() == 4 else F.dropout)(out, 0.5, module.training)
                )
    whole = Normalized(model.to(memory_format=torch.channels_last), *image_statistics(data.images.cpu()))
    return whole.to(data.images.device)


def our_epoch(data: Examples, kind: str, precision: str) -> Callable[[], None]:
    """One epoch of `turnover.train`, on a network that has trained before (masks are made in the first epoch)."""
    model = network(data, kind)
    config = TrainingConfig(epochs=1, precision=precision, learning_rate=1e-3)

    def run() -> None:
        train(model, data, config, turn_over=kind.startswith("turn-over"), progress=False)

    return run


def usual_batches(data: Examples, workers: int) -> Iterable[list[torch.Tensor]]:
    """The batches of the tutorials: a Dataset of PIL images, ToTensor and Normalize for each, DataLoader."""
    from torch.utils.data import DataLoader, Dataset
    from torchvision.transforms import Compose, Normalize, ToTensor

    mean, std = image_statistics(data.images.cpu())
    dataset: Dataset = PictureDataset(data.to(torch.device("cpu")), Compose([ToTensor(), Normalize(mean, std)]))
    return DataLoader(dataset, batch_size=128, shuffle=True, num_workers=workers, persistent_workers=workers > 0)


def usual_epoch(data: Examples, precision: str, workers: int) -> Callable[[], None]:
    """The loop of the tutorials, with AdamW."""
    device, loader = data.images.device, usual_batches(data, workers)
    model = network(data, "ordinary head").network.to(memory_format=torch.contiguous_format)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
    criterion = nn.CrossEntropyLoss()

    def run() -> None:
        model.train()
        total = 0.0
        for x, y in loader:
            x, y = x.to(device), y.to(device)
            optimizer.zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(y)

    return run


class PictureDataset(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """As torchvision's own data sets of this kind: an array, an image from it, the transform."""

    def __init__(self, data: Examples, transform: Callable[[object], torch.Tensor]) -> None:
        self.data, self.targets, self.transform = data.images.squeeze(1), data.labels, transform

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.data[index].numpy())), int(self.targets[index])


def only(batches: Callable[[], Iterable[object]]) -> Callable[[], None]:
    """The batches without any network."""

    def run() -> None:
        for _ in batches():
            pass

    return run


def dynamics_of(data: Examples, kind: str) -> Callable[[], None]:
    """Loss and margin of every example in all three networks."""
    model, dynamics = network(data, kind), Dynamics(data, [1])
    return lambda: dynamics.record(1, model)


def paired(cases: dict[str, Callable[[], None]], rounds: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Wall and processor seconds of each case (column) in each round (row); the order turns round every time."""
    for run in cases.values():
        run()
    walls, processors = [], []
    for number in range(rounds):
        wall, processor = {}, {}
        for name in list(cases) if number % 2 == 0 else reversed(list(cases)):
            began, before = time.perf_counter(), time.process_time()
            cases[name]()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            wall[name], processor[name] = time.perf_counter() - began, time.process_time() - before
        walls.append(wall)
        processors.append(processor)
    return pd.DataFrame(walls)[list(cases)], pd.DataFrame(processors)[list(cases)]


def flops(data: Examples, kind: str) -> float:
    """Floating point operations of the products and convolutions of a training step, an example."""
    from torch.utils.flop_counter import FlopCounterMode

    model, batch = network(data, kind).train(), data[:128]
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(model(batch.images), batch.labels).backward()
    return counter.get_total_flops() / len(batch)


def matrix_product(device: torch.device, precision: str) -> float:
    """FLOP/s of a large matrix product: what can be had at most."""
    a = torch.randn(2048, 2048, device=device, dtype=getattr(torch, precision))
    best = float("inf")
    for _ in range(10):
        began, before = time.perf_counter(), time.process_time()
        float((a @ a)[0, 0])  # waits for a GPU
        processor = (time.process_time() - before) / torch.get_num_threads()
        best = min(best, processor if device.type == "cpu" else time.perf_counter() - began)
    return 2 * 2048**3 / best


def fashion(count: int, keep: Path | None = None) -> tuple[Examples, Examples]:
    """`count` training examples, and the 10,000 test examples; `keep` is a folder for the data set."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = load(fetch("fashion-mnist", (keep or Path(folder)) / "raw"))
        train_images, test_images = (np.array(part.images) for part in (dataset.train, dataset.test))
    labels, test_labels = (torch.from_numpy(np.array(p.labels)).long() for p in (dataset.train, dataset.test))
    rows = torch.from_numpy(np.random.default_rng(0).permutation(60_000)[:count])
    data = Examples(torch.from_numpy(train_images)[rows], labels[rows], torch.arange(count))
    return data, Examples(torch.from_numpy(test_images), test_labels, torch.arange(60_000, 70_000))


def compare(options: argparse.Namespace) -> None:
    """The paired table."""
    data, _ = fashion(2_560 if options.quick else 6_400)
    data = data.to(torch.device(options.device))
    precision = options.precision
    cases = {
        kind: our_epoch(data, kind, precision)
        for kind in ("ordinary head", "turn-over head", "ordinary all", "turn-over all", "no dropout")
    }
    cases["dynamics head"] = dynamics_of(data, "turn-over head")
    cases["dynamics all"] = dynamics_of(data, "turn-over all")
    for workers in (0, 2):
        cases[f"DataLoader, {workers} workers"] = usual_epoch(data, precision, workers)
    normalise, loader = network(data, "no dropout"), usual_batches(data, 0)
    normalise.network = nn.Identity()
    cases["batches of this loop"] = only(lambda: (normalise(batch.images) for batch in data.shuffled(128, 0, 1)))
    cases["batches of DataLoader"] = only(lambda: loader)
    wall, processor = paired(cases, 3 if options.quick else options.rounds)
    print(f"{len(data):,} examples an epoch, {precision}, {options.threads} threads, {len(wall)} rounds\n")
    print(f"{'':24}{'wall s':>10}{'cpu s':>10}{'examples/s':>12}")
    for name in cases:
        median, cpu = wall[name].median(), processor[name].median() / options.threads
        cpu_shown = "" if name == "DataLoader, 2 workers" else f"{cpu:.3f}"  # its workers' time is not in it
        print(f"{name:24}{median:10.3f}{cpu_shown:>10}{len(data) / median:12,.0f}")
    rate = flops(data, "no dropout") * len(data) * options.threads / processor["no dropout"].median()
    peak = matrix_product(data.images.device, precision)
    if options.device == "cuda":
        rate = flops(data, "no dropout") * len(data) / wall["no dropout"].median()
    print(f"\nno dropout: {rate / 1e9:,.0f} GFLOP/s, {rate / peak:.0%} of a large matrix product's {peak / 1e9:,.0f}")

    usual = min(("DataLoader, 0 workers", "DataLoader, 2 workers"), key=lambda name: wall[name].median())
    print(f"\n{'ratio within a round':40}{'wall':>8}{'lowest':>8}{'highest':>8}{'cpu':>8}")
    for name, above, below in (
        ("turn-over / ordinary, head", "turn-over head", "ordinary head"),
        ("turn-over / ordinary, all", "turn-over all", "ordinary all"),
        ("turn-over head / no dropout", "turn-over head", "no dropout"),
        ("dynamics / epoch, head", "dynamics head", "turn-over head"),
        ("dynamics / epoch, all", "dynamics all", "turn-over all"),
        (f"{usual} / this loop", usual, "ordinary head"),
        ("the same, batches only", "batches of DataLoader", "batches of this loop"),
    ):
        values, cpu = wall[above] / wall[below], (processor[above] / processor[below]).median()
        cpu_shown = "" if above == "DataLoader, 2 workers" else f"{cpu:.3f}"
        print(f"{name:40}{values.median():8.3f}{values.min():8.3f}{values.max():8.3f}{cpu_shown:>8}")


def full(options: argparse.Namespace) -> None:
    """Train on all of Fashion-MNIST, in as many calls as it takes: a checkpoint keeps what was done."""
    options.full.mkdir(parents=True, exist_ok=True)
    data, heldout = fashion(60_000, options.full)
    model = network(data, "turn-over head")
    config = TrainingConfig(
        epochs=30,
        learning_rate=3e-3,
        weight_decay=0.05,
        augmentation=Augmentation(flip=True, crop=2),
        precision=options.precision,
    )
    dynamics = Dynamics(data, schedule(config.epochs))
    spent = options.full / "seconds.txt"
    before = np.array(spent.read_text().split() if spent.exists() else (0, 0), dtype=float)
    began, processor = time.perf_counter(), time.process_time()

    def accuracy(model: nn.Module) -> dict[str, float]:
        with evaluating(model), torch.no_grad():
            right = [(model(part.images).argmax(1) == part.labels) for part in heldout.in_order(128)]
        return {"heldout_accuracy": torch.cat(right).double().mean().item()}

    def stop() -> int:
        return int(time.perf_counter() - began > options.seconds)

    try:
        history = train(
            model, data, config, dynamics=dynamics, evaluate=accuracy, checkpoint=options.full / "run.pt", stop=stop
        )
    except Interrupted as stopped:
        print(stopped)
        history = []
    wall, cpu = before[0] + time.perf_counter() - began, before[1] + time.process_time() - processor
    spent.write_text(f"{wall} {cpu}")
    print(f"so far {wall:.0f} s, {cpu:.0f} s of processor time; {options.threads} threads, {config}")
    if history:
        print(f"held-out accuracy {history[-1].extra['heldout_accuracy']:.4f} after {len(history)} epochs")
        print(dynamics.frame().groupby("epoch")[["correct_exposed", "correct_flipped", "correct_full"]].mean().tail(3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="cpu, or cuda (not for --full)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--full", type=Path, metavar="FOLDER", help="train on everything; FOLDER keeps the checkpoint")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="of --full in this call")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.full:
        full(options)
    else:
        compare(options)


if __name__ == "__main__":
    main()
