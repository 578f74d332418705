"""The validation table, from judged rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from study.validation.judge import FIGURES


def table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row a method and number of networks: every figure, then its interval; empty where there is none."""
    flat = []
    for row in rows:
        line = {key: row[key] for key in ("method", "family", "networks", "repeats")}
        for figure in FIGURES:
            value = row[figure] or {}
            line[figure] = value.get("value")
            line[f"{figure}_low"], line[f"{figure}_high"] = value.get("low"), value.get("high")
        flat.append(line)
    return pd.DataFrame(flat)
