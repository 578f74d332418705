"""Left-out influence is what its definition says, in nats, for any network; and what cannot be scored is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from tests.unit.turnover.attribution.networks import CLASSES, examples, network
from tests.unit.turnover.attribution.whole import combined, left_out
from turnover import Readings, ScoreStore, influence, insert, read, summarize
from turnover.attribution.left_out import LeftOut
from turnover.attribution.nearness import similarity_of
from turnover.attribution.targets import ReadTargets
from turnover.errors import UserError
from turnover.reading import votes

X_TRAIN, Y_TRAIN = examples(70, seed=7)
X, Y = examples(23)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def plain(*layers: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), *layers).eval()


@pytest.mark.parametrize("kind", ["head", "all", "mlp"])
def test_it_is_what_the_definition_says(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(kind)
    expected = left_out(model, X_TRAIN, Y_TRAIN, X, Y)
    close(influence(model, (X_TRAIN, Y_TRAIN), (X, Y), estimate="left-out"), expected)
    monkeypatch.setattr(LeftOut, "block", lambda self, targets, memory: (16, min(targets, 5)))
    close(influence(model, (X_TRAIN, Y_TRAIN), X, Y, estimate="left-out"), expected)
    close(summarize(model, (X_TRAIN, Y_TRAIN), (X, Y), estimate="left-out").total, expected.sum(1))


def probabilities(count: int, seed: int) -> Tensor:
    return torch.rand(count, CLASSES, generator=torch.Generator().manual_seed(seed)).softmax(1)


def test_predictions_are_a_witness_beside_the_neighbours() -> None:
    """Of several networks each its own, or those of all together."""
    models, data = [network("head", seed=seed) for seed in (0, 1)], ((X_TRAIN, Y_TRAIN), (X, Y))
    pairs = [(probabilities(70, seed), probabilities(23, seed + 5)) for seed in (0, 1)]
    each = [left_out(model, *data[0], *data[1], pair) for model, pair in zip(models, pairs, strict=True)]
    shared = [left_out(model, *data[0], *data[1], pairs[0]) for model in models]
    close(influence(models[0], *data, estimate="left-out", predictions=pairs[0]), each[0])
    close(influence(models, *data, estimate="left-out", predictions=pairs), torch.stack(each).mean(0))
    found = influence(models, *data, estimate="left-out", predictions=(pairs[0][0].numpy(), pairs[0][1].numpy()))
    close(found, torch.stack(shared).mean(0))
    localized = influence(models[0], *data, estimate="localized")
    close(influence(models[0], *data, predictions=pairs[0]), combined(each[0], localized))
    close(summarize(models, *data, estimate="left-out", predictions=pairs).total, torch.stack(each).mean(0).sum(1))


def test_where_nothing_is_near_the_predictions_alone_tell() -> None:
    """One example is like none of the others: the only one for which its features are not 0."""
    x = torch.zeros(30, 8)
    x[0, 0] = 1.0
    y = torch.arange(30) % CLASSES
    model = plain(nn.Linear(8, CLASSES))
    said = probabilities(30, 0), probabilities(30, 1)
    readings = read(model, x, y, masked=False)
    views = ReadTargets(model, readings, scored=False)
    near = similarity_of(model, readings, lambda columns: views.features(columns, None))
    scorer = LeftOut(model, readings, near, views, said)
    weight = votes.likeness(near.train, near.train, itself=(torch.arange(30), torch.arange(30)))
    alone = weight.sum(1) == 0
    assert bool(alone.any())
    shares = scorer._shares[:]
    torch.testing.assert_close(shares[alone], said[0][alone])
    torch.testing.assert_close(shares.sum(1), torch.ones(30))


RIGHT = probabilities(70, 0), probabilities(23, 1)
TWICE = torch.full((23, CLASSES), 2 / CLASSES)


@pytest.mark.parametrize(
    ("predictions", "why"),
    [
        (RIGHT[0], "must be a pair of .* or tensors, .* got Tensor"),
        ("given", "must be a pair of .* or tensors, .* got str"),
        ((RIGHT[0].tolist(), RIGHT[1]), "must be a pair of .* or tensors, .* got 2 of Tensor, list"),
        ([RIGHT, RIGHT], "1 networks but 2 pairs of predictions"),
        ((RIGHT[0][1:], RIGHT[1]), r"of the training examples have shape \(69, 5\), but there are 70 of them"),
        ((RIGHT[0], RIGHT[1][:, 1:] / RIGHT[1][:, 1:].sum(1, keepdim=True)), "5 classes"),
        ((RIGHT[1], RIGHT[0]), "pass a row for each that is read, in the order of the data"),
        ((RIGHT[0], TWICE), "of the targets are no probabilities in row 0 .their sum is 2"),
        ((RIGHT[0].log(), RIGHT[1]), r"pass softmax\(logits\)"),
        ((RIGHT[0] * torch.nan, RIGHT[1]), "no probabilities in row 0"),
        ((RIGHT[0][:, 0], RIGHT[1]), r"probabilities \[n, classes\], got torch.float32 of shape \(70,\)"),
        ((RIGHT[0].argmax(1, keepdim=True), RIGHT[1]), "got torch.int64"),
        ((np.array([["a"]]), RIGHT[1]), "of the training examples must be numbers"),
        ((RIGHT[0], RIGHT[1].to_sparse()), "torch.sparse_coo"),
    ],
)
def test_predictions_that_are_none_are_refused(predictions: Any, why: str) -> None:
    with pytest.raises(UserError, match=why):
        influence(network("head"), (X_TRAIN, Y_TRAIN), (X, Y), predictions=predictions)


@pytest.mark.parametrize("estimate", ["raw", "localized", "pooled"])
def test_predictions_are_refused_where_nothing_is_made_of_them(estimate: Any) -> None:
    with pytest.raises(UserError, match="has no use for them"):
        influence(network("head"), (X_TRAIN, Y_TRAIN), (X, Y), estimate=estimate, predictions=RIGHT)
    with pytest.raises(UserError, match='estimate="raw" has no use for them'):
        influence(network("head"), torch.arange(70), X, Y, predictions=RIGHT)


@pytest.mark.parametrize("estimate", ["left-out", "localized", "pooled", "combined"])
def test_half_precision_changes_next_to_nothing(estimate: Any) -> None:
    model = network("head")
    exact, rounded = (
        influence(model, (X_TRAIN, Y_TRAIN), (X, Y), estimate=estimate, precision=precision)
        for precision in ("float32", "bfloat16")
    )
    assert rounded.dtype == torch.float32
    assert 0 < float((rounded - exact).abs().max()) < 0.02 * float(exact.abs().max())
    assert float(torch.corrcoef(torch.stack([exact.flatten(), rounded.flatten()]))[0, 1]) > 0.999


@pytest.mark.parametrize(
    "layers",
    [
        (nn.Linear(64, CLASSES),),  # a head alone
        (nn.Linear(64, 32), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(32, CLASSES)),
        (nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, CLASSES)),  # no ReLU: what enters the head is compared
        (nn.Linear(64, 32), nn.ReLU(), nn.LayerNorm(32), nn.Linear(32, CLASSES)),
    ],
)
def test_networks_without_masks_are_scored_too(layers: tuple[nn.Module, ...]) -> None:
    model = plain(*layers)
    found = influence(model, (X_TRAIN, Y_TRAIN), (X, Y), estimate="left-out")
    close(found, left_out(model, X_TRAIN, Y_TRAIN, X, Y))
    assert read(model, X_TRAIN, Y_TRAIN).inner_width == (
        64 if len(layers) == 4 and isinstance(layers[2], nn.Dropout) else 0
    )


def test_a_training_example_helps_its_own_copy() -> None:
    """Though the copy, which votes for its own label, has next to nothing left to learn."""
    x = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.arange(60) % CLASSES  # of noise: nothing but itself tells
    found = influence(network("head"), (x, y), (x, y), estimate="left-out")
    assert (found.diagonal() > 0).float().mean() > 0.9
    assert (found.argmax(0) == torch.arange(60)).float().mean() > 0.9


def test_one_logit_is_two_classes() -> None:
    one = plain(nn.Linear(64, 1))
    two = plain(nn.Linear(64, 2))
    with torch.no_grad():
        two[1].weight.copy_(torch.cat([torch.zeros_like(one[1].weight), one[1].weight]))
        two[1].bias.copy_(torch.cat([torch.zeros_like(one[1].bias), one[1].bias]))
    found = [influence(model, (X_TRAIN, Y_TRAIN % 2), (X, Y % 2), estimate="left-out") for model in (one, two)]
    close(*found)


def test_the_same_from_a_folder_and_in_parts(tmp_path: Path) -> None:
    model = network("head")
    expected = influence(model, (X_TRAIN, Y_TRAIN), (X, Y), estimate="left-out")
    train = read(model, X_TRAIN[:30], Y_TRAIN[:30], torch.arange(30), folder=tmp_path / "train")
    train = read(model, X_TRAIN[30:], Y_TRAIN[30:], torch.arange(30, 70), folder=tmp_path / "train")
    read(model, X, Y).save(tmp_path / "targets")
    for of in (train, Readings.load(tmp_path / "train")):
        assert of.inner is not None
        assert (of.inner.width, of.features.width) == (48, 32)  # type: ignore[union-attr]
        close(influence(model, of, Readings.load(tmp_path / "targets"), estimate="left-out"), expected)


def test_few_voters_speak_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of very many examples a random choice votes, so that the time stays what it is; nobody votes for itself."""
    monkeypatch.setattr(votes, "_PAIRS", 40 * len(X_TRAIN))
    monkeypatch.setattr(votes, "_LEAST", 1)
    model = network("head")
    few = influence(model, (X_TRAIN, Y_TRAIN), (X, Y), estimate="left-out")
    full = left_out(model, X_TRAIN, Y_TRAIN, X, Y)
    assert 0.3 < float(torch.corrcoef(torch.stack([few.flatten(), full.flatten()]))[0, 1]) < 0.9999


