"""Stage `validate` from end to end on digits, in seconds; and its judge on scores whose quality is known."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from stages import validate
from stages.validate import table
from study.artefacts.kept import KeptResults, Result
from study.context.params import ComparisonParams, RecipeParams, ValidationParams
from study.context.stage import run_stage
from study.data.scenarios.scenario import SPLITS, Scenario, save_scenario
from study.networks.zoo.small import build_own
from study.peers import inputs
from study.retraining.many import train_many
from study.retraining.ordinary import ordinary_network
from study.retraining.subsets import SubsetOutputs, draw_subsets
from study.validation.judge import Judge
from study.validation.ours import MEASURES
from study.validation.placebo import calibration
from study.validation.rows import Row, doublings, groups
from study.validation.runs import kept_more_run, ordinary_run
from study.validation.settings import Problem
from tests.support import ROOT, required
from tests.unit.study.digits import digits_scenario
from turnover import Predictions, influence, insert, neighbourhood, train

TRAIN, PLACEBO, HELDOUT, NETWORKS = 80, 30, 24, 12
SETTINGS = ComparisonParams(
    seeds=[0, 1],
    kept_more=[0.75],
    keep=0.5,
    networks=2,
    folds=2,
    targets=20,
    resamples=50,
    placebo_splits=20,
    threads=1,
)
RECIPE = RecipeParams(
    epochs=3, batch_size=16, learning_rate=0.003, weight_decay=0.01, min_steps=0, precision="float32", device="cpu"
)
ARCHITECTURE = ValidationParams(
    dataset="digits", train=TRAIN, placebo=PLACEBO, heldout=HELDOUT, noise=0.1, seed=1, model="mlp",
    options={"hidden": 64, "layers": 1},
)  # fmt: skip


def scenario() -> Scenario:
    return digits_scenario(TRAIN, PLACEBO, HELDOUT)


def problem(truth: SubsetOutputs, settings: ComparisonParams = SETTINGS) -> Problem:
    return Problem(scenario(), truth, settings, ARCHITECTURE, RECIPE)


@pytest.fixture(scope="module")
def truth() -> SubsetOutputs:
    """Real subset networks, small ones."""
    made, count = scenario(), TRAIN + PLACEBO + HELDOUT
    inside = np.zeros((NETWORKS, count), dtype=np.bool_)
    inside[:, :TRAIN] = draw_subsets(TRAIN, NETWORKS)
    make = ordinary_network(build_own, ARCHITECTURE.model, ARCHITECTURE.options, made)
    images, labels = (torch.from_numpy(array) for array in made.arrays(*SPLITS))
    said = train_many(make, images, labels, inside, list(range(NETWORKS)), RECIPE, processes=1)
    return SubsetOutputs(inside[:, :TRAIN], *said)


@pytest.fixture
def project(tmp_path: Path, truth: SubsetOutputs) -> Path:
    """A repository root with the stage's dependencies; what does not exist is declared, but not read."""
    from ruamel.yaml import YAML

    yaml = YAML()
    values = yaml.load(ROOT / "params.yaml")
    values["validation_sets"] = ["validation"]
    values["validation"] = {"validation": ARCHITECTURE.model_dump()}
    values["retrain"].update(RECIPE.model_dump())
    values["comparison"] = SETTINGS.model_dump()
    yaml.dump(values, tmp_path / "params.yaml")
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    for name in ("src", "stages"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "ground_truth").mkdir()
    save_scenario(scenario(), tmp_path / "data/validation/validation")
    truth.save(tmp_path / "ground_truth/validation.npz")
    truth[slice(0, 24)].save(tmp_path / "ground_truth/validation-fitted.npz")
    noise = np.random.default_rng(0).normal(size=(8, truth.margin.shape[1])).astype(np.float32)
    twice = truth[np.tile(np.arange(4), 2)]
    SubsetOutputs(twice.inside, twice.margin + noise, twice.correct).save(
        tmp_path / "ground_truth/validation-again.npz"
    )
    return tmp_path


def needs_extra() -> None:
    for package in inputs.EXTRA:
        if not required("compare"):
            pytest.importorskip(package, reason=f"{package} is in the extra compare, which is not installed")


