"""Localized influence: the factor in closed form, planted truth, and the same result whichever way it is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.unit.turnover.attribution.networks import CLASSES, examples, network
from turnover import Localized, influence, insert, localize, summarize
from turnover.attribution.nearness import RIDGE, SHARPNESS
from turnover.attribution.store import ScoreStore

IDS = torch.randperm(150, generator=torch.Generator().manual_seed(3)) + 1000
LABELS = IDS % CLASSES
X_TRAIN = examples(150, seed=7)[0]


def linear(width: int, classes: int = 2) -> nn.Sequential:
    """A model whose features are its inputs."""
    return insert(nn.Sequential(nn.Identity(), nn.Linear(width, classes, bias=False)), seed=1)


def by_hand(x_train: Tensor, x: Tensor, ridge: float = RIDGE, sharpness: float = SHARPNESS) -> np.ndarray:
    """The factor [train, target], with the inverse of the covariance written out."""
    centre = x_train.double().mean(0)
    train, target = (part.double().numpy() - centre.numpy() for part in (x_train, x))
    covariance = train.T @ train
    metric = np.linalg.inv(covariance + ridge * np.trace(covariance) * np.eye(len(covariance)))
    products = train @ metric @ target.T
    lengths = [np.sqrt(np.einsum("nd,de,ne->n", part, metric, part)) for part in (train, target)]
    return np.asarray(np.clip(products / lengths[0][:, None] / lengths[1], 0.0, None) ** sharpness)


@pytest.mark.parametrize(("ridge", "sharpness"), [(RIDGE, SHARPNESS), (0.1, 5.0)])
def test_factor_is_a_power_of_the_cosine_in_the_whitened_feature_space(ridge: float, sharpness: float) -> None:
    generator = torch.Generator().manual_seed(0)
    scales = torch.tensor([10.0, 3.0, 1.0, 0.3, 0.1])
    x_train = torch.randn(80, 5, generator=generator) * scales + 2.0
    x = torch.randn(30, 5, generator=generator) * scales + 2.0
    raw = torch.randn(80, 30, generator=generator)
    found = localize(raw, linear(5), x_train, x, ridge=ridge, sharpness=sharpness)
    expected = by_hand(x_train, x, ridge, sharpness)
    assert 0.1 < (expected > 1e-3).mean() < 0.9
    np.testing.assert_allclose(found.numpy(), raw.numpy() * expected, atol=2e-5)


def test_self_and_parallel_pairs_stay_orthogonal_and_opposite_ones_go() -> None:
    axes = torch.eye(6)
    x_train = torch.cat([axes, -axes])  # mean 0
    raw = torch.full((12, 12), -3.0)
    found = localize(raw, linear(6), x_train, 2.0 * x_train)
    torch.testing.assert_close(found, -3.0 * torch.eye(12), rtol=1e-5, atol=1e-5)


def test_one_strong_direction_does_not_make_everything_alike() -> None:
    """Two classes far apart, and four kinds of example within each: a plain cosine only sees the classes."""
    kinds = torch.eye(4).repeat(20, 1)
    classes = torch.tensor([-1.0, 1.0]).repeat_interleave(40)
    x = torch.cat([30.0 * classes.unsqueeze(1), kinds], 1)
    centred = nn.functional.normalize(x - x.mean(0), dim=1)
    other_kind = (kinds @ kinds.T == 0) & (classes.unsqueeze(1) == classes)
    same = (kinds @ kinds.T == 1) & (classes.unsqueeze(1) == classes)
    assert (centred @ centred.T)[other_kind].min() > 0.99
    factor = localize(torch.ones(80, 80), linear(5), x, x)
    torch.testing.assert_close(factor[same], torch.ones(int(same.sum())), rtol=1e-4, atol=1e-4)
    assert factor[other_kind].max() < 0.1


def test_masked_linear_model_in_closed_form() -> None:
    """One Hebbian step of a masked linear model: i adds +-x_i to the weights its mask keeps. So all is known.

    Weights are ``sum_j s_j m_j x_j / keep``. The raw margin difference of (i, t) is the masks' own and everybody else's
    part; the truth is what leaving i out of the full network's weights changes, ``s_i x_i . x_t``.
    """
    generator = torch.Generator().manual_seed(5)
    groups, each, width = 12, 10, 2000
    centres = torch.randn(groups, width, generator=generator)
    x_train, x = (centres.repeat_interleave(n, 0) for n in (each, 4))
    x_train = x_train + 0.2 * torch.randn(x_train.shape, generator=generator)
    x = x + 0.2 * torch.randn(x.shape, generator=generator)
    ids = torch.arange(len(x_train))
    sign = torch.where(torch.rand(len(ids), generator=generator) < 0.5, -1.0, 1.0)
    model = linear(width)
    masks = model[1]._forward_pre_hooks.popitem()[1].layer.masks(width)
    model = linear(width)
    with torch.no_grad():
        weights = (sign.unsqueeze(1) * masks(ids) * x_train / 0.5).sum(0)
        model[1].weight.copy_(torch.stack([weights, -weights]) / 2)
    y = torch.zeros(len(x), dtype=torch.long)
    raw = influence(model, ids, x, y, "margin")
    own = 2.0 * (2.0 * masks(ids).float() - 1.0)
    torch.testing.assert_close(raw, own @ (weights * x).T, rtol=1e-4, atol=1e-2)

    truth = (sign.unsqueeze(1) * x_train) @ x.T
    found = localize(raw, model, x_train, x)

    def error(scores: Tensor) -> float:
        """Relative error after the best scale."""
        scale = (scores * truth).sum() / scores.square().sum()
        return float((scale * scores - truth).norm() / truth.norm())

    assert error(raw) > 0.7
    assert error(found) < 0.6 * error(raw)
    shuffled = localize(raw, model, x_train.roll(each, 0), x)  # the right factors of the wrong examples
    assert error(shuffled) > error(raw)


@pytest.mark.parametrize("kind", ["head", "mlp", "residual", "all"])
@pytest.mark.parametrize("memory", [1 << 30, 1])
def test_fused_equals_localizing_the_matrix_afterwards(kind: str, memory: int) -> None:
    model, (x, y) = network(kind), examples(40)
    raw = influence(model, IDS[:60], x, y)
    expected = localize(raw, model, X_TRAIN[:60], x)
    found = influence(model, IDS[:60], x, y, localized=X_TRAIN[:60], memory=memory)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(raw.abs().max()))
    assert (expected.abs() <= raw.abs() * (1 + 1e-6)).all()
    assert 0.005 < float(expected.norm() / raw.norm()) < 0.95


@pytest.mark.parametrize("memory", [1 << 30, 1])
def test_summary_of_several_models_beside_their_raw_totals(memory: int) -> None:
    models, (x, y) = [network("head", seed=s) for s in range(3)], examples(70)
    raws = [influence(m, IDS, x, y) for m in models]
    mean = torch.stack([localize(raw, m, X_TRAIN, x) for raw, m in zip(raws, models, strict=True)]).mean(0)
    found = summarize(models, IDS, LABELS, x, y, top=5, top_targets=3, memory=memory, localized=X_TRAIN)
    torch.testing.assert_close(found.helpful, mean.topk(5, dim=0).values.T, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.harmful, -(-mean).topk(5, dim=0).values.T, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.helped, mean.topk(3, dim=1).values, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.total, mean.sum(1), rtol=1e-4, atol=1e-4)
    assert found.total_raw is not None and found.total_raw_error is not None
    totals = torch.stack([raw.sum(1) for raw in raws])
    torch.testing.assert_close(found.total_raw, totals.mean(0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.total_raw_error, totals.std(0) / 3**0.5, rtol=1e-4, atol=1e-4)
    assert summarize(models, IDS, LABELS, x, y).total_raw is None


def test_rows_follow_the_order_of_the_ids() -> None:
    model, (x, y) = network("head"), examples(30)
    order = torch.randperm(len(IDS), generator=torch.Generator().manual_seed(1))
    one = influence(model, IDS, x, y, localized=X_TRAIN)
    other = influence(model, IDS[order], x, y, localized=X_TRAIN[order])
    torch.testing.assert_close(other, one[order], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(other, one, atol=0.1)


def test_a_store_keeps_raw_scores_so_localizing_anew_computes_none(tmp_path: Path) -> None:
    model, (x, y) = network("head"), examples(30)
    plain = summarize(model, IDS, LABELS, x, y, store=ScoreStore(tmp_path / "store"))
    found = summarize(model, IDS, LABELS, x, y, store=ScoreStore(tmp_path / "store"), localized=X_TRAIN)
    torch.testing.assert_close(found.total_raw, plain.total)
    assert not torch.allclose(found.total, plain.total, atol=1e-3)
    stored = torch.from_numpy(np.array(ScoreStore.load(tmp_path / "store").scores[0]))
    torch.testing.assert_close(stored, influence(model, IDS, x, y))


def test_features_of_ones_own() -> None:
    model, (x, y) = network("head"), examples(30)
    raw = influence(model, IDS, x, y)
    default = localize(raw, model, X_TRAIN, x)
    torch.testing.assert_close(localize(raw, model, X_TRAIN, x, features="8"), default)  # the ReLU before the head
    pixels = localize(raw, model, X_TRAIN, x, features=lambda batch: batch)
    np.testing.assert_allclose(
        pixels.numpy(), raw.numpy() * by_hand(X_TRAIN.flatten(1), x.flatten(1)), rtol=1e-3, atol=1e-4
    )
    asked = influence(model, IDS, x, y, localized=Localized(X_TRAIN, features=lambda batch: batch))
    torch.testing.assert_close(asked, pixels, rtol=1e-5, atol=1e-5)


def test_wrong_arguments_are_refused() -> None:
    model, (x, y) = network("head"), examples(30)
    with pytest.raises(ValueError, match=r"shape \(4, 30\), but there are 150 training examples and 30 targets"):
        localize(torch.zeros(4, 30), model, X_TRAIN, x)
    with pytest.raises(ValueError, match="150 training examples but 20 inputs to localize"):
        influence(model, IDS, x, y, localized=X_TRAIN[:20])
    with pytest.raises(ValueError, match=r"sharpness=0\.0: it must be a positive number"):
        Localized(X_TRAIN, sharpness=0.0)
    with pytest.raises(ValueError, match="no such module"):
        localize(torch.zeros(150, 30), model, X_TRAIN, x, features="hidden")
    with pytest.raises(ValueError, match="5000 numbers are too wide"):
        localize(torch.zeros(150, 30), model, X_TRAIN, x, features=lambda batch: batch.new_zeros(len(batch), 5000))
    with pytest.raises(ValueError, match="NaN or infinite"):
        localize(torch.zeros(150, 30), model, X_TRAIN, x, features=lambda batch: batch * torch.nan)
