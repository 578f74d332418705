"""The turn-over training loop, read from top to bottom: batches, one step, the end of an epoch, checkpoints."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from turnover.batches.checks import check_example_ids, check_inputs, check_labels, check_tensor
from turnover.batches.examples import Examples, step_seed
from turnover.batches.outputs import class_logits
from turnover.batches.passes import evaluating
from turnover.batches.processes import shard
from turnover.errors import UserError
from turnover.interruption import Interrupted
from turnover.masking.calling import logits_of
from turnover.masking.insertion import keep_frozen
from turnover.masking.probing import probe
from turnover.masking.subnetworks import subnetwork
from turnover.progress import progress_bar
from turnover.training.checkpoints import Checkpoint, identify
from turnover.training.dynamics import Dynamics
from turnover.training.epochs import Epoch, Tally
from turnover.training.optimization import Updater, make_optimizer, schedule_factor
from turnover.training.parallel import share, wrapped
from turnover.training.recorders import Recorder
from turnover.training.settings import TrainingConfig
from turnover.training.snapshots import Snapshots

__all__ = ["DivergenceError", "Epoch", "TrainingConfig", "make_optimizer", "schedule_factor", "train"]

_AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class DivergenceError(UserError):
    """The training loss is no longer a finite number."""


def train(
    model: nn.Module,
    examples: Examples,
    config: TrainingConfig,
    *,
    turn_over: bool = True,
    dynamics: Dynamics | None = None,
    snapshots: Snapshots | None = None,
    recorders: Sequence[Recorder] = (),
    evaluate: Callable[[nn.Module], Mapping[str, float]] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    checkpoint: Path | None = None,
    fingerprint: str = "",
    progress: bool | None = None,
    stop: Callable[[], int] | None = None,
) -> list[Epoch]:
    """Train `model` in place on `examples`, every example under its own mask.

    >>> from turnover.batches.examples import Examples
    >>> layers = torch.nn.Flatten(), torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2)
    >>> model = insert(torch.nn.Sequential(*layers))
    >>> examples = Examples(torch.randn(20, 1, 4, 4), torch.arange(20) % 2, torch.arange(20))
    >>> epochs = train(model, examples, TrainingConfig(epochs=5, batch_size=10))
    >>> len(epochs), epochs[-1].loss < epochs[0].loss
    (5, True)

    Under `torchrun`, after `torch.distributed.init_process_group`, every process calls this with the same arguments
    (its own device aside), takes its part of every batch, and ends with the same model and dynamics.

    Args:
        model: a network with turn-over dropout inserted, on the device of `examples`.
        examples: training examples; labels may be integers of any type. Repeated ids bring a warning: they
            share a mask.
        config: how to train.
        turn_over: False trains the network as it is, for comparison (ordinary dropout, if it has any, applies).
        dynamics: records examples at its epochs; epoch 0 is before the first step.
        snapshots: keeps the weights at its epochs.
        recorders: what else watches the training, see `turnover.training.recorders`.
        evaluate: further figures of the model, taken at the end of every epoch.
        on_epoch: called with the figures of every epoch; for those before an interruption as soon as they are restored.
        checkpoint: a file. Written at the start (so that a folder that cannot be written to is found before any work),
            after every epoch and on a stop; dynamics and snapshots go to a folder beside it. If it is there, the
            training goes on from it and ends with the same bits as one without interruption; if it is damaged, training
            starts from the beginning, with a warning. The caller removes it with
            `turnover.training.checkpoints.discard` once the results are safe, and after having read dynamics and
            snapshots.
        fingerprint: identity of what only the caller knows, such as its code. A checkpoint with another one is
            refused, as is one of another config, network, masks or examples.
        progress: show a progress bar. None: only on a terminal.
        stop: asked after every step (on other devices than the CPU, or in several processes, every 16 steps); a
            number other than 0 saves and ends the training. See `turnover.interruption.stop_on_signals`.

    Returns:
        One `Epoch` for each epoch, from the first, whether or not this call trained it.

    Raises:
        DivergenceError: the loss became NaN or infinite. The last good checkpoint is kept.
        Interrupted: `stop` asked for it.
        UserError: the checkpoint belongs to something else, is used by another process, cannot be read or cannot be
            written; the images hold NaN; a label is outside of the classes; the forward pass reaches no turn-over
            dropout; or OMP_DYNAMIC is set, with which training hangs.
        TypeError: images, labels or ids are no tensors, or labels or ids no integers.
    """
    _check_threads(examples.ids.device)
    examples = _checked(model, examples, turn_over)
    device, first = examples.ids.device, shard().number == 0
    updater = Updater(model, config)
    identity = identify(model, examples, config, turn_over, fingerprint) if checkpoint is not None else {}
    saved = Checkpoint(checkpoint, identity)
    watching = [recorder for recorder in (dynamics, snapshots, *recorders) if recorder is not None]
    for recorder in watching:
        recorder.keep_in(saved.attachments)
    tally = Tally(device)
    history: list[Epoch] = []

    def state(step: int) -> dict[str, Any]:
        """Where the training is: after `step` steps of the epoch that follows those of `history`."""
        epochs = [(epoch.number, epoch.loss, epoch.accuracy, dict(epoch.extra)) for epoch in history]
        trained = {"model": model.state_dict(), "updater": updater.state_dict()}
        return {**trained, "history": epochs, "step": step, "sums": tally.sums}

    batches = math.ceil(len(examples) / config.batch_size)
    total = config.epochs * len(examples)
    bar = progress_bar(total=total, unit="example", description="training", show=progress if first else False)
    with saved.exclusive(), bar:
        done = saved.load()
        skip = 0
        if done is not None:
            model.load_state_dict(done["model"])
            updater.load_state_dict(done["updater"])
            history = [Epoch(*entry) for entry in done["history"]]
            skip, tally.sums = done["step"], done["sums"]
            bar.update(len(history) * len(examples) + min(skip * config.batch_size, len(examples)))
            if on_epoch is not None:
                for epoch in history:
                    on_epoch(epoch)
        else:
            for recorder in watching:
                recorder.record(0, model)
            saved.save(state(0))
        network = cast(nn.Module, torch.compile(wrapped(model))) if config.compile else wrapped(model)

        for number in range(len(history) + 1, config.epochs + 1):
            model.train()
            keep_frozen(model)
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
                for step, batch in enumerate(examples.shuffled(config.batch_size, config.seed, number, skip), skip):
                    # Ordinary dropout: the same for a step however it was reached, another one in every process.
                    _seed(device, step_seed(config.seed, number, step, shard().number))
                    position = ((number - 1) * batches + step) / (config.epochs * batches)
                    part = share(batch)
                    loss, correct = _step(network, model, part.examples, config, turn_over, number)
                    updater.update(loss * part.weight if part.weight != 1.0 else loss, position)
                    tally.add(loss, correct, part.rows)
                    if tally.due or step + 1 == batches:
                        asked = tally.settle(stop() if stop is not None else 0)
                        _check_loss(tally, number, config, checkpoint)
                        if not bar.disable:
                            bar.set_postfix(_shown(number, tally.loss, history), refresh=False)
                        if asked and step + 1 < batches:
                            saved.save(state(step + 1))
                            raise _interrupted(asked, number, step + 1, checkpoint)
                    bar.update(len(batch))
            extra = dict(evaluate(model)) if evaluate is not None else {}
            for recorder in watching:
                recorder.record(number, model)
            history.append(Epoch(number, tally.sums[0] / len(examples), tally.sums[1] / len(examples), extra))
            bar.set_postfix(_shown(number, tally.loss, history))
            skip = 0
            tally.clear()
            saved.save(state(0))
            if on_epoch is not None:
                on_epoch(history[-1])
            if asked and number < config.epochs:
                raise _interrupted(asked, number + 1, 0, checkpoint)
    return history


def _step(
    network: nn.Module, model: nn.Module, batch: Examples, config: TrainingConfig, turn_over: bool, epoch: int
) -> tuple[Tensor, Tensor]:
    """The forward pass: mean loss [], and how many rows were classified correctly [], on the device."""
    images = config.augmentation(batch.images, batch.ids, config.seed, epoch)
    dtype = _AUTOCAST.get(config.precision)
    autocast = torch.autocast(images.device.type, dtype) if dtype is not None else nullcontext()
    with subnetwork(model, batch.ids) if turn_over else nullcontext(), autocast:
        logits = class_logits(logits_of(network(images))).float()
    return F.cross_entropy(logits, batch.labels), (logits.detach().argmax(1) == batch.labels).sum()


def _checked(model: nn.Module, examples: Examples, turn_over: bool) -> Examples:
    """The examples, their labels as int64, unless something is wrong with them (see `train`)."""
    if not isinstance(examples, Examples):
        raise TypeError(
            f"examples are a {type(examples).__name__}: pass Examples(images, labels, ids), tensors in memory; for a "
            "data loader write a loop of your own with `with_ids` and `subnetwork`"
        )
    check_inputs(examples.images, "images")
    for name in ("labels", "ids"):
        check_tensor(getattr(examples, name), name)
    labels = check_labels(examples.labels)
    check_example_ids(examples.ids, warn=turn_over)
    if examples.images.is_floating_point() and not bool(torch.isfinite(examples.images).all()):
        raise UserError("an image holds NaN or infinite values: clean the data before training")
    if turn_over:
        keep_frozen(model)
        probe(model, examples.images[:16])
    masked = subnetwork(model, examples.ids[:1]) if turn_over else nullcontext()
    with evaluating(model), torch.no_grad(), masked:  # in evaluation mode nothing random is drawn
        classes = class_logits(logits_of(model(examples.images[:1]))).shape[-1]
    check_labels(labels, classes)
    return Examples(examples.images, labels, examples.ids)


def _check_threads(device: torch.device) -> None:
    """Refuse what would hang for ever, deaf to Ctrl-C: OpenMP changes its threads within a backward convolution."""
    changing = os.environ.get("OMP_DYNAMIC", "").strip().lower() == "true"
    if changing and device.type == "cpu" and torch.get_num_threads() > 1:
        raise UserError(
            "OMP_DYNAMIC=true makes training hang, in torch's backward convolution: unset it before torch is imported, "
            "or call torch.set_num_threads(1)"
        )


def _check_loss(tally: Tally, epoch: int, config: TrainingConfig, checkpoint: Path | None) -> None:
    if math.isfinite(tally.sums[0]):
        return
    kept = f"; the last good state is kept in {checkpoint}" if checkpoint is not None else ""
    raise DivergenceError(
        f"training diverged in epoch {epoch}: the loss is {tally.sums[0]}. Lower training.learning_rate "
        f"(now {config.learning_rate}) or look for extreme values in the images{kept}"
    )


def _shown(epoch: int, loss: float, history: list[Epoch]) -> dict[str, str]:
    """What the progress bar says beside examples a second and remaining time."""
    before = {"accuracy": history[-1].accuracy, **history[-1].extra} if history else {}
    return {"epoch": str(epoch), "loss": f"{loss:.3f}", **{key: f"{value:.3f}" for key, value in before.items()}}


def _interrupted(asked: int, epoch: int, step: int, checkpoint: Path | None) -> Interrupted:
    where = f"training was stopped in epoch {epoch} after {step} steps"
    if checkpoint is None:
        return Interrupted(f"{where}; it has no checkpoint, so nothing was saved", asked)
    return Interrupted(f"{where} and saved: run it again to go on from there", asked)


def _seed(device: torch.device, seed: int) -> None:
    """Random numbers of one step (`torch.manual_seed` seeds every kind of device, which takes ten times as long)."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
