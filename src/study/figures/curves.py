"""Curves over training, and how memorization is distributed at its end, with the placebo as the null."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study.analysis.groups import KINDS, PLACEBO
from study.analysis.inputs import NETWORKS, Study
from study.analysis.intervals import seeds_in_words
from study.analysis.tables import curve_table, distribution_table, memorization_table
from study.context.params import FiguresParams
from study.figures.palette import INK
from study.figures.style import COLOURS, Label, draw_grid, draw_lines, over_seeds_note, save, titles

_FLOOR = 1e-3  # nats: smaller mean losses are not drawn; and the smallest share drawn
_TITLES = {
    "probability": "probability, exposed − flipped",
    "loss": "loss (nats), flipped − exposed",
    "accuracy": "accuracy, exposed − flipped",
}


def draw_curves(study: Study, settings: FiguresParams, folder: Path) -> None:
    """`curves-<scenario>-<placement>`: loss and accuracy of each group in the exposed, flipped and full networks."""
    for scenario, placement in study.settings:
        table = curve_table(study, scenario, placement, settings.difficulty_quantile, settings.confidence)
        note = over_seeds_note({placement: study.seeds[placement]}, settings.confidence, "band")
        save(_curves(table), note, folder, f"curves-{scenario}-{placement}", settings.dpi, table)


def _curves(table: pd.DataFrame) -> Figure:
    losses = table.loc[table["measure"] == "loss", "mean"]

    def panel(axes: Axes, measure: str, network: str) -> list[Label]:
        ends = draw_lines(axes, table[(table["measure"] == measure) & (table["network"] == network)])
        axes.margins(x=0.02)
        if measure == "accuracy":
            axes.set_ylim(-0.02, 1.02)
        else:  # losses span four powers of ten: the exposed network's vanish while the flipped one's grow
            axes.set_yscale("log")
            axes.set_ylim(max(losses.min() / 1.6, _FLOOR), losses.max() * 1.6)
            axes.minorticks_off()
        return ends if network == "full" else []

    rows = {"loss": "mean loss (nats, log)", "accuracy": "accuracy"}
    columns = {network: f"{network} network" for network in NETWORKS}
    return draw_grid(rows, columns, 4.1, panel, below="epoch", gap=0.11, sharex=True, sharey="row")


def draw_memorization_over_training(study: Study, settings: FiguresParams, folder: Path) -> None:
    """`memorization-over-training`: mean memorization (probability) by group, scenarios beside each other."""
    table = memorization_table(study, settings.difficulty_quantile, settings.confidence)
    shown = table[table["measure"] == "probability"]

    def panel(axes: Axes, placement: str, scenario: str) -> list[Label]:
        axes.margins(x=0.02)
        return draw_lines(axes, shown[(shown["scenario"] == scenario) & (shown["placement"] == placement)])

    rows = {placement: f"placement {placement}\np(exposed) − p(flipped)" for placement in study.placements}
    height = 0.6 + 1.75 * len(rows)
    columns = titles(study.scenarios)
    figure = draw_grid(rows, columns, height, panel, below="epoch", gap=0.13, sharex=True, sharey=True)
    note = over_seeds_note(study.masked_seeds, settings.confidence, "band")
    save(figure, note, folder, "memorization-over-training", settings.dpi, table)


def draw_distributions(study: Study, settings: FiguresParams, folder: Path) -> None:
    """`memorization-<scenario>`: one row of histograms a placement, one column a measure."""
    rows = {placement: f"placement {placement}\nshare of the group" for placement in study.placements}
    words = seeds_in_words(study.masked_seeds)
    for name, scenario in study.scenarios.items():
        table = distribution_table(study, name)
        figure = draw_grid(rows, _TITLES, 0.75 + 1.75 * len(rows), partial(_histograms, table), sharey=True)
        sizes = scenario.examples["kind"].value_counts()
        counts = ", ".join(f"{kind} n = {sizes[kind]}" for kind in KINDS if kind in sizes)
        note = f"{counts}; {words}{'' if words == 'one seed' else ' together'}; log scale"
        save(figure, note, folder, f"memorization-{name}", settings.dpi, table)


def _histograms(table: pd.DataFrame, panel: Axes, placement: str, measure: str) -> tuple[Label, ...]:
    """Step lines, the placebo filled; bars side by side where there are three values only."""
    shown = table[(table["placement"] == placement) & (table["measure"] == measure)]
    found = list(shown.groupby("group", sort=False))
    panel.set_title(panel.get_title("left"), fontsize=8)
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
    return ()
