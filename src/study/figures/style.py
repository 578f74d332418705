"""How figures look, and how they are saved: colour-blind safe, readable at column width, always the same bytes."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

import study.analysis.groups as groups
from study.analysis.intervals import interval, seeds_in_words
from study.artefacts.files import write_csv
from study.figures.names import FONT
from study.figures.palette import BLUE, GRID, INK, MUTED, ORANGE, PAPER, SKY, VERMILLION

WIDTH = 7.2  # inches: the width of the report's column
NARROW = 4.4  # of a figure beside another one there, and alone on a phone

COLOURS = {
    groups.REAL: BLUE,
    groups.REAL_EASY: SKY,
    groups.REAL_DIFFICULT: BLUE,
    groups.RANDOM: VERMILLION,
    groups.RANDOM_EASY: ORANGE,
    groups.RANDOM_DIFFICULT: VERMILLION,
    groups.WRONG: VERMILLION,
    groups.PLACEBO: MUTED,
    groups.HELDOUT: INK,
}
DASHED, DOTTED = (0, (4, 1.5)), (0, (1, 1.2))
LINES = {groups.REAL_EASY: DASHED, groups.RANDOM_EASY: DASHED, groups.PLACEBO: DOTTED}

_RC: dict[str, Any] = {
    "svg.hashsalt": "turnover",  # the ids inside an SVG are random without it
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": [FONT],
    "font.size": 8.5,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titley": 1.0,  # else matplotlib looks for something above the axes that a title could hit
    "axes.labelsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.6,
    "path.simplify": True,
}


@contextmanager
def styled() -> Iterator[None]:
    """While active, matplotlib draws in the study's style, whatever the user's own settings are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC)  # type: ignore[arg-type]  # the stubs want literal keys
        yield


Label = tuple[str, float, str]  # text, height in data coordinates, colour


def draw_grid(
    rows: Mapping[str, str],
    columns: Mapping[str, str],
    height: float,
    draw: Callable[[Axes, str, str], Iterable[Label]],
    *,
    below: str = "",
    gap: float = 0.1,
    width: float = WIDTH,
    **options: Any,
) -> Figure:
    """A figure with a panel for each key of `rows` and each of `columns`.

    Args:
        rows, columns: key -> words at the left and on top.
        height: inches.
        draw: draws the panel of two keys, and gives the labels that stand at its right.
        below: what the horizontal axes are.
        gap: between labels, a fraction of the panel's height.
        width: inches; without it the figure is as wide as the report's column.
        options: of `Figure.subplots`, such as ``sharex``.
    """
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.05))
    axes = figure.subplots(len(rows), len(columns), squeeze=False, **options)
    for first, last, title in zip(axes[0], axes[-1], columns.values(), strict=True):
        first.set_title(title)
        last.set_xlabel(below)
    ends = []
    for panels, (row, words) in zip(axes, rows.items(), strict=True):
        panels[0].set_ylabel(words)
        ends += [(panel, list(draw(panel, row, column))) for panel, column in zip(panels, columns, strict=True)]
    for panel, labels in ends:  # once the limits of all panels are known
        end_labels(panel, labels, gap)
    return figure


def titles(scenarios: Iterable[str]) -> dict[str, str]:
    """The columns of a grid, one a scenario."""
    return {scenario: f"scenario {scenario}" for scenario in scenarios}


def save(figure: Figure, note: str, folder: Path, name: str, dpi: int, data: pd.DataFrame) -> None:
    """Write `name`.svg, .png and .csv, with a `note` that states n and the interval as the small line below."""
    figure.supxlabel(note, fontsize=7.5, color=MUTED, x=0.995, ha="right")
    layout = figure.get_layout_engine()
    assert layout is not None
    figure.set_dpi(dpi)
    layout.execute(figure)
    figure.set_layout_engine(None)  # with an engine every file is drawn twice, once to work the layout out
    save_png(figure, folder, name, dpi)
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None}, dpi=dpi)
    # A hundredth of a point is finer than anybody sees, and makes the file a third smaller. Labels stay as they are.
    number = re.compile(r"(<text.*?</text>)|-?\d+\.\d{3,}", re.DOTALL)
    small = number.sub(lambda found: found[1] or f"{float(found[0]):.2f}", text.getvalue())
    (folder / f"{name}.svg").write_text(number_clips(small), encoding="utf-8", newline="\n")
    write_csv(folder / f"{name}.csv", data)


