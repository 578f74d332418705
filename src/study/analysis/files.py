"""Reading what other stages wrote; what is corrupt is one sentence that says which file, and what to do."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pandas as pd

from study.context.stage import Stage
from turnover.errors import UserError

FOLDER = "reports/validation"  # of the tables of stage `validate`, in a folder for each set


def read_parquet(stage: Stage, path: str) -> pd.DataFrame:
    """A table of the pipeline, by its path in the repository; a `UserError` says that it is missing or corrupt."""
    try:
        return pd.read_parquet(stage.dep(path))
    except (OSError, ValueError) as error:
        raise corrupt(path, error) from error


def read_json(stage: Stage, path: str) -> dict[str, Any]:
    """A metrics file of the pipeline, by its path; a `UserError` says that it is missing or corrupt."""
    try:
        value: dict[str, Any] = json.loads(stage.dep(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise corrupt(path, error) from error
    return value


def corrupt(path: str, error: Exception) -> UserError:
    """What to say of a file that cannot be read."""
    return UserError(f"{path} is corrupt ({error}): delete it and run `dvc repro`")


@dataclass(frozen=True)
class Validation:
    """One comparison: a row for each method and number of networks, with the seconds it took."""

    name: str
    table: pd.DataFrame
    networks: int  # retrained, that judge


def read_validations(stage: Stage) -> list[Validation]:
    """Those of the settings' validation sets that were compared.

    Raises:
        UserError: a table is missing, corrupt or lacks the column of methods.
    """
    names: list[str] = stage.param("validation_sets")
    return [_read(stage, name) for name in names if (stage.root / FOLDER / name).is_dir()]


def _read(stage: Stage, name: str) -> Validation:
    try:
        table, cost = (pd.read_csv(stage.dep(f"{FOLDER}/{name}/{of}.csv")) for of in ("table", "cost"))
        keys = [key for key in ("method", "networks") if key in table and key in cost]
        seconds = cost.groupby(keys, sort=False)["seconds"].sum().reset_index()
        networks = int(read_json(stage, f"{FOLDER}/{name}/result.json")["ground_truth"]["networks"])
        return Validation(name, table.merge(seconds, on=keys, how="left", validate="m:1"), networks)
    except (ValueError, KeyError) as error:
        raise UserError(f"the tables of {FOLDER}/{name} are corrupt ({error}): run `dvc repro -f validate`") from error
