"""Curves over training: loss and accuracy of every group, and its memorization."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from study.analysis.groups import GROUPS, assign_groups
from study.analysis.inputs import MEASURES, NETWORKS, Inputs
from study.analysis.intervals import over_seeds
from study.context.params import FiguresParams
from study.context.runs import Run
from study.figures.style import COLOURS, LINES, canvas, end_labels, note, save

_COLUMNS = {"loss": "loss", "margin": "margin", "correct": "accuracy"}  # of the dynamics, and what they measure
_FLOOR = 1e-3  # nats: smaller mean losses are not drawn


def group_curves(inputs: Inputs, run: Run, quantile: float) -> pd.DataFrame:
    """Means of each group: ``group``, ``network``, ``measure`` (loss, margin, accuracy), ``epoch``, ``value``."""
    examples = inputs.scenarios[run.scenario].examples
    group = assign_groups(examples, inputs.difficulty(run), quantile)
    frame = inputs.dynamics[run]
    frame = frame.assign(group=frame["id"].map(group)).dropna(subset="group")
    means = frame.groupby(["group", "epoch"])[[f"{of}_{net}" for of in _COLUMNS for net in NETWORKS]].mean()
    pieces = [
        means[f"{column}_{network}"].rename("value").reset_index().assign(network=network, measure=measure)
        for network in NETWORKS
        for column, measure in _COLUMNS.items()
    ]
    found = pd.concat(pieces, ignore_index=True)
    return found[["group", "network", "measure", "epoch", "value"]]


def curve_table(inputs: Inputs, scenario: str, placement: str, settings: FiguresParams) -> pd.DataFrame:
    """`group_curves` over the seeds: ``mean``, ``low``, ``high``, ``seeds`` of each point, groups in their order."""
    runs = inputs.runs(scenario, placement)
    frame = pd.concat([group_curves(inputs, run, settings.difficulty_quantile) for run in runs])
    frame["group"] = pd.Categorical(frame["group"], GROUPS, ordered=True)
    keys = ["group", "network", "measure", "epoch"]
    return over_seeds(frame.sort_values(keys, kind="stable"), keys, settings.confidence)


def draw_curves(inputs: Inputs, settings: FiguresParams, folder: Path) -> None:
    """`curves-<scenario>-<placement>`: loss and accuracy of each group in the exposed, flipped and full networks."""
    for scenario in inputs.scenarios:
        for placement in inputs.placements:
            table = curve_table(inputs, scenario, placement, settings)
            figure, axes = canvas(2, 3, 4.1, sharex=True, sharey="row")
            for row, measure in enumerate(("loss", "accuracy")):
                for column, network in enumerate(NETWORKS):
                    part = table[(table["network"] == network) & (table["measure"] == measure)]
                    _lines(axes[row][column], part)
                    if row == 0:
                        axes[row][column].set_title(f"{network} network")
                    else:
                        axes[row][column].set_xlabel("epoch")
                axes[row][0].set_ylabel("mean loss (nats, log)" if measure == "loss" else "accuracy")
            losses = table.loc[table["measure"] == "loss", "mean"]
            # Losses span four powers of ten: the exposed network's vanish while the flipped one's grow.
            axes[0][0].set_yscale("log")
            axes[0][0].set_ylim(max(losses.min() / 1.6, _FLOOR), losses.max() * 1.6)
            axes[0][0].minorticks_off()
            axes[1][0].set_ylim(-0.02, 1.02)
            for row, measure in enumerate(("loss", "accuracy")):
                part = table[(table["network"] == "full") & (table["measure"] == measure)]
                _label_ends(axes[row][2], part)
            note(figure, _band(settings, len(inputs.seeds)))
            save(figure, folder, f"curves-{scenario}-{placement}", settings.dpi, table)


def memorization_table(inputs: Inputs, settings: FiguresParams) -> pd.DataFrame:
    """Mean memorization of each group at each epoch, in the three measures, over the seeds."""
    pieces = []
    for run, frame in inputs.dynamics.items():
        examples = inputs.scenarios[run.scenario].examples
        group = assign_groups(examples, inputs.difficulty(run), settings.difficulty_quantile)
        means = frame.assign(group=frame["id"].map(group)).groupby(["group", "epoch"])[list(MEASURES)].mean()
        long = means.reset_index().melt(["group", "epoch"], var_name="measure")
        pieces.append(long.assign(scenario=run.scenario, placement=run.placement))
    table = pd.concat(pieces)
    for column, order in (
        ("scenario", list(inputs.scenarios)),
        ("placement", inputs.placements),
        ("group", GROUPS),
        ("measure", MEASURES),
    ):
        table[column] = pd.Categorical(table[column], list(order), ordered=True)
    keys = ["scenario", "placement", "measure", "group", "epoch"]
    return over_seeds(table.sort_values(keys, kind="stable"), keys, settings.confidence)


def draw_memorization_over_training(inputs: Inputs, settings: FiguresParams, folder: Path) -> None:
    """`memorization-over-training`: mean memorization (probability) by group, scenarios beside each other."""
    table = memorization_table(inputs, settings)
    rows, columns = len(inputs.placements), len(inputs.scenarios)
    figure, axes = canvas(rows, columns, 0.6 + 1.75 * rows, sharex=True, sharey=True)
    shown = table[table["measure"] == "probability"]
    for row, placement in enumerate(inputs.placements):
        for column, scenario in enumerate(inputs.scenarios):
            panel = axes[row][column]
            part = shown[(shown["scenario"] == scenario) & (shown["placement"] == placement)]
            _lines(panel, part)
            if row == 0:
                panel.set_title(f"scenario {scenario}")
            if row == rows - 1:
                panel.set_xlabel("epoch")
        axes[row][0].set_ylabel(f"placement {placement}\np(exposed) − p(flipped)")
    for row, placement in enumerate(inputs.placements):
        for column, scenario in enumerate(inputs.scenarios):
            part = shown[(shown["scenario"] == scenario) & (shown["placement"] == placement)]
            _label_ends(axes[row][column], part, gap=0.13)
    note(figure, _band(settings, len(inputs.seeds)))
    save(figure, folder, "memorization-over-training", settings.dpi, table)


def _lines(panel: Axes, table: pd.DataFrame) -> None:
    for group, part in table.groupby("group", sort=False, observed=True):
        name = str(group)
        panel.plot(part["epoch"], part["mean"], color=COLOURS[name], linestyle=LINES.get(name, "-"))
        if part["seeds"].max() > 1:
            panel.fill_between(part["epoch"], part["low"], part["high"], color=COLOURS[name], alpha=0.18, linewidth=0)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    panel.margins(x=0.02)


def _label_ends(panel: Axes, table: pd.DataFrame, gap: float = 0.11) -> None:
    last = table[table["epoch"] == table["epoch"].max()]
    rows = zip(last["group"].astype(str), last["mean"], strict=True)
    end_labels(panel, [(group, mean, COLOURS[group]) for group, mean in rows], gap)


def _band(settings: FiguresParams, seeds: int) -> str:
    if seeds == 1:
        return "one seed: no interval"
    return f"mean of {seeds} seeds; band: {settings.confidence:.0%} t-interval over seeds"
