"""The adapters to public estimators: values and signs where the truth is known, on logistic regression."""

from __future__ import annotations

import copy
import math
from itertools import permutations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor, nn

from study.networks.zoo.small import build_own
from study.peers import inputs, with_cleanlab, with_dattri
from study.peers.datamodels import datamodels
from study.peers.input_curvature import input_curvature
from study.peers.inputs import TrainedNetwork
from study.peers.knn_shapley import knn_shapley, shapley_values
from study.peers.with_kronfluence import ekfac
from tests.support import required
from turnover.batches.examples import Examples

UNITS, CLASSES, TRAIN, WRONG, TARGETS, PENALTY = 5, 3, 100, 10, 12, 0.05


def needs(package: str) -> None:
    if required("compare"):
        __import__(package)
    pytest.importorskip(package, reason=f"{package} is in the extra compare, which is not installed")


def linear(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(UNITS, CLASSES))


def fit(model: nn.Sequential, x: Tensor, y: Tensor, weights: Tensor | None = None) -> nn.Sequential:
    """Logistic regression to the optimum: mean loss over TRAIN examples plus PENALTY / 2 |parameters|^2."""
    model = model.double()
    factors = torch.ones(len(y), dtype=torch.float64) if weights is None else weights
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=300, tolerance_grad=1e-10, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (F.cross_entropy(model(x.double()), y, reduction="none") * factors).sum() / TRAIN
        loss = loss + PENALTY / 2 * sum((p**2).sum() for p in model.parameters())
        loss.backward()
        return loss

    optimizer.step(closure)
    optimizer.zero_grad()
    return model.float()


@pytest.fixture(scope="module")
def data() -> tuple[Examples, Examples]:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(CLASSES, UNITS)) * 1.5

    def draw(n: int, wrong: int) -> Examples:
        y = rng.integers(0, CLASSES, n)
        x = centres[y] + rng.normal(size=(n, UNITS))
        y[:wrong] = (y[:wrong] + 1) % CLASSES
        if wrong:  # with the mean at 0, principal components leave the penalty as it is
            x -= x.mean(0)
        return Examples(torch.tensor(x).float(), torch.tensor(y), torch.arange(n))

    return draw(TRAIN, WRONG), draw(TARGETS, 0)


@pytest.fixture(scope="module")
def network(data: tuple[Examples, Examples]) -> TrainedNetwork:
    train, _ = data
    model = fit(linear(), train.images, train.labels)
    early = {key: value * 0.3 for key, value in model.state_dict().items()}
    return TrainedNetwork(model, (early, dict(model.state_dict())), (0.5, 0.25))


@pytest.fixture(scope="module")
def left_out(data: tuple[Examples, Examples], network: TrainedNetwork) -> np.ndarray:
    """How fast the loss of every target rises as a training example is left out, [train, target].

    Measured by fitting again with a tenth of its weight taken away.
    """
    train, targets = data

    def losses(model: nn.Module) -> Tensor:
        with torch.no_grad():
            return F.cross_entropy(model(targets.images), targets.labels, reduction="none")

    rows = []
    for i in range(TRAIN):
        weights = torch.ones(TRAIN, dtype=torch.float64)
        weights[i] = 0.9
        without = fit(copy.deepcopy(network.model), train.images, train.labels, weights)
        rows.append((losses(without) - losses(network.model)) / 0.1)
    return torch.stack(rows).numpy()


