"""Every promise of docs/reliability.md names a test that there is."""

from __future__ import annotations

import re

from tests.support import ROOT


def test_every_promise_is_held_by_a_test() -> None:
    text = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    rows = [row for row in text.splitlines() if row.startswith("| ") and not row.startswith("| Fault")]
    assert len(rows) > 20
    for row in rows:
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", row.split(" | ")[-1])
        assert named, row
        for file, function in named:
            assert f"def {function}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), row
