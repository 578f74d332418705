"""Rows that are made of several examples (mixup, cutmix) train only what all of them may train."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from tests.unit.turnover.masking.networks import IDS, batch, gradients, mlp, run
from turnover import TurnOverDropout, subnetwork
from turnover.masking.layer import masked_layers

OTHER = IDS.flip(0) + 1
THIRD = torch.full((6,), 99)


@pytest.mark.parametrize("keep", [0.5, 0.3])
@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("parts", [(IDS,), (IDS, OTHER), (IDS, OTHER, THIRD)])
def test_units_that_all_keep(parts: tuple[torch.Tensor, ...], flipped: bool, keep: float) -> None:
    layer = TurnOverDropout(keep)
    with subnetwork(layer, torch.stack(parts, 1), flipped=flipped):
        found = layer(torch.ones(6, 40, dtype=torch.float64))
    expected = torch.ones(6, 40, dtype=torch.float64)
    for ids in parts:
        expected *= layer.masks(40)(ids, flipped=flipped).double() / (1 - keep if flipped else keep)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    assert (found > 0).any()


def test_an_example_mixed_with_itself_is_that_example() -> None:
    model, (x, _) = mlp(), batch()
    for flipped in (False, True):
        for times in (1, 2, 3):
            assert torch.equal(run(model, x, IDS.repeat(times, 1).T, flipped), run(model, x, IDS, flipped))
    both = torch.stack([IDS, OTHER], 1)
    assert torch.equal(run(model, x, both), run(model, x, both.flip(1)))
    assert not torch.allclose(run(model, x, both), run(model, x, IDS))


def test_the_scale_keeps_the_mean_over_examples() -> None:
    layer, count = TurnOverDropout(0.3), 4000
    for flipped in (False, True):
        with subnetwork(layer, torch.arange(2 * count).view(count, 2), flipped=flipped):
            mean = layer(torch.ones(count, 30)).mean()
        assert mean == pytest.approx(1.0, abs=0.03)


def test_a_step_leaves_what_either_mask_hides() -> None:
    model, (x, y) = mlp("head"), batch()
    before = copy.deepcopy(model[4].weight)
    with subnetwork(model, [[5, 8]]):
        F.cross_entropy(model(x[:1]), y[:1]).backward()
    torch.optim.SGD(model.parameters(), lr=0.5).step()
    one, other = masked_layers(model)[0].masks(24)(torch.tensor([5, 8]))
    changed = (model[4].weight != before).any(0)
    assert torch.equal(changed, one & other)


def test_a_re_run_knows_all_ids() -> None:
    model, (x, y) = mlp(), batch()
    both = torch.stack([IDS, OTHER], 1)
    with subnetwork(model, both):
        F.cross_entropy(model(x), y).backward()
        expected = gradients(model)
        F.cross_entropy(checkpoint(model, x, use_reentrant=False), y).backward()
    torch.testing.assert_close(gradients(model), expected, rtol=0, atol=0)
    for wrong in (torch.stack([IDS, OTHER + 1], 1), both.flip(1).flip(0), IDS):
        with subnetwork(model, both):
            loss = F.cross_entropy(checkpoint(model, x, use_reentrant=False), y)
        with pytest.raises(RuntimeError, match=r"call backward\(\) inside the same"), subnetwork(model, wrong):
            loss.backward()


def test_compiled() -> None:
    model, (x, _) = mlp(), batch()
    torch.compiler.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    for ids in (IDS, torch.stack([IDS, OTHER], 1)):
        assert torch.equal(run(compiled, x, ids), run(model, x, ids))
    with pytest.raises(ValueError, match="given 2 ids"):
        run(compiled, x, [[1, 2, 3], [4, 5, 6]])
