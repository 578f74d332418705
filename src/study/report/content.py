"""What the report shows: numbers from `findings.json` and `summary.json`, figures, images, settings."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image
from pydantic import BaseModel

from study.analysis.files import Validation, read_json, read_validations
from study.context.stage import Stage
from turnover.errors import UserError

SETTINGS = ("scenarios", "placements", "seeds", "data", "labels", "model", "training", "estimate", "figures")

# Columns of a comparison of estimators -> heading; those that a table lacks are left out.
SCORES = {
    "memorization": "Memorization, Spearman",
    "fitted_memorization": "Memorization, fitted judges",
    "lds": "LDS",
    "lds_share": "LDS, share of the ceiling",
    "fitted_lds": "LDS, fitted judges",
    "auroc": "AUROC",
    "average_precision": "Average precision",
}

_NAMES = ("given_name", "original_name", "predicted_name", "name")  # texts, in the tables of images


@dataclass(frozen=True)
class Content:
    """Everything the templates need."""

    summary: dict[str, Any]
    findings: dict[str, Any]
    effects: list[dict[str, Any]]  # the rows of `effects.csv`; None where there is no value
    variants: pd.DataFrame  # `variants.csv`; empty if there are none
    groups: list[dict[str, Any]]  # of each setting and group: the numbers of `groups.csv`, by name
    validations: list[dict[str, Any]]  # name, rows, and the headings of the scores that they have
    figures: Path  # the folder
    settings: list[tuple[str, str]]
    gallery: dict[str, list[dict[str, Any]]]  # kind -> images, each with its `src`
    mistakes: list[dict[str, Any]]  # {"mistake": row, "helpful": rows, "harmful": rows}
    suspects: list[dict[str, Any]]  # of one's own data: images, each with its `src`; elsewhere empty

    def has(self, name: str) -> bool:
        """Is there such a figure?"""
        return (self.figures / name).exists()


def read_content(stage: Stage) -> Content:
    """Read what the stages `findings`, `summarize`, `figures` and `validate` wrote, and the settings.

    Raises:
        UserError: something is missing or corrupt.
    """
    folder = stage.dep("reports/figures")
    try:
        effects = _rows(pd.read_csv(stage.dep("reports/metrics/findings/effects.csv")))
        variants = pd.read_csv(stage.dep("reports/metrics/findings/variants.csv"))
        groups = _groups(pd.read_csv(stage.dep("reports/metrics/findings/groups.csv")))
        gallery = _images(folder, "gallery")
        mistakes = _images(folder, "mistakes")
        suspects = _images(folder, "suspects") if (folder / "suspects.csv").exists() else []
    except (OSError, ValueError) as error:
        raise UserError(f"the figures are missing or corrupt ({error}): run `dvc repro -f figures`") from error
    by_target: dict[Any, dict[str, Any]] = {}
    for row in mistakes:
        of = by_target.setdefault(row["target"], {"helpful": [], "harmful": []})
        if row["kind"] == "mistake":
            of["mistake"] = row
        else:
            of[row["kind"]].append(row)
    kinds = dict.fromkeys(row["kind"] for row in gallery)
    return Content(
        summary=read_json(stage, "reports/metrics/summary.json"),
        findings=read_json(stage, "reports/metrics/findings.json"),
        effects=effects,
        variants=variants,
        groups=groups,
        validations=[_compared(of) for of in read_validations(stage)],
        figures=folder,
        settings=[line for key in SETTINGS for line in _lines(key, stage.param(key))],
        gallery={kind: [row for row in gallery if row["kind"] == kind] for kind in kinds},
        mistakes=list(by_target.values()),
        suspects=suspects,
    )


def _groups(table: pd.DataFrame) -> list[dict[str, Any]]:
    """One entry a setting, definition and group: its name, size, and each number as an interval."""
    keys = ["scenario", "placement", "definition", "group", "examples"]
    found = []
    for key, part in table.groupby(keys, sort=False):
        entry: dict[str, Any] = dict(zip(keys, key, strict=True))
        for row in part.to_dict("records"):
            half = None if row["seeds"] == 1 else (row["high"] - row["low"]) / 2
            entry[row["number"]] = {"mean": row["mean"], "half_width": half, "n": row["seeds"]}
        found.append(entry)
    return found


def _compared(validation: Validation) -> dict[str, Any]:
    """The rows of a comparison, None where a method has no value."""
    scores = {key: title for key, title in SCORES.items() if key in validation.table}
    return {"name": validation.name, "rows": _rows(validation.table), "scores": scores}


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return table.astype(object).where(table.notna(), None).to_dict("records")  # type: ignore[return-value]


def _images(folder: Path, name: str) -> list[dict[str, Any]]:
    """The rows of an image table, each with its image cut from the sprites as a data URI."""
    # Class names such as "None", "NA" or "00001" are names, not missing values or numbers.
    table = pd.read_csv(folder / f"{name}.csv", keep_default_na=False, dtype=dict.fromkeys(_NAMES, str))
    if not len(table):
        return []
    rows: list[dict[str, Any]] = [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
    with Image.open(folder / f"{name}-sprites.png") as sheet:
        width, height = sheet.width, sheet.height // len(rows)
        for index, row in enumerate(rows):
            row["src"] = _data_uri(sheet.crop((0, index * height, width, (index + 1) * height)))
            row["differs"] = str(row["differs"]) == "True"
    return rows


def _data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _lines(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Flat (key, value) lines of a namespace, as `params.yaml` would name them."""
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if isinstance(value, dict):
        for name, of in value.items():
            yield from _lines(f"{key}.{name}", of)
    elif isinstance(value, list):
        yield key, ", ".join(str(of) for of in value)
    else:
        yield key, "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
