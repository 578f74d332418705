"""Reading what other stages wrote: what is corrupt is one sentence that says which file, and what to do."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from study.context.stage import Stage
from turnover.errors import UserError


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
