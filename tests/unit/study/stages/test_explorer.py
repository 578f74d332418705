"""The explorer's data are those of the runs and scores, and what cannot all be shown is chosen well."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from stages.estimate import influence_on_heldout
from stages.explorer import EXAMPLES, TOP, TOP_TARGETS, chosen_examples, pairs_table, strongest
from study.context.params import InfluenceParams
from study.context.runs import Run
from study.data.scenarios.scenario import load_scenario
from study.networks.masked import load_network
from tests.unit.study.fake_runs import EPOCHS, HELDOUT, PLACEBO, SEEDS, TRAIN

RUNS = [Run("mixed", "head", seed) for seed in SEEDS["head"]]


@pytest.fixture(scope="module")
def data(results: Path) -> dict[str, Any]:
    text = (results / "reports/explorer.html").read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
    assert found
    of: dict[str, Any] = json.loads(found[1])
    return of


def tables(results: Path, name: str) -> pd.DataFrame:
    """A table of all seeds below each other."""
    return pd.concat([pd.read_parquet(results / f"{of.scores}/{name}.parquet").assign(seed=of.seed) for of in RUNS])


def test_memorization_and_suspicion_are_means_over_the_seeds(results: Path, data: dict[str, Any]) -> None:
    scores = tables(results, "memorization")
    trained = scores[scores["split"] == "train"].groupby("id")
    shown = data["training"]
    assert shown["id"] == list(range(TRAIN))
    assert data["networks"] == len(RUNS)
    np.testing.assert_allclose(shown["memorization"], trained["probability"].mean(), rtol=1e-3)
    np.testing.assert_allclose(shown["memorization_loss"], trained["loss"].mean(), rtol=1e-3)
    spread = trained["probability"].std() / np.sqrt(len(RUNS))
    np.testing.assert_allclose(shown["memorization_se"], spread, rtol=2e-3)
    np.testing.assert_allclose(shown["suspicion"], 1 - trained["support"].mean(), rtol=1e-3)
    placebos = scores[scores["split"] == "placebo"].groupby("id")["probability"].mean()
    assert len(placebos) == PLACEBO
    np.testing.assert_allclose(data["placebos"], placebos.sort_values(), rtol=1e-3)


def test_curves_are_means_over_the_seeds(results: Path, data: dict[str, Any]) -> None:
    assert data["epochs"] == list(EPOCHS)
    dynamics = pd.concat([pd.read_parquet(results / of.folder / "dynamics.parquet") for of in RUNS])
    for network, kept in data["curves"].items():
        curve = np.frombuffer(base64.b64decode(kept), "<u2").reshape(TRAIN, len(EPOCHS)) / 10_000
        likely = np.exp(-dynamics[f"loss_{network}"].astype(float))
        mean = likely.groupby([dynamics["id"], dynamics["epoch"]]).mean().unstack().loc[: TRAIN - 1]
        np.testing.assert_allclose(curve, mean, atol=1e-4)


def test_targets_are_what_the_networks_say(results: Path, data: dict[str, Any]) -> None:
    said = tables(results, "influence/targets")
    shown = data["targets"]
    assert len(shown["id"]) == HELDOUT
    wrong = (said["predicted"] != said["given"]).groupby(said["id"]).sum()
    assert shown["wrong_networks"] == wrong.tolist()
    np.testing.assert_allclose(shown["probability"], np.exp(-said["loss"]).groupby(said["id"]).mean(), rtol=1e-3)
    mistaken = [a != b for a, b in zip(shown["predicted"], shown["label"], strict=True)]
    assert mistaken == (wrong > len(RUNS) / 2).tolist()


def test_influences_are_those_that_stage_estimate_computes(results: Path, data: dict[str, Any], tmp_path: Path) -> None:
    scenario = load_scenario(results / "data/scenarios/mixed")
    settings = InfluenceParams(measure="loss", targets=HELDOUT, targets_all_layers=1, top=TRAIN)
    found = []
    for of in RUNS:
        network, _ = load_network(results / of.folder)
        influence_on_heldout(network, of, scenario, settings, torch.device("cpu"), tmp_path / str(of.seed))
        found.append(pd.read_parquet(tmp_path / str(of.seed) / "top.parquet").drop_duplicates(["target", "example"]))
    matrices = [of.pivot(index="example", columns="target", values="influence").fillna(0.0) for of in found]
    matrix = np.stack([of.reindex(index=range(TRAIN), fill_value=0.0).to_numpy() for of in matrices])
    pairs = pd.DataFrame(data["pairs"])
    expected = matrix[:, pairs["example"], pairs["target"]]
    np.testing.assert_allclose(pairs["influence"], expected.mean(0), rtol=2e-3, atol=1e-6)
    np.testing.assert_allclose(
        pairs["influence_se"], expected.std(0, ddof=1) / np.sqrt(len(RUNS)), rtol=5e-3, atol=1e-6
    )
    for place, column in enumerate(matrix.mean(0).T):
        shown = pairs[pairs["target"] == place].sort_values("influence", ascending=False)["example"]
        assert set(np.argsort(-column)[:TOP]) <= set(shown)


def test_pairs_hold_the_strongest_of_every_target_and_example() -> None:
    scores = np.random.default_rng(0).normal(0, 1, (3, 40, 25)).astype(np.float32)
    scores[:, 7] = 0.0  # without any influence
    ids, targets = np.arange(40) + 100, np.arange(25) + 500
    pairs = pairs_table(scores, ids, targets)
    mean = pd.DataFrame(scores.mean(0), ids, targets)
    assert 107 not in set(pairs["example"])
    for target in targets:
        of = pairs[pairs["target"] == target].set_index("example")["influence"]
        assert set(mean[target].nlargest(TOP).index) | set(mean[target].nsmallest(TOP).index) <= set(of.index)
    for example in set(ids) - {107}:
        of = pairs[pairs["example"] == example].set_index("target")["influence"]
        row = mean.loc[example]
        assert set(row.nlargest(TOP_TARGETS).index) | set(row.nsmallest(TOP_TARGETS).index) <= set(of.index)
    first = pairs.iloc[0]
    of_runs = scores[:, int(first["example"]) - 100, int(first["target"]) - 500]
    assert first["agree"] == (np.sign(of_runs) == np.sign(of_runs.mean())).sum()
    assert first["influence_se"] == pytest.approx(of_runs.std(ddof=1) / np.sqrt(3))
    assert list(pairs_table(scores[:1], ids, targets)) == ["target", "example", "influence"]


def test_strongest_are_of_their_sign() -> None:
    assert strongest(np.array([0.5, -1.0, 0.0, 2.0, -3.0]), 2).tolist() == [3, 0, 4, 1]
    assert strongest(np.array([0.5, 0.0]), 2).tolist() == [0]


def test_of_many_examples_those_that_matter_are_shown() -> None:
    count = EXAMPLES + 500
    rng = np.random.default_rng(0)
    ids = np.arange(count) * 2
    training = pd.DataFrame(
        {"id": ids, "memorization_loss": rng.normal(size=count), "suspicion": rng.normal(size=count)}
    )
    scores = np.zeros((count, 3))
    scores[[5, 6, count - 1], 1] = 1.0, -1.0, 0.5
    shown = chosen_examples(training, ids, scores)
    assert len(shown) == EXAMPLES
    assert (np.diff(shown) > 0).all()
    assert {10, 12, 2 * (count - 1)} <= set(shown)
    for column in ("memorization_loss", "suspicion"):
        assert set(training.nlargest(1000, column)["id"]) <= set(shown)
    assert chosen_examples(training[:5], ids[:5], scores[:5]).tolist() == ids[:5].tolist()
