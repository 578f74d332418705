"""Predictions over a training are the mean of what the network said, and watching a training does not change it."""

from __future__ import annotations

import re
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tests.support import ROOT
from turnover import Predictions, TrainingConfig, influence, insert, memorization, read, subnetwork, train
from turnover.batches.examples import Examples
from turnover.batches.passes import evaluating
from turnover.errors import UserError
from turnover.interruption import Interrupted
from turnover.training.attachments import Attachments

CLASSES = 3
X = torch.randn(40, 1, 4, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(40) % CLASSES
CONFIG = TrainingConfig(epochs=4, batch_size=10, learning_rate=0.01)


def network(outputs: int = CLASSES) -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Flatten(), nn.Linear(16, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, outputs)
    return insert(nn.Sequential(*layers), after=["2"])


class Watching:
    """What `evaluate` sees of the full network after each epoch."""

    def __init__(self, x: Tensor) -> None:
        self.x, self.said = x, list[Tensor]()

    def __call__(self, model: nn.Module) -> dict[str, float]:
        with evaluating(model), torch.no_grad():
            self.said.append(model(self.x).softmax(1))
        return {}


def test_the_mean_over_epochs_of_what_the_network_says() -> None:
    seen, targets, watching = Predictions(X, Y), Predictions(X[:5], Y[:5], name="targets"), Watching(X)
    train(network(), Examples(X, Y, torch.arange(40)), CONFIG, recorders=[seen, targets], evaluate=watching)
    expected = torch.stack(watching.said).mean(0)
    assert len(watching.said) == 4
    torch.testing.assert_close(seen.mean(), expected, rtol=0, atol=1e-3)
    torch.testing.assert_close(targets.mean(), expected[:5], rtol=0, atol=1e-3)


def test_chosen_epochs_only() -> None:
    seen, watching = Predictions(X, Y, epochs=[2, 4]), Watching(X)
    train(network(), Examples(X, Y, torch.arange(40)), CONFIG, recorders=[seen], evaluate=watching)
    torch.testing.assert_close(seen.mean(), (watching.said[1] + watching.said[3]) / 2, rtol=0, atol=1e-3)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_watched_training_takes_the_same_steps(workers: int) -> None:
    """A shuffling loader, whose workers get seeds from torch's own generator, and dropout, which draws from it, too."""
    loader = DataLoader(TensorDataset(X, Y), batch_size=7, shuffle=True, num_workers=workers)
    alone, watched, seen = network(), network(), Predictions(loader)
    for model in (alone, watched):
        torch.manual_seed(1)
        steps = torch.optim.SGD(model.parameters(), lr=0.1)
        for epoch in (1, 2):
            model.train()
            with subnetwork(model, torch.arange(40)):
                nn.functional.cross_entropy(model(X), Y).backward()
            steps.step()
            if model is watched:
                seen.record(epoch, model)
                assert model.training
    assert all(map(torch.equal, alone.state_dict().values(), watched.state_dict().values()))
    assert seen.mean().shape == (40, CLASSES)


def test_in_the_order_of_the_data_set_however_it_is_shuffled() -> None:
    model, loader = network(), DataLoader(TensorDataset(X, Y), batch_size=7, shuffle=True)
    of_loader, of_tensors = Predictions(loader), Predictions(X, Y)
    for seen in (of_loader, of_tensors):
        seen.record(0, model)  # untrained: it does not count
        seen.record(1, model)
    torch.testing.assert_close(of_loader.mean(), of_tensors.mean())
    with torch.no_grad():
        torch.testing.assert_close(of_loader.mean(), model.eval()(X).softmax(1), rtol=0, atol=1e-3)


def test_one_logit_is_two_classes() -> None:
    model = network(1)
    seen = Predictions(X, Y % 2)
    seen.record(1, model)
    with torch.no_grad():
        chance = torch.sigmoid(model.eval()(X))
    torch.testing.assert_close(seen.mean(), torch.cat([1 - chance, chance], 1), rtol=0, atol=1e-3)


def test_an_interruption_loses_nothing(tmp_path: Path) -> None:
    def trained(seen: Predictions, stop_after: int | None = None, checkpoint: Path | None = None) -> None:
        steps = count(1)
        stop = None if stop_after is None else (lambda: 15 if next(steps) >= stop_after else 0)
        data = Examples(X, Y, torch.arange(40))
        train(network(), data, CONFIG, recorders=[seen], checkpoint=checkpoint, stop=stop, progress=False)

    whole, resumed = Predictions(X, Y), Predictions(X, Y)
    trained(whole)
    with pytest.raises(Interrupted):
        trained(Predictions(X, Y), stop_after=10, checkpoint=tmp_path / "checkpoint.pt")
    trained(resumed, checkpoint=tmp_path / "checkpoint.pt")
    assert torch.equal(resumed.mean(), whole.mean())


def test_what_cannot_be_recorded_is_refused() -> None:
    with pytest.raises(UserError, match="pass a data set or loader"):
        Predictions(iter([(X, Y)]))
    with pytest.raises(UserError, match="nothing was recorded"):
        Predictions(X, Y).mean()
    for epochs in (15, torch.tensor(3), ["a"]):
        with pytest.raises(UserError, match="pass the numbers of epochs"):
            Predictions(X, Y, epochs=epochs)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="letters, digits and _"):
        Predictions(X, Y, name="all-test")
    with pytest.raises(UserError, match="batch_size"):
        Predictions(X, Y, batch_size=0)
    with pytest.raises(TypeError, match="pass a Dataset, a DataLoader, or tensors"):
        Predictions(3)
    assert Predictions(X, Y, epochs=np.arange(2, 5)).epochs == (2, 3, 4)


