"""What the report says of the variants: a sentence for each setting that is varied, and a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from study.analysis.variants import level, levels, title
from study.report.numbers import brackets, plain


class _Effect(NamedTuple):
    heading: str  # of its column
    sentence: str  # with a place for its values, from the lowest level to the highest
    digits: int
    unit: str


_EFFECTS = {
    "easy_faster_plain": _Effect(
        "Real earlier than wrong (epochs)",
        "real examples are learned {} earlier than wrongly labelled ones",
        1,
        "epochs",
    ),
    "together_plain": _Effect(
        "Wrong label likelier after one epoch (%)",
        "after one epoch, the half that trained on a wrong label finds it {} likelier than the other half",
        0,
        "%",
    ),
    "memorization_wrong": _Effect("Memorization, wrong labels", "memorization of wrong labels is {}", 2, ""),
    "easy_faster_real_plain": _Effect(
        "Easy earlier than difficult (epochs)",
        "easy real examples are learned {} earlier than difficult ones",
        1,
        "epochs",
    ),
    "memorization_difficult": _Effect(
        "Memorization, difficult ones", "memorization of difficult real examples is {}", 2, ""
    ),
    "tell_more": _Effect(
        "Loss without the most memorized (nats)",
        "without the most memorized, loss on new examples changes by {}",
        2,
        "nats",
    ),
    "tell_more_plain": _Effect(
        "Accuracy without them (points)", "accuracy without the most memorized changes by {}", 1, "points"
    ),
    "alone": _Effect("Accuracy with them alone (points)", "accuracy with them alone by {}", 1, "points"),
}


class Varied(NamedTuple):
    """One setting that is varied."""

    title: str
    sentence: str
    rows: list[list[str]]  # of the table: what it is, its effects, seeds


class Variants(NamedTuple):
    headings: list[str]
    count: int
    seeds: str
    varied: list[Varied]


def describe(rows: Sequence[dict[str, Any]]) -> Variants | None:
    """What the templates show of the rows of `variants.csv`; None if there are none."""
    if not rows:
        return None
    table = pd.DataFrame(rows)
    effects = {name: of for name, of in _EFFECTS.items() if (table["effect"] == name).any()}
    few, most = int(table["seeds"].min()), int(table["seeds"].max())
    return Variants(
        headings=["Variant", *(of.heading for of in effects.values()), "Seeds"],
        count=table["variant"].nunique(),
        seeds=f"{few} to {most}" if few < most else str(few),
        varied=[_varied(setting, found, effects) for setting, found in levels(table)],
    )


def _varied(setting: str, found: pd.DataFrame, effects: dict[str, _Effect]) -> Varied:
    values, rows = [], []
    measured: dict[str, list[str]] = {name: [] for name in effects if (found["effect"] == name).any()}
    for _, of in found.groupby("at"):
        first, by_name = of.iloc[0], of.set_index("effect")
        value = level(setting, first["value"])
        values.append(f"{value} as in params.yaml" if first["is_default"] else value)
        cells = []
        for name, effect in effects.items():
            there = name in by_name.index
            cells.append(_cell(by_name.loc[name], effect.digits) if there else "–")
            if name in measured:
                measured[name].append(plain(by_name.loc[name, "mean"], effect.digits) if there else "–")
        about = f"{first['about']}: {value}" if first["is_default"] else first["about"]
        few, most = int(of["seeds"].min()), int(of["seeds"].max())
        rows.append([about, *cells, f"{few} to {most}" if few < most else str(few)])
    parts = [
        effects[name].sentence.format(f"{', '.join(of)} {effects[name].unit}".rstrip()) for name, of in measured.items()
    ]
    words = title(setting)
    return Varied(words[0].upper() + words[1:], f"({', '.join(values)}): {'; '.join(parts)}.", rows)


def _cell(row: pd.Series[Any], digits: int) -> str:
    low, high = (None if pd.isna(row[end]) else row[end] for end in ("low", "high"))
    return plain(row["mean"], digits) + brackets(low, high, digits)
