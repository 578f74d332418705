"""Stage `figures` on a make-believe study: right numbers, the same bytes each time, nothing left behind."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats
from study.figures.claims import mean_of

from stages import figures
from study.context import run_stage
from study.figures.groups import assign_groups, deciles, difficulty, easy_and_difficult
from study.figures.intervals import Interval, interval, verdict
from tests.unit.study.fake_runs import EPOCHS, SEEDS, make_repository

QUANTILE = 0.3  # params.yaml, figures.difficulty_quantile


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_repository(tmp_path_factory.mktemp("study"))
    assert run_stage(figures.run, "figures", {}, root=root) == 0
    return root


def _bytes(root: Path) -> dict[str, bytes]:
    files = [*(root / "reports/figures").iterdir(), root / "reports/metrics/summary.json"]
    return {path.name: path.read_bytes() for path in files}


def test_second_run_writes_the_same_bytes_and_leaves_nothing_beside(repository: Path, tmp_path: Path) -> None:
    other = make_repository(tmp_path)
    assert run_stage(figures.run, "figures", {}, root=other) == 0
    assert _bytes(other) == _bytes(repository)
    assert not [path for path in (other / "reports").rglob("*") if path.name.startswith(".")]


def test_figures_come_as_svg_and_png_with_their_data(repository: Path) -> None:
    folder = repository / "reports/figures"
    for name in ("curves-mixed-head", "memorization-real", "memorization-over-training", "detection-mixed", "cost"):
        assert (folder / f"{name}.svg").stat().st_size < 150_000
        assert Image.open(folder / f"{name}.png").width > 500
        assert len(pd.read_csv(folder / f"{name}.csv")) > 0
    assert not (folder / "detection-real.svg").exists()  # it has no wrong labels to detect


def test_learning_curves_equal_a_computation_by_hand(repository: Path) -> None:
    """Group by group, seed by seed, with sorting and means written out."""
    shown = pd.read_csv(repository / "reports/figures/curves-mixed-head.csv")
    scores = {s: pd.read_parquet(repository / f"scores/mixed-head-{s}/memorization.parquet") for s in SEEDS}
    members: dict[int, dict[str, set[int]]] = {}
    for seed, other in ((0, 1), (1, 0)):
        rows = scores[other].to_dict("records")
        real = sorted((r["probability"], r["id"]) for r in rows if r["split"] == "train" and not r["is_random"])
        count = round(QUANTILE * len(real))
        members[seed] = {
            "real easy": {i for _, i in real[:count]},
            "real difficult": {i for _, i in real[-count:]},
            "random": {r["id"] for r in rows if r["split"] == "train" and r["is_random"]},
            "placebo": {r["id"] for r in rows if r["split"] == "placebo"},
        }
    assert len(shown) == 4 * 3 * 2 * len(EPOCHS)
    for row in shown.to_dict("records"):
        column = {"loss": "loss_", "accuracy": "correct_"}[row["measure"]] + row["network"]
        values = []
        for seed in SEEDS:
            frame = pd.read_parquet(repository / f"dynamics/mixed-head-{seed}.parquet")
            chosen = frame[(frame["epoch"] == row["epoch"]) & frame["id"].isin(members[seed][row["group"]])]
            values.append(sum(chosen[column].astype(float)) / len(chosen))
        mean = sum(values) / 2
        deviation = math.sqrt(sum((v - mean) ** 2 for v in values))  # n - 1 = 1
        half = 12.7062 * deviation / math.sqrt(2)  # t, 1 degree of freedom, 95 %
        assert row["mean"] == pytest.approx(mean, rel=1e-4, abs=1e-5)
        assert row["low"] == pytest.approx(mean - half, rel=1e-4, abs=1e-4)
        assert row["high"] == pytest.approx(mean + half, rel=1e-4, abs=1e-4)
        assert row["seeds"] == 2


def test_groups_of_a_seed_come_from_the_other_seeds() -> None:
    def table(values: list[float]) -> pd.DataFrame:
        return pd.DataFrame({"id": range(4), "split": ["train"] * 3 + ["placebo"], "probability": values})

    tables = {0: table([9.0, 9.0, 9.0, 9.0]), 1: table([0.0, 1.0, 2.0, 3.0]), 2: table([2.0, 1.0, 6.0, 3.0])}
    assert difficulty(tables, 0).to_dict() == {0: 1.0, 1: 1.0, 2: 4.0}
    assert difficulty({0: tables[1]}, 0).to_dict() == {0: 0.0, 1: 1.0, 2: 2.0}  # no other seed: its own


def test_easy_and_difficult_are_quantiles_with_ties_by_id() -> None:
    values = pd.Series([0.5, 0.5, 0.5, 0.1, 0.9, 0.5], index=[5, 4, 3, 2, 1, 0])
    easy, difficult = easy_and_difficult(values, 1 / 3)
    assert (list(easy), list(difficult)) == ([2, 0], [5, 1])
    assert deciles(pd.Series(np.arange(20.0))).value_counts().to_list() == [2] * 10


def test_all_random_labels_divide_into_easy_and_difficult() -> None:
    examples = pd.DataFrame({"id": range(5), "split": ["train"] * 4 + ["placebo"], "is_random": True})
    groups = assign_groups(examples, pd.Series([0.1, 0.2, 0.3, 0.4]), 0.25)
    assert groups.to_dict() == {0: "random easy", 3: "random difficult", 4: "placebo"}


def test_interval_is_students_and_the_verdict_follows_it() -> None:
    values = [0.1, 0.4, 0.2]
    found = interval(values, 0.95)
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert interval([1.0, float("nan")], 0.95) == Interval(1.0, None, 1)
    assert mean_of([float("nan")], 0.95) is None
    verdicts = [verdict(Interval(*of)) for of in ((1, 0.5, 3), (1, 1.5, 3), (-1, 0.5, 3), (1, None, 1))]
    assert verdicts == ["supported", "not supported", "contradicted", "undecided"]


def test_summary_traces_to_the_runs(repository: Path) -> None:
    summary = json.loads((repository / "reports/metrics/summary.json").read_text())
    head = summary["scenarios"]["mixed"]["placements"]["head"]
    assert head["difference_to_control"]["mean"] == pytest.approx(-0.005)
    assert head["mislabel_auroc"]["loss_flipped"]["mean"] == pytest.approx(0.965)
    scores = [pd.read_parquet(repository / f"scores/mixed-head-{seed}/memorization.parquet") for seed in SEEDS]
    placebo = np.mean([table.loc[table["split"] == "placebo", "loss"].mean() for table in scores])
    assert head["memorization"]["loss"]["placebo"]["mean"]["mean"] == pytest.approx(placebo, rel=1e-5)
    assert head["claims"]["random_harm"]["verdict"] == "supported"
    few = summary["scenarios"]["mixed"]["placements"]["all"]
    assert few["influence_targets"] == 5
    assert "random_harm" not in few["claims"], "five held-out examples are too few for a claim on influence"
    assert "mislabel_auroc" not in summary["scenarios"]["real"]["placements"]["head"]


def test_speed_of_learning_by_hand(repository: Path) -> None:
    summary = json.loads((repository / "reports/metrics/summary.json").read_text())
    speeds = []
    for seed in SEEDS:
        frame = pd.read_parquet(repository / f"dynamics/mixed-head-{seed}.parquet")
        random = frame[frame["id"] < 15]  # a quarter of 60, see fake_runs
        loss = random.groupby("epoch")["loss_exposed"].mean().astype(float)
        speeds.append((loss[0] - loss[3]) / 3)
    found = summary["scenarios"]["mixed"]["placements"]["head"]["groups"]["random"]["speed"]
    assert found["mean"] == pytest.approx(np.mean(speeds), rel=1e-4)


def test_images_stand_in_the_order_of_their_table(repository: Path) -> None:
    folder = repository / "reports/figures"
    images = np.load(repository / "data/mixed/images.npy")
    for name in ("gallery", "mistakes"):
        table = pd.read_csv(folder / f"{name}.csv")
        sheet = np.asarray(Image.open(folder / f"{name}-sprites.png"))
        assert np.array_equal(sheet.reshape(len(table), 8, 8), images[table["id"], 0])
    mistakes = pd.read_csv(folder / "mistakes.csv")
    assert mistakes["kind"].value_counts().to_dict() == {"helpful": 12, "harmful": 12, "mistake": 3}
    assert mistakes.loc[mistakes["kind"] == "helpful", "influence"].min() > 0
    losses = mistakes.loc[mistakes["kind"] == "mistake", "influence"]
    assert losses.is_monotonic_decreasing


@pytest.mark.parametrize("scenarios", [{"random": 1.0}, {"real": 0.0}])
def test_one_seed_and_one_kind_of_label_suffice(tmp_path: Path, scenarios: dict[str, float]) -> None:
    root = make_repository(tmp_path, seeds=(0,), scenarios=scenarios, placements=("head",))
    assert run_stage(figures.run, "figures", {}, root=root) == 0
    summary = json.loads((root / "reports/metrics/summary.json").read_text())
    assert summary["difficulty_from"] == "the only seed itself"
    (scenario,) = summary["scenarios"].values()
    assert {claim["verdict"] for claim in scenario["placements"]["head"]["claims"].values()} == {"undecided"}


def test_a_missing_table_is_one_clear_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_repository(tmp_path)
    (root / "scores/mixed-all-1/influence/totals.parquet").write_bytes(b"PAR1 not really")
    assert run_stage(figures.run, "figures", {}, root=root) == 1
    assert "totals.parquet is corrupt" in capsys.readouterr().err
    (root / "dynamics/real-head-0.parquet").unlink()
    assert run_stage(figures.run, "figures", {}, root=root) == 1
    assert "dynamics/real-head-0.parquet is missing" in capsys.readouterr().err
    assert not (root / "reports/figures").exists()
