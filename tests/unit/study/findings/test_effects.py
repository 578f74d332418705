"""Effects and their uncertainty, against closed forms."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from study.findings.alignment import _easy_minus_difficult
from study.findings.effects import Where, compare_groups, compare_seeds, permuted_within
from study.findings.learning import finally_learned, first_learned, over_training
from study.findings.removal import ACCURACY, over_random

WHERE = Where("real", "head", "", "x", "nats")


def test_over_seeds_it_is_the_paired_t_test() -> None:
    values = [0.1, 0.4, 0.2]
    effect = compare_seeds(WHERE, values)
    expected = stats.ttest_1samp(values, 0, alternative="greater")
    assert effect.p(1) == pytest.approx(expected.pvalue)
    assert effect.p(-1) == pytest.approx(1 - expected.pvalue)
    assert effect.interval(0.95) == pytest.approx(tuple(stats.ttest_1samp(values, 0).confidence_interval(0.95)))


def test_seeds_that_agree_leave_the_t_test_over_examples() -> None:
    values = np.random.default_rng(0).normal(0.3, 1.0, 50)
    effect = compare_groups(WHERE, np.tile(values, (4, 1)), np.ones((4, 50), bool))
    expected = stats.ttest_1samp(values, 0, alternative="greater")
    assert effect.freedom == pytest.approx(49)
    assert effect.p(1) == pytest.approx(expected.pvalue)


def test_two_groups_of_seeds_that_agree_have_the_error_of_welchs_test() -> None:
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.normal(1, 1, 30), rng.normal(0, 3, 80)])
    plus = np.arange(110) < 30
    effect = compare_groups(WHERE, np.tile(values, (3, 1)), np.tile(plus, (3, 1)), np.tile(~plus, (3, 1)))
    welch = stats.ttest_ind(values[plus], values[~plus], equal_var=False)
    assert effect.error is not None and effect.mean / effect.error == pytest.approx(welch.statistic)


def test_examples_that_agree_leave_the_t_test_over_seeds() -> None:
    of_seeds = np.array([0.1, 0.5, 0.2, 0.4])
    effect = compare_groups(WHERE, np.tile(of_seeds[:, None], (1, 20)), np.ones((4, 20), bool))
    expected = compare_seeds(WHERE, of_seeds.tolist())
    assert (effect.mean, effect.error, effect.freedom) == pytest.approx(
        (expected.mean, expected.error, expected.freedom)
    )


def test_min_f_prime_is_clarks() -> None:
    """min F' = F1 F2 / (F1 + F2), with (F1 + F2)^2 / (F1^2 / n2 + F2^2 / n1) degrees of freedom (Clark 1973)."""
    values = np.random.default_rng(2).normal(0.5, 1.0, (6, 40))
    effect = compare_groups(WHERE, values, np.ones((6, 40), bool))
    f1 = stats.ttest_1samp(values.mean(1), 0).statistic ** 2
    f2 = stats.ttest_1samp(values.mean(0), 0).statistic ** 2
    assert effect.error is not None
    assert (effect.mean / effect.error) ** 2 == pytest.approx(f1 * f2 / (f1 + f2))
    assert effect.freedom == pytest.approx((f1 + f2) ** 2 / (f1**2 / 39 + f2**2 / 5))


def test_each_seed_has_its_own_groups() -> None:
    values = np.array([[1.0, 1.0, 5.0, 5.0], [5.0, 1.0, 5.0, 1.0]])
    plus = np.array([[0, 0, 1, 1], [1, 0, 1, 0]], bool)
    effect = compare_groups(WHERE, values, plus, ~plus)
    assert (effect.mean, effect.error, effect.examples) == (4.0, 0.0, 4)
    assert (effect.p(1), effect.p(-1)) == (0.0, 1.0)


@given(st.integers(2, 9), st.integers(3, 30), st.integers(0, 10**6))
def test_order_of_seeds_and_examples_does_not_matter(seeds: int, examples: int, draw: int) -> None:
    rng = np.random.default_rng(draw)
    values = rng.normal(0, 1, (seeds, examples))
    plus = np.tile(np.arange(examples) < examples // 2 + 1, (seeds, 1))
    rows, columns = rng.permutation(seeds), rng.permutation(examples)
    one = compare_groups(WHERE, values, plus, ~plus)
    other = compare_groups(WHERE, values[rows][:, columns], plus[:, columns], ~plus[:, columns])
    assert (one.mean, one.error, one.freedom) == pytest.approx((other.mean, other.error, other.freedom))


def test_one_seed_says_nothing_of_others() -> None:
    for effect in (compare_seeds(WHERE, [1.0]), compare_groups(WHERE, np.ones((1, 5)), np.ones((1, 5), bool))):
        assert (effect.mean, effect.interval(0.95), effect.p(1), effect.detectable(0.05)) == (1.0, None, None, None)


def test_what_is_called_detectable_is_detected_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    level, seeds, error = 0.0125, 8, 1 / np.sqrt(8)
    detectable = error * (stats.t.ppf(1 - level / 2, 7) + stats.t.ppf(0.8, 7))
    values = rng.normal(detectable, 1.0, (4000, seeds))
    found = stats.ttest_1samp(values, 0, axis=1).pvalue < level
    assert 0.75 < found.mean() < 0.85
    unit = compare_seeds(WHERE, [-1.0, 1.0] * 4)
    assert unit.error is not None and unit.detectable(level) == pytest.approx(detectable * unit.error / error)


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


def test_the_mean_over_training_counts_the_time_between_epochs() -> None:
    epochs = np.array([0.0, 1.0, 2.0, 6.0])
    loss = np.array([9.0, 4.0, 2.0, 0.0])[None, :, None]
    assert over_training(loss, epochs)[0, 0] == pytest.approx((3.0 * 1 + 1.0 * 4) / 5)
    assert over_training(loss[:, :2], epochs[:2])[0, 0] == 4.0


def test_pairs_are_matched_by_their_two_labels() -> None:
    """Easy examples are all of class 0, whose pairs are alike, but for two of class 1: no difference once matched."""
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 0, 0])
    easy = np.array([1, 1, 1, 1, 1, 0, 0, 0, 0], bool)
    cosines = np.where((labels[:, None] == 0) & (labels[None] == 0), 0.8, 0.2)
    plain = _easy_minus_difficult(cosines, easy, ~easy, np.zeros(9, int))
    matched = _easy_minus_difficult(cosines, easy, ~easy, labels)
    # 3 of 10 easy pairs, 1 of 6 difficult ones are of class 0 twice.
    assert plain == pytest.approx(0.6 * (3 / 10 - 1 / 6))
    assert matched == pytest.approx(0.0)
    assert _easy_minus_difficult(cosines, labels == 0, labels == 1, labels) is None


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
