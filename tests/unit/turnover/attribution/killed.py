"""Run `summarize` with a store in child processes, SIGKILL each at a random moment, resume, compare. Prints JSON.

A process of its own, with one thread: only so is it safe to fork, and forking saves importing torch 40 times.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch

from tests.unit.turnover.attribution.networks import CLASSES, examples, network
from turnover.attribution.store import ScoreStore
from turnover.attribution.summary import InfluenceSummary, summarize


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    model, ids, (x, y) = network("head"), torch.arange(100), examples(30)

    def run(store: Path) -> InfluenceSummary:
        return summarize(model, ids, ids % CLASSES, x, y, top=7, store=ScoreStore(store), memory=12_000)

    began = time.perf_counter()
    expected = run(folder / "expected")
    duration = time.perf_counter() - began
    began = time.perf_counter()
    run(folder / "twice")  # the first run paid for warming up
    duration = min(duration, time.perf_counter() - began)
    chance, left, worst = random.Random(0), [], 0.0
    tiles = np.load(folder / "expected" / "done.npy").size
    for trial in range(20):
        store = folder / f"store{trial}"
        child = os.fork()
        if child == 0:
            run(store)
            os._exit(0)
        time.sleep(chance.uniform(0.05, 1.0) * duration)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        done = next((p for p in (store / "done.npy", Path(f"{store}.part/done.npy")) if p.exists()), None)
        left.append(int(np.count_nonzero(np.load(done))) if done is not None else 0)
        found = run(store)
        for name in ("helpful", "harmful", "helped", "total", "total_by_class"):
            a, b = getattr(found, name), getattr(expected, name)
            worst = max(worst, float((a - b).abs().max() / b.abs().max()))
        shutil.rmtree(store)
    print(json.dumps({"tiles": tiles, "left": left, "worst": worst}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
