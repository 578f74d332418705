"""What reads data takes it from wherever it lies to the network's device, and leaves the network as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from turnover import (
    influence,
    insert,
    localize,
    memorization,
    memorization_over_training,
    neighbourhood,
    read,
    summarize,
)
from turnover.batches.evaluation import evaluate
from turnover.batches.passes import evaluating

GENERATOR = torch.Generator().manual_seed(0)
X, Y = torch.randn(30, 6, generator=GENERATOR), torch.randint(0, 3, (30,), generator=GENERATOR)
IDS = torch.arange(30) + 50


def network(after: str = "head") -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return insert(nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 3)), after)


# Every function of the library that takes examples: network, inputs, labels and ids to tensors.
READERS: dict[str, Callable[[Any, Any, Tensor, Tensor], Any]] = {
    "evaluate": evaluate,
    "memorization": memorization,
    "over training": lambda m, x, y, ids: memorization_over_training(m, [m.state_dict()], x, y, ids),
    "ensemble": lambda m, x, y, ids: memorization([m, m], x, y, ids),
    "neighbourhood": lambda m, x, y, ids: neighbourhood(m, x, y),
    "influence": lambda m, x, y, ids: influence(m, ids, x, y),
    "influence, localized": lambda m, x, y, ids: influence(m, ids, x, y, localized=x),
    "summarize": lambda m, x, y, ids: summarize(m, ids, y, x, y, localized=x).total,
    "localize": lambda m, x, y, ids: localize(torch.ones(30, 30), m, x, x),
    "features": lambda m, x, y, ids: read(m, x, y, ids).features[:],
}


def numbers(found: Any) -> Tensor:
    if isinstance(found, dict):
        return torch.stack(list(found.values()))
    return torch.tensor(found.to_numpy()) if isinstance(found, pd.DataFrame) else found.cpu()


class Elsewhere(Tensor):
    """A tensor on the CPU that says where `to` was asked to bring it."""

    asked: list[torch.device]

    def __getitem__(self, part: Any) -> Any:
        rows = super().__getitem__(part).as_subclass(Elsewhere)
        rows.asked = self.asked
        return rows

    def to(self, *arguments: Any, **named: Any) -> Any:
        self.asked += [argument for argument in arguments if isinstance(argument, torch.device)]
        return super().to(*arguments, **named).as_subclass(Tensor)


@pytest.mark.parametrize("after", ["head", "all"])
@pytest.mark.parametrize("name", READERS)
def test_batches_are_brought_to_the_device_of_the_network(name: str, after: str) -> None:
    model, x = network(after), X.clone().as_subclass(Elsewhere)
    x.asked = []
    given: list[type] = []
    model.register_forward_pre_hook(lambda module, args: given.append(type(args[0])))
    found = READERS[name](model, x, Y, IDS)
    assert set(x.asked) == {torch.device("cpu")}
    assert Elsewhere not in given  # no batch came to the network without having been brought
    torch.testing.assert_close(numbers(found), numbers(READERS[name](model, X, Y, IDS)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("after", ["head", "all"])
@pytest.mark.parametrize("name", READERS)
def test_data_on_the_cpu_and_a_network_on_a_gpu(name: str, after: str) -> None:
    expected = numbers(READERS[name](network(after), X, Y, IDS))
    found = numbers(READERS[name](network(after).cuda(), X, Y, IDS))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


class Lazy:
    """Inputs that only exist in slices."""

    def __init__(self, x: Tensor) -> None:
        self._x, self.most = x, 0

    def __len__(self) -> int:
        return len(self._x)

    def __getitem__(self, part: slice) -> Tensor:
        assert isinstance(part, slice)
        found = self._x[part]
        self.most = max(self.most, len(found))
        return found


@pytest.mark.parametrize("name", READERS)
def test_inputs_may_be_anything_that_gives_tensors_of_slices(name: str) -> None:
    expected = READERS[name](network(), X, Y, IDS)
    torch.testing.assert_close(numbers(READERS[name](network(), Lazy(X), Y, IDS)), numbers(expected))


def test_a_batch_is_all_that_is_asked_for_at_once() -> None:
    x = Lazy(X)
    memorization(network(), x, Y, IDS, batch_size=7)
    assert x.most == 7


def test_evaluating_has_no_gradients_and_restores_every_mode() -> None:
    model = network().train()
    model[1].eval()
    modes = [module.training for module in model.modules()]
    with pytest.raises(KeyError), evaluating(model):
        assert not any(module.training for module in model.modules())
        assert not model(X).requires_grad
        raise KeyError
    assert [module.training for module in model.modules()] == modes
    assert model(X).requires_grad


@pytest.mark.parametrize("in_place", [False, True])
def test_a_compiled_network_is_read_as_the_original(in_place: bool) -> None:
    plain, model = network(), network()
    if in_place:
        model.compile(backend="eager")
    else:
        model = torch.compile(model, backend="eager")  # type: ignore[assignment]
    model(X)
    for name, reader in READERS.items():
        torch.testing.assert_close(numbers(reader(model, X, Y, IDS)), numbers(reader(plain, X, Y, IDS)), msg=name)
