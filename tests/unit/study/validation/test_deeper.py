"""The benchmark of deeper estimates: gradients of single examples are autograd's; the document shows what it kept."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

from benchmarks.deeper import KEPT, HalfShared, block, gradients, layers_of, residuals, show
from study.networks.zoo.small import CNN
from study.networks.zoo.transformer import Transformer
from tests.support import ROOT
from turnover import insert, subnetwork
from turnover.attribution.left_out import GRADIENT_RIDGE, INNER_RIDGE
from turnover.batches.examples import Examples
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


@pytest.mark.parametrize("layer", ["features.0", "hidden"])
def test_the_block_of_a_layer_is_the_kronecker_factored_influence(layer: str) -> None:
    """By inverse matrices instead of directions: ``tr(B^-1 G_i A^-1 G_t')``, A summed and B averaged over places."""
    torch.manual_seed(0)
    model = CNN((1, 8, 8), 3, channels=(4,), hidden=6).eval()
    train, targets = (Examples(torch.randn(n, 1, 8, 8), torch.arange(n) % 3, torch.arange(n)) for n in (30, 4))
    problem: Any = SimpleNamespace(train=train, targets=targets, scenario=SimpleNamespace(classes=("a", "b", "c")))
    module = model.get_submodule(layer)
    of_train, of_targets = residuals(problem, model)
    ((entering, gradient),) = gradients(model, module, train.images, of_train)
    ((entering_t, gradient_t),) = gradients(model, module, targets.images, of_targets)
    inputs = torch.einsum("npi,npj->ij", entering, entering).double()
    outputs = torch.einsum("npi,npj->ij", gradient, gradient).double() / entering.shape[1]
    inputs += INNER_RIDGE * inputs.trace() * torch.eye(len(inputs))
    outputs += GRADIENT_RIDGE * outputs.trace() * torch.eye(len(outputs))
    per_example = torch.einsum("npo,npi->noi", gradient, entering).double()
    per_target = torch.einsum("npo,npi->noi", gradient_t, entering_t).double()
    expected = torch.einsum(
        "noi,tpj,op,ij->nt", per_example, per_target, torch.linalg.inv(outputs), torch.linalg.inv(inputs)
    )
    found = block(problem, model, module, corrected=False)
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


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
