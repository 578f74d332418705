"""The figures of the two claims, from the tables of stage `findings`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from study.analysis.groups import GROUPS
from study.analysis.inputs import Inputs
from study.context.params import FiguresParams
from study.figures.scores import dots
from study.figures.style import (
    BLUE,
    COLOURS,
    GREEN,
    INK,
    LINES,
    MUTED,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    canvas,
    end_labels,
    note,
    save,
)

_EARLY = 5  # epochs of the figure of speeds
_DASHED, _DOTTED = (0, (4, 1.5)), (0, (1, 1.2))
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


def draw_learning_time(inputs: Inputs, settings: FiguresParams, folder: Path) -> None:
    """`learning-time`: share of each group that is learned by each epoch, for the first time and for good."""
    table = _of_placement(inputs, "learning-time")
    shown = table[table["definition"] == table["definition"].iloc[0]]
    figure, axes = canvas(2, len(inputs.scenarios), 3.7, sharex=True, sharey=True)
    for row, (event, title) in enumerate((("first", "right for the first time"), ("finally", "right for good"))):
        for column, scenario in enumerate(inputs.scenarios):
            panel = axes[row][column]
            part = shown[(shown["scenario"] == scenario) & (shown["event"] == event)]
            _lines(panel, part)
            panel.yaxis.set_major_formatter(PercentFormatter(1.0))
            if row == 0:
                panel.set_title(f"scenario {scenario}")
            else:
                panel.set_xlabel("epoch")
        axes[row][0].set_ylabel(f"share of the group\n{title}")
    axes[0][0].set_ylim(-0.03, 1.03)
    for row, event in enumerate(("first", "finally")):
        for column, scenario in enumerate(inputs.scenarios):
            part = shown[(shown["scenario"] == scenario) & (shown["event"] == event)]
            middle = part[part["epoch"] <= part["epoch"].median()]  # at the end everything is learned: label by order
            order = middle.groupby("group", sort=False)["mean"].mean()
            last = part[part["epoch"] == part["epoch"].max()].set_index("group")["mean"]
            rows = [
                (str(name), float(last[name]) + 0.001 * float(order[name]), COLOURS[str(name)]) for name in order.index
            ]
            end_labels(axes[row][column], rows, 0.13)
    note(figure, f"exposed network, placement {inputs.placements[0]}; {_band(settings, inputs, 'band')}")
    save(figure, folder, "learning-time", settings.dpi, table)


def draw_speed(inputs: Inputs, settings: FiguresParams, folder: Path) -> None:
    """`speed`: decrease of the exposed loss an epoch over the first epochs, by both definitions of difficulty."""
    table = _of_placement(inputs, "speed")
    shown = table[table["epoch"] <= _EARLY]
    definitions = list(table["definition"].unique())
    figure, axes = canvas(len(definitions), len(inputs.scenarios), 3.9, sharex=True, sharey="col")
    for row, definition in enumerate(definitions):
        for column, scenario in enumerate(inputs.scenarios):
            panel = axes[row][column]
            panel.axhline(0, color=INK, linewidth=0.7)
            _lines(panel, shown[(shown["scenario"] == scenario) & (shown["definition"] == definition)], marker="o")
            if row == 0:
                panel.set_title(f"scenario {scenario}")
            if row == len(definitions) - 1:
                panel.set_xlabel("epoch")
        axes[row][0].set_ylabel(f"nats an epoch\nby {definition}")
    for row, definition in enumerate(definitions):
        for column, scenario in enumerate(inputs.scenarios):
            part = shown[(shown["scenario"] == scenario) & (shown["definition"] == definition)]
            last = part[part["epoch"] == part["epoch"].max()]
            names = last["group"].astype(str)
            end_labels(axes[row][column], [(n, m, COLOURS[n]) for n, m in zip(names, last["mean"], strict=True)], 0.12)
    note(figure, f"exposed loss, placement {inputs.placements[0]}; {_band(settings, inputs, 'band')}")
    save(figure, folder, "speed", settings.dpi, table)


def draw_gradients(inputs: Inputs, settings: FiguresParams, folder: Path) -> None:
    """`gradients`: mean cosine within and between groups through training, beside that of shuffled groups."""
    table = _of_placement(inputs, "gradients")
    shown = table[(table["definition"] == table["definition"].iloc[0]) & (table["network"] == "exposed")]
    columns = [
        (scenario, pairs)
        for scenario in inputs.scenarios
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
            errors = [part["mean"] - part["low"], part["high"] - part["mean"]]
            panel.errorbar(part["epoch"], part["mean"], errors, color=colour, marker="o", markersize=3, linewidth=1.3)
            panel.set_title((f"scenario {scenario}\n" if row == 0 else "") + _short(pair), fontsize=8)
            panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        axes[2][column].set_xlabel("epoch")
    axes[1][0].set_ylabel("mean cosine similarity of the gradients")
    pairs_of = f"exposed network, placement {inputs.placements[0]}; grey: 95 % of shuffled groups"
    note(figure, f"{pairs_of}; {_band(settings, inputs, 'bars')}")
    save(figure, folder, "gradients", settings.dpi, table)


def draw_removal(inputs: Inputs, settings: FiguresParams, folder: Path) -> None:
    """`removal` and `removal-loss`: networks retrained without, or with only, a fraction of the examples."""
    if "removal" not in inputs.findings:
        return
    table = inputs.findings["removal"]
    for measure, (name, words) in _MEASURES.items():
        of = table[table["measure"] == measure].drop(columns="measure")
        _draw_removal(inputs, settings, folder, of, name, words)


def _draw_removal(
    inputs: Inputs, settings: FiguresParams, folder: Path, table: pd.DataFrame, name: str, words: str
) -> None:
    scenarios = [scenario for scenario in inputs.scenarios if (table["scenario"] == scenario).any()]
    figure, axes = canvas(len(scenarios), 2, 0.5 + 2.1 * len(scenarios))
    for row, scenario in enumerate(scenarios):
        of = table[table["scenario"] == scenario]
        whole = of.loc[of["order"] == "none", "mean"]
        for column, action in enumerate(("remove", "keep")):
            panel = axes[row][column]
            acted = of[of["action"] == action].sort_values("fraction")
            ends = []
            if len(whole):
                panel.axhline(whole.iloc[0], color=MUTED, linewidth=0.9, linestyle=_DASHED)
                ends.append(("all examples", float(whole.iloc[0]), MUTED))
            for order, (label, colour, marker) in _ORDERS.items():
                for part, dashes in (
                    (acted[acted["order"] == f"balanced_{order}"], _DOTTED),
                    (acted[acted["order"] == order], "-"),
                ):
                    errors = [part["mean"] - part["low"], part["high"] - part["mean"]]
                    panel.errorbar(part["fraction"], part["mean"], errors, color=colour, linestyle=dashes,
                                   marker=marker, markersize=3, linewidth=1.3, elinewidth=0.8)  # fmt: skip
                    if dashes == "-" and len(part):
                        ends.append((label, float(part["mean"].iloc[-1]), colour))
            panel.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            panel.set_title(f"scenario {scenario}, " + ("without these" if action == "remove" else "with only these"))
            end_labels(panel, ends, 0.1)
            if row == len(scenarios) - 1:
                panel.set_xlabel(
                    "share of the examples removed" if action == "remove" else "share of the examples kept"
                )
        axes[row][0].set_ylabel(words)
    balanced = "dotted: as many of every class"
    note(figure, f"ordinary networks, retrained; {balanced}; {_band(settings, inputs, 'bars', table['seeds'].min())}")
    save(figure, folder, name, settings.dpi, table)


def draw_cleansing(inputs: Inputs, settings: FiguresParams, folder: Path) -> None:
    """`cleansing`: held-out accuracy after dropping what the estimates flag, as many at random, or the wrong labels."""
    table = inputs.findings.get("cleansing")
    if table is None or not len(table):
        return
    scenarios = list(table["scenario"].unique())
    shown = [key for key in _CLEANSING if (table["dropped"] == key).any()]
    figure, axes = canvas(1, len(scenarios), 0.9 + 0.3 * len(shown), sharey=True)
    for panel, scenario in zip(axes[0], scenarios, strict=True):
        of = table[table["scenario"] == scenario]
        values = [of.loc[of["dropped"] == key, "heldout_accuracy"].tolist() for key in shown]
        dots(panel, [_CLEANSING[key][0] for key in shown], values, [_CLEANSING[key][1] for key in shown],
             settings.confidence)  # fmt: skip
        panel.set_title(f"scenario {scenario}")
        panel.set_xlabel("held-out accuracy, retrained")
    note(figure, _band(settings, inputs, "dots: seeds; tick: mean; line", int(table["seed"].nunique())))
    save(figure, folder, "cleansing", settings.dpi, table)


def _of_placement(inputs: Inputs, name: str) -> pd.DataFrame:
    """A table of the findings, the first placement only."""
    table = inputs.findings[name]
    return table[table["placement"] == inputs.placements[0]].drop(columns="placement")


def _short(pair: str) -> str:
    """`real easy / real difficult` as `real: easy – difficult`."""
    one, other = pair.split(" / ")
    kind, _, which = one.partition(" ")
    return f"{kind}: {which} – {other.removeprefix(kind).strip()}" if which else f"{one} – {other}"


def _lines(panel: Axes, table: pd.DataFrame, marker: str = "") -> None:
    for group in (name for name in GROUPS if (table["group"] == name).any()):
        part = table[table["group"] == group]
        panel.plot(part["epoch"], part["mean"], color=COLOURS[group], linestyle=LINES.get(group, "-"), marker=marker,
                   markersize=3)  # fmt: skip
        if part["seeds"].max() > 1:
            panel.fill_between(part["epoch"], part["low"], part["high"], color=COLOURS[group], alpha=0.18, linewidth=0)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))


def _band(settings: FiguresParams, inputs: Inputs, what: str, seeds: int | None = None) -> str:
    count = len(inputs.seeds) if seeds is None else int(seeds)
    if count == 1:
        return "one seed: no interval"
    return f"mean of {count} seeds; {what}: {settings.confidence:.0%} t-interval over seeds"
