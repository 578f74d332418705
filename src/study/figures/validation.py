"""What each method achieves against what it costs, judged by retraining."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.text import Annotation

from study.analysis.files import Validation
from study.figures.palette import BLUE, GREEN, MUTED, ORANGE, PURPLE
from study.figures.style import Label, draw_errors, draw_grid, save

COLOURS = {
    "turn-over": BLUE, "ablation": BLUE, "peer": ORANGE, "dynamics": GREEN, "retraining": PURPLE, "control": MUTED,
}  # fmt: skip
# Of the ablations, those that are methods of their own: turn-over networks in the form that docs/method.md prefers.
SHOWN = ("left-out, keep 0.75, with training",)
PANELS = {"lds": "influence: LDS", "memorization": "memorization: Spearman with retraining"}
# Where a label may stand beside its point, in points, tried in this order.
_PLACES = [(5, 0), (5, 7), (5, -7), (5, 14), (5, -14), (5, 21), (5, -21), (5, 28), (5, -28), (5, 35), (5, -35)]


def draw_validation(validation: Validation, dpi: int, folder: Path) -> None:
    """`validation-<set>`: one line a method, one point a number of networks."""
    data = points(validation.table)

    def panel(axes: Axes, name: str, _column: str) -> tuple[Label, ...]:
        part = data[data["figure"] == name]
        axes.set_xscale("log")
        axes.set_title(PANELS[name])
        for (_, family), line in part.groupby(["method", "family"], sort=False):
            style = {"markersize": 3.5, "linewidth": 1.1, "elinewidth": 0.7, "alpha": 0.9}
            draw_errors(axes, line["seconds"], line.rename(columns={"value": "mean"}), COLOURS[str(family)], **style)
        if len(part):
            axes.set_xlim(part["seconds"].min() / 1.3, part["seconds"].max() * 4)
        return ()

    words = "seconds of training and attribution"
    figure = draw_grid(dict.fromkeys(PANELS, ""), {"": ""}, 8.2, panel, below=words)
    figure.draw_without_rendering()
    for axes, name in zip(figure.axes, PANELS, strict=True):
        _label(axes, data[data["figure"] == name])
    note = f"judged by {validation.networks} subset networks; bars: 95 % bootstrap over targets or examples"
    save(figure, note, folder, f"validation-{validation.name}", dpi, data)


def points(table: pd.DataFrame) -> pd.DataFrame:
    """What the figure shows, one row a point; nothing that costs nothing, as its axis is logarithmic."""
    about = ["method", "family", "networks", "seconds"]
    table = table[(table["family"] != "ablation") | table["method"].isin(SHOWN)]
    pieces = []
    for name in PANELS:
        scored = table[table[name].notna() & (table["seconds"] > 0)]
        values = {"value": scored[name], "low": scored[f"{name}_low"], "high": scored[f"{name}_high"]}
        pieces.append(scored[about].assign(figure=name, **values))
    return pd.concat(pieces, ignore_index=True)[["figure", *about, "value", "low", "high"]]


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
