"""The table as a figure: what a method achieves against what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.text import Annotation

from study.figures.style import BLUE, GREEN, MUTED, ORANGE, PURPLE, canvas, note, save, styled

COLOURS = {"turn-over": BLUE, "peer": ORANGE, "dynamics": GREEN, "retraining": PURPLE, "control": MUTED}
PANELS = {"lds": "influence: LDS", "memorization": "memorization: Spearman with retraining"}
# Where a label may stand beside its point, in points, tried in this order.
_PLACES = [(5, 0), (5, 7), (5, -7), (5, 14), (5, -14), (5, 21), (5, -21), (5, 28), (5, -28), (5, 35), (5, -35)]


def draw(result: dict[str, Any], costs: pd.DataFrame, folder: Path, dpi: int = 110) -> None:
    """Write `cost.svg`, `.png` and `.csv`: one line a method, one point a number of networks."""
    data = points(result, costs)
    with styled():
        figure, axes = canvas(len(PANELS), 1, 8.2)
        for panel, (figure_of_merit, title) in zip((row[0] for row in axes), PANELS.items(), strict=True):
            part = data[data["figure"] == figure_of_merit]
            panel.set_xscale("log")
            panel.set_title(title)
            for (_, family), line in part.groupby(["method", "family"], sort=False):
                colour = COLOURS[str(family)]
                errors = [line["value"] - line["low"], line["high"] - line["value"]]
                panel.errorbar(
                    line["seconds"], line["value"], errors, color=colour, marker="o", markersize=3.5, linewidth=1.1,
                    elinewidth=0.7, alpha=0.9,
                )  # fmt: skip
            if len(part):
                panel.set_xlim(part["seconds"].min() / 1.3, part["seconds"].max() * 4)
        axes[-1][0].set_xlabel("seconds of training and attribution")
        figure.draw_without_rendering()
        for panel, figure_of_merit in zip((row[0] for row in axes), PANELS, strict=True):
            _label(panel, data[data["figure"] == figure_of_merit])
        truth = result["ground_truth"]
        note(figure, f"judged by {truth['networks']} subset networks; bars: 95 % bootstrap over targets or examples")
        save(figure, folder, "cost", dpi, data)


def points(result: dict[str, Any], costs: pd.DataFrame) -> pd.DataFrame:
    """What the figure shows, one row a point; methods that cost nothing have no place on a logarithmic axis."""
    seconds = dict(
        zip(zip(costs["method"], costs["networks"], strict=True), costs["seconds"].astype(float), strict=True)
    )
    rows = []
    for figure in PANELS:
        for row in result["rows"]:
            found, cost = row[figure], seconds[row["method"], row["networks"]]
            if found is not None and cost > 0:
                about = (row["method"], row["family"], row["networks"], cost)
                rows.append((figure, *about, found["value"], found["low"], found["high"]))
    columns = ["figure", "method", "family", "networks", "seconds", "value", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def _label(panel: Axes, part: pd.DataFrame) -> None:
    """Name every line at its last point, where no other name stands yet."""
    taken: list[Any] = []
    last = part.groupby("method", sort=False).tail(1).sort_values("value", ascending=False)
    for row in last.itertuples():
        best: Annotation | None = None
        for place in _PLACES:
            text = panel.annotate(
                str(row.method), (float(row.seconds), float(row.value)), place,  # type: ignore[arg-type]
                textcoords="offset points", va="center", fontsize=7, color=COLOURS[str(row.family)],
            )  # fmt: skip
            box = text.get_window_extent()
            if best is not None:
                best.remove()
            best = text
            if not any(box.overlaps(other) for other in taken):
                break
        assert best is not None
        taken.append(best.get_window_extent())
