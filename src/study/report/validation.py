"""How the estimates compare with other estimators, as the report shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from study.analysis.validation import Validation

# Column -> heading; those that a table lacks are left out.
SCORES = {
    "memorization": "Memorization, Spearman",
    "lds": "LDS",
    "auroc": "AUROC",
    "average_precision": "Average precision",
}


@dataclass(frozen=True)
class Shown:
    """One comparison: its rows with the seconds of each method, and the scores it has."""

    name: str
    rows: list[dict[str, Any]]
    scores: dict[str, str]


def shown(validation: Validation) -> Shown:
    """The rows with None where a method has no value."""
    rows = [
        {str(key): None if pd.isna(value) else value for key, value in row.items()}
        for row in validation.table.to_dict("records")
    ]
    scores = {key: title for key, title in SCORES.items() if key in validation.table}
    return Shown(validation.name, rows, scores)
