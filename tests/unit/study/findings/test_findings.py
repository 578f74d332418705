"""Whole studies with a known answer: effects that are there are found, and those that are not there are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.findings import find
from study.analysis.inputs import Study
from tests.unit.study.fake_runs import SEEDS
from tests.unit.study.findings.planted import SETTINGS, neighbour_world, planted_study


def _claims(study: Study) -> dict[str, dict[str, Any]]:
    return {claim["key"]: claim for claim in find(study, **SETTINGS)[0]["claims"]}


def _effects(study: Study, words: str) -> pd.DataFrame:
    table = find(study, **SETTINGS)[1]["effects"]
    return table[table["text"].str.contains(words, regex=False)]


def test_planted_effects_of_difficulty_are_found() -> None:
    study = planted_study()
    found, tables = find(study, **SETTINGS)
    (claim,) = found["claims"]  # no random labels, nothing retrained
    assert (claim["key"], claim["verdict"], found["findings"]) == (
        "P3",
        "supported",
        {"1": "undecided", "2": "undecided"},
    )
    assert claim["low"] > 0 and claim["p"] == claim["p_holm"] < 0.05
    assert (claim["seeds"], claim["examples"]) == (4, 120)
    # Exposed losses fall as exp(-epoch speed / 3), speed 1.05 for the easy and .35 for the difficult on average.
    late = np.arange(1, 9)
    by_hand = [2.3 * np.trapezoid(np.exp(-late * speed / 3), late) / 7 for speed in (0.35, 1.05)]
    assert claim["mean"] == pytest.approx(by_hand[0] - by_hand[1], rel=0.05)
    aligned = _effects(study, "cosine of gradients in the full network")
    assert len(aligned) == 4 and (aligned["low"] > 0).all(), "both definitions, matched by labels or not"
    slower = tables["effects"][tables["effects"]["text"].str.startswith("decrease")]
    assert (slower["low"] > 0).all() and slower["text"].str.contains("real easy minus real difficult").all()


def test_wrong_labels_are_learned_together_with_the_real_ones_and_later() -> None:
    study = planted_study(fraction=0.2)
    claims = _claims(study)
    assert {key: claim["verdict"] for key, claim in claims.items()} == {"P1": "supported", "P2": "supported"}
    own = claims["P2"]
    # Planted: an eighth of 2 nats after the first epoch, for hardness 1; nothing for placebos.
    assert own["mean"] == pytest.approx(0.25, abs=0.02)
    assert own["plain"]["mean"] == pytest.approx(100 * (np.exp(own["mean"]) - 1), rel=1e-4)
    assert 0 < own["more"]["overlap"]["mean"] < 1
    assert own["more"]["easy_fitted"] < 0.9
    end = _effects(study, "memorization (probability) at the end").set_index("text")["mean"]
    # Planted: exposed losses of 2.3 exp(-8 x .2 / 3), flipped ones 2 nats above; at the end, for hardness 1.
    loss = 2.3 * np.exp(-8 * 0.2 / 3)
    text = "memorization (probability) at the end, wrongly labelled examples minus placebos"
    assert end[text] == pytest.approx(np.exp(-loss) - np.exp(-loss - 2), abs=0.03)


def test_dynamics_independent_of_difficulty_support_nothing() -> None:
    study = planted_study(effect=False)
    claim = _claims(study)["P3"]
    assert claim["verdict"] == "undecided"
    assert 0 < claim["smallest"] < 0.3, "and says what it could have seen"
    aligned = _effects(study, "cosine of gradients in the full network")
    assert (aligned["low"] < 0).any()


def test_influence_follows_what_was_planted() -> None:
    words = "influence on all held-out examples, real difficult minus real easy"
    assert (_effects(planted_study(informative=3.0), words)["low"] > 0).all()
    assert (_effects(planted_study(informative=-3.0), words)["high"] < 0).all()
    shuffled = _effects(planted_study(informative=3.0, shuffle_influence=True), words)
    assert ((shuffled["low"] < 0) & (shuffled["high"] > 0)).all()


def test_uniquely_informative_examples_are_found_by_removing_them() -> None:
    removal, study = neighbour_world(noise=0.0)
    claim = _claims(study)["P4"]
    assert claim["verdict"] == "supported"
    assert claim["test"] == "paired t-test over seeds"
    of = removal[(removal["action"] == "remove") & (removal["fraction"] == 0.2)]
    loss, accuracy = (
        of.pivot(index="seed", columns="order", values=column) for column in ("heldout_loss", "heldout_accuracy")
    )
    most, others = "balanced_most_memorized", ("balanced_random", "balanced_least_memorized")
    for part, other in zip(claim["parts"], others, strict=True):
        assert part["mean"] == pytest.approx((loss[most] - loss[other]).mean(), rel=1e-5)
    assert claim["mean"] == claim["parts"][0]["mean"]
    assert claim["plain"]["mean"] == pytest.approx(100 * (accuracy[most] - accuracy[others[0]]).mean(), rel=1e-5)
    assert claim["plain"]["low"] < claim["plain"]["mean"] < claim["plain"]["high"] < 0


def test_removals_in_swapped_order_are_undecided() -> None:
    """In one seed of four the two orders are exchanged: what is planted is gone."""
    removal, study = neighbour_world(noise=0.0)
    swapped = removal["seed"] == 1
    most, least = "balanced_most_memorized", "balanced_least_memorized"
    removal.loc[swapped, "order"] = removal.loc[swapped, "order"].replace({most: least, least: most})
    assert _claims(study)["P4"]["verdict"] == "undecided"


def test_with_wrong_labels_cleansing_helps_and_nothing_is_claimed_of_removing_difficult_ones() -> None:
    _, study = neighbour_world(noise=0.15)
    found, tables = find(study, **SETTINGS)
    assert "P4" not in {claim["key"] for claim in found["claims"]}
    flagged = _effects(study, "without those flagged as mislabelled minus without as many at random").set_index("unit")
    assert flagged.loc["accuracy", "low"] > 0 > flagged.loc["nats", "high"]
    accuracy = tables["removal"][tables["removal"]["measure"] == "heldout_accuracy"]
    dropped = accuracy.set_index("order").loc[["flagged", "oracle"], "mean"]
    assert dropped["flagged"] == dropped["oracle"]


def test_findings_trace_to_the_runs(results: Path) -> None:
    found = json.loads((results / "reports/metrics/findings.json").read_text())
    assert [claim["key"] for claim in found["claims"]] == ["P1", "P2", "P3", "P4"]
    effects = pd.read_csv(results / "reports/metrics/findings/effects.csv")
    harm = effects[effects["text"] == "influence on all held-out examples of one wrongly labelled example"]
    assert harm[["scenario", "placement"]].to_numpy().tolist() == [["mixed", "head"]], "five targets are too few"
    examples = pd.read_parquet(results / "data/scenarios/mixed/examples.parquet")
    wrong = set(examples.loc[examples["is_random"] & (examples["given"] != examples["original"]), "id"]) & set(
        range(15)
    )
    means, losses = [], []
    for seed in SEEDS["head"]:
        totals = pd.read_parquet(results / f"scores/mixed/head/{seed}/influence/totals.parquet")
        means.append(totals.loc[totals["id"].isin(wrong), "total"].mean())
        frame = pd.read_parquet(results / f"runs/mixed/head/{seed}/dynamics.parquet")
        loss = frame.pivot(index="epoch", columns="id", values="loss_exposed").astype(float)
        over = pd.Series(np.trapezoid(loss.loc[1:], loss.index[1:], axis=0) / (loss.index[-1] - 1), loss.columns)
        losses.append(over[sorted(wrong)].mean() - over[range(15, 60)].mean())
    assert harm["mean"].item() == pytest.approx(np.mean(means), rel=1e-5)
    assert found["claims"][0]["mean"] == pytest.approx(np.mean(losses), rel=1e-5)
    gain = effects[effects["text"].str.startswith("held-out accuracy without those flagged")]["mean"].item()
    table = pd.read_csv(results / "reports/metrics/removal.csv")
    at = table[(table["scenario"] == "mixed") & (table["order"] == "random") & (table["action"] == "remove")]
    none = table[(table["scenario"] == "mixed") & (table["order"] == "none")]["heldout_accuracy"].mean()
    at_random = none + (at["heldout_accuracy"].mean() - none) * 0.25 / 0.3  # a quarter is flagged, .3 are removed
    flagged = table[table["order"] == "flagged"]["heldout_accuracy"].mean()
    assert gain == pytest.approx(flagged - at_random, abs=1e-5)


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
