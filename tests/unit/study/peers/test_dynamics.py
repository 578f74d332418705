"""Scores from training dynamics: by hand, and their signs on a training with wrong labels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from study.networks.zoo.small import MLP
from study.peers import dynamics
from turnover.batches.examples import Examples
from turnover.masking.insertion import insert
from turnover.training.dynamics import Dynamics
from turnover.training.loop import train
from turnover.training.settings import TrainingConfig


def test_by_hand() -> None:
    loss = np.array([[2.0, 1.0], [1.0, 0.5], [0.5, 3.0]])
    assert dynamics.cumulative_loss(loss).tolist() == [3.5, 4.5]
    assert dynamics.area_under_margin(np.array([[1.0, -2.0], [3.0, -4.0]])).tolist() == [-2.0, 3.0]


def test_forgetting_is_right_then_wrong_and_never_learned_is_worst() -> None:
    correct = np.array([[0, 1, 1, 0, 1], [1, 0, 1, 0, 1], [1, 1, 1, 0, 0], [1, 0, 1, 0, 0]], dtype=bool)
    assert dynamics.forgetting_events(correct).tolist() == [0.0, 2.0, 0.0, 4.0, 1.0]


def test_el2n_is_the_length_of_the_gradient_of_the_loss_at_the_logits() -> None:
    rng = np.random.default_rng(0)
    logits = torch.tensor(rng.normal(size=(20, 5)) * 3, requires_grad=True)
    labels = torch.tensor(rng.integers(0, 5, 20))
    torch.nn.functional.cross_entropy(logits, labels, reduction="sum").backward()
    expected = logits.grad.norm(dim=1).numpy()
    found = dynamics.el2n(logits.detach().numpy(), labels.numpy())
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    huge = dynamics.el2n(np.array([[1e6, 0.0], [1e6, 0.0]]), np.array([0, 1]))
    np.testing.assert_allclose(huge, [0.0, np.sqrt(2)])


@pytest.fixture(scope="module")
def noisy() -> tuple[pd.DataFrame, np.ndarray]:
    """Dynamics of a training on digits with every fifth label wrong, and which are wrong."""
    data = load_digits()
    images = torch.tensor(data.images[:400] * 15).float().unsqueeze(1)
    labels = torch.tensor(data.target[:400])
    wrong = np.arange(400) % 5 == 0
    labels[wrong] = (labels[wrong] + 1 + torch.arange(80) % 9) % 10
    examples = Examples(images, labels, torch.arange(400))
    torch.manual_seed(0)
    model = insert(torch.nn.Sequential(Scale(), MLP((1, 8, 8), 10, hidden=64, layers=2)), after="head")
    recorded = Dynamics(examples, range(11))
    train(model, examples, TrainingConfig(epochs=10, batch_size=32), dynamics=recorded, progress=False)
    return recorded.frame(), wrong


class Scale(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / 128 - 1


def test_every_score_ranks_wrong_labels_high(noisy: tuple[pd.DataFrame, np.ndarray]) -> None:
    frame, wrong = noisy
    trained = frame[frame["epoch"] > 0].sort_values(["epoch", "id"], kind="stable")
    loss, margin, correct = (
        trained[f"{kind}_full"].to_numpy().reshape(10, 400) for kind in ("loss", "margin", "correct")
    )
    assert roc_auc_score(wrong, dynamics.cumulative_loss(loss)) > 0.95
    for scores in (
        dynamics.area_under_margin(margin),
        dynamics.forgetting_events(correct.astype(bool)),
    ):
        assert roc_auc_score(wrong, scores) > 0.8
