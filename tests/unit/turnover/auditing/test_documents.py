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


def test_the_report_says_what_lists_held() -> None:
    table = pd.read_csv(KEPT)
    right = 100 * table[(table["examples"] == 10_000) & (table["kind"] != "instance")]["listed_right"].dropna()
    page = (ROOT / "src/turnover/auditing/page.html").read_text(encoding="utf-8")
    assert f"lists of 10,000 examples held {right.min():.0f} to {right.max():.0f} % right labels" in page
