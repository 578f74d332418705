"""The streamed summary equals what the whole matrix says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.unit.turnover.attribution.networks import CLASSES, brute_force, examples, network
from turnover.attribution.influence import influence
from turnover.attribution.summary import summarize

IDS = torch.randperm(150, generator=torch.Generator().manual_seed(3)) + 1000
LABELS = IDS % CLASSES


def by_class(scores: Tensor, y: Tensor) -> Tensor:
    return torch.stack([scores[:, y == c].sum(1) for c in range(CLASSES)], 1)


@pytest.mark.parametrize("memory", [1 << 30, 1])
def test_equals_the_whole_matrix(memory: int) -> None:
    model, (x, y) = network("head"), examples(70)
    scores = brute_force(model, IDS, x, y)
    found = summarize(model, IDS, LABELS, x, y, top=9, top_targets=4, memory=memory)
    place = {int(i): p for p, i in enumerate(IDS)}
    for ids, values, sign in ((found.helpful_ids, found.helpful, 1), (found.harmful_ids, found.harmful, -1)):
        expected = (sign * scores.T).topk(9, dim=1).values * sign
        torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-5)
        named = torch.tensor([[scores[place[int(i)], t] for i in row] for t, row in enumerate(ids)])
        torch.testing.assert_close(named, values, rtol=1e-5, atol=1e-5)
        assert len(ids.unique()) > 20  # not the same few everywhere
    torch.testing.assert_close(found.helped, scores.topk(4, dim=1).values, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(scores.gather(1, found.helped_targets), found.helped, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.total, scores.sum(1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.total_by_class, by_class(scores, y), rtol=1e-4, atol=1e-4)
    same = by_class(scores, y).gather(1, LABELS.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(found.total_same_class, same, rtol=1e-4, atol=1e-4)
    assert found.total_error is None and found.helpful_error is None


def test_several_models_are_averaged_with_standard_errors() -> None:
    models, (x, y) = [network("head", seed=s) for s in range(3)], examples(30)
    each = torch.stack([influence(m, IDS, x, y) for m in models])
    mean, error = each.mean(0), each.std(0) / 3**0.5
    found = summarize(models, IDS, LABELS, x, y, top=5)
    values, rows = mean.topk(5, dim=0)
    torch.testing.assert_close(found.helpful, values.T)
    torch.testing.assert_close(found.helpful_ids, IDS[rows.T])
    assert found.helpful_error is not None and found.total_error is not None
    torch.testing.assert_close(found.helpful_error, error.gather(0, rows).T)
    torch.testing.assert_close(found.total, mean.sum(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.total_error, each.sum(2).std(0) / 3**0.5, rtol=1e-4, atol=1e-5)
    assert found.total_error.min() > 0


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (LABELS.float(), TypeError, "train_labels must be integers"),
        (LABELS.numpy(), TypeError, r"pass torch\.from_numpy\(train_labels\)"),
        (torch.eye(CLASSES)[LABELS], ValueError, r"pass train_labels\.argmax\(1\)"),
        (LABELS + 1, ValueError, "labels run from 1 to 5, but the network has classes 0 to 4"),
        (LABELS[:-1], ValueError, "150 training ids but 149 training labels"),
    ],
)
def test_wrong_training_labels(labels: Tensor, error: type[Exception], message: str) -> None:
    x, y = examples(6)
    with pytest.raises(error, match=message):
        summarize(network("head"), IDS, labels, x, y)
