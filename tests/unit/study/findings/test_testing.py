"""The tests behind the verdicts, against closed forms."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from study.analysis.inputs import Similarity
from study.findings.alignment import compare_alignment
from study.findings.learning import finally_learned, first_learned, read_setting
from study.findings.removal import ACCURACY, difference_table, over_random, turning_point
from study.findings.testing import Comparison, draw_effects, holm, permuted_within, t_test, tails
from study.findings.verdicts import judge
from tests.unit.study.findings.planted import SAMPLE, planted_study


def test_bootstrap_spreads_as_the_mean_does() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0.5, 2.0, (1, 400))
    everyone = np.ones((1, 400), bool)
    draws = draw_effects(values, everyone, draws=4000)
    assert draws.mean() == pytest.approx(values.mean(), abs=0.02)
    assert draws.std() == pytest.approx(values.std() / 20, rel=0.06)
    # An example's seeds are drawn together: two copies of a seed tell no more than one.
    assert draw_effects(np.vstack([values] * 2), np.vstack([everyone] * 2)).std() == pytest.approx(draws.std(), rel=0.1)


def test_bootstrap_of_a_difference_uses_each_seeds_own_groups() -> None:
    values = np.array([[1.0, 1.0, 5.0, 5.0], [5.0, 1.0, 5.0, 1.0]])
    plus = np.array([[0, 0, 1, 1], [1, 0, 1, 0]], bool)
    draws = draw_effects(values, plus, ~plus)
    usual = draws[(draws > 3.99) & (draws < 4.01)]  # a group may be drawn empty where it has two members
    assert len(usual) > 0.6 * len(draws)


def test_p_values_count_the_draws_beyond_the_null() -> None:
    above, below = tails(np.array([1.0, 2.0, -1.0]))
    assert (above, below) == (0.5, 0.75)


def test_t_test_is_students() -> None:
    values = [0.1, 0.4, 0.2]
    expected = stats.ttest_1samp(values, 0, alternative="greater").pvalue
    above, below = t_test(values)
    assert above == pytest.approx(expected)
    assert above is not None and below == pytest.approx(1 - above)
    assert t_test([1.0]) == (None, None)


def test_holm_factors_and_the_running_maximum() -> None:
    assert holm([0.01, 0.5, 0.001, 0.02]) == [3, 1, 4, 2]

    def part(claim: str, p: float) -> Comparison:
        return Comparison(claim, "real", "head", "", "x", "nats", (1.0, 1.1, 0.9), 5, "t", p, 1 - p)

    parts = [
        part("together_real", 0.012),
        part("faster_real", 0.001),
        part("faster_real", 0.004),
        part("removal", 0.02),
    ]
    found = {claim["key"]: claim for claim in judge(parts, 0.95)}
    # .004 x 3, .012 x 2, .02 x 1 but not below the one before.
    adjusted = [found[key]["p_holm"] for key in ("faster_real", "together_real", "removal")]
    assert adjusted == pytest.approx([0.012, 0.024, 0.024])
    assert {claim["verdict"] for claim in found.values()} == {"supported"}
    lone = judge([part("faster_real", 0.04), part("removal", 0.04)], 0.95)
    assert [claim["verdict"] for claim in lone] == ["not supported", "not supported"], ".04 twice is not below .05"


@pytest.mark.parametrize(
    ("effects", "p", "verdict", "opposite"),
    [
        ((1.0, 1.1, 0.9), 0.001, "supported", 0),
        ((1.0, 1.1, 0.9), 0.2, "not supported", 0),
        ((1.0, 9.0, 0.1), 0.001, "not supported", 0),  # the seeds do not agree
        ((-1.0, -1.1, -0.9), 0.999, "contradicted", 1),
        ((-1.0, -1.1, -0.9), 0.9, "not supported", 0),
        ((-1.0, -9.0, -0.1), 0.999, "not supported", 0),
        ((1.0,), 0.001, "undecided", 0),
    ],
)
def test_a_verdict_needs_the_examples_and_the_seeds(
    effects: tuple[float, ...], p: float, verdict: str, opposite: int
) -> None:
    part = Comparison("removal", "real", "retrained", "", "x", "accuracy", effects, 0, "t", p, 1 - p)
    (claim,) = judge([part], 0.95)
    assert (claim["verdict"], claim["opposite"]) == (verdict, opposite)


def test_definitions_that_differ_make_a_claim_mixed() -> None:
    parts = [
        Comparison("faster_real", "real", "head", definition, "x", "nats", (1.0, 1.1, 0.9), 5, "t", p, 1 - p)
        for definition, p in (("memorization", 0.001), ("first-learned epoch", 0.6))
    ]
    (claim,) = judge(parts, 0.95)
    assert (claim["verdict"], claim["holds"], claim["of"]) == ("mixed", 1, 2)


def test_a_comparison_is_judged_by_its_own_p_whatever_its_siblings() -> None:
    """Else the worse a claim fails, the smaller Holm's factor, and the sooner one of its parts would hold."""

    def verdicts(sibling: float) -> list[str]:
        one = Comparison("removal", "real", "head", "", "x", "nats", (1.0, 1.1, 0.9), 5, "t", 0.03, 0.97)
        other = dataclasses.replace(one, p=sibling, p_below=1 - sibling)
        strong = [dataclasses.replace(one, claim=key, p=1e-4) for key in ("tell_more", "random_harm")]
        found = {claim["key"]: claim for claim in judge([one, other, *strong], 0.95)}
        assert found["tell_more"]["verdict"] == found["random_harm"]["verdict"] == "supported"
        return [part["verdict"] for part in found["removal"]["comparisons"]]

    assert verdicts(0.9) == ["not supported", "not supported"]
    assert verdicts(0.06) == ["not supported", "not supported"]
    assert verdicts(0.04) == ["supported", "supported"], "the claim as a whole holds: .04, last in Holm's order"


