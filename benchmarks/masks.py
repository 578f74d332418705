"""What instance masks cost on this machine, beside ordinary dropout of as many activations.

    python benchmarks/masks.py                 # 1,000,000 ids x 2,048 units
    python benchmarks/masks.py --rows 100000

Each line runs in a process of its own, so that its peak memory is its own. Other work on the machine stretches wall
time, so a second column gives processor time divided by the number of threads: what it takes where nothing else runs.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch starts its threads

import torch
import torch.nn.functional as F

from turnover import InstanceMasks

THREADS = 2
BATCH = 4096  # rows that dropout sees at once: all of them as floats would not fit in memory


def packed(rows: int, units: int) -> None:
    """All masks, one bit a unit, kept: what influence holds."""
    InstanceMasks(units).packed(torch.arange(rows))


def as_batches(rows: int, units: int) -> None:
    """Masks as bools, batch by batch, each made for the first time: the first epoch of a training."""
    masks = InstanceMasks(units)
    for ids in torch.arange(rows).split(BATCH):
        masks(ids)


def remembered(rows: int, units: int) -> None:
    """Unpacking masks that were made before, batch by batch: every later epoch."""
    masks = InstanceMasks(units, cache_bytes=BATCH * units)
    ids = torch.arange(BATCH)
    for _ in range(-(-rows // BATCH)):
        masks(ids)


def dropout(rows: int, units: int) -> None:
    """`torch.nn.functional.dropout` of float32 activations, batch by batch."""
    x = torch.ones(BATCH, units)
    for _ in range(-(-rows // BATCH)):
        F.dropout(x, 0.5)


CASES: dict[str, Callable[[int, int], None]] = {
    "masks, packed": packed,
    "masks, as bools": as_batches,
    "masks, remembered": remembered,
    "torch dropout": dropout,
}


def measure(name: str, rows: int, units: int) -> None:
    """Run one case after a small warm-up; print wall seconds, processor seconds a thread, and peak MiB added."""
    torch.set_num_threads(THREADS)
    CASES[name](min(rows, 64), units)
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    CASES[name](rows, units)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    processor = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / THREADS
    print(wall, processor, (after.ru_maxrss - before.ru_maxrss) / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="ids (default 1,000,000)")
    parser.add_argument("--units", type=int, default=2048, help="units of the masked layer (default 2,048)")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        measure(options.case, options.rows, options.units)
        return
    print(f"{options.rows:,} ids x {options.units:,} units, {THREADS} threads, torch {torch.__version__}\n")
    print(f"{'':20}{'wall s':>8}{'cpu s':>8}{'ns/unit':>9}{'million ids/s':>15}{'peak MiB':>10}")
    for name in CASES:
        command = [sys.executable, __file__, "--case", name, "--rows", str(options.rows), "--units", str(options.units)]
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        wall, processor, peak = map(float, found)
        nanoseconds = wall / options.rows / options.units * 1e9
        print(f"{name:20}{wall:8.2f}{processor:8.2f}{nanoseconds:9.2f}{options.rows / wall / 1e6:15.3f}{peak:10.0f}")


if __name__ == "__main__":
    main()
