"""The training loop: turn-over dropout, resume, checkpoints, errors."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from study.networks.zoo.small import Normalized
from tests.unit.turnover.small import examples, network, weights
from turnover.batches.examples import Examples
from turnover.errors import UserError
from turnover.interruption import Interrupted
from turnover.masking.insertion import insert, remove
from turnover.masking.layer import masked_layers
from turnover.training.augmentation import Augmentation
from turnover.training.checkpoints import masks_identity, read
from turnover.training.dynamics import Dynamics, schedule
from turnover.training.epochs import Epoch
from turnover.training.loop import DivergenceError, train
from turnover.training.optimization import schedule_factor
from turnover.training.settings import TrainingConfig

CONFIG = TrainingConfig(epochs=4, batch_size=16, learning_rate=1e-2, seed=3)


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


def test_what_would_hang_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_DYNAMIC", "TRUE")
    train(network(), examples(), replace(CONFIG, epochs=1))  # one thread does not hang
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with pytest.raises(UserError, match="OMP_DYNAMIC=true makes training hang"):
        train(network(), examples(), CONFIG)


def test_training_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    model = network()
    model.network.hidden.register_forward_pre_hook(lambda module, x: F.dropout(x[0], 0.3, module.training))
    train(model, examples(), CONFIG)
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


def test_stopping_between_any_two_steps_saves_and_resumes_to_the_same_bits(tmp_path: Path) -> None:
    """Ordinary dropout and the sums of the epoch go on in the middle of an epoch too: a stop after every step."""

    def run(path: Path | None, stop: Callable[[], int] | None) -> tuple[Normalized, list[Epoch]]:
        model = network()
        model.network.hidden.register_forward_pre_hook(lambda module, x: F.dropout(x[0], 0.3, module.training))
        config = TrainingConfig(epochs=2, batch_size=16, augmentation=Augmentation(flip=True, crop=1))
        return model, train(model, examples(), config, checkpoint=path, stop=stop)

    straight, history = run(None, None)
    path = tmp_path / "checkpoint.pt"
    for _ in range(2 * 4 - 1):  # 50 examples are four steps; after the very last one there is nothing to stop
        with pytest.raises(Interrupted, match="and saved: run it again to go on from there") as stopped:
            run(path, lambda: 15)
        assert stopped.value.number == 15
    resumed, history_again = run(path, lambda: 15)
    assert history_again == history
    assert torch.equal(weights(straight), weights(resumed))


def test_a_stop_without_a_checkpoint_says_that_nothing_was_saved() -> None:
    with pytest.raises(Interrupted, match="nothing was saved"):
        train(network(), examples(), CONFIG, stop=lambda: 2)


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
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_every_optimizer_and_precision_learns(optimizer: str, precision: str) -> None:
    data = examples(30)
    config = TrainingConfig(epochs=60, batch_size=10, optimizer=optimizer, learning_rate=1e-2, precision=precision)
    history = train(network(), data, config)
    assert history[-1].loss < 0.5 * history[0].loss


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_on_a_gpu_training_learns_the_same_and_resumes_to_the_same_bits(tmp_path: Path, precision: str) -> None:
    device = torch.device("cuda")
    config = TrainingConfig(epochs=3, batch_size=16, learning_rate=1e-2, precision=precision)
    path, found = tmp_path / "checkpoint.pt", []
    for stop in (None, lambda: 15, None):
        model = network("all").to(device)
        with pytest.raises(Interrupted) if stop else nullcontext():
            train(model, examples(400).to(device), config, checkpoint=path if found else None, stop=stop)
        found.append(weights(model).cpu())
    assert torch.equal(found[0], found[2])
    on_cpu = network("all")
    train(on_cpu, examples(400), config)
    assert torch.allclose(weights(on_cpu), found[0], atol=0.05)


def test_schedules_against_their_formulas() -> None:
    assert schedule_factor("constant", 0.7) == 1.0
    assert schedule_factor("cosine", 0.0) == 1.0
    assert schedule_factor("cosine", 0.5) == pytest.approx(0.5)
    assert schedule_factor("one-cycle", 0.0) == 0.04
    assert schedule_factor("one-cycle", 0.1) == pytest.approx(0.5)
    assert schedule_factor("one-cycle", 0.2) == pytest.approx(1.0)
    assert schedule_factor("one-cycle", 0.6) == pytest.approx(0.5)


def test_divergence_is_reported_with_the_cure_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    """Scaled up step by step, the loss overflows in a later epoch; what was saved is from before."""
    config = TrainingConfig(epochs=30, batch_size=16, optimizer="sgd", learning_rate=30.0, schedule="constant")
    path, told = tmp_path / "checkpoint.pt", []
    with pytest.raises(DivergenceError, match=r"diverged in epoch \d.*Lower training.learning_rate.*kept in .*\.pt"):
        train(network(), examples(), config, checkpoint=path, on_epoch=told.append)
    saved = read(path)
    assert len(saved["history"]) == len(told)
    assert all(np.isfinite(epoch.loss) for epoch in told)


def test_a_label_outside_the_classes_is_refused() -> None:
    data = examples()
    bad = Examples(data.images, data.labels.clone().index_fill_(0, torch.tensor([4]), 3), data.ids)
    with pytest.raises(UserError, match="labels run from 0 to 3, but the network has classes 0 to 2"):
        train(network(), bad, CONFIG)


def test_views_of_one_example_share_its_id_and_whoever_repeats_ids_is_warned() -> None:
    twice = replace(examples(), ids=examples().ids // 2)
    with pytest.warns(UserWarning, match=r"ids repeat: id 500 stands there 2 times, 25 of 50 are different"):
        train(network(), twice, replace(CONFIG, epochs=1))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"labels": lambda labels: labels.float()}, TypeError, r"labels must be integers.*float32: pass labels\.long"),
        ({"labels": lambda labels: labels > 0}, TypeError, r"labels must be integers.*got torch\.bool"),
        ({"labels": F.one_hot}, UserError, r"got shape \(50, 3\): of one-hot .* pass labels\.argmax\(1\)"),
        ({"labels": lambda labels: labels.numpy()}, TypeError, r"pass torch\.from_numpy\(labels\)"),
        ({"images": lambda images: images.numpy()}, TypeError, r"pass torch\.from_numpy\(images\)"),
        ({"ids": lambda ids: ids.numpy()}, TypeError, r"pass torch\.from_numpy\(ids\)"),
        ({"labels": lambda labels: labels - 1}, UserError, "labels run from -1 to 1, but the network has classes 0 to"),
    ],
)
def test_wrong_examples_are_refused(
    change: dict[str, Callable[[Any], Any]], error: type[Exception], message: str
) -> None:
    wrong = replace(examples(), **{name: make(getattr(examples(), name)) for name, make in change.items()})
    with pytest.raises(error, match=message):
        train(network(), wrong, CONFIG)


def test_ids_may_repeat_where_they_decide_no_mask() -> None:
    data = examples()
    assert len(train(remove(network()), replace(data, ids=data.ids // 3), CONFIG, turn_over=False)) == CONFIG.epochs


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_labels_may_be_integers_of_any_type(dtype: torch.dtype) -> None:
    data, models = examples(), [network(), network()]
    for model, labels in zip(models, (data.labels, data.labels.to(dtype)), strict=True):
        train(model, replace(data, labels=labels), CONFIG)
    assert torch.equal(*map(weights, models))


def test_masks_that_the_forward_pass_never_reaches_are_refused() -> None:
    model = remove(network())
    model.unused = nn.Linear(32, 3)
    with pytest.raises(UserError, match="the forward pass never reaches the turn-over dropout inserted at 'unused'"):
        train(insert(model, ["unused"]), examples(), CONFIG)
    train(model, examples(), CONFIG, turn_over=False)
    train(insert(remove(model)), examples(), CONFIG)  # by the data, the head is the layer that gives the logits


def test_nan_in_the_images_is_refused() -> None:
    data = examples()
    images = data.images.float()
    images[3, 0, 0, 0] = torch.nan
    with pytest.raises(UserError, match="NaN or infinite"):
        train(network(), Examples(images, data.labels, data.ids), CONFIG)


def test_fewer_examples_than_a_batch_still_train() -> None:
    history = train(network(), examples(5), TrainingConfig(epochs=1, batch_size=16))
    assert len(history) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": "step"}, "training.schedule='step': use one-cycle, cosine or constant"),
        ({"optimizer": "adam"}, "training.optimizer='adam': use adamw or sgd"),
        ({"precision": "float8"}, "training.precision='float8': use float32, bfloat16 or float16"),
        ({"batch_size": 0}, "training.batch_size=0: it must be at least 1"),
        ({"momentum": 1.0}, "training.momentum=1.0: it must be at least 0 and below 1"),
        ({"clip_norm": -1.0}, "training.clip_norm=-1.0: it must be positive"),
        ({"learning_rate": 0.0}, "training.learning_rate=0.0: it must be a positive number"),
        ({"learning_rate": float("nan")}, "training.learning_rate=nan: it must be a positive number"),
        ({"weight_decay": -0.1}, "training.weight_decay=-0.1: it must be a number that is not negative"),
    ],
)
def test_impossible_settings_are_refused_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TrainingConfig(**settings)


def test_compiled_or_not_the_network_learns_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the compiler's own passes (seconds): what matters here is that masks and weights are the network's."""
    found, real = [], torch.compile
    monkeypatch.setattr(torch, "compile", lambda module: real(module, backend="aot_eager"))
    for compiled in (False, True):
        model = network()
        train(model, examples(), TrainingConfig(epochs=2, batch_size=16, compile=compiled))
        found.append(weights(model))
    assert torch.allclose(*found, atol=1e-5)
    assert set(model.state_dict()) == set(network().state_dict())
    assert masks_identity(torch.compile(model)) == masks_identity(network())


