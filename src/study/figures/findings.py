"""One figure for each of the two findings, and one of all effects."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from study.analysis.groups import WRONG
from study.analysis.inputs import Study
from study.analysis.intervals import interval
from study.analysis.tables import together_table
from study.context.params import FiguresParams
from study.figures.palette import BLUE, GREEN, GRID, INK, MUTED, ORANGE, PURPLE, SKY, VERMILLION
from study.figures.style import (
    COLOURS,
    DASHED,
    NARROW,
    WIDTH,
    Label,
    dots_note,
    draw_grid,
    draw_lines,
    over_seeds_note,
    save,
)

# Of the retrained networks: who is missing, in the words below the axis.
_MISSING = {
    "balanced_most_memorized": ("the most\nmemorized", VERMILLION),
    "balanced_random": ("as many\nat random", INK),
    "balanced_least_memorized": ("the least\nmemorized", SKY),
}
_MEASURES = {"heldout_loss": "loss on new images\n(nats)", "heldout_accuracy": "accuracy on\nnew images"}
_SCENARIO_COLOURS = (BLUE, ORANGE, VERMILLION, GREEN, PURPLE)
_MARKERS = "os^vD"
_ROW = 0.165  # inches
_SHORTER = {
    "as many at random": "random ones",
    "matched by labels": "same labels",
    "minus the ": "− ",
    "minus": "−",
}
_BETWEEN = 0.14  # the dots of a line, in lines
_WIDEST = 1.6  # times the largest effect: intervals that go on further are cut


def draw_together(study: Study, settings: FiguresParams, folder: Path) -> None:
    """`finding-1`: real and wrongly labelled examples, learned at the same time, one kind faster."""
    placement = study.placements[0]
    mixed = [
        name
        for name, scenario in study.scenarios.items()
        if (trained := scenario.of("train"))["wrong"].any() and not trained["is_random"].all()
    ]
    if not mixed:
        return
    table = together_table(study, mixed[0], placement, settings.confidence)

    def panel(axes: Axes, measure: str, _: str) -> list[Label]:
        part = table[table["measure"] == measure]
        axes.axvline(1, color=MUTED, linewidth=0.8, linestyle=DASHED)
        if measure == "accuracy":
            axes.set_ylim(-0.03, 1.03)
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
            ends = draw_lines(axes, part)
            return [(name, 1.0 - 0.001 * place, colour) for place, (name, _, colour) in enumerate(ends)]
        axes.axhline(0, color=INK, linewidth=0.7)
        axes.set_yscale("symlog", linthresh=0.1, linscale=0.5)
        axes.set_yticks([0, 0.1, 1, 10], ["0", "0.1", "1", "10"])
        axes.minorticks_off()
        draw_lines(axes, part, marker="o")
        first = part[part["epoch"] == 1]
        for value in first["mean"]:
            axes.annotate(
                f"after one epoch: {value:+.2f}".replace("-", "−"), (1, value), (9, -3), textcoords="offset points",
                fontsize=8, color=COLOURS[WRONG], va="top",
            )  # fmt: skip
        return []

    rows = {
        "accuracy": "label known to the\nhalf that trained on it",
        "own effect": "more than to the half\nthat did not (nats)",
    }
    figure = draw_grid(rows, {"": ""}, 3.9, panel, below="epoch", width=NARROW, gap=0.13, sharex=True)
    note = over_seeds_note({placement: study.seeds[placement]}, settings.confidence, "band")
    save(figure, note, folder, "finding-1", settings.dpi, table)


def draw_tell_more(study: Study, fraction: float, settings: FiguresParams, folder: Path) -> None:
    """`finding-2`: what ordinary networks are worth, retrained without some of the examples of every class."""
    real = [name for name, scenario in study.scenarios.items() if not scenario.of("train")["is_random"].any()]
    if study.removal is None or not real:
        return
    of = study.removal[study.removal["scenario"] == real[0]]
    chosen = of[(of["action"] == "remove") & (of["fraction"] == fraction) & of["order"].isin(_MISSING)]
    if chosen["order"].nunique() < len(_MISSING):
        return
    table = chosen.melt(["order", "seed"], list(_MEASURES), "measure").reset_index(drop=True)
    whole = of[of["order"] == "none"]

    def panel(axes: Axes, measure: str, _: str) -> list[Label]:
        values = table[table["measure"] == measure].pivot(index="seed", columns="order", values="value")
        for row in values[list(_MISSING)].to_numpy(float):
            axes.plot(range(len(_MISSING)), row, color=GRID, linewidth=0.8, zorder=1)
        for at, (order, (_words, colour)) in enumerate(_MISSING.items()):
            found = interval(values[order], settings.confidence)
            axes.scatter([at] * len(values), values[order], s=13, color=colour, alpha=0.6, linewidth=0, zorder=2)
            beside = at + 0.17
            axes.plot([beside] * 2, [found.low, found.high], color=colour, linewidth=1.4)
            axes.plot([beside - 0.06, beside + 0.06], [found.mean] * 2, color=colour, linewidth=2)
        axes.set_xticks(range(len(_MISSING)), [words for words, _ in _MISSING.values()])
        axes.set_xlim(-0.4, len(_MISSING) - 0.5)
        axes.axhline(whole[measure].mean(), color=MUTED, linewidth=0.9, linestyle=DASHED)
        if measure == "heldout_accuracy":
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
        return [("all examples", float(whole[measure].mean()), MUTED)]

    below = f"retrained without {fraction:.0%} of every class:".replace("%", " %")
    figure = draw_grid(_MEASURES, {"": ""}, 3.9, panel, below=below, width=NARROW, sharex=True)
    note = dots_note({"": chosen["seed"].unique().tolist()}, settings.confidence)
    save(figure, note, folder, "finding-2", settings.dpi, table)


class _Row(NamedTuple):
    """A line of the forest plot: a heading, or one comparison in all settings."""

    words: str
    effects: pd.DataFrame | None


def draw_effects(study: Study, table: pd.DataFrame, settings: FiguresParams, folder: Path) -> None:
    """`effects`: every effect with its interval, a panel a unit, a line a comparison, a dot a setting."""
    table = table.dropna(subset="mean").fillna({"definition": "", "low": table["mean"], "high": table["mean"]})
    panels = {unit: _rows_of(part) for unit, part in table.groupby(_unit(table), sort=False)}
    sizes = [len(rows) + 1.2 for rows in panels.values()]
    figure = Figure(
        figsize=(WIDTH, 0.6 + 0.36 * len(panels) + _ROW * sum(sizes)),
        layout=ConstrainedLayoutEngine(w_pad=0.2, h_pad=0.03),
    )
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=sizes)[:, 0]
    colours = dict(zip(study.scenarios, _SCENARIO_COLOURS, strict=False))
    markers = dict(zip(table["placement"].unique(), _MARKERS, strict=False))
    for panel, (unit, rows) in zip(axes, panels.items(), strict=True):
        panel.set_title(unit)
        _forest(panel, rows, colours, markers)
    handles = [Line2D([], [], color=of, linewidth=2.5, label=f"scenario {name}") for name, of in colours.items()]
    for name, marker in markers.items():
        words = "retrained networks" if name == "retrained" else f"placement {name}"
        handles.append(Line2D([], [], color=MUTED, marker=marker, linestyle="", markersize=4, label=words))
    figure.legend(handles=handles, loc="outside upper left", ncols=3, frameon=False, fontsize=8)
    note = f"lines: {settings.confidence:.0%} intervals of single effects, not corrected"
    save(figure, note, folder, "effects", settings.dpi, table)


def _unit(table: pd.DataFrame) -> pd.Series[str]:
    """The unit of each effect, in which nats of unlike size are apart."""
    of = table["unit"].where(~table["text"].str.startswith("influence"), "nats, summed over held-out examples")
    return of.where(table["placement"] != "retrained", "retrained networks: " + table["unit"])


def _rows_of(part: pd.DataFrame) -> list[_Row]:
    rows: list[_Row] = []
    several = part["definition"].nunique() > 1
    split = part["text"].str.extract(r"^(?P<measure>.*?)(?:, | (?=of one |without |with only ))(?P<what>.*)$")
    for measure, of in part.groupby(split["measure"].fillna(part["text"]), sort=False):
        rows.append(_Row(str(measure), None))
        for (text, definition), effects in of.groupby(["text", "definition"], sort=False):
            words = _short(str(text).removeprefix(str(measure)).lstrip(", "))
            rows.append(_Row(f"{words}, by {definition}" if several and definition else words, effects))
    return rows


def _short(words: str) -> str:
    """A comparison in as few words as its heading leaves to be said."""
    words = re.sub(r": [\d.]+ of the examples$|pairs of | examples\b", "", words)
    words = re.sub(r"(without|with only) (.*) minus \1 ", r"\1 \2 minus ", words)
    if words.count(" of every class") == 2:
        words = f"{words.replace(' of every class', '')}, by class"
    for long, short in _SHORTER.items():
        words = words.replace(long, short)
    return words


def _forest(panel: Axes, rows: list[_Row], colours: Mapping[str, str], markers: Mapping[str, str]) -> None:
    shown = pd.concat([row.effects for row in rows if row.effects is not None])
    edge = max(_WIDEST * float(shown["mean"].abs().max()), 1e-9)
    left, right = max(float(shown["low"].min()), -edge), min(float(shown["high"].max()), edge)
    left, right = min(left, 0.0) - 0.04 * edge, max(right, 0.0) + 0.04 * edge
    panel.axvline(0, color=INK, linewidth=0.7)
    for at, row in enumerate(rows):
        if row.effects is None:
            continue
        offsets = _BETWEEN * (np.arange(len(row.effects)) - (len(row.effects) - 1) / 2)
        for offset, of in zip(offsets, row.effects.to_dict("records"), strict=True):
            colour, height = colours[of["scenario"]], at + offset
            panel.plot([max(of["low"], left), min(of["high"], right)], [height] * 2, color=colour, linewidth=0.9)
            panel.plot(of["mean"], height, color=colour, marker=markers[of["placement"]], markersize=2.8)
    panel.set_yticks(range(len(rows)), [row.words for row in rows], fontsize=6.8)
    for label, row in zip(panel.get_yticklabels(), rows, strict=True):
        if row.effects is None:
            label.set_fontweight("bold")
    panel.set_ylim(len(rows) - 0.4, -0.6)
    panel.set_xlim(left, right)
    panel.xaxis.set_major_locator(MaxNLocator(nbins=6))
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="y", visible=False)
