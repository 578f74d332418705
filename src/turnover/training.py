"""The turn-over training loop, read from top to bottom: batches, one step, the end of an epoch, checkpoints."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from turnover.data.batches import Examples, epoch_seed
from turnover.dropout import subnetwork
from turnover.errors import UserError
from turnover.progress import progress_bar
from turnover.recording import Recorder


@dataclass(frozen=True)
class TrainingConfig:
    """How to train.

    Args:
        epochs: passes over the examples.
        batch_size: examples a step; the last batch of an epoch may be smaller.
        optimizer: ``"adamw"`` or ``"sgd"`` (with Nesterov momentum).
        learning_rate: peak of the schedule.
        weight_decay: decoupled for AdamW, L2 for SGD.
        momentum: of SGD.
        schedule: ``"one-cycle"`` (linear warm-up over the first fifth, then cosine to 0), ``"cosine"`` or
            ``"constant"``.
        label_smoothing: in [0, 1).
        precision: ``"float32"`` or ``"bfloat16"`` (autocast).
        seed: of the order of the examples and of ordinary dropout.
    """

    epochs: int = 15
    batch_size: int = 128
    optimizer: str = "adamw"
    learning_rate: float = 4e-3
    weight_decay: float = 1e-2
    momentum: float = 0.9
    schedule: str = "one-cycle"
    label_smoothing: float = 0.0
    precision: str = "float32"
    seed: int = 0


@dataclass(frozen=True)
class Epoch:
    """One epoch of a training.

    Args:
        number: from 1.
        loss: mean training loss in nats, each batch before its step.
        accuracy: on the same batches.
        extra: what the caller's `evaluate` gave at the end of the epoch.
    """

    number: int
    loss: float
    accuracy: float
    extra: Mapping[str, float] = field(default_factory=dict)


class DivergenceError(UserError):
    """The training loss is no longer a finite number."""


def train(
    model: nn.Module,
    examples: Examples,
    config: TrainingConfig,
    *,
    turn_over: bool = True,
    dynamics: Recorder | None = None,
    evaluate: Callable[[nn.Module], Mapping[str, float]] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    checkpoint: Path | None = None,
    fingerprint: str = "",
    progress: bool | None = None,
) -> list[Epoch]:
    """Train `model` in place on `examples`, every example under its own mask.

    Args:
        model: a network with turn-over dropout inserted, on the device of `examples`.
        examples: training examples.
        config: how to train.
        turn_over: False trains the network as it is, for comparison (ordinary dropout, if it has any, applies).
        dynamics: told after every epoch, and before the first step (epoch 0); see `turnover.recording`.
        evaluate: further figures of the model, taken at the end of every epoch.
        on_epoch: called with the figures of every epoch; for those before an interruption as soon as they are restored.
        checkpoint: a file. Written after every epoch, and removed at the end by the caller once the results are safe.
            If it is there, the training goes on from it and ends with the same bits as one without interruption.
        fingerprint: identity of code, settings and data; a checkpoint with another one is refused.
        progress: show a progress bar. None: only on a terminal.

    Returns:
        One `Epoch` for each epoch, from the first, whether or not this call trained it.

    Raises:
        DivergenceError: the loss became NaN or infinite.
        UserError: the checkpoint is corrupt or belongs to something else, or a label is outside of the classes.
    """
    _check_labels(model, examples)
    optimizer = make_optimizer(model, config)
    history: list[Epoch] = []
    if checkpoint is not None and checkpoint.exists():
        history = _resume(checkpoint, fingerprint, model, optimizer, dynamics)
        if on_epoch is not None:
            for epoch in history:
                on_epoch(epoch)
    elif dynamics is not None:
        dynamics.record(0, model)

    batches = math.ceil(len(examples) / config.batch_size)
    bar = progress_bar(total=config.epochs * len(examples), unit="example", description="training", show=progress)
    bar.update(len(history) * len(examples))
    with bar:
        for number in range(len(history) + 1, config.epochs + 1):
            model.train()
            loss_sum = torch.zeros((), dtype=torch.float64)
            right = torch.zeros((), dtype=torch.int64)
            with _epoch_rng(config.seed, number):
                for step, batch in enumerate(examples.shuffled(config.batch_size, config.seed, number)):
                    position = ((number - 1) * batches + step) / (config.epochs * batches)
                    for group in optimizer.param_groups:
                        group["lr"] = config.learning_rate * schedule_factor(config.schedule, position)
                    loss, correct = _step(model, batch, optimizer, config, turn_over)
                    loss_sum += loss * len(batch)
                    right += correct
                    bar.update(len(batch))
            mean_loss = loss_sum.item() / len(examples)
            if not math.isfinite(mean_loss):
                raise DivergenceError(
                    f"training diverged in epoch {number}: the loss is {mean_loss}. Lower training.learning_rate "
                    f"(now {config.learning_rate}) or look for extreme values in the images"
                )
            extra = dict(evaluate(model)) if evaluate is not None else {}
            epoch = Epoch(number, mean_loss, right.item() / len(examples), extra)
            history.append(epoch)
            bar.set_postfix(epoch=number, loss=f"{epoch.loss:.3f}", accuracy=f"{epoch.accuracy:.3f}")
            if dynamics is not None:
                dynamics.record(number, model)
            if checkpoint is not None:
                _save(checkpoint, fingerprint, model, optimizer, dynamics, history)
            if on_epoch is not None:
                on_epoch(epoch)
    return history


def _step(
    model: nn.Module, batch: Examples, optimizer: torch.optim.Optimizer, config: TrainingConfig, turn_over: bool
) -> tuple[Tensor, Tensor]:
    """One update. Returns the mean loss (before it) and how many were classified correctly, on the CPU."""
    device = batch.ids.device.type
    autocast = torch.autocast(device, torch.bfloat16) if config.precision == "bfloat16" else nullcontext()
    with subnetwork(model, batch.ids) if turn_over else nullcontext(), autocast:
        logits = model(batch.images)
        loss = F.cross_entropy(logits.float(), batch.labels, label_smoothing=config.label_smoothing)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.detach().double().cpu(), (logits.argmax(1) == batch.labels).sum().cpu()


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimizer that `config` names, over all parameters of `model`."""
    if config.optimizer == "adamw":
        return torch.optim.AdamW(
            model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            model.parameters(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            momentum=config.momentum,
            nesterov=config.momentum > 0,
        )
    raise UserError(f"training.optimizer={config.optimizer!r}: use adamw or sgd")


def schedule_factor(schedule: str, position: float) -> float:
    """Learning rate at `position` (0: first step, 1: the end), as a fraction of the peak."""
    if schedule == "constant":
        return 1.0
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * position))
    if schedule == "one-cycle":
        warm_up = 0.2
        if position < warm_up:
            return max(position / warm_up, 0.04)  # 1/25 of the peak at the first step
        return 0.5 * (1.0 + math.cos(math.pi * (position - warm_up) / (1.0 - warm_up)))
    raise UserError(f"training.schedule={schedule!r}: use one-cycle, cosine or constant")


