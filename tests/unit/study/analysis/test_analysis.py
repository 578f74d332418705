"""Groups, intervals, tables and summaries: by hand, and traced to the make-believe runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from stages import findings, summarize
from study.analysis.files import Validation
from study.analysis.groups import assign_groups, deciles, difficulty, easy_and_difficult
from study.analysis.headline import headline
from study.analysis.intervals import Interval, difficulty_from, interval, intervals, mean_of, seeds_in_words
from study.analysis.variants import level, levels, title
from study.context.stage import run_stage
from tests.support import ROOT
from tests.unit.study.fake_runs import EPOCHS, SEEDS, make_repository

QUANTILE = 0.3  # params.yaml, figures.difficulty_quantile


def test_what_only_reads_tables_does_not_wait_for_torch() -> None:
    heavy = {"torch", "sklearn", "mlflow"}
    code = (
        "import sys, stages.findings, stages.summarize, stages.report\n"
        f"print(*({heavy} | {{'matplotlib'}}) & set(sys.modules))\n"
        f"import stages.figures; print(*{heavy} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


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
    examples = pd.DataFrame({"id": range(5), "kind": ["random"] * 4 + ["placebo"]})
    groups = assign_groups(examples, pd.Series([0.1, 0.2, 0.3, 0.4]), 0.25)
    assert groups.to_dict() == {0: "random easy", 3: "random difficult", 4: "placebo"}


def test_interval_is_students() -> None:
    values = [0.1, 0.4, 0.2]
    found = interval(values, 0.95)
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert interval([1.0, float("nan")], 0.95) == Interval(1.0, None, 1)
    assert interval([0.5, 0.5, 0.5], 0.95) == Interval(0.5, 0.0, 3)
    assert mean_of([float("nan")], 0.95) is None
    samples = [[3.0], values, [1.0, 2.0], [0.3, 0.1, 0.1]]
    assert intervals(samples, 0.95) == [interval(sample, 0.95) for sample in samples]
    with pytest.raises(ValueError, match="at least one value"):
        intervals([[1.0], [float("nan")]], 0.95)


def test_seeds_are_said_once_where_they_are_as_many() -> None:
    assert seeds_in_words({"head": [0, 1, 2], "all": [3, 4, 5]}) == "3 seeds"
    assert seeds_in_words({"head": [7]}) == "one seed"
    five, three = list(range(5)), list(range(3))
    assert seeds_in_words({"head": five, "all": three, "a+b": three}) == "5 seeds for placement head, 3 for the others"
    assert seeds_in_words({"head": five, "all": three}) == "5 seeds for placement head, 3 for all"
    assert seeds_in_words({"head": [0], "all": five, "c": three}) == "one seed for placement head, 5 for all, 3 for c"


def test_learning_curves_equal_a_computation_by_hand(results: Path) -> None:
    """Group by group, seed by seed, with sorting and means written out."""
    shown = pd.read_csv(results / "reports/figures/curves-mixed-head.csv")
    scores = {s: pd.read_parquet(results / f"scores/mixed/head/{s}/memorization.parquet") for s in SEEDS["head"]}
    members: dict[int, dict[str, set[int]]] = {}
    for seed in SEEDS["head"]:
        rows = scores[seed].to_dict("records")
        others = [table.set_index("id")["probability"].to_dict() for other, table in scores.items() if other != seed]
        real = sorted(
            (sum(float(of[r["id"]]) for of in others) / 2, r["id"])
            for r in rows
            if r["split"] == "train" and not r["is_random"]
        )
        count = round(QUANTILE * len(real))
        members[seed] = {
            "real easy": {i for _, i in real[:count]},
            "real difficult": {i for _, i in real[-count:]},
            "random": {r["id"] for r in rows if r["split"] == "train" and r["is_random"]},
            "placebo": {r["id"] for r in rows if r["split"] == "placebo"},
        }
    shown = shown[shown["group"] != "held-out"]
    assert len(shown) == 4 * 3 * 3 * len(EPOCHS)
    for row in shown.to_dict("records"):
        column = {"loss": "loss_", "margin": "margin_", "accuracy": "correct_"}[row["measure"]] + row["network"]
        values = []
        for seed in SEEDS["head"]:
            frame = pd.read_parquet(results / f"runs/mixed/head/{seed}/dynamics.parquet")
            chosen = frame[(frame["epoch"] == row["epoch"]) & frame["id"].isin(members[seed][row["group"]])]
            values.append(sum(chosen[column].astype(float)) / len(chosen))
        mean = sum(values) / 3
        deviation = (sum((v - mean) ** 2 for v in values) / 2) ** 0.5
        half = 4.302653 * deviation / 3**0.5  # t, 2 degrees of freedom, 95 %
        assert row["mean"] == pytest.approx(mean, rel=1e-4, abs=1e-5)
        assert row["low"] == pytest.approx(mean - half, rel=1e-4, abs=1e-4)
        assert row["high"] == pytest.approx(mean + half, rel=1e-4, abs=1e-4)
        assert row["seeds"] == 3


def test_summary_traces_to_the_runs(results: Path) -> None:
    summary = json.loads((results / "reports/metrics/summary.json").read_text())
    assert summary["seeds"] == {"head": [0, 1, 2], "all": [0, 1], "dropout": [0, 1]}
    head = summary["scenarios"]["mixed"]["placements"]["head"]
    assert head["heldout_accuracy"]["n"] == 3
    assert head["difference_to_control"]["mean"] == pytest.approx(-0.005)
    assert head["difference_to_control"]["n"] == 2, "of the seeds that both have"
    assert head["mislabel_auroc"]["loss_flipped"]["mean"] == pytest.approx(0.96)
    scores = [pd.read_parquet(results / f"scores/mixed/head/{seed}/memorization.parquet") for seed in SEEDS["head"]]
    placebo = np.mean([table.loc[table["split"] == "placebo", "loss"].mean() for table in scores])
    assert head["memorization"]["loss"]["placebo"]["mean"]["mean"] == pytest.approx(placebo, rel=1e-5)
    few = summary["scenarios"]["mixed"]["placements"]["all"]
    assert few["influence_targets"] == 5
    assert "mislabel_auroc" not in summary["scenarios"]["real"]["placements"]["head"]


def test_difficulty_is_said_to_come_from_those_it_comes_from() -> None:
    assert difficulty_from({"head": [0, 1], "all": [0, 2]}) == "the other seeds"
    assert difficulty_from({"head": [0]}) == "the only seed itself"
    assert difficulty_from({"head": [0, 1], "all": [0]}) == "the other seeds (of placement all, the only seed itself)"


def test_headline_is_flat_and_traces_to_what_the_report_says(results: Path) -> None:
    found = json.loads((results / "reports/headline.json").read_text())
    assert all(isinstance(value, int | float) for value in found.values())
    summary = json.loads((results / "reports/metrics/summary.json").read_text())
    claims = json.loads((results / "reports/metrics/findings.json").read_text())["claims"]
    head = summary["scenarios"]["mixed"]["placements"]["head"]
    assert found["random_label_accuracy_flipped"] == head["accuracy"]["random"]["flipped"]["mean"]
    assert found["wrong_label_auroc_support"] == pytest.approx(0.97)
    assert found["memorization_placebo"] == head["memorization"]["probability"]["placebo"]["mean"]["mean"]
    assert found["heldout_accuracy_minus_control"] == pytest.approx(-0.005)
    shown = {key: value for key, value in found.items() if key.startswith("effect_")}
    assert len(shown) == 4
    assert shown == {f"effect_{claim['name']}": claim["mean"] for claim in claims}
    assert found["epochs_easy_faster_real"] == claims[2]["plain"]["mean"]
    assert found["accuracy_points_tell_more"] == claims[3]["plain"]["mean"]
    verdicts = [claim["verdict"] for claim in claims]
    assert found["claims_supported"] == verdicts.count("supported")
    # Sharpened before raw, and pooled before both; nothing pooled from one network, no memorization from four.
    of_validation = {key: value for key, value in found.items() if key.startswith("validation_")}
    assert of_validation == {
        "validation_lds_one_network": 0.47,
        "validation_memorization_spearman_one_network": 0.83,
        "validation_lds_four_networks": 0.55,
    }


def test_headline_leaves_out_what_there_is_not(tmp_path: Path) -> None:
    seeds = {"head": [0], "other": [0]}
    root = make_repository(
        tmp_path, seeds=seeds, scenarios={"random": 1.0}, placements=("head",), removal=False, validation=False
    )
    assert run_stage(findings.run, "findings", {}, root=root) == 0
    assert run_stage(summarize.run, "summarize", {}, root=root) == 0
    found = json.loads((root / "reports/headline.json").read_text())
    assert found
    assert all(key.startswith("claims_") for key in found), "no scenario mixed, control or validation"
    summary = json.loads((root / "reports/metrics/summary.json").read_text())
    assert "control" not in summary["scenarios"]["random"]
    assert summary["difficulty_from"] == "the only seed itself"
    table = pd.DataFrame({"method": ["TRAK"], "networks": [1], "lds": [0.5], "memorization": [None]})
    ours = headline(summary, {"claims": []}, [Validation("digits", table, 10)])
    assert ours == {"claims_supported": 0, "claims_contradicted": 0}, "another method's score is not ours"


def test_levels_of_variants_by_hand() -> None:
    numbers = {"mean": 1.0, "low": 0.5, "high": 1.5, "seeds": 3}
    default = {f"default_{name}": 10 * of for name, of in numbers.items()} | {"default_value": 2.0}
    rows = [
        {"variant": name, "about": name, "varies": setting, "value": value, "effect": effect, **numbers, **default}
        for name, setting, value, effect in (
            ("many", "data.train", 9.0, "a"),
            ("few", "data.train", 1.0, "a"),
            ("few", "data.train", 1.0, "b"),
            ("other", "model.keep", 0.5, "a"),
        )
    ]
    rows[2]["default_mean"] = np.nan  # the default has no such effect
    found = dict(levels(pd.DataFrame(rows)))
    assert list(found) == ["data.train", "model.keep"]
    shown = found["data.train"][["at", "is_default", "about", "value", "effect", "mean", "seeds"]]
    assert shown.to_numpy().tolist() == [
        [0, False, "few", 1.0, "a", 1.0, 3],
        [0, False, "few", 1.0, "b", 1.0, 3],
        [1, True, "as in params.yaml", 2.0, "a", 10.0, 30],
        [2, False, "many", 9.0, "a", 1.0, 3],
    ]
    assert (title("data.train"), title("model.keep")) == ("training examples", "model.keep")
    assert (level("labels.noise.mixed", 0.2), level("data.train", 58_000.0)) == ("20 %", "58,000")
