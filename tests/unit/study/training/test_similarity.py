"""Gradient similarity: against a plain loop of backward passes, and the recorder through an interruption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from study.networks.named import build
from study.training.similarity import (
    GradientSimilarity,
    cosines,
    doubling,
    last_linear_layers,
    linear_gradient_products,
)
from turnover.batches.examples import Examples
from turnover.masking.insertion import insert
from turnover.masking.subnetworks import subnetwork
from turnover.training.attachments import Attachments
from turnover.training.dynamics import Dynamics
from turnover.training.epochs import Epoch
from turnover.training.loop import train
from turnover.training.settings import TrainingConfig


class Tokens(nn.Module):
    """Linear layers on tokens, one of them run twice."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 8)
        self.mix = nn.Linear(8, 8, bias=False)
        self.act = nn.ReLU()
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(self.embed(x))
        h = self.act(self.mix(h))
        return self.head(self.act(self.mix(h)).mean(1))


def _cnn(after: str) -> nn.Module:
    return insert(build("cnn", (1, 8, 8), 4, channels=[4, 6], hidden=16), after).eval()


def _batch(n: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(n, *shape, generator=generator)
    return x, torch.randint(0, 4, (n,), generator=generator), torch.arange(n) * 7 + 1


def _loop(model: nn.Module, x: Tensor, y: Tensor, ids: Tensor | None, parameters: list[str]) -> dict[str, Tensor]:
    """One backward pass an example."""
    rows: dict[str, list[Tensor]] = {name: [] for name in parameters}
    for i in range(len(x)):
        model.zero_grad()
        if ids is None:
            F.cross_entropy(model(x[i : i + 1]), y[i : i + 1]).backward()
        else:
            with subnetwork(model, ids[i : i + 1]):
                F.cross_entropy(model(x[i : i + 1]), y[i : i + 1]).backward()
        for name in parameters:
            gradient = model.get_parameter(name).grad
            assert gradient is not None
            rows[name].append(gradient.clone())
    return {name: torch.stack(values) for name, values in rows.items()}


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("network", ["head", "all", "tokens"])
def test_products_equal_those_of_the_gradients_themselves(network: str, masked: bool) -> None:
    if network == "tokens":
        model: nn.Module = insert(Tokens(), ["act"]).eval()
        x, y, ids = _batch(9, (5, 3))
        layers = ["mix", "head"]
    else:
        model = _cnn(network)
        x, y, ids = _batch(9, (1, 8, 8))
        layers = last_linear_layers(model, 2)
        assert layers == ["hidden", "head"]
    of = ids if masked else None
    names = [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias") if f"{layer}.{kind}" != "mix.bias"]
    flat = torch.cat([g.flatten(1) for g in _loop(model, x, y, of, names).values()], 1)
    for block in (2, 64):
        found = linear_gradient_products(model, x, y, of, layers, block=block)
        torch.testing.assert_close(found, flat @ flat.T, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(cosines(found), F.cosine_similarity(flat[:, None], flat[None], dim=2), atol=1e-5, rtol=0)


def test_an_example_without_a_gradient_has_no_direction() -> None:
    found = cosines(torch.tensor([[4.0, 0.0, 2.0], [0.0, 0.0, 0.0], [2.0, 0.0, 1.0]]))
    assert found[0, 2] == 1.0
    assert found[1].isnan().all() and found[:, 1].isnan().all()


def test_unknown_names_are_refused() -> None:
    model = _cnn("head")
    x, y, ids = _batch(3, (1, 8, 8))
    with pytest.raises(ValueError, match=r"no torch\.nn\.Linear"):
        last_linear_layers(nn.Conv2d(1, 1, 1), 2)
    model.spare = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="'spare' did not run"):
        linear_gradient_products(model, x, y, ids, ["spare"])


def test_the_recorder_keeps_the_pairs_of_its_epochs_and_resumes(tmp_path: Path) -> None:
    model = _cnn("head").train()
    x, y, ids = _batch(6, (1, 8, 8))
    recorder, kept = GradientSimilarity(Examples(x, y, ids), [0, 2]), Attachments(tmp_path)
    recorder.keep_in(kept)
    for epoch in range(3):
        recorder.record(epoch, model)
        with torch.no_grad():
            model.head.weight.mul_(1.5)
    assert model.training, "the model is left in the mode it was in"
    exposed = recorder.pairs("exposed")
    assert exposed.shape == (2, 15) and exposed.dtype == torch.float16
    assert not torch.equal(exposed, recorder.pairs("full"))
    assert not torch.equal(exposed[0], exposed[1])
    resumed, taken_up = GradientSimilarity(Examples(x, y, ids), [0, 2]), Attachments(tmp_path)
    taken_up.restore(kept.state())
    resumed.keep_in(taken_up)
    assert torch.equal(resumed.pairs("exposed"), exposed)


def test_an_interrupted_training_ends_with_the_same_similarities(tmp_path: Path) -> None:
    x, y, ids = _batch(24, (1, 8, 8))
    examples = Examples(x, y, ids)
    config = TrainingConfig(epochs=3, batch_size=8)

    def stop(epoch: Epoch) -> None:
        if epoch.number == 2:
            raise KeyboardInterrupt

    def run(**options: Any) -> GradientSimilarity:
        recorder = GradientSimilarity(examples, [0, 1, 3])
        dynamics = Dynamics(examples, [0, 3])
        train(_cnn("head"), examples, config, dynamics=dynamics, recorders=[recorder], progress=False, **options)
        return recorder

    whole = run()
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint=tmp_path / "c.pt", on_epoch=stop)
    resumed = run(checkpoint=tmp_path / "c.pt")
    for kind in ("exposed", "full"):
        assert whole.pairs(kind).shape == (3, 24 * 23 // 2)
        assert torch.equal(resumed.pairs(kind), whole.pairs(kind))


def test_epochs_double() -> None:
    assert doubling(15) == [0, 1, 2, 4, 8, 15]
    assert doubling(1) == [0, 1]
    assert doubling(16) == [0, 1, 2, 4, 8, 16]