def gradients(state: dict[str, Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """By hand: the gradient of each loss at the logits [n, classes], and the features [n, units]."""
    logits = x @ state["1.weight"].T + state["1.bias"]
    return logits.softmax(1) - F.one_hot(y, CLASSES), x


def agreement(found: Tensor, truth: np.ndarray) -> float:
    """Median over targets of Spearman's correlation."""
    return float(np.median([spearmanr(found[:, t], truth[:, t]).statistic for t in range(truth.shape[1])]))


def test_influence_function_is_the_closed_form_and_foretells_leaving_out(
    data: tuple[Examples, Examples], network: TrainedNetwork, left_out: np.ndarray
) -> None:
    needs("dattri")
    train, targets = data
    found = with_dattri.influence_function([network], train, targets, components=UNITS, damping=PENALTY)
    # Positive where leaving i out raises the loss, and of the right size.
    np.testing.assert_allclose((found / TRAIN).numpy(), left_out, atol=0.05 * np.abs(left_out).max())
    assert np.corrcoef(found.numpy().ravel(), left_out.ravel())[0, 1] > 0.998
    itself = with_dattri.influence_function([network], train, None, components=UNITS, damping=PENALTY)
    pairs = with_dattri.influence_function([network], train, train, components=UNITS, damping=PENALTY)
    torch.testing.assert_close(itself, pairs.diagonal(), rtol=1e-3, atol=1e-4)
    assert itself[:WRONG].mean() > 2 * itself[WRONG:].mean()  # wrong labels


def test_tracin_is_the_closed_form(
    data: tuple[Examples, Examples], network: TrainedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("dattri")
    monkeypatch.setattr(with_dattri, "BATCH", 25)
    train, targets = data
    by_hand = torch.zeros(TRAIN, TARGETS)
    for state, rate in zip(network.checkpoints, network.learning_rates, strict=True):
        (g, h), (g_target, h_target) = (gradients(dict(state), e.images, e.labels) for e in (train, targets))
        by_hand += rate * (g @ g_target.T) * (h @ h_target.T)
    torch.testing.assert_close(with_dattri.tracin([network], train, targets), by_hand, rtol=1e-4, atol=1e-5)
    itself = with_dattri.tracin([network], train, None)
    pairs = with_dattri.tracin([network], train, train)
    torch.testing.assert_close(itself, pairs.diagonal(), rtol=1e-4, atol=1e-5)


def test_peers_leave_the_network_as_it_was(data: tuple[Examples, Examples], network: TrainedNetwork) -> None:
    needs("dattri")
    train, targets = data
    before = {key: value.clone() for key, value in network.model.state_dict().items()}
    with_dattri.tracin([network], train, targets)
    with_dattri.trak([network], train, targets, dimension=8)
    with_dattri.representer_points([network], train, targets, epochs=3)
    for key, value in network.model.state_dict().items():
        assert torch.equal(value, before[key])
    assert all(p.requires_grad and p.grad is None for p in network.model.parameters())


def test_tracin_needs_a_learning_rate_for_every_checkpoint(
    data: tuple[Examples, Examples], network: TrainedNetwork
) -> None:
    with pytest.raises(ValueError, match="2 checkpoints and 1 learning rates"):
        with_dattri.tracin([TrainedNetwork(network.model, network.checkpoints, (1.0,))], *data)


def test_trak_is_positive_where_leaving_out_hurts(
    data: tuple[Examples, Examples], network: TrainedNetwork, left_out: np.ndarray
) -> None:
    needs("dattri")
    train, targets = data
    # As many projected dimensions as parameters would be singular by the softmax's freedom: stay below.
    found = with_dattri.trak([network], train, targets, dimension=10)
    assert found.shape == (TRAIN, TARGETS)
    assert agreement(found, left_out) > 0.5
    itself = with_dattri.trak([network], train, None, dimension=10)
    pairs = with_dattri.trak([network], train, train, dimension=10)
    torch.testing.assert_close(itself, pairs.diagonal(), rtol=1e-3, atol=1e-5)
    assert itself[:WRONG].mean() > 2 * itself[WRONG:].mean()


def test_trak_over_networks_averages_both_factors(data: tuple[Examples, Examples], network: TrainedNetwork) -> None:
    needs("dattri")
    train, targets = data
    other = TrainedNetwork(fit(linear(1), train.images[:40], train.labels[:40]))
    twice = with_dattri.trak([network, network], train, targets, dimension=10)
    mixed = with_dattri.trak([network, other], train, targets, dimension=10)
    assert not torch.allclose(twice, mixed, rtol=1e-2)
    assert torch.isfinite(mixed).all()


def test_trak_survives_certainty(data: tuple[Examples, Examples], network: TrainedNetwork) -> None:
    """Where p rounds to 1, log(1 - p) is infinite; the margin's gradient is not."""
    needs("dattri")
    train, targets = data
    sure = linear()
    sure.load_state_dict({key: value * 200 for key, value in network.model.state_dict().items()})
    with torch.no_grad():
        assert (sure(targets.images).softmax(1).max(1).values == 1).any()
    found = with_dattri.trak([TrainedNetwork(sure)], train, targets, dimension=10)
    assert torch.isfinite(found).all()
    assert (found != 0).any(0).all()  # no target was zeroed


def test_representer_points_add_up_to_the_logit_of_the_label(
    data: tuple[Examples, Examples], network: TrainedNetwork
) -> None:
    needs("dattri")
    train, targets = data
    found = with_dattri.representer_points([network], train, targets, strength=0.05)
    # The theorem's own weights, fitted apart: the network's predictions as labels, an L2 penalty, no bias.
    with torch.no_grad():
        labels = network.model(train.images).double().softmax(1)
    theta = torch.zeros(UNITS, CLASSES, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([theta], max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(train.images.double() @ theta, labels) + 0.05 * (theta**2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    logits = (targets.images.double() @ theta.detach()).gather(1, targets.labels[:, None])[:, 0]
    assert logits.abs().max() > 0.5
    torch.testing.assert_close(found.sum(0).double(), logits, rtol=0.05, atol=0.05)


def test_knn_shapley_is_the_mean_over_all_orders() -> None:
    rng = np.random.default_rng(1)
    x, x_target = torch.tensor(rng.normal(size=(6, 2))), torch.tensor(rng.normal(size=(4, 2)))
    y, y_target = torch.tensor(rng.integers(0, 2, 6)), torch.tensor(rng.integers(0, 2, 4))
    for k in (1, 2, 8):
        found = shapley_values(x, y, x_target, y_target, k)
        for t in range(4):
            distance = (x - x_target[t]).norm(dim=1)

            def value(members: tuple[int, ...], t: int = t, distance: Tensor = distance, k: int = k) -> float:
                near = sorted(members, key=lambda i: float(distance[i]))[:k]
                return sum(int(y[i] == y_target[t]) for i in near) / k

            gains = np.zeros(6)
            for order in permutations(range(6)):
                for place, i in enumerate(order):
                    gains[i] += value(order[: place + 1]) - value(order[:place])
            np.testing.assert_allclose(found[:, t].numpy(), gains / math.factorial(6), atol=1e-6)


def test_knn_shapley_is_dattris(data: tuple[Examples, Examples], network: TrainedNetwork) -> None:
    needs("dattri")
    from dattri.algorithm.data_shapley import KNNShapleyAttributor
    from torch.utils.data import DataLoader, TensorDataset

    train, targets = data
    loaders = [DataLoader(TensorDataset(e.images, e.labels), batch_size=100) for e in (train, targets)]
    theirs = KNNShapleyAttributor(k_neighbors=5).attribute(*loaders)
    found = knn_shapley([network], train, targets, neighbours=5)  # the features of this network are its inputs
    torch.testing.assert_close(found, theirs.T, rtol=1e-4, atol=1e-6)


def test_cleanlab_suspects_what_the_probabilities_contradict() -> None:
    needs("cleanlab")
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 4, 200)
    truth = labels.copy()
    wrong = np.arange(200) < 20
    labels[wrong] = (labels[wrong] + 1) % 4
    probabilities = np.full((200, 4), 0.05)
    probabilities[np.arange(200), truth] = 0.85
    probabilities += rng.random((200, 4)) * 0.02
    probabilities /= probabilities.sum(1, keepdims=True)
    suspicion = with_cleanlab.label_suspicion(probabilities, labels)
    np.testing.assert_allclose(suspicion, 1 - probabilities[np.arange(200), labels])
    assert suspicion[wrong].min() > suspicion[~wrong].max()
    found = with_cleanlab.label_issues(probabilities, labels)
    assert found[wrong].all() and not found[~wrong].any()


def test_ekfac_is_the_closed_form_under_heavy_damping_and_near_the_influence_function_without(
    data: tuple[Examples, Examples], network: TrainedNetwork, left_out: np.ndarray
) -> None:
    needs("kronfluence")
    train, targets = data
    state = dict(network.model.state_dict())
    (g, h), (g_target, h_target) = (gradients(state, e.images, e.labels) for e in data)
    # The curvature vanishes beside the damping: what is left is the product of gradients, bias included.
    found = ekfac([network], train, targets, damping=1e6) * 1e6
    torch.testing.assert_close(found, (g @ g_target.T) * (h @ h_target.T + 1), rtol=1e-3, atol=1e-4)
    # Not the exact Hessian, but of its size, and positive where leaving i out raises the loss.
    found = ekfac([network], train, targets, damping=PENALTY)
    assert np.corrcoef(found.numpy().ravel(), left_out.ravel())[0, 1] > 0.9
    assert 0.5 < found.std() / TRAIN / left_out.std() < 2
    assert agreement(ekfac([network], train, targets), left_out) > 0.8
    assert all(p.requires_grad and p.grad is None for p in network.model.parameters())
    assert network.model[1].__class__ is nn.Linear


def test_ekfac_takes_convolutions_and_leaves_out_what_is_never_called() -> None:
    needs("kronfluence")
    torch.manual_seed(0)
    convolutional = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 6 * 6, CLASSES))
    attentive = build_own("transformer", (1, 8, 8), CLASSES, width=8, layers=1, hidden=8)
    examples = Examples(torch.randn(12, 1, 8, 8), torch.arange(12) % CLASSES, torch.arange(12))
    for model in (convolutional, attentive):
        found = ekfac([TrainedNetwork(model)], examples, examples[:5])
        assert found.shape == (12, 5)
        assert torch.isfinite(found).all()
        assert (found.diagonal() > 0).all()  # an example helps itself
        assert torch.equal(found, ekfac([TrainedNetwork(model)], examples, examples[:5]))


def test_input_curvature_is_the_trace_of_the_squared_hessian(
    data: tuple[Examples, Examples], network: TrainedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("study.peers.input_curvature.BATCH", 30)
    train, _ = data
    by_hand = torch.zeros(TRAIN)
    states = [*network.checkpoints, network.model.state_dict()]
    for state in states:
        weight = state["1.weight"]
        p = (train.images @ weight.T + state["1.bias"]).softmax(1)
        hessian = torch.einsum("nc,ci,cj->nij", p, weight, weight)
        centre = p @ weight
        hessian -= torch.einsum("ni,nj->nij", centre, centre)
        by_hand += hessian.square().sum((1, 2)) / len(states)
    found = input_curvature([network], train, probes=400)
    torch.testing.assert_close(found, by_hand, rtol=0.2, atol=0.02 * float(by_hand.max()))
    assert torch.equal(input_curvature([network], train), input_curvature([network], train))


def test_input_curvature_is_high_where_a_wrong_label_was_learned_by_heart() -> None:
    torch.manual_seed(0)
    x = torch.randn(60, 1, 2, 2)
    y = (x[:, 0, 0, 0] > 0).long()
    wrong = torch.arange(60) < 6
    y = torch.where(wrong, 1 - y, y)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 2))
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(400):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    found = input_curvature([TrainedNetwork(model)], Examples(x, y, torch.arange(60)))
    assert found[wrong].median() > 3 * found[~wrong].median()


def test_datamodels_find_the_weights_of_an_additive_game() -> None:
    rng = np.random.default_rng(3)
    inside = rng.random((200, 30)) < 0.5
    weights = rng.normal(size=(30, 4))
    exact = datamodels(inside, inside @ weights + 5.0)
    np.testing.assert_allclose(exact, weights, atol=0.01)
    # Fewer networks than examples, and noise: still of the right sign on the whole.
    noisy = datamodels(inside[:20], (inside @ weights + rng.normal(size=(200, 4)))[:20])
    assert noisy.shape == (30, 4)
    assert np.corrcoef(noisy.ravel(), weights.ravel())[0, 1] > 0.4


def test_cleanlab_counts_the_votes_of_other_examples_on_features(
    data: tuple[Examples, Examples], network: TrainedNetwork
) -> None:
    needs("cleanlab")
    needs("datasets")
    train, _ = data
    distance = torch.cdist(train.images, train.images).fill_diagonal_(torch.inf)
    nearest = distance.argsort(1)[:, :7]
    expected = (train.labels[nearest] != train.labels[:, None]).float().mean(1)
    found = with_cleanlab.feature_suspicion([network], train, neighbours=7)  # its features are its inputs
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert found[:WRONG].mean() > found[WRONG:].mean() + 0.3


def test_a_missing_extra_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "EXTRA", ("torch", "dattri_that_is_not_there"))
    with pytest.raises(inputs.UserError, match=r"needs dattri_that_is_not_there, not installed here: run `make setup`"):
        inputs.check_extra()
    monkeypatch.setattr(inputs, "EXTRA", ("torch",))
    inputs.check_extra()
