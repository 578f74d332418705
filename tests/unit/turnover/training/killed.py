"""Train in child processes, kill each at a random moment, resume, compare every byte. Prints JSON.

A process of its own, with one thread: only so is it safe to fork, and forking saves importing torch 60 times.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from tests.unit.turnover.small import examples, network
from turnover.interruption import Interrupted, stop_on_signals
from turnover.training.augmentation import Augmentation
from turnover.training.checkpoints import read
from turnover.training.dynamics import Dynamics
from turnover.training.loop import train
from turnover.training.settings import TrainingConfig
from turnover.training.snapshots import Snapshots

CONFIG = TrainingConfig(
    epochs=6, batch_size=8, clip_norm=1.0, augmentation=Augmentation(flip=True, crop=1, translate=1)
)


def run(path: Path) -> bytes:
    """The final weights, the dynamics and the snapshots, as bytes."""
    data, model = examples(60), network("all")
    model.network.hidden.register_forward_pre_hook(lambda module, x: F.dropout(x[0], 0.3, module.training))
    dynamics, snapshots = Dynamics(data, range(CONFIG.epochs + 1)), Snapshots([3, 6])
    with stop_on_signals() as stop:
        train(model, data, CONFIG, dynamics=dynamics, snapshots=snapshots, checkpoint=path, stop=stop)
    states = [model.state_dict(), *(state for _, state in snapshots)]
    tensors = b"".join(value.numpy().tobytes() for state in states for value in state.values())
    frame = dynamics.frame()
    assert len(frame) == len(data) * (CONFIG.epochs + 1)
    return tensors + frame.to_csv(float_format="%r").encode()


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    run(folder / "warm-up.pt")
    began = time.perf_counter()
    expected = run(folder / "expected.pt")
    duration = time.perf_counter() - began
    chance = random.Random(0)
    report: dict[str, list[tuple[int, int, bool]]] = {"SIGKILL": [], "SIGTERM": []}
    for trial in range(30):
        name = "SIGKILL" if trial < 20 else "SIGTERM"
        path = folder / f"{trial}.pt"
        child = os.fork()
        if child == 0:
            try:
                run(path)
            except Interrupted:
                os._exit(1)
            os._exit(0)
        time.sleep(chance.uniform(0.05, 1.0) * duration)
        os.kill(child, getattr(signal, name))
        os.waitpid(child, 0)
        state = read(path) if path.exists() else {"history": [], "step": 0}
        report[name].append((len(state["history"]), state["step"], run(path) == expected))
    print(json.dumps({"epochs": CONFIG.epochs, **report}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
