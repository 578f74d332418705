"""Verdicts on planted data: effects that are there are found, and those that are not there are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.findings import find
from tests.unit.study.fake_runs import SEEDS
from tests.unit.study.findings.planted import SETTINGS, neighbour_world, planted_study


def _claims(study: Any) -> dict[str, dict[str, Any]]:
    return {claim["key"]: claim for claim in find(study, **SETTINGS)[0]["claims"]}


@pytest.fixture(scope="module")
def with_effect() -> dict[str, dict[str, Any]]:
    return _claims(planted_study(informative=3.0))


def test_planted_effects_are_found(with_effect: dict[str, dict[str, Any]]) -> None:
    keys = ("together_real", "memorized_real", "faster_real", "aligned_real", "tell_more")
    assert {key: with_effect[key]["verdict"] for key in keys} == dict.fromkeys(keys, "supported")
    faster = with_effect["faster_real"]
    assert {part["definition"] for part in faster["comparisons"]} == {"memorization", "first-learned epoch"}
    assert faster["p"] <= faster["p_holm"] < 0.05
    for part in faster["comparisons"]:
        assert part["low"] > 0 and part["seeds"] == 3 and part["examples"] == 120
        # Easy 30 % against difficult 30 %: rates of about 1.05 and .35 a third epoch, see `planted`.
        assert 0.2 < part["effect"]["mean"] < 0.4


def test_dynamics_independent_of_difficulty_do_not_support_claim_1() -> None:
    claims = _claims(planted_study(effect=False))
    assert claims["faster_real"]["verdict"] == "not supported"
    assert claims["aligned_real"]["verdict"] == "not supported"
    assert claims["faster_real"]["holds"] == claims["faster_real"]["opposite"] == 0
    assert claims["together_real"]["verdict"] == "supported", "all losses fall, whoever is called difficult"


def test_shuffled_influences_do_not_support_claim_2() -> None:
    claim = _claims(planted_study(informative=3.0, shuffle_influence=True))["tell_more"]
    assert (claim["verdict"], claim["holds"]) == ("not supported", 0)


def test_influence_against_the_claim_is_contradicted_not_only_unsupported() -> None:
    claim = _claims(planted_study(informative=-3.0))["tell_more"]
    assert (claim["verdict"], claim["opposite"], claim["of"]) == ("contradicted", 4, 4)
    assert claim["p_holm_opposite"] < 0.05 < claim["p_holm"]


def test_uniquely_informative_examples_are_found_by_removing_them() -> None:
    removal, study = neighbour_world(noise=0.0)
    claims = _claims(study)
    assert claims["removal"]["verdict"] == "supported"
    assert claims["removal"]["tests"] == ["paired t-test over seeds"]
    by_hand = removal[removal["action"] == "remove"].pivot_table(
        index="seed", columns="order", values="heldout_accuracy"
    )
    effect = claims["removal"]["comparisons"][0]["effect"]
    expected = (by_hand["least_memorized"] - by_hand["most_memorized"]).mean()
    assert effect["mean"] == pytest.approx(expected, abs=1e-5)
    assert effect["mean"] > 0.05
    assert claims["removal_loss"]["verdict"] == "supported"
    losses = removal[removal["action"] == "remove"].pivot_table(index="seed", columns="order", values="heldout_loss")
    for of, easier in enumerate(("least_memorized", "random", "balanced_least_memorized", "balanced_random")):
        part = claims["removal_loss"]["comparisons"][of]
        harder = "balanced_most_memorized" if easier.startswith("balanced") else "most_memorized"
        assert part["effect"]["mean"] == pytest.approx((losses[harder] - losses[easier]).mean(), rel=1e-5)
        assert part["unit"] == "nats"
    assert "turns_round" not in claims


def test_with_wrong_labels_the_effect_turns_round_and_cleansing_helps() -> None:
    _, study = neighbour_world(noise=0.15)
    found, tables = find(study, **SETTINGS)
    claims = {claim["key"]: claim for claim in found["claims"]}
    assert claims["cleansing"]["verdict"] == claims["cleansing_loss"]["verdict"] == "supported"
    assert claims["turns_round"]["main"]["effect"]["mean"] > 0
    assert "removal" not in claims
    accuracy = tables["removal"][tables["removal"]["measure"] == "heldout_accuracy"]
    flagged = accuracy.set_index("order").loc[["flagged", "oracle"], "mean"]
    assert flagged["flagged"] == flagged["oracle"]


def test_removals_in_shuffled_order_support_nothing() -> None:
    """The accuracies are given to orders at random: what is planted is gone."""
    removal, study = neighbour_world(noise=0.0)
    swapped = removal["seed"] == 1
    most, least = "most_memorized", "least_memorized"
    removal.loc[swapped, "order"] = removal.loc[swapped, "order"].replace(
        {most: least, least: most, f"balanced_{most}": f"balanced_{least}", f"balanced_{least}": f"balanced_{most}"}
    )
    claims = _claims(study)
    for key in ("removal", "removal_loss"):
        assert (claims[key]["verdict"], claims[key]["holds"]) == ("not supported", 0)


def test_findings_trace_to_the_runs(results: Path) -> None:
    found = json.loads((results / "reports/metrics/findings.json").read_text())
    claims = {claim["key"]: claim for claim in found["claims"]}
    harm = claims["random_harm"]["comparisons"]
    assert [(part["scenario"], part["placement"]) for part in harm] == [("mixed", "head")], "five targets are too few"
    means = []
    for seed in SEEDS["head"]:
        totals = pd.read_parquet(results / f"scores/mixed/head/{seed}/influence/totals.parquet")
        means.append(-totals.loc[totals["id"] < 15, "total"].mean())  # a quarter of 60, see fake_runs
    assert harm[0]["effect"]["mean"] == pytest.approx(np.mean(means), rel=1e-5)
    assert len(claims["faster_real"]["comparisons"]) == 2 * 2 * 2  # scenario, placement, definition
    assert found["turning_point"] == {"real": 0.1, "mixed": None}
    gain = claims["cleansing"]["comparisons"][0]["effect"]["mean"]
    table = pd.read_csv(results / "reports/metrics/removal.csv")
    at = table[(table["scenario"] == "mixed") & (table["order"] == "random") & (table["action"] == "remove")]
    by_fraction = at.groupby("fraction")["heldout_accuracy"].mean()
    flagged = table[table["order"] == "flagged"]["heldout_accuracy"].mean()
    assert gain == pytest.approx(flagged - (by_fraction[0.1] + by_fraction[0.4]) / 2, abs=1e-5)


def test_speed_of_learning_by_hand(results: Path) -> None:
    speeds, steps = [], []
    for seed in SEEDS["head"]:
        frame = pd.read_parquet(results / f"runs/mixed/head/{seed}/dynamics.parquet")
        random = frame[frame["id"] < 15]
        loss = random.groupby("epoch")["loss_exposed"].mean().astype(float)
        speeds.append((loss[0] - loss[3]) / 3)
        steps.append((loss[3] - loss[5]) / 2)
    key = {"scenario": "mixed", "placement": "head", "definition": "memorization", "group": "random"}

    def mean(name: str, **more: object) -> float:
        table = pd.read_csv(results / f"reports/metrics/findings/{name}.csv")
        for column, value in {**key, **more}.items():
            table = table[table[column] == value]
        return float(table["mean"].item())

    assert mean("groups", number="speed") == pytest.approx(np.mean(speeds), rel=1e-4)
    assert mean("speed", epoch=5) == pytest.approx(np.mean(steps), rel=1e-4)
