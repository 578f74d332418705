"""How the estimates compare with other estimators: the tables of stage `validate`, a folder for each set."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from study.analysis.files import read_json
from study.context.stage import Stage
from turnover.errors import UserError

FOLDER = "reports/validation"


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