def _check_labels(model: nn.Module, examples: Examples) -> None:
    if examples.images.is_floating_point() and not bool(torch.isfinite(examples.images).all()):
        raise UserError("an image holds NaN or infinite values: clean the data before training")
    with torch.no_grad():
        classes = model(examples.images[:1]).shape[-1]
    low, high = int(examples.labels.min()), int(examples.labels.max())
    if low < 0 or high >= classes:
        raise UserError(f"labels run from {low} to {high}, but the network has classes 0 to {classes - 1}")


@contextmanager
def _epoch_rng(seed: int, epoch: int) -> Iterator[None]:
    """Random numbers of ordinary dropout, the same for an epoch however it was reached; the caller's state stays."""
    with torch.random.fork_rng():
        torch.manual_seed(epoch_seed(seed, epoch))
        yield


def _save(
    path: Path,
    fingerprint: str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    dynamics: Recorder | None,
    history: list[Epoch],
) -> None:
    state = {
        "fingerprint": fingerprint,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "dynamics": dynamics.state() if dynamics is not None else {},
        "history": [(epoch.number, epoch.loss, epoch.accuracy, dict(epoch.extra)) for epoch in history],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    try:
        torch.save(state, beside)
        os.replace(beside, path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        raise UserError(f"the checkpoint {path} could not be written ({error}); the one before is intact") from error
    finally:
        beside.unlink(missing_ok=True)


def _resume(
    path: Path, fingerprint: str, model: nn.Module, optimizer: torch.optim.Optimizer, dynamics: Recorder | None
) -> list[Epoch]:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"the checkpoint {path} is corrupt ({error}): remove it to train from the start") from error
    if state["fingerprint"] != fingerprint:
        raise UserError(
            f"the checkpoint {path} belongs to another training: its fingerprint is {state['fingerprint']}, "
            f"this training's is {fingerprint}; remove it to train from the start"
        )
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    if dynamics is not None:
        dynamics.restore(state["dynamics"])
    return [Epoch(*entry) for entry in state["history"]]