def test_it_foretells_what_leaving_single_examples_out_really_does() -> None:
    """Logistic regression, trained again without each of its examples in turn; in nats, within a factor of a few."""
    generator = torch.Generator().manual_seed(0)
    centres, labels = torch.randn(CLASSES, 16, generator=generator), torch.arange(200) % CLASSES
    x, x_target = (centres[of] + 0.5 * torch.randn(len(of), 16, generator=generator) for of in (labels, labels[:50]))
    given = labels.clone()
    given[:20] = (labels[:20] + 1) % CLASSES  # wrong ones

    def losses(rows: np.ndarray) -> tuple[LogisticRegression, np.ndarray]:
        fitted = LogisticRegression(max_iter=500, tol=1e-8).fit(x[rows].numpy(), given[rows].numpy())
        return fitted, -fitted.predict_log_proba(x_target.numpy())[np.arange(50), labels[:50].numpy()]

    whole, before = losses(np.arange(200))
    really = np.stack([losses(np.delete(np.arange(200), left))[1] - before for left in range(200)])
    model = plain(nn.Linear(16, CLASSES))
    model[1].weight.data = torch.tensor(whole.coef_).float()  # type: ignore[union-attr]
    model[1].bias.data = torch.tensor(whole.intercept_).float()  # type: ignore[union-attr]
    found = influence(model, (x, given), (x_target, labels[:50]), estimate="left-out").numpy()
    assert np.mean([spearmanr(really[:, t], found[:, t]).statistic for t in range(50)]) > 0.4
    assert 0.1 < np.polyfit(found.ravel(), really.ravel(), 1)[0] < 1.0


