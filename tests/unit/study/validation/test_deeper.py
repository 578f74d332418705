"""The benchmark of deeper estimates: gradients of single examples are autograd's; the document shows what it kept."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from torch import nn

from benchmarks.deeper import KEPT, HalfShared, gradients, layers_of, show
from study.networks.zoo.small import CNN
from study.networks.zoo.transformer import Transformer
from tests.support import ROOT
from turnover import insert, subnetwork
from turnover.errors import UserError
from turnover.masking.layer import masked_layers
from turnover.masking.reruns import Selection


@pytest.mark.parametrize("make", [CNN, Transformer])
def test_gradients_of_single_examples(make: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = make(
        (1, 8, 8), 3, **({"channels": (4, 5), "hidden": 6} if make is CNN else {"width": 8, "hidden": 6})
    ).eval()
    x, residual = torch.randn(5, 1, 8, 8), torch.randn(5, 3)
    layers = layers_of(model)
    assert len(layers) >= 3
    for layer in layers.values():
        ((entering, gradient),) = gradients(model, layer, x, residual)
        of_weights = torch.einsum("npo,npi->noi", gradient, entering)
        weight = layer.weight
        assert isinstance(weight, nn.Parameter)
        for number in range(5):
            total = (model(x[number : number + 1]) * residual[number]).sum()
            (expected,) = torch.autograd.grad(total, weight)
            torch.testing.assert_close(of_weights[number], expected.flatten(1), rtol=1e-4, atol=1e-6)


def test_half_of_the_units_are_shared_which_the_library_refuses() -> None:
    model = insert(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))
    (layer,) = masked_layers(model)
    layer.__class__ = HalfShared
    factors = layer.factors(Selection(torch.arange(6), flipped=False), torch.ones(6, 8), 1)
    assert (factors[:, :4] == 1).all() and ((factors[:, 4:] == 0) | (factors[:, 4:] == 2)).all()
    assert 0 < (factors[:, 4:] == 0).sum() < 24
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    with pytest.raises(UserError, match="past"), subnetwork(model, range(6)):
        model(x)


def test_the_table_is_what_the_benchmark_kept() -> None:
    text = (ROOT / "docs/validation.md").read_text(encoding="utf-8")
    shown = text.partition("<!-- deeper -->\n\n")[2].partition("\n\n")[0]
    assert shown == show(pd.read_csv(KEPT)), "run `python benchmarks/deeper.py --show`, put it after the mark"
