"""Trainings side by side in forked children, as a stage trains its seeds. Prints JSON.

A process of its own, which has imported torch and computed nothing when it forks; at the end it trains the same itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from tests.unit.turnover.small import examples, network
from turnover.errors import UserError
from turnover.interruption import Interrupted, stop_on_signals
from turnover.training.augmentation import Augmentation
from turnover.training.checkpoints import read
from turnover.training.dynamics import Dynamics
from turnover.training.epochs import Epoch
from turnover.training.loop import train
from turnover.training.settings import TrainingConfig

EPOCHS, STEPS = 3, 8  # 60 examples in batches of 8


def trained(
    seed: int,
    checkpoint: Path | None = None,
    stop: Callable[[], int] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> str:
    """A digest of all bits of the weights and dynamics that a training ends with."""
    torch.set_num_threads(1)
    data, model = examples(60), network("all", seed)
    model.network.hidden.register_forward_pre_hook(lambda module, x: F.dropout(x[0], 0.3, module.training))
    config = TrainingConfig(epochs=EPOCHS, batch_size=8, seed=seed, augmentation=Augmentation(flip=True, crop=1))
    dynamics = Dynamics(data, range(EPOCHS + 1))
    watched = {"dynamics": dynamics, "on_epoch": on_epoch}
    train(model, data, config, checkpoint=checkpoint, progress=False, stop=stop, **watched)
    digest = hashlib.sha256(dynamics.frame().to_csv(float_format="%r").encode())
    for value in model.state_dict().values():
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


class Child:
    """A forked process that works and tells, a line at a time."""

    def __init__(self, work: Callable[[Callable[[str], None]], None]) -> None:
        reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                os.close(reading)
                work(lambda line: os.write(writing, f"{line}\n".encode()) and None)
                status = 0
            except Interrupted as stopped:
                status = 128 + stopped.number
            finally:
                os._exit(status)
        os.close(writing)
        self.told = os.fdopen(reading)

    def line(self) -> str:
        return self.told.readline().strip()

    def status(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def interrupted(number: int, checkpoint: Path) -> tuple[int, str, str]:
    """Ask a child to stop in the middle of its second epoch: its exit status, the step that it saved, and what one
    that goes on ends with."""

    def work(tell: Callable[[str], None]) -> None:
        steps = 0
        with stop_on_signals() as asked:

            def stop() -> int:
                nonlocal steps
                steps += 1
                if steps == STEPS + 3:
                    tell("now")
                    while not asked():
                        time.sleep(0.01)
                return asked()

            trained(0, checkpoint, stop)

    child = Child(work)
    child.line()
    os.kill(child.pid, number)
    status, saved = child.status(), Child(lambda tell: tell(str(read(checkpoint)["step"]))).line()
    return status, saved, Child(lambda tell: tell(trained(0, checkpoint))).line()


def held(checkpoint: Path) -> tuple[int, str]:
    """While a child trains, another one wants its checkpoint: who holds it, and what the other one is told."""

    def hold(tell: Callable[[str], None]) -> None:
        def wait(epoch: Epoch) -> None:
            if epoch.number == 1:
                tell("now")
                time.sleep(600)

        trained(0, checkpoint, on_epoch=wait)

    def want(tell: Callable[[str], None]) -> None:
        try:
            trained(0, checkpoint)
        except UserError as error:
            tell(str(error))

    holder = Child(hold)
    holder.line()
    refused = Child(want).line()
    os.kill(holder.pid, signal.SIGKILL)
    holder.status()
    return holder.pid, refused


def main(folder: Path) -> None:
    side_by_side = [Child(lambda tell, seed=seed: tell(trained(seed))) for seed in (0, 1)]
    report = {
        "forked": [child.line() for child in side_by_side],
        "signals": [interrupted(number, folder / f"{number}.pt") for number in (signal.SIGINT, signal.SIGTERM)],
        "held": held(folder / "held.pt"),
        "alone": [trained(seed) for seed in (0, 1)],
        "resumed": trained(0, folder / f"{signal.SIGTERM}.pt"),
        "compiler": "torch._dynamo" in sys.modules,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
