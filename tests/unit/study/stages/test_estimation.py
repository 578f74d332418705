"""The estimates of a run: scores, influence tables and metrics, against brute force."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from stages.estimate import influence_on_heldout, metrics_of, over_training, score_examples
from study.context.params import InfluenceParams, ModelParams
from study.context.rules import SCORES
from study.context.runs import Run
from study.data.scenarios.scenario import Scenario
from study.networks.masked import Architecture, make_network
from turnover import influence, localize, neighbourhood
from turnover.attribution.nearness import Localized
from turnover.batches.examples import Examples
from turnover.masking.subnetworks import subnetwork
from turnover.training.dynamics import Dynamics

CPU = torch.device("cpu")
CLASSES = ("a", "b", "c")


def scenario() -> Scenario:
    rng = np.random.default_rng(0)
    splits = np.repeat(["train", "placebo", "heldout"], [12, 5, 8])
    original = rng.integers(0, 3, 25)
    is_random = (np.arange(25) % 4 == 0) & (splits != "heldout")
    given = np.where(is_random, (original + 1) % 3, original)
    examples = pd.DataFrame(
        {"id": np.arange(25), "split": splits, "given": given, "original": original, "is_random": is_random}
    )
    return Scenario("mixed", rng.integers(0, 256, (25, 1, 8, 8), dtype=np.uint8), examples, CLASSES, "digits")


def network(placement: str) -> torch.nn.Module:
    model = ModelParams(name="cnn", options={"channels": [4, 8], "hidden": 32}, keep=0.5)
    return make_network(Architecture(Run("mixed", placement, 3), model, (1, 8, 8), CLASSES, (0.5,), (0.3,))).eval()


def losses(model: torch.nn.Module, row: int, ids: list[int], flipped: bool, made: Scenario) -> torch.Tensor:
    """Loss of one example under the sub-networks of several ids, one forward pass each."""
    x = torch.from_numpy(made.images[[row]])
    y = torch.tensor([made.examples["given"][row]])
    found = []
    for i in ids:
        with torch.no_grad(), subnetwork(model, [i], flipped=flipped):
            found.append(torch.nn.functional.cross_entropy(model(x), y))
    return torch.stack(found)


@pytest.mark.parametrize("placement", ["head", "all"])
def test_scores_are_those_of_one_forward_pass_each(placement: str) -> None:
    made, model = scenario(), network(placement)
    scores = score_examples(model, made, CPU)
    assert scores["id"].tolist() == list(range(17))
    for row in (0, 4, 16):
        exposed, flipped = (float(losses(model, row, [row], side, made)[0]) for side in (False, True))
        assert scores["loss"][row] == pytest.approx(flipped - exposed, abs=1e-5)
        assert scores["probability"][row] == pytest.approx(np.exp(-exposed) - np.exp(-flipped), abs=1e-5)
        assert scores["loss_flipped"][row] == pytest.approx(flipped, abs=1e-5)
    assert scores["loss"].abs().max() > 1e-3


@pytest.mark.parametrize("localized", [True, False])
@pytest.mark.parametrize("placement", ["head", "all"])
def test_influence_tables_against_every_pair(placement: str, localized: bool, tmp_path: Path) -> None:
    made, model = scenario(), network(placement)
    settings = InfluenceParams(
        measure="loss", targets=8, targets_all_layers=3, top=4, localized=localized, sharpness=1.5
    )
    influence_on_heldout(model, Run("mixed", placement, 3), made, settings, CPU, tmp_path / "influence")
    targets = made.of("heldout")["id"].tolist()[: 8 if placement == "head" else 3]
    train = list(range(12))
    pairs = torch.stack(
        [losses(model, t, train, True, made) - losses(model, t, train, False, made) for t in targets], 1
    ).numpy()
    assert np.abs(pairs).max() > 1e-3
    same = made.examples["given"].to_numpy()[:12, None] == made.examples["given"].to_numpy()[targets]
    totals = pd.read_parquet(tmp_path / "influence" / "totals.parquet")
    np.testing.assert_allclose(totals["total_raw"], pairs.sum(1), atol=1e-4)
    np.testing.assert_allclose(totals["total_raw_same_class"], (pairs * same).sum(1), atol=1e-4)
    if localized:
        images = torch.from_numpy(made.images)
        raw = pairs
        pairs = localize(torch.tensor(raw), model, images[train], images[targets], sharpness=1.5).numpy()
        assert np.abs(pairs - raw).max() > 1e-3
    np.testing.assert_allclose(totals["total"], pairs.sum(1), atol=1e-4)
    np.testing.assert_allclose(totals["total_same_class"], (pairs * same).sum(1), atol=1e-4)

    placebos = list(range(12, 17))
    nulls = torch.stack(
        [losses(model, t, placebos, True, made) - losses(model, t, placebos, False, made) for t in targets], 1
    ).numpy()
    placebo = pd.read_parquet(tmp_path / "influence" / "placebo.parquet")
    assert placebo["id"].tolist() == placebos
    np.testing.assert_allclose(placebo["total_raw"], nulls.sum(1), atol=1e-4)
    if localized:  # in the metric of the training examples
        images = torch.from_numpy(made.images)
        near = Localized(images[train + placebos], sharpness=1.5, reference=images[train])
        labels = torch.tensor(made.examples["given"].to_numpy()[targets])
        every = influence(model, torch.arange(17), images[targets], labels, localized=near).numpy()
        np.testing.assert_allclose(every[:12], pairs, atol=1e-5)
        assert np.abs(every[12:] - nulls).max() > 1e-3
        nulls = every[12:]
    same = made.examples["given"].to_numpy()[placebos][:, None] == made.examples["given"].to_numpy()[targets]
    np.testing.assert_allclose(placebo["total"], nulls.sum(1), atol=1e-4)
    np.testing.assert_allclose(placebo["total_same_class"], (nulls * same).sum(1), atol=1e-4)

    top = pd.read_parquet(tmp_path / "influence" / "top.parquet")
    for column, target in enumerate(targets):
        for kind, order in (("helpful", np.argsort(-pairs[:, column])), ("harmful", np.argsort(pairs[:, column]))):
            rows = top[(top["target"] == target) & (top["kind"] == kind)].sort_values("rank")
            order = [i for i in order[:4] if pairs[i, column] != 0]
            assert rows["example"].tolist() == order
            np.testing.assert_allclose(rows["influence"], pairs[order, column], atol=1e-5)

    found = pd.read_parquet(tmp_path / "influence" / "targets.parquet")
    with torch.no_grad():
        predicted = model(torch.from_numpy(made.images[targets])).argmax(1).tolist()
    assert found["id"].tolist() == targets
    assert found["predicted"].tolist() == predicted


def test_the_whole_training_beside_the_last_checkpoint() -> None:
    made, model = scenario(), network("head")
    rows = made.of("train", "placebo")
    examples = Examples(
        torch.tensor(made.images[rows["id"].to_numpy()]),
        torch.tensor(rows["given"].to_numpy()),
        torch.tensor(rows["id"].to_numpy()),
    )
    dynamics = Dynamics(examples, [0, 1, 2])
    for epoch in range(3):
        dynamics.record(epoch, model)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.5)
    scores = score_examples(model, made, CPU)
    found = over_training(scores, dynamics.frame().sample(frac=1.0, random_state=0), model, made, CPU)
    pd.testing.assert_frame_equal(found[scores.columns], scores)
    assert set(found.columns) == {"id", "split", "given", "original", "is_random", *SCORES}
    recorded = dynamics.frame()
    for row in (0, 5, 16):
        at = recorded[(recorded["id"] == row) & (recorded["epoch"] > 0)]
        assert found["mean_loss_full"][row] == pytest.approx(at["loss_full"].mean(), abs=1e-5)
        chances = np.exp(-at["loss_exposed"].to_numpy()) - np.exp(-at["loss_flipped"].to_numpy())
        assert found["mean_probability"][row] == pytest.approx(chances.mean(), abs=1e-5)
    images = torch.from_numpy(made.images)[:12]
    near = neighbourhood(model, images, torch.tensor(made.examples["given"].to_numpy()[:12]))
    np.testing.assert_allclose(found["support"][:12], near["support"], atol=1e-6)
    assert found[["leverage", "support", "sharpened"]].isna().all(axis=1).tolist() == [False] * 12 + [True] * 5


def frame(n: int = 200) -> pd.DataFrame:
    """Planted scores: wrong labels have the larger flipped loss, everything else is noise."""
    rng = np.random.default_rng(0)
    wrong = np.arange(n) % 5 == 0
    columns = {name: rng.normal(size=n) for name in ("loss", "probability", "accuracy", "loss_full")}
    columns["support"] = rng.normal(size=n) - 2 * wrong  # the lower, the more suspect
    return pd.DataFrame(
        {
            "split": np.where(np.arange(n) < n - 40, "train", "placebo"),
            "given": np.where(wrong, 1, 0),
            "original": 0,
            "is_random": wrong,
            "loss_flipped": rng.normal(size=n) + 3 * wrong,
            **columns,
        }
    )


def test_metrics_find_what_was_planted_and_nothing_else() -> None:
    scores = frame()
    metrics = metrics_of(scores)
    trained = scores[scores["split"] == "train"]
    wrong = trained["given"] != trained["original"]
    assert metrics["wrong_labels"] == wrong.sum() == 32
    assert metrics["mislabel_auroc"]["loss_flipped"] == round(roc_auc_score(wrong, trained["loss_flipped"]), 6) > 0.95
    assert metrics["mislabel_auroc"]["low_support"] == round(roc_auc_score(wrong, -trained["support"]), 6) > 0.85
    assert "cumulative_loss" not in metrics["mislabel_auroc"]  # not in these scores
    assert 0.35 < metrics["mislabel_auroc"]["memorization_loss"] < 0.65
    assert metrics["mislabel_average_precision"]["loss_flipped"] > 0.8
    assert metrics["memorization"]["random"]["loss"] == round(trained[trained["is_random"]]["loss"].mean(), 6)
    assert metrics["placebo_std"]["loss"] == round(scores[scores["split"] == "placebo"]["loss"].std(), 6)


def test_without_wrong_labels_there_is_no_detection_to_report() -> None:
    scores = frame().assign(given=0, is_random=False)
    metrics = metrics_of(scores)
    assert "mislabel_auroc" not in metrics
    assert set(metrics["memorization"]) == {"real", "placebo"}
