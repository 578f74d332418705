"""Removal as a judge of influence: is a prediction lost without the training examples that a method calls most helpful?

For each of some held-out examples that the networks predict rightly, every method names the k most helpful training
examples. Ordinary networks, recipe and architecture of `study.retraining`, are trained without them, and compared with
networks of the same seeds trained on everything: by how much does the target's loss rise, how often does its prediction
flip? Random examples of the target's class are the control. All methods have the same targets, seeds and k.

Every network is kept as soon as it is trained: the same command goes on where it stopped.

    dvc repro validation_data@validation_digits
    python benchmarks/brittleness.py                 # a quarter of an hour of one core, into docs/brittleness.csv
    python benchmarks/brittleness.py --show          # the table of docs/validation.md, from docs/brittleness.csv
    python benchmarks/brittleness.py --set validation --targets 6 --out build/brittleness.csv
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pandas as pd
import torch

from study.artefacts.files import write_csv
from study.artefacts.kept import KeptResults
from study.commands.judge import load_problem
from study.peers.datamodels import datamodels
from study.retraining.many import train_many
from study.retraining.subsets import SubsetOutputs
from study.validation.ours import control_rows, kept_more_rows, turn_over_rows
from study.validation.peers import peer_rows
from study.validation.resampling import draw_weights, estimate
from study.validation.runs import kept_more_run, ordinary_run, turn_over_run
from study.validation.settings import Problem
from turnover.progress import progress_bar

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "docs" / "brittleness.csv"
SEED = 80_000  # networks that lack examples start neither from a judge's weights nor from those of one that is judged
DEFAULT, CONTROL = "turn-over combined", "random, same label"
KEEP = 0.75  # of the units, in the form of docs/method.md
ONE_RUN = f"{DEFAULT}, one run"
METHODS = (
    "turn-over left-out",
    "turn-over pooled",
    "turn-over raw",
    "left-out, keep 0.75, with training",
    "left-out without turn-over",
    "left-out without turn-over, with training",
    "influence function (dattri head)",
    "EK-FAC influence function (kronfluence)",
    "TRAK (dattri head ridge 0.1)",
    "TracIn (dattri head)",
    "similarity without turn-over",
)


@dataclass(frozen=True)
class Outcome:
    """What removal did to every target under every seed: [seeds, targets] each.

    Args:
        rise: of the loss, in nats, over the network of the same seed that was trained on everything.
        flipped: the right prediction was lost.
    """

    rise: np.ndarray
    flipped: np.ndarray


def influences(problem: Problem, kept: KeptResults) -> dict[str, np.ndarray]:
    """Every method's influence [train, target], from four networks (EK-FAC: one; datamodels: all subset networks)."""
    seeds, train = problem.settings.seeds, problem.train
    runs = [kept.get(f"turn-over-{seed}", partial(turn_over_run, problem, seed)) for seed in seeds]
    networks = [kept.get(f"ordinary-{n}", partial(ordinary_run, problem, n)) for n in range(len(seeds))]
    kept_more = [kept.get(f"keep-{KEEP:g}-{seed}", partial(kept_more_run, problem, KEEP, seed)) for seed in seeds]
    rows = [*turn_over_rows(problem, runs), *kept_more_rows(KEEP, kept_more), *control_rows(problem, networks)]
    rows += peer_rows(problem, networks, kept)
    most = {row.method: row.influence[0] for row in rows if row.influence}  # the last row is of the most networks
    random = np.random.default_rng(SEED).random((len(train), len(problem.targets)))
    same = (train.labels[:, None] == problem.targets.labels).numpy()
    return {
        DEFAULT: most[DEFAULT],
        ONE_RUN: runs[0]["combined"],
        **{method: most[method] for method in METHODS},
        "datamodels": datamodels(problem.truth.inside, problem.goodness),
        CONTROL: same + random,
        "random": random,
    }


def without_most_helpful(influence: np.ndarray, k: int) -> np.ndarray:
    """Which examples are left when the k most helpful ones to each target go: bool [target, train]."""
    left = np.ones(influence.shape, dtype=np.bool_)
    np.put_along_axis(left, np.argsort(-influence, axis=0, kind="stable")[:k], False, axis=0)
    return left.T


def spread(difficulty: np.ndarray, able: np.ndarray, count: int) -> np.ndarray:
    """Indices of `count` of the `able` ones, at even steps of the ranks of `difficulty`, the easiest first."""
    order = np.flatnonzero(able)[np.argsort(difficulty[able], kind="stable")]
    return np.asarray(order[((np.arange(count) + 0.5) / count * len(order)).astype(np.int64)])


