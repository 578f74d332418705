"""The effects in other settings: what `make variants` kept, beside the study's own.

A variant has few seeds and was not named by docs/protocol.md: effects with intervals, and no verdicts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from turnover.errors import UserError

FOLDER = "reports/variants"
_NUMBERS = ("mean", "low", "high", "seeds")
COLUMNS = (
    "variant",
    "about",
    "varies",
    "value",
    "default_value",
    "effect",
    "text",
    "unit",
    *_NUMBERS,
    *(f"default_{of}" for of in _NUMBERS),
)
# Effects that are no claim's: name -> the claim that has their scenario and placement, and how effects.csv calls them.
_OTHERS = {
    "memorization_wrong": (
        "easy_faster",
        "memorization (probability) at the end, wrongly labelled examples minus placebos",
    ),
    "memorization_difficult": (
        "easy_faster_real",
        "memorization (probability) at the end, real difficult examples minus placebos",
    ),
}
_ALONE = "accuracy with only the most memorized of every class minus with only as many at random"
_Read = TypeVar("_Read")


def variants_table(folder: Path, findings: Mapping[str, Any], effects: pd.DataFrame) -> pd.DataFrame:
    """One row a variant and effect, with the study's own value of the same effect.

    Args:
        folder: of the variants, a folder each; it may be missing or hold none.
        findings: the study's, as `findings.json` holds them.
        effects: the study's, as `effects.csv` does.

    Returns:
        Columns `COLUMNS`: the setting that is varied (``varies``), its ``value`` and that of params.yaml; the effect by
        name, in words and with its unit; its numbers, and those of the study, which are missing where it has no such
        effect. Settings are in the order of the variants, variants in that of their values.

    Raises:
        UserError: a file of a variant is missing or damaged.
    """
    default = {f"default_{of}": None for of in _NUMBERS}
    usual = {
        name: {f"default_{of}": effect[of] for of in _NUMBERS}
        for name, effect in _effects_of(findings["claims"], effects).items()
    }
    variants = [_read(path) for path in sorted(folder.glob("[!.]*/"))]
    variants.sort(key=lambda of: (of[0]["place"], of[0]["variant"]))
    order = list(dict.fromkeys(about["varies"] for about, _ in variants))
    variants.sort(key=lambda of: (order.index(of[0]["varies"]), of[0]["value"]))
    rows = [
        {**about, "effect": name, **effect, **usual.get(name, default)}
        for about, found in variants
        for name, effect in found.items()
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """A variant: what it is, and its effects by name."""

    def what(path: Path) -> dict[str, Any]:
        made = json.loads(path.read_text(encoding="utf-8"))
        return {
            "variant": folder.name,
            "place": int(made["place"]),
            "about": str(made["about"]),
            "varies": str(made["varies"]),
            "value": float(made["value"]),
            "default_value": float(made["default"]),
        }

    about = _whole(folder / "made-by.json", what)
    effects = _whole(folder / "effects.csv", _effects_table)

    def found(path: Path) -> dict[str, dict[str, Any]]:
        return _effects_of(json.loads(path.read_text(encoding="utf-8"))["claims"], effects)

    return about, _whole(folder / "findings.json", found)


def _whole(path: Path, read: Callable[[Path], _Read]) -> _Read:
    """What `read` makes of a file.

    Raises:
        UserError: it is missing, or not of its form.
    """
    try:
        return read(path)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        problem = "is missing" if isinstance(error, FileNotFoundError) else f"is damaged ({error!r})"
        of = f"{FOLDER}/{path.parent.name}"
        raise UserError(
            f"{of}/{path.name} {problem}: delete {of} and run `make variants`, which makes it again"
        ) from error


def _effects_table(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path)[["scenario", "placement", "text", "unit", *_NUMBERS]]
    return table.astype(dict.fromkeys(_NUMBERS, float))


def _effects_of(claims: list[dict[str, Any]], effects: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """What variants are compared by: the effect of every claim as tested and in a plain unit, and those beside them."""
    found: dict[str, dict[str, Any]] = {}
    for claim in claims:
        seeds, plain, alone = claim["seeds"], claim["plain"], claim["more"].get("alone")
        found[claim["name"]] = _effect(claim, claim["text"], seeds)
        found[f"{claim['name']}_plain"] = _effect(plain, claim["title"], seeds)
        if alone is not None:
            found["alone"] = _effect(alone, _ALONE, seeds)
        for name, (of, text) in _OTHERS.items():
            chosen = effects[
                (effects["text"] == text)
                & (effects["scenario"] == claim["scenario"])
                & (effects["placement"] == claim["placement"])
            ]
            if of == claim["name"] and len(chosen):
                row = chosen.iloc[0]
                found[name] = _effect(row, text, row["seeds"])
    return found


def _effect(of: Mapping[str, Any] | pd.Series[Any], text: str, seeds: int) -> dict[str, Any]:
    low, high = (None if pd.isna(of[end]) else float(of[end]) for end in ("low", "high"))
    return {
        "text": text,
        "unit": str(of["unit"]),
        "mean": float(of["mean"]),
        "low": low,
        "high": high,
        "seeds": int(seeds),
    }
