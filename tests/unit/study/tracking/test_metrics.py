"""Which numbers are metrics of a run: few, under the names of the headline numbers."""

from __future__ import annotations

import csv
import json
import re

from study.tracking.metrics import (
    claim_metrics,
    estimate_metrics,
    flat,
    means,
    numbers,
    training_metrics,
    validation_metrics,
)
from tests.support import ROOT

FINAL = {
    "train_loss": 0.5,
    "train_accuracy": 0.9,
    "heldout_loss": 0.75,
    "heldout_accuracy": 0.8,
    "epochs": 15,
    "accuracy_real_exposed": 1.0,
    "accuracy_random_exposed": 0.75,
    "accuracy_random_flipped": 0.25,
    "accuracy_random_full": 0.5,
}
# MLflow's rule for names of metrics.
NAME = re.compile(r"[/\w.\- :]+")


def test_flat_joins_keys() -> None:
    assert flat({"a": {"b": 1, "c": {"d": 2}}, "e": 3}) == {"a.b": 1, "a.c.d": 2, "e": 3}


def test_numbers_leave_out_what_is_no_metric() -> None:
    found = numbers({"a": 1, "b": "text", "c": True, "d": float("nan"), "e": {"f@g": 0.5}, "g": None})
    assert found == {"a": 1.0, "e/f_g": 0.5}
    assert all(NAME.fullmatch(name) for name in found)


def test_a_training_adds_two_numbers_to_its_four_curves() -> None:
    added = {"random_label_accuracy_exposed": 0.75, "random_label_accuracy_flipped": 0.25}
    assert training_metrics(FINAL) == added
    assert training_metrics({"heldout_accuracy": 0.8}) == {}, "no label of it is random"


def test_means_are_of_what_all_have() -> None:
    assert means([{"a": 1.0, "b": 2.0}, {"a": 3.0}]) == {"a": 2.0}
    assert means([]) == {}


def test_estimates_are_three_numbers() -> None:
    found = {
        "memorization": {"real": {"loss": 3.0, "probability": 0.5}, "placebo": {"loss": 0.0, "probability": 0.0}},
        "mislabel_auroc": {"low_support": 0.98, "loss_full": 0.97},
        "wrong_labels": 24,
    }
    assert estimate_metrics(found) == {"memorization_real": 0.5, "wrong_label_auroc_support": 0.98}
    assert estimate_metrics({"memorization": 1}) == {}


def test_committed_results_give_few_numbers_named_as_the_headline() -> None:
    headline = json.loads((ROOT / "reports/headline.json").read_text(encoding="utf-8"))
    for name in ("validation", "validation_digits"):
        with (ROOT / f"reports/validation/{name}/table.csv").open(encoding="utf-8", newline="") as file:
            found = validation_metrics(list(csv.DictReader(file)))
        assert len(found) == 6
        shared = {key: value for key, value in found.items() if f"{name}_{key}" in headline}
        assert len(shared) == 4
        assert shared == {key: headline[f"{name}_{key}"] for key in shared}
    claims = json.loads((ROOT / "reports/metrics/findings.json").read_text(encoding="utf-8"))["claims"]
    found = claim_metrics(claims)
    assert found == {name: headline[name] for name in found}
    assert len(found) == len(claims) + 2


def test_a_claim_without_an_effect_counts_by_its_verdict_alone() -> None:
    assert claim_metrics([{"name": "x", "mean": None, "verdict": "undecided"}]) == {
        "claims_supported": 0.0,
        "claims_contradicted": 0.0,
    }
