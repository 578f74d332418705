"""Who goes first: orders in which examples are removed from a training, or kept, to see what they were worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Removal(NamedTuple):
    """One subset to train on.

    Args:
        order: name of the order that decided.
        action: ``"remove"``: the first of the order are missing; ``"keep"``: only they are there.
        fraction: of the examples that were removed or kept.
        inside: bool [n], what is left.
    """

    order: str
    action: str
    fraction: float
    inside: np.ndarray


def removal_orders(score: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Orders of all examples, the first to be removed (or kept) first.

    Args:
        score: [n], such as memorization. Of equal ones, the earlier example comes first.
        labels: [n], for the balanced orders.
        seed: of the random orders.

    Returns:
        For ``most_memorized``, ``least_memorized``, ``random``, and the same three ``balanced_...``, which take from
        every class in proportion to its size, to within one example: a permutation of the n rows. Memorization differs
        between classes, so that without balance the most and the least memorized are also other classes.
    """
    rng = np.random.default_rng(seed)
    shuffled, shuffled_again = rng.permutation(len(score)), rng.permutation(len(score))
    most, least = np.argsort(-score, kind="stable"), np.argsort(score, kind="stable")
    return {
        "most_memorized": most,
        "least_memorized": least,
        "random": shuffled,
        "balanced_most_memorized": _balanced(most, labels),
        "balanced_least_memorized": _balanced(least, labels),
        "balanced_random": _balanced(shuffled_again, labels),
    }


def removals(orders: Mapping[str, np.ndarray], fractions: Sequence[float]) -> Iterator[Removal]:
    """For every order and fraction the training without the first of them; for balanced ones also with only these.

    Alone, the first of an order that is not balanced may lack whole classes, which says nothing about difficulty.
    """
    for name, order in orders.items():
        for fraction in fractions:
            first = _chosen(order, round(fraction * len(order)))
            yield Removal(name, "remove", fraction, ~first)
            if name.startswith("balanced_"):
                yield Removal(name, "keep", fraction, first)


def cleansings(wrong: np.ndarray, suspicion: np.ndarray, orders: Mapping[str, np.ndarray]) -> Iterator[Removal]:
    """Drop as many examples as have a wrong label: the most suspect, exactly the wrong ones, or random ones.

    Args:
        wrong: bool [n]: the label is wrong.
        suspicion: [n], the highest is dropped first.
        orders: with a ``random`` one.
    """
    count = int(wrong.sum())
    fraction = count / len(wrong)
    yield Removal("flagged", "remove", fraction, ~_chosen(np.argsort(-suspicion, kind="stable"), count))
    yield Removal("oracle", "remove", fraction, ~wrong)
    yield Removal("random", "remove", fraction, ~_chosen(orders["random"], count))


def _balanced(order: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """`order` rearranged so that every class is spread evenly over it; within a class it stays."""
    place = np.empty(len(order))
    for label in np.unique(labels):
        rows = order[labels[order] == label]
        place[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
    return order[np.argsort(place[order], kind="stable")]


def _chosen(order: np.ndarray, count: int) -> np.ndarray:
    chosen = np.zeros(len(order), dtype=np.bool_)
    chosen[order[:count]] = True
    return chosen
