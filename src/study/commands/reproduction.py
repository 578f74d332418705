"""Does the pipeline give the committed results again? Runs it from nothing in a fresh clone, and compares.

On the kind of CPU that made the committed results, `dvc.lock` and everything under `reports/` come back byte for
byte. Another kind rounds otherwise, so its figures are compared within a tolerance instead.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from study.commands.running import run_in, status_of
from study.context.lifetime import end_with_make
from turnover.errors import UserError

# Two machines that round otherwise train networks that differ as much as two seeds do. So a mean over seeds may move
# by both intervals together, and a little more: this much where it is a fraction (accuracy, AUROC), ...
FRACTION_TOLERANCE = 0.02
# ... and this share of it where it is not (a loss).
RELATIVE_TOLERANCE = 0.1

SUMMARY = Path("reports/metrics/summary.json")
FINDINGS = Path("reports/metrics/findings.json")


def differences(expected: Any, found: Any, path: str = "") -> list[str]:
    """What differs between two summaries beyond the tolerance, one line each.

    Verdicts are not compared: where an interval ends close to 0, they may turn without any figure moving much. Nor is
    a figure that one of the two does not have (a group that was never learned).
    """
    if isinstance(expected, dict) and isinstance(found, dict):
        if {"mean", "half_width"} <= expected.keys() & found.keys():
            slack = (expected["half_width"] or 0.0) + (found["half_width"] or 0.0)
            return _number(expected["mean"], found["mean"], path, slack)
        under = f"{path}." if path else ""
        lines = [f"{under}{key}: only in one of the two" for key in sorted(expected.keys() ^ found.keys())]
        for key in expected.keys() & found.keys() - {"verdict"}:
            lines += differences(expected[key], found[key], f"{under}{key}")
        return sorted(lines)
    if expected is None or found is None:
        return []
    if isinstance(expected, float) and isinstance(found, float):
        return _number(expected, found, path, 0.0)
    return [] if expected == found else [f"{path}: committed {expected!r}, now {found!r}"]


def effects(findings: dict[str, Any]) -> dict[str, Any]:
    """The effects of every claim in `findings.json`; p-values and verdicts may turn without them moving much."""
    return {
        f"{claim['key']} {part['text']}": {
            "mean": part["mean"],
            "half_width": None if part["low"] is None else (part["high"] - part["low"]) / 2,
        }
        for claim in findings["claims"]
        for part in claim["parts"]
    }


def _number(expected: float, found: float, path: str, slack: float) -> list[str]:
    size = max(abs(expected), abs(found))
    allowed = slack + (FRACTION_TOLERANCE if size <= 1 else RELATIVE_TOLERANCE * size)
    if abs(expected - found) <= allowed:
        return []
    return [f"{path}: committed {expected}, now {found} (allowed difference {allowed:.3g})"]


def reproduce(root: Path) -> None:
    """Run the committed pipeline in a temporary clone of `root`.

    Raises:
        UserError: results differ beyond the tolerance; a line for each of them.
        subprocess.CalledProcessError: the pipeline failed.
    """
    with tempfile.TemporaryDirectory(prefix="turnover-check-") as folder:
        clone = Path(folder) / "clone"
        run_in(root, "git", "clone", "--quiet", str(root), str(clone))
        run_in(clone, "dvc", "repro")
        changed = run_in(clone, "git", "status", "--porcelain", capture=True)
        if not changed.strip():
            print("every committed result came back byte for byte")
            return
        print("not byte for byte (as expected on another kind of CPU); these differ:\n" + changed)
        lines = []
        for path, of in ((SUMMARY, dict), (FINDINGS, effects)):
            committed = json.loads(run_in(clone, "git", "show", f"HEAD:{path.as_posix()}", capture=True))
            lines += differences(of(committed), of(json.loads((clone / path).read_text(encoding="utf-8"))))
    if lines:
        raise UserError("\n".join(["not reproduced:", *lines]))


def main() -> int:
    end_with_make()
    argparse.ArgumentParser(prog="python -m study.commands.reproduction", description=__doc__).parse_args()
    return status_of(reproduce)


if __name__ == "__main__":
    sys.exit(main())
