"""Features that do not fit into memory are made again instead of kept, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from turnover import Localized, influence, insert, localize, neighbourhood, read
from turnover.reading import features
from turnover.reading.features import FeatureBlocks, features_of, spectrum
from turnover.scoring import neighbourhood as module

X = torch.randn(90, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(90) % 3


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "_BLOCK", 40)
    monkeypatch.setattr(features, "_BATCH", 16)


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return insert(nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 3)))


def test_blocks_hold_all_features_whether_kept_or_not() -> None:
    model, expected = network(), features_of(network(), X)
    seen: list[int] = []
    model.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    kept, again = FeatureBlocks(model, X, memory=90 * 32 * 4), FeatureBlocks(model, X, memory=90 * 32 * 4 - 1)
    del seen[:]
    for _ in range(2):
        assert torch.equal(torch.cat(list(kept)), expected)
    assert not seen
    for passes in (1, 2):
        parts = list(again)
        assert [len(part) for part in parts] == [40, 40, 10]
        assert torch.equal(torch.cat(parts), expected)
        assert sum(seen) == passes * (90 + 3 * 14) and max(seen) == 16  # the head is looked for in each block
    for one, other in zip(spectrum(kept), spectrum(again), strict=True):
        torch.testing.assert_close(one.abs(), other.abs(), rtol=1e-4, atol=1e-5)


def test_neighbourhood_and_nearness_do_not_depend_on_memory() -> None:
    model, expected = network(), neighbourhood(network(), X, Y)
    np.testing.assert_allclose(neighbourhood(model, X, Y, memory=1), expected, atol=1e-4)
    ids = torch.arange(90)
    near = localize(influence(model, ids, X, Y), model, X, X)
    some, whole = (influence(model, ids, X, Y, localized=Localized(X, reference=of), memory=1) for of in (X[:70], None))
    torch.testing.assert_close(whole, near, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(some, near, atol=1e-2)


class Peak(torch.utils._python_dispatch.TorchDispatchMode):
    """Notes the largest tensor that an operation makes."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        found = func(*args, **(kwargs or {}))
        for tensor in tensors(found):
            Peak.largest = max(Peak.largest, tensor.numel() * tensor.element_size())
        return found


def tensors(found: object) -> Iterator[Tensor]:
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, (tuple, list)):
        for part in found:
            yield from tensors(part)


def test_neighbourhood_keeps_to_its_memory() -> None:
    x, y, peaks = X.repeat(20, 1), Y.repeat(20), []
    for memory in (1 << 30, 1 << 20):
        Peak.largest = 0
        with Peak():
            neighbourhood(network(), x, y, memory=memory)
        peaks.append(Peak.largest)
    assert peaks[0] == module._ROWS * 1800 * 4
    assert peaks[1] <= 1 << 19  # the largest is a block of weights, or 32 numbers an example


@pytest.mark.parametrize("after", ["head", "all"])
def test_logits_of_many_classes_keep_to_the_memory(after: str) -> None:
    torch.manual_seed(0)
    classes = 4000
    model = insert(nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, classes)), after)
    x, y = X.repeat(3, 1), torch.arange(270) % classes
    whole = read(model, x, y, logits=True)
    for memory, rows in ((1 << 30, 256), (1 << 24, 32), (1, 16)):
        with Peak():
            Peak.largest = 0
            found = read(model, x, y, memory=memory)
        assert Peak.largest <= rows * classes * 4 * 1.05
        assert max(batch.stop - batch.start for batch in found.batches) <= rows
        for name, values in whole.values.items():
            torch.testing.assert_close(found.values[name], values, rtol=1e-4, atol=1e-4)
        assert torch.equal(found.ids, whole.ids) and torch.equal(found.labels, whole.labels)
    parts = read(model, x, y, inputs=True, memory=1)
    torch.testing.assert_close(torch.cat([parts.inputs(rows) for rows in parts.batches]), x)
