"""Where the forms and constants of the left-out estimates were chosen: on a ground truth that judges nothing else.

2,000 Fashion-MNIST images with 10 % random labels and 1,000 targets, none of them in `data/validation`; subset networks
of the validation's architecture, 150 usual ones and 70 that are fitted. The turn-over and ordinary networks are trained
here; then every form is judged by both kinds of subset networks. The folder keeps what is finished.

    dvc repro validation_data@validation
    python benchmarks/choosing.py --folder build/choosing    # half an hour of processor time
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from study.context.params import RecipeParams
from study.data.scenarios.scenario import load_scenario
from study.data.sources.dataset import load
from study.networks.zoo.small import build_own, image_statistics
from study.retraining.lds import lds
from study.retraining.many import train_many
from study.retraining.ordinary import OrdinaryNetwork
from study.retraining.subsets import SubsetOutputs, draw_subsets
from turnover import insert, localize, neighbourhood, read, subnetwork
from turnover.attribution.influence import influence
from turnover.batches.examples import Examples
from turnover.batches.passes import evaluating
from turnover.masking.insertion import head
from turnover.reading.features import RIDGE, spectrum
from turnover.reading.votes import likeness, votes
from turnover.scoring.sharpening import newton_step
from turnover.training.loop import train
from turnover.training.settings import TrainingConfig

TRAIN, TARGETS, NOISE, CLASSES = 2000, 1000, 0.1, 10
JUDGES = {"usual": (150, 15), "fitted": (70, 30)}  # networks, epochs


def recipe(epochs: int) -> RecipeParams:
    return RecipeParams(
        epochs=epochs, batch_size=64, learning_rate=0.002, weight_decay=0.01, min_steps=0, precision="float32",
        device="cpu",
    )  # fmt: skip


def draw(raw: Path, taken: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images and given labels of training examples, then targets, none that `taken` holds; which labels are wrong."""
    data, rng = load(raw), np.random.default_rng(7)
    rows = load_scenario(taken).examples
    images, labels = [], []
    for part, count in (("train", TRAIN), ("test", TARGETS)):
        source = getattr(data, part)
        held = set(rows.source_index[rows.source_part == part])
        chosen = np.array([i for i in rng.permutation(len(source.labels)) if i not in held][:count])
        images.append(source.images[chosen])
        labels.append(source.labels[chosen])
    given = np.concatenate(labels)
    true, random = given.copy(), rng.permutation(TRAIN)[: int(NOISE * TRAIN)]
    given[random] = rng.integers(0, CLASSES, len(random))
    return np.concatenate(images), given, given != true


def judges(folder: Path, make: OrdinaryNetwork, images: Tensor, labels: Tensor) -> Iterator[tuple[str, SubsetOutputs]]:
    """The subset networks of both kinds."""
    for name, (count, epochs) in JUDGES.items():
        path = folder / f"truth-{name}.npz"
        if not path.exists():
            inside = np.zeros((count, len(labels)), dtype=np.bool_)
            inside[:, :TRAIN] = draw_subsets(TRAIN, count, 0.5, 5)
            seeds = [5_000_015 + network for network in range(count)]
            said = train_many(make, images, labels, inside, seeds, recipe(epochs), checkpoint=folder / "networks")
            SubsetOutputs(inside[:, :TRAIN], *said).save(path)
        yield name, SubsetOutputs.load(path)


def whitened(train: Tensor, every: Tensor, ridge: float, directions: int, *, centred: bool = True) -> Tensor:
    of = spectrum([train])
    of = of if centred else of._replace(mean=torch.zeros_like(of.mean))
    return of.whitened(every, ridge, directions)


