"""Images: the most memorized examples, and held-out mistakes with the training examples that shaped them.

Each set is written three times: a table, the bare images below each other in one PNG (for the report, in the order of
the table), and a labelled grid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from study.analysis.inputs import Study
from study.analysis.tables import gallery_table, mistakes_table
from study.artefacts.files import write_csv
from study.context.params import FiguresParams
from study.data.scenarios.scenario import Scenario
from study.figures.names import drawn_name
from study.figures.palette import INK, MUTED, VERMILLION
from study.figures.style import WIDTH, save_png

_LARGEST = 64  # pixels: larger images are shrunk
_COLUMNS = 8

Names = Mapping[str, str]  # of the classes, as pictures have them


def draw_images(study: Study, settings: FiguresParams, folder: Path) -> None:
    """`gallery` and `mistakes`: table, sprites and labelled grid of each."""
    run = study.shown
    scenario = study.scenarios[run.scenario]
    gallery = gallery_table(study, run, settings.gallery)
    mistakes = mistakes_table(study, run, settings.mistakes, settings.neighbours)
    for name, table in (("gallery", gallery), ("mistakes", mistakes)):
        write_csv(folder / f"{name}.csv", table)
        if len(table):
            sprites(scenario.images[table["id"].to_numpy()]).save(folder / f"{name}-sprites.png", optimize=True)
    for kind, part in gallery.groupby("kind", sort=False):
        cells = [(i // _COLUMNS, i % _COLUMNS, row) for i, row in enumerate(part.itertuples())]
        save_png(_grid(scenario, cells, _gallery_title), folder, f"gallery-{kind}", settings.dpi)
    if len(mistakes):
        save_png(_grid(scenario, _mistake_cells(mistakes), _mistake_title), folder, "mistakes", settings.dpi)


def _picture(pixels: np.ndarray) -> Image.Image:
    """One uint8 [channels, height, width] image, shrunk if it is large."""
    grey = pixels.shape[0] != 3
    image = Image.fromarray(pixels[0] if grey else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    if max(image.size) > _LARGEST:
        image.thumbnail((_LARGEST, _LARGEST))
    return image


def sprites(images: np.ndarray) -> Image.Image:
    """All images below each other."""
    pictures = [_picture(pixels) for pixels in images]
    width, height = pictures[0].size
    sheet = Image.new(pictures[0].mode, (width, height * len(pictures)))
    for row, picture in enumerate(pictures):
        sheet.paste(picture, (0, row * height))
    return sheet


def _grid(
    scenario: Scenario, cells: list[tuple[int, int, Any]], title: Callable[[Any, Names], tuple[str, str]]
) -> Figure:
    """Images at their (row, column, row of the table), each under its title."""
    names = {name: drawn_name(name, number) for number, name in enumerate(scenario.classes)}
    rows, columns = (1 + max(cell[axis] for cell in cells) for axis in (0, 1))
    side = min(WIDTH / columns, 0.9)
    figure = Figure(figsize=(side * columns, rows * (side + 0.3)))
    axes = figure.subplots(rows, columns, squeeze=False)
    figure.subplots_adjust(0.005, 0.005, 0.995, 1 - 0.3 / figure.get_figheight(), wspace=0.08, hspace=0.36 / side)
    for panel in axes.flat:
        panel.set_axis_off()
    for row, column, entry in cells:
        panel = axes[row][column]
        panel.imshow(_picture(scenario.images[int(entry.id)]), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        text, colour = title(entry, names)
        # Class names are words, also between dollar signs, where matplotlib would read mathematics.
        panel.set_title(text, fontsize=6.5, color=colour, loc="left", pad=2, parse_math=False)
    return figure


def _mistake_cells(table: pd.DataFrame) -> list[tuple[int, int, Any]]:
    """Two rows a mistake: the helpful examples beside it, the harmful ones below these."""
    cells: list[tuple[int, int, Any]] = []
    for mistake, (_, part) in enumerate(table.groupby("target", sort=False)):
        below = (part["kind"] == "harmful").astype(int)
        places = zip(2 * mistake + below, part["rank"], part.itertuples(), strict=True)
        cells += [(int(row), int(column), entry) for row, column, entry in places]
    return cells


def _labels(row: Any, names: Names) -> str:
    given = names[row.given_name]
    return f"{given} ✗\n(is {names[row.original_name]})" if row.differs else f"{given}\n"


def _gallery_title(row: Any, names: Names) -> tuple[str, str]:
    return _labels(row, names), VERMILLION if row.differs else INK


def _mistake_title(row: Any, names: Names) -> tuple[str, str]:
    if row.kind == "mistake":
        return f"{names[row.original_name]}, taken\nfor {names[row.predicted_name]}", INK
    text = f"{names[row.given_name]}{' ✗' if row.differs else ''}\n{row.influence:+.2f}"
    return text, VERMILLION if row.differs else MUTED
