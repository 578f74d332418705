"""One dot a seed: mislabel detection, the accuracy turn-over dropout costs; and influence by decile of memorization."""

from __future__ import annotations

from pathlib import Path

from matplotlib.ticker import MaxNLocator

from study.analysis.groups import PLACEBO
from study.analysis.inputs import Study
from study.analysis.tables import DETECTION, TOTALS, cost_table, detection_table, influence_table
from study.analysis.wording import seeds_in_words
from study.context.params import FiguresParams
from study.context.rules import CONTROL
from study.figures.palette import GREEN, INK
from study.figures.style import (
    COLOURS,
    canvas,
    draw_dots,
    end_labels,
    errors_of,
    name_columns,
    note,
    over_seeds_note,
    save,
)

_PLACEBO_AT = -1.5  # where the placebos stand beside the deciles


def draw_detection(study: Study, settings: FiguresParams, folder: Path) -> None:
    """`detection-<scenario>`: how well each score finds wrong labels, where there are wrong and right ones."""
    for scenario, table in detection_table(study).groupby("scenario", sort=False):
        rows = list(table.groupby(["placement", "score"], sort=False))
        labels = [f"{str(score).replace('_', ' ')} · {placement}" for (placement, score), _ in rows]
        figure, axes = canvas(1, 2, 0.9 + 0.27 * len(rows), sharey=True)
        for panel, (measure, title) in zip(axes[0], DETECTION.items(), strict=True):
            values = [part.loc[part["measure"] == measure, "value"].tolist() for _, part in rows]
            draw_dots(panel, labels, values, [GREEN] * len(rows), settings.confidence)
            panel.set_title(title)
            panel.set_xlim(right=1.005)
            panel.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
        note(figure, _dots_note(study.masked_seeds, settings))
        save(figure, folder, f"detection-{scenario}", settings.dpi, table)


def draw_cost(study: Study, settings: FiguresParams, folder: Path) -> None:
    """`cost`: held-out accuracy of the full networks beside that of ordinary dropout."""
    table = cost_table(study)
    networks = list(table["network"].unique())
    labels = ["ordinary dropout" if network == CONTROL else f"turn-over, {network}" for network in networks]
    colours = [INK if network == CONTROL else GREEN for network in networks]
    figure, axes = canvas(1, len(study.scenarios), 1.0 + 0.3 * len(networks), sharey=True)
    for panel, scenario in zip(axes[0], study.scenarios, strict=True):
        part = table[table["scenario"] == scenario]
        values = [part.loc[part["network"] == network, "heldout_accuracy"].tolist() for network in networks]
        draw_dots(panel, labels, values, colours, settings.confidence)
        low, high = part["heldout_accuracy"].min(), part["heldout_accuracy"].max()
        padding = max(0.01, 0.15 * (high - low))
        panel.set_xlim(low - padding, high + padding)
        panel.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
    name_columns(axes, study.scenarios, "held-out accuracy")
    note(figure, _dots_note(study.seeds, settings))
    save(figure, folder, "cost", settings.dpi, table)


def draw_influence(study: Study, settings: FiguresParams, folder: Path) -> None:
    """`influence-by-decile`: what the least and the most memorized examples do for the held-out ones."""
    placement = study.placements[0]
    table = influence_table(study, placement, settings.confidence)
    figure, axes = canvas(2, len(study.scenarios), 4.3, sharex=True, sharey="row")
    for row, (measure, title) in zip(axes, TOTALS.items(), strict=True):
        ends = []
        for panel, scenario in zip(row, study.scenarios, strict=True):
            part = table[(table["scenario"] == scenario) & (table["measure"] == measure)]
            panel.axhline(0, color=INK, linewidth=0.7)
            labels = []
            for group, line in part.groupby("group", sort=False):
                colour = COLOURS[str(group)]
                at = line["decile"].replace(0, _PLACEBO_AT)
                panel.errorbar(
                    at, line["mean"], errors_of(line), color=colour, marker="o", markersize=3.5, linewidth=1.2
                )
                if group != PLACEBO:
                    labels.append((str(group), float(line["mean"].iloc[-1]), colour))
            ends.append((panel, labels))
            panel.set_xticks([_PLACEBO_AT, 1, 4, 7, 10], ["placebo", "1", "4", "7", "10"])
            panel.set_xlim(_PLACEBO_AT - 1.8, 10.8)
        row[0].set_ylabel(f"on {title} (nats)\n← harmful   helpful →")
        for panel, labels in ends:  # once the limits of all panels are known
            end_labels(panel, labels)
    name_columns(axes, study.scenarios, "decile of memorization")
    seeds = over_seeds_note({placement: study.seeds[placement]}, settings.confidence, "bars")
    whose = "its own" if len(study.seeds[placement]) == 1 else "the other seeds"
    note(figure, f"sum over held-out examples, placement {placement}; {seeds}; deciles from {whose}")
    save(figure, folder, "influence-by-decile", settings.dpi, table)


def _dots_note(seeds: dict[str, list[int]], settings: FiguresParams) -> str:
    words = seeds_in_words(seeds)
    if words == "one seed":
        return "one seed: no interval"
    return f"dots: {words}; tick: mean; line: {settings.confidence:.0%} t-interval"
