"""The zoo, images as they are stored, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from study.networks.devices import resolve_device, resolve_precision
from study.networks.named import build
from study.networks.zoo.small import CNN, MLP, Normalized, image_statistics
from turnover.errors import UserError
from turnover.masking.insertion import insert
from turnover.masking.layer import masked_layers
from turnover.masking.subnetworks import subnetwork


def test_sizes_of_the_zoo() -> None:
    assert CNN((1, 28, 28), 10)(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    mlp = MLP((1, 28, 28), 10)
    widths = [m.in_features for m in mlp.modules() if isinstance(m, torch.nn.Linear)]
    assert widths == [784, 768, 768, 768]
    assert mlp(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize("after", ["head", "all"])
def test_pooling_before_relu_is_relu_before_pooling_to_the_bit(after: str) -> None:
    """Logits and gradients, masks of channels included: the usual order is the reference."""
    torch.manual_seed(0)
    network = insert(CNN((1, 28, 28), 10, (4, 8), 16), after)
    usual = insert(CNN((1, 28, 28), 10, (4, 8), 16), after)
    usual.load_state_dict(network.state_dict())
    order = [0, 2, 1, 3, 5, 4, 6]
    usual.features = torch.nn.Sequential(*(usual.features[place] for place in order))
    assert isinstance(usual.features[1], torch.nn.ReLU)
    x = torch.randn(8, 1, 28, 28)
    x[:, :, :14] = 0.5  # constant regions: ties in the pooling
    logits = []
    for model in (network, usual):
        with subnetwork(model, torch.arange(8)):
            logits.append(model(x))
        logits[-1].square().sum().backward()
    assert torch.equal(*logits)
    for mine, theirs in zip(network.parameters(), usual.parameters(), strict=True):
        assert torch.equal(mine.grad, theirs.grad)  # type: ignore[arg-type]


def test_weights_come_from_the_seed_alone() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first, again, other = (build("mlp", (1, 4, 4), 3, seed=seed, hidden=8, layers=1) for seed in (5, 5, 6))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(first.head.weight, again.head.weight)  # type: ignore[union-attr,arg-type]
    assert not torch.equal(first.head.weight, other.head.weight)  # type: ignore[union-attr,arg-type]


@pytest.mark.parametrize("name", ["torchvision.resnet18", "squeezenet1_1"])
def test_torchvision_by_name_without_batch_norm(name: str) -> None:
    model = build(name, (3, 32, 32), 7)
    assert type(model).__module__.startswith("torchvision")
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules())
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize(("name", "weights", "activations"), [("resnet9", 6_573_130, 10), ("resnet18", 11_173_962, 17)])
def test_residual_networks_of_the_usual_size(name: str, weights: int, activations: int) -> None:
    """As many weights as with BatchNorm (He et al. 2016; Page 2018, whose network has no biases), and a mask each."""
    model = build(name, (3, 32, 32), 10)
    assert sum(parameter.numel() for parameter in model.parameters()) == weights
    assert len(masked_layers(insert(model, "all"))) == activations


@pytest.mark.parametrize("name", ["resnet9", "resnet18"])
@pytest.mark.parametrize("after", ["head", "all"])
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28)])
def test_masks_reach_the_logits_of_residual_networks(name: str, after: str, shape: tuple[int, int, int]) -> None:
    """Row by row: a sub-network is neither the full network nor its complement, whatever else is in the batch."""
    model = insert(build(name, shape, 5, width=16), after).eval()
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        full, ids = model(x), torch.tensor([4, 5, 6])
        with subnetwork(model, ids):
            exposed = model(x)
        with subnetwork(model, ids[1:2]):
            alone = model(x[1:2])
        with subnetwork(model, ids, flipped=True):
            flipped = model(x)
    assert full.shape == (3, 5)
    for one, other in ((full, exposed), (full, flipped), (exposed, flipped)):
        assert bool(((one - other).abs().amax(1) > 1e-3).all())
    torch.testing.assert_close(alone, exposed[1:2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet19", {}, r"model.name='resnet19' is not known \(did you mean resnet"),
        ("cnn", {"hiden": 3}, "'cnn' has no such setting; it has channels, hidden"),
        ("resnet9", {"width": 1}, "model.width=1: a residual network needs at least 2 channels"),
        ("cnn", {"channels": [1, 1, 1, 1]}, r"halves an image of 8x8 4 times"),
        (
            "cnn",
            {"channels": []},
            r"model.channels=\[\] is not allowed for 'cnn': it should be a list of whole numbers",
        ),
        ("cnn", {"channels": [8, -1]}, r"model.channels=\[8, -1\] is not allowed for 'cnn'"),
        ("cnn", {"channels": [10**12]}, r"model.channels=\[1000000000000\] is not allowed .* from 1 to 65536"),
        ("cnn", {"channels": 8}, r"model.channels=8 is not allowed for 'cnn': it should be a list"),
        ("cnn", {"hidden": 0}, r"model.hidden=0 is not allowed for 'cnn': it should be a whole number from 1"),
        ("mlp", {"hidden": [8]}, r"model.hidden=\[8\] is not allowed for 'mlp'"),
        ("mlp", {"layers": 10**9}, r"model.layers=1000000000 is not allowed for 'mlp': .* from 1 to 1000"),
        ("vgg11", {"num_classes": 3}, r"model.options: 'vgg11' cannot be built with num_classes=3: .*multiple values"),
        ("resnet18", {"layers": 3}, r"'resnet18' has no such setting"),
        ("torchvision.resnet18", {"groups": 0}, r"'resnet18' cannot be built with groups=0"),
    ],
)
def test_what_cannot_be_built_is_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(name, (3, 8, 8), 7, **options)


def test_images_are_normalised_inside() -> None:
    images = torch.randint(0, 256, (50, 2, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = image_statistics(images)
    exact = images.double() / 255
    assert mean == pytest.approx(exact.mean((0, 2, 3)).tolist(), abs=1e-12)
    assert std == pytest.approx(exact.std((0, 2, 3), correction=0).tolist(), abs=1e-12)
    seen = Normalized(torch.nn.Identity(), mean, std)(images)
    assert seen.mean((0, 2, 3)).tolist() == pytest.approx([0, 0], abs=1e-5)
    assert seen.std((0, 2, 3), correction=0).tolist() == pytest.approx([1, 1], abs=1e-5)
    assert set(Normalized(torch.nn.Linear(2, 2), mean, std).state_dict()) == {"network.weight", "network.bias"}


def test_a_constant_channel_does_not_divide_by_zero() -> None:
    assert image_statistics(torch.full((3, 1, 2, 2), 255, dtype=torch.uint8)) == ([1.0], [1.0])


def test_devices_and_precision() -> None:
    cpu = torch.device("cpu")
    assert resolve_device("cpu") == cpu
    assert resolve_device("auto").type in {"cpu", "cuda", "mps"}
    assert resolve_precision("bfloat16", cpu) == "bfloat16"
    assert resolve_precision("auto", cpu) in {"float32", "bfloat16"}
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match=r"training.device='cuda:3': this machine has no such device"):
            resolve_device("cuda:3")
        with pytest.raises(UserError, match=r"retrain.device='mps': this machine has no such device"):
            resolve_device("mps", "retrain.device")
