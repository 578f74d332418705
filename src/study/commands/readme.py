"""Put the report's opening into README.md, and the tables of the validation, between their markers."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from study.artefacts.files import writing
from study.commands.running import status_of
from study.commands.validation_tables import contestants, from_one_network
from study.report.opening import markdown
from turnover.errors import UserError

TABLES = {"contestants": contestants, "from one network": from_one_network}


def with_findings(readme: str, metrics: Path) -> str:
    """The text of README.md with the findings of a folder between the markers.

    Args:
        readme: the text as it is.
        metrics: the folder of `findings.json` and `summary.json`.

    Raises:
        UserError: the text has no markers, or a file is missing.
    """
    return _with(readme, "findings", markdown(_read(metrics / "findings.json"), _read(metrics / "summary.json")))


def with_validation(readme: str, folder: Path) -> str:
    """The text of README.md with the tables of `reports/validation` between their markers.

    Raises:
        UserError: the text has no markers, or a file is missing.
    """
    for name, make in TABLES.items():
        readme = _with(readme, name, make(folder))
    return readme


def _with(readme: str, name: str, text: str) -> str:
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    block = re.compile(rf"(?<={begin}\n).*?(?={end})", re.DOTALL)
    if not block.search(readme):
        raise UserError(f"README.md has no lines {begin} and {end}, between which the {name} stand")
    return block.sub(lambda _: f"\n{text}\n\n", readme, count=1)


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is missing or corrupt ({error}): run `make repro`") from error
    return found


def write(root: Path) -> None:
    """Bring the repository's README.md up to date."""
    path = root / "README.md"
    text = with_findings(path.read_text(encoding="utf-8"), root / "reports/metrics")
    text = with_validation(text, root / "reports/validation")
    with writing(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="\n")


def main() -> int:
    argparse.ArgumentParser(prog="python -m study.commands.readme", description=__doc__).parse_args()
    return status_of(write)


if __name__ == "__main__":
    sys.exit(main())
