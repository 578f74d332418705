"""How figures look, and how they are saved: colour-blind safe, readable at column width, always the same bytes."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from study.analysis.intervals import interval
from study.analysis.wording import seeds_in_words
from study.artefacts.files import write_csv
from study.figures.palette import BLUE, GRID, INK, MUTED, ORANGE, PAPER, SKY, VERMILLION

WIDTH = 7.2  # inches: the width of the report's column

COLOURS = {
    groups.REAL: BLUE,
    groups.REAL_EASY: SKY,
    groups.REAL_DIFFICULT: BLUE,
    groups.RANDOM: VERMILLION,
    groups.RANDOM_EASY: ORANGE,
    groups.RANDOM_DIFFICULT: VERMILLION,
    groups.PLACEBO: MUTED,
}
DASHED, DOTTED = (0, (4, 1.5)), (0, (1, 1.2))
LINES = {groups.REAL_EASY: DASHED, groups.RANDOM_EASY: DASHED, groups.PLACEBO: DOTTED}

_RC: dict[str, Any] = {
    "svg.hashsalt": "turnover",  # the ids inside an SVG are random without it
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same glyphs on every machine
    "font.size": 8.5,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
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


def canvas(rows: int, columns: int, height: float, **options: Any) -> tuple[Figure, list[list[Axes]]]:
    """A figure as wide as the report's column, and its axes as rows of columns."""
    figure = Figure(figsize=(WIDTH, height), layout=ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.05))
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, [list(row) for row in axes]


def save(figure: Figure, folder: Path, name: str, dpi: int, data: pd.DataFrame | None = None) -> None:
    """Write `name`.svg, .png and, if there is data, .csv."""
    save_png(figure, folder, name, dpi)
    figure.set_layout_engine("none")  # it stands where it stands: do not work the layout out a second time
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None}, dpi=dpi)
    # A hundredth of a point is finer than anybody sees, and makes the file a third smaller. Labels stay as they are.
    number = re.compile(r"(<text.*?</text>)|-?\d+\.\d{3,}", re.DOTALL)
    small = number.sub(lambda found: found[1] or f"{float(found[0]):.2f}", text.getvalue())
    (folder / f"{name}.svg").write_text(small, encoding="utf-8", newline="\n")
    if data is not None:
        write_csv(folder / f"{name}.csv", data)


def save_png(figure: Figure, folder: Path, name: str, dpi: int) -> None:
    figure.savefig(folder / f"{name}.png", metadata={"Software": None}, dpi=dpi)


def name_columns(axes: list[list[Axes]], scenarios: Iterable[str], below: str) -> None:
    """A scenario above each column, and what its horizontal axis is below."""
    for first, last, scenario in zip(axes[0], axes[-1], scenarios, strict=True):
        first.set_title(f"scenario {scenario}")
        last.set_xlabel(below)


def draw_lines(panel: Axes, table: pd.DataFrame, marker: str = "") -> None:
    """Mean over the epochs of each group of the table, with the interval over seeds as a band."""
    for group in (name for name in groups.GROUPS if (table["group"] == name).any()):
        part, colour = table[table["group"] == group], COLOURS[group]
        style = LINES.get(group, "-")
        panel.plot(part["epoch"], part["mean"], color=colour, linestyle=style, marker=marker, markersize=3)
        if part["seeds"].max() > 1:
            panel.fill_between(part["epoch"], part["low"], part["high"], color=colour, alpha=0.18, linewidth=0)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))


def label_groups(panel: Axes, table: pd.DataFrame, gap: float) -> None:
    """Name the groups at the ends of their lines."""
    last = table[table["epoch"] == table["epoch"].max()]
    rows = zip(last["group"].astype(str), last["mean"], strict=True)
    end_labels(panel, [(group, mean, COLOURS[group]) for group, mean in rows], gap)


def draw_dots(
    panel: Axes, labels: Sequence[str], values: Sequence[list[float]], colours: Sequence[str], confidence: float
) -> None:
    """One row a label, from the top: a dot a seed, the mean as a tick, the interval as a line."""
    for row, (points, colour) in enumerate(zip(values, colours, strict=True)):
        if not points:
            continue
        found = interval(points, confidence)
        if found.half_width is not None:
            panel.plot([found.low, found.high], [row, row], color=colour, linewidth=1.0, alpha=0.6)
        panel.plot([found.mean] * 2, [row - 0.25, row + 0.25], color=colour, linewidth=1.6)
        panel.scatter(points, [row] * len(points), s=16, color=colour, alpha=0.75, linewidth=0, zorder=3)
    panel.set_yticks(range(len(labels)), labels)
    panel.set_ylim(len(labels) - 0.5, -0.5)


def errors_of(table: pd.DataFrame) -> list[pd.Series[float]]:
    """How far the interval reaches below and above the mean, as `Axes.errorbar` wants it."""
    return [table["mean"] - table["low"], table["high"] - table["mean"]]


def end_labels(axes: Axes, labels: Sequence[tuple[str, float, str]], gap: float = 0.1) -> None:
    """Write (text, y, colour) labels to the right of the axes at height y, moved apart where they would overlap."""
    axes.autoscale_view()  # matplotlib settles the limits late; the heights need them now
    ordered = sorted(labels, key=lambda label: label[1])
    heights: list[float] = []
    for _, y, _ in ordered:
        at = float(axes.transAxes.inverted().transform(axes.transData.transform((0.0, y)))[1])
        at = max(0.0, at)
        heights.append(max(at, heights[-1] + gap) if heights else at)
    ceiling = 1.0
    for i in reversed(range(len(heights))):
        heights[i] = min(heights[i], ceiling)
        ceiling = heights[i] - gap
    for (text, _, colour), at in zip(ordered, heights, strict=True):
        axes.annotate(
            text,
            (1.0, at),
            (5, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            va="center",
            color=colour,
            fontsize=8,
            annotation_clip=False,
        )


def note(figure: Figure, text: str) -> None:
    """The small line under a figure that states n and the interval."""
    figure.supxlabel(text, fontsize=7.5, color=MUTED, x=0.995, ha="right")


def over_seeds_note(seeds: Mapping[str, list[int]], confidence: float, what: str) -> str:
    """What a mean is over, and what the `what` (band, bars) around it is."""
    words = seeds_in_words(seeds)
    if words == "one seed":
        return "one seed: no interval"
    return f"mean of {words}; {what}: {confidence:.0%} t-interval over seeds"
