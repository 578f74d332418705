"""The stages retrain and removal, on a repository of a few digits: plan, files, and what a planted score does."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML
from sklearn.datasets import load_digits

from stages import removal, retrain
from study.artefacts.files import write_parquet
from study.context.runs import Run, load_params
from study.context.stage import Stage, run_stage
from study.data.scenarios.scenario import Scenario, load_scenario, save_scenario
from study.retraining import many as many_room
from study.retraining.judges import network_seeds
from study.retraining.subsets import SubsetOutputs
from tests.support import ROOT, make_tiny

TRAIN, HELDOUT = 60, 40


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Scenarios real and mixed, scores of two seeds, and one process, so that nothing is spawned."""
    monkeypatch.setattr(many_room, "_cores", lambda: 1)
    yaml = YAML()
    values = yaml.load((ROOT / "params.yaml").read_text())
    make_tiny(values)
    values.update(seeds={"head": [0, 1], "other": [0]}, placements=["dropout", "all", "head"])
    values["model"].update(name="mlp", options={"hidden": 32, "layers": 1})
    values["removal"].update(fractions=[0.2], seeds=2, epochs=1, batch_size=16)
    yaml.dump(values, tmp_path / "params.yaml")
    (tmp_path / "dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    for dep in ("stages/removal.py", "stages/retrain.py", "src"):
        (tmp_path / dep).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / dep).symlink_to(ROOT / dep)
    save_scenario(scenario("validation", 6), tmp_path / "data/validation/validation")
    for name, wrong in (("real", 0), ("mixed", 12)):
        save_scenario(scenario(name, wrong), tmp_path / "data/scenarios" / name)
        for seed in (0, 1):
            folder = tmp_path / Run(name, "head", seed).scores
            folder.mkdir(parents=True)
            write_parquet(folder / "memorization.parquet", scores(wrong, seed))
    return tmp_path


def scenario(name: str, wrong: int) -> Scenario:
    bunch = load_digits()
    count = TRAIN + 4 + HELDOUT
    images = (bunch.images[:count] * 15).astype(np.uint8)[:, None]
    given = bunch.target[:count].copy()
    given[:wrong] = (given[:wrong] + 1) % 10
    examples = pd.DataFrame(
        {
            "id": np.arange(count),
            "split": np.repeat(("train", "placebo", "heldout"), (TRAIN, 4, HELDOUT)),
            "given": given,
            "original": bunch.target[:count],
            "is_random": np.arange(count) < wrong,
        }
    )
    return Scenario(name, images, examples, tuple("0123456789"), "digits")


def scores(wrong: int, seed: int) -> pd.DataFrame:
    """Memorization falls with the id in the mean of the two seeds, and in neither alone; suspicion knows the truth."""
    ids = np.arange(TRAIN + 4)
    return pd.DataFrame(
        {
            "id": ids,
            "split": np.repeat(("train", "placebo"), (TRAIN, 4)),
            "probability": -ids / 100 + (-1) ** seed * np.random.default_rng(0).standard_normal(len(ids)),
            "loss_flipped": (ids < wrong) * 1.0,
        }
    )


def test_removal_follows_the_mean_score_and_leaves_one_table(root: Path) -> None:
    assert run_stage(removal.run, "removal", {}, root) == 0
    table = pd.read_csv(root / "reports/metrics/removal.csv")
    assert list(table) == [
        "scenario", "seed", "order", "action", "fraction", "train", "heldout_accuracy", "heldout_loss",
    ]  # fmt: skip
    sizes = table.groupby(["scenario", "seed"]).size()
    assert sizes.loc["real"].tolist() == [10, 10] and sizes.loc["mixed"].tolist() == [13, 13]
    assert (table[table["order"] == "none"]["train"] == TRAIN).all()
    kept = table[(table["action"] == "keep") & (table["fraction"] == 0.2)]
    assert (kept["train"] == 12).all()
    cleansed = table[(table["scenario"] == "mixed") & table["order"].isin(["flagged", "oracle"])]
    assert (cleansed["train"] == TRAIN - 12).all()
    # Two seeds of the same subset are two networks; the oracle and what flags exactly the same are one and the same.
    flagged, oracle = (cleansed[cleansed["order"] == name].set_index("seed") for name in ("flagged", "oracle"))
    assert flagged["heldout_loss"].equals(oracle["heldout_loss"])
    assert flagged["heldout_loss"].nunique() == 2
    assert table["heldout_accuracy"].between(0, 1).all() and (table["heldout_loss"] > 0).all()

    before = (root / "reports/metrics/removal.csv").read_bytes()
    shutil.rmtree(root / ".checkpoints")  # what is finished: nothing is made twice as long as it stands
    assert run_stage(removal.run, "removal", {}, root) == 0
    assert (root / "reports/metrics/removal.csv").read_bytes() == before
    # What is finished, and who runs.
    assert sorted(path.name for path in (root / ".checkpoints").iterdir()) == ["removal", "running"]


def test_the_plan_takes_the_highest_mean_scores_first(root: Path) -> None:
    stage = Stage(root, "removal", {})
    found = removal.mean_scores(stage, load_scenario(root / "data/scenarios/real"), stage.param("removal"))
    assert found.index.tolist() == list(range(TRAIN))
    np.testing.assert_allclose(found["probability"], -np.arange(TRAIN) / 100)
    trained = load_scenario(root / "data/scenarios/real").of("train")
    most = next(
        one for one in removal.plan(trained, found, stage.param("removal"), 0)
        if (one.order, one.action, one.fraction) == ("most_memorized", "remove", 0.2)
    )  # fmt: skip
    assert np.flatnonzero(~most.inside).tolist() == list(range(12))


def test_the_first_placement_with_masks_decides_where_head_is_not_asked_for(root: Path) -> None:
    text = (root / "params.yaml").read_text().replace("- head\n", "", 1)
    (root / "params.yaml").write_text(text)
    stage, only = Stage(root, "removal", {}), scores(0, 0)
    assert stage.param("placements") == ["dropout", "all"]
    (root / Run("real", "all", 0).scores).mkdir(parents=True)
    write_parquet(root / Run("real", "all", 0).scores / "memorization.parquet", only)
    found = removal.mean_scores(stage, load_scenario(root / "data/scenarios/real"), stage.param("removal"))
    assert found["probability"].tolist() == only["probability"].tolist()[:TRAIN]


def test_a_score_that_is_not_there_is_one_sentence(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (root / "params.yaml").read_text().replace("score: probability", "score: accuracy")
    (root / "params.yaml").write_text(text)
    assert run_stage(removal.run, "removal", {}, root) == 1
    assert "removal.score: 'accuracy' is no column of the scores; there are ['id'" in capsys.readouterr().err


def test_retrain_writes_what_networks_on_halves_say(root: Path) -> None:
    item = {"validation_set": "validation"}
    assert run_stage(retrain.run, "retrain", item, root) == 0
    path = root / "ground_truth/validation.npz"
    found = SubsetOutputs.load(path)
    networks = load_params(root).retrain.networks
    assert found.inside.shape == (networks, TRAIN) and found.margin.shape == (networks, TRAIN + 4 + HELDOUT)
    assert (found.inside.sum(1) == TRAIN // 2).all()
    before = path.read_bytes()
    assert run_stage(retrain.run, "retrain", item, root) == 0
    assert path.read_bytes() == before


def test_no_two_seeds_share_a_network() -> None:
    assert not set(network_seeds(0, 2000)) & set(network_seeds(1, 2000))
