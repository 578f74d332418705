"""How memorization is distributed over the examples, with the placebo as the null."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from study.analysis.groups import PLACEBO, RANDOM, REAL, label_kind
from study.analysis.inputs import MEASURES, Inputs
from study.context.params import FiguresParams
from study.figures.style import COLOURS, INK, canvas, note, save

_BINS = 60
_TITLES = {
    "probability": "probability, exposed − flipped",
    "loss": "loss (nats), flipped − exposed",
    "accuracy": "accuracy, exposed − flipped",
}
_FLOOR = 1e-3  # the smallest share drawn


def distribution_table(inputs: Inputs, scenario: str) -> pd.DataFrame:
    """Histograms of every measure: ``placement``, ``measure``, ``group``, ``left``, ``right``, ``share``, ``count``.

    Counts are over examples and seeds together; the share is of the group. Values beyond the outermost bins of the
    loss (its .1 % and 99.9 % quantiles) are counted in them.
    """
    kind = label_kind(inputs.scenarios[scenario].examples)
    pieces = []
    for placement in inputs.placements:
        tables = [inputs.memorization[run] for run in inputs.runs(scenario, placement)]
        frame = pd.concat(tables)
        frame = frame.assign(group=frame["id"].map(kind))
        for measure in MEASURES:
            edges = _edges(measure, frame[measure].to_numpy(np.float64))
            for group in (REAL, RANDOM, PLACEBO):
                values = frame.loc[frame["group"] == group, measure].to_numpy(np.float64)
                if not len(values):
                    continue
                counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
                pieces.append(
                    pd.DataFrame(
                        {
                            "placement": placement,
                            "measure": measure,
                            "group": group,
                            "left": edges[:-1],
                            "right": edges[1:],
                            "share": counts / len(values),
                            "count": counts,
                        }
                    )
                )
    return pd.concat(pieces, ignore_index=True)


def draw_distributions(inputs: Inputs, settings: FiguresParams, folder: Path) -> None:
    """`memorization-<scenario>`: one row of histograms a placement, one column a measure."""
    for name, scenario in inputs.scenarios.items():
        table = distribution_table(inputs, name)
        kind = label_kind(scenario.examples)
        rows = len(inputs.placements)
        figure, axes = canvas(rows, 3, 0.75 + 1.75 * rows, sharey=True)
        for row, placement in enumerate(inputs.placements):
            for column, measure in enumerate(MEASURES):
                panel = axes[row][column]
                part = table[(table["placement"] == placement) & (table["measure"] == measure)]
                _histograms(panel, part, measure)
                if row == 0:
                    panel.set_title(_TITLES[measure], fontsize=8)
            axes[row][0].set_ylabel(f"placement {placement}\nshare of the group")
        sizes = {group: int((kind == group).sum()) for group in (REAL, RANDOM, PLACEBO)}
        seeds = "one seed" if len(inputs.seeds) == 1 else f"{len(inputs.seeds)} seeds together"
        counts = ", ".join(f"{group} n = {size}" for group, size in sizes.items() if size)
        note(figure, f"{counts}; {seeds}; log scale")
        save(figure, folder, f"memorization-{name}", settings.dpi, table)


def _edges(measure: str, values: np.ndarray) -> np.ndarray:
    if measure == "accuracy":
        return np.array([-1.5, -0.5, 0.5, 1.5])
    if measure == "probability":
        return np.linspace(-1.0, 1.0, _BINS + 1)
    low, high = np.quantile(values, [0.001, 0.999])
    return np.linspace(min(low, -0.1), max(high, 0.1), _BINS + 1)


def _histograms(panel: Axes, table: pd.DataFrame, measure: str) -> None:
    """Step lines, the placebo filled; bars side by side where there are three values only."""
    found = list(table.groupby("group", sort=False))
    for place, (group, part) in enumerate(found):
        name = str(group)
        if measure == "accuracy":
            width = 0.8 / len(found)
            middle = (part["left"] + part["right"]) / 2 + (place - (len(found) - 1) / 2) * width
            panel.bar(middle, part["share"], width * 0.92, color=COLOURS[name])
            continue
        edges = [*part["left"], part["right"].iloc[-1]]
        if name == PLACEBO:
            panel.stairs(part["share"], edges, baseline=_FLOOR, fill=True, color=COLOURS[name], alpha=0.45)
        else:
            panel.stairs(part["share"].clip(lower=_FLOOR / 2), edges, baseline=None, color=COLOURS[name], linewidth=1.3)
    panel.set_yscale("log")
    panel.set_ylim(_FLOOR, 1.6)
    panel.minorticks_off()
    panel.axvline(0, color=INK, linewidth=0.6)
    if measure == "accuracy":
        panel.set_xticks([-1, 0, 1], ["−1", "0", "1"])
        for place, (group, _) in enumerate(reversed(found)):
            panel.text(
                0.02, 0.93 - 0.12 * place, str(group), transform=panel.transAxes, color=COLOURS[str(group)], fontsize=8
            )
