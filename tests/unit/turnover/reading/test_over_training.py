"""Predictions over a training are the mean of what the network said, and watching a training does not change it."""

from __future__ import annotations

import re
from itertools import count
from pathlib import Path
from typing import Any

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


def test_they_make_influence_another_one() -> None:
    model: Any = network()
    seen = Predictions(X, Y), Predictions(X[:5], Y[:5], name="targets")
    train(model, Examples(X, Y, torch.arange(40)), CONFIG, recorders=seen)
    data = (X, Y), (X[:5], Y[:5])
    plain = influence(model, *data)
    found = influence(model, *data, predictions=(seen[0].mean(), seen[1].mean()))
    assert found.shape == plain.shape
    assert not torch.allclose(found, plain)


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
