"""The effects in other settings: a column for each setting that is varied, a row for each kind of effect."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from study.analysis.variants import level, levels, title
from study.context.params import FiguresParams
from study.figures.palette import BLUE, GRID, INK, MUTED, VERMILLION
from study.figures.style import Label, draw_grid, save

_WIDEST = 1.6  # times the largest effect: intervals that go on further are cut
_APART = 0.16  # of the two effects of a panel, in levels


class _Row(NamedTuple):
    words: str
    of_wrong: str  # the effect of wrongly labelled examples by its name, or ""
    of_real: str  # the effect of difficult real ones


_ROWS = {
    "time": _Row("learned later\n(epochs)", "easy_faster_plain", "easy_faster_real_plain"),
    "together": _Row("likelier after\none epoch (%)", "together_plain", ""),
    "memorization": _Row("memorization\n(probability)", "memorization_wrong", "memorization_difficult"),
    "loss": _Row("without them:\nloss (nats)", "", "tell_more"),
    "accuracy": _Row("without them:\naccuracy (points)", "", "tell_more_plain"),
}


def draw_variants(table: pd.DataFrame, settings: FiguresParams, folder: Path) -> None:
    """`variants`: what changes if one setting does; nothing if there are no variants.

    Args:
        table: `variants.csv`, as stage `findings` writes it.
        settings: resolution and confidence.
        folder: of the figures.
    """
    if not len(table):
        return
    found = dict(levels(table))
    rows = {key: row for key, row in _ROWS.items() if table["effect"].isin(row[1:]).any()}
    shown = pd.concat(found)
    limits = {key: _limits(shown[shown["effect"].isin(row[1:])]) for key, row in rows.items()}

    def panel(axes: Axes, key: str, setting: str) -> tuple[Label, ...]:
        of, row = found[setting], rows[key]
        low, high = limits[key]
        count = of["at"].nunique()
        axes.axhline(0, color=INK, linewidth=0.7)
        for at in of.loc[of["is_default"], "at"].unique():
            axes.axvspan(at - 0.4, at + 0.4, color=GRID, alpha=0.6, linewidth=0, zorder=0)
        both = bool(row.of_wrong and row.of_real)
        for effect, colour, marker, side in ((row.of_wrong, VERMILLION, "o", -1), (row.of_real, BLUE, "s", 1)):
            part = of[of["effect"] == effect]
            x = part["at"] + (side * _APART if both else 0)
            axes.vlines(x, part["low"].clip(low, high), part["high"].clip(low, high), color=colour, linewidth=1.2)
            axes.plot(x, part["mean"], color=colour, marker=marker, markersize=3.2, linewidth=0.7, linestyle=":")
        if not of["effect"].isin(row[1:]).any():
            axes.text(0.5, 0.5, "not run", color=MUTED, fontsize=7, ha="center", transform=axes.transAxes)
        words = of.drop_duplicates("at").sort_values("at")["value"].map(lambda value: level(setting, value))
        axes.set_xticks(range(count), words.tolist(), fontsize=6.5)
        axes.set_xlim(-0.6, count - 0.4)
        axes.set_ylim(low, high)
        axes.grid(axis="x", visible=False)
        return ()

    counts = {setting: of["at"].nunique() for setting, of in found.items()}
    columns = {of: textwrap.fill(title(of), 5 * count, break_long_words=False) for of, count in counts.items()}
    words = {key: row.words for key, row in rows.items()}
    height = 1.0 + 1.02 * len(rows)
    widths = [count + 1 for count in counts.values()]
    figure = draw_grid(words, columns, height, panel, sharex="col", sharey="row", width_ratios=widths)
    for axes in figure.axes:
        axes.title.set_fontsize(8)
        axes.yaxis.label.set_fontsize(7)
    handles = [
        Line2D([], [], color=VERMILLION, marker="o", markersize=3.2, label="wrongly labelled examples"),
        Line2D([], [], color=BLUE, marker="s", markersize=3.2, label="difficult real examples"),
        Patch(color=GRID, label="as in params.yaml"),
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=3, frameon=False, fontsize=8)
    save(figure, _note(table, settings.confidence), folder, "variants", settings.dpi, table)


def _limits(shown: pd.DataFrame) -> tuple[float, float]:
    """Of the vertical axis: all means and 0, and of the intervals what does not dwarf them."""
    edge = max(_WIDEST * float(shown["mean"].abs().max()), 1e-9)
    low = min(max(float(np.nanmin(shown[["mean", "low"]])), -edge), 0.0)
    high = max(min(float(np.nanmax(shown[["mean", "high"]])), edge), 0.0)
    return low - 0.06 * (high - low), high + 0.06 * (high - low)


def _note(table: pd.DataFrame, confidence: float) -> str:
    few, most = int(table["seeds"].min()), int(table["seeds"].max())
    seeds = f"{few} to {most} seeds" if few < most else f"{few} seeds" if few > 1 else "one seed"
    return f"{seeds} a variant; lines: {confidence:.0%} intervals of single effects, not corrected"
