"""The judgement of labels, where all that is true is known."""

from __future__ import annotations

import pytest
import torch

from turnover.auditing.suspicion import ONE_SIDED, _fitted, _learned, _one_sided, _without, suspect, together


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


def test_labels_that_look_like_it_are_ranked_by_the_evidence_and_one_sided_ones_by_the_posterior() -> None:
    """The same share of wrong labels, one class given for another: for one that looks like it, or for any."""
    generator = torch.Generator().manual_seed(0)
    count, classes = 6000, 6
    true = torch.arange(count) % classes
    like = true ^ 1  # 0 and 1, 2 and 3, 4 and 5 look alike
    evidence = torch.full((count, classes), 0.01)
    rows = torch.arange(count)
    doubt = 0.45 * torch.rand(count, generator=generator) ** 2
    evidence[rows, true], evidence[rows, like] = 0.96 - doubt, doubt + 0.01
    difficult = doubt.argsort(descending=True)[: count // 10]
    alike = true.clone()
    alike[difficult] = like[difficult]
    anyone = true.clone()
    some = torch.randperm(count, generator=generator)[: count // 10]
    anyone[some] = (true[some] + 2) % classes  # the same one each time, which does not look like it
    weights = []
    for given in (alike, anyone):
        learned = _learned(evidence)
        of_true = _without(evidence, learned)
        fitted = _fitted(of_true, given)
        weights.append(_one_sided(fitted.confusions, torch.bincount(true).float(), of_true))
        found = suspect(evidence, given)
        assert (given != true)[found.score.topk(count // 20).indices].float().mean() > 0.9
    assert weights[0] < 0.3 < ONE_SIDED < 0.75 < weights[1]


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
