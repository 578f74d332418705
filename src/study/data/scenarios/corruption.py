"""Make a scenario: draw the study's examples from a data set, and give a fraction of them random labels."""

from __future__ import annotations

import numpy as np
import pandas as pd

from study.context.params import DataParams
from study.data.scenarios.labels import randomize
from study.data.scenarios.scenario import SPLITS, Scenario
from study.data.sources.dataset import Dataset
from turnover.errors import UserError


def make_scenario(
    name: str, dataset: Dataset, data: DataParams, *, fraction: float, kind: str, label_seed: int
) -> Scenario:
    """Draw the study's examples from `dataset` and give a fraction of them random labels.

    Training examples and placebos come from the training part, held-out examples from the test part; the held-out
    ones keep their labels. Which examples are drawn depends on `data` alone, so scenarios differ in labels only.
    Where the data set's examples have names, the column ``name`` of `examples` holds them.

    Raises:
        UserError: the data set is too small.
    """
    sizes = {"train": data.train + data.placebo, "test": data.heldout}
    drawn = []
    for offset, part in enumerate(("train", "test")):
        available = len(getattr(dataset, part).labels)
        if sizes[part] > available:
            asked = "data.train + data.placebo" if part == "train" else "data.heldout"
            raise UserError(
                f"{asked} = {sizes[part]}, but the {part} part of {dataset.name} has {available} examples: "
                "ask for fewer"
            )
        rng = np.random.default_rng([data.seed, offset])
        drawn.append(rng.permutation(available)[: sizes[part]])
    original = np.concatenate([dataset.train.labels[drawn[0]], dataset.test.labels[drawn[1]]])
    given, is_random = original.copy(), np.zeros(len(original), dtype=bool)
    # Training examples and placebos are randomized apart, so that both hold exactly the same fraction.
    for rows, seed in ((slice(0, data.train), label_seed), (slice(data.train, sizes["train"]), label_seed + 1_000_003)):
        given[rows], is_random[rows] = randomize(original[rows], len(dataset.classes), fraction, seed=seed, kind=kind)
    counts = (data.train, data.placebo, data.heldout)
    examples = pd.DataFrame(
        {
            "id": np.arange(len(original)),
            "split": np.repeat(SPLITS, counts),
            "given": given,
            "original": original,
            "is_random": is_random,
            "source_part": np.repeat(("train", "test"), (sizes["train"], sizes["test"])),
            "source_index": np.concatenate(drawn),
        }
    )
    if dataset.train.names is not None and dataset.test.names is not None:
        examples["name"] = [dataset.train.names[i] for i in drawn[0]] + [dataset.test.names[i] for i in drawn[1]]
    images = np.concatenate([dataset.train.images[drawn[0]], dataset.test.images[drawn[1]]])
    return Scenario(name, np.ascontiguousarray(images), examples, dataset.classes, dataset.name)
