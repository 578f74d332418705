"""Subsets and memorization from what networks say about them, in closed form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from study.retraining.subsets import SubsetOutputs, draw_subsets
from turnover.errors import UserError


def log_odds(p: np.ndarray) -> np.ndarray:
    return np.log(p / (1 - p)).astype(np.float32)


def planted(networks: int = 400, train: int = 50, noise: float = 0.0) -> tuple[SubsetOutputs, np.ndarray]:
    """Networks whose probability for an example is .5 outside, and .5 + memorization / 2 inside."""
    inside = draw_subsets(train, networks, 0.5, seed=3)
    truth = np.linspace(0.0, 0.9, train) / 2
    p = np.full((networks, train + 10), 0.5)
    p[:, :train] += inside * truth
    margin = log_odds(p) + noise * np.random.default_rng(0).standard_normal(p.shape)
    return SubsetOutputs(inside, margin.astype(np.float32), margin > 0.2), truth


def test_every_subset_has_the_same_size_and_they_differ() -> None:
    inside = draw_subsets(101, 200, 0.3, seed=1)
    assert inside.dtype == np.bool_ and (inside.sum(1) == 30).all()
    assert len({row.tobytes() for row in inside}) == 200
    # Each example is in a binomial number of subsets: 200 draws of probability 30 / 101.
    deviation = (inside.sum(0) - 200 * 30 / 101) / np.sqrt(200 * 30 / 101 * 71 / 101)
    assert 0.8 < deviation.std() < 1.2 and abs(deviation).max() < 4.5


def test_more_networks_are_the_same_and_others() -> None:
    few, many = draw_subsets(40, 5, 0.5, seed=2), draw_subsets(40, 9, 0.5, seed=2)
    assert np.array_equal(few, many[:5])
    assert not np.array_equal(few, draw_subsets(40, 5, 0.5, seed=3))


@pytest.mark.parametrize("fraction", [0.0, 0.001, 1.0, 1.5])
def test_a_subset_of_none_or_all_is_refused(fraction: float) -> None:
    with pytest.raises(UserError, match="some of them, and not all"):
        draw_subsets(100, 2, fraction)


def test_memorization_is_the_difference_of_means() -> None:
    outputs, truth = planted()
    np.testing.assert_allclose(outputs.memorization(), truth, atol=1e-6)
    # log-odds above .2 are right answers: outside never, inside where .5 + m / 2 is above sigmoid(.2)
    expected = (0.5 + truth > 1 / (1 + np.exp(-0.2))).astype(float)
    np.testing.assert_array_equal(outputs.memorization("accuracy"), expected)
    np.testing.assert_allclose(outputs.heldout(), 0.5, atol=1e-7)
    assert outputs.heldout().shape == (60,)
    assert (outputs.heldout("accuracy") == 0).all()


def test_by_hand() -> None:
    inside = np.array([[1, 0], [1, 0], [0, 0]], dtype=np.bool_)
    p = np.array([[0.9, 0.2, 0.5], [0.7, 0.4, 0.5], [0.3, 0.6, 0.8]])
    outputs = SubsetOutputs(inside, log_odds(p), p > 0.5)
    assert outputs.memorization()[0] == pytest.approx(0.8 - 0.3)
    assert outputs.memorization("accuracy")[0] == 1.0
    assert outputs.memorization("loss")[0] == pytest.approx((np.log(0.9) + np.log(0.7)) / 2 - np.log(0.3))
    assert np.isnan(outputs.memorization()[1])  # nobody saw the second example
    assert outputs.heldout() == pytest.approx([0.3, 0.4, 0.6])
    np.testing.assert_allclose(outputs.probability, p, rtol=1e-6)
    np.testing.assert_allclose(outputs.loss, -np.log(p), rtol=1e-5)


def test_reliability_is_one_without_noise_and_nothing_without_signal() -> None:
    assert planted()[0].split_half() == pytest.approx((1.0, 1.0))
    signal, truth = planted(noise=1.0)
    found = signal.split_half()
    halves = [signal[half::2].memorization() for half in (0, 1)]
    assert found.spearman == pytest.approx(np.corrcoef(*[h.argsort().argsort() for h in halves])[0, 1])
    assert found.reliability == pytest.approx(2 * found.spearman / (1 + found.spearman))
    assert 0.8 < found.spearman < found.reliability < 1.0
    assert abs(np.corrcoef(signal.memorization(), truth)[0, 1]) > found.spearman
    nothing = SubsetOutputs(signal.inside, np.random.default_rng(1).standard_normal((400, 60)).astype(np.float32),
                            signal.correct)  # fmt: skip
    assert abs(nothing.split_half().spearman) < 0.5


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    outputs, _ = planted(networks=7, train=13, noise=1.0)
    outputs.margin[0, :2] = 1e6, -1e6
    for name in ("a.npz", "b.npz"):
        outputs.save(tmp_path / name)
    found = SubsetOutputs.load(tmp_path / "a.npz")
    assert found.inside.dtype == found.correct.dtype == np.bool_ and found.margin.dtype == np.float32
    assert np.array_equal(found.inside, outputs.inside) and np.array_equal(found.correct, outputs.correct)
    np.testing.assert_allclose(found.margin[1:], outputs.margin[1:], rtol=1e-3)
    assert np.isfinite(found.margin).all()
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_missing_file_is_said_with_its_cure(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x.npz is missing or damaged .* by `git checkout -- ground_truth/x.npz`"):
        SubsetOutputs.load(tmp_path / "ground_truth/x.npz")
    np.savez(tmp_path / "x.npz", other=np.zeros(3))
    with pytest.raises(UserError, match=r"x.npz is missing or damaged"):
        SubsetOutputs.load(tmp_path / "x.npz")


def test_no_damaged_file_is_read(tmp_path: Path) -> None:
    """A bit flipped at many places, an end that is missing, nothing at all: a sentence, or the same outputs."""
    outputs, _ = planted(networks=7, train=13, noise=1.0)
    path = tmp_path / "x.npz"
    outputs.save(path)
    whole, right = path.read_bytes(), SubsetOutputs.load(path)
    refused = 0
    for place in range(0, len(whole), 7):
        for content in (whole[:place], whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :]):
            path.write_bytes(content)
            try:
                found = SubsetOutputs.load(path)
            except UserError:
                refused += 1
            else:
                assert all(np.array_equal(getattr(found, of), getattr(right, of)) for of in vars(right))
    assert refused > 1.8 * len(whole) / 7


def test_shapes_and_measures_are_checked() -> None:
    outputs, _ = planted(networks=4)
    with pytest.raises(UserError, match="do not go together"):
        SubsetOutputs(outputs.inside[:3], outputs.margin, outputs.correct)
    with pytest.raises(UserError, match="measure='margin'"):
        outputs.memorization("margin")  # type: ignore[arg-type]
