"""The comparison behind `make check`."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from study.commands.reproduction import SUMMARY, differences, effects
from tests.support import ROOT

COMMITTED = {
    "seeds": [0, 1],
    "train": 4000,
    "accuracy": {"mean": 0.83, "half_width": 0.01, "n": 2},
    "loss": {"mean": 4.0, "half_width": 0.5, "n": 2},
    "one_seed": {"mean": 0.5, "half_width": None, "n": 1},
    "never": None,
    "claim": {"difference": {"mean": 0.1, "half_width": 0.2, "n": 2}, "verdict": "undecided"},
}


def changed(key: str, value: Any) -> dict[str, Any]:
    found = copy.deepcopy(COMMITTED)
    if isinstance(value, float):
        found[key]["mean"] = value
    else:
        found[key] = value
    return found


@pytest.mark.parametrize(("key", "value"), [("accuracy", 0.86), ("loss", 4.9), ("one_seed", 0.515), ("never", {})])
def test_differences_within_the_intervals_and_the_tolerance_pass(key: str, value: Any) -> None:
    assert differences(COMMITTED, changed(key, value)) == []


def test_a_verdict_may_turn() -> None:
    assert differences(COMMITTED, changed("claim", {**COMMITTED["claim"], "verdict": "supported"})) == []  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("accuracy", 0.78, "accuracy: committed 0.83, now 0.78 (allowed difference 0.04)"),
        ("loss", 8.0, "loss: committed 4.0, now 8.0 (allowed difference 1.8)"),
        ("one_seed", 0.55, "one_seed: committed 0.5, now 0.55 (allowed difference 0.02)"),
        ("train", 3000, "train: committed 4000, now 3000"),
        ("seeds", [0], "seeds: committed [0, 1], now [0]"),
    ],
)
def test_larger_differences_are_named_with_both_values(key: str, value: Any, line: str) -> None:
    assert differences(COMMITTED, changed(key, value)) == [line]


def test_what_is_missing_is_named() -> None:
    assert differences({"a": COMMITTED}, {"a": changed("extra", 1)}) == ["a.extra: only in one of the two"]


def test_the_committed_summary_has_what_is_compared() -> None:
    committed = json.loads((ROOT / SUMMARY).read_text(encoding="utf-8"))
    shifted = copy.deepcopy(committed)
    shifted["scenarios"]["mixed"]["placements"]["head"]["heldout_accuracy"]["mean"] -= 0.1
    assert differences(committed, committed) == []
    assert len(differences(committed, shifted)) == 1


def test_findings_are_compared_by_their_effects() -> None:
    def findings(mean: float, verdict: str, p: float) -> dict[str, Any]:
        part = {"text": "speed", "mean": mean, "low": mean - 0.1, "high": mean + 0.1}
        return {"claims": [{"key": "P1", "verdict": verdict, "p": p, "parts": [part]}]}

    committed = effects(findings(0.3, "supported", 0.01))
    assert differences(committed, effects(findings(0.1, "undecided", 0.2))) == []
    (line,) = differences(committed, effects(findings(0.05, "supported", 0.01)))
    assert line.startswith("P1 speed: committed 0.3, now 0.05")
