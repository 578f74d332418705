"""The protocol's promises, by simulating whole studies: level, power, and reversals. And its parts by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from study.analysis.groups import REAL_DIFFICULT, REAL_EASY
from study.context.runs import Run
from study.findings.effects import Where, compare_seeds
from study.findings.learning import MEMORIZATION, Setting, easy_faster, easy_faster_real, together
from study.findings.protocol import Evidence, Plain, holm, judge, overall, overlap
from study.findings.removal import tell_more

SEEDS = 8
REAL, WRONG, PLACEBOS = 240, 60, 60
EPOCHS = np.array([0.0, 1.0, 2.0, 3.0])
# Standard deviations: of a group's effect between seeds, which is the unit of everything here; between examples; of one
# example in one seed. As in the runs that the protocol was made from, single values are noise above all.
BETWEEN_SEEDS, BETWEEN_EXAMPLES, SINGLE = 1.0, 0.5, 3.0
SEEN = 2.2  # the weakest effect that power was asked for, in standard deviations between seeds
UNFITTED = 50.0  # how far easy examples are from fitted after the first epoch: beyond doubt


def _values(rng: np.random.Generator, sizes: tuple[int, int], effect: float) -> np.ndarray:
    """[seeds, examples] of two groups, the first `effect` higher: seeds and examples crossed, and noise of both."""
    count = sum(sizes)
    first = np.arange(count) < sizes[0]
    of_seed = rng.normal(0, 3, (SEEDS, 1)) + np.where(first, rng.normal(effect, BETWEEN_SEEDS, (SEEDS, 1)), 0.0)
    found: np.ndarray = of_seed + rng.normal(0, BETWEEN_EXAMPLES, count) + rng.normal(0, SINGLE, (SEEDS, count))
    return found


def _setting(scenario: str, mean_loss: np.ndarray, wrong: int, difficult: np.ndarray, gap: np.ndarray) -> Setting:
    """A setting with these losses over training; the first `wrong` examples are wrongly labelled."""
    count = mean_loss.shape[1]
    is_wrong = np.arange(count) < wrong
    groups = np.where(difficult, REAL_DIFFICULT, REAL_EASY).astype("<U14")
    groups[:, is_wrong] = ""
    loss = np.zeros((SEEDS, len(EPOCHS), count))
    loss[:, 0], loss[:, 1] = 10 * UNFITTED, 2 * UNFITTED  # of its fall, 80 % after the first epoch
    return Setting(
        scenario,
        "head",
        [Run(scenario, "head", seed) for seed in range(SEEDS)],
        np.arange(count),
        real=~is_wrong,
        wrong=is_wrong,
        first=loss[:, 0],
        speed=loss[:, 0],
        mean_loss=mean_loss,
        learned={"first": mean_loss},
        groups={MEMORIZATION: groups},
        loss=loss,
        gap=np.stack([np.zeros_like(gap[:, :count]), *[gap[:, :count]] * 3], axis=1),
        placebo_gap=np.stack([np.zeros_like(gap[:, count:]), *[gap[:, count:]] * 3], axis=1),
        memorized=gap[:, :count],
        placebo_memorized=gap[:, count:],
        epochs=EPOCHS,
    )


def _removal(rng: np.random.Generator, effect: float) -> pd.DataFrame:
    shared = rng.normal(0, 3, SEEDS)
    rows = []
    for order in ("most", "least", "random"):
        name = "balanced_random" if order == "random" else f"balanced_{order}_memorized"
        # Two differences share the networks without the most memorized.
        loss = shared + rng.normal(effect * (order == "most"), BETWEEN_SEEDS / np.sqrt(2), SEEDS)
        rows += [("real", seed, name, "remove", 0.3, 10, 0.5, value) for seed, value in enumerate(loss)]
    columns = ["scenario", "seed", "order", "action", "fraction", "train", "heldout_accuracy", "heldout_loss"]
    return pd.DataFrame(rows, columns=columns)


def _study(rng: np.random.Generator, effect: float) -> dict[str, str]:
    """The verdicts on a study in which all four claims have this effect, by the whole procedure."""
    count = WRONG + REAL
    gap = _values(rng, (WRONG, REAL + PLACEBOS), effect)
    mixed = _setting("mixed", _values(rng, (WRONG, REAL), effect), WRONG, rng.random((SEEDS, count)) < 0.5, gap)
    # Who is difficult is seen with noise of each seed, and judged by the others.
    hard = np.arange(REAL) < REAL // 2
    seen = hard + rng.normal(0, 1.0, (SEEDS, REAL))
    others = (seen.sum(0) - seen) / (SEEDS - 1)
    difficult = others > np.median(others, axis=1, keepdims=True)
    real = _setting("real", _values(rng, (REAL // 2, REAL - REAL // 2), effect), 0, difficult, gap[:, WRONG:])
    evidence = {
        "P1": easy_faster(mixed, 0.95),
        "P2": together(mixed, 0.95),
        "P3": easy_faster_real(real, 0.95),
        "P4": tell_more(_removal(rng, effect), "real", 0.3, 0.95),
    }
    return {of["key"]: of["verdict"] for of in judge({key: of for key, of in evidence.items() if of}, 0.95)}


def _studies(effect: float, count: int) -> pd.DataFrame:
    """The verdicts on many studies: a row each."""
    return pd.DataFrame([_study(np.random.default_rng([draw, 5]), effect) for draw in range(count)])


def test_without_any_effect_at_most_one_study_in_twenty_gives_a_verdict() -> None:
    verdicts = _studies(0.0, 600)
    either = (verdicts != "undecided").any(axis=1).mean()
    assert 0.0 < either <= 0.05


@pytest.mark.parametrize(("effect", "verdict"), [(SEEN, "supported"), (-SEEN, "contradicted")])
def test_effects_as_weak_as_were_seen_are_found_nine_times_in_ten_and_so_are_reversals(
    effect: float, verdict: str
) -> None:
    found = (_studies(effect, 150) == verdict).mean()
    assert (found >= 0.9).all(), found


def test_with_three_seeds_the_same_effects_are_missed() -> None:
    """Why there are eight: the power of four paired t-tests at Holm's strictest level."""
    rng = np.random.default_rng(0)
    missed = [_verdict(_evidence(rng.normal(SEEN, 1.0, 3).tolist())) != "supported" for _ in range(200)]
    assert np.mean(missed) > 0.5