class Seen:
    """One trained network: what enters its last two layers, its predictions over training, and its own scores."""

    def __init__(self, make: OrdinaryNetwork, data: Examples, kind: str, seed: int) -> None:
        self.kind, trained, targets = kind, data[:TRAIN], data[TRAIN:]
        model: nn.Module = make(seed)
        masked = kind.startswith("keep")
        if masked:
            model = insert(model, after="head", keep=float(kind.split()[1]), seed=seed)
        if kind == "dropout":
            head(model).register_forward_pre_hook(lambda module, given: F.dropout(given[0], 0.5, module.training))
        said: list[Tensor] = []
        flipped: list[Tensor] = []

        def look(network: nn.Module) -> dict[str, float]:
            with evaluating(network):
                said.append(torch.cat([network(x).softmax(1) for x in torch.split(data.images, 500)]))
                if masked:
                    with subnetwork(network, trained.ids, flipped=True):
                        flipped.append(network(trained.images).softmax(1))
            return {}

        config = TrainingConfig(epochs=15, batch_size=64, learning_rate=0.002, weight_decay=0.01, seed=seed)
        train(model, trained, config, turn_over=masked, evaluate=look, progress=False)
        readings = read(model.eval(), data.images, data.labels, data.ids, masked=False)
        assert readings.features is not None and readings.inner is not None
        self.features, self.inner = readings.features[:], readings.inner[:]
        self.weight = head(model).weight.detach()
        self.averaged = torch.stack(said).mean(0)
        self.flipped = torch.stack(flipped).mean(0) if masked else None
        near = neighbourhood(model, trained.images, trained.labels)
        self.leverage, self.support = near["leverage"].to_numpy(), near["support"].to_numpy()
        self.measured: dict[str, Tensor] = {}
        if masked:
            pairs = (trained.images, trained.labels, trained.ids), (targets.images, targets.labels)
            self.measured = {e: influence(model, *pairs, estimate=e) for e in ("raw", "localized", "pooled")}
        same = torch.where(trained.labels[:, None] == targets.labels, 1.0, -1.0)
        self.measured["labels x similarity"] = localize(same, model, trained.images, targets.images)

    def shares(self, sharpness: float = 4.0) -> Tensor:
        unit = F.normalize(whitened(self.features[:TRAIN], self.features, RIDGE, 256), dim=1)
        itself = torch.arange(TRAIN), torch.arange(TRAIN)
        return votes(likeness(unit, unit[:TRAIN], sharpness, itself), self.labels[:TRAIN], CLASSES)

    labels: Tensor

    def left_out(self, shares: Tensor, **settings: Any) -> Tensor:
        """The product of both `kernels`."""
        alike, residual = self.kernels(shares, **settings)
        return alike * residual

    def kernels(
        self,
        shares: Tensor,
        inner: float | None = 7e-4,
        head_ridge: float = 1e-4,
        gradient: float | None = 1e-2,
        directions: int = 512,
    ) -> tuple[Tensor, Tensor]:
        """Of what enters the inner layer (None: the head), and of the gradients (None: residuals): [train, target]."""
        entering, ridge = (self.features, head_ridge) if inner is None else (self.inner, inner)
        alike = whitened(entering[:TRAIN], entering, ridge, directions)
        residual = F.one_hot(self.labels, CLASSES).float() - shares
        if gradient is not None:
            reaching = residual @ self.weight * (self.features > 0)
            residual = whitened(reaching[:TRAIN], reaching, gradient, 256, centred=False)
        return alike[:TRAIN] @ alike[TRAIN:].T, residual[:TRAIN] @ residual[TRAIN:].T


def combined(left_out: Tensor, measured: Tensor, share: float) -> Tensor:
    return left_out + share * left_out.std(0) / measured.std(0) * measured


def influences(network: Seen) -> Iterator[tuple[str, Tensor]]:
    shares = network.shares()
    yield from network.measured.items()
    default = network.left_out(shares)
    yield "left-out", default
    with_training = network.left_out((shares + network.averaged) / 2)
    yield "left-out, with training", with_training
    if "localized" in network.measured:
        for share in (0.1, 0.25):
            measured = network.measured["localized"]
            yield f"combined, with training, share {share:g}", combined(with_training, measured, share)
    yield "left-out, residuals as they are", network.left_out(shares, gradient=None)
    yield "left-out, of what enters the head", network.left_out(shares, inner=None)
    yield "left-out, of the head, residuals as they are", network.left_out(shares, inner=None, gradient=None)
    if network.kind != "keep 0.5":
        return
    for ridge in (5e-4, 1e-3, 2e-3):
        yield f"left-out, ridge {ridge:g}", network.left_out(shares, inner=ridge)
    yield "left-out, 256 directions", network.left_out(shares, directions=256)
    for ridge in (3e-3, 3e-2):
        yield f"left-out, gradients' ridge {ridge:g}", network.left_out(shares, gradient=ridge)
    for sharpness in (3.0, 6.0):
        yield f"left-out, votes sharpness {sharpness:g}", network.left_out(network.shares(sharpness))
    for share in (0.1, 0.25, 0.4):
        yield f"combined, share {share:g}", combined(default, network.measured["localized"], share)


def together(networks: Sequence[Seen]) -> Iterator[tuple[str, Tensor]]:
    """Forms that need all networks at once, all with the predictions over training."""
    own = [network.shares() for network in networks]
    both = [(shares + network.averaged) / 2 for shares, network in zip(own, networks, strict=True)]
    voted, said = torch.stack(own).mean(0), torch.stack([network.averaged for network in networks]).mean(0)
    shares_of = {
        "votes of all": [(voted + network.averaged) / 2 for network in networks],
        "predictions of all": [(shares + said) / 2 for shares in own],
        "votes and predictions of all": [(voted + said) / 2] * len(networks),
    }
    for name, every in shares_of.items():
        yield name, _sum([network.left_out(shares) for network, shares in zip(networks, every, strict=True)])
    kernels = [network.kernels(shares) for network, shares in zip(networks, both, strict=True)]
    yield "kernels summed, and gradients", _sum([of[0] for of in kernels]) * _sum([of[1] for of in kernels])


def _sum(parts: Sequence[Tensor]) -> Tensor:
    """Of as many as there are, each with the same spread."""
    return torch.stack([part / part.std() for part in parts]).sum(0)


