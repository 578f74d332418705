"""How near to retraining: forms of the influence and memorization estimates against subset-trained networks.

Trains a few networks with turn-over dropout on the validation examples, and compares estimates made from them with the
outputs of ordinary networks trained on random subsets. Besides, what can be seen without any retraining: how well
like examples predict each other's given label (leave-one-out log loss), which is smallest near the settings that
agree best.

    python benchmarks/sharpness.py                 # ground_truth/validation.npz and data/validation/validation
    python benchmarks/sharpness.py --help
"""

from __future__ import annotations

import argparse
import os
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pandas as pd
import torch
from agreement import network
from scipy.special import expit
from scipy.stats import rankdata, spearmanr
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from study.data.scenarios.scenario import Scenario, load_scenario
from study.networks.zoo.small import image_statistics
from turnover import average_over_training, influence, insert, memorization, neighbourhood, sharpen
from turnover.attribution.nearness import Localized, similarity
from turnover.batches.examples import Examples
from turnover.reading.features import features_of
from turnover.training.dynamics import Dynamics, schedule
from turnover.training.loop import train
from turnover.training.settings import TrainingConfig

RIDGES = (1e-5, 1e-4, 3.5e-4, 1e-3, 1e-2)
SHARPNESS = (1.0, 2.0, 3.0, 4.0, 8.0)


class Truth:
    """Outputs of the subset networks; see docs/retraining.md for the file."""

    def __init__(self, path: Path, train: int) -> None:
        with np.load(path) as stored:
            self.inside = np.unpackbits(stored["inside"], axis=1)[:, :train].astype(bool)
            self.margin = stored["margin"].astype(np.float32)  # log-odds of the given label, [networks, examples]
        chance = expit(self.margin[:, :train])
        self.outside = (chance * ~self.inside).sum(0) / (~self.inside).sum(0)
        self.memorization = (chance * self.inside).sum(0) / self.inside.sum(0) - self.outside

    def lds(self, scores: Tensor, targets: np.ndarray) -> float:
        """Spearman over networks of a target's log-odds (so of its loss) with the sum of scores over the subset."""
        ranks = [
            rankdata(v, axis=0) for v in (self.inside.astype(np.float32) @ scores.numpy(), self.margin[:, targets])
        ]
        first, second = (r - r.mean(0) for r in ranks)
        return float(((first * second).sum(0) / np.sqrt((first**2).sum(0) * (second**2).sum(0) + 1e-9)).mean())


def examples(scenario: Scenario, *splits: str) -> Examples:
    rows = scenario.of(*splits)
    ids = torch.tensor(rows["id"].to_numpy())
    return Examples(torch.from_numpy(scenario.images)[ids], torch.tensor(rows["given"].to_numpy()), ids)


def plain_cosine(model: nn.Module, train_x: Tensor, x: Tensor) -> Tensor:
    """Cosine [train, target] of centred features, not whitened."""
    features, targets = features_of(model, train_x), features_of(model, x)
    mean = features.mean(0)
    return nn.functional.normalize(features - mean, dim=1) @ nn.functional.normalize(targets - mean, dim=1).T


def label_loss(cosine: Tensor, labels: Tensor, sharpness: float, classes: int) -> float:
    """Leave-one-out log loss of the given labels, each predicted by the weighted labels of the others."""
    weight = cosine.clamp(0.0, 1.0) ** sharpness
    weight.fill_diagonal_(0.0)
    votes = weight @ nn.functional.one_hot(labels.long(), classes).float() + 1e-6
    return float(-(votes / votes.sum(1, keepdim=True)).gather(1, labels.long().unsqueeze(1)).log().mean())


