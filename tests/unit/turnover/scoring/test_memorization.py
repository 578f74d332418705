"""Memorization of one network, over checkpoints, over seeds; what the three networks say about a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from turnover import (
    combine,
    insert,
    memorization,
    memorization_over_training,
    remove,
    subnetwork,
)
from turnover.batches.outputs import Reader, loss_and_margin
from turnover.batches.passes import evaluating

ROWS, CLASSES = 90, 4


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def network(after: str | list[str] = "head", seed: int = 0, keep: float = 0.5) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Sequential(
            nn.Linear(10, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, CLASSES)
        )
    return insert(layers, after=after, seed=seed, keep=keep)


def examples() -> tuple[Tensor, Tensor, Tensor]:
    """Pure noise with random labels: nothing can be learned, only memorized."""
    generator = torch.Generator().manual_seed(9)
    x = torch.randn(ROWS, 10, generator=generator)
    return x, torch.randint(0, CLASSES, (ROWS,), generator=generator), torch.arange(ROWS) + 2**33


X, Y, ALL = examples()
WITH_NAN = X.clone().index_fill_(0, torch.tensor([5, 80]), torch.nan)


def trained(seed: int = 0, steps: int = 150, rows: int = 60) -> nn.Sequential:
    """Trained on the first `rows` examples; the others are placebos."""
    model, (x, y, ids) = network(seed=seed), examples()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for _ in range(steps):
            with subnetwork(model, ids[:rows]):
                loss = F.cross_entropy(model(x[:rows]), y[:rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


@pytest.mark.parametrize("after", ["head", "all", ["1"]])
@pytest.mark.parametrize("keep", [0.5, 0.8])
def test_outputs_are_those_of_the_sub_networks(after: str | list[str], keep: float) -> None:
    model, (x, _, ids) = network(after, keep=keep).eval(), examples()
    reader = Reader(model)
    with torch.no_grad():
        found, features = reader(x, ids)
        assert (reader.short is not None) == (after == "head")
        assert features is not None and found.exposed is not None and found.flipped is not None
        torch.testing.assert_close(features, model[:-1](x))
        assert torch.equal(found.full, model(x))
        for flipped, logits in ((False, found.exposed), (True, found.flipped)):
            with subnetwork(model, ids, flipped=flipped):
                torch.testing.assert_close(logits, model(x))
    assert (found.exposed - found.flipped).abs().max() > 0.01


def test_outputs_of_a_network_that_goes_on_behind_its_head() -> None:
    model, (x, _, ids) = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 4), nn.LogSoftmax(1)), examples()
    insert(model).eval()
    with torch.no_grad():
        found, _ = Reader(model)(x, ids)
        with subnetwork(model, ids):
            torch.testing.assert_close(found.exposed, model(x))
    torch.testing.assert_close(found.full.exp().sum(1), torch.ones(ROWS))


def test_loss_and_margin() -> None:
    logits, y = torch.tensor([[2.0, 0.0, 1.0], [2.0, 0.0, 1.0]], dtype=torch.float64), torch.tensor([0, 2])
    loss, margin = loss_and_margin(logits, y)
    torch.testing.assert_close(loss, F.cross_entropy(logits, y, reduction="none").float())
    assert margin.tolist() == [1.0, -1.0]


class TestMemorization:
    def test_the_measures_are_what_the_sub_networks_say(self) -> None:
        model, (x, y, ids) = network().eval(), examples()
        found = memorization(model, x, y, ids, batch_size=7)
        assert found["id"].tolist() == ids.tolist()
        probability = {}
        for flipped in (False, True):
            with subnetwork(model, ids, flipped=flipped), torch.no_grad():
                logits = model(x)
            probability[flipped] = logits.softmax(1).gather(1, y[:, None])[:, 0].double().numpy()
            right = (logits.argmax(1) == y).long().numpy()
            probability[flipped, "right"] = right
        np.testing.assert_allclose(found["loss"], -np.log(probability[True] / probability[False]), atol=1e-5)
        np.testing.assert_allclose(found["probability"], probability[False] - probability[True], atol=1e-6)
        assert (found["accuracy"] == probability[False, "right"] - probability[True, "right"]).all()
        assert found["accuracy"].abs().max() == 1

    def test_batch_size_and_mode_do_not_matter_and_are_left_alone(self) -> None:
        model, (x, y, ids) = network(), examples()
        model.train()
        model[1].eval()
        modes = [module.training for module in model.modules()]
        whole = memorization(model, x, y, ids)
        assert [module.training for module in model.modules()] == modes
        pd.testing.assert_frame_equal(memorization(model, x, y, ids, batch_size=13), whole, atol=1e-6)
        with pytest.raises(KeyError), evaluating(model):
            raise KeyError
        assert [module.training for module in model.modules()] == modes

    def test_what_was_trained_on_is_memorized_and_placebos_are_not(self) -> None:
        model, (x, y, ids) = trained(), examples()
        found = memorization(model, x, y, ids)
        seen, placebo = found["loss"][:60], found["loss"][60:]
        assert seen.mean() > 0.5
        assert seen.median() > placebo.quantile(0.9)
        error = placebo.std() / np.sqrt(len(placebo))
        assert abs(placebo.mean()) < 4 * error < seen.mean()

    def test_mistakes(self) -> None:
        model, (x, y, ids) = network(), examples()
        with pytest.raises(ValueError, match="one row an example, got 90 inputs, 90 labels, 89 ids"):
            memorization(model, x, y, ids[1:])
        with pytest.raises(ValueError, match=r"no turn-over dropout: call insert"):
            memorization(nn.Linear(10, 4), x, y, ids)

    @pytest.mark.parametrize(
        ("wrong", "error", "message"),
        [
            (
                {"y": Y.float()},
                TypeError,
                r"y must be integers, classes counted from 0, got torch\.float32: pass y\.lo",
            ),
            ({"y": Y > 1}, TypeError, r"y must be integers.*got torch\.bool"),
            (
                {"y": F.one_hot(Y)},
                ValueError,
                r"one label a row.*got shape \(90, 4\): of one-hot .*pass y\.argmax\(1\)",
            ),
            ({"y": Y - 1}, ValueError, r"labels run from -1 to 2, but the network has classes 0 to 3 \(4 classes\)"),
            ({"y": Y + 1}, ValueError, "labels run from 1 to 4, but the network has classes 0 to 3"),
            ({"x": X.numpy()}, TypeError, r"x must be a tensor, got a numpy array: pass torch\.from_numpy\(x\)"),
            ({"x": X.tolist()}, TypeError, "x must be a tensor, or give one when sliced, got list"),
            ({"ids": ALL.float()}, TypeError, "ids must be integers or strings, one a row, got Tensor of float32"),
            ({"ids": [None] * 90}, TypeError, "ids must be integers or strings, one a row, got list of object"),
            ({"y": [None] * 90}, TypeError, "y must be integers or strings, one a row, got a list"),
            ({"y": ["a"] * 90}, TypeError, r"y are strings: pass classes=\[\.\.\.\]"),
            ({"x": X[:0], "y": Y[:0], "ids": ALL[:0]}, ValueError, "x, y and ids are empty: pass at least one example"),
            ({"x": WITH_NAN}, ValueError, r"row 5 \(id 8589934597\) is NaN or infinite, as for 2 of 90 rows: did the"),
            ({"x": WITH_NAN.nan_to_num(torch.inf)}, ValueError, r"row 5 \(id 8589934597\) is NaN or infinite"),
        ],
    )
    @pytest.mark.parametrize("after", ["head", "all"])
    def test_wrong_examples(self, wrong: dict[str, Any], error: type[Exception], message: str, after: str) -> None:
        with pytest.raises(error, match=message):
            memorization(network(after), **{"x": X, "y": Y, "ids": ALL, **wrong})

    @pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
    @pytest.mark.parametrize("after", ["head", "all"])
    def test_labels_may_be_integers_of_any_type(self, dtype: torch.dtype, after: str) -> None:
        model = network(after)
        pd.testing.assert_frame_equal(memorization(model, X, Y.to(dtype), ALL), memorization(model, X, Y, ALL))

    def test_the_head_is_the_layer_that_gives_the_logits(self) -> None:
        model, right = insert(WithUnusedHead()), WithUnusedHead()
        right.load_state_dict(model.state_dict())
        del right.unused
        pd.testing.assert_frame_equal(memorization(model, X, Y, ALL), memorization(insert(right), X, Y, ALL))

    def test_masks_that_the_forward_pass_never_reaches_are_an_error(self) -> None:
        model = insert(WithUnusedHead(), ["unused"])
        with pytest.raises(
            ValueError, match=r"never reaches the turn-over dropout inserted at 'unused', .* call remove"
        ):
            memorization(model, X, Y, ALL)
        insert(remove(model), ["unused", "hidden"])  # one that counts is enough
        assert memorization(model, X, Y, ALL)["loss"].abs().min() > 0.0


class WithUnusedHead(nn.Module):
    """The linear layer that is registered last is not part of the forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.classify, self.unused = nn.Linear(10, 32), nn.Linear(32, CLASSES), nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.hidden(x).relu())  # type: ignore[no-any-return]


