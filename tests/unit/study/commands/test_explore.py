"""`make explore` answers for an image as the page shows it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from study.commands.explore import explore, trained_of
from study.context.stage import Stage
from study.data.scenarios.scenario import load_scenario
from turnover import influence
from turnover.errors import UserError
from turnover.serving.answers import TOP, answer
from turnover.serving.trained import Trained


@pytest.fixture(scope="module")
def trained(results: Path) -> Trained:
    return trained_of(Stage(results, "explorer", {}))


def test_a_held_out_image_gets_the_scores_that_the_page_shows(results: Path, trained: Trained) -> None:
    text = (results / "reports/explorer.html").read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
    assert found
    data = json.loads(found[1])
    assert data["networks"] == len(trained.networks) > 1
    scenario = load_scenario(results / "data/scenarios/mixed")
    pairs = data["pairs"]
    for place in (0, 3):
        id_, label = data["targets"]["id"][place], data["targets"]["label"][place]
        asked = answer(trained, scenario.images[id_], label)
        of = [pair for pair, target in enumerate(pairs["target"]) if target == place]
        for kind, sign in (("helpful", 1), ("harmful", -1)):
            shown = [pair for pair in of if sign * pairs["influence"][pair] > 0][:TOP]
            assert [row["id"] for row in asked[kind]] == [
                str(data["training"]["id"][pairs["example"][pair]]) for pair in shown
            ]
            for row, pair in zip(asked[kind], shown, strict=True):
                assert row["influence"] == pytest.approx(pairs["influence"][pair], rel=2e-3, abs=1e-6)
                assert row["influence_se"] == pytest.approx(pairs["influence_se"][pair], rel=2e-3, abs=1e-6)
                assert row["agree"] == pairs["agree"][pair]
                assert row["given"] == data["training"]["given"][pairs["example"][pair]]


def test_a_new_image_s_scores_are_those_of_the_library(results: Path, trained: Trained) -> None:
    scenario = load_scenario(results / "data/scenarios/mixed")
    new = torch.from_numpy(255 - scenario.images[-1:])
    train = scenario.of("train")
    images, labels = torch.from_numpy(scenario.images[train["id"]]), torch.tensor(train["given"].to_numpy())
    data = (images, labels, torch.tensor(train["id"].to_numpy()))
    asked = {"estimate": "localized", "fused": False}
    scores = influence(trained.networks, data, new, torch.tensor([2]), **asked)[:, 0]
    found = answer(trained, new[0].numpy(), 2)
    order = scores.argsort(descending=True, stable=True)[:TOP].tolist()
    ids = trained.examples["id"].to_numpy()
    expected = [(str(ids[place]), scores[place].item()) for place in order if scores[place] > 0]
    assert [(row["id"], row["influence"]) for row in found["helpful"]] == expected, "the very bits"
    np.testing.assert_array_equal(trained.images, images.numpy())


def test_what_is_missing_is_named(tmp_path: Path, results: Path) -> None:
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_bytes((results / name).read_bytes())
    with pytest.raises(UserError, match=r"explorer\.html cannot be read"):
        explore(tmp_path)
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/explorer.html").write_bytes((results / "reports/explorer.html").read_bytes())
    with pytest.raises(UserError, match="data/scenarios"):
        explore(tmp_path)
