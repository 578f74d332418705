"""The streamed summary equals what the whole matrix says."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch
from torch import Tensor

from tests.unit.turnover.attribution.networks import CLASSES, brute_force, examples, network, scorer_of
from turnover import insert
from turnover.attribution import reductions
from turnover.attribution.influence import influence
from turnover.attribution.reductions import Totals
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
        (torch.eye(CLASSES)[LABELS], ValueError, r"pass train_labels\.argmax\(1\)"),
        (LABELS + 1, ValueError, "labels run from 1 to 5, but the network has classes 0 to 4"),
        (LABELS[:-1], ValueError, "150 training ids but 149 training labels"),
    ],
)
def test_wrong_training_labels(labels: Tensor, error: type[Exception], message: str) -> None:
    x, y = examples(6)
    with pytest.raises(error, match=message):
        summarize(network("head"), IDS, labels, x, y)


@pytest.mark.parametrize("counts", [{"top_targets": 0}, {"top": 0}, {"top": 0, "top_targets": 0}])
@pytest.mark.parametrize("models", [1, 2])
def test_none_may_be_kept(counts: dict[str, int], models: int) -> None:
    networks, (x, y) = [network("head", seed=s) for s in range(models)], examples(9)
    found, whole = summarize(networks, IDS, LABELS, x, y, **counts), summarize(networks, IDS, LABELS, x, y)
    assert found.helped.shape == found.helped_targets.shape == (150, counts.get("top_targets", 9))
    assert found.helpful.shape == found.harmful_ids.shape == (9, counts.get("top", 100))
    assert torch.equal(found.total, whole.total)
    if "top" not in counts:
        assert torch.equal(found.harmful, whole.harmful)
    with pytest.raises(ValueError, match=r"top_targets=-1: it must be an integer that is not negative"):
        summarize(networks, IDS, LABELS, x, y, top_targets=-1)


@pytest.mark.parametrize("localized", [False, True])
@pytest.mark.parametrize("models", [1, 3])
def test_sums_by_class_keep_to_the_memory(models: int, localized: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer training examples at a time, and the same result; raw sums only beside localized ones."""
    made: list[int] = []
    init = Totals.__init__

    def noted(self: Totals, *arguments: int) -> None:
        init(self, *arguments)  # type: ignore[arg-type]
        made.append(self._sums.numel() * self._sums.element_size())

    monkeypatch.setattr(Totals, "__init__", noted)
    monkeypatch.setattr(reductions, "_CHUNK", 7)
    networks, (x, y) = [network("head", seed=s) for s in range(models)], examples(40)
    near = examples(150, seed=7)[0] if localized else None
    found = []
    for memory in (1 << 30, 34_000):
        del made[:]
        found.append(asdict(summarize(networks, IDS, LABELS, x, y, top=5, memory=memory, localized=near)))
        assert len(made) == 1 + localized
        assert sum(made) <= memory / 2
        rows = made[0] // (models * CLASSES * 8)
        assert rows == 150 if memory == 1 << 30 else 1 <= rows < 150
    for name, value in found[0].items():
        if value is None:
            assert found[1][name] is None
        elif value.is_floating_point():
            torch.testing.assert_close(found[1][name], value, rtol=1e-4, atol=1e-5 * float(value.abs().max()), msg=name)


def test_a_block_of_targets_with_many_classes_keeps_to_the_memory() -> None:
    layers = torch.nn.Flatten(), torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 5000)
    model = torch.nn.Sequential(*layers)
    x, y = examples(32)
    scorer = scorer_of(insert(model), IDS, x, y, fused=False)
    memory = 16 << 20
    height, width = scorer.block(32, memory)
    factors = 4999 * 128 * 4 * width
    assert factors <= memory / 2 and factors + height * width * 4999 * 4 <= memory
    torch.testing.assert_close(
        influence(model, IDS[:3], x, y, memory=memory), influence(model, IDS[:3], x, y), rtol=1e-4, atol=1e-5
    )