def run(project: Path) -> int:
    return run_stage(validate.run, "validate", {"validation_set": "validation"}, project)


def test_the_stage_judges_every_method_and_goes_on_where_it_stopped(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_extra()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(validate, "peer_rows", interrupted)
        assert run(project) == 130
    kept = {path.name for folder in (project / ".checkpoints").iterdir() for path in folder.iterdir()}
    assert {"turn-over-0.npz", "turn-over-1.npz", "ordinary-1.npz", "folds.npz", "half.npz"} <= kept
    assert {"keep-0.75-0.npz", "keep-0.75-1.npz", "dropout-1.npz"} <= kept
    assert not (project / "reports").exists() or not any((project / "reports").rglob("validation*"))

    made: list[str] = []
    keep = KeptResults.keep

    def counting(self: KeptResults, name: str, arrays: dict[str, np.ndarray]) -> None:
        made.append(name)
        keep(self, name, arrays)

    monkeypatch.setattr(KeptResults, "keep", counting)
    assert run(project) == 0
    assert made and all(name.startswith("peer-") for name in made)  # the trainings were not repeated
    # What is finished, and who runs.
    assert sorted(path.name for path in (project / ".checkpoints").iterdir()) == ["running", "validate"]

    folder = project / "reports/validation/validation"
    assert {"result.json", "table.csv", "cost.csv"} == {path.name for path in folder.iterdir()}
    result = json.loads((folder / "result.json").read_text())
    rows = {(row["method"], row["networks"]): row for row in result["rows"]}
    for method in ("turn-over raw", "turn-over sharpened", "CSL", "KNN-Shapley", "influence function (dattri head)"):
        assert {(method, 1), (method, 2)} <= set(rows)
        assert rows[method, 1]["repeats"] == 2
    for method in ("TracIn (dattri head)", "TRAK (dattri head)", "turn-over raw", "influence function (dattri head)"):
        assert (
            -1
            <= rows[method, 1]["lds"]["low"]
            <= rows[method, 1]["lds"]["value"]
            <= rows[method, 1]["lds"]["high"]
            <= 1
        )
        assert rows[method, 1]["auroc"]["value"] > 0.5
    # Those with the predictions over training rank examples as well, those without only foretell.
    kept_more, without = "left-out, keep 0.75, with training", "left-out without turn-over, with training"
    for method in (kept_more, without, "left-out, ordinary dropout, with training"):
        assert {(method, 1), (method, 2)} <= set(rows)
        assert rows[method, 1]["auroc"]["value"] > 0.5
        assert rows[method, 1]["memorization"] is not None and rows[method, 1]["lds"] is not None
        assert rows[method.removesuffix(", with training"), 1]["memorization"] is None
    assert rows["CSL", 1]["lds"] is None
    assert rows["cleanlab (out of fold)", 2]["auroc"]["value"] > 0.5
    assert rows["subset retraining", 4]["memorization"] is not None
    assert result["ground_truth"]["wrong_labels"] == 10
    assert {entry["measure"] for entry in result["turn_over_measures"]} == {"loss", "probability", "accuracy"}
    assert {entry["level"] for entry in result["placebo"]} == {0.01, 0.05, 0.1}

    frame = pd.read_csv(folder / "table.csv")
    assert len(frame) == len(result["rows"])
    assert not [column for column in frame if "second" in column]
    costs = pd.read_csv(folder / "cost.csv")
    assert (costs["seconds"] >= 0).all()
    assert costs.loc[costs["method"] == "CSL", "seconds"].gt(0).all()


def test_a_missing_extra_stops_the_stage_before_any_work(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(inputs, "EXTRA", ("not_there_at_all",))
    assert run(project) == 1
    assert "needs not_there_at_all, not installed here: run `make setup`" in capsys.readouterr().err
    assert not list((project / ".checkpoints").glob("[!r]*"))  # only `running`, who holds the stage


def test_ground_truth_of_other_examples_is_refused(truth: SubsetOutputs) -> None:
    other = SubsetOutputs(truth.inside[:, 1:], truth.margin, truth.correct)
    with pytest.raises(ValueError, match="is about 79 training examples of 134, but the scenario has 80 of 134"):
        problem(other)


def test_a_more_kept_run_says_what_its_network_said_over_its_training(truth: SubsetOutputs) -> None:
    """Against the same training, watched by the library's recorder."""
    made = problem(truth)
    found = kept_more_run(made, 0.75, 3)
    model, train_set, targets = insert(made.network(3), after="head", keep=0.75, seed=3), made.train, made.targets
    seen = [Predictions(of.images, of.labels, name=name) for of, name in ((train_set, "train"), (targets, "targets"))]
    train(model, train_set, made.config(3), recorders=seen, progress=False)
    over = [of.mean() for of in seen]
    data = (train_set.images, train_set.labels, train_set.ids), (targets.images, targets.labels)
    expected = influence(model, *data, estimate="left-out", predictions=(over[0], over[1])).numpy()
    np.testing.assert_allclose(found["averaged-left-out"], expected, rtol=0, atol=2e-3 * np.abs(expected).max())
    support = neighbourhood(model, train_set.images, train_set.labels)["support"].to_numpy()
    known = over[0].numpy()[np.arange(TRAIN), train_set.labels.numpy()]
    np.testing.assert_allclose(found["before"], (support + known) / 2, atol=1e-3)


def test_checkpoints_of_an_ordinary_run_are_the_weights_as_they_were(truth: SubsetOutputs) -> None:
    """What TracIn compares: views of the weights would all end as the last ones."""
    made = ordinary_run(problem(truth), 0)
    names = [key.removeprefix("final/") for key in made if key.startswith("final/") and key.endswith("weight")]
    states = ["final", *(f"checkpoint-{number}" for number in range(len(made["learning_rates"])))]
    assert len(states) > 2
    for name in names:
        for one, other in itertools.combinations(states, 2):
            assert not np.array_equal(made[f"{one}/{name}"], made[f"{other}/{name}"]), (name, one, other)


def planted(networks: int = 200) -> SubsetOutputs:
    """An additive game: log-odds of a target are a sum over the subset; an example is memorized as far as it is odd."""
    rng = np.random.default_rng(0)
    inside = draw_subsets(TRAIN, networks)
    count = TRAIN + PLACEBO + HELDOUT
    margin = np.zeros((networks, count), np.float32)
    margin[:, :TRAIN] = -1 + inside * np.linspace(0, 4, TRAIN)
    margin[:, TRAIN:] = inside @ rng.normal(size=(TRAIN, PLACEBO + HELDOUT))
    return SubsetOutputs(inside, margin, margin > 0)


def test_the_judge_gives_the_truth_full_marks_and_noise_none() -> None:
    made = problem(planted())
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(TRAIN, PLACEBO + HELDOUT))[:, PLACEBO:][:, :20]
    rng = np.random.default_rng(1)
    judge = Judge(made, rng.normal(size=TRAIN))
    wrong = made.wrong.astype(float)
    good = judge.judge(Row("truth", "peer", 1, 0, 0, [np.arange(80.0)], [wrong], [weights]))
    assert good["memorization"]["value"] == good["given_csl"]["value"] == pytest.approx(1, abs=0.01)
    assert good["lds"]["value"] == pytest.approx(1, abs=1e-6)
    assert good["auroc"]["value"] == good["average_precision"]["value"] == 1
    bad = judge.judge(Row("opposite", "peer", 1, 0, 0, [-np.arange(80.0)], [-wrong], [-weights]))
    assert bad["memorization"]["value"] == pytest.approx(-1, abs=0.01)
    assert bad["lds"]["value"] == pytest.approx(-1, abs=1e-6)
    assert bad["auroc"]["value"] == 0
    noise = [rng.normal(size=TRAIN) for _ in range(20)]
    nothing = judge.judge(
        Row("noise", "peer", 1, 0, 0, noise, noise, [rng.normal(size=(TRAIN, 20)) for _ in range(20)])
    )
    assert nothing["repeats"] == 20
    assert abs(nothing["memorization"]["value"]) < 0.12
    assert abs(nothing["lds"]["value"]) < 4 * np.sqrt((1 / 199 + 1 / 79) / 20 / 20)
    assert abs(nothing["auroc"]["value"] - 0.5) < 0.1


def test_a_contestant_among_the_networks_is_judged_by_the_others() -> None:
    game = planted()
    margin = game.margin.copy()
    margin[:150, :TRAIN] = -1 - game.inside[:150] * np.linspace(0, 4, TRAIN)  # these say the opposite
    judge = Judge(
        problem(SubsetOutputs(game.inside, margin, game.correct)), np.random.default_rng(0).normal(size=TRAIN)
    )
    by_all, by_others = (
        judge.judge(Row("truth", "peer", 1, 0, 0, [np.arange(80.0)], judged_by=first)) for first in (0, 150)
    )
    assert by_others["memorization"]["value"] == pytest.approx(1, abs=0.01)
    assert by_all["memorization"]["value"] < 0.5
    assert by_others["lds"] is None and by_others["auroc"] is None


def test_the_partial_correlation_of_the_difficulty_itself_is_nothing() -> None:
    made = problem(planted())
    difficulty = np.arange(80.0) + np.random.default_rng(0).normal(size=80) * 20
    found = Judge(made, difficulty).judge(Row("difficulty", "peer", 1, 0, 0, [difficulty]))
    assert found["memorization"]["value"] > 0.6
    assert found["given_csl"]["value"] == 0


def test_truth_in_three_measures_by_hand() -> None:
    outputs = planted(20)
    said = {"loss": -outputs.loss, "probability": outputs.probability, "accuracy": outputs.correct}
    for measure in MEASURES:
        found = outputs.memorization(measure)
        for i in (0, 40, 79):
            inside = outputs.inside[:, i]
            expected = said[measure][inside, i].mean() - said[measure][~inside, i].mean()
            assert found[i] == pytest.approx(expected, abs=1e-5)
    assert outputs.memorization("loss")[79] > 1


def runs_with(shift: float, seed: int = 0) -> Result:
    """Losses of noise, the training examples memorized by `shift`."""
    rng = np.random.default_rng(seed)
    exposed = rng.exponential(size=(2, TRAIN + PLACEBO))
    flipped = rng.exponential(size=(2, TRAIN + PLACEBO))
    flipped[:, :TRAIN] += shift
    return Result({"loss_exposed": exposed, "loss_flipped": flipped}, 1.0)


def test_placebos_are_called_at_the_nominal_level_and_memorized_examples_more_often() -> None:
    settings = SETTINGS.model_copy(update={"placebo_splits": 400})
    made = problem(planted(), settings)
    at = {}
    for shift in (0.0, 20.0):
        entries = calibration(made, [runs_with(shift)])
        at[shift] = next(e for e in entries if e["measure"] == "loss" and e["level"] == 0.1 and not e["averaged"])
    # 15 null placebos: p-values are multiples of 1/16, so level .1 is really 1/16.
    assert at[0.0]["placebos_called"] == pytest.approx(1 / 16, abs=0.02)
    assert at[0.0]["right_labels_called"] < 0.3
    assert at[20.0]["right_labels_called"] == at[20.0]["wrong_labels_called"] == 1
    assert at[20.0]["placebos_called"] == at[0.0]["placebos_called"]


def test_groups_are_disjoint_and_complete() -> None:
    assert doublings(4) == [1, 2, 4]
    assert doublings(10) == [1, 2, 4, 8]
    assert [list(part) for part in groups("abcde", 2)] == [["a", "b"], ["c", "d"]]


def test_the_table_leaves_empty_what_a_method_does_not_estimate() -> None:
    made = Judge(problem(planted()), np.arange(80.0))
    frame = table([made.judge(Row("x", "peer", 3, 0, 0, suspicion=[np.arange(80.0)]))])
    assert frame.loc[0, "networks"] == 3
    assert frame["memorization"].isna().all() and frame["lds_low"].isna().all()
    assert frame.loc[0, "auroc_low"] <= frame.loc[0, "auroc"] <= frame.loc[0, "auroc_high"]
