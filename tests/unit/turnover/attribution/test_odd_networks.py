"""Networks whose head is not what it looks like, or that cannot be copied: right scores; fast only where proved."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from tests.unit.turnover.attribution.networks import brute_force, scorer_of
from turnover import influence, insert, localize, pool_within_classes, read, subnetwork, summarize
from turnover.attribution.any_network import GeneralScorer
from turnover.attribution.head import HeadScorer
from turnover.masking.layer import masked_layers

IDS = torch.arange(9)
X = torch.randn(24, 12, generator=torch.Generator().manual_seed(0))
Y = torch.arange(24) % 4


class Cosine(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 16 * F.linear(F.normalize(x, dim=1), F.normalize(self.weight, dim=1))


class Same(nn.Linear):
    """A subclass that computes the same: how should anybody know?"""


def network(head: Callable[[int, int], nn.Module] = nn.Linear, classes: int = 4, *tail: nn.Module) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(12, 64), nn.ReLU(), head(64, classes), *tail)


def hooked(model: nn.Sequential) -> nn.Module:
    insert(model)[2].register_forward_hook(lambda module, args, output: output * 5)
    return model


def pre_hooked(model: nn.Sequential) -> nn.Module:
    model[2].register_forward_pre_hook(lambda module, args: (args[0].clamp(max=0.3),))
    return insert(model)


def replaced(model: nn.Sequential) -> nn.Module:
    plain = insert(model)[2].forward
    model[2].forward = lambda x: plain(x).tanh() * 4
    return model


def compiled(model: nn.Sequential) -> nn.Module:
    model = insert(model)
    model[2] = torch.compile(model[2], backend="eager")
    model(X)
    return model


def compiled_in_place(model: nn.Sequential) -> nn.Module:
    insert(model)[2].compile(backend="eager")
    model(X)
    return model


def quantized(model: nn.Sequential) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: nn.Module = torch.ao.quantization.quantize_dynamic(insert(model), {"2"})  # type: ignore[no-untyped-call]
    return found


ODD: dict[str, Callable[[], nn.Module]] = {
    "cosine": lambda: insert(network(Cosine)),
    "subclass": lambda: insert(network(Same)),
    "forward hook": lambda: hooked(network()),
    "forward pre-hook": lambda: pre_hooked(network()),
    "own forward": lambda: replaced(network()),
    "weight norm": lambda: insert(network(lambda *size: nn.utils.parametrizations.weight_norm(nn.Linear(*size)))),
    "compiled head": lambda: compiled(network()),
    "head compiled in place": lambda: compiled_in_place(network()),
    "quantized head": lambda: quantized(network()),
    "softcap": lambda: insert(network(nn.Linear, 4, nn.Tanh())),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_only_looks_like_a_linear_head_is_run_itself(kind: str) -> None:
    model = ODD[kind]()
    expected = brute_force(model, IDS, X, Y)
    assert expected.std() > 1e-3
    hooks = [len(layer._forward_pre_hooks) for layer in masked_layers(model)]
    # Run as it was written, a compiled head is a plain one.
    assert isinstance(scorer_of(model, IDS, X, Y), HeadScorer if kind == "compiled head" else GeneralScorer)
    # Dynamic quantization rounds by the largest number of a batch, whatever else is in it.
    error = 0.05 * float(expected.std()) if kind == "quantized head" else 1e-5
    for found in (influence(model, IDS, X, Y), influence(model, IDS, (X, Y)), influence(model, IDS, [(X, Y)])):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=error)
    total = summarize(model, IDS, Y[:9], X, Y).total
    torch.testing.assert_close(total, expected.sum(1), rtol=1e-4, atol=24 * error)
    assert [len(layer._forward_pre_hooks) for layer in masked_layers(model)] == hooks == [0]


@pytest.mark.parametrize("tail", [(), (nn.Flatten(0),)])
@pytest.mark.parametrize("after", ["head", ["1"]])
def test_one_logit_is_two_classes(after: str | list[str], tail: tuple[nn.Module, ...]) -> None:
    """Against binary cross-entropy, written out."""
    model, y = insert(network(nn.Linear, 1, *tail), after=after).eval(), Y % 2
    rows = []
    for i in IDS.tolist():
        with torch.no_grad():
            losses = []
            for flipped in (True, False):
                with subnetwork(model, torch.full((24,), i), flipped=flipped):
                    z = model(X).view(-1)
                losses.append(F.binary_cross_entropy_with_logits(z, y.float(), reduction="none"))
        rows.append(losses[0] - losses[1])
    expected = torch.stack(rows)
    assert expected.std() > 0.01
    assert isinstance(scorer_of(model, IDS, X, y), HeadScorer if after == "head" else GeneralScorer)
    for memory in (1 << 30, 1):
        torch.testing.assert_close(influence(model, IDS, X, y, memory=memory), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(influence(model, IDS, (X, y)), expected, rtol=1e-4, atol=1e-5)
    if after == "head":
        torch.testing.assert_close(influence(model, IDS, read(model, X, y)), expected, rtol=1e-4, atol=1e-5)
    assert summarize(model, (X, y), (X, y)).total_by_class.shape == (24, 2)


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("after", ["head", ["1"]])
@pytest.mark.usefixtures("one_process")
def test_sharded_weights_go_the_general_way(after: str | list[str]) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    plain, model = insert(network(), after=after), insert(network(), after=after)
    mesh = init_device_mesh("cpu", (1,))
    for module in (model[2], model):
        fully_shard(module, mesh=mesh)
    expected = brute_force(plain, IDS, X, Y)
    assert isinstance(scorer_of(model, IDS, X, Y), GeneralScorer)
    torch.testing.assert_close(influence(model, IDS, X, Y), expected, rtol=1e-4, atol=1e-5)
    ids = torch.arange(24)
    raw = brute_force(plain, ids, X, Y)
    factor = localize(torch.ones_like(raw), plain, X, X)
    pooled = pool_within_classes(raw * factor, factor, Y)
    found = influence(model, (X, Y), (X, Y), estimate="pooled")
    torch.testing.assert_close(found, pooled, rtol=1e-4, atol=1e-5)
    total = summarize(model, (X, Y), (X, Y), estimate="pooled").total
    torch.testing.assert_close(total, pooled.sum(1), rtol=1e-4, atol=1e-4)


def test_an_error_of_the_network_leaves_no_hook_behind() -> None:
    model = insert(network(nn.Linear, 4, nn.ReLU()), after=["1"])
    scorer = scorer_of(model, IDS, X, Y)
    model[3].forward = lambda x: 1 / 0
    with pytest.raises(ZeroDivisionError):
        scorer.tile(slice(0, 2), scorer.prepare(slice(0, 4)))
    assert [len(layer._forward_pre_hooks) for layer in masked_layers(model)] == [0]
