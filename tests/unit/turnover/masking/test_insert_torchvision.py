"""Turn-over dropout in networks of the zoo and of torchvision, against activations multiplied by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from study.networks.named import build
from turnover import InstanceMasks, insert, remove, subnetwork
from turnover.masking.insertion import head
from turnover.masking.layer import masked_layers

CLASSES, KEEP, SEED = 7, 0.5, 3
IDS = torch.tensor([5, 2**40, 11])
ACTIVATIONS = (nn.ReLU, nn.GELU, nn.SiLU)


class Case(NamedTuple):
    """A network, which dimension of its activations holds the units, and the layers around one activation module.

    `before` is None where a normalization stands in between: then those weights feed other units, too.
    """

    name: str
    size: int
    dim: int
    before: str | None
    activation: str
    after: str
    options: dict[str, Any]


CASES = [
    Case("mlp", 8, -1, "features.1", "features.2", "features.3", {"hidden": 32}),
    Case("cnn", 16, 1, "features.0", "features.2", "features.3", {"hidden": 32}),
    Case("torchvision.resnet18", 32, 1, None, "layer1.0.relu", "layer1.0.conv2", {}),
    Case("vgg11", 32, 1, "features.0", "features.1", "features.3", {"dropout": 0.0}),
    Case("convnext_tiny", 32, -1, "features.1.0.block.3", "features.1.0.block.4", "features.1.0.block.5", {}),
    Case("efficientnet_b0", 32, 1, "features.1.0.block.1.fc1", "features.1.0.block.1.activation",
         "features.1.0.block.1.fc2", {}),
    Case("vit_b_16", 32, -1, "encoder.layers.encoder_layer_0.mlp.0", "encoder.layers.encoder_layer_0.mlp.1",
         "encoder.layers.encoder_layer_0.mlp.3", {"image_size": 32}),
    Case("swin_t", 32, -1, "features.1.0.mlp.0", "features.1.0.mlp.1", "features.1.0.mlp.3", {}),
]  # fmt: skip


class Built(NamedTuple):
    case: Case
    model: nn.Module
    x: Tensor


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def shared(request: pytest.FixtureRequest) -> Built:
    torch.set_num_threads(2)
    case: Case = request.param
    model = build(case.name, (3, case.size, case.size), CLASSES, **case.options).eval()
    if case.name == "vit_b_16":  # its head starts at zero, which would hide everything
        nn.init.normal_(head(model).weight, std=0.1)
    if case.name == "convnext_tiny":  # likewise the scale of its residual branches
        for name, parameter in model.named_parameters():
            if name.endswith("layer_scale"):
                nn.init.constant_(parameter, 0.5)
    x = torch.randn(len(IDS), 3, case.size, case.size, generator=torch.Generator().manual_seed(0))
    return Built(case, model, x)


@pytest.fixture
def built(shared: Built) -> Iterator[Built]:
    yield shared
    remove(shared.model).eval().zero_grad()


def by_hand(built: Built, after: str, flipped: bool) -> Tensor:
    """Logits of a sub-network, every masked activation multiplied in the plainest way."""
    kept = 1 - KEEP if flipped else KEEP

    def multiply(number: int, dim: int) -> Callable[[Tensor], Tensor]:
        def apply(values: Tensor) -> Tensor:
            units = values.shape[dim]
            chosen = InstanceMasks(units, KEEP, seed=SEED, layer=number)(IDS, flipped=flipped)
            rows = [
                values[row].movedim(dim if dim < 0 else dim - 1, -1) * (chosen[row].float() / kept)
                for row in range(len(IDS))
            ]
            return torch.stack([row.movedim(-1, dim if dim < 0 else dim - 1) for row in rows])

        return apply

    handles = []
    if after == "head":
        apply = multiply(0, -1)
        handles.append(head(built.model).register_forward_pre_hook(lambda m, args, apply=apply: (apply(args[0]),)))
    else:
        found = [m for m in built.model.modules() if isinstance(m, ACTIVATIONS)]
        for number, module in enumerate(found):
            apply = multiply(number, built.case.dim)
            flat = multiply(number, 1)
            handles.append(module.register_forward_hook(
                lambda m, args, out, apply=apply, flat=flat: flat(out) if out.dim() == 2 else apply(out)
            ))  # fmt: skip
    try:
        with torch.no_grad():
            return built.model(built.x)  # type: ignore[no-any-return]
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("after", ["head", "all"])
def test_sub_networks_agree_with_activations_multiplied_by_hand(built: Built, after: str) -> None:
    model, x = built.model, built.x
    with torch.no_grad():
        original = model(x)
    keys = list(model.state_dict())
    expected = {flipped: by_hand(built, after, flipped) for flipped in (False, True)}
    insert(model, after=after, keep=KEEP, seed=SEED)
    assert list(model.state_dict()) == keys
    with torch.no_grad():
        assert torch.equal(model(x), original)
        for flipped, logits in expected.items():
            with subnetwork(model, IDS, flipped=flipped):
                found = model(x)
            torch.testing.assert_close(found, logits, rtol=1e-4, atol=1e-4 * logits.abs().max().item())
        # The comparison above would be idle if the masks did nothing.
        scale = original.abs().max()
        for one, other in ((expected[False], expected[True]), (expected[False], original)):
            assert ((one - other).abs().amax(1) > 1e-3 * scale).all()
        remove(model)
        assert masked_layers(model) == []
        assert torch.equal(model(x), original)
        assert list(model.state_dict()) == keys


def hidden_weights(built: Built, example: Tensor) -> list[tuple[nn.Parameter, Tensor]]:
    """Weights around one masked activation that the mask of `example` hides, as (parameter, bool like it)."""
    case, model = built.case, built.model
    names = [name for name, module in model.named_modules() if isinstance(module, ACTIVATIONS)]
    after = model.get_submodule(case.after)
    units = after.weight.shape[1]
    kept = InstanceMasks(units, KEEP, seed=SEED, layer=names.index(case.activation))(example)[0]
    found = []
    columns = torch.zeros_like(after.weight, dtype=torch.bool)
    columns[:, ~kept] = True
    found.append((after.weight, columns))
    if case.before is not None:
        before = model.get_submodule(case.before)
        rows = torch.zeros_like(before.weight, dtype=torch.bool)
        rows[~kept] = True
        found += [(before.weight, rows), (before.bias, ~kept)]
    return found


def loss_of(built: Built, example: Tensor) -> Tensor:
    with subnetwork(built.model, example):
        return F.cross_entropy(built.model(built.x[:1]), torch.tensor([2]))


@pytest.mark.parametrize("number", [0, 123_456_789_012])
def test_training_never_touches_what_the_mask_hides(built: Built, number: int) -> None:
    insert(built.model, after="all", keep=KEEP, seed=SEED)
    example = torch.tensor([number])
    loss_of(built, example).backward()
    hidden = hidden_weights(built, example)
    before = [parameter.detach().clone() for parameter, _ in hidden]
    for parameter, where in hidden:
        assert parameter.grad is not None
        assert (parameter.grad[where] == 0).all()
        assert 0 < where.sum() < where.numel()
        assert (parameter.grad[~where] != 0).any()
    # Make the step large against the weights, whatever the size of the gradient.
    largest = max(float(parameter.grad.abs().max()) for parameter, _ in hidden)  # type: ignore[union-attr]
    torch.optim.SGD([parameter for parameter, _ in hidden], lr=0.1 / largest).step()
    for (parameter, where), old in zip(hidden, before, strict=True):
        assert torch.equal(parameter[where], old[where])
        assert not torch.equal(parameter[~where], old[~where])
    with torch.no_grad():
        for (parameter, _), old in zip(hidden, before, strict=True):
            parameter.copy_(old)


def test_head_columns_of_masked_features_get_no_gradient(built: Built) -> None:
    insert(built.model, after="head", keep=KEEP, seed=SEED)
    example = torch.tensor([77])
    loss_of(built, example).backward()
    linear = head(built.model)
    kept = InstanceMasks(linear.in_features, KEEP, seed=SEED)(example)[0]
    assert linear.weight.grad is not None
    assert (linear.weight.grad[:, ~kept] == 0).all()
    assert (linear.weight.grad[:, kept] != 0).any()


def test_channels_that_were_permuted_to_the_end() -> None:
    """Masks sit on the features also where only their number tells which dimension holds them."""
    model = build("swin_t", (3, 32, 32), CLASSES).eval()
    insert(model, after=["features.0.1"])  # [batch, height, width, channel], made by a convolution
    (layer,) = masked_layers(model)
    assert layer.unit_dim(torch.zeros(2, 8, 8, 96)) == 3
    assert layer.unit_dim(torch.zeros(2, 96, 8, 8)) == 1
    with torch.no_grad(), subnetwork(model, [0]):
        model(torch.zeros(1, 3, 32, 32))
    assert list(layer._masks) == [96]


def test_linear_layers_that_are_only_read_are_refused() -> None:
    model = build("swin_t", (3, 32, 32), CLASSES)
    with pytest.raises(ValueError, match=r"attn\.proj' is never called itself: name 'features\.1\.0\.attn'"):
        insert(model, after=["features.1.0.attn.proj"])
    model = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True))
    with pytest.raises(ValueError, match="never called itself"):
        insert(model, after=["0.self_attn.out_proj"])


def test_masks_inside_of_windows_are_refused_with_both_sizes() -> None:
    """Swin's attention works on windows [batch * windows, ...]: a mask in there has no row for each example."""

    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix, self.classify = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            windows = self.mix(x.unflatten(1, (2, 3)).flatten(0, 1))
            return self.classify(windows.unflatten(0, (-1, 2)).mean((1, 2)))  # type: ignore[no-any-return]

    model = insert(Windows(), after=["mix"])
    with subnetwork(model, [0, 1, 2]), pytest.raises(ValueError, match="given 3 ids, but .* has 6 rows"):
        model(torch.randn(3, 6, 4))
