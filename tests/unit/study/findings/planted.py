"""Studies with a known answer: a planted effect should be found, and none where none was planted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from study.analysis.inputs import Similarity, Study
from study.context.runs import Run
from study.data.scenarios.scenario import Scenario
from study.removal.orders import removal_orders

SETTINGS = {"difficulty_quantile": 0.3, "confidence": 0.95, "fraction": 0.2}
SEEDS = [0, 1, 2, 3]
TRAIN, PLACEBO, HELDOUT, CLASSES = 200, 30, 60, 4
EPOCHS = np.arange(0, 9)
SAMPLE = 80


def planted_study(
    *,
    effect: bool = True,
    fraction: float = 0.0,
    informative: float = 0.0,
    shuffle_influence: bool = False,
    removal: pd.DataFrame | None = None,
) -> Study:
    """Four seeds of one scenario.

    Args:
        effect: difficulty slows learning down, raises memorization and turns gradients away from one another, and
            random labels are the most difficult; False: memorization is drawn apart from everything else.
        fraction: of random labels, the first examples; all of them wrong.
        informative: how much more influence the most difficult examples have.
        shuffle_influence: give every example another one's influence.
        removal: accuracies of retrained networks.
    """
    rng = np.random.default_rng(7)
    n = TRAIN + PLACEBO + HELDOUT
    labels = rng.integers(0, CLASSES, n)
    is_random = np.arange(n) < fraction * TRAIN
    examples = pd.DataFrame(
        {
            "id": np.arange(n),
            "split": np.repeat(["train", "placebo", "heldout"], [TRAIN, PLACEBO, HELDOUT]),
            "given": labels,
            "original": (labels + is_random) % CLASSES,
            "is_random": is_random,
        }
    )
    hard = np.where(is_random[:TRAIN], 1.0, rng.permutation(np.linspace(0, 1, TRAIN)))
    name = "mixed" if fraction else "real"
    runs = [Run(name, "head", seed) for seed in SEEDS]
    made = {run: _run(run.seed, hard, labels[:TRAIN], effect, informative, shuffle_influence) for run in runs}
    classes = tuple(str(label) for label in range(CLASSES))
    return Study(
        scenarios={name: Scenario(name, np.zeros((n, 1, 2, 2), np.uint8), examples, classes, "planted")},
        seeds={"head": SEEDS},
        dynamics={run: of[0] for run, of in made.items()},
        memorization={run: of[1] for run, of in made.items()},
        totals={run: of[2] for run, of in made.items()},
        placebo=dict.fromkeys(runs, pd.DataFrame({"id": [0], "total": [0.5], "total_same_class": [0.25]})),
        targets=dict.fromkeys(runs, examples[-HELDOUT:]),
        top={},
        train_metrics={},
        estimate_metrics={},
        similarity={run: of[3] for run, of in made.items()},
        removal=removal,
    )


def _run(
    seed: int, hard: np.ndarray, labels: np.ndarray, effect: bool, informative: float, shuffle: bool
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, Similarity]:
    rng = np.random.default_rng([seed, 11])
    ids = np.arange(TRAIN)
    # Without an effect every seed draws its own difficulty, so that other seeds say nothing about it.
    own = hard if effect else rng.permutation(hard)
    speed = 1.2 - own + rng.normal(0, 0.05, TRAIN)
    exposed = 2.3 * np.exp(-np.outer(EPOCHS, np.maximum(speed, 0.1)) / 3) + rng.normal(0, 0.02, (len(EPOCHS), TRAIN))
    flipped = exposed + np.outer(EPOCHS / EPOCHS[-1], 2 * own)
    # What no network trained on is as likely in both halves.
    unseen = 2.3 + rng.normal(0, 0.02, (2, len(EPOCHS), PLACEBO))
    exposed, flipped = np.hstack([exposed, unseen[0]]), np.hstack([flipped, unseen[1]])
    dynamics = pd.DataFrame(
        {
            "epoch": np.repeat(EPOCHS, TRAIN + PLACEBO),
            "id": np.tile(np.arange(TRAIN + PLACEBO), len(EPOCHS)),
            "loss_exposed": exposed.ravel(),
            "loss_flipped": flipped.ravel(),
            "correct_exposed": (exposed < 0.69).ravel(),
        }
    )
    noise = rng.normal(0, 0.1, TRAIN)
    memorization = pd.DataFrame({"id": ids, "split": "train", "probability": own + noise})
    total = rng.normal(1, 0.5, TRAIN) + informative * (own > 0.7)
    if shuffle:
        total = rng.permutation(total)
    totals = pd.DataFrame({"id": ids, "total": total, "total_same_class": 0.5 * total})
    return dynamics, memorization, totals, _similarity(rng, own, labels)


def _similarity(rng: np.random.Generator, hard: np.ndarray, labels: np.ndarray) -> Similarity:
    """Gradients are one direction for every class, and the more noise the harder the example."""
    classes = rng.normal(0, 1, (CLASSES, 30))
    gradients = classes[labels[:SAMPLE]] + 3 * hard[:SAMPLE, None] * rng.normal(0, 1, (SAMPLE, 30))
    gradients /= np.linalg.norm(gradients, axis=1, keepdims=True)
    pairs = (gradients @ gradients.T)[np.triu_indices(SAMPLE, 1)].astype(np.float16)
    both = np.stack([pairs, pairs])
    return Similarity(np.arange(SAMPLE), np.array([0, 2]), {"exposed": both, "full": both})


def neighbour_world(noise: float) -> tuple[pd.DataFrame, Study]:
    """Removals in a world where a nearest-neighbour classifier is retrained for real.

    Every class is one common cluster, shown by many alike examples, and rare ones, each shown by a single example:
    uniquely informative. With noise some of the common examples get another class. Whoever is wrong without itself is
    memorized: Feldman's definition, which nearest neighbours give in closed form.
    """
    rows = [row for seed in SEEDS for row in _removals(seed, noise)]
    columns = ["scenario", "seed", "order", "action", "fraction", "train", "heldout_accuracy", "heldout_loss"]
    removal = pd.DataFrame(rows, columns=columns)
    return removal, planted_study(fraction=noise, removal=removal)


def _removals(seed: int, noise: float) -> Iterator[tuple[object, ...]]:
    rng = np.random.default_rng([seed, 5])
    # A single example of a cluster looks as wrong to its neighbours as a wrong label: with noise there are few such.
    rare = 8 if noise else 40
    common = TRAIN - rare
    centres = rng.normal(0, 10, (CLASSES + rare, 12))
    cluster = np.concatenate([rng.integers(0, CLASSES, common), CLASSES + np.arange(rare)])
    truth = np.where(cluster < CLASSES, cluster, cluster % CLASSES)
    x = centres[cluster] + rng.normal(0, 1, (TRAIN, 12))
    given = truth.copy()
    wrong = rng.permutation(common)[: round(noise * TRAIN)]
    given[wrong] = (given[wrong] + 1) % CLASSES
    of = rng.choice(cluster, 1000)
    targets, expected = centres[of] + rng.normal(0, 1, (1000, 12)), np.where(of < CLASSES, of, of % CLASSES)

    def judged(kept: np.ndarray) -> tuple[float, float]:
        """Held-out accuracy, and loss if the neighbour's label is given a probability of .9."""
        distances = ((targets[:, None] - x[kept][None]) ** 2).sum(2)
        right = given[kept][distances.argmin(1)] == expected
        return float(right.mean()), float(-np.log(np.where(right, 0.9, 0.1 / (CLASSES - 1))).mean())

    between = ((x[:, None] - x[None]) ** 2).sum(2)
    np.fill_diagonal(between, np.inf)
    others = np.argsort(between, axis=1)[:, :7]
    memorized = (given[others] != given[:, None]).mean(1) + rng.uniform(0, 1e-3, TRAIN)
    orders = removal_orders(memorized, given, seed)
    name = "mixed" if noise else "real"
    yield name, seed, "none", "remove", 0.0, TRAIN, *judged(np.arange(TRAIN))
    for fraction in (0.05, 0.1, 0.2):
        count = round(fraction * TRAIN)
        for order, ids in orders.items():
            yield name, seed, order, "remove", fraction, TRAIN - count, *judged(ids[count:])
            if order.startswith("balanced"):
                yield name, seed, order, "keep", fraction, count, *judged(ids[:count])
    if noise:
        left = np.setdiff1d(np.arange(TRAIN), wrong)
        for order in ("flagged", "oracle"):
            yield name, seed, order, "remove", noise, len(left), *judged(left)
