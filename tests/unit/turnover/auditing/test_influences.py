"""Influences of mistakes, against the whole matrix."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from turnover import influence
from turnover.auditing.evidence import Evidence, gather
from turnover.auditing.influences import influence_table
from turnover.auditing.inputs import Inputs, in_memory
from turnover.auditing.settings import choose

COUNT, CLASSES = 1500, 3  # more rows than a tile has


@pytest.fixture(scope="module")
def found() -> tuple[Inputs, torch.Tensor, Evidence]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(COUNT) % CLASSES
    data = torch.randn(COUNT, 8, generator=generator) + 1.5 * torch.nn.functional.one_hot(labels, 8)
    settings = choose(COUNT, [], {"epochs": 3, "hidden": 32, "threads": 1, "device": "cpu"})
    evidence = gather(data, labels, CLASSES, settings, checkpoint=None, progress=False, stop=None)
    return in_memory(data.numpy(), labels.numpy(), None), data, evidence


@pytest.mark.parametrize("split", [False, True])
def test_as_the_whole_matrix_has_them(found: tuple[Inputs, torch.Tensor, Evidence], split: bool) -> None:
    inputs, data, evidence = found
    mistakes = torch.tensor([1400, 7, 701])
    train = np.arange(COUNT) % 7 != 0
    if split:
        inputs = dataclasses.replace(inputs, splits=tuple(np.where(train, "train", "test").tolist()))
    labels = torch.from_numpy(inputs.labels)
    whole = influence(evidence.network, evidence.readings, data[mistakes], labels[mistakes]).numpy()
    table = influence_table(inputs, data, evidence, mistakes)
    assert table["name"].drop_duplicates().tolist() == ["1400", "7", "701"]
    for target, place in enumerate(mistakes.tolist()):
        scores = whole[:, target].copy()
        scores[place] = 0.0
        if split:
            scores[~train] = 0.0
        of_target = table[table["name"] == str(place)].set_index("kind")
        for kind, order in (("helpful", np.argsort(-scores)), ("harmful", np.argsort(scores))):
            rows = of_target.loc[kind]
            assert rows["example"].astype(int).tolist() == order[:5].tolist()
            assert rows["rank"].tolist() == [1, 2, 3, 4, 5]
            np.testing.assert_allclose(rows["influence"], scores[order[:5]], rtol=1e-4, atol=1e-6)
            assert rows["example_label"].astype(int).tolist() == labels[order[:5]].tolist()


def test_fewer_examples_than_are_named(found: tuple[Inputs, torch.Tensor, Evidence]) -> None:
    inputs, data, evidence = found
    few = tuple("train" if place in (3, 4) else "test" for place in range(COUNT))
    table = influence_table(dataclasses.replace(inputs, splits=few), data, evidence, torch.tensor([8]))
    assert sorted(table["example"]) == ["3", "4"], "each helps or harms"
    assert (np.sign(table["influence"]) == table["kind"].map({"helpful": 1, "harmful": -1})).all()


def test_no_mistakes(found: tuple[Inputs, torch.Tensor, Evidence]) -> None:
    inputs, data, evidence = found
    assert influence_table(inputs, data, evidence, torch.tensor([], dtype=torch.int64)).empty
