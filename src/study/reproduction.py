"""Does the pipeline give the committed results again? Runs it from nothing in a fresh clone, and compares.

On the kind of CPU that made the committed results, `dvc.lock` and everything under `reports/` come back byte for
byte. Another kind rounds otherwise, so its figures are compared within a tolerance instead.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Fractions (accuracy, AUROC, ...) are means over seeds of some thousand examples: a training that rounds otherwise
# moves them by a percent or so. Losses are unbounded, and vary by more.
FRACTION_TOLERANCE = 0.04
RELATIVE_TOLERANCE = 0.35

SUMMARY = Path("reports/metrics/summary.json")


def differences(expected: Any, found: Any) -> list[str]:
    """What differs between two summaries beyond the tolerance, one line each."""
    ours, theirs = dict(_leaves(expected)), dict(_leaves(found))
    lines = [f"{key}: only in one of the two" for key in sorted(set(ours) ^ set(theirs))]
    for key in sorted(set(ours) & set(theirs)):
        a, b = ours[key], theirs[key]
        if isinstance(a, (int, float)) and isinstance(b, (int, float)) and not isinstance(a, bool):
            allowed = FRACTION_TOLERANCE if max(abs(a), abs(b)) <= 1 else RELATIVE_TOLERANCE * max(abs(a), abs(b))
            if abs(a - b) > allowed:
                lines.append(f"{key}: committed {a}, now {b} (allowed difference {allowed:.3g})")
        elif a != b:
            lines.append(f"{key}: committed {a!r}, now {b!r}")
    return lines


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{index}]")
    else:
        yield path, value


def reproduce(root: Path) -> list[str]:
    """Run the committed pipeline in a temporary clone of `root`; returns what differs beyond the tolerance."""
    with tempfile.TemporaryDirectory(prefix="turnover-check-") as folder:
        clone = Path(folder) / "clone"
        _run(["git", "clone", "--quiet", str(root), str(clone)], root)
        _run(["dvc", "repro"], clone)
        changed = _run(["git", "status", "--porcelain"], clone, capture=True)
        if not changed.strip():
            print("every committed result came back byte for byte")
            return []
        print("not byte for byte (as expected on another kind of CPU); these differ:\n" + changed)
        committed = json.loads(_run(["git", "show", f"HEAD:{SUMMARY.as_posix()}"], clone, capture=True))
        return differences(committed, json.loads((clone / SUMMARY).read_text(encoding="utf-8")))


def _run(command: list[str], where: Path, *, capture: bool = False) -> str:
    # The clone's own code, and a tracking store of its own: the developer's runs stay as they are.
    env = {**os.environ, "PYTHONPATH": str(where / "src"), "MLFLOW_TRACKING_URI": f"sqlite:///{where / 'mlflow.db'}"}
    done = subprocess.run(
        command, cwd=where, env=env, check=True, text=True, stdout=subprocess.PIPE if capture else None
    )
    return done.stdout or ""


def main() -> int:
    argparse.ArgumentParser(prog="python -m study.reproduction", description=__doc__).parse_args()
    try:
        lines = reproduce(Path.cwd())
    except subprocess.CalledProcessError as error:
        print(f"error: {' '.join(error.cmd)} failed with status {error.returncode}", file=sys.stderr)
        return 1
    for line in lines:
        print(f"error: not reproduced: {line}", file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