def test_what_cannot_be_scored_is_refused(tmp_path: Path) -> None:
    model, data = network("head"), (X_TRAIN, Y_TRAIN)

    def of(train: Any = data, **settings: Any) -> None:
        influence(model, train, (X, Y), **{"estimate": "left-out", **settings})

    with pytest.raises(ValueError, match="is of the loss"):
        of(measure="margin")
    with pytest.raises(UserError, match="ids alone do not say"):
        of(torch.arange(70))
    with pytest.raises(ValueError, match="leave localized= out"):
        of(localized=X_TRAIN)
    with pytest.raises(UserError, match="leave store= out"):
        summarize(model, data, (X, Y), estimate="left-out", store=ScoreStore(tmp_path / "store"))
    with pytest.raises(ValueError, match='ask for estimate="left-out", which needs none'):
        influence(plain(nn.Linear(64, CLASSES)), data, (X, Y))
    with pytest.raises(UserError, match="read without features"):
        influence(model, read(model, *data, features=False), (X, Y), estimate="left-out")


def test_features_of_another_layer_are_compared_with_residuals_as_they_are() -> None:
    model = insert(plain(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, CLASSES)), after="head")
    train = read(model, X_TRAIN, Y_TRAIN, features="1")
    found = influence(model, train, (X, Y), estimate="left-out")
    assert found.shape == (70, 23)
    assert bool(found.isfinite().all())
