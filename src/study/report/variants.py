"""What the report says of the variants: a sentence for each setting that is varied, and a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from study.analysis.variants import level, levels, title
from study.report.numbers import brackets, plain


class _Effect(NamedTuple):
    heading: str  # of its column
    digits: int
    sentence: str = ""  # with a place for its values, from the lowest level to the highest; "": in the table alone


_EFFECTS = {
    "easy_faster_plain": _Effect(
        "Real earlier than wrong (epochs)", 1, "real examples are learned {} epochs earlier than wrongly labelled ones"
    ),
    "together_plain": _Effect(
        "Wrong label likelier after one epoch (%)",
        0,
        "after one epoch, the half that trained on a wrong label finds it {} % likelier than the other half",
    ),
    "memorization_wrong": _Effect("Memorization, wrong labels", 2, "memorization of wrong labels is {}"),
    "easy_faster_real_plain": _Effect(
        "Easy earlier than difficult (epochs)",
        1,
        "easy real examples are learned {} epochs earlier than difficult ones",
    ),
    "memorization_difficult": _Effect("Memorization, difficult ones", 2),
    "tell_more": _Effect("Loss without the most memorized (nats)", 2),
    "tell_more_plain": _Effect(
        "Accuracy without them (points)",
        1,
        "retraining without the most memorized, not as many others, changes accuracy by {} points",
    ),
    "alone": _Effect("Accuracy with them alone (points)", 1),
}


class Varied(NamedTuple):
    """One setting that is varied."""

    title: str
    sentence: str
    rows: list[list[str]]  # of the table: what it is, its effects, seeds


class Variants(NamedTuple):
    """What the templates show of all variants."""

    headings: list[str]
    number: int
    seeds: str
    varied: list[Varied]


def describe(table: pd.DataFrame) -> Variants | None:
    """What the templates show of `variants.csv`; None if there are no variants."""
    if not len(table):
        return None
    effects = {name: of for name, of in _EFFECTS.items() if (table["effect"] == name).any()}
    return Variants(
        headings=["Variant", *(of.heading for of in effects.values()), "Seeds"],
        number=table["variant"].nunique(),
        seeds=_between(table["seeds"]),
        varied=[_varied(setting, found, effects) for setting, found in levels(table)],
    )


def _varied(setting: str, found: pd.DataFrame, effects: Mapping[str, _Effect]) -> Varied:
    words, values, rows = title(setting), [], []
    said: dict[str, list[str]] = {
        name: [] for name, effect in effects.items() if effect.sentence and (found["effect"] == name).any()
    }
    for _, of in found.groupby("at"):
        measured: dict[str, dict[Any, Any]] = {row["effect"]: row for row in of.to_dict("records")}
        first = next(iter(measured.values()))
        value, about = level(setting, first["value"]), first["about"]
        values.append(f"{value} {about}" if first["is_default"] else value)
        cells = [_cell(measured.get(name), effect.digits) for name, effect in effects.items()]
        for name, list_of in said.items():
            list_of.append(_value(measured.get(name), effects[name].digits))
        rows.append([f"{words}: {value}, {about}" if first["is_default"] else about, *cells, _between(of["seeds"])])
    sentences = [effects[name].sentence.format(", ".join(of)) for name, of in said.items()]
    return Varied(words[0].upper() + words[1:], f"({', '.join(values)}): {'; '.join(sentences)}.", rows)


def _value(of: Mapping[Any, Any] | None, digits: int) -> str:
    """A mean; in parentheses where its interval includes 0, or where it has none."""
    if of is None:
        return "–"
    value = plain(of["mean"], digits)
    return value if of["low"] > 0 or of["high"] < 0 else f"({value})"


def _cell(of: Mapping[Any, Any] | None, digits: int) -> str:
    """A mean with its interval."""
    if of is None:
        return "–"
    low, high = (None if pd.isna(of[end]) else of[end] for end in ("low", "high"))
    return plain(of["mean"], digits) + brackets(low, high, digits)


def _between(seeds: pd.Series[int]) -> str:
    few, most = int(seeds.min()), int(seeds.max())
    return f"{few} to {most}" if few < most else str(few)
