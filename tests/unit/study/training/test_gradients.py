"""Who is in the gradients' sample, and the file of their similarities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file

from study.context.params import GradientsParams
from study.data.scenarios.scenario import Scenario
from study.networks.named import build
from study.training.gradients import sample_ids, save_similarity, watch_gradients
from turnover.batches.examples import Examples
from turnover.masking.insertion import insert


def _scenario(random: int, train: int = 40) -> Scenario:
    split = np.repeat(["train", "heldout"], [train, 10])
    labels = np.zeros(50, np.int64)
    examples = pd.DataFrame(
        {"id": np.arange(50), "split": split, "is_random": np.arange(50) < random, "given": labels, "original": labels}
    )
    return Scenario("x", np.zeros((50, 1, 8, 8), np.uint8), examples, ("a", "b"), "none")


@pytest.mark.parametrize(
    ("random", "count", "of_random"), [(0, 10, 0), (40, 10, 10), (20, 10, 5), (3, 10, 3), (20, 99, 20)]
)
def test_the_sample_is_half_random_where_it_can_be(random: int, count: int, of_random: int) -> None:
    ids = sample_ids(_scenario(random), count)
    assert len(np.unique(ids)) == min(count, 40)
    assert (np.diff(ids) > 0).all() and ids.max() < 40
    assert (ids < random).sum() == of_random
    assert np.array_equal(ids, sample_ids(_scenario(random), count))


def test_the_file_says_whose_similarities_it_holds(tmp_path: Path) -> None:
    scenario = _scenario(20)
    images = torch.arange(40 * 64).view(40, 1, 8, 8).float().sin()
    order = torch.arange(40).flip(0)  # as if the training examples stood in another order
    trained = Examples(images, torch.arange(40) % 2, torch.arange(40))[order]
    recorder = watch_gradients(scenario, trained, GradientsParams(examples=10, layers=2), epochs=3)
    model = insert(build("mlp", (1, 8, 8), 2, hidden=16, layers=2), "head")
    for epoch in range(4):
        recorder.record(epoch, model)
    path = tmp_path / "run.safetensors"
    save_similarity(path, recorder)
    held = load_file(path)
    assert held["epochs"].tolist() == [0, 1, 2, 3]
    assert sorted(held["ids"]) == sample_ids(scenario, 10).tolist()
    assert held["exposed"].shape == held["full"].shape == (4, 45)
    before = path.read_bytes()
    save_similarity(path, recorder)
    assert path.read_bytes() == before
