"""One dot a seed: mislabel detection, the accuracy turn-over dropout costs; and influence by decile of memorization."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from study.analysis.groups import PLACEBO
from study.analysis.inputs import Study
from study.analysis.tables import DETECTION, TOTALS, cost_table, detection_table, influence_table
from study.context.params import FiguresParams
from study.context.rules import CONTROL
from study.figures.palette import GREEN, INK
from study.figures.style import (
    COLOURS,
    Label,
    dots_note,
    draw_dots,
    draw_errors,
    draw_grid,
    over_seeds_note,
    save,
    titles,
)

_PLACEBO_AT = -1.5  # where the placebos stand beside the deciles


def draw_detection(study: Study, settings: FiguresParams, folder: Path) -> None:
    """`detection-<scenario>`: how well each score finds wrong labels, where there are wrong and right ones."""
    for scenario, table in detection_table(study).groupby("scenario", sort=False):
        labels = table["score"].str.replace("_", " ") + " · " + table["placement"]
        rows = dict.fromkeys(labels, GREEN)
        dots = pd.DataFrame({"column": table["measure"], "row": labels, "value": table["value"]})
        figure = draw_dots(dots, DETECTION, rows, 0.9 + 0.27 * len(rows), settings.confidence)
        for panel in figure.axes:
            panel.set_xlim(right=1.005)
            panel.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
        note = dots_note(study.masked_seeds, settings.confidence)
        save(figure, note, folder, f"detection-{scenario}", settings.dpi, table)


def draw_cost(study: Study, settings: FiguresParams, folder: Path) -> None:
    """`cost`: held-out accuracy of the full networks beside that of ordinary dropout."""
    table = cost_table(study)
    labels = ("turn-over, " + table["network"]).where(table["network"] != CONTROL, "ordinary dropout")
    rows = {label: INK if label == "ordinary dropout" else GREEN for label in labels}
    dots = pd.DataFrame({"column": table["scenario"], "row": labels, "value": table["heldout_accuracy"]})
    columns = titles(study.scenarios)
    figure = draw_dots(dots, columns, rows, 1.0 + 0.3 * len(rows), settings.confidence, "held-out accuracy")
    for panel, scenario in zip(figure.axes, study.scenarios, strict=True):
        values = dots.loc[dots["column"] == scenario, "value"]
        padding = max(0.01, 0.15 * (values.max() - values.min()))
        panel.set_xlim(values.min() - padding, values.max() + padding)
        panel.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
    save(figure, dots_note(study.seeds, settings.confidence), folder, "cost", settings.dpi, table)


def draw_influence(study: Study, settings: FiguresParams, folder: Path) -> None:
    """`influence-by-decile`: what the least and the most memorized examples do for the held-out ones."""
    placement = study.placements[0]
    table = influence_table(study, placement, settings.confidence)

    def panel(axes: Axes, measure: str, scenario: str) -> list[Label]:
        part = table[(table["scenario"] == scenario) & (table["measure"] == measure)]
        axes.axhline(0, color=INK, linewidth=0.7)
        ends = []
        for group, line in part.groupby("group", sort=False):
            name = str(group)
            at = line["decile"].replace(0, _PLACEBO_AT)
            draw_errors(axes, at, line, COLOURS[name], markersize=3.5, linewidth=1.2)
            ends.append((name, float(line["mean"].iloc[-1]), COLOURS[name]))
        axes.set_xticks([_PLACEBO_AT, 1, 4, 7, 10], ["placebo", "1", "4", "7", "10"])
        axes.set_xlim(_PLACEBO_AT - 1.8, 10.8)
        return [end for end in ends if end[0] != PLACEBO]

    rows = {measure: f"on {title} (nats)\n← harmful   helpful →" for measure, title in TOTALS.items()}
    columns = titles(study.scenarios)
    figure = draw_grid(rows, columns, 4.3, panel, below="decile of memorization", sharex=True, sharey="row")
    seeds = over_seeds_note({placement: study.seeds[placement]}, settings.confidence, "bars")
    whose = "its own" if len(study.seeds[placement]) == 1 else "the other seeds"
    note = f"sum over held-out examples, placement {placement}; {seeds}; deciles from {whose}"
    save(figure, note, folder, "influence-by-decile", settings.dpi, table)
