"""The judgement of labels, where all that is true is known."""

from __future__ import annotations

import pytest
import torch

from turnover.auditing.suspicion import suspect, together


def drawn(
    confusions: torch.Tensor, count: int, learned: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Evidence that is calibrated [n, classes], true classes, and labels given by `confusions`.

    Args:
        learned: how far the evidence foretells given labels, as all does that is learned from them; 0: true classes.
    """
    generator = torch.Generator().manual_seed(0)
    chances = (10.0 * torch.randn(count, len(confusions), generator=generator)).softmax(1)
    true = torch.multinomial(chances, 1, generator=generator).squeeze(1)
    given = torch.multinomial(confusions[true], 1, generator=generator).squeeze(1)
    return chances @ (learned * confusions + (1.0 - learned) * torch.eye(len(confusions))), true, given


def symmetric(rate: float) -> torch.Tensor:
    return (1 - rate) * torch.eye(5) + rate / 4 * (1 - torch.eye(5))


def pair(rate: float) -> torch.Tensor:
    return (1 - rate) * torch.eye(5) + rate * torch.eye(5).roll(1, 1)


@pytest.mark.parametrize("learned", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("confusions", [symmetric(0.1), symmetric(0.2), pair(0.1), pair(0.2)])
def test_number_rate_and_confusions_are_found(confusions: torch.Tensor, learned: float) -> None:
    evidence, true, given = drawn(confusions, 20_000, learned)
    found = suspect(evidence, given)
    wrong = true != given
    assert found.expected_wrong == pytest.approx(int(wrong.sum()), rel=0.15)
    listed = found.false_discovery <= 0.1
    assert listed.sum() > 0.9 * wrong.sum()
    assert float((~wrong[listed]).float().mean()) == pytest.approx(0.1, abs=0.05)
    assert (found.confusions - confusions).abs().max() < 0.05


def test_the_order_is_that_of_the_posterior_and_the_evidence() -> None:
    evidence, true, given = drawn(pair(0.2), 5000)
    found = suspect(evidence, given)
    order = found.score.argsort(descending=True, stable=True)
    wrong = (true != given)[order].float()
    assert wrong[:500].mean() > 0.8 and wrong[2500:].mean() < 0.1
    assert (found.false_discovery[order].diff() >= 0).all(), "a longer list is no purer"
    assert (found.suggested != given).all()
    rows = (true != given).nonzero().flatten()
    assert (found.suggested[rows] == true[rows]).float().mean() > 0.9


def test_two_classes_have_one_wrong_label_each() -> None:
    evidence, true, given = drawn(torch.tensor([[0.9, 0.1], [0.1, 0.9]]), 4000)
    found = suspect(evidence, given)
    assert found.score.isfinite().all()
    assert found.expected_wrong == pytest.approx(int((true != given).sum()), rel=0.15)
    assert (found.suggested == 1 - given).all()


def test_where_nothing_is_wrong_nothing_is_listed() -> None:
    generator = torch.Generator().manual_seed(0)
    given = torch.randint(5, (3000,), generator=generator)
    sure = 6.0 * torch.nn.functional.one_hot(given, 5) + torch.randn(3000, 5, generator=generator)
    found = suspect(sure.softmax(1), given)
    assert found.expected_wrong < 30
    assert (found.false_discovery <= 0.1).sum() == 0


def test_witnesses_agree_in_their_geometric_mean() -> None:
    one, other = torch.tensor([[0.8, 0.1, 0.1]]), torch.tensor([[0.2, 0.7, 0.1]])
    found = together(one, other)
    assert found.sum() == pytest.approx(1.0)
    assert float(found[0, 0] / found[0, 2]) == pytest.approx((0.801 * 0.201) ** 0.5 / 0.101, rel=1e-4)
    assert torch.allclose(together(one), (one + 1e-3) / 1.003)