def test_a_claim_is_contradicted_only_if_all_of_it_is() -> None:
    against = Comparison("keeping", "real", "retrained", "", "x", "accuracy", (-1.0, -1.1, -0.9), 0, "t", 0.98, 0.02)
    weaker = dataclasses.replace(against, p=0.7, p_below=0.3)
    strong = dataclasses.replace(against, claim="removal", p=0.9999, p_below=0.0001)
    found = {claim["key"]: claim for claim in judge([against, against, strong], 0.95)}
    assert {claim["verdict"] for claim in found.values()} == {"contradicted"}
    # .02 x 1, the last in Holm's order; alone, times two claims, it would count as well.
    assert found["keeping"]["p_holm_opposite"] == pytest.approx(0.02)
    assert [part["verdict"] for part in found["keeping"]["comparisons"]] == ["contradicted", "contradicted"]
    found = {claim["key"]: claim for claim in judge([against, weaker, strong], 0.95)}
    assert (found["keeping"]["verdict"], found["keeping"]["opposite"]) == ("not supported", 1)


def test_seeds_that_agree_are_no_more_evidence_than_one() -> None:
    """Three times the same run gives the p-value of one, whatever the gradients are."""
    study = planted_study(effect=False)
    runs = study.runs("real", "head")
    for trial in range(5):
        pairs = np.random.default_rng(trial).normal(0, 0.1, (2, SAMPLE * (SAMPLE - 1) // 2)).astype(np.float16)
        same = dataclasses.replace(
            study,
            memorization=dict.fromkeys(runs, study.memorization[runs[0]]),
            similarity=dict.fromkeys(
                runs, Similarity(np.arange(SAMPLE), np.array([0, 2]), {"exposed": pairs, "full": pairs})
            ),
        )
        p_values = []
        for of in (same, dataclasses.replace(same, seeds={"head": [0]})):
            parts = compare_alignment(of, read_setting(of, "real", "head", 0.3))
            p_values.append(next(part.p for part in parts if part.definition == "memorization"))
        assert p_values[0] == p_values[1]


def test_permutations_stay_within_their_stratum() -> None:
    strata = np.array([0, 1, 0, 1, 1, 2])
    orders = permuted_within(strata, 50, np.random.default_rng(0))
    assert (np.sort(orders, axis=1) == np.arange(6)).all()
    assert (strata[orders] == strata).all()
    assert len({tuple(order) for order in orders}) > 5


def test_first_and_finally_learned_by_hand() -> None:
    right = {7: [1, 0, 1, 0, 1], 3: [0, 1, 1, 1, 1], 5: [1, 0, 0, 0, 0], 9: [0, 0, 1, 1, 0]}
    epochs = [0, 1, 2, 4, 6]
    frame = pd.DataFrame(
        [(epoch, id_, bool(of)) for id_, row in right.items() for epoch, of in zip(epochs, row, strict=True)],
        columns=["epoch", "id", "correct_exposed"],
    )
    assert first_learned(frame).to_dict() == {3: 1.0, 5: 7.0, 7: 2.0, 9: 2.0}
    assert finally_learned(frame).to_dict() == {3: 1.0, 5: 7.0, 7: 6.0, 9: 7.0}


def _removal(rows: list[tuple[int, str, float, float]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["seed", "order", "fraction", "heldout_accuracy"])
    return table.assign(scenario="mixed", action="remove", train=10, heldout_loss=0.0)


def test_flagged_examples_stand_against_as_many_at_random() -> None:
    rows = [(0, "none", 0.0, 0.8), (0, "random", 0.1, 0.7), (0, "random", 0.3, 0.6), (0, "flagged", 0.2, 0.75)]
    rows += [(1, "none", 0.0, 0.8), (1, "random", 0.1, 0.7), (1, "random", 0.3, 0.6), (1, "flagged", 0.05, 0.75)]
    rows += [(2, "random", 0.1, 0.7), (2, "flagged", 0.3, 0.9)]  # nothing to compare with
    found = over_random(_removal(rows), ACCURACY, "mixed", "flagged")
    assert found.columns.to_list() == [0.125]
    assert found[0.125].to_dict() == pytest.approx({0: 0.10, 1: 0.0})


def test_the_turning_point_is_where_the_difference_stays_positive() -> None:
    rows = [
        (seed, order, fraction, accuracy)
        for seed in (0, 1)
        for fraction, least, most in ((0.1, 0.6, 0.8), (0.2, 0.7, 0.7), (0.4, 0.7, 0.6))
        for order, accuracy in (("least_memorized", least), ("most_memorized", most))
    ]
    table = difference_table(_removal(rows), 0.95)
    assert turning_point(table, "mixed") == 0.4
    assert turning_point(table, "real") is None
