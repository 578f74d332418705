"""Draw the figures, from the tables of all runs, of the findings and of the comparison with other estimators."""

from __future__ import annotations

import pandas as pd

from study.analysis.files import read_validations
from study.analysis.inputs import read_study
from study.artefacts.files import writing
from study.context.params import FiguresParams
from study.context.stage import Stage, main
from study.figures.claims import draw_claims
from study.figures.curves import draw_curves, draw_distributions, draw_memorization_over_training
from study.figures.findings import draw_effects, draw_tell_more, draw_together
from study.figures.images import draw_images
from study.figures.scores import draw_cost, draw_detection, draw_influence
from study.figures.style import styled
from study.figures.suspects import draw_suspects
from study.figures.validation import draw_validation
from study.figures.variants import draw_variants

_OF_THE_RUNS = (
    draw_together,
    draw_curves,
    draw_distributions,
    draw_memorization_over_training,
    draw_detection,
    draw_cost,
    draw_influence,
    draw_images,
    draw_suspects,
)


def run(stage: Stage) -> None:
    settings: FiguresParams = stage.param("figures")
    study = read_study(stage)
    tables = {path.stem: pd.read_csv(path) for path in sorted(stage.dep("reports/metrics/findings").glob("*.csv"))}
    with writing(stage.out("reports/figures")) as folder, styled():
        folder.mkdir(parents=True)
        for draw in _OF_THE_RUNS:
            draw(study, settings, folder)
        draw_tell_more(study, stage.param("removal.fractions")[0], settings, folder)
        draw_effects(study, tables["effects"], settings, folder)
        draw_claims(study, tables, settings, folder)
        draw_variants(tables["variants"], settings, folder)
        for validation in read_validations(stage):
            draw_validation(validation, settings.dpi, folder)


if __name__ == "__main__":
    main(run, "figures", doc=__doc__)