class TestOverTraining:
    def test_checkpoints_in_memory_and_in_files(self, tmp_path: Path) -> None:
        x, y, ids = examples()
        models = [network(), trained(steps=50), trained()]
        torch.save(models[1].state_dict(), tmp_path / "one.pt")
        checkpoints = [models[0].state_dict(), tmp_path / "one.pt", models[2].state_dict()]
        host = network().train()
        before = {key: value.clone() for key, value in host.state_dict().items()}
        found = memorization_over_training(host, (c for c in checkpoints), x, y, ids)
        for number, model in enumerate(models):
            one = found[found["checkpoint"] == number].drop(columns="checkpoint").reset_index(drop=True)
            pd.testing.assert_frame_equal(one, memorization(model, x, y, ids, neighbours=False))
        means = found[found["id"] < 60 + 2**33].groupby("checkpoint")["loss"].mean()
        assert means.is_monotonic_increasing
        assert all(torch.equal(before[key], value) for key, value in host.state_dict().items())

    def test_a_checkpoint_that_does_not_fit_leaves_the_network_as_it_was(self) -> None:
        model, (x, y, ids) = network(), examples()
        before = {key: value.clone() for key, value in model.state_dict().items()}
        with pytest.raises(RuntimeError, match="size mismatch"):
            memorization_over_training(model, [trained(steps=1).state_dict(), network_of(64).state_dict()], x, y, ids)
        assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
        with pytest.raises(ValueError, match="no checkpoints: give at least one"):
            memorization_over_training(model, [], x, y, ids)