def number_clips(svg: str) -> str:
    """Clip paths by their number: matplotlib calls them by a hash of bounds, whose last bits the layout leaves open."""
    for number, clip in enumerate(dict.fromkeys(re.findall(r"url\(#(p[0-9a-f]{10})\)", svg)), 1):
        svg = svg.replace(clip, f"clip-{number}")
    return svg


def save_png(figure: Figure, folder: Path, name: str, dpi: int) -> None:
    figure.savefig(folder / f"{name}.png", metadata={"Software": None}, dpi=dpi)


def draw_lines(panel: Axes, table: pd.DataFrame, marker: str = "") -> list[Label]:
    """Mean over the epochs of each group of the table, with the interval over seeds as a band.

    Returns:
        The names of the groups, at the ends of their lines.
    """
    ends = []
    for group in (name for name in COLOURS if (table["group"] == name).any()):
        part, colour = table[table["group"] == group], COLOURS[group]
        style = LINES.get(group, "-")
        panel.plot(part["epoch"], part["mean"], color=colour, linestyle=style, marker=marker, markersize=3)
        if part["seeds"].max() > 1:
            panel.fill_between(part["epoch"], part["low"], part["high"], color=colour, alpha=0.18, linewidth=0)
        ends.append((group, float(part["mean"].iloc[-1]), colour))
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    return ends


def draw_errors(panel: Axes, x: pd.Series[float], table: pd.DataFrame, colour: str, **style: Any) -> None:
    """Means with their intervals as bars."""
    errors = [table["mean"] - table["low"], table["high"] - table["mean"]]
    panel.errorbar(x, table["mean"], errors, color=colour, **{"marker": "o", "markersize": 3, **style})


def draw_dots(
    table: pd.DataFrame,
    columns: Mapping[str, str],
    rows: Mapping[str, str],
    height: float,
    confidence: float,
    below: str = "",
) -> Figure:
    """A panel a column, one row a label from the top: a dot a seed, the mean as a tick, the interval as a line.

    `table` has a line a dot: ``column``, ``row``, ``value``; `columns` says key -> title, `rows` label -> colour.
    """

    def panel(axes: Axes, _: str, column: str) -> tuple[Label, ...]:
        of = table[table["column"] == column]
        for at, (row, colour) in enumerate(rows.items()):
            points = of.loc[of["row"] == row, "value"].tolist()
            if not points:
                continue
            found = interval(points, confidence)
            if found.half_width is not None:
                axes.plot([found.low, found.high], [at, at], color=colour, linewidth=1.0, alpha=0.6)
            axes.plot([found.mean] * 2, [at - 0.25, at + 0.25], color=colour, linewidth=1.6)
            axes.scatter(points, [at] * len(points), s=16, color=colour, alpha=0.75, linewidth=0, zorder=3)
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set_ylim(len(rows) - 0.5, -0.5)
        return ()

    return draw_grid({"": ""}, columns, height, panel, below=below, sharey=True)


def end_labels(axes: Axes, labels: list[Label], gap: float) -> None:
    """Write labels to the right of the axes at height y, moved apart where they would overlap."""
    axes.autoscale_view()  # matplotlib settles the limits late; the heights need them now
    ordered = sorted(labels, key=lambda label: label[1])
    heights: list[float] = []
    for _, y, _ in ordered:
        at = float(axes.transAxes.inverted().transform(axes.transData.transform((0.0, y)))[1])
        heights.append(max(0.0, at, heights[-1] + gap if heights else 0.0))
    ceiling = 1.0
    for i in reversed(range(len(heights))):
        heights[i] = min(heights[i], ceiling)
        ceiling = heights[i] - gap
    for (text, _, colour), at in zip(ordered, heights, strict=True):
        style: dict[str, Any] = {"va": "center", "color": colour, "fontsize": 8, "annotation_clip": False}
        axes.annotate(text, (1.0, at), (5, 0), xycoords="axes fraction", textcoords="offset points", **style)


def over_seeds_note(seeds: Mapping[str, list[int]], confidence: float, what: str) -> str:
    """What a mean is over, and what the `what` (band, bars) around it is."""
    words = seeds_in_words(seeds)
    if words == "one seed":
        return "one seed: no interval"
    return f"mean of {words}; {what}: {confidence:.0%} t-interval over seeds"


def dots_note(seeds: Mapping[str, list[int]], confidence: float) -> str:
    """The same of a figure with a dot a seed."""
    words = seeds_in_words(seeds)
    if words == "one seed":
        return "one seed: no interval"
    return f"dots: {words}; tick: mean; line: {confidence:.0%} t-interval"
