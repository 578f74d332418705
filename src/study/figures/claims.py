"""What lies behind the two findings: figures from the tables of stage `findings`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from study.analysis.inputs import Study
from study.context.params import FiguresParams
from study.figures.palette import BLUE, GREEN, INK, MUTED, ORANGE, PAPER, PURPLE, SKY, VERMILLION
from study.figures.style import (
    DASHED,
    Label,
    draw_dots,
    draw_errors,
    draw_grid,
    draw_lines,
    over_seeds_note,
    save,
    titles,
)

_EARLY = 5  # epochs of the figure of speeds
# Pairs of groups, a row of the figure each, in three columns' worth of kinds.
_PAIRS = {
    "real": ("real easy / real easy", "real easy / real difficult", "real difficult / real difficult"),
    "real and random": ("real / real", "real / random", "random / random"),
    "random": ("random easy / random easy", "random easy / random difficult", "random difficult / random difficult"),
}
_PAIR_COLOURS = (SKY, PURPLE, BLUE)
# Orders of removal, from above.
_ORDERS = {
    "balanced_most_memorized": ("most memorized of every class", VERMILLION),
    "balanced_random": ("random of every class", INK),
    "balanced_least_memorized": ("least memorized of every class", SKY),
    "most_memorized": ("most memorized", VERMILLION),
    "random": ("random", INK),
    "least_memorized": ("least memorized", SKY),
}
_MEASURES = {"heldout_loss": "held-out loss (nats)", "heldout_accuracy": "held-out accuracy"}
_CLEANSING = {
    "none": ("nothing dropped", MUTED),
    "random": ("as many at random", INK),
    "flagged": ("flagged by the estimates", GREEN),
    "oracle": ("the wrong labels (oracle)", ORANGE),
}
_EVENTS = {"first": "right for the first time", "finally": "right for good"}


def draw_claims(study: Study, tables: Mapping[str, pd.DataFrame], settings: FiguresParams, folder: Path) -> None:
    """Every such figure that there is a table for; of the first placement where there are several."""
    placement = study.placements[0]
    over_seeds = over_seeds_note({placement: study.seeds[placement]}, settings.confidence, "band")
    about = f"placement {placement}; {over_seeds}"
    for name, draw in (("learning-time", _learning_time), ("speed", _speed), ("gradients", _gradients)):
        table = tables[name]
        table = table[table["placement"] == placement].drop(columns="placement")
        drawn = draw(study, table, about)
        if drawn is not None:
            save(*drawn, folder, name, settings.dpi, table)
    if "removal" in tables:
        _removal(study, tables["removal"], settings, folder)
        if len(tables["cleansing"]):
            _cleansing(tables["cleansing"], settings, folder)


def _learning_time(study: Study, table: pd.DataFrame, about: str) -> tuple[Figure, str]:
    """`learning-time`: share of each group that is learned by each epoch, for the first time and for good."""
    shown = table[table["definition"] == table["definition"].iloc[0]]

    def panel(axes: Axes, event: str, scenario: str) -> list[Label]:
        part = shown[(shown["scenario"] == scenario) & (shown["event"] == event)]
        axes.set_ylim(-0.03, 1.03)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        middle = part[part["epoch"] <= part["epoch"].median()]  # at the end everything is learned: label by order
        order = middle.groupby("group")["mean"].mean()
        return [(group, at + 0.001 * float(order[group]), colour) for group, at, colour in draw_lines(axes, part)]

    rows = {event: f"share of the group\n{title}" for event, title in _EVENTS.items()}
    columns = titles(study.scenarios)
    figure = draw_grid(rows, columns, 3.7, panel, below="epoch", gap=0.13, sharex=True, sharey=True)
    return figure, f"exposed network, {about}"


def _speed(study: Study, table: pd.DataFrame, about: str) -> tuple[Figure, str]:
    """`speed`: decrease of the exposed loss an epoch over the first epochs, by both definitions of difficulty."""
    shown = table[table["epoch"] <= _EARLY]

    def panel(axes: Axes, definition: str, scenario: str) -> list[Label]:
        axes.axhline(0, color=INK, linewidth=0.7)
        part = shown[(shown["scenario"] == scenario) & (shown["definition"] == definition)]
        return draw_lines(axes, part, marker="o")

    rows = {definition: f"nats an epoch\nby {definition}" for definition in table["definition"].unique()}
    columns = titles(study.scenarios)
    figure = draw_grid(rows, columns, 3.9, panel, below="epoch", gap=0.12, sharex=True, sharey="col")
    return figure, f"exposed loss, {about}"


def _gradients(study: Study, table: pd.DataFrame, about: str) -> tuple[Figure, str] | None:
    """`gradients`: mean cosine within and between groups through training, beside that of shuffled groups."""
    shown = table[(table["definition"] == table["definition"].iloc[0]) & (table["network"] == "exposed")]
    columns = {
        f"{scenario} {kind}": (scenario, pairs)
        for scenario in study.scenarios
        for kind, pairs in _PAIRS.items()
        if shown.loc[shown["scenario"] == scenario, "pair"].isin(pairs).any()
    }
    if not columns:
        return None

    def panel(axes: Axes, row: str, column: str) -> tuple[Label, ...]:
        scenario, pairs = columns[column]
        pair = pairs[int(row)]
        part = shown[(shown["scenario"] == scenario) & (shown["pair"] == pair)]
        axes.axhline(0, color=INK, linewidth=0.7)
        axes.fill_between(part["epoch"], part["null_low"], part["null_high"], color=MUTED, alpha=0.45, linewidth=0)
        draw_errors(axes, part["epoch"], part, _PAIR_COLOURS[int(row)], linewidth=1.3)
        axes.set_title((f"scenario {scenario}\n" if row == "0" else "") + _short(pair), fontsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        return ()

    rows = {"0": "", "1": "mean cosine similarity of the gradients", "2": ""}
    untitled = dict.fromkeys(columns, "")
    figure = draw_grid(rows, untitled, 4.7, panel, below="epoch", sharex=True, sharey="row")
    return figure, f"exposed network; grey: 95 % of shuffled groups; {about.replace('band:', 'bars:')}"


def _removal(study: Study, table: pd.DataFrame, settings: FiguresParams, folder: Path) -> None:
    """`removal`: networks retrained without, or with only, a share of the examples; a line an order and share."""
    shares = table.loc[table["order"] == next(iter(_ORDERS)), "fraction"]  # no others, which are of the cleansing
    orders = table[table["order"].isin(_ORDERS) & table["fraction"].isin(shares)]
    orders = orders.assign(column=orders["scenario"] + " " + orders["action"])
    words = orders["order"].map({order: label for order, (label, _) in _ORDERS.items()})
    in_words = ", " + orders["fraction"].map("{:.0%}".format).str.replace("%", " %")
    orders["row"] = words + (in_words if shares.nunique() > 1 else "")
    lines = {
        str(row): (_ORDERS[str(order)][1], str(order).startswith("balanced_"))
        for (order, row), _ in orders.groupby([pd.Categorical(orders["order"], list(_ORDERS)), "row"], observed=True)
    }

    def panel(axes: Axes, measure: str, column: str) -> tuple[Label, ...]:
        scenario = column.partition(" ")[0]
        whole = (table["scenario"] == scenario) & (table["order"] == "none") & (table["measure"] == measure)
        for mean in table.loc[whole, "mean"]:
            axes.axvline(mean, color=MUTED, linewidth=0.9, linestyle=DASHED)
        for at, (row, (colour, balanced)) in enumerate(lines.items()):
            part = orders[(orders["row"] == row) & (orders["column"] == column) & (orders["measure"] == measure)]
            errors = [part["mean"] - part["low"], part["high"] - part["mean"]]
            face = colour if balanced else PAPER
            axes.errorbar(part["mean"], [at] * len(part), xerr=errors, fmt="o", color=colour, mfc=face, markersize=4)
        axes.set_yticks(range(len(lines)), list(lines))
        axes.set_ylim(len(lines) - 0.5, -0.5)
        axes.set_xlabel(_MEASURES[measure])
        axes.xaxis.set_major_locator(MaxNLocator(nbins=3))
        return ()

    columns = {
        f"{scenario} {action}": f"{scenario}, {words}"
        for scenario in study.scenarios
        for action, words in (("remove", "without"), ("keep", "with only"))
        if (orders["column"] == f"{scenario} {action}").any()
    }
    height = 1.3 + 2 * (0.35 + 0.2 * len(lines))
    figure = draw_grid(dict.fromkeys(_MEASURES, ""), columns, height, panel, sharey=True)
    seeds = over_seeds_note({"": list(range(table["seeds"].min()))}, settings.confidence, "bars")
    note = f"ordinary networks, retrained; dashed: with all examples; {seeds}"
    save(figure, note, folder, "removal", settings.dpi, table)


def _cleansing(table: pd.DataFrame, settings: FiguresParams, folder: Path) -> None:
    """`cleansing`: held-out accuracy after dropping what the estimates flag, as many at random, or the wrong labels."""
    rows = dict(of for key, of in _CLEANSING.items() if (table["dropped"] == key).any())
    labels = table["dropped"].map({key: label for key, (label, _) in _CLEANSING.items()})
    dots = pd.DataFrame({"column": table["scenario"], "row": labels, "value": table["heldout_accuracy"]})
    columns, height = titles(table["scenario"].unique()), 0.9 + 0.3 * len(rows)
    figure = draw_dots(dots, columns, rows, height, settings.confidence, "held-out accuracy, retrained")
    seeds = {"": list(table["seed"].unique())}
    note = over_seeds_note(seeds, settings.confidence, "dots: seeds; tick: mean; line")
    save(figure, note, folder, "cleansing", settings.dpi, table)


def _short(pair: str) -> str:
    """`real easy / real difficult` as `real: easy – difficult`."""
    one, other = pair.split(" / ")
    kind, _, which = one.partition(" ")
    return f"{kind}: {which} – {other.removeprefix(kind).strip()}" if which else f"{one} – {other}"
