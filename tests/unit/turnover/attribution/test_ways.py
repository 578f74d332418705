"""Which way of scoring a network takes, and what the way for any network does about odd ones and too little memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.unit.turnover.attribution.networks import CLASSES, brute_force, examples, network, scorer_of
from turnover import influence, insert, summarize
from turnover.attribution.any_network import GeneralScorer
from turnover.attribution.head import HeadScorer
from turnover.masking.layer import TurnOverDropout

IDS = torch.arange(6)
X, Y = examples(35)


@pytest.mark.parametrize(
    ("kind", "way"),
    [("head", HeadScorer), ("all", GeneralScorer), ("mlp", GeneralScorer), ("residual", GeneralScorer)],
)
def test_the_way_taken(kind: str, way: type) -> None:
    assert isinstance(scorer_of(network(kind), IDS, X, Y), way)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize(("kind", "way"), [("head", HeadScorer), ("all", GeneralScorer)])
def test_a_compiled_network_is_scored_as_the_original(kind: str, way: type, in_place: bool) -> None:
    model, plain = network(kind), network(kind)
    if in_place:
        model.compile(backend="eager")
    else:
        model = torch.compile(model, backend="eager")  # type: ignore[assignment]
    model(X)  # compiled by now: what is hooked on later, it would not see
    assert isinstance(scorer_of(model, IDS, X, Y), way)
    for localized in (None, X[:6]):
        found = influence(model, IDS, X, Y, localized=localized)
        assert torch.equal(found, influence(plain, IDS, X, Y, localized=localized)) and found.std() > 0.01
    assert torch.equal(summarize(model, IDS, IDS % 5, X, Y).total, summarize(plain, IDS, IDS % 5, X, Y).total)


def sequential(*middle: nn.Module) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first, last = nn.Conv2d(1, 6, 3), nn.LazyLinear(CLASSES)
        model = nn.Sequential(first, nn.ReLU(), *middle, nn.Flatten(), last)
        model(torch.zeros(1, 1, 8, 8))
    return model


class Around(nn.Module):
    """Something from before the masked layer comes back after it, in one of several ways."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.first, self.act, self.join = nn.Linear(64, 64), nn.ReLU(), nn.Identity()
        self.last = nn.Linear(128 if how == "joined" else 64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        hidden = self.act(self.first(x))
        if self.how == "joined":
            return self.last(self.join(torch.cat([x, hidden], 1)))  # type: ignore[no-any-return]
        # The number of rows comes from before: fits whatever arrives, and gives averages over pairs.
        tokens = hidden.view(len(x), -1, 64).mean(1)
        return self.last(self.join(tokens))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("model", "after"),
    [
        (sequential(nn.MaxPool2d(2), nn.Conv2d(6, 4, 2), nn.GELU(), nn.AvgPool2d(2)), "all"),
        (sequential(nn.Conv2d(6, 6, 3, groups=2), nn.ReLU()), "all"),
        (sequential(nn.Sigmoid(), nn.Conv2d(6, 4, 3)), ["1"]),
        (sequential(nn.Conv2d(6, 4, 3), nn.GroupNorm(2, 4), nn.ReLU()), "all"),
        (sequential(nn.Conv2d(6, 4, 3), nn.Flatten(), nn.ReLU()), "all"),
        (sequential(TurnOverDropout(), nn.Conv2d(6, 4, 3)), None),  # written by hand
        (Around("joined"), ["act", "join"]),
        (Around("averaged"), ["act", "join"]),
    ],
)
@pytest.mark.parametrize("targets", [1, 35])
def test_any_network_equals_brute_force(model: nn.Module, after: str | list[str] | None, targets: int) -> None:
    if after is not None and not any(module._forward_hooks for module in model.modules()):
        insert(model, after=after, keep=0.7 if after == ["1"] else 0.5)
    x, y = X[:targets], Y[:targets]
    expected = brute_force(model, IDS, x, y)
    assert expected.std() > 1e-3
    torch.testing.assert_close(influence(model, IDS, x, y), expected, rtol=1e-4, atol=1e-5)


class Limited(nn.Module):
    """The identity on batches of up to `rows`, an error on larger ones."""

    def __init__(self, rows: int, error: RuntimeError) -> None:
        super().__init__()
        self.rows, self.error, self.seen = rows, error, []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        if len(x) > self.rows:
            raise self.error
        return x

    def __deepcopy__(self, memo: dict[int, object]) -> Limited:
        return self  # the scorer copies the network: still count here


NO_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to"),
]


@pytest.mark.parametrize("error", NO_MEMORY)
def test_out_of_memory_is_answered_by_smaller_batches_and_nothing_else(error: RuntimeError) -> None:
    limit = Limited(100, error)
    model = insert(sequential(nn.Conv2d(6, 4, 3), nn.ReLU(), limit), after=["1"])
    ids = torch.arange(40)
    found = influence(model, ids, X, Y)
    assert 1 <= sum(size > 100 for size in limit.seen) <= 4  # halved until it fits, not tried again for every tile
    assert 50 < max(limit.seen[-20:]) <= 100  # no smaller than needed
    torch.testing.assert_close(found, brute_force(model, ids, X, Y), rtol=1e-4, atol=1e-5)
    scorer = scorer_of(model, ids, X, Y)
    scorer.tile(slice(0, 40), scorer.prepare(slice(0, 35)))
    assert scorer._shared  # type: ignore[attr-defined]  # what comes before the mask still runs once a target
    limit.rows = 0
    with pytest.raises(RuntimeError, match="memory"):
        scorer.tile(slice(0, 1), scorer.prepare(slice(0, 35)))


def test_an_error_of_the_network_is_the_users_to_see() -> None:
    limit = Limited(100, RuntimeError("a bug of mine"))
    model = insert(sequential(nn.Conv2d(6, 4, 3), nn.ReLU(), limit), after=["1"])
    with pytest.raises(RuntimeError, match="a bug of mine"):
        influence(model, torch.arange(40), X, Y)
    assert [size for size in limit.seen if size > 100] == [limit.seen[-1]]  # not tried a second time