def network_of(hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(10, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, 256), nn.ReLU(), nn.Linear(256, CLASSES)
    )


class TestEnsembles:
    def test_mean_and_standard_error(self) -> None:
        frames = [
            pd.DataFrame({"id": [4, 2], "loss": [a, 1.0], "probability": [0.1, b], "accuracy": [1, 0]})
            for a, b in ((1.0, 0.2), (2.0, 0.4), (6.0, 0.6))
        ]
        found = combine(frames)
        assert found["id"].tolist() == [4, 2]
        assert found["runs"].tolist() == [3, 3]
        np.testing.assert_allclose(found["loss"], [3.0, 1.0])
        np.testing.assert_allclose(found["loss_se"], [np.sqrt(7 / 3), 0.0], atol=1e-12)
        np.testing.assert_allclose(found["probability"], [0.1, 0.4])
        np.testing.assert_allclose(found["probability_se"], [0.0, 0.2 / np.sqrt(3)], atol=1e-12)
        np.testing.assert_allclose(found["accuracy_se"], [0.0, 0.0])

    def test_standard_errors_cover_the_mean_of_many_runs(self) -> None:
        """Planted means, normal noise, 4 runs: t with 3 degrees of freedom, so 3.18 standard errors hold 95 %."""
        generator = np.random.default_rng(0)
        truth = generator.normal(size=4000)
        frames = [
            pd.DataFrame({"id": np.arange(4000), **dict.fromkeys(
                ("loss", "probability", "accuracy"), truth + generator.normal(0, 2.0, 4000)
            )})
            for _ in range(4)
        ]  # fmt: skip
        found = combine(frames)
        covered = (np.abs(found["loss"] - truth) <= 3.1824 * found["loss_se"]).mean()
        assert abs(covered - 0.95) < 5 * np.sqrt(0.95 * 0.05 / 4000)

    def test_networks_of_several_seeds(self) -> None:
        models, (x, y, ids) = [network(seed=seed) for seed in range(3)], examples()
        found = memorization((model for model in models), x, y, ids)
        pd.testing.assert_frame_equal(found, combine([memorization(model, x, y, ids) for model in models]))
        assert (found["loss_se"] > 0).all()

    def test_mistakes(self) -> None:
        one = pd.DataFrame({"id": [1, 2], "loss": 0.0, "probability": 0.0, "accuracy": 0})
        with pytest.raises(ValueError, match="at least 2 runs, got 1"):
            combine([one])
        pd.testing.assert_frame_equal(combine([one, one[::-1]]), combine([one, one]))  # joined by id
        with pytest.raises(ValueError, match="run 1 holds other ids than run 0"):
            combine([one, one.assign(id=[1, 3])])
        with pytest.raises(ValueError, match="run 1 holds an id twice"):
            combine([one, one.assign(id=[1, 1])])
