"""The figures of the two claims, from the tables of stage `findings`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.ticker import MaxNLocator, PercentFormatter

from study.analysis.inputs import Study
from study.context.params import FiguresParams
from study.figures.palette import BLUE, GREEN, INK, MUTED, ORANGE, PURPLE, SKY, VERMILLION
from study.figures.style import (
    COLOURS,
    DASHED,
    DOTTED,
    canvas,
    draw_dots,
    draw_lines,
    end_labels,
    errors_of,
    label_groups,
    name_columns,
    note,
    over_seeds_note,
    save,
)

_EARLY = 5  # epochs of the figure of speeds
# Pairs of groups, a row of the figure each, in three columns' worth of kinds.
_PAIRS = {
    "real": ("real easy / real easy", "real easy / real difficult", "real difficult / real difficult"),
    "real and random": ("real / real", "real / random", "random / random"),
    "random": ("random easy / random easy", "random easy / random difficult", "random difficult / random difficult"),
}
_PAIR_COLOURS = (SKY, PURPLE, BLUE)
# Orders of removal, drawn with lines; the same `balanced_...` by class, dotted.
_ORDERS = {
    "most_memorized": ("most memorized", VERMILLION, "o"),
    "least_memorized": ("least memorized", SKY, "s"),
    "random": ("random", INK, "D"),
}
_MEASURES = {
    "heldout_accuracy": ("removal", "held-out accuracy"),
    "heldout_loss": ("removal-loss", "held-out loss (nats)"),
}
_CLEANSING = {
    "none": ("nothing dropped", MUTED),
    "random": ("as many at random", INK),
    "flagged": ("flagged by the estimates", GREEN),
    "oracle": ("the wrong labels (oracle)", ORANGE),
}
_EVENTS = {"first": "right for the first time", "finally": "right for good"}


def draw_claims(study: Study, tables: Mapping[str, pd.DataFrame], settings: FiguresParams, folder: Path) -> None:
    """Every figure of the claims that there is a table for; of the first placement where there are several."""
    placement = study.placements[0]
    over_seeds = over_seeds_note({placement: study.seeds[placement]}, settings.confidence, "band")
    about = f"placement {placement}; {over_seeds}"
    for name, draw in (("learning-time", _learning_time), ("speed", _speed), ("gradients", _gradients)):
        table = tables[name]
        table = table[table["placement"] == placement].drop(columns="placement")
        draw(study, table, about, settings.dpi, folder)
    if "removal" in tables:
        for measure, of in tables["removal"].groupby("measure", sort=False):
            _removal(study, of.drop(columns="measure"), str(measure), settings, folder)
        if len(tables["cleansing"]):
            _cleansing(tables["cleansing"], settings, folder)


def _learning_time(study: Study, table: pd.DataFrame, about: str, dpi: int, folder: Path) -> None:
    """`learning-time`: share of each group that is learned by each epoch, for the first time and for good."""
    shown = table[table["definition"] == table["definition"].iloc[0]]
    figure, axes = canvas(2, len(study.scenarios), 3.7, sharex=True, sharey=True)
    axes[0][0].set_ylim(-0.03, 1.03)
    for row, (event, title) in zip(axes, _EVENTS.items(), strict=True):
        for panel, scenario in zip(row, study.scenarios, strict=True):
            part = shown[(shown["scenario"] == scenario) & (shown["event"] == event)]
            draw_lines(panel, part)
            panel.yaxis.set_major_formatter(PercentFormatter(1.0))
            middle = part[part["epoch"] <= part["epoch"].median()]  # at the end everything is learned: label by order
            order = middle.groupby("group", sort=False)["mean"].mean()
            last = part[part["epoch"] == part["epoch"].max()].set_index("group")["mean"]
            rows = [(str(name), float(last[name] + 0.001 * order[name]), COLOURS[str(name)]) for name in order.index]
            end_labels(panel, rows, 0.13)
        row[0].set_ylabel(f"share of the group\n{title}")
    name_columns(axes, study.scenarios, "epoch")
    note(figure, f"exposed network, {about}")
    save(figure, folder, "learning-time", dpi, table)


def _speed(study: Study, table: pd.DataFrame, about: str, dpi: int, folder: Path) -> None:
    """`speed`: decrease of the exposed loss an epoch over the first epochs, by both definitions of difficulty."""
    shown = table[table["epoch"] <= _EARLY]
    definitions = list(table["definition"].unique())
    figure, axes = canvas(len(definitions), len(study.scenarios), 3.9, sharex=True, sharey="col")
    for row, definition in zip(axes, definitions, strict=True):
        for panel, scenario in zip(row, study.scenarios, strict=True):
            panel.axhline(0, color=INK, linewidth=0.7)
            draw_lines(panel, shown[(shown["scenario"] == scenario) & (shown["definition"] == definition)], marker="o")
        row[0].set_ylabel(f"nats an epoch\nby {definition}")
    for row, definition in zip(axes, definitions, strict=True):  # once the limits of all panels are known
        for panel, scenario in zip(row, study.scenarios, strict=True):
            label_groups(panel, shown[(shown["scenario"] == scenario) & (shown["definition"] == definition)], 0.12)
    name_columns(axes, study.scenarios, "epoch")
    note(figure, f"exposed loss, {about}")
    save(figure, folder, "speed", dpi, table)


def _gradients(study: Study, table: pd.DataFrame, about: str, dpi: int, folder: Path) -> None:
    """`gradients`: mean cosine within and between groups through training, beside that of shuffled groups."""
    shown = table[(table["definition"] == table["definition"].iloc[0]) & (table["network"] == "exposed")]
    columns = [
        (scenario, pairs)
        for scenario in study.scenarios
        for pairs in _PAIRS.values()
        if shown.loc[shown["scenario"] == scenario, "pair"].isin(pairs).any()
    ]
    if not columns:
        return
    figure, axes = canvas(3, len(columns), 4.7, sharex=True, sharey="row")
    for column, (scenario, pairs) in enumerate(columns):
        for row, (pair, colour) in enumerate(zip(pairs, _PAIR_COLOURS, strict=True)):
            panel = axes[row][column]
            part = shown[(shown["scenario"] == scenario) & (shown["pair"] == pair)]
            panel.axhline(0, color=INK, linewidth=0.7)
            panel.fill_between(part["epoch"], part["null_low"], part["null_high"], color=MUTED, alpha=0.45, linewidth=0)
            marks = {"color": colour, "marker": "o", "markersize": 3, "linewidth": 1.3}
            panel.errorbar(part["epoch"], part["mean"], errors_of(part), **marks)
            panel.set_title((f"scenario {scenario}\n" if row == 0 else "") + _short(pair), fontsize=8)
            panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        axes[2][column].set_xlabel("epoch")
    axes[1][0].set_ylabel("mean cosine similarity of the gradients")
    note(figure, f"exposed network; grey: 95 % of shuffled groups; {about.replace('band:', 'bars:')}")
    save(figure, folder, "gradients", dpi, table)


def _removal(study: Study, table: pd.DataFrame, measure: str, settings: FiguresParams, folder: Path) -> None:
    """`removal` and `removal-loss`: networks retrained without, or with only, a fraction of the examples."""
    name, words = _MEASURES[measure]
    scenarios = [scenario for scenario in study.scenarios if (table["scenario"] == scenario).any()]
    figure, axes = canvas(len(scenarios), 2, 0.5 + 2.1 * len(scenarios))
    for row, scenario in zip(axes, scenarios, strict=True):
        of = table[table["scenario"] == scenario]
        whole = of.loc[of["order"] == "none", "mean"]
        for panel, action in zip(row, ("remove", "keep"), strict=True):
            acted = of[of["action"] == action].sort_values("fraction")
            ends = []
            if len(whole):
                panel.axhline(whole.iloc[0], color=MUTED, linewidth=0.9, linestyle=DASHED)
                ends.append(("all examples", float(whole.iloc[0]), MUTED))
            for order, (label, colour, marker) in _ORDERS.items():
                for part, dashes in (
                    (acted[acted["order"] == f"balanced_{order}"], DOTTED),
                    (acted[acted["order"] == order], "-"),
                ):
                    panel.errorbar(part["fraction"], part["mean"], errors_of(part), color=colour, linestyle=dashes,
                                   marker=marker, markersize=3, linewidth=1.3, elinewidth=0.8)  # fmt: skip
                    if dashes == "-" and len(part):
                        ends.append((label, float(part["mean"].iloc[-1]), colour))
            panel.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            panel.set_title(f"scenario {scenario}, " + ("without these" if action == "remove" else "with only these"))
            end_labels(panel, ends, 0.1)
        row[0].set_ylabel(words)
    for panel, action in zip(axes[-1], ("removed", "kept"), strict=True):
        panel.set_xlabel(f"share of the examples {action}")
    seeds = over_seeds_note({"": list(range(table["seeds"].min()))}, settings.confidence, "bars")
    note(figure, f"ordinary networks, retrained; dotted: as many of every class; {seeds}")
    save(figure, folder, name, settings.dpi, table)


def _cleansing(table: pd.DataFrame, settings: FiguresParams, folder: Path) -> None:
    """`cleansing`: held-out accuracy after dropping what the estimates flag, as many at random, or the wrong labels."""
    scenarios = list(table["scenario"].unique())
    shown = {key: of for key, of in _CLEANSING.items() if (table["dropped"] == key).any()}
    labels, colours = ([of[part] for of in shown.values()] for part in (0, 1))
    figure, axes = canvas(1, len(scenarios), 0.9 + 0.3 * len(shown), sharey=True)
    for panel, scenario in zip(axes[0], scenarios, strict=True):
        of = table[table["scenario"] == scenario]
        values = [of.loc[of["dropped"] == key, "heldout_accuracy"].tolist() for key in shown]
        draw_dots(panel, labels, values, colours, settings.confidence)
    name_columns(axes, scenarios, "held-out accuracy, retrained")
    seeds = {"": list(table["seed"].unique())}
    note(figure, over_seeds_note(seeds, settings.confidence, "dots: seeds; tick: mean; line"))
    save(figure, folder, "cleansing", settings.dpi, table)


def _short(pair: str) -> str:
    """`real easy / real difficult` as `real: easy – difficult`."""
    one, other = pair.split(" / ")
    kind, _, which = one.partition(" ")
    return f"{kind}: {which} – {other.removeprefix(kind).strip()}" if which else f"{one} – {other}"
