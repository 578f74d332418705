"""Influence agrees with running the sub-networks one by one, whatever the placement."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.unit.turnover.attribution.networks import brute_force, examples, network, scorer_of
from turnover import insert, remove
from turnover.attribution import any_network as general
from turnover.attribution.influence import influence
from turnover.attribution.summary import summarize
from turnover.batches.passes import DEFAULT_MEMORY
from turnover.reading import features

IDS = torch.tensor([3, 999, 0, 41, 40, 7_000_000_000, 12, -5, 8, 100, 101])
KINDS = ["head", "all", "mlp", "residual"]


@pytest.mark.parametrize("measure", ["loss", "margin"])
@pytest.mark.parametrize("keep", [0.5, 0.7])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_brute_force(kind: str, keep: float, measure: str) -> None:
    model, (x, y) = network(kind, keep), examples(40)
    expected = brute_force(model, IDS, x, y, measure)
    assert expected.abs().max() > 0.1 and expected.std(0).min() > 1e-4  # examples do differ
    found = influence(model, IDS, x, y, measure)
    assert found.shape == (len(IDS), len(x)) and found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_is_close_and_not_float32(kind: str) -> None:
    model, (x, y) = network(kind), examples(40)
    exact, rounded = influence(model, IDS, x, y), influence(model, IDS, x, y, precision="bfloat16")
    assert not torch.equal(exact, rounded)
    assert (rounded - exact).std() < 0.05 * exact.std()


@pytest.mark.parametrize("kind", KINDS)
def test_memory_budget_does_not_matter(kind: str) -> None:
    model, (x, y) = network(kind), examples(40)
    full = influence(model, IDS, x, y)
    scorer = scorer_of(model, IDS, x, y)
    assert scorer.block(40, 1)[0] == 1 < min(11, scorer.block(40, DEFAULT_MEMORY)[0])  # other tiles indeed
    small = influence(model, IDS, x, y, memory=1)
    torch.testing.assert_close(small, full, rtol=1e-6, atol=1e-6 * float(full.abs().max()))


def test_order_of_ids_does_not_matter() -> None:
    model, (x, y) = network("head"), examples(13)
    order = torch.randperm(len(IDS), generator=torch.Generator().manual_seed(0))
    assert order.tolist() != sorted(order.tolist())
    torch.testing.assert_close(
        influence(model, IDS[order], x, y), influence(model, IDS, x, y)[order], rtol=1e-6, atol=1e-7
    )


def test_modes_and_hooks_stay_as_they_were() -> None:
    model, (x, y) = network("all"), examples(4)
    model.train()
    model[1].eval()
    before = [m.training for m in model.modules()]
    expected = model(x)
    influence(model, IDS, x, y)
    assert [m.training for m in model.modules()] == before
    torch.testing.assert_close(model(x), expected)


def test_huge_logits_do_not_overflow() -> None:
    model, (x, y) = network("head"), examples(6)
    with torch.no_grad():
        model[-1].weight.mul_(3000)
    found = influence(model, IDS, x, y)
    assert found.abs().max() > 200 and found.isfinite().all()
    torch.testing.assert_close(found, brute_force(model, IDS, x, y), rtol=1e-4, atol=1e-2)


def test_user_mistakes_are_named() -> None:
    model, (x, y) = network("head"), examples(6)
    with pytest.raises(ValueError, match="6 targets but 5 labels"):
        influence(model, IDS, x, y[:5])
    with pytest.raises(ValueError, match='measure=.*"loss" or "margin"'):
        influence(model, IDS, x, y, "accuracy")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="5 classes"):
        influence(model, IDS, x, y + 3)
    with pytest.raises(TypeError, match="integer"):
        influence(model, IDS.float(), x, y)
    with pytest.raises(ValueError, match="insert"):
        influence(torch.nn.Linear(3, 2), IDS, x, y)


X, Y = examples(40)
WITH_NAN = X.clone().index_fill_(0, torch.tensor([5, 30]), torch.nan)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("summary", [False, True])
@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"y": Y.float()}, TypeError, r"y must be integers, classes counted from 0, got torch\.float32"),
        ({"y": Y > 1}, TypeError, r"y must be integers.*got torch\.bool"),
        ({"y": torch.eye(5)[Y]}, ValueError, r"got shape \(40, 5\): of one-hot .* pass y\.argmax\(1\)"),
        ({"y": [*Y.tolist()[:-1], "a"]}, TypeError, "y are strings: pass classes"),
        ({"y": Y - 1}, ValueError, r"labels run from -1 to 3, but the network has classes 0 to 4"),
        ({"x": X.numpy()}, TypeError, r"pass torch\.from_numpy\(x\)"),
        ({"train": IDS.double()}, TypeError, "train_ids must be integers or strings, one a row"),
        ({"train": IDS[:0]}, ValueError, "there are no training examples: pass at least one"),
        ({"x": WITH_NAN}, ValueError, "output for target 5 is NaN or infinite: did the training diverge"),
        ({"x": WITH_NAN.nan_to_num(torch.inf), "measure": "margin"}, ValueError, "output for target 5 is NaN or inf"),
        ({"measure": X}, ValueError, 'measure must be "loss" or "margin", got a Tensor: inputs of the training'),
        ({"localized": True}, TypeError, "localized=True: pass the inputs of the training examples, or None"),
        ({"localized": X[:11].numpy()}, TypeError, r"pass torch\.from_numpy\(localized\)"),
        ({"localized": 3}, TypeError, "localized must be a tensor, or give one when sliced, got int"),
    ],
)
def test_wrong_arguments(kind: str, summary: bool, wrong: dict[str, Any], error: type[Exception], message: str) -> None:
    given: dict[str, Any] = {"train": IDS, "x": X, "y": Y, **wrong}
    train, x, y = (given.pop(name) for name in ("train", "x", "y"))
    with pytest.raises(error, match=message):
        if summary:
            summarize(network(kind), train, torch.zeros(len(train), dtype=torch.int32), x, y, **given)
        else:
            influence(network(kind), train, x, y, **given)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_labels_may_be_integers_of_any_type(kind: str, dtype: torch.dtype) -> None:
    model = network(kind)
    assert torch.equal(influence(model, IDS, X, Y.to(dtype)), influence(model, IDS, X, Y))
    found, expected = (summarize(model, IDS, (IDS % 5).to(t), X, Y.to(t)) for t in (dtype, torch.int64))
    assert torch.equal(found.total_same_class, expected.total_same_class)


def test_masks_that_the_forward_pass_never_reaches_are_refused() -> None:
    model = remove(network("head"))
    model.unused = torch.nn.Linear(32, 5)
    model.forward = lambda x: torch.nn.Sequential(*list(model)[:-1])(x)  # type: ignore[operator]
    model = insert(model, after=["unused"])
    for targets in ((X, Y), ((X, Y),), (iter([(X, Y)]),)):
        with pytest.raises(ValueError, match="never reaches the turn-over dropout inserted at 'unused'"):
            influence(model, IDS, *targets)


@pytest.mark.parametrize("kind", ["head", "all", "residual"])
def test_batch_size_does_not_matter(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, (x, y) = network(kind), examples(40)
    full = influence(model, IDS, x, y)
    calls: list[int] = []
    model.register_forward_pre_hook(lambda module, args: calls.append(len(args[0])))
    monkeypatch.setattr(features, "_BATCH", 7)
    monkeypatch.setattr(general, "_PAIRS", 11)
    small = influence(model, IDS, x, y)
    assert small.abs().max() > 0.1
    assert max(calls) <= 2 * 11 * 2
    torch.testing.assert_close(small, full, rtol=1e-6, atol=1e-6 * float(full.abs().max()))