def _evidence(*parts: list[float]) -> Evidence:
    effects = tuple(compare_seeds(Where("real", "head", "", "x", "nats"), values) for values in parts)
    return Evidence(effects, Plain(1.0, None, None, "epochs later"), {})


def _verdict(evidence: Evidence) -> str:
    """On one of four claims, of which the other three are clear."""
    clear = _evidence([1.0, 1.01, 0.99, 1.0, 1.02])
    found = judge({"P1": clear, "P2": clear, "P3": clear, "P4": evidence}, 0.95)
    return str(found[-1]["verdict"])


ABOVE, BELOW, UNCLEAR = [1.0, 1.1, 0.9, 1.0], [-1.0, -1.1, -0.9, -1.0], [1.0, -1.1, 0.9, -1.0]


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        ((ABOVE,), "supported"),
        ((BELOW,), "contradicted"),
        ((UNCLEAR,), "undecided"),
        ((ABOVE, ABOVE), "supported"),
        ((ABOVE, UNCLEAR), "undecided"),  # true only if both are
        ((UNCLEAR, ABOVE), "undecided"),
        ((ABOVE, BELOW), "contradicted"),  # false if one of them is
        ((UNCLEAR, BELOW), "contradicted"),
        (([1.0],), "undecided"),  # one seed
    ],
)
def test_a_claim_in_parts_is_true_only_if_all_are(parts: tuple[list[float], ...], verdict: str) -> None:
    assert _verdict(_evidence(*parts)) == verdict


def test_holm_by_hand() -> None:
    # .001 x 4; .012 x 3; .02 x 2; .5 x 1
    assert holm([0.012, 0.5, 0.001, 0.02]) == pytest.approx([0.036, 0.5, 0.004, 0.04])
    assert holm([0.02, 0.021]) == pytest.approx([0.04, 0.04]), "never below the one before"
    assert holm([None, 0.04]) == [None, 0.04]


def _entries(**verdicts: str) -> list[dict[str, Any]]:
    return [{"finding": 2 if key == "P4" else 1, "verdict": of} for key, of in verdicts.items()]


def test_findings_follow_from_their_claims() -> None:
    yes, no, open_ = "supported", "contradicted", "undecided"
    assert overall(_entries(P1=yes, P2=yes, P3=yes, P4=open_)) == {"1": yes, "2": open_}
    assert overall(_entries(P1=yes, P2=no, P3=open_, P4=no)) == {"1": no, "2": no}
    assert overall(_entries(P1=yes, P2=yes)) == {"1": open_, "2": open_}, "a claim is missing"
    assert overall([]) == {"1": open_, "2": open_}


def test_overlap_of_two_learning_periods() -> None:
    early, late = np.array([[0.0, 1.0, 1.0, 1.0]]), np.array([[0.0, 0.0, 0.0, 2.0]])
    even = np.array([[0.0, 1.0, 2.0, 3.0]])
    assert overlap(early, late) == pytest.approx([0.0])
    assert overlap(even, 7 * even) == pytest.approx([1.0])
    assert overlap(even, late) == pytest.approx([1 / 3])
    steps_back = np.array([[0.0, 2.0, 1.0, 1.0]])
    assert overlap(steps_back, early) == pytest.approx([1.0])
