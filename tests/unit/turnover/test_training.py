"""The training loop: turn-over dropout, resume, checkpoints, errors."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from turnover.data.batches import Examples
from turnover.dropout import insert, masked_layers
from turnover.dynamics import Dynamics, schedule
from turnover.errors import UserError
from turnover.models import CNN, Normalized
from turnover.training import DivergenceError, Epoch, TrainingConfig, schedule_factor, train

CONFIG = TrainingConfig(epochs=4, batch_size=16, learning_rate=1e-2, seed=3)


def examples(n: int = 50, classes: int = 3) -> Examples:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 1, 8, 8), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, classes, (n,), generator=generator)
    return Examples(images, labels, torch.arange(n) + 1000)


def network(after: str = "head", seed: int = 0) -> Normalized:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = CNN((1, 8, 8), 3, channels=(4, 8), hidden=32)
    return Normalized(insert(model, after), [0.5], [0.3])


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_training_fits_random_labels_in_the_exposed_network_only() -> None:
    data = examples(40)
    model = network()
    dynamics = Dynamics(data, schedule(60, [0, 60]))
    config = TrainingConfig(epochs=60, batch_size=8, learning_rate=5e-3)
    history = train(model, data, config, dynamics=dynamics)
    frame = dynamics.frame()
    last = frame[frame["epoch"] == 60]
    assert last["correct_exposed"].mean() > 0.95
    assert last["correct_flipped"].mean() < 0.75
    assert history[-1].loss < 0.2 < history[0].loss
    first = frame[frame["epoch"] == 0]
    assert abs(first["loss_exposed"].mean() - np.log(3)) < 0.5


def test_two_trainings_give_the_same_bits_and_another_seed_gives_others() -> None:
    results = []
    for seed in (3, 3, 4):
        model = network()
        train(model, examples(), TrainingConfig(epochs=2, batch_size=16, seed=seed))
        results.append(weights(model))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_training_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    train(network(), examples(), CONFIG)
    assert torch.equal(before, torch.random.get_rng_state())


class Stop(Exception):
    """Stands for the power cut."""


@pytest.mark.parametrize("stop_after", [1, 2, 3])
@pytest.mark.parametrize("after", ["head", "all"])
def test_an_interrupted_training_resumes_to_the_same_bits(tmp_path: Path, stop_after: int, after: str) -> None:
    def run(path: Path | None, stop: int | None) -> tuple[Normalized, Dynamics, list[Epoch]]:
        model, dynamics = network(after), Dynamics(examples(), schedule(CONFIG.epochs, "all"))

        def on_epoch(epoch: Epoch) -> None:
            told.append(epoch)
            if epoch.number == stop:
                raise Stop

        told: list[Epoch] = []
        history = train(
            model,
            examples(),
            CONFIG,
            dynamics=dynamics,
            evaluate=lambda model: {"first": float(weights(model)[0])},
            on_epoch=on_epoch,
            checkpoint=path,
            fingerprint="a",
        )
        assert told == history
        return model, dynamics, history

    straight, recorded, history = run(None, None)
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(Stop):
        run(path, stop_after)
    resumed, recorded_again, history_again = run(path, None)
    assert torch.equal(weights(straight), weights(resumed))
    assert recorded.frame().equals(recorded_again.frame())
    assert history == history_again


def test_a_checkpoint_of_something_else_is_refused_with_both_fingerprints(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    train(network(), examples(), CONFIG, checkpoint=path, fingerprint="aaa")
    with pytest.raises(UserError, match=r"fingerprint is aaa.*is bbb"):
        train(network(), examples(), CONFIG, checkpoint=path, fingerprint="bbb")


def test_a_corrupt_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="is corrupt"):
        train(network(), examples(), CONFIG, checkpoint=path)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no device that is always full")
def test_a_full_disk_leaves_the_last_checkpoint_intact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.pt"
    train(network(), examples(), TrainingConfig(epochs=1, batch_size=16), checkpoint=path, fingerprint="a")
    before = path.read_bytes()
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda state, beside: save(state, "/dev/full"))
    config = TrainingConfig(epochs=2, batch_size=16)
    with pytest.raises(UserError, match="could not be written"):
        train(network(), examples(), config, checkpoint=path, fingerprint="a")
    assert path.read_bytes() == before


def test_without_turn_over_no_mask_is_applied() -> None:
    """The same network without the hooks trains to the same weights."""
    masked, plain = network(), network()
    for module in plain.modules():
        module._forward_pre_hooks.clear()
    assert masked_layers(masked)
    assert not masked_layers(plain)
    train(masked, examples(), CONFIG, turn_over=False)
    train(plain, examples(), CONFIG, turn_over=False)
    assert torch.equal(weights(masked), weights(plain))
    turned = network()
    train(turned, examples(), CONFIG)
    assert not torch.equal(weights(turned), weights(masked))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_optimizer_and_precision_learns(optimizer: str, precision: str) -> None:
    data = examples(30)
    config = TrainingConfig(epochs=60, batch_size=10, optimizer=optimizer, learning_rate=1e-2, precision=precision)
    history = train(network(), data, config)
    assert history[-1].loss < 0.5 * history[0].loss


def test_schedules_against_their_formulas() -> None:
    assert schedule_factor("constant", 0.7) == 1.0
    assert schedule_factor("cosine", 0.0) == 1.0
    assert schedule_factor("cosine", 0.5) == pytest.approx(0.5)
    assert schedule_factor("one-cycle", 0.0) == 0.04
    assert schedule_factor("one-cycle", 0.1) == pytest.approx(0.5)
    assert schedule_factor("one-cycle", 0.2) == pytest.approx(1.0)
    assert schedule_factor("one-cycle", 0.6) == pytest.approx(0.5)
    with pytest.raises(UserError, match="one-cycle, cosine or constant"):
        schedule_factor("step", 0.5)


def test_divergence_is_reported_with_the_cure() -> None:
    config = TrainingConfig(epochs=3, batch_size=16, optimizer="sgd", learning_rate=1e30, schedule="constant")
    with pytest.raises(DivergenceError, match=r"diverged in epoch \d.*Lower training.learning_rate"):
        train(network(), examples(), config)


def test_a_label_outside_the_classes_is_refused() -> None:
    data = examples()
    bad = Examples(data.images, data.labels.clone().index_fill_(0, torch.tensor([4]), 3), data.ids)
    with pytest.raises(UserError, match="labels run from 0 to 3, but the network has classes 0 to 2"):
        train(network(), bad, CONFIG)


def test_nan_in_the_images_is_refused() -> None:
    data = examples()
    images = data.images.float()
    images[3, 0, 0, 0] = torch.nan
    with pytest.raises(UserError, match="NaN or infinite"):
        train(network(), Examples(images, data.labels, data.ids), CONFIG)


def test_fewer_examples_than_a_batch_still_train() -> None:
    history = train(network(), examples(5), TrainingConfig(epochs=1, batch_size=16))
    assert len(history) == 1


def test_examples_of_different_lengths_are_refused() -> None:
    with pytest.raises(UserError, match="'labels': 2"):
        Examples(torch.zeros(3, 1, 8, 8), torch.zeros(2, dtype=torch.long), torch.arange(3))


def test_every_epoch_visits_every_example_once_in_an_order_of_its_own() -> None:
    data = examples(37)
    orders = [torch.cat([batch.ids for batch in data.shuffled(10, seed=0, epoch=epoch)]) for epoch in (1, 2)]
    for order in orders:
        assert torch.equal(order.sort().values, data.ids)
    assert not torch.equal(*orders)


class TestDynamicsSchedule:
    def test_auto_is_dense_early_and_ends_with_the_last_epoch(self) -> None:
        assert schedule(15) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15]
        assert schedule(3) == [0, 1, 2, 3]
        assert schedule(100)[-1] == 100

    def test_a_list_is_sorted_and_gets_the_last_epoch(self) -> None:
        assert schedule(9, [5, 1]) == [1, 5, 9]

    def test_an_epoch_outside_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"training.dynamics_epochs: 12 is not allowed: epochs run from 0 to 9"):
            schedule(9, [12])
