"""The tables of README.md on how good the estimates are, from `reports/validation`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from turnover.errors import UserError

DEFAULT = "turn-over combined"
# Of Fashion-MNIST: method, and networks.
_ROWS = (
    (DEFAULT, 1), (DEFAULT, 2), (DEFAULT, 4), ("turn-over left-out", 1), ("turn-over pooled", 1),
    ("turn-over sharpened", 1), ("turn-over sharpened", 4), ("turn-over raw", 1),
    ("left-out, keep 0.75, with training", 1), ("left-out, keep 0.75, with training", 2),
    ("left-out, keep 0.75, with training", 4), ("left-out, keep 0.9, with training", 1),
    ("left-out, keep 0.9, with training", 4), ("left-out without turn-over", 1),
    ("left-out without turn-over, with training", 1), ("left-out without turn-over, with training", 4),
    ("influence function (dattri head)", 1), ("influence function (dattri head)", 4),
    ("EK-FAC influence function (kronfluence)", 1), ("KNN-Shapley", 1), ("TRAK (dattri head)", 10), ("CSL", 1),
    ("subset retraining", 100),
)  # fmt: skip
_SETS = {
    "validation": "Fashion-MNIST, convolutions",
    "validation_digits": "digits, an MLP",
    "validation_sequences": "digits as sequences, a transformer",
}
# Of all sets, from one network: method, and what it is called.
_FROM_ONE = {
    DEFAULT: DEFAULT,
    "turn-over pooled": "turn-over pooled, the default before",
    "influence function (dattri head)": "influence function (dattri head)",
    "EK-FAC influence function (kronfluence)": "EK-FAC (kronfluence)",
    "left-out without turn-over": "left-out without turn-over",
    "left-out without turn-over, with training": "... with the predictions over training",
    "left-out, keep 0.75, with training": "left-out, keep .75, with them",
    "left-out, keep 0.9, with training": "left-out, keep .9, with them",
}


def contestants(folder: Path) -> str:
    """Some rows of the table of Fashion-MNIST, as Markdown.

    Args:
        folder: `reports/validation`.
    """
    table = _table(folder, "validation")
    lines = [
        "| method | networks | LDS | share of the ceiling | LDS, fitted judges | memorization, Spearman "
        "| ... fitted judges | wrong labels, AUROC |",
        "|---|--:|---|--:|---|---|--:|--:|",
    ]
    for method, networks in _ROWS:
        row = _row(table, method, networks)
        cells = [
            _interval(row, "lds"), _number(row["lds_share"]), _interval(row, "fitted_lds"),
            _interval(row, "memorization"), _number(row["fitted_memorization"]), _number(row["auroc"]),
        ]  # fmt: skip
        lines.append(f"| {method} | {networks} | {' | '.join(cells)} |")
    return "\n".join(lines)


def from_one_network(folder: Path) -> str:
    """The LDS of all validation sets under usual and fitted judges; bold: ahead of the default."""
    tables = {name: _table(folder, name) for name in _SETS}
    lines = [
        f"| LDS from one network, usual / fitted judges | {' | '.join(_SETS.values())} |",
        "|---" * (1 + len(_SETS)) + "|",
    ]
    for method, shown in _FROM_ONE.items():
        cells = []
        for table in tables.values():
            row, default = _row(table, method, 1), _row(table, DEFAULT, 1)
            halves = [
                f"**{_number(row[of])}**" if round(row[of], 3) > round(default[of], 3) else _number(row[of])
                for of in ("lds", "fitted_lds")
            ]
            cells.append(" / ".join(halves))
        lines.append(f"| {shown} | {' | '.join(cells)} |")
    results = [json.loads((folder / name / "result.json").read_text(encoding="utf-8")) for name in _SETS]
    ceilings = [_number(result["ground_truth"]["lds_ceiling"]["oracle"]) for result in results]
    lines.append(f"| ceiling: perfect foresight, usual judges | {' | '.join(ceilings)} |")
    return "\n".join(lines)


def _table(folder: Path, name: str) -> pd.DataFrame:
    for file in ("table.csv", "result.json"):
        if not (folder / name / file).is_file():
            raise UserError(f"{folder / name / file} is missing: run `dvc repro validate@{name}`")
    return pd.read_csv(folder / name / "table.csv").set_index(["method", "networks"]).sort_index()


def _row(table: pd.DataFrame, method: str, networks: int) -> Any:
    if (method, networks) not in table.index:
        raise UserError(
            f'reports/validation has no row "{method}" of {networks} networks: run `dvc repro validate` with the '
            "settings of comparison in params.yaml as they were"
        )
    return table.loc[(method, networks)]


def _interval(row: Any, name: str) -> str:
    if pd.isna(row[name]):
        return "–"
    return f"{_number(row[name])} [{_number(row[f'{name}_low'])}, {_number(row[f'{name}_high'])}]"


def _number(value: float) -> str:
    """Three digits, as they are written here: .599, −.05 and 1.000."""
    if pd.isna(value):
        return "–"
    text = f"{abs(value):.3f}"
    return ("−" if value < 0 and float(text) else "") + (text if float(text) >= 1 else text.lstrip("0"))
