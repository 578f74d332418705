"""Stage `figures` on a make-believe study: right numbers, the same bytes each time, nothing left behind."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats

from stages import figures, findings
from study.analysis.groups import assign_groups, deciles, difficulty, easy_and_difficult
from study.analysis.intervals import Interval, interval, mean_of
from study.context.stage import run_stage
from study.figures.style import canvas, save, styled
from tests.unit.study.fake_runs import EPOCHS, SEEDS, make_repository

QUANTILE = 0.3  # params.yaml, figures.difficulty_quantile


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_repository(tmp_path_factory.mktemp("study"))
    assert run_stage(findings.run, "findings", {}, root=root) == 0
    assert run_stage(figures.run, "figures", {}, root=root) == 0
    return root


def _bytes(root: Path) -> dict[str, bytes]:
    metrics = root / "reports/metrics"
    files = [*(root / "reports/figures").iterdir(), *(metrics / "findings").iterdir()]
    files += [metrics / "summary.json", metrics / "findings.json"]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def test_second_run_writes_the_same_bytes_and_leaves_nothing_beside(repository: Path, tmp_path: Path) -> None:
    other = make_repository(tmp_path)
    assert run_stage(findings.run, "findings", {}, root=other) == 0
    assert run_stage(figures.run, "figures", {}, root=other) == 0
    assert _bytes(other) == _bytes(repository)
    assert not [path for path in (other / "reports").rglob("*") if path.name.startswith(".")]


def test_figures_come_as_svg_and_png_with_their_data(repository: Path) -> None:
    folder = repository / "reports/figures"
    claims = ("learning-time", "speed", "gradients", "removal", "removal-loss", "cleansing", "influence-by-decile")
    others = ("curves-mixed-head", "memorization-real", "memorization-over-training", "detection-mixed", "cost")
    for name in (*claims, *others):
        assert (folder / f"{name}.svg").stat().st_size < 150_000
        assert Image.open(folder / f"{name}.png").width > 500
        assert len(pd.read_csv(folder / f"{name}.csv")) > 0
    assert not (folder / "detection-real.svg").exists()  # it has no wrong labels to detect


def test_numbers_in_labels_keep_their_digits(tmp_path: Path) -> None:
    with styled():
        figure, axes = canvas(1, 1, 2.0)
        axes[0][0].plot([0, 1], [0.8249, 0.8251])
        axes[0][0].set_yticks([0.825], ["0.825"])
        save(figure, tmp_path, "plot", 50)
    text = (tmp_path / "plot.svg").read_text(encoding="utf-8")
    assert ">0.825</text>" in text
    assert not re.search(r'd="M [\d.]*\.\d{3}', text)


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
    assert len(shown) == 4 * 3 * 3 * len(EPOCHS)
    for row in shown.to_dict("records"):
        column = {"loss": "loss_", "margin": "margin_", "accuracy": "correct_"}[row["measure"]] + row["network"]
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


def test_interval_is_students() -> None:
    values = [0.1, 0.4, 0.2]
    found = interval(values, 0.95)
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert interval([1.0, float("nan")], 0.95) == Interval(1.0, None, 1)
    assert mean_of([float("nan")], 0.95) is None


def test_summary_traces_to_the_runs(repository: Path) -> None:
    summary = json.loads((repository / "reports/metrics/summary.json").read_text())
    head = summary["scenarios"]["mixed"]["placements"]["head"]
    assert head["difference_to_control"]["mean"] == pytest.approx(-0.005)
    assert head["mislabel_auroc"]["loss_flipped"]["mean"] == pytest.approx(0.965)
    scores = [pd.read_parquet(repository / f"scores/mixed-head-{seed}/memorization.parquet") for seed in SEEDS]
    placebo = np.mean([table.loc[table["split"] == "placebo", "loss"].mean() for table in scores])
    assert head["memorization"]["loss"]["placebo"]["mean"]["mean"] == pytest.approx(placebo, rel=1e-5)
    few = summary["scenarios"]["mixed"]["placements"]["all"]
    assert few["influence_targets"] == 5
    assert "mislabel_auroc" not in summary["scenarios"]["real"]["placements"]["head"]


def test_findings_trace_to_the_runs(repository: Path) -> None:
    found = json.loads((repository / "reports/metrics/findings.json").read_text())
    claims = {claim["key"]: claim for claim in found["claims"]}
    harm = claims["random_harm"]["comparisons"]
    assert [(part["scenario"], part["placement"]) for part in harm] == [("mixed", "head")], "five targets are too few"
    means = []
    for seed in SEEDS:
        totals = pd.read_parquet(repository / f"scores/mixed-head-{seed}/influence/totals.parquet")
        means.append(-totals.loc[totals["id"] < 15, "total"].mean())  # a quarter of 60, see fake_runs
    assert harm[0]["effect"]["mean"] == pytest.approx(np.mean(means), rel=1e-5)
    assert len(claims["faster_real"]["comparisons"]) == 2 * 2 * 2  # scenario, placement, definition
    assert found["turning_point"] == {"real": 0.1, "mixed": None}
    gain = claims["cleansing"]["comparisons"][0]["effect"]["mean"]
    table = pd.read_csv(repository / "reports/metrics/removal.csv")
    at = table[(table["scenario"] == "mixed") & (table["order"] == "random") & (table["action"] == "remove")]
    by_fraction = at.groupby("fraction")["heldout_accuracy"].mean()
    flagged = table[table["order"] == "flagged"]["heldout_accuracy"].mean()
    assert gain == pytest.approx(flagged - (by_fraction[0.1] + by_fraction[0.4]) / 2, abs=1e-5)


def test_speed_of_learning_by_hand(repository: Path) -> None:
    speeds, steps = [], []
    for seed in SEEDS:
        frame = pd.read_parquet(repository / f"dynamics/mixed-head-{seed}.parquet")
        random = frame[frame["id"] < 15]
        loss = random.groupby("epoch")["loss_exposed"].mean().astype(float)
        speeds.append((loss[0] - loss[3]) / 3)
        steps.append((loss[3] - loss[5]) / 2)
    key = {"scenario": "mixed", "placement": "head", "definition": "memorization", "group": "random"}

    def mean(name: str, **more: object) -> float:
        table = pd.read_csv(repository / f"reports/metrics/findings/{name}.csv")
        for column, value in {**key, **more}.items():
            table = table[table[column] == value]
        return float(table["mean"].item())

    assert mean("groups", number="speed") == pytest.approx(np.mean(speeds), rel=1e-4)
    assert mean("speed", epoch=5) == pytest.approx(np.mean(steps), rel=1e-4)


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
    root = make_repository(tmp_path, seeds=(0,), scenarios=scenarios, placements=("head",), removal=False)
    assert run_stage(findings.run, "findings", {}, root=root) == 0
    assert run_stage(figures.run, "figures", {}, root=root) == 0
    summary = json.loads((root / "reports/metrics/summary.json").read_text())
    assert summary["difficulty_from"] == "the only seed itself"
    found = json.loads((root / "reports/metrics/findings.json").read_text())
    assert {claim["verdict"] for claim in found["claims"]} == {"undecided"}
    assert not found["removal"]
    assert not (root / "reports/figures/removal.svg").exists()


def test_a_missing_table_is_one_clear_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_repository(tmp_path)
    assert run_stage(findings.run, "findings", {}, root=root) == 0
    (root / "scores/mixed-all-1/influence/totals.parquet").write_bytes(b"PAR1 not really")
    assert run_stage(figures.run, "figures", {}, root=root) == 1
    assert "totals.parquet is corrupt" in capsys.readouterr().err
    (root / "dynamics/real-head-0.parquet").unlink()
    assert run_stage(figures.run, "figures", {}, root=root) == 1
    assert "dynamics/real-head-0.parquet is missing" in capsys.readouterr().err
    assert not (root / "reports/figures").exists()
    table = pd.read_csv(root / "reports/metrics/removal.csv")
    table.drop(columns="order").to_csv(root / "reports/metrics/removal.csv", index=False)
    (root / "gradients/real-head-0.safetensors").write_bytes(b"not really")
    (root / "scores/mixed-all-1/influence/totals.parquet").unlink()
    for says, path in (
        ("dynamics/real-head-0.parquet is missing", "dynamics/real-head-0.parquet"),
        ("totals.parquet is missing", "scores/mixed-all-1/influence/totals.parquet"),
        ("real-head-0.safetensors is corrupt", "gradients/real-head-0.safetensors"),
    ):
        assert run_stage(findings.run, "findings", {}, root=root) == 1
        assert says in capsys.readouterr().err
        (root / path).write_bytes((root / path.replace("-0.", "-1.").replace("all-1", "all-0")).read_bytes())
    assert run_stage(findings.run, "findings", {}, root=root) == 1
    assert "removal.csv lacks the column 'order'" in capsys.readouterr().err
    similar = root / "gradients/mixed-all-1.safetensors"
    for cut in (similar.read_bytes()[:-100], b""):  # what a full disk leaves
        similar.write_bytes(cut)
        assert run_stage(findings.run, "findings", {}, root=root) == 1
        assert "mixed-all-1.safetensors is corrupt" in capsys.readouterr().err
