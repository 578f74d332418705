"""Removal as a judge: what is taken out, on which targets; and the table in the document is what was measured."""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.brittleness import (
    CONTROL,
    DEFAULT,
    KEPT,
    ONE_RUN,
    Outcome,
    figures,
    show,
    spread,
    without_most_helpful,
)
from tests.support import ROOT


def test_the_most_helpful_to_each_target_are_left_out() -> None:
    influence = np.array([[3.0, -5.0], [2.0, 1.0], [-9.0, 0.0], [1.0, 2.0]])  # [train, target]
    left = without_most_helpful(influence, 2)
    assert left.tolist() == [[False, False, True, True], [True, False, True, False]]


def test_targets_are_spread_evenly_over_the_difficulty_of_those_that_are_predicted_rightly() -> None:
    difficulty = np.array([0.9, 0.0, 0.1, 0.2, 0.3, 0.5])
    able = np.array([True, False, True, True, True, False])
    assert spread(difficulty, able, 2).tolist() == [3, 0]  # of 2, 3, 4, 0


def test_differences_are_taken_within_target_and_seed() -> None:
    noise = np.random.default_rng(0).normal(size=(3, 8))
    flipped = np.zeros_like(noise, dtype=np.bool_)
    rises = {DEFAULT: noise + 1.0, ONE_RUN: noise + 0.5, "other": noise + 0.25, CONTROL: noise}
    table = figures({(method, 10): Outcome(rise, flipped) for method, rise in rises.items()}, 50).set_index("method")
    assert np.allclose(table.loc["other", ["over_control", "over_control_low", "over_control_high"]].tolist(), 0.25)
    assert np.allclose(table.loc["other", ["default_over_it", "default_over_it_low"]].tolist(), 0.75)
    assert np.isclose(table.loc["other", "one_run_over_it"], 0.25)


def test_the_table_in_the_document_is_what_the_benchmark_kept() -> None:
    text = (ROOT / "docs/validation.md").read_text(encoding="utf-8")
    shown = text.partition("<!-- removal -->\n\n")[2].partition("\n\n")[0]
    assert shown == show(pd.read_csv(KEPT)), "run `python benchmarks/brittleness.py --show`, put it after the mark"
