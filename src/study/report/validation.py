"""How the estimates compare with other estimators: the tables of stage `validate`, where `dvc.yaml` declares them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from study.context.stage import Stage
from turnover.errors import UserError

_COST = re.compile(r"reports/metrics/(.+)-cost\.csv")
# Column -> heading; those that a table lacks are left out.
SCORES = {
    "memorization": "Memorization, Spearman",
    "lds": "LDS",
    "auroc": "AUROC",
    "average_precision": "Average precision",
}


@dataclass(frozen=True)
class Validation:
    """One comparison: its rows with the seconds of each method, the scores it has, and its figures."""

    name: str
    rows: list[dict[str, Any]]
    scores: dict[str, str]
    figures: list[Path]


def read_validations(stage: Stage) -> list[Validation]:
    """Every comparison that the stage declares.

    Raises:
        UserError: a table is missing, corrupt or lacks the column of methods.
    """
    found = (_COST.fullmatch(dep) for dep in stage.declared.deps)
    return [_read(stage, match[1]) for match in found if match]


def _read(stage: Stage, name: str) -> Validation:
    paths = [stage.dep(f"reports/metrics/{name}{of}.csv") for of in ("", "-cost")]
    try:
        table, cost = (pd.read_csv(path) for path in paths)
        keys = [key for key in ("method", "networks") if key in table and key in cost]
        seconds = cost.groupby(keys, sort=False)["seconds"].sum().reset_index()
        table = table.merge(seconds, on=keys, how="left", validate="m:1")
    except (ValueError, KeyError) as error:
        raise UserError(f"the tables of {name} are corrupt ({error}): run `dvc repro -f validate`") from error
    rows = [
        {str(key): None if pd.isna(value) else value for key, value in row.items()} for row in table.to_dict("records")
    ]
    scores = {key: title for key, title in SCORES.items() if key in table}
    folder = f"reports/{name}"
    figures = sorted(stage.dep(folder).glob("*.svg")) if folder in stage.declared.deps else []
    return Validation(name, rows, scores, figures)
