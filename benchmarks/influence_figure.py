"""The log-log plot of influence's cost, and its table as csv; used by `influence.py`."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
mpl.rcParams["svg.hashsalt"] = "turnover"
import matplotlib.pyplot as plt  # noqa: E402

LABELS = {
    "train": "training examples",
    "target": "targets",
    "width": "units of the masked layer",
    "classes": "classes",
}


def write(cases: Sequence[dict[str, Any]], sizes: Sequence[dict[str, Any]], folder: Path) -> None:
    """Write `influence.csv`, and `influence-scaling.csv` and `.svg` where `sizes` were measured, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    if cases:
        _table(cases, folder / "influence.csv")
    if not sizes:
        return
    _table(sizes, folder / "influence-scaling.csv")
    figure, axes = plt.subplots(1, 4, figsize=(12, 3), sharey=True, layout="constrained")
    for axis, (what, label) in zip(axes, LABELS.items(), strict=True):
        points = sorted((row["size"], row["seconds"]) for row in sizes if row["what"] == what)
        at, seconds = [p[0] for p in points], [p[1] for p in points]
        axis.loglog(at, seconds, "o-", label="measured")
        axis.loglog(at, [seconds[-1] * n / at[-1] for n in at], ":", color="grey", label="proportional")
        axis.set_xlabel(label)
        axis.xaxis.set_minor_formatter("")
        axis.grid(True, which="both", alpha=0.3)
    axes[0].set_ylabel("seconds")
    axes[0].legend(frameon=False)
    beside = folder / "influence-scaling.part"
    figure.savefig(beside, format="svg", metadata={"Date": None})
    beside.rename(folder / "influence-scaling.svg")
    plt.close(figure)


def _table(rows: Sequence[dict[str, Any]], path: Path) -> None:
    beside = path.with_suffix(".part")
    with beside.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    beside.rename(path)
