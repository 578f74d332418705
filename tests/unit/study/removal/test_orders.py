"""Who is removed first, and that the far ends of a planted score decide what is left."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from study.removal.orders import cleansings, removal_orders, removals

RNG = np.random.default_rng(0)
SCORE = RNG.standard_normal(200)
LABELS = RNG.choice(4, 200, p=[0.5, 0.3, 0.15, 0.05])


def test_orders_are_permutations_led_by_the_extremes() -> None:
    orders = removal_orders(SCORE, LABELS, seed=1)
    kinds = ["most_memorized", "least_memorized", "random"]
    assert list(orders) == [*kinds, *(f"balanced_{kind}" for kind in kinds)]
    assert all(np.array_equal(np.sort(order), np.arange(200)) for order in orders.values())
    assert np.array_equal(SCORE[orders["most_memorized"]], np.sort(SCORE)[::-1])
    assert np.array_equal(SCORE[orders["least_memorized"]], np.sort(SCORE))


def test_random_orders_depend_on_the_seed_the_others_do_not() -> None:
    one, same, other = (removal_orders(SCORE, LABELS, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert {name for name in one if not np.array_equal(one[name], other[name])} == {"random", "balanced_random"}


def test_equal_scores_keep_their_order() -> None:
    orders = removal_orders(np.zeros(5), np.zeros(5), seed=0)
    assert orders["most_memorized"].tolist() == orders["least_memorized"].tolist() == [0, 1, 2, 3, 4]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=80), st.floats(0.0, 1.0), st.integers(0, 99))
def test_balanced_orders_take_every_class_in_proportion(labels: list[int], fraction: float, seed: int) -> None:
    given_labels = np.array(labels)
    score = np.random.default_rng(seed).standard_normal(len(labels))
    orders = removal_orders(score, given_labels, seed)
    for name in ("balanced_most_memorized", "balanced_least_memorized", "balanced_random"):
        first = orders[name][: round(fraction * len(labels))]
        for label in np.unique(given_labels):
            size = (given_labels == label).sum()
            assert abs((given_labels[first] == label).sum() - len(first) * size / len(labels)) < 2


def test_balanced_extremes_are_the_extremes_of_each_class() -> None:
    orders = removal_orders(SCORE, LABELS, seed=0)
    for label in range(4):
        of_class = SCORE[label == LABELS]
        for name, expected in (
            ("balanced_most_memorized", -np.sort(-of_class)),
            ("balanced_least_memorized", np.sort(of_class)),
        ):
            order = orders[name]
            assert np.array_equal(SCORE[order[LABELS[order] == label]], expected)


def test_removing_and_keeping_are_complements_of_the_size_asked_for() -> None:
    orders = removal_orders(SCORE, LABELS, seed=0)
    found = list(removals(orders, [0.05, 0.4]))
    removed, kept = ([of for of in found if of.action == action] for action in ("remove", "keep"))
    assert len(removed) == 6 * 2
    balanced = [of for of in removed if of.order.startswith("balanced_")]
    for remove, keep in zip(balanced, kept, strict=True):
        assert (remove.order, remove.fraction) == (keep.order, keep.fraction)
        assert np.array_equal(remove.inside, ~keep.inside)
    assert all((~of.inside).sum() == round(of.fraction * 200) for of in removed)
    most = next(of for of in removed if of.order == "most_memorized" and of.fraction == 0.05)
    assert SCORE[~most.inside].min() > SCORE[most.inside].max()


def test_cleansing_drops_as_many_as_are_wrong() -> None:
    wrong = RNG.random(200) < 0.2
    suspicion = wrong + 0.1 * RNG.standard_normal(200)  # knows them all
    found = {r.order: r for r in cleansings(wrong, suspicion, removal_orders(SCORE, LABELS, seed=0))}
    assert set(found) == {"flagged", "oracle", "random"}
    for removal in found.values():
        assert removal.action == "remove" and (~removal.inside).sum() == wrong.sum()
        assert removal.fraction == pytest.approx(wrong.mean())
    assert np.array_equal(found["oracle"].inside, ~wrong)
    assert np.array_equal(found["flagged"].inside, ~wrong)
    assert wrong[found["random"].inside].any()