def test_examples_of_different_lengths_are_refused() -> None:
    with pytest.raises(UserError, match="'labels': 2"):
        Examples(torch.zeros(3, 1, 8, 8), torch.zeros(2, dtype=torch.long), torch.arange(3))


def test_batches_can_begin_anywhere_and_hold_the_rows_of_their_ids() -> None:
    data = examples(37)
    whole = list(data.shuffled(10, seed=0, epoch=1))
    rest = list(data.shuffled(10, seed=0, epoch=1, skip=2))
    assert [batch.ids.tolist() for batch in rest] == [batch.ids.tolist() for batch in whole[2:]]
    for batch in whole:
        rows = batch.ids - 1000
        assert torch.equal(batch.images, data.images[rows])
        assert torch.equal(batch.labels, data.labels[rows])
    chosen = data.labels == 1
    assert torch.equal(data[chosen].ids, data.ids[chosen])


def test_every_epoch_visits_every_example_once_in_an_order_of_its_own() -> None:
    data = examples(37)
    orders = [torch.cat([batch.ids for batch in data.shuffled(10, seed=0, epoch=epoch)]) for epoch in (1, 2)]
    for order in orders:
        assert torch.equal(order.sort().values, data.ids)
    assert not torch.equal(*orders)


def test_progress_says_speed_losses_and_what_is_left_and_nothing_without_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def evaluate(model: object) -> dict[str, float]:
        return {"heldout_loss": 0.125}

    train(network(), examples(), CONFIG, evaluate=evaluate)
    assert capsys.readouterr().err == ""
    train(network(), examples(), CONFIG, evaluate=evaluate, progress=True)
    last = [line for line in capsys.readouterr().err.split("\r") if line.strip()][-1]
    for part in ("training: ", "/200 ", " examples/s", "<00:0", "epoch=4", "loss=", "accuracy=", "heldout_loss=0.125"):
        assert part in last, last


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