def trained(problem: Problem, inside: np.ndarray, seed: int, folder: Path) -> SubsetOutputs:
    """A network of one seed on every subset (bool [networks, train]), asked about training examples, then targets."""
    train, targets = problem.train, problem.targets
    seen = np.concatenate([inside, np.zeros((len(inside), len(targets)), dtype=np.bool_)], axis=1)
    images, labels = torch.cat([train.images, targets.images]), torch.cat([train.labels, targets.labels])
    seeds = [seed] * len(inside)
    said = train_many(
        problem.network, images, labels, seen, seeds, problem.recipe, processes=1, checkpoint=folder, progress=False
    )
    return SubsetOutputs(inside, *said)


def removals(problem: Problem, folder: Path, options: argparse.Namespace) -> dict[tuple[str, int], Outcome]:
    """What the removal of every method's k examples does, by method and k."""
    first = len(problem.train)
    found = influences(problem, KeptResults(folder))
    seeds, networks = range(SEED, SEED + options.seeds), folder / "networks"
    everything = [trained(problem, np.ones((1, first), dtype=np.bool_), seed, networks) for seed in seeds]
    right = np.all([network.correct[0, first:] for network in everything], axis=0)
    chosen = spread(-problem.goodness.mean(0), right, options.targets)
    before = np.stack([network.loss[0, first + chosen] for network in everything])
    after: dict[tuple[str, int], list[SubsetOutputs]] = {(method, k): [] for method in found for k in options.k}
    with progress_bar(total=len(seeds) * len(after) * len(chosen), unit="training", description="removal") as bar:
        for seed in seeds:
            for method, k in after:
                inside = without_most_helpful(found[method][:, chosen], k)
                after[method, k].append(trained(problem, inside, seed, networks))
                bar.update(len(chosen))
    own = np.arange(len(chosen)), first + chosen  # of each network the target whose examples it lacks
    return {
        key: Outcome(
            np.stack([network.loss[own] for network in of_seeds]) - before,
            np.stack([~network.correct[own] for network in of_seeds]),
        )
        for key, of_seeds in after.items()
    }


def figures(outcomes: dict[tuple[str, int], Outcome], resamples: int) -> pd.DataFrame:
    """Mean rise, share flipped, and rises in pairs with the control, the default and its one run; 95 % intervals.

    The bootstrap draws targets, each with all its seeds.
    """
    rows = []
    for (method, k), outcome in outcomes.items():
        of_targets = {
            "rise": outcome.rise,
            "flipped": outcome.flipped,
            "over_control": outcome.rise - outcomes[CONTROL, k].rise,
            "default_over_it": outcomes[DEFAULT, k].rise - outcome.rise,
            "one_run_over_it": outcomes[ONE_RUN, k].rise - outcome.rise,
        }
        row: dict[str, Any] = {"method": method, "k": k, "seeds": len(outcome.rise), "targets": outcome.rise.shape[1]}
        for name, values in of_targets.items():
            weights = draw_weights(values.shape[1], resamples, seed=0)
            mean = estimate(lambda value, drawn: drawn @ value / drawn.sum(1), [values.mean(0)], weights, 0.95)
            row |= {name: mean.value, f"{name}_low": mean.low, f"{name}_high": mean.high}
        rows.append(row)
    return pd.DataFrame(rows)


def show(table: pd.DataFrame) -> str:
    """The figures as a table of Markdown, one line a method, every k beside the others."""

    def interval(row: Any, name: str) -> str:
        return f"{row[name]:.2f} [{row[f'{name}_low']:.2f}, {row[f'{name}_high']:.2f}]"

    counts = table["k"].unique()
    heads = [f"rise, k = {k} | flipped | {DEFAULT} more by" for k in counts]
    lines = [f"| method | {' | '.join(heads)} |", "|---" + "|--:" * (3 * len(counts)) + "|"]
    for method, rows in table.groupby("method", sort=False):
        cells = [
            f"{interval(row, 'rise')} | {100 * row['flipped']:.0f} % | "
            + ("" if method == DEFAULT else interval(row, "default_over_it"))
            for row in rows.to_dict("records")
        ]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", default="validation_digits", help="one of `validation_sets` in params.yaml")
    parser.add_argument("--targets", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--k", nargs="+", type=int, default=[10, 40], help="how many training examples are removed")
    parser.add_argument("--folder", type=Path, default=ROOT / "build/brittleness", help="where networks are kept")
    parser.add_argument("--out", type=Path, default=KEPT)
    parser.add_argument("--show", action="store_true", help="only print the table")
    options = parser.parse_args()
    if not options.show:
        torch.set_num_threads(1)
        problem = load_problem(ROOT, options.set)
        outcomes = removals(problem, options.folder / options.set, options)
        write_csv(options.out, figures(outcomes, problem.settings.resamples), digits=4)
    print(show(pd.read_csv(options.out)))


if __name__ == "__main__":
    main()
