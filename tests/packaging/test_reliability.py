"""Every promise of docs/reliability.md names a test, or a campaign, that there is."""

from __future__ import annotations

import re

from tests.support import ROOT


def test_every_promise_is_held_by_a_test() -> None:
    text = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    promises, _, _ = text.partition("\n## What was run\n")
    rows = [row for row in promises.splitlines() if row.startswith("| ") and not row.startswith("| Fault")]
    assert len(rows) > 20
    for row in rows:
        held_by = row.split(" | ")[-1]
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", held_by)
        campaigns = re.findall(r"`python -m tests\.pipeline\.(\w+)", held_by)
        assert named or campaigns, row
        assert all((ROOT / f"tests/pipeline/{name}.py").is_file() for name in campaigns), row
        for file, function in named:
            assert f"def {function}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), row