def partial_spearman(first: np.ndarray, second: np.ndarray, given: np.ndarray) -> float:
    """Spearman of two, with a third held constant."""
    r = np.corrcoef([rankdata(v) for v in (first, second, given)])
    return float((r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data/validation/validation"))
    parser.add_argument("--truth", type=Path, default=Path("ground_truth/validation.npz"))
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--first-seed", type=int, default=20)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--epochs", type=int, default=15)
    options = parser.parse_args()
    scenario = load_scenario(options.data)
    trained, heldout = examples(scenario, "train"), examples(scenario, "heldout")
    truth = Truth(options.truth, len(trained))
    rows = scenario.of("train")
    wrong = (rows["given"] != rows["original"]).to_numpy()
    classes, columns = len(scenario.classes), heldout.ids.numpy()
    same = torch.where(trained.labels[:, None] == heldout.labels, 1.0, -1.0)

    influences: dict[str, list[Tensor]] = {}
    criteria: dict[str, list[float]] = {}
    scores: dict[str, list[np.ndarray]] = {}
    statistics = image_statistics(trained.images)
    started = time.perf_counter()
    for seed in range(options.first_seed, options.first_seed + options.runs):
        model = insert(network(seed, options.width, *statistics), after="head", seed=seed)
        dynamics = Dynamics(trained, schedule(options.epochs))
        config = TrainingConfig(epochs=options.epochs, batch_size=64, learning_rate=2e-3, seed=seed)
        train(model, trained, config, dynamics=dynamics)
        raw = influence(model, trained.ids, heldout.images, heldout.labels)
        margin = influence(model, trained.ids, heldout.images, heldout.labels, "margin")
        found = {"raw loss": raw, "raw margin": margin, "same label alone": same}
        plain = plain_cosine(model, trained.images, heldout.images)
        own = plain_cosine(model, trained.images, trained.images)
        for power in (2.0, 12.0):
            found[f"loss x plain cosine^{power:g}"] = raw * plain.clamp(min=0.0) ** power
            criteria.setdefault(f"loss x plain cosine^{power:g}", []).append(
                label_loss(own, trained.labels, power, classes)
            )
        for ridge in RIDGES:
            of_targets = partial(features_of, model, heldout.images, None)
            near = similarity(model, Localized(trained.images, ridge=ridge), of_targets)
            cosine = near.train @ near.targets(slice(0, len(heldout))).T
            own = near.train @ near.train.T
            for power in SHARPNESS:
                factor = cosine.clamp(min=0.0) ** power
                name = f"ridge {ridge:g}, sharpness {power:g}"
                found[name] = raw * factor
                criteria.setdefault(name, []).append(label_loss(own, trained.labels, power, classes))
                if (ridge, power) == (3.5e-4, 2.0):
                    found["margin x the default factor"] = margin * factor
                    found["label agreement x the default factor"] = same * factor
        for name, value in found.items():
            influences.setdefault(name, []).append(value)
        last = memorization(model, trained.images, trained.labels, trained.ids)
        average = average_over_training(dynamics.frame())
        around = neighbourhood(model, trained.images, trained.labels)
        for name, column in {
            "probability, last checkpoint": last["probability"],
            "probability, over training": average["probability"],
            "flipped loss, last checkpoint": last["loss_flipped"],
            "cumulative loss (full network)": average["loss_full"],
            "1 - p_full, over training": 1 - average["probability_full"],
            "leverage x (1 - p_full), no masks": around["leverage"] * (1 - average["probability_full"]),
            "sharpened, last checkpoint": sharpen(last, around)["sharpened"],
            "sharpened, over training": sharpen(average, around)["sharpened"],
            "1 - support": 1 - around["support"],
        }.items():
            scores.setdefault(name, []).append(column.to_numpy(np.float64))
        print(f"seed {seed}: {time.perf_counter() - started:.0f} s", flush=True)

    several = f"mean of {options.runs}"
    table = pd.DataFrame(
        {
            "estimate": name,
            "LDS, one run": np.mean([truth.lds(value, columns) for value in values]),
            several: truth.lds(torch.stack(values).mean(0), columns),
            "label loss": np.mean(criteria.get(name, [np.nan])),
        }
        for name, values in influences.items()
    )
    print(table.to_string(index=False, float_format="%.3f"))
    cumulative = scores["cumulative loss (full network)"]
    table = pd.DataFrame(
        {
            "estimate": name,
            "Spearman, one run": np.mean([spearmanr(v, truth.memorization).statistic for v in values]),
            several: spearmanr(np.mean(values, axis=0), truth.memorization).statistic,
            "held-out p": -np.mean([spearmanr(v, truth.outside).statistic for v in values]),
            "given cumulative loss": np.mean(
                [
                    partial_spearman(v, truth.memorization, c) if v is not c else np.nan
                    for v, c in zip(values, cumulative, strict=True)
                ]
            ),
            "mislabel AUROC": np.mean([roc_auc_score(wrong, v) for v in values]),
            f"AUROC, {several}": roc_auc_score(wrong, np.mean(values, axis=0)),
        }
        for name, values in scores.items()
    )
    print(table.to_string(index=False, float_format="%.3f"))


if __name__ == "__main__":
    main()
