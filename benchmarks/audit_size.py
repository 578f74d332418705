"""What `turnover audit` takes of many examples: the command on made-up data, its seconds step by step, and its memory.

    python benchmarks/audit_size.py                             # 1,000,000 embeddings of 512 features in 10 classes
    python benchmarks/audit_size.py --images --examples 10000   # images of 64 x 64; --side for another size

Of the embeddings 5 % have wrong labels, so that a run that were fast and wrong would show. The memory is the most that
the command's process held.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

CLASSES, WRONG = 10, 0.05
_BLOCK = 50_000


def embeddings(folder: Path, count: int, width: int, rng: np.random.Generator) -> tuple[list[str], np.ndarray]:
    """Write clouds of points with labels: the arguments of the command, and which labels are wrong."""
    right = rng.integers(0, CLASSES, count)
    centres = rng.normal(size=(CLASSES, width)).astype(np.float32) * 0.2
    features = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, (count, width))
    for start in range(0, count, _BLOCK):
        part = right[start : start + _BLOCK]
        features[start : start + _BLOCK] = centres[part] + rng.normal(size=(len(part), width)).astype(np.float32)
    features.flush()
    wrong = rng.random(count) < WRONG
    np.save(folder / "y.npy", np.where(wrong, (right + rng.integers(1, CLASSES, count)) % CLASSES, right))
    return [str(folder / "x.npy"), "--labels", str(folder / "y.npy")], wrong


def images(folder: Path, count: int, side: int, rng: np.random.Generator) -> list[str]:
    """Write class folders of patterns with noise: the arguments of the command."""
    patterns = rng.integers(0, 256, (CLASSES, 8, 8, 3), dtype=np.uint8)

    def write(number: int) -> None:
        of = np.random.default_rng(number)
        path = folder / "set" / str(number % CLASSES) / f"{number:07d}.png"
        drawn = Image.fromarray(patterns[number % CLASSES]).resize((side, side), Image.Resampling.BICUBIC)
        noisy = np.asarray(drawn) + of.integers(-60, 60, (side, side, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, compress_level=1)

    for label in range(CLASSES):
        (folder / "set" / str(label)).mkdir(parents=True)
    with ThreadPoolExecutor() as pool:
        list(pool.map(write, range(count)))
    return [str(folder / "set")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--images", action="store_true")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where data and audit lie meanwhile; 3 GB of a million embeddings")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        folder, wrong = Path(place), None
        if options.images:
            arguments = images(folder, options.examples, options.side, rng)
        else:
            arguments, wrong = embeddings(folder, options.examples, options.features, rng)
        out = folder / "audit"
        command = [sys.executable, "-m", "turnover.auditing.command", "audit", *arguments, "--out", str(out)]
        clock = time.monotonic()
        subprocess.run([*command, f"--threads={options.threads}"], check=True)
        seconds = time.monotonic() - clock
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(json.dumps(json.loads((out / "seconds.json").read_text())))
        print(
            f"{seconds:.0f} s, of the processor {used.ru_utime + used.ru_stime:.0f} s; {used.ru_maxrss / 2**20:.2f} GiB"
        )
        sizes = {path.name: path.stat().st_size for path in out.iterdir()}
        print(f"files: {sum(sizes.values()) / 2**20:.0f} MiB, the largest {max(sizes, key=lambda name: sizes[name])}")
        if wrong is not None:
            table = pd.read_csv(out / "labels.csv")
            found = wrong[table["name"].to_numpy()]
            listed = table["suspect"].to_numpy()
            ranked = table["suspicion"]
            print(f"AUROC {roc_auc_score(found, ranked):.4f}, AP {average_precision_score(found, ranked):.4f}")
            print(f"counted {table['wrong_probability'].sum():,.0f} of {wrong.sum():,} wrong labels")
            print(f"listed {listed.sum():,}, of them right {1 - found[listed].mean():.3f}")


if __name__ == "__main__":
    main()
