"""Dot plots, one dot a seed: mislabel detection, the accuracy turn-over dropout costs, influence by difficulty."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from study.analysis.groups import PLACEBO, RANDOM, REAL, deciles, label_kind
from study.analysis.inputs import Inputs
from study.analysis.intervals import interval, over_seeds
from study.context.params import FiguresParams
from study.context.runs import CONTROL, Run
from study.figures.style import COLOURS, GREEN, INK, canvas, end_labels, note, save

_TOTALS = {"total": "all held-out", "total_same_class": "its own class"}
_PLACEBO_AT = -1.5  # where the placebos stand beside the deciles
DETECTION = {"mislabel_auroc": "AUROC", "mislabel_average_precision": "average precision"}


def detection_table(inputs: Inputs) -> pd.DataFrame:
    """``scenario``, ``placement``, ``measure``, ``score``, ``seed``, ``value`` of every detection that was measured."""
    rows = [
        (run.scenario, run.placement, measure, score, run.seed, value)
        for run, metrics in inputs.estimate_metrics.items()
        for measure in DETECTION
        for score, value in metrics.get(measure, {}).items()
        if value is not None
    ]
    return pd.DataFrame(rows, columns=["scenario", "placement", "measure", "score", "seed", "value"])


def draw_detection(inputs: Inputs, settings: FiguresParams, folder: Path) -> None:
    """`detection-<scenario>`: how well each score finds wrong labels, where there are wrong and right ones."""
    everything = detection_table(inputs)
    for scenario, table in everything.groupby("scenario", sort=False):
        rows = list(table.groupby(["placement", "score"], sort=False))
        labels = [f"{str(score).replace('_', ' ')} · {placement}" for (placement, score), _ in rows]
        figure, axes = canvas(1, 2, 0.9 + 0.27 * len(rows), sharey=True)
        for panel, (measure, title) in zip(axes[0], DETECTION.items(), strict=True):
            values = [part.loc[part["measure"] == measure, "value"].tolist() for _, part in rows]
            dots(panel, labels, values, [GREEN] * len(rows), settings.confidence)
            panel.set_title(title)
            panel.set_xlim(right=1.005)
            panel.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
        note(figure, _dots_note(settings, len(inputs.seeds)))
        save(figure, folder, f"detection-{scenario}", settings.dpi, table)


def cost_table(inputs: Inputs) -> pd.DataFrame:
    """``scenario``, ``network`` (placement or the control), ``seed``, ``heldout_accuracy`` of the full networks."""
    rows = [
        (scenario, network, seed, inputs.train_metrics[Run(scenario, network, seed)]["heldout_accuracy"])
        for scenario in inputs.scenarios
        for network in (CONTROL, *inputs.placements)
        for seed in inputs.seeds
    ]
    return pd.DataFrame(rows, columns=["scenario", "network", "seed", "heldout_accuracy"])


def draw_cost(inputs: Inputs, settings: FiguresParams, folder: Path) -> None:
    """`cost`: held-out accuracy of the full networks beside that of ordinary dropout."""
    table = cost_table(inputs)
    networks = [CONTROL, *inputs.placements]
    labels = ["ordinary dropout", *(f"turn-over, {placement}" for placement in inputs.placements)]
    figure, axes = canvas(1, len(inputs.scenarios), 1.0 + 0.3 * len(networks), sharey=True)
    for panel, scenario in zip(axes[0], inputs.scenarios, strict=True):
        part = table[table["scenario"] == scenario]
        values = [part.loc[part["network"] == network, "heldout_accuracy"].tolist() for network in networks]
        dots(panel, labels, values, [INK] + [GREEN] * len(inputs.placements), settings.confidence)
        panel.set_title(f"scenario {scenario}")
        panel.set_xlabel("held-out accuracy")
        low, high = min(map(min, values)), max(map(max, values))
        padding = max(0.01, 0.15 * (high - low))
        panel.set_xlim(low - padding, high + padding)
        panel.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
    note(figure, _dots_note(settings, len(inputs.seeds)))
    save(figure, folder, "cost", settings.dpi, table)


def influence_table(inputs: Inputs, placement: str, settings: FiguresParams) -> pd.DataFrame:
    """Mean total influence by decile of memorization: ``scenario``, ``group``, ``measure``, ``decile``, interval.

    The deciles of a seed come from the other seeds. ``total_same_class`` counts held-out examples of the same class.
    The placebos, whose influence is 0 but for noise, are one group (decile 0).
    """
    rows: list[tuple[str, str, str, int, float]] = []
    for scenario in inputs.scenarios:
        kind = label_kind(inputs.scenarios[scenario].examples)
        for run in inputs.runs(scenario, placement):
            totals = inputs.totals[run].set_index("id")
            memorized = inputs.difficulty(run)
            for measure in _TOTALS:
                if len(inputs.placebo[run]):
                    rows.append((scenario, PLACEBO, measure, 0, float(inputs.placebo[run][measure].mean())))
                for group in (REAL, RANDOM):
                    ids = memorized.index[kind.loc[memorized.index] == group]
                    if len(ids) >= 10:
                        decile = deciles(memorized.loc[ids])
                        means = totals.loc[decile.index, measure].astype(float).groupby(decile.to_numpy()).mean()
                        rows += [(scenario, group, measure, int(of), float(mean)) for of, mean in means.items()]
    keys = ["scenario", "group", "measure", "decile"]
    return over_seeds(pd.DataFrame(rows, columns=[*keys, "value"]), keys, settings.confidence)


def draw_influence(inputs: Inputs, settings: FiguresParams, folder: Path) -> None:
    """`influence-by-decile`: what the least and the most memorized examples do for the held-out ones."""
    placement = inputs.placements[0]
    table = influence_table(inputs, placement, settings)
    figure, axes = canvas(2, len(inputs.scenarios), 4.3, sharex=True, sharey="row")
    for row, (measure, title) in enumerate(_TOTALS.items()):
        ends = []
        for column, scenario in enumerate(inputs.scenarios):
            panel = axes[row][column]
            part = table[(table["scenario"] == scenario) & (table["measure"] == measure)]
            panel.axhline(0, color=INK, linewidth=0.7)
            labels = []
            for group, line in part.groupby("group", sort=False):
                colour = COLOURS[str(group)]
                errors = [line["mean"] - line["low"], line["high"] - line["mean"]]
                at = line["decile"].replace(0, _PLACEBO_AT)
                panel.errorbar(at, line["mean"], errors, color=colour, marker="o", markersize=3.5, linewidth=1.2)
                if group != PLACEBO:
                    labels.append((str(group), float(line["mean"].iloc[-1]), colour))
            ends.append((panel, labels))
            panel.set_xticks([_PLACEBO_AT, 1, 4, 7, 10], ["placebo", "1", "4", "7", "10"])
            panel.set_xlim(_PLACEBO_AT - 1.8, 10.8)
            if row == 0:
                panel.set_title(f"scenario {scenario}")
            else:
                panel.set_xlabel("decile of memorization")
        axes[row][0].set_ylabel(f"on {title} (nats)\n← harmful   helpful →")
        for panel, labels in ends:
            end_labels(panel, labels)
    seeds = "one seed: no interval, and deciles of its own"
    if len(inputs.seeds) > 1:
        bars = f"bars: {settings.confidence:.0%} t-interval"
        seeds = f"mean of {len(inputs.seeds)} seeds; {bars}; deciles from the other seeds"
    note(figure, f"sum over held-out examples, placement {placement}; {seeds}")
    save(figure, folder, "influence-by-decile", settings.dpi, table)


def dots(
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


def _dots_note(settings: FiguresParams, seeds: int) -> str:
    if seeds == 1:
        return "one seed: no interval"
    return f"dots: {seeds} seeds; tick: mean; line: {settings.confidence:.0%} t-interval"
