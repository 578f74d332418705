"""Curves over training, and how memorization is distributed at its end, with the placebo as the null."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from study.analysis.groups import KINDS, PLACEBO
from study.analysis.inputs import MEASURES, NETWORKS, Study
from study.analysis.tables import curve_table, distribution_table, memorization_table
from study.analysis.wording import seeds_in_words
from study.context.params import FiguresParams
from study.figures.palette import INK
from study.figures.style import (
    COLOURS,
    canvas,
    draw_lines,
    label_groups,
    name_columns,
    note,
    over_seeds_note,
    save,
)

_FLOOR = 1e-3  # nats: smaller mean losses are not drawn; and the smallest share drawn
_TITLES = {
    "probability": "probability, exposed − flipped",
    "loss": "loss (nats), flipped − exposed",
    "accuracy": "accuracy, exposed − flipped",
}


def draw_curves(study: Study, settings: FiguresParams, folder: Path) -> None:
    """`curves-<scenario>-<placement>`: loss and accuracy of each group in the exposed, flipped and full networks."""
    for scenario in study.scenarios:
        for placement in study.placements:
            table = curve_table(study, scenario, placement, settings.difficulty_quantile, settings.confidence)
            figure, axes = canvas(2, 3, 4.1, sharex=True, sharey="row")
            for row, measure in zip(axes, ("loss", "accuracy"), strict=True):
                part = table[table["measure"] == measure]
                for panel, network in zip(row, NETWORKS, strict=True):
                    draw_lines(panel, part[part["network"] == network])
                    panel.margins(x=0.02)
                row[0].set_ylabel("mean loss (nats, log)" if measure == "loss" else "accuracy")
            for panel, below, network in zip(*axes, NETWORKS, strict=True):
                panel.set_title(f"{network} network")
                below.set_xlabel("epoch")
            losses = table.loc[table["measure"] == "loss", "mean"]
            # Losses span four powers of ten: the exposed network's vanish while the flipped one's grow.
            axes[0][0].set_yscale("log")
            axes[0][0].set_ylim(max(losses.min() / 1.6, _FLOOR), losses.max() * 1.6)
            axes[0][0].minorticks_off()
            axes[1][0].set_ylim(-0.02, 1.02)
            for row, measure in zip(axes, ("loss", "accuracy"), strict=True):
                label_groups(row[2], table[(table["network"] == "full") & (table["measure"] == measure)], 0.11)
            note(figure, over_seeds_note({placement: study.seeds[placement]}, settings.confidence, "band"))
            save(figure, folder, f"curves-{scenario}-{placement}", settings.dpi, table)


def draw_memorization_over_training(study: Study, settings: FiguresParams, folder: Path) -> None:
    """`memorization-over-training`: mean memorization (probability) by group, scenarios beside each other."""
    table = memorization_table(study, settings.difficulty_quantile, settings.confidence)
    rows = len(study.placements)
    figure, axes = canvas(rows, len(study.scenarios), 0.6 + 1.75 * rows, sharex=True, sharey=True)
    shown = table[table["measure"] == "probability"]
    panels = {
        (scenario, placement): panel
        for placement, row in zip(study.placements, axes, strict=True)
        for scenario, panel in zip(study.scenarios, row, strict=True)
    }
    parts = {key: shown[(shown["scenario"] == key[0]) & (shown["placement"] == key[1])] for key in panels}
    for key, panel in panels.items():
        draw_lines(panel, parts[key])
        panel.margins(x=0.02)
    name_columns(axes, study.scenarios, "epoch")
    for placement, row in zip(study.placements, axes, strict=True):
        row[0].set_ylabel(f"placement {placement}\np(exposed) − p(flipped)")
    for key, panel in panels.items():  # once all limits are known
        label_groups(panel, parts[key], 0.13)
    note(figure, over_seeds_note(study.masked_seeds, settings.confidence, "band"))
    save(figure, folder, "memorization-over-training", settings.dpi, table)


def draw_distributions(study: Study, settings: FiguresParams, folder: Path) -> None:
    """`memorization-<scenario>`: one row of histograms a placement, one column a measure."""
    rows = len(study.placements)
    for name, scenario in study.scenarios.items():
        table = distribution_table(study, name)
        figure, axes = canvas(rows, 3, 0.75 + 1.75 * rows, sharey=True)
        for placement, row in zip(study.placements, axes, strict=True):
            for panel, measure in zip(row, MEASURES, strict=True):
                _histograms(panel, table[(table["placement"] == placement) & (table["measure"] == measure)], measure)
            row[0].set_ylabel(f"placement {placement}\nshare of the group")
        for panel, measure in zip(axes[0], MEASURES, strict=True):
            panel.set_title(_TITLES[measure], fontsize=8)
        sizes = scenario.examples["kind"].value_counts()
        counts = ", ".join(f"{kind} n = {sizes[kind]}" for kind in KINDS if kind in sizes)
        words = seeds_in_words(study.masked_seeds)
        note(figure, f"{counts}; {words}{'' if words == 'one seed' else ' together'}; log scale")
        save(figure, folder, f"memorization-{name}", settings.dpi, table)


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
            at = (0.02, 0.93 - 0.12 * place)
            panel.text(*at, str(group), transform=panel.transAxes, color=COLOURS[str(group)], fontsize=8)
