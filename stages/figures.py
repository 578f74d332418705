"""Draw the figures from the small tables of all runs, and write down every number the report states."""

from __future__ import annotations

from study.analysis.inputs import read_inputs
from study.analysis.summary import summarize
from study.artefacts.files import write_json, writing
from study.context.params import FiguresParams
from study.context.stage import Stage, main
from study.figures.claims import (
    draw_cleansing,
    draw_gradients,
    draw_learning_time,
    draw_removal,
    draw_speed,
)
from study.figures.curves import draw_curves, draw_memorization_over_training
from study.figures.distributions import draw_distributions
from study.figures.images import draw_images
from study.figures.scores import draw_cost, draw_detection, draw_influence
from study.figures.style import styled


def make_figures(stage: Stage) -> None:
    """The body of stage `figures`: all of `reports/figures`, and `reports/metrics/summary.json`."""
    settings: FiguresParams = stage.param("figures")
    inputs = read_inputs(stage)
    with writing(stage.out("reports/figures")) as folder, styled():
        folder.mkdir(parents=True)
        for draw in (
            draw_curves,
            draw_learning_time,
            draw_speed,
            draw_gradients,
            draw_removal,
            draw_cleansing,
            draw_distributions,
            draw_memorization_over_training,
            draw_detection,
            draw_cost,
            draw_influence,
            draw_images,
        ):
            draw(inputs, settings, folder)
    write_json(stage.out("reports/metrics/summary.json"), summarize(inputs, settings))


if __name__ == "__main__":
    main(make_figures, "figures", doc=__doc__)