def witnesses(network: Seen) -> dict[str, np.ndarray]:
    """What is said of the given label without the example, or nearly."""
    rows, labels = np.arange(TRAIN), network.labels[:TRAIN].numpy()
    full = network.averaged[:TRAIN].numpy()[rows, labels]
    found = {"support": network.support, "support, full": (network.support + full) / 2}
    if network.flipped is not None:
        flipped = network.flipped.numpy()[rows, labels]
        found["support, full, flipped"] = (network.support + full + flipped) / 3
    return found


def memorizations(network: Seen) -> Iterator[tuple[str, np.ndarray]]:
    for name, before in witnesses(network).items():
        for step in (3, 10, 20, 40, 80):
            yield f"Newton from {name}, step {step}", newton_step(network.leverage * step / 40, before)
        yield f"leverage x (1 - {name})", network.leverage * (1 - before)


def table(title: str, found: dict[str, list[Any]], figures: Mapping[str, Callable[[Any], float]]) -> None:
    print(f"\n| {title} | " + " | ".join(f"{name}, one / two / four" for name in figures) + " |")
    for name, scores in found.items():
        line = []
        for figure in figures.values():
            groups = [[scores[i]] for i in range(len(scores))], [scores[:2], scores[2:4]], [scores[:4]]
            means = [np.mean([figure(sum(group)) for group in of if group]) for of in groups]
            line.append(" / ".join(f"{value:.3f}" for value in means))
        print(f"| {name} | " + " | ".join(line) + " |", flush=True)


def from_four(title: str, scores: Iterable[tuple[str, Tensor]], figures: Mapping[str, Callable[[Any], float]]) -> None:
    print(f"\n| {title} | " + " | ".join(figures) + " |")
    for name, of in scores:
        print(f"| {name} | " + " | ".join(f"{figure(of):.3f}" for figure in figures.values()) + " |", flush=True)


def foretold(truth: SubsetOutputs, scores: Tensor) -> float:
    return float(lds(scores, truth.inside, -truth.loss[:, TRAIN:].astype(np.float64)).mean())


def agreeing(truth: SubsetOutputs, scores: np.ndarray) -> float:
    return float(spearmanr(scores, truth.memorization()).statistic)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("build/choosing"))
    parser.add_argument("--raw", type=Path, default=Path("data/raw"))
    parser.add_argument("--taken", type=Path, default=Path("data/validation/validation"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    pixels, given, wrong = draw(options.raw, options.taken)
    images, labels = torch.from_numpy(pixels), torch.from_numpy(given).long()
    mean, std = image_statistics(images[:TRAIN])
    make = OrdinaryNetwork(
        build_own, "cnn", {"channels": [16, 32, 64], "hidden": 2048}, (1, 28, 28), CLASSES, tuple(mean), tuple(std)
    )
    truths = dict(judges(options.folder, make, images, labels))
    for name, truth in truths.items():
        found = roc_auc_score(wrong[:TRAIN], 1 - truth.heldout("probability")[:TRAIN])
        print(f"wrong labels by the held-out probability in the {name} subset networks: AUROC {found:.3f}", flush=True)
    data = Examples(images, labels, torch.arange(len(labels)))
    Seen.labels = labels
    torch.set_num_threads(1)
    with_training: dict[str, list[Tensor]] = {}
    by_judge = {name: partial(foretold, truth) for name, truth in truths.items()}
    for kind in ("keep 0.5", "keep 0.75", "keep 0.9", "ordinary", "dropout"):
        influence_of: dict[str, list[Any]] = {}
        memorization_of: dict[str, list[Any]] = {}
        suspicion_of: dict[str, list[Any]] = {}
        networks = [Seen(make, data, kind, seed + (0 if kind.startswith("keep") else 10_000)) for seed in range(4)]
        for network in networks:
            for name, scores in influences(network):
                influence_of.setdefault(name, []).append(scores / scores.std())
            for name, score in memorizations(network):
                memorization_of.setdefault(name, []).append(score)
            for name, before in witnesses(network).items():
                suspicion_of.setdefault(f"1 - {name}", []).append(1 - before)
        table(f"{kind}: LDS", influence_of, by_judge)
        with_training[kind] = influence_of["left-out, with training"]
        if kind == "keep 0.75":
            from_four(f"{kind}: LDS from all networks at once", together(networks), by_judge)
        agreement = {name: partial(agreeing, truth) for name, truth in truths.items()}
        table(f"{kind}: memorization", memorization_of, agreement)
        table(f"{kind}: wrong labels", suspicion_of, {"AUROC": partial(roc_auc_score, wrong[:TRAIN])})
    mixed = (
        (f"two {one}, two {other}", _sum([*with_training[one][:2], *with_training[other][2:]]))
        for one, other in combinations(with_training, 2)
    )
    from_four("LDS of two kinds mixed, with training", mixed, by_judge)


if __name__ == "__main__":
    main()
