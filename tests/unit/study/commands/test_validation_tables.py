"""README's tables of the validation are those of the metrics, with what is ahead of the default in bold."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from study.commands import validation_tables
from study.commands.readme import with_validation
from study.commands.validation_tables import DEFAULT, contestants, from_one_network
from tests.support import ROOT
from turnover.errors import UserError

SETS = ("validation", "validation_digits", "validation_sequences")
FIGURES = ("lds", "lds_share", "fitted_lds", "memorization", "fitted_memorization", "auroc")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two methods: the default, and one that is ahead of it under one kind of judges."""
    monkeypatch.setattr(validation_tables, "_ROWS", ((DEFAULT, 1), ("other", 2)))
    monkeypatch.setattr(validation_tables, "_FROM_ONE", {DEFAULT: "default", "other": "the other"})
    table = pd.DataFrame({"method": [DEFAULT, "other", "other"], "networks": [1, 1, 2]})
    for figure in FIGURES:
        table[figure] = table[f"{figure}_low"] = table[f"{figure}_high"] = [0.5, 0.50049, -0.25]
    table["lds_low"], table["fitted_lds"], table["memorization"] = -0.0504, [0.4, 0.4006, 1.0], float("nan")
    for name in SETS:
        (tmp_path / name).mkdir()
        table.to_csv(tmp_path / name / "table.csv", index=False)
        found = {"ground_truth": {"lds_ceiling": {"oracle": 0.75}}}
        (tmp_path / name / "result.json").write_text(json.dumps(found))
    return tmp_path


def test_numbers_intervals_and_what_is_not_estimated(folder: Path) -> None:
    *_, default, other = contestants(folder).split("\n")
    assert default == "| turn-over combined | 1 | .500 [−.050, .500] | .500 | .400 [.500, .500] | – | .500 | .500 |"
    assert other == "| other | 2 | −.250 [−.050, −.250] | −.250 | 1.000 [−.250, −.250] | – | −.250 | −.250 |"


def test_what_is_ahead_of_the_default_is_bold(folder: Path) -> None:
    """By what is printed: .50049 is .500 as well."""
    *_, default, other, ceiling = from_one_network(folder).split("\n")
    assert default == "| default | .500 / .400 | .500 / .400 | .500 / .400 |"
    assert other == "| the other | .500 / **.401** | .500 / **.401** | .500 / **.401** |"
    assert ceiling.endswith("| .750 | .750 | .750 |")


def test_what_is_missing_is_said(folder: Path) -> None:
    text = "".join(f"<!-- {name} -->\n<!-- /{name} -->\n" for name in ("contestants", "from one network"))
    assert with_validation(with_validation(text, folder), folder) == with_validation(text, folder)
    with pytest.raises(UserError, match="no lines <!-- contestants -->"):
        with_validation("", folder)
    table = pd.read_csv(folder / "validation_sequences/table.csv")
    table.query("method != 'other'").to_csv(folder / "validation_sequences/table.csv", index=False)
    with pytest.raises(UserError, match='has no row "other" of 1 networks'):
        with_validation(text, folder)
    (folder / "validation_digits/result.json").unlink()
    with pytest.raises(UserError, match=r"result.json is missing: run `dvc repro validate@validation_digits`"):
        with_validation(text, folder)
    (folder / "validation_digits/table.csv").unlink()
    with pytest.raises(UserError, match="run `dvc repro validate@validation_digits`"):
        with_validation(text, folder)


def test_the_readme_says_what_the_validation_says(tmp_path: Path) -> None:
    """That in git, or that here: another machine gives other digits."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    said = [with_validation(readme, ROOT / "reports/validation")]
    for name in SETS:
        (tmp_path / name).mkdir()
        for file in ("table.csv", "result.json"):
            shown = subprocess.run(
                ["git", "show", f"HEAD:reports/validation/{name}/{file}"], cwd=ROOT, capture_output=True, check=False
            )
            (tmp_path / name / file).write_bytes(shown.stdout)  # nothing outside of a repository
    if (tmp_path / SETS[-1] / "table.csv").stat().st_size:
        said.append(with_validation(readme, tmp_path))
    assert readme in said, "run `python -m study.commands.readme`"