def test_two_recorders_of_one_name_are_refused_before_any_work() -> None:
    data = Examples(X, Y, torch.arange(40))
    with pytest.raises(UserError, match='two recorders of one training are called "all"'):
        train(network(), data, CONFIG, recorders=[Predictions(X, Y), Predictions(X[:5], Y[:5])])
    again = Predictions(X, Y)
    for _ in range(2):  # of two trainings, one after the other, it is of the last
        train(network(), data, CONFIG, recorders=[again])
    assert again.mean().shape == (40, CLASSES)


class OtherOrder:
    """A batch sampler of one's own, whose order is another one each time."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)

    def __iter__(self) -> Any:
        return iter(torch.randperm(40, generator=self.generator).split(8))

    def __len__(self) -> int:
        return 5


@pytest.mark.parametrize("places", [True, False])
def test_rows_of_different_examples_are_not_averaged(places: bool) -> None:
    """Where the data tell places, by these; else by their labels."""
    order = OtherOrder()
    batches = DataLoader(TensorDataset(X, Y), batch_sampler=order)  # type: ignore[arg-type]
    seen = Predictions(batches if places else Batches(order))
    seen.record(1, network())
    with pytest.raises(UserError, match="the examples are others than at first, or in another order"):
        seen.record(2, network())


class Batches:
    """An iterable of batches in an order of its own."""

    def __init__(self, order: OtherOrder) -> None:
        self.order = order

    def __iter__(self) -> Any:
        return ((X[rows], Y[rows]) for rows in self.order)


def test_epochs_that_are_missing_are_said(tmp_path: Path) -> None:
    """Of a recorder that came too late, or is used for a second training in a loop of one's own."""
    late = Predictions(X, Y)
    late.record(3, network())
    with pytest.raises(UserError, match=r"epochs \[1, 2\] were not recorded"):
        late.mean()
    with pytest.raises(UserError, match="epoch 3 was recorded before"):
        late.record(3, network())
    chosen = Predictions(X, Y, epochs=[2, 4, 9])
    chosen.record(4, network())
    with pytest.raises(UserError, match=r"epochs \[2\] were not recorded"):
        chosen.mean()
    with pytest.raises(Interrupted):
        stop = count(1)
        train(
            network(), Examples(X, Y, torch.arange(40)), CONFIG, checkpoint=tmp_path / "checkpoint.pt",
            stop=lambda: 15 if next(stop) >= 10 else 0, progress=False,
        )  # fmt: skip
    resumed = Predictions(X, Y)
    train(
        network(), Examples(X, Y, torch.arange(40)), CONFIG, recorders=[resumed], checkpoint=tmp_path / "checkpoint.pt"
    )
    with pytest.raises(UserError, match="needs the recorder that it began with"):
        resumed.mean()


def test_a_process_that_keeps_nothing_says_so() -> None:
    seen = Predictions(X, Y)
    seen.keep_in(Attachments(None, writes=False))
    for epoch in (1, 2):
        seen.record(epoch, network())
    with pytest.raises(UserError, match="ask the first one"):
        seen.mean()


def test_they_make_influence_another_one() -> None:
    model: Any = network()
    seen = Predictions(X, Y), Predictions(X[:5], Y[:5], name="targets")
    train(model, Examples(X, Y, torch.arange(40)), CONFIG, recorders=seen)
    data = (X, Y), (X[:5], Y[:5])
    plain = influence(model, *data)
    found = influence(model, *data, predictions=(seen[0].mean(), seen[1].mean()))
    assert found.shape == plain.shape
    assert not torch.allclose(found, plain)
    assert torch.equal(influence(model, *data, predictions=seen), found)  # themselves, which know their examples
    assert torch.equal(influence(model, data[0], *data[1], predictions=seen), found)
    other = torch.arange(40).flip(0)
    for train_data, targets in (((X[other], Y[other]), data[1]), (data[0], (X[5:10], Y[5:10]))):
        with pytest.raises(UserError, match="are of other examples than those that are asked about, or in another"):
            influence(model, train_data, targets, predictions=seen)
    with pytest.raises(UserError, match="are of other examples"):
        influence(model, (X, Y, other), data[1], predictions=seen)


def test_the_page_of_ones_own_data_shows_it_as_it_is() -> None:
    """The example of docs/your-data.md, run as it stands there."""
    page = (ROOT / "docs/your-data.md").read_text(encoding="utf-8").partition("## What the network said")[2]
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert code
    model = network()
    readings = read(model, X, Y)
    names: dict[str, Any] = {
        "Predictions": Predictions, "influence": influence, "model": model, "train": readings, "test": (X[:5], Y[:5]),
        "train_data": TensorDataset(X, Y), "test_data": DataLoader(TensorDataset(X[:5], Y[:5]), batch_size=2),
        "scores": memorization(model, readings),
    }  # fmt: skip
    exec(compile(code[1], "your-data.md", "exec"), names)
    assert names["effect"].shape == (40, 5)
    assert names["scores"]["suspicion"].between(0, 1).all()
