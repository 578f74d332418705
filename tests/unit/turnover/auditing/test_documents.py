"""The figures in docs/audit.md are those that were measured."""

from __future__ import annotations

import pandas as pd

from benchmarks.audit import KEPT, KEYS, show
from tests.support import ROOT


def test_the_table_is_what_the_benchmark_kept() -> None:
    table = pd.read_csv(KEPT)
    text = (ROOT / "docs/audit.md").read_text(encoding="utf-8")
    shown = text.partition("<!-- rows -->")[2].partition("<!-- /rows -->")[0].strip()
    assert shown == show(table), "run `python benchmarks/audit.py --show` and put it between the marks"
    assert not table.duplicated(KEYS).any()
    assert set(table["data"]) <= {"images", "embeddings"} and table["auroc"].between(0.5, 1.0).all()
